"""Gymnasium, its vector interface and stable-baselines3."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import envs  # noqa: F401  registers the ids
from core.errors import InputError
from envs.gym_env import GymEnv
from envs.pool import HomePool
from envs.sb3_env import SB3VecEnv
from tests.envs.homes import three_homes

ID = "Sightline/FindObject-v0"
SMALL = {"width": 12, "height": 12, "max_steps": 6}
TURN = np.full(3, 2)


@pytest.fixture(scope="module")
def homes():
    return HomePool(three_homes())


def test_both_checkers_pass_without_a_warning(homes):
    from stable_baselines3.common.env_checker import check_env as sb3_check_env

    env = gymnasium.make(ID, homes=homes, render_mode="rgb_array", width=40, height=40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
        sb3_check_env(env.unwrapped)


def test_a_single_environment_tells_the_goal_and_renders(homes):
    env = gymnasium.make(ID, homes=homes, depth=True, render_mode="rgb_array", render_size=20, **SMALL)
    observation, info = env.reset(seed=3)
    again, _ = env.reset(seed=3)
    assert info["goal_text"].startswith("find the ") and info["home"] in homes.ids
    assert observation["depth"].shape == (12, 12, 1) and env.render().shape == (20, 20, 3)
    assert all((observation[name] == again[name]).all() for name in observation)
    label, color = observation["goal"]
    observer = env.unwrapped.observer
    assert info["goal_text"] == f"find the {observer.colors[color]} {observer.labels[label]}"


def test_an_episode_is_over_after_its_end_and_before_its_start(homes):
    env = gymnasium.make(ID, homes=homes, disable_env_checker=True, **SMALL).unwrapped
    with pytest.raises(InputError, match="reset"):
        env.step(0)
    env.reset(seed=0)
    _, _, terminated, truncated, info = env.step(0)
    assert terminated and not truncated and info["is_success"] is False
    with pytest.raises(InputError, match="over"):
        env.step(0)


def test_environment_i_of_a_vector_equals_the_single_environment_of_seed_plus_i(homes):
    vector = gymnasium.make_vec(ID, num_envs=3, homes=homes, **SMALL)
    batch, infos = vector.reset(seed=5)
    for index in range(3):
        single = gymnasium.make(ID, homes=homes, **SMALL)
        observation, info = single.reset(seed=5 + index)
        assert (batch["rgb"][index] == observation["rgb"]).all() and infos["goal_text"][index] == info["goal_text"]
        after, reward, *_ = single.step(2)
        assert after["rgb"].shape == (12, 12, 3) and reward == pytest.approx(-0.01)


def test_next_step_autoreset_resets_in_the_step_after_the_end(homes):
    env = gymnasium.make_vec(ID, num_envs=3, homes=homes, **SMALL)
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    env.reset(seed=0)
    _, _, terminated, _, infos = env.step(np.array([0, 2, 2]))
    assert terminated.tolist() == [True, False, False] and infos["_success"].all()
    observation, reward, terminated, truncated, infos = env.step(TURN)
    assert not terminated.any() and not truncated.any() and reward[0] == 0.0
    assert infos["_success"].tolist() == [False, True, True] and env.unwrapped.state.step.tolist() == [0, 2, 2]
    assert env.observation_space.contains(observation)


def test_same_step_autoreset_keeps_the_last_view_in_the_info(homes):
    env = gymnasium.make_vec(ID, num_envs=3, homes=homes, autoreset_mode="SameStep", **SMALL)
    env.reset(seed=0)
    before = env.unwrapped.state
    observation, _, terminated, _, infos = env.step(np.array([0, 2, 2]))
    last = env.unwrapped.sim.observe(before).rgb[0].numpy()  # a stop changes no view
    assert terminated[0] and (infos["final_obs"][0]["rgb"] == last).all() and infos["final_obs"][1] is None
    assert infos["_final_info"].tolist() == [True, False, False] and infos["final_info"]["success"][0] == 0
    assert env.unwrapped.state.step.tolist() == [0, 1, 1] and not (observation["rgb"][0] == last).all()


def test_disabled_autoreset_waits_for_a_masked_reset(homes):
    env = gymnasium.make_vec(ID, num_envs=3, homes=homes, autoreset_mode="Disabled", **SMALL)
    env.reset(seed=0)
    env.step(np.array([0, 2, 2]))
    with pytest.raises(InputError, match="reset_mask"):
        env.step(TURN)
    env.reset(options={"reset_mask": np.array([True, False, False])})
    assert env.unwrapped.state.step.tolist() == [0, 1, 1]
    env.step(TURN)


def test_sb3_gets_the_last_view_and_the_time_limit_flag(homes):
    env = SB3VecEnv(3, homes=homes, width=12, height=12, max_steps=2)
    env.reset()
    _, _, done, _ = env.step(TURN)
    assert not done.any()
    before = env.state
    observation, _, done, infos = env.step(np.array([2, 2, 0]))
    assert done.all() and [info["TimeLimit.truncated"] for info in infos] == [True, True, False]
    stopped = env.sim.observe(before).rgb[2].numpy()
    assert (infos[2]["terminal_observation"]["rgb"] == stopped).all()
    assert not (observation["rgb"][2] == stopped).all() and env.state.step.tolist() == [0, 0, 0]


def test_seeding_the_sb3_environment_starts_over(homes):
    env = SB3VecEnv(2, homes=homes, **SMALL)
    first = env.reset()
    later = env.reset()
    env.seed(0)
    assert (env.reset()["rgb"] == first["rgb"]).all() and not (later["rgb"] == first["rgb"]).all()


@pytest.mark.slow
def test_sb3_ppo_runs_an_update(homes):
    from stable_baselines3 import PPO

    env = SB3VecEnv(2, homes=homes, width=36, height=36, max_steps=4)
    model = PPO("MultiInputPolicy", env, n_steps=4, batch_size=8, n_epochs=1, seed=0)
    before = [weight.clone() for weight in model.policy.parameters()]
    model.learn(8)
    assert model.num_timesteps == 8
    assert any((old != new).any() for old, new in zip(before, model.policy.parameters()))


def test_homes_and_scenes_together_are_refused(homes):
    with pytest.raises(InputError, match="not both"):
        SB3VecEnv(1, homes=homes, scenes="somewhere")
    with pytest.raises(InputError, match="render_mode"):
        GymEnv(homes=homes, render_mode="ansi")


@pytest.mark.slow
def test_without_arguments_homes_are_generated():
    env = gymnasium.make("envs:" + ID)
    observation, _ = env.reset(seed=0)
    assert observation["rgb"].shape == (64, 64, 3)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_the_batched_vector_equals_gymnasiums_own_vector_of_single_environments(homes, mode):
    options = {"num_envs": 2, "homes": homes, "width": 12, "height": 12, "max_steps": 3}
    ours = gymnasium.make_vec(ID, autoreset_mode=mode, **options)
    theirs = gymnasium.make_vec(ID, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **options)
    (one, _), (two, _) = ours.reset(seed=1), theirs.reset(seed=1)
    for _ in range(9):
        assert (one["rgb"] == two["rgb"]).all() and (one["goal"] == two["goal"]).all()
        one, *rest, infos = ours.step(np.array([1, 2]))
        two, *other, their_infos = theirs.step(np.array([1, 2]))
        assert all((a == b).all() for a, b in zip(rest, other, strict=True))
        assert (infos["goal_text"] == their_infos["goal_text"]).all()
        if "final_obs" in their_infos:
            assert (infos["final_obs"][0]["rgb"] == their_infos["final_obs"][0]["rgb"]).all()
