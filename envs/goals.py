"""Which goals each home offers, and how far every cell is from them.

A task says where in a home a goal counts as reached (`success_region`); this file turns that into walking-distance
fields, keeps them, and draws starts from them. A goal is offered only where its region exists and some start at the
task's range of distances can reach it, so an impossible episode is never drawn.
"""

import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt16
from numba import njit
from numpy import ndarray
from torch import Tensor

from core.errors import InputError
from envs.geodesic import UNITS_PER_CELL, UNREACHABLE, distance_field
from envs.pool import Home, HomePool

MAX_BYTES = 1 << 30  # of fields kept; a field takes two bytes a cell


@dataclass(frozen=True)
class Goal:
    """Something to be sent to."""

    text: str  # the sentence the agent is given, e.g. "find the red armchair"
    label: str  # the object's noun
    color: str = ""  # "" = any colour

    @property
    def phrase(self) -> str:
        """The thing without the errand: "red armchair"."""
        return f"{self.color} {self.label}".strip()


class Task(Protocol):
    """What the simulator and the jobs ask of a task; envs/tasks/find_object.py is the example to copy.

    The class takes `goals=` by name, so that an agent meets the goals it was trained on.
    """

    @classmethod
    def from_pool(cls, pool: HomePool) -> "Task":
        """The task with the goals that some home of the pool offers.

        Raises:
            InputError: no home offers any.
        """
        ...

    @classmethod
    def from_manifest(cls, manifest: dict) -> "Task":
        """The task with every goal that homes built like these may offer; the same in training and evaluation.

        Args:
            manifest: of a folder that build-scenes filled (scene/io.py).

        Raises:
            InputError: the manifest lacks what the goals are made from.
        """
        ...

    @property
    def goals(self) -> tuple[Goal, ...]:
        """What goal numbers index."""
        ...

    @property
    def start_range_m(self) -> tuple[float, float]:
        """Walking distance from a start to success: above the first number, at most the second."""
        ...

    def matching(self, home: Home, goal: int) -> list[int]:
        """Ids of the objects of a home that satisfy a goal."""
        ...

    def success_region(self, home: Home, goal: int) -> Bool[ndarray, "H W"] | None:
        """Cells where stopping succeeds; None where the home has no such object."""
        ...

    def reward(
        self,
        previous_m: Float[Tensor, " B"],
        distance_m: Float[Tensor, " B"],
        success: Bool[Tensor, " B"],
        stopped: Bool[Tensor, " B"],
    ) -> Float[Tensor, " B"]:
        """The task's own reward of a step."""
        ...


@njit(cache=True, nogil=True)
def _pick(fields, slot, cells, first, last, low, high, share, out):
    """For each row b the cell number floor(share x count) among those with low < distance <= high."""
    for b in range(len(slot)):
        count = 0
        for k in range(first[b], last[b]):
            count += low < fields[slot[b], cells[k]] <= high
        wanted = min(int(share[b] * count), count - 1)
        seen = -1
        for k in range(first[b], last[b]):
            seen += low < fields[slot[b], cells[k]] <= high
            if seen == wanted and wanted >= 0:
                out[b] = cells[k]
                break


