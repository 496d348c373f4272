import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv

import envs  # noqa: F401  registers the ids
from agents.seeded_episodes import EVALUATION, TRAINING, SeededEpisodes, episode_seed, episode_states, go_on
from agents.step_frames import StepFrame


def vector(seed: int = 3, drawn: bool = False) -> DummyVecEnv:
    def make(index: int) -> gymnasium.Env:
        mode = {"render_mode": "rgb_array", "render_size": 16} if drawn else {}
        env = SeededEpisodes(gymnasium.make("Sightline/VLMCartPole-v0", **mode), seed, index)
        return StepFrame(env, 16) if drawn else env

    return DummyVecEnv([lambda index=index: make(index) for index in range(2)])


def test_every_episode_has_a_start_of_its_own_whatever_seed_reset_is_given():
    starts = set()
    for seed in (0, 1):
        env = vector(seed)
        env.seed(99)
        for _ in range(3):
            starts |= {tuple(row) for row in env.reset()}
    assert len(starts) == 12
    again = vector(0)
    assert tuple(again.reset()[0]) in starts


def test_evaluation_episodes_are_not_those_of_training():
    assert episode_seed(TRAINING, 0, 0, 0) != episode_seed(EVALUATION, 0, 0, 0)


def test_environments_go_on_in_the_middle_of_episodes_and_at_their_start():
    rng = np.random.default_rng(0)
    actions = rng.integers(2, size=(250, 2))
    whole = vector()
    whole.reset()
    for step in (0, 7, 199, 200, 205):  # the limit of 200 steps begins the second episode
        env = vector()
        env.reset()
        for t in range(step):
            before = env.step(actions[t])
        states = episode_states(env)
        assert states[0]["episode"] == (step >= 200)
        fresh = vector()
        found = np.stack(go_on(fresh, states))
        if step:
            np.testing.assert_array_equal(found, before[0])
        for t in range(step, step + 5):
            after, expected = fresh.step(actions[t]), env.step(actions[t])
            np.testing.assert_array_equal(after[0], expected[0])
            np.testing.assert_array_equal(after[2], expected[2])


def test_what_wrappers_give_out_in_a_first_step_is_given_out_once():
    for steps in (0, 3):
        env = vector(drawn=True)
        env.reset()
        for _ in range(steps):
            env.step(np.array([0, 1]))
        fresh = vector(drawn=True)
        go_on(fresh, episode_states(env))
        infos = fresh.step(np.array([0, 1]))[3]
        assert ["first_frame" in info for info in infos] == [steps == 0] * 2
