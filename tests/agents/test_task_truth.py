import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from agents import task_truth
from agents.task_truth import EXPERTS, idle, task_recordings
from core.errors import InputError
from envs.registration import register_tasks

GOAL = ["the marker at the end"]


class Line(gymnasium.Env):
    """Walk from 0 to 4; the picture is as bright as the place is far. Ten steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space, action_space = spaces.Box(0, 4, (1,)), spaces.Box(-1, 1, (1,))

    def __init__(self, render_mode=None, says=("progress", "success"), scale=1.0):
        self.render_mode, self.says, self.scale = render_mode, says, scale

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0.0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.place = float(np.clip(self.place + action[0], 0, 4))
        truth = {"progress": self.scale * self.place / 4, "success": self.place == 4}
        info = {key: truth[key] for key in self.says}
        return np.array([self.place], np.float32), 0.0, False, False, info

    def render(self):
        return np.full((8, 8, 3), 60 * self.place, np.uint8)


@pytest.fixture(autouse=True)
def line(monkeypatch):
    gymnasium.register("Line-v0", entry_point=Line, max_episode_steps=10)
    monkeypatch.setitem(task_truth.EXPERTS, "Line-v0", lambda seen: np.ones(1, np.float32))
    yield
    del gymnasium.registry["Line-v0"]


def recordings(**options):
    return {item.id: item for item in task_recordings("Line-v0", goal=GOAL, size=8, episodes=2, **options)}


def test_every_frame_is_that_of_the_step_whose_truth_stands_beside_it():
    found = recordings()
    assert list(found) == [f"{name}-{k}" for name in ("expert", "failed", "random", "stare") for k in (0, 1)]
    for item in found.values():
        assert item.frames.size == (8, 8) and len(item) == 10
        (frames,) = item.blocks()
        np.testing.assert_array_equal(frames[:, 0, 0, 0], (240 * item.progress).astype(np.uint8))
        np.testing.assert_array_equal(item.reached, item.progress == 1)
        assert item.goal == tuple(GOAL) and item.instruction == GOAL[0] and item.path == item.id[:-2]


def test_failures_give_up_half_way_and_stares_stay():
    found = recordings()
    assert found["expert-0"].progress.tolist() == [0.25, 0.5, 0.75] + [1] * 7 and found["expert-0"].success
    assert found["failed-0"].progress.tolist() == [0.25] + [0.5] * 9 and not found["failed-0"].success
    assert found["stare-1"].progress.tolist() == [0] * 10 and not found["stare-1"].success


def test_episodes_are_those_of_their_seed():
    once, again, other = recordings(), recordings(), recordings(seed=5)
    np.testing.assert_array_equal(once["random-1"].progress, again["random-1"].progress)
    assert once["random-0"].progress.tolist() != once["random-1"].progress.tolist()
    assert once["random-0"].progress.tolist() != other["random-0"].progress.tolist()


def test_a_trained_policy_is_one_more_path():
    found = recordings(behaviours=(), policies={"policy": lambda seen: np.full(1, 0.5, np.float32)})
    assert [item.path for item in found.values()] == ["policy", "policy"]
    assert found["policy-0"].progress[:3].tolist() == [0.125, 0.25, 0.375]


@pytest.mark.parametrize("task", ["Sightline/VLMCartPole-v0", "Sightline/VLMMountainCar-v0"])
def test_the_controllers_by_hand_succeed_and_doing_nothing_does_not(task):
    register_tasks()
    env = gymnasium.make(task)
    for policy, wins in ((EXPERTS[task], True), (idle(env.action_space), False)):
        for seed in range(5):
            seen, _ = env.reset(seed=seed)
            success = []
            for _ in range(200):
                seen, _, _, truncated, info = env.step(policy(seen))
                success.append(info["success"])
            assert truncated and all(success[-20:]) == wins, (task, seed)


def test_an_expert_of_cartpole_gives_up_in_the_middle_since_it_begins_in_success():
    register_tasks()
    steps = task_truth._steps_until_half("Sightline/VLMCartPole-v0", None, 0)
    assert steps == 100 and task_truth._steps_until_half("Line-v0", None, 0) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "Lime-v0"}, "knows no task 'Lime-v0'; did you mean 'Line-v0'"),
        ({"task": "no_such_module:Line-v0"}, "no_such_module:Line-v0 cannot be made: .*no_such_module"),
        ({"goal": []}, "no goal"),
        ({"behaviours": ["lazy"]}, "behaviours='lazy' is unknown"),
        ({"episodes": 0}, "episodes=0"),
        ({"options": {"speed": 3}}, "Line-v0 does not take {'speed': 3}"),
        ({"options": {"says": ["success"]}}, "says no 'progress' in the info"),
        ({"options": {"says": ["progress"]}}, "says no 'success' in the info"),
        ({"options": {"scale": 2.0}, "behaviours": ["expert"]}, "progress 1.5 at step 2"),
        ({"options": {"scale": float("nan")}}, "progress nan at step 0"),
    ],
)
def test_what_cannot_be_measured_says_why(options, message):
    given = {"task": "Line-v0", "goal": GOAL, "behaviours": ["random"], "size": 8, "episodes": 1} | options
    with pytest.raises(InputError, match=message):
        list(task_recordings(given.pop("task"), **given))


def test_a_task_without_a_controller_says_what_to_leave_out():
    with pytest.raises(InputError, match="CartPole-v1 has no controller by hand, so no behaviour 'expert'"):
        list(task_recordings("CartPole-v1", goal=GOAL))
    with pytest.raises(InputError, match="doing nothing is not defined"):
        idle(spaces.MultiBinary(3))
    assert [idle(spaces.Discrete(3, start=1))(None)] == [1]
    turns = idle(spaces.Discrete(2))
    assert [turns(None) for _ in range(4)] == [0, 1, 0, 1]