class GoalFields:
    """Distance fields of every (home, goal) a task offers in a pool.

    Memory stays under `max_bytes`: beyond it the fields used longest ago are dropped and made again when needed.

    Attributes:
        offered: (M, G) bool, goals that can be drawn in each home.
        playable: indices of the homes that offer at least one goal.

    Raises:
        InputError: no home offers any goal; names the first homes. Homes without goals are left out with a warning.
    """

    def __init__(self, pool: HomePool, task: Task, max_bytes: int = MAX_BYTES) -> None:
        if not task.goals:
            raise InputError("the task has no goals; give it some, or homes whose objects can be goals")
        self.pool, self.task = pool, task
        self.cells_per_slot = max(home.grid.free.size for home in pool.homes)
        self.capacity = max(1, max_bytes // (2 * self.cells_per_slot))
        self.unit_m = pool.grids.cell_m / UNITS_PER_CELL
        self._slot = np.full((len(pool), len(task.goals)), -1, dtype=np.int64)
        self._owner: list[tuple[int, int]] = []  # per slot in use, its home and goal
        self._fields = np.empty((min(64, self.capacity), self.cells_per_slot), dtype=np.uint16)
        self._last_use = np.zeros(len(self._fields), dtype=np.int64)
        self._clock = 0
        self.offered = np.zeros((len(pool), len(task.goals)), dtype=bool)
        free = [home.free_cells for home in pool.homes]
        self._free_cells = np.concatenate(free)
        self._first = np.concatenate([[0], np.cumsum([len(part) for part in free])]).astype(np.int64)
        low, high = self._start_units
        for index, home in enumerate(pool.homes):
            for goal in range(len(task.goals)):
                if not task.matching(home, goal):
                    continue
                field = self._compute(index, goal)
                if field is not None and bool(((field > low) & (field <= high)).any()):
                    self.offered[index, goal] = True
                    if len(self._owner) < self.capacity:
                        self._store(index, goal, field)
        self.playable = np.flatnonzero(self.offered.any(axis=1))
        if len(self.playable) < len(pool):
            empty = [pool.ids[k] for k in np.flatnonzero(~self.offered.any(axis=1))]
            message = f"{len(empty)} of {len(pool)} homes offer no reachable goal: {', '.join(empty[:5])}"
            if len(self.playable) == 0:
                known = ", ".join(goal.phrase for goal in task.goals[:5])
                raise InputError(f"{message}. The task's goals: {known}{', ...' if len(task.goals) > 5 else ''}")
            warnings.warn(message + "; no episode takes place in them", stacklevel=3)
        # for drawing the k-th goal a home offers
        self._counts = self.offered.sum(axis=1)
        self._order = np.argsort(~self.offered, axis=1, kind="stable")

    @property
    def _start_units(self) -> tuple[float, float]:
        low, high = self.task.start_range_m
        return low / self.unit_m, min(high / self.unit_m, int(UNREACHABLE) - 1)

    def _compute(self, home: int, goal: int) -> UInt16[ndarray, " C"] | None:
        """The field of one goal in one home, flat; None where it can be reached from nowhere."""
        region = self.task.success_region(self.pool[home], goal)
        free = self.pool[home].grid.free
        if region is None or not (region & free).any():
            return None
        return distance_field(free, region).ravel()

    def _store(
        self, home: int, goal: int, field: UInt16[ndarray, " C"], keep: Int64[ndarray, " B"] | None = None
    ) -> None:
        if len(self._owner) < self.capacity:
            slot = len(self._owner)
            self._owner.append((home, goal))
            if slot == len(self._fields):
                more = min(self.capacity, 2 * slot) - slot
                self._fields = np.concatenate([self._fields, np.empty((more, self.cells_per_slot), dtype=np.uint16)])
                self._last_use = np.concatenate([self._last_use, np.zeros(more, dtype=np.int64)])
        else:
            use = self._last_use.copy()
            if keep is not None:
                use[keep[keep >= 0]] = np.iinfo(np.int64).max
            slot = int(use.argmin())
            if use[slot] == np.iinfo(np.int64).max:
                raise InputError(
                    f"the batch needs more distance fields at once than {self.capacity} "
                    f"({self.capacity * 2 * self.cells_per_slot / 2**20:.0f} MiB); raise max_bytes or use fewer "
                    "environments"
                )
            self._slot[self._owner[slot]] = -1
            self._owner[slot] = (home, goal)
        self._fields[slot, : len(field)] = field
        self._slot[home, goal] = slot
        self._last_use[slot] = self._clock

    def slots(self, home: Int64[ndarray, " B"], goal: Int64[ndarray, " B"]) -> Int64[ndarray, " B"]:
        """Rows of `fields` for B environments; makes the ones that are missing. Valid until the next call."""
        slot = self._slot[home, goal]
        if self.offered.sum() > self.capacity or (slot < 0).any():
            self._clock += 1
            self._last_use[slot[slot >= 0]] = self._clock
            for b in np.flatnonzero(slot < 0):
                if self._slot[home[b], goal[b]] < 0:
                    field = self._compute(int(home[b]), int(goal[b]))
                    if field is None:
                        raise InputError(
                            f"home {self.pool.ids[home[b]]} has no reachable {self.task.goals[goal[b]].phrase!r}"
                        )
                    self._store(int(home[b]), int(goal[b]), field, keep=self._slot[home, goal])
            slot = self._slot[home, goal]
        return slot

    @property
    def fields(self) -> UInt16[ndarray, "S C"]:
        """Kept fields, one flat grid a row, in units of `unit_m`; geodesic.UNREACHABLE where there is no way."""
        return self._fields

    def distance(
        self, home: Int64[ndarray, " B"], goal: Int64[ndarray, " B"], position: Float64[ndarray, "B 2"]
    ) -> Float64[ndarray, " B"]:
        """Walking distance in metres from world positions (on the grid) to success; infinite where there is no way."""
        units = self.fields[self.slots(home, goal), self.pool.grids.cell(home, position)]
        return np.where(units == UNREACHABLE, np.inf, units * self.unit_m)

    def draw_home(self, share: Float64[ndarray, " B"]) -> Int64[ndarray, " B"]:
        """Playable homes for uniform numbers in [0, 1)."""
        return self.playable[np.floor(share * len(self.playable)).astype(np.int64)]

    def draw_goal(self, home: Int64[ndarray, " B"], share: Float64[ndarray, " B"]) -> Int64[ndarray, " B"]:
        """Goals offered in each home for uniform numbers in [0, 1)."""
        return self._order[home, np.floor(share * self._counts[home]).astype(np.int64)]

    def draw_start(
        self, home: Int64[ndarray, " B"], goal: Int64[ndarray, " B"], share: Float64[ndarray, " B"]
    ) -> Float64[ndarray, "B 2"]:
        """Middles of cells whose walking distance lies in the task's start range, for uniform numbers in [0, 1)."""
        low, high = self._start_units
        cell = np.full(len(home), -1, dtype=np.int64)
        slot = self.slots(home, goal)
        _pick(self.fields, slot, self._free_cells, self._first[home], self._first[home + 1], low, high, share, cell)
        assert (cell >= 0).all(), "a goal was offered without a start"
        columns = self.pool.grids.shape[home, 1]
        middle = np.stack([cell % columns, cell // columns], axis=1) + 0.5
        return middle * self.pool.grids.cell_m + self.pool.grids.origin[home]
