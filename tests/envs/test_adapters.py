"""Gymnasium, its vector interface and stable-baselines3."""

import math
import sys
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode

import envs  # noqa: F401  registers the ids
from core.errors import InputError, MissingLibraryError
from envs.expert import Expert
from envs.gym_env import GymEnv
from envs.observation import Observer, make_simulator, task_max_steps, word_numbers
from envs.pool import HomePool
from envs.registration import IDS
from envs.sb3_env import SB3VecEnv
from envs.state import Noise
from envs.tasks import TASKS, make_task
from envs.tasks.find_object import FindObject
from envs.window import tiled
from tests.envs.homes import lively_home, three_homes

ID = "Sightline/FindObject-v0"
SMALL = {"width": 12, "height": 12, "max_steps": 6}
TURN = np.full(3, 2)


@pytest.fixture(scope="module")
def homes():
    return HomePool(three_homes())


@pytest.fixture(scope="module")
def lively():
    """A home in which every task can be played."""
    return HomePool([lively_home()], interactive=True)


@pytest.fixture
def no_screen(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr(GymEnv, "metadata", {**GymEnv.metadata, "render_fps": 1000})


def test_every_task_has_an_id():
    assert sorted(IDS.values()) == sorted(TASKS) and all(name in gymnasium.registry for name in IDS)
    assert IDS["Sightline/FindObject-v0"] == "find_object"


@pytest.mark.parametrize("task_id", IDS)
def test_both_checkers_pass_without_a_warning_on_every_task(lively, no_screen, task_id):
    from stable_baselines3.common.env_checker import check_env as sb3_check_env

    env = gymnasium.make(task_id, homes=lively, render_mode="rgb_array", render_size=8, width=36, height=36, pose=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)  # draws in every render mode
        sb3_check_env(env.unwrapped)


def test_both_checkers_pass_with_speeds_and_all_pictures(lively):
    from stable_baselines3.common.env_checker import check_env as sb3_check_env

    env = gymnasium.make(
        "Sightline/PointGoal-v0", homes=lively, control="continuous", tilt=True, noise=True, depth=True, instance=True,
        width=8, height=8, disable_env_checker=True,
    ).unwrapped  # fmt: skip
    assert env.action_space == gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    check_env(env, skip_render_check=True)
    with pytest.warns(UserWarning, match="image"):  # depth and ids have the shape of pictures and other numbers
        sb3_check_env(env)


@pytest.mark.parametrize("task_id", IDS)
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_the_batched_vector_equals_gymnasiums_own_vector_of_single_environments(lively, task_id, mode):
    options = {"num_envs": 2, "homes": lively, "width": 8, "height": 8, "max_steps": 3, "pose": True, "depth": True}
    ours = gymnasium.make_vec(task_id, autoreset_mode=mode, **options)
    theirs = gymnasium.make_vec(task_id, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **options)
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    assert data_equivalence(ours.reset(seed=1), theirs.reset(seed=1), exact=True)
    for actions in ([1, 2], [1, 0], [3, 3], [1, 1], [0, 1], [2, 2]):
        one, two = ours.step(np.array(actions)), theirs.step(np.array(actions))
        assert data_equivalence(one, two, exact=True)
        assert ours.observation_space.contains(one[0])


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


@pytest.mark.parametrize("mode", ["sb3", "NextStep", "SameStep", "Disabled"])
def test_the_frame_and_state_a_step_led_to_stay_there_after_a_reset(homes, mode):
    if mode == "sb3":
        env = SB3VecEnv(2, homes=homes, **SMALL)
        observation = env.reset()
    else:
        env = gymnasium.make_vec(ID, num_envs=2, homes=homes, autoreset_mode=mode, **SMALL).unwrapped
        observation, _ = env.reset(seed=0)
    before = env.state
    after, *_ = env.step(np.array([2, 0]))  # the second stops, which changes no view
    assert (env.acted_on.rgb.numpy() == observation["rgb"]).all()
    assert env.step_state.done.tolist() == [False, True] and env.step_state.step.tolist() == [1, 1]
    assert (env.step_frame.rgb[0].numpy() == after["rgb"][0]).all()
    assert (env.step_frame.rgb[1] == env.sim.observe(before).rgb[1]).all()
    assert (env.step_frame.rgb[1].numpy() == after["rgb"][1]).all() == (mode in ("NextStep", "Disabled"))
    if mode == "Disabled":
        after, _ = env.reset(options={"reset_mask": np.array([False, True])})
    env.step(np.array([2, 2]))
    assert (env.acted_on.rgb.numpy() == after["rgb"]).all()


def test_sb3_learners_are_told_each_episodes_return_and_length(homes):
    from stable_baselines3 import PPO

    env = SB3VecEnv(2, homes=homes, width=36, height=36, max_steps=4)
    model = PPO("MultiInputPolicy", env, n_steps=8, batch_size=16, n_epochs=1, seed=0)
    model.learn(16)
    assert len(model.ep_info_buffer) >= 4 and all(1 <= info["l"] <= 4 for info in model.ep_info_buffer)
    env.reset()
    rewards = [env.step(np.array([2, action]))[1] for action in (2, 2, 2)]
    infos = env.step(np.array([2, 2]))
    assert infos[3][0]["episode"]["r"] == pytest.approx(sum(row[0] for row in (*rewards, infos[1])), abs=1e-5)
    assert infos[3][1]["episode"]["l"] == 4


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


def test_noise_is_a_factor_as_at_the_command_line(homes):
    assert make_simulator(homes=homes, noise=0.5).noise == Noise(0.01, 0.01, 0.015, 0.5)
    assert (
        make_simulator(homes=homes, noise=True).noise == Noise() and make_simulator(homes=homes, noise=0).noise is None
    )
    for wrong in ("0.5", -1.0):
        with pytest.raises(InputError, match="noise"):
            make_simulator(homes=homes, noise=wrong)


def test_fixed_homes_are_refused_where_doors_shut_or_things_move(homes):
    for options in ({"shut_doors": 0.5}, {"task": "rearrange"}):
        with pytest.raises(InputError, match=r"HomePool\.procedural\(4, seed=0, interactive=True\)"):
            make_simulator(homes=homes, **options)


def test_seeds_of_numpy_are_seeds_and_a_wrong_autoreset_mode_names_the_right_ones(homes):
    env = gymnasium.make_vec(ID, num_envs=2, homes=homes, **SMALL)
    one, two = env.reset(seed=np.int64(3))[0]["rgb"], env.reset(seed=3)[0]["rgb"]
    assert (one == two).all()
    with pytest.raises(InputError, match="SameStep"):
        gymnasium.make_vec(ID, num_envs=2, homes=homes, autoreset_mode="now", **SMALL)


@pytest.mark.slow
def test_without_arguments_homes_are_generated():
    env = gymnasium.make("envs:" + ID)
    observation, _ = env.reset(seed=0)
    assert observation["rgb"].shape == (64, 64, 3)


def test_points_are_seen_as_distance_and_bearing(lively):
    sim = make_simulator("point_goal", 2, homes=lively, width=4, height=4)
    points = np.array([goal.stages[0].place for goal in sim.fields.goals[0]])
    south = points - [0.0, 1.5]
    goal = np.flatnonzero(lively.grids.is_free(np.zeros(len(points), np.int64), south))[:1].repeat(2)
    two = np.zeros(2, np.int64)
    state = sim.placed(two, two, two, two, goal, south[goal], np.array([0.0, math.pi]))
    seen = Observer(sim).observation(state, sim.observe(state))["goal"]
    np.testing.assert_allclose(seen, [[1.5, math.pi / 2], [1.5, -math.pi / 2]], rtol=1e-6)  # left of the heading, right


def test_the_pose_is_told_from_where_the_episode_began(lively):
    env = gymnasium.make("Sightline/PointGoal-v0", homes=lively, pose=True, **SMALL)
    for _ in range(2):
        observation, _ = env.reset(seed=4)
        assert observation["pose"].tolist() == [0, 0, 0]
        start, yaw = env.unwrapped.state.position[0], env.unwrapped.state.yaw.item()
        env.step(2)
        observation, *_ = env.step(1)
        way = env.unwrapped.state.position[0] - start
        ahead = way @ torch.tensor([math.cos(yaw), math.sin(yaw)]).double()
        left = way @ torch.tensor([-math.sin(yaw), math.cos(yaw)]).double()
        np.testing.assert_allclose(observation["pose"], [ahead, left, math.pi / 6], atol=1e-6)
        assert ahead > 0.05 and left > 0.05


def test_holding_is_told_while_something_is_in_the_hand(lively):
    env = GymEnv("rearrange", homes=lively, width=4, height=4)
    observation, info = env.reset(seed=0)
    assert info["goal_text"] == "put the mug on the shelf" and env.sim.action_names[4:] == ("pick", "place")
    expert, held, done = Expert(env.sim), [observation["holding"].item()], False
    while not done:
        observation, _, done, late, info = env.step(int(expert(env.state)))
        held.append(observation["holding"].item())
        assert not late
    assert info["is_success"] and (held[0], max(held), held[-1]) == (0, 1, 0)


def test_sentences_are_told_by_the_numbers_of_their_words(lively):
    env = GymEnv("find_referral", homes=lively, width=4, height=4)
    observation, info = env.reset(seed=0)
    assert (observation["goal"] == word_numbers(info["goal_text"])).all()
    assert word_numbers("Go to  the Mug!", 6)[:4].tolist() == word_numbers("go to the mug", 4).tolist()
    assert word_numbers("go go", 4).tolist() == [1737, 1737, 0, 0]  # 1 + crc32(b"go") % 8191
    with pytest.raises(InputError, match="3 words does not fit into 2"):
        word_numbers("go to it", 2)


def test_instances_and_depth_are_those_of_the_simulator(homes):
    env = GymEnv(homes=homes, depth=True, instance=True, noise=Noise(depth=0.0), width=16, height=16)
    observation, _ = env.reset(seed=0)
    frame = env.sim.observe(env.state)
    assert (observation["instance"][..., 0] == frame.instance[0].numpy()).all() and observation["instance"].min() == -1
    assert (observation["depth"][..., 0] == frame.depth[0].numpy()).all() and env.sim.noise == Noise(depth=0.0)


def test_a_window_shows_the_view_after_every_reset_and_step(homes, no_screen, monkeypatch):
    import pygame

    env = GymEnv(homes=homes, render_mode="human", render_size=24, width=4, height=4)
    env.reset(seed=1)
    for _ in range(2):
        shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
        assert (shown == env.sim.observe(env.state, sensors=env._camera).rgb[0].numpy()).all() and shown.max() > 0
        assert env.step(2) and env.render() is None
    env.close()
    assert pygame.display.get_surface() is None
    monkeypatch.delenv("SDL_VIDEODRIVER")
    monkeypatch.setattr(pygame.display, "get_driver", lambda: "offscreen")  # what SDL may choose by itself
    monkeypatch.setattr(pygame.display, "set_mode", lambda size: pygame.Surface(size))
    with pytest.raises(InputError, match="no screen here"):
        env.reset()
    monkeypatch.undo()
    monkeypatch.setenv("SDL_VIDEODRIVER", "nothing-known")
    with pytest.raises(InputError, match="no window can be opened"):
        env.reset()
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(MissingLibraryError, match="classic-control"):
        GymEnv(homes=homes, render_mode="human")


def test_views_of_a_vector_are_shown_side_by_side():
    views = np.arange(3, dtype=np.uint8)[:, None, None, None] + np.ones((3, 2, 2, 3), np.uint8)
    assert tiled(views)[::2, ::2, 0].tolist() == [[1, 2], [3, 0]]


def test_options_reach_the_simulator_and_those_that_do_not_fit_are_refused(homes, lively):
    assert {name: make_simulator(name, homes=lively).max_steps for name in TASKS} == {
        name: task_max_steps(name) for name in TASKS
    }
    assert (task_max_steps("rearrange"), task_max_steps(make_task("point_goal", lively))) == (300, 100)
    task = FindObject((("sofa", "blue"), ("armchair", "red")))
    assert make_simulator(task, homes=homes, max_steps=7).max_steps == 7
    assert make_simulator(homes=homes, pairs=[("sofa", "blue"), ("armchair", "red")]).task == task
    opening = make_simulator("point_goal", homes=lively, shut_doors=1.0, tilt=True)
    assert opening.action_names[4:] == ("look up", "look down", "open")
    with pytest.raises(InputError, match="pairs="):
        make_simulator("point_goal", homes=homes, pairs=[("sofa", "blue")])
    with pytest.raises(InputError, match="find_object"):
        make_simulator("find_objects", homes=homes)
    with pytest.raises(InputError, match="interactive=True"):
        make_simulator("rearrange", homes=homes)
