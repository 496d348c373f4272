"""What a simulator keeps and hands out: tensors with one row per environment, replaced and never changed in place."""

from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from core.errors import InputError
from scene.render import Frame

STOP, FORWARD, TURN_LEFT, TURN_RIGHT, LOOK_UP, LOOK_DOWN, PICK, PLACE, OPEN = range(9)
ACTION_NAMES = ("stop", "forward", "turn left", "turn right", "look up", "look down", "pick", "place", "open")
"""What the codes above are called. A simulator offers some of them, numbered afresh: Simulator.action_names."""

Table = TypeVar("Table", "SimState", "World")


def _merged(old: Table, mask: Bool[Tensor, " B"], new: Table) -> Table:
    columns: dict[str, Any] = {}
    for field in fields(old):
        stale, fresh = getattr(old, field.name), getattr(new, field.name)
        if isinstance(stale, Tensor):
            column = stale.clone()
            column[mask] = fresh[mask] if len(fresh) == len(mask) else fresh
            columns[field.name] = column
        elif stale is not None:
            columns[field.name] = _merged(stale, mask, fresh)
    return replace(old, **columns)


def _rows(table: Table, index: Tensor) -> Table:
    columns: dict[str, Any] = {}
    for field in fields(table):
        column = getattr(table, field.name)
        if column is not None:
            columns[field.name] = column[index] if isinstance(column, Tensor) else _rows(column, index)
    return replace(table, **columns)


def tensors_of(table: Table) -> dict[str, Any]:
    """The columns by name, a world as a dictionary of its own: what a checkpoint keeps."""
    columns = {field.name: getattr(table, field.name) for field in fields(table)}
    return {name: tensors_of(column) if isinstance(column, World) else column for name, column in columns.items()}


@dataclass(frozen=True, eq=False)
class World:
    """What has been moved in B environments; K is the largest number of movable things in any home of the pool."""

    doors: Int64[Tensor, " B"]  # bit k: openable door k of the home stands open
    held: Int64[Tensor, " B"]  # movable thing in the agent's hand, -1 = none
    pose: Float64[Tensor, "B K 4"]  # x, y, z of the bottom's centre and yaw; where it was picked up while it is held
    support: Int64[Tensor, "B K"]  # id of the object each was put on, -2 = where the scene has it, -1 = in the hand

    def rows(self, index: Tensor) -> "World":
        """The environments picked by an index or mask."""
        return _rows(self, index)


@dataclass(frozen=True, eq=False)
class SimState:
    """Everything B environments remember. A function of (seed, environment, episode, actions), whatever the batch."""

    env: Int64[Tensor, " B"]  # number of the environment, never changes; keys its random draws
    episode: Int64[Tensor, " B"]  # 0 for the first episode of an environment; the row number in a fixed episode set
    key: Int64[Tensor, " B"]  # hash of (seed, env, episode): what anything random within the episode starts from
    home: Int64[Tensor, " B"]  # index into the simulator's HomePool
    goal: Int64[Tensor, " B"]  # index into the goals of that home (GoalFields.goals)
    text: Int64[Tensor, " B"]  # the goal's sentence, index into Simulator.texts
    stage: Int64[Tensor, " B"]  # stages of the goal fulfilled so far, in order
    position: Float64[Tensor, "B 2"]  # agent's middle, world xy, metres
    yaw: Float64[Tensor, " B"]  # where the agent looks, radians in [-pi, pi)
    pitch: Float64[Tensor, " B"]  # tilt of its head beside the camera's own, radians, positive looks up
    step: Int64[Tensor, " B"]  # actions taken in this episode
    start_distance: Float64[
        Tensor, " B"
    ]  # walking distance from the start through all stages (envs/goals.py), metres; > 0
    distance: Float64[Tensor, " B"]  # the same from here; 0 = stopping now succeeds
    path_length: Float64[Tensor, " B"]  # metres walked in this episode; each pick and place counts as 0.1
    collisions: Int64[Tensor, " B"]  # actions of this episode that touched something, or reached for nothing
    terminated: Bool[Tensor, " B"]  # the episode has ended by the task's own rules; waits for a reset
    truncated: Bool[Tensor, " B"]  # the episode has ended by the time limit; waits for a reset
    world: World | None = None  # moved things and doors; None in homes where nothing moves

    @property
    def done(self) -> Bool[Tensor, " B"]:
        """Environments that wait for a reset."""
        return self.terminated | self.truncated

    def __len__(self) -> int:
        return len(self.env)

    def merged(self, mask: Bool[Tensor, " B"], new: "SimState") -> "SimState":
        """The rows of `new` where `mask`, these rows elsewhere. `new` has B rows, or one for each True of the mask."""
        return _merged(self, mask, new)

    def rows(self, index: Tensor) -> "SimState":
        """The environments picked by an index or mask, as a smaller state."""
        return _rows(self, index)

    def state_dict(self) -> dict[str, Any]:
        """Its tensors by name, for a checkpoint."""
        return tensors_of(self)

    @classmethod
    def from_state_dict(cls, saved: dict[str, Any]) -> "SimState":
        """What `state_dict` gave, as a state again."""
        world = saved.get("world")
        return cls(**{**saved, "world": None if world is None else World(**world)})


@dataclass(frozen=True, eq=False)
class Step:
    """What one action of each of B environments led to, before any reset."""

    frame: Frame | None  # what the agent sees after the action, the last view of an episode included; None: no sensors
    reward: Float32[Tensor, " B"]  # of the task; 0 for environments that had already ended
    terminated: Bool[Tensor, " B"]  # the task ended the episode: do not bootstrap
    truncated: Bool[Tensor, " B"]  # time ran out: bootstrap. Never True together with terminated
    text: Int64[Tensor, " B"]  # the goal's sentence, index into Simulator.texts
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
        placed = isfinite(self.eye_height_m) and abs(self.pitch_deg) <= 90
        if self.width < 1 or self.height < 1 or not 0 < self.fov_deg < 180 or not placed:
            raise InputError(
                f"a camera of {self.width} x {self.height} pixels and {self.fov_deg} degrees, {self.eye_height_m} m "
                f"above the floor and pitched by {self.pitch_deg} degrees, is not possible; width and height start at "
                "1, fov_deg lies between 0 and 180, pitch_deg between -90 and 90"
            )


@dataclass(frozen=True)
class Noise:
    """How far actions and depth stray; standard deviations of normal draws, fixed by seed, environment and step.

    Raises:
        InputError: a negative or infinite number.
    """

    forward_m: float = 0.02  # length of a forward action
    drift_rad: float = 0.02  # direction of a forward action, beside the heading
    turn_rad: float = 0.03  # a turn
    depth: float = 1.0  # times the axial noise of a Kinect, 1.2 mm + 1.9 mm (z - 0.4)^2 (Nguyen et al., 3DIMPVT 2012)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < float("inf"):
                raise InputError(f"noise {field.name}={value} should be a number from 0 on")


def choose_frame(mask: Bool[Tensor, " B"], new: Frame, old: Frame) -> Frame:
    """The views of `new` where `mask`, of `old` elsewhere."""

    def pick(name: str) -> Tensor:
        fresh, stale = getattr(new, name), getattr(old, name)
        return torch.where(mask.view(-1, *[1] * (fresh.ndim - 1)), fresh, stale)

    return Frame(pick("rgb"), pick("depth"), pick("instance"))
