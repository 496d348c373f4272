from dataclasses import fields, replace

import pytest
import torch

from agents.encoders import ObservationSpec
from agents.senses import Sight
from agents.shaping import Calibration, FrameReward
from agents.task_env import TaskEnv
from core.errors import InputError
from envs.state import FORWARD, STOP, Sensors, SimState, Step
from scene.render import Frame

LENGTH = 3


class FakeSimulator:
    """Episodes of three steps. Every frame is black but the one an episode ends with, which is white."""

    device = torch.device("cpu")
    control, action_names, sensors = "discrete", ("stop", "forward"), Sensors(2, 2)

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs

    def reset(self, state=None, mask=None) -> SimState:
        count = self.num_envs
        kinds = {"position": torch.zeros(count, 2), "yaw": torch.zeros(count), "world": None}
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
        return state, Step(frame, zero + 5.0, stopped, truncated, state.text, {"success": stopped.float()})

    def observe(self, state, mask=None) -> Frame:
        return self._frame(torch.zeros(len(state)))

    @staticmethod
    def _frame(value) -> Frame:
        rgb = value.to(torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3)
        return Frame(rgb, torch.ones(len(rgb), 2, 2), torch.zeros(len(rgb), 2, 2, dtype=torch.int32))


class FakeSenses:
    """Embeds a frame as its brightness, observes brightness and step, and counts frames in its note."""

    spec = {"vector": ObservationSpec((2,))}
    sensors = Sensors(2, 2)

    def attach(self, simulator) -> None:
        pass

    def begin(self, state):
        return {"action": torch.full((len(state),), -1), "frames": torch.zeros(len(state))}

    def observe(self, frame, state, note) -> Sight:
        light = frame.rgb.float().mean((1, 2, 3)) / 255
        vector = torch.stack([light, state.step.float()], 1)
        return Sight({"vector": vector}, {**note, "frames": note["frames"] + 1}, light[:, None])


class Brightness:
    """Scores a frame by how bright it is, and counts the frames of an episode."""

    def __init__(self, **changes) -> None:
        calibration = Calibration(torch.zeros(1), torch.ones(1), torch.full((1,), 0.5))
        settings = {"gamma": 1.0, "scale": 1.0, "stop_weight": 0.0, "temperature": 1e-3, "penalty": 0.25}
        self.frame_reward = FrameReward(calibration, **{**settings, "step_cost": 0.0, **changes})

    def attach(self, simulator) -> None:
        pass

    def begin(self, state):
        return {"looks": torch.zeros(len(state))}

    def potential(self, frame, state, sight, note):
        return self.frame_reward.potential(sight.embedding[:, 0], state.text), {"looks": note["looks"] + 1}

    def __call__(self, potential, next_potential, text, stopped):
        return self.frame_reward(potential, next_potential, text, stopped)


def make_env(task_weight: float = 0.0, model_weight: float = 1.0, num_envs: int = 2, **changes) -> TaskEnv:
    weights = {"task_weight": task_weight, "model_weight": model_weight}
    return TaskEnv(FakeSimulator(num_envs), FakeSenses(), Brightness(**changes), **weights)  # type: ignore[arg-type]


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


def test_both_returns_are_summed_per_episode_and_the_weighted_sum_pays():
    env = make_env(task_weight=2.0, model_weight=0.5)
    env.reset()
    for _ in range(2):
        steps = [env.step(torch.full((2,), FORWARD)) for _ in range(LENGTH)]
        assert steps[-1].metrics["task_return"].tolist() == [15.0, 15.0]
        assert steps[-1].metrics["model_return"].tolist() == [1.0, 1.0]
        assert steps[-1].reward.tolist() == [10.5, 10.5]  # 2 x 5 of the task + 0.5 x 1 of the white frame


def test_the_note_of_an_ended_episode_is_forgotten_and_others_go_on():
    env = make_env()
    env.reset()
    env.step(torch.tensor([FORWARD, STOP]))
    assert env.note["frames"].tolist() == [2, 1]  # the start, and what each action showed
    assert env.scored["looks"].tolist() == [2, 1]  # what the reward model remembers, too


def test_a_saved_environment_goes_on_as_the_original():
    one, two = make_env(), make_env()
    one.reset(), two.reset()
    one.step(torch.tensor([FORWARD, STOP]))
    two.load_state_dict(one.state_dict())
    for action in (FORWARD, STOP, FORWARD):
        a, b = (env.step(torch.full((2,), action)) for env in (one, two))
        assert torch.equal(a.reward, b.reward) and torch.equal(a.observation["vector"], b.observation["vector"])
        assert torch.equal(one.note["frames"], two.note["frames"])
        assert torch.equal(one.scored["looks"], two.scored["looks"])


def test_without_a_model_the_task_alone_pays():
    env = TaskEnv(FakeSimulator(2), FakeSenses())  # type: ignore[arg-type]
    env.reset()
    step = env.step(torch.tensor([FORWARD, STOP]))
    assert step.reward.tolist() == [5.0, 5.0] and "model_return" not in step.metrics


def test_time_spent_scoring_is_kept_apart():
    env = make_env()
    env.reset()
    env.step(torch.full((2,), FORWARD))
    assert env.seconds.keys() == {"render", "encode", "score"} and min(env.seconds.values()) > 0


def test_a_weight_for_a_model_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="model_weight=1.0 needs a model"):
        TaskEnv(FakeSimulator(2), FakeSenses(), model_weight=1.0)  # type: ignore[arg-type]
