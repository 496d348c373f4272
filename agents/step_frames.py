"""The frame each step led to, rendered inside `step` before anything can reset the task.

    env = StepFrame(gymnasium.make("Pendulum-v1", render_mode="rgb_array"), size=224)

Every reward plug reads `info["frame"]`. Vector environments reset an ended task before their `step` returns, so a
picture rendered from outside would show the next episode; wrapped inside, in the worker, it cannot. It is also made
small there, so that little travels between processes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from jaxtyping import Bool, UInt8
from numpy import ndarray
from torch.nn import functional as F

from core.errors import InputError


@dataclass
class StepFrames:
    """What reward models look at after a step of B environments."""

    frame: UInt8[ndarray, "B H W 3"]  # what each step led to, before any reset; black where no step was taken
    first: UInt8[ndarray, "K H W 3"] | None  # what episodes that began with this step began with
    begun: list[int]  # the environments of those


class StepFrame(gymnasium.Wrapper, RecordConstructorArgs):
    """Adds `info["frame"]`, the (H, W, 3) uint8 picture a step led to.

    In the first step of an episode `info["first_frame"]` is there too: the picture the episode began with, which
    potential-based shaping needs. An observation that is a picture, or has one under "rgb", is taken as it is; any
    other task is rendered.

    Args:
        env: made with `render_mode="rgb_array"`, unless its observation has the picture.
        size: side of the square that frames are resized to (aspect squashed, antialiased bicubic, as reward models
            do), e.g. the encoder's; None leaves them as they are.

    Raises:
        InputError: the task cannot render arrays. At the first reset: what it renders is no picture.
    """

    def __init__(self, env: gymnasium.Env, size: int | None = None) -> None:
        RecordConstructorArgs.__init__(self, size=size)
        gymnasium.Wrapper.__init__(self, env)
        if size is not None and size < 1:
            raise InputError(f"size={size} should be a number of pixels, e.g. 224, or None")
        self.size = size
        self.key = picture_key(env.observation_space)
        if self.key is None and env.render_mode != "rgb_array":
            raise InputError(
                f"a reward model looks at frames, but render_mode is {env.render_mode!r}; "
                'make the task with render_mode="rgb_array"'
            )
        self._first: UInt8[ndarray, "H W 3"] | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """A new episode; its first picture comes with the first step's info."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._first = self._frame(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step of the task, with its picture."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        info = {**info, "frame": self._frame(observation)}
        if self._first is not None:
            info["first_frame"], self._first = self._first, None
        return observation, reward, terminated, truncated, info

    def _frame(self, observation: Any) -> UInt8[ndarray, "H W 3"]:
        if self.key is None:
            frame = checked_frame(self.env.render(), "env.render()")
        else:
            frame = checked_frame(observation[self.key] if self.key else observation, "the observation")
        if self.size is None or frame.shape[:2] == (self.size, self.size):
            return np.array(frame)  # some tasks draw the next picture into the same array
        return resized(frame, self.size)


def picture_key(space: spaces.Space) -> str | None:
    """Where an observation has its picture: "rgb" in a Dict, "" when it is one itself, None when there is none."""
    if isinstance(space, spaces.Dict):
        return "rgb" if "rgb" in space.spaces and picture_key(space["rgb"]) == "" else None
    shape = space.shape or ()
    return "" if space.dtype == np.uint8 and len(shape) == 3 and shape[-1] == 3 else None


def checked_frame(frame: Any, source: str) -> UInt8[ndarray, "H W 3"]:
    """The frame, if it is a picture.

    Raises:
        InputError: it is None, of another type than uint8, or of another shape than (H, W, 3).
    """
    if isinstance(frame, ndarray) and frame.ndim == 3 and frame.shape[-1] == 3 and frame.dtype == np.uint8:
        return frame
    got = f"{frame.dtype} {frame.shape}" if isinstance(frame, ndarray) else type(frame).__name__
    hint = ""
    if isinstance(frame, ndarray) and frame.dtype.kind == "f":
        hint = "; turn numbers in [0, 1] into bytes: (255 * frame).round().astype(numpy.uint8)"
    elif frame is None:
        hint = '; does the task draw anything with render_mode="rgb_array"?'
    raise InputError(f"{source} gave {got}, expected a uint8 picture (H, W, 3){hint}")


