"""What a simulator keeps and hands out: tensors with one row per environment, replaced and never changed in place."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from core.errors import InputError
from scene.render import Frame

STOP, FORWARD, TURN_LEFT, TURN_RIGHT = range(4)
ACTION_NAMES = ("stop", "forward", "turn left", "turn right")


@dataclass(frozen=True, eq=False)
class SimState:
    """Everything B environments remember. A function of (seed, environment, episode, actions), whatever the batch."""

    env: Int64[Tensor, " B"]  # number of the environment, never changes; keys its random draws
    episode: Int64[Tensor, " B"]  # 0 for the first episode of an environment; the row number in a fixed episode set
    key: Int64[Tensor, " B"]  # hash of (seed, env, episode): what anything random within the episode starts from
    home: Int64[Tensor, " B"]  # index into the simulator's HomePool
    goal: Int64[Tensor, " B"]  # index into the task's goals
    position: Float64[Tensor, "B 2"]  # agent's middle, world xy, metres
    yaw: Float64[Tensor, " B"]  # where the agent looks, radians in [-pi, pi)
    step: Int64[Tensor, " B"]  # actions taken in this episode
    start_distance: Float64[Tensor, " B"]  # walking distance from the start to success, metres; > 0
    distance: Float64[Tensor, " B"]  # walking distance from here to success, metres; 0 = stopping now succeeds
    path_length: Float64[Tensor, " B"]  # metres walked in this episode
    collisions: Int64[Tensor, " B"]  # forward actions of this episode that touched something
    terminated: Bool[Tensor, " B"]  # the episode has ended by the task's own rules; waits for a reset
    truncated: Bool[Tensor, " B"]  # the episode has ended by the time limit; waits for a reset

    @property
    def done(self) -> Bool[Tensor, " B"]:
        """Environments that wait for a reset."""
        return self.terminated | self.truncated

    def __len__(self) -> int:
        return len(self.env)

    def merged(self, mask: Bool[Tensor, " B"], new: "SimState") -> "SimState":
        """The rows of `new` where `mask`, these rows elsewhere. `new` has B rows, or one for each True of the mask."""
        columns = {}
        for field in fields(self):
            old, fresh = getattr(self, field.name), getattr(new, field.name)
            column = old.clone()
            column[mask] = fresh[mask] if len(fresh) == len(mask) else fresh
            columns[field.name] = column
        return replace(self, **columns)

    def rows(self, index: Tensor) -> "SimState":
        """The environments picked by an index or mask, as a smaller state."""
        return replace(self, **{field.name: getattr(self, field.name)[index] for field in fields(self)})


@dataclass(frozen=True, eq=False)
class Step:
    """What one action of each of B environments led to, before any reset."""

    frame: Frame | None  # what the agent sees after the action, the last view of an episode included; None: no sensors
    reward: Float32[Tensor, " B"]  # of the task; 0 for environments that had already ended
    terminated: Bool[Tensor, " B"]  # the task ended the episode: do not bootstrap
    truncated: Bool[Tensor, " B"]  # time ran out: bootstrap. Never True together with terminated
    goal: Int64[Tensor, " B"]  # index into the task's goals
    metrics: dict[str, Float32[Tensor, " B"]]
    """As if the episode ended here; the names are envs.metrics.METRICS."""

    @property
    def done(self) -> Bool[Tensor, " B"]:
        return self.terminated | self.truncated


@dataclass(frozen=True)
class Sensors:
    """The agent's camera; raises InputError for sizes and angles no camera has."""

    width: int = 64  # pixels
    height: int = 64
    fov_deg: float = 90.0  # horizontal
    eye_height_m: float = 1.2  # above the floor
    pitch_deg: float = 0.0  # positive looks up

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1 or not 0 < self.fov_deg < 180:
            raise InputError(
                f"a camera of {self.width} x {self.height} pixels and {self.fov_deg} degrees is not possible; "
                "width and height start at 1, fov_deg lies between 0 and 180"
            )


def choose_frame(mask: Bool[Tensor, " B"], new: Frame, old: Frame) -> Frame:
    """The views of `new` where `mask`, of `old` elsewhere."""

    def pick(name: str) -> Tensor:
        fresh, stale = getattr(new, name), getattr(old, name)
        return torch.where(mask.view(-1, *[1] * (fresh.ndim - 1)), fresh, stale)

    return Frame(pick("rgb"), pick("depth"), pick("instance"))
