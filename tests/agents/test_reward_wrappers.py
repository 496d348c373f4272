import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorWrapper

from agents.paid import Payment
from agents.reward_wrappers import RewardWrapper, VectorRewardWrapper
from agents.step_frames import StepFrame
from core.errors import InputError
from tests.agents.lights import TASK_REWARD, ColorReward, Lights, length_of, picture, true_score

STILL = np.zeros(2, int)


def test_every_frame_of_a_task_is_paid_to_the_action_that_led_to_it():
    env = RewardWrapper(Lights(), ColorReward())
    for episode in range(3):
        env.reset()
        for time in range(1, length_of(episode) + 1):
            _, reward, terminated, _, info = env.step(0)
            assert reward == info["score"] == true_score(time, episode, 0) and info["task_reward"] == TASK_REWARD
            assert terminated == (time == length_of(episode)) == ("model_return" in info)
        scores = [true_score(time, episode, 0) for time in range(1, length_of(episode) + 1)]
        assert info["model_return"] == pytest.approx(sum(scores))
        assert info["task_return"] == TASK_REWARD * length_of(episode)


def test_wrapped_inside_an_environment_that_resets_itself_the_last_frame_is_still_paid():
    env = SyncVectorEnv([lambda: RewardWrapper(Lights(), ColorReward())] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    env.reset()
    rewards = [env.step(STILL)[1].tolist() for _ in range(5)]
    assert rewards == [[true_score(*at, 0)] * 2 for at in [(1, 0), (2, 0), (1, 1), (2, 1), (3, 1)]]


def vector(mode, inside=True, kind=SyncVectorEnv, **options):
    def make(number):
        return lambda: StepFrame(Lights(number, **options)) if inside else Lights(number, **options)

    return kind([make(0), make(1)], autoreset_mode=mode)


@pytest.mark.parametrize(
    ("mode", "inside"),  # where a step resets, a picture from outside is of the next episode: refused, see below
    [(mode, inside) for mode in AutoresetMode for inside in (True, False) if inside or mode != AutoresetMode.SAME_STEP],
)
def test_each_mode_of_resetting_pays_the_step_and_never_the_next_episode(mode, inside):
    env = VectorRewardWrapper(vector(mode, inside), ColorReward())
    env.reset(seed=0)
    for episode in range(3):
        for time in range(1, length_of(episode) + 1):
            _, reward, terminated, _, infos = env.step(STILL)
            assert reward.tolist() == [true_score(time, episode, number) for number in (0, 1)]
            assert infos["task_reward"].tolist() == [TASK_REWARD] * 2
        assert terminated.all() and infos["_model_return"].all()
        total = [sum(true_score(t, episode, number) for t in range(1, time + 1)) for number in (0, 1)]
        assert infos["model_return"].tolist() == pytest.approx(total)
        if mode == AutoresetMode.NEXT_STEP:
            assert env.step(STILL)[1].tolist() == [0.0, 0.0]  # reset instead of stepped
        if mode == AutoresetMode.DISABLED:
            env.reset(options={"reset_mask": np.ones(2, bool)})


def test_environments_that_end_at_different_times_do_not_mix():
    env = VectorRewardWrapper(vector(AutoresetMode.NEXT_STEP), ColorReward(), payment=Payment(shaping=True, gamma=0.5))
    env.reset()
    env.env.envs[1].unwrapped.episode = 1  # three steps instead of two; the first frame was of episode 0
    env.step(STILL)
    rewards = [env.step(STILL)[1] for _ in range(3)]
    assert rewards[0] == pytest.approx([-true_score(1, 0, 0), 0.5 * true_score(2, 1, 1) - true_score(1, 1, 1)])
    assert rewards[1] == pytest.approx([0.0, -true_score(2, 1, 1)])
    # the first goes on with its own episode 1, the second is reset
    assert rewards[2] == pytest.approx([0.5 * true_score(1, 1, 0) - true_score(0, 1, 0), 0.0])


def test_many_goals_are_scored_in_one_batch():
    model = ColorReward()
    env = VectorRewardWrapper(vector(AutoresetMode.SAME_STEP), model, goals=lambda info: info["goal"])
    env.reset()
    env.step(STILL)
    assert env.step(STILL)[1].tolist() == [true_score(2, 0, number, goal=0) for number in (0, 1)]
    assert env.step(STILL)[1].tolist() == [true_score(1, 1, number, goal=1) for number in (0, 1)]
    assert model.batches == [2, 2, 2]
    env = VectorRewardWrapper(vector(AutoresetMode.SAME_STEP), model, goals=[2, 1])
    env.reset()
    assert env.step(STILL)[1].tolist() == [true_score(1, 0, 0, goal=2), true_score(1, 0, 1, goal=1)]
    assert 0 < env.timing.share < 1


def test_frames_come_through_processes():
    env = VectorRewardWrapper(vector(AutoresetMode.SAME_STEP, kind=AsyncVectorEnv), ColorReward())
    try:
        env.reset()
        rewards = [env.step(STILL)[1].tolist() for _ in range(3)]
    finally:
        env.close()
    assert rewards == [[true_score(*at, 0), true_score(*at, 1)] for at in [(1, 0), (2, 0), (1, 1)]]


def test_states_are_scored_with_the_goals_that_come_with_them():
    class Timer:
        needs = frozenset({"state"})

        def score(self, steps, goals):
            return steps.state * 10.0 + goals

    watch = lambda env: (torch.tensor([float(env.time)]), torch.tensor([3]))  # noqa: E731
    env = RewardWrapper(Lights(), Timer(), watch=watch)
    env.reset()
    assert [env.step(0)[1] for _ in range(2)] == [13.0, 23.0]
    with pytest.raises(InputError, match="watch="):
        RewardWrapper(Lights(), Timer())


def test_what_cannot_be_seen_is_refused():
    with pytest.raises(InputError, match="render_mode"):
        RewardWrapper(Lights(render_mode=None), ColorReward())
    env = VectorRewardWrapper(vector(AutoresetMode.SAME_STEP, inside=False), ColorReward())
    env.reset()
    with pytest.raises(InputError, match="StepFrame"):
        env.step(STILL)
    env = VectorRewardWrapper(vector(AutoresetMode.NEXT_STEP, inside=False, render_mode=None), ColorReward())
    env.reset()
    with pytest.raises(InputError, match="rgb_array"):
        env.step(STILL)

    class Silent(VectorWrapper):
        metadata = {}  # noqa: RUF012

    with pytest.raises(InputError, match="how it resets"):
        VectorRewardWrapper(Silent(vector(AutoresetMode.NEXT_STEP)), ColorReward())


def test_a_mixture_pays_both_rewards():
    env = RewardWrapper(Lights(), ColorReward(), payment=Payment(scale=2.0, offset=-1.0, task_weight=0.5))
    env.reset()
    assert env.step(0)[1] == pytest.approx(2 * true_score(1, 0, 0) - 1 + 0.5 * TASK_REWARD)


class Seen(Lights):
    """The same, observed as its picture and never rendered."""

    observation_space = spaces.Box(0, 255, (4, 6, 3), np.uint8)

    def __init__(self):
        super().__init__(render_mode=None)

    def _observe(self):
        return picture(self.time, self.episode, self.number)


def test_a_step_that_only_resets_asks_for_no_picture_and_no_goal():
    env = SyncVectorEnv([lambda: StepFrame(Seen())] * 2, autoreset_mode=AutoresetMode.NEXT_STEP)
    env = VectorRewardWrapper(env, ColorReward(), goals=lambda info: info["goal"])
    env.reset()
    rewards = [env.step(STILL)[1].tolist() for _ in range(4)]
    assert rewards[:3] == [[true_score(1, 0, 0)] * 2, [true_score(2, 0, 0)] * 2, [0.0, 0.0]]
    assert rewards[3] == [true_score(1, 1, 0, goal=1)] * 2


def test_an_episode_that_is_left_early_counts_for_none():
    timer = lambda env: (torch.tensor([float(env.time)]), torch.tensor([0]))  # noqa: E731

    class Timer:
        needs = frozenset({"state"})

        def score(self, steps, goals):
            return steps.state

    env = RewardWrapper(Lights(), Timer(), watch=timer)
    env.reset()
    env.step(0)
    env.reset()
    returns = [env.step(0)[4].get("model_return") for _ in range(length_of(1))]
    assert returns == [None, None, 1.0 + 2.0 + 3.0]
