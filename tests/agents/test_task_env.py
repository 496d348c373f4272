from dataclasses import fields, replace

import pytest
import torch

from agents.features import Note, Perception
from agents.shaping import Calibration, FrameReward
from agents.task_env import TaskEnv
from core.errors import InputError
from envs.state import FORWARD, STOP, SimState, Step
from scene.render import Frame

LENGTH = 3


class FakeSimulator:
    """Episodes of three steps. Every frame is black but the one an episode ends with, which is white."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs

    def reset(self, state=None, mask=None) -> SimState:
        count = self.num_envs
        kinds = {"position": torch.zeros(count, 2), "yaw": torch.zeros(count)}
        kinds |= {name: torch.zeros(count, dtype=torch.bool) for name in ("terminated", "truncated")}
        fresh = SimState(**{f.name: kinds.get(f.name, torch.zeros(count, dtype=torch.long)) for f in fields(SimState)})
        return fresh if state is None else state.merged(mask, fresh)

    def step(self, state, action):
        stopped = action == STOP
        step = state.step + 1
        truncated = (step == LENGTH) & ~stopped
        state = replace(state, step=step, terminated=stopped, truncated=truncated)
        frame = self._frame(255 * (stopped | truncated))
        zero = torch.zeros(self.num_envs)
        return state, Step(frame, zero + 5.0, stopped, truncated, state.goal, {"success": stopped.float()})

    def observe(self, state, mask=None) -> Frame:
        return self._frame(torch.zeros(len(state)))

    @staticmethod
    def _frame(value) -> Frame:
        rgb = value.to(torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3)
        return Frame(rgb, torch.ones(len(rgb), 2, 2), torch.zeros(len(rgb), 2, 2, dtype=torch.int32))


class FakeEncoder:
    """Embeds a frame as its brightness and observes brightness and step."""

    size = 2

    def perceive(self, frame, goal) -> Perception:
        light = frame.rgb.float().mean((1, 2, 3)) / 255
        empty = torch.zeros(len(light), 1, 1)
        return Perception(light[:, None], light, light, empty, empty, empty[:, 0])

    def observe(self, seen, state, note):
        return torch.stack([seen.image_score, state.step.float()], 1), note


class Brightness:
    needs = frozenset({"frame"})

    def score(self, steps, goals):
        return steps.embedding[:, 0]


def make_env(reward: str = "vlm", num_envs: int = 2, **changes) -> TaskEnv:
    calibration = Calibration(torch.zeros(1), torch.ones(1), torch.full((1,), 0.5))
    settings = {"gamma": 1.0, "scale": 1.0, "stop_weight": 0.0, "temperature": 1e-3, "penalty": 0.25, "step_cost": 0.0}
    frame_reward = FrameReward(calibration, **{**settings, **changes})
    return TaskEnv(FakeSimulator(num_envs), FakeEncoder(), reward, Brightness(), frame_reward)  # type: ignore[arg-type]


def test_the_frame_an_episode_ends_with_is_the_one_that_pays():
    env = make_env()
    env.reset()
    rewards = [env.step(torch.full((2,), FORWARD)).reward.tolist() for _ in range(2 * LENGTH)]
    # scored after the reset, every frame would be black and every reward 0
    assert rewards == [[0, 0], [0, 0], [1, 1]] * 2


def test_what_a_step_led_to_and_what_to_act_on_next_are_kept_apart():
    env = make_env()
    env.reset()
    steps = [env.step(torch.tensor([FORWARD, STOP])), *(env.step(torch.full((2,), FORWARD)) for _ in range(2))]
    assert steps[0].final_observation["vector"].tolist() == [[0, 1], [1, 1]]
    assert steps[0].observation["vector"].tolist() == [[0, 1], [0, 0]]
    assert (steps[0].terminated.tolist(), steps[0].truncated.tolist()) == ([False, True], [False, False])
    assert (steps[2].terminated.tolist(), steps[2].truncated.tolist()) == ([False, False], [True, False])


def test_only_a_stop_is_paid_by_how_the_last_frame_looks():
    env = make_env(scale=0.0, stop_weight=4.0)
    env.reset()
    assert env.step(torch.tensor([STOP, FORWARD])).reward.tolist() == pytest.approx([3.0, 0.0])


def test_returns_are_summed_per_episode_for_both_rewards():
    env = make_env("task")
    env.reset()
    for _ in range(2):
        steps = [env.step(torch.full((2,), FORWARD)) for _ in range(LENGTH)]
        assert steps[-1].metrics["task_return"].tolist() == [15.0, 15.0]
        assert steps[-1].metrics["vlm_return"].tolist() == [1.0, 1.0]
        assert steps[-1].reward.tolist() == [5.0, 5.0]


def test_a_saved_environment_goes_on_as_the_original():
    one, two = make_env(), make_env()
    one.reset(), two.reset()
    one.step(torch.tensor([FORWARD, STOP]))
    two.load_state_dict(one.state_dict())
    for action in (FORWARD, STOP, FORWARD):
        a, b = (env.step(torch.full((2,), action)) for env in (one, two))
        assert torch.equal(a.reward, b.reward) and torch.equal(a.observation["vector"], b.observation["vector"])
    assert isinstance(two.note, Note)


def test_an_unknown_reward_is_refused():
    with pytest.raises(InputError, match="task or vlm"):
        make_env("praise")
