from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from agents.step_frames import (
    StepFrame,
    checked_frame,
    frames_in,
    info_rows,
    picture_key,
    resized,
    stacked,
    step_frames,
)
from core.errors import InputError
from tests.agents.lights import Lights, picture


def test_the_frame_is_of_the_step_and_the_first_one_comes_with_an_episodes_first_step():
    env = StepFrame(Lights())
    env.reset()
    first, second = env.step(0)[4], env.step(0)[4]
    assert np.array_equal(first["first_frame"], picture(0, 0, 0)) and "first_frame" not in second
    assert np.array_equal(first["frame"], picture(1, 0, 0)) and np.array_equal(second["frame"], picture(2, 0, 0))


def test_frames_are_resized_to_a_square_as_the_mean_of_their_colours():
    env = StepFrame(Lights(), size=3)
    env.reset()
    assert np.array_equal(env.step(0)[4]["frame"], picture(1, 0, 0)[:3, :3])
    halves = np.zeros((8, 8, 3), np.uint8)
    halves[:, 4:] = 200
    small = resized(halves, 2)
    assert small.shape == (2, 2, 3) and small[0, 0, 0] < 20 and small[0, 1, 0] > 180


class Pictures(gymnasium.Env):
    """Observes its picture, and never renders."""

    action_space = spaces.Discrete(2)

    def __init__(self, as_dict):
        image = spaces.Box(0, 255, (2, 2, 3), np.uint8)
        self.as_dict, self.count = as_dict, 0
        self.observation_space = spaces.Dict({"rgb": image, "number": spaces.Discrete(3)}) if as_dict else image
        self.image = np.zeros((2, 2, 3), np.uint8)

    def _observe(self):
        self.image[:] = self.count  # the same array again and again
        return {"rgb": self.image, "number": 1} if self.as_dict else self.image

    def reset(self, *, seed=None, options=None):
        self.count = 0
        return self._observe(), {}

    def step(self, action):
        self.count += 1
        return self._observe(), 0.0, False, False, {}

    def render(self):
        raise AssertionError("rendered a second time")


@pytest.mark.parametrize("as_dict", [False, True])
def test_an_observation_that_is_a_picture_is_not_rendered_again(as_dict):
    env = StepFrame(Pictures(as_dict))
    env.reset()
    frames = [env.step(0)[4]["frame"] for _ in range(3)]
    assert [frame[0, 0, 0] for frame in frames] == [1, 2, 3]


def test_other_observations_are_not_taken_for_pictures():
    floats, channels_first = spaces.Box(0, 1, (4, 4, 3), np.float32), spaces.Box(0, 255, (3, 4, 4), np.uint8)
    assert [picture_key(space) for space in (floats, channels_first, spaces.Discrete(3))] == [None] * 3
    assert picture_key(spaces.Dict({"rgb": floats})) is None


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (None, "NoneType.*render_mode"),
        (np.zeros((4, 4, 3), np.float32), "float32.*255"),
        (np.zeros((3, 4, 4), np.uint8), "uint8"),
        ([1, 2], "list"),
    ],
)
def test_what_is_no_picture_is_refused_with_what_to_do(frame, says):
    with pytest.raises(InputError, match=says):
        checked_frame(frame, "env.render()")


def test_a_task_that_does_not_render_arrays_is_refused():
    with pytest.raises(InputError, match='make the task with render_mode="rgb_array"'):
        StepFrame(Lights(render_mode=None))
    with pytest.raises(InputError, match="size=0"):
        StepFrame(Lights(), size=0)


def test_infos_without_frames_name_the_wrapper_and_frames_of_two_sizes_its_size():
    with pytest.raises(InputError, match="environment 1 .*StepFrame"):
        frames_in([{"frame": picture(1, 0, 0)}, {}])
    with pytest.raises(InputError, match="size="):
        stacked([np.zeros((2, 2, 3), np.uint8), np.zeros((3, 3, 3), np.uint8)])


def test_rows_of_vector_infos_are_those_of_the_step_itself():
    env = SyncVectorEnv([lambda: StepFrame(Lights())] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    env.reset()
    env.envs[1].unwrapped.time = 1  # ends a step earlier
    rows = info_rows(env.step(np.zeros(2, int))[4], 2)
    assert np.array_equal(rows[0]["frame"], picture(1, 0, 0)) and np.array_equal(rows[1]["frame"], picture(2, 0, 0))
    rows = info_rows(env.step(np.zeros(2, int))[4], 2)
    assert "first_frame" not in rows[0] and np.array_equal(rows[1]["first_frame"], picture(0, 1, 0))
    assert [row["goal"] for row in rows] == [0, 1]


def test_a_simulator_hands_its_frames_over_without_infos():
    def frame(*times):
        return SimpleNamespace(rgb=torch.from_numpy(np.stack([picture(time, 0, 0) for time in times])))

    state = SimpleNamespace(step=torch.tensor([2, 1, 1]))
    env = SimpleNamespace(step_frame=frame(2, 1, 1), acted_on=frame(1, 0, 0), step_state=state)
    seen = step_frames(env, [{}] * 3)
    assert np.array_equal(seen.frame, env.step_frame.rgb) and seen.begun == [1, 2]
    assert np.array_equal(seen.first, env.acted_on.rgb[1:])
    assert step_frames(env, [{}] * 3, np.array([True, False, True])).begun == [2]


def test_a_task_can_be_made_again_from_its_spec():
    env = StepFrame(gymnasium.make("CartPole-v1", render_mode="rgb_array"), size=8)
    twin = gymnasium.make(env.spec)
    twin.reset(seed=0)
    assert twin.step(0)[4]["frame"].shape == (8, 8, 3)