def resized(frame: UInt8[ndarray, "H W 3"], size: int) -> UInt8[ndarray, "S S 3"]:
    """The picture as a square of `size` pixels, with antialiased bicubic filtering."""
    pixels = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float()
    small = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return small[0].round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()


def stacked(frames: Sequence[UInt8[ndarray, "H W 3"]]) -> UInt8[ndarray, "B H W 3"]:
    """Frames as one batch.

    Raises:
        InputError: they differ in size.
    """
    shapes = {frame.shape for frame in frames}
    if len(shapes) > 1:
        raise InputError(f"frames come in sizes {sorted(shapes)}; make them alike with StepFrame(env, size=...)")
    return np.stack(frames)


def frames_in(infos: Sequence[Mapping[str, Any]], stepped: Bool[ndarray, " B"] | None = None) -> StepFrames:
    """The frames that StepFrame put in the infos of B environments.

    Args:
        stepped: environments that took a step; None: all.

    Raises:
        InputError: an info has no frame, or something else under its name.
    """
    for index, info in enumerate(infos):
        if "frame" not in info and (stepped is None or stepped[index]):
            raise InputError(
                f"environment {index} gave no info['frame'], so the picture its step led to is unknown (a picture "
                "rendered now may be of the next episode). Wrap each environment inside the vector environment: "
                "make_vec_env(lambda: StepFrame(gymnasium.make(NAME, render_mode='rgb_array')), ...)"
            )
    present = [checked_frame(info["frame"], "info['frame']") for info in infos if "frame" in info]
    if not present:  # every environment was reset instead of stepped
        return StepFrames(np.zeros((len(infos), 1, 1, 3), np.uint8), None, [])
    if len(present) < len(infos):
        black = np.zeros_like(present[0])
        present = [info.get("frame", black) for info in infos]
    first = [index for index, info in enumerate(infos) if "first_frame" in info]
    return StepFrames(stacked(present), stacked([infos[i]["first_frame"] for i in first]) if first else None, first)


def step_frames(env: Any, infos: Sequence[Mapping[str, Any]], stepped: Bool[ndarray, " B"] | None = None) -> StepFrames:
    """The frames of B environments' steps: what `frames_in` gives, or a batched simulator's own.

    Args:
        env: the unwrapped vector environment. Sightline's have `step_frame`, `step_state` and `acted_on`.
    """
    if getattr(env, "step_frame", None) is None:
        return frames_in(infos, stepped)
    begun = (env.step_state.step == 1).cpu().numpy()
    first = np.flatnonzero(begun if stepped is None else begun & stepped).tolist()
    frames = env.step_frame.rgb.cpu().numpy()
    return StepFrames(frames, env.acted_on.rgb[first].cpu().numpy() if first else None, first)


def info_rows(infos: Mapping[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """Gymnasium's vector infos as one info per environment: that of the step itself.

    Where an environment was reset in the same step, that is `final_info`, and the reset's own info is left out.
    """
    rows: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    for name, column in infos.items():
        if name.startswith("_") or name in ("final_info", "final_obs"):
            continue
        part = info_rows(column, num_envs) if isinstance(column, Mapping) else column
        mask = infos.get(f"_{name}")
        for index in range(num_envs):
            if mask is None or mask[index]:
                rows[index][name] = part[index]
    if "final_info" in infos:
        final = info_rows(infos["final_info"], num_envs)
        for index in np.flatnonzero(infos["_final_info"]).tolist():
            rows[index] = final[index]
    return rows
