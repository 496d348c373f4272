"""Which goals each home offers, and how far every cell is from them.

A goal is a row of stages: be somewhere, hold something, put it somewhere. A task says which goals a home has and where
its "reach" stages count as done; this file turns that into walking distances through all stages still to come, keeps
them, and draws starts from them. A goal is offered only where every stage can be done and some start at the task's
range of distances can reach it, so an impossible episode is never drawn.
"""

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt16
from numba import njit
from numpy import ndarray
from torch import Tensor

from core.errors import InputError, check_choice
from envs.counter_random import scrambled
from envs.geodesic import UNITS_PER_CELL, UNREACHABLE, distance_field
from envs.interaction import reach_region
from envs.pool import Home, HomePool

MAX_BYTES = 1 << 30  # of fields kept; a field takes two bytes a cell
HAND_M = 0.1  # what picking up or putting down counts, in metres of way: success is near only when hands are done too
MOVED_SHARE = 8  # this part of the memory is for fields of things that lie where an agent put them
STAGES = ("reach", "hold", "rest")
TRIES = 16  # random cells looked at before all are counted


@dataclass(frozen=True)
class Stage:
    """One thing to do; raises InputError for a kind that does not exist or one without objects."""

    kind: str  # reach: be there. hold: have one of `objects` in the hand. rest: one of `objects` lies on one of `on`
    objects: tuple[int, ...] = ()  # ids of the home's objects, any of which will do
    on: tuple[int, ...] = ()
    place: tuple[float, float] | None = None  # reach: a point instead of an object, world xy, metres

    def __post_init__(self) -> None:
        check_choice("stage kind", self.kind, STAGES)
        if not self.objects and self.place is None or self.kind == "rest" and not self.on:
            raise InputError(f"a {self.kind!r} stage needs objects" + (" and what they go on" * (self.kind == "rest")))


@dataclass(frozen=True)
class Goal:
    """Something to be sent to do; two goals are the same when all of this is."""

    text: str  # the sentence the agent is given, e.g. "find the red armchair"
    stages: tuple[Stage, ...]
    label: str = ""  # noun of what is sought, for tables
    color: str = ""  # "" = any colour

    @property
    def phrase(self) -> str:
        """The thing without the errand: "red armchair"."""
        return f"{self.color} {self.label}".strip() or self.text


class Task(Protocol):
    """What the simulator and the jobs ask of a task; envs/tasks/find_object.py is the example to copy."""

    @classmethod
    def from_pool(cls, pool: HomePool) -> "Task":
        """The task for some homes at hand.

        Raises:
            InputError: no home offers any goal.
        """
        ...

    @classmethod
    def from_manifest(cls, manifest: dict) -> "Task":
        """The task for all homes built like these; the same in training and evaluation.

        Args:
            manifest: of a folder that build-scenes filled (scene/io.py).

        Raises:
            InputError: the manifest lacks what the goals are made from.
        """
        ...

    @property
    def interactive(self) -> bool:
        """Whether things are picked up and put down, or doors opened: needs a pool of interactive homes."""
        ...

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Sentences known before any home is: they get the first numbers of Simulator.texts, in this order."""
        ...

    @property
    def start_range_m(self) -> tuple[float, float]:
        """Walking distance from a start to success: above the first number, at most the second."""
        ...

    def goals(self, home: Home) -> list[Goal]:
        """Goals of a home, always in one order; those that turn out to be impossible are dropped by the caller."""
        ...

    def region(self, home: Home, stage: Stage) -> Bool[ndarray, "H W"] | None:
        """Cells where a "reach" stage is done; None or all False where that is nowhere."""
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


@njit(cache=True, nogil=True, inline="always")
def _fits(fields, inside, slot, cell, low, high):
    """Whether an episode may start in a cell: at the right distance, and outside the first stage's region."""
    return low < fields[slot, 0, cell] <= high and (inside.shape[2] == 0 or not inside[slot, 0, cell])


@njit(cache=True, nogil=True)
def _pick(fields, inside, slot, cells, first, last, low, high, share, out):
    """For each row b a cell where an episode may start, all equally likely over `share`, uniform in [0, 1)."""
    for b in range(len(slot)):
        total = last[b] - first[b]
        draw = share[b]
        for _ in range(TRIES):
            k = first[b] + int(draw * total)
            if _fits(fields, inside, slot[b], cells[k], low, high):
                out[b] = cells[k]
                break
            # the next number of a chain that starts at the share
            bits = scrambled(np.uint64(draw * 2.0**53))
            draw = np.float64(bits >> np.uint64(11)) * 2.0**-53
        if out[b] >= 0:
            continue
        count = 0  # few cells will do: count them, and take the one the last draw points at
        for k in range(first[b], last[b]):
            count += _fits(fields, inside, slot[b], cells[k], low, high)
        wanted = min(int(draw * count), count - 1)
        seen = -1
        for k in range(first[b], last[b]):
            seen += _fits(fields, inside, slot[b], cells[k], low, high)
            if seen == wanted and wanted >= 0:
                out[b] = cells[k]
                break


@dataclass(eq=False)
class Fields:
    """The walking distances of one goal in one home."""

    units: UInt16[ndarray, "S C"]  # through stage s and all later ones, in units of GoalFields.unit_m
    inside: Bool[ndarray, "S C"]  # cells where stage s is done (reach) or can be done (hold, rest)


@dataclass(eq=False)
class _Way:
    """One stage and what follows it, on the grid."""

    region: Bool[ndarray, "H W"]
    units: UInt16[ndarray, "H W"]


class GoalFields:
    """The goals a task offers in a pool, and the distance fields of every one.

    Memory stays under `max_bytes`: beyond it the fields used longest ago are dropped and made again when needed.

    Args:
        previous: of an earlier pool of the same task; the goals and fields of homes that are in both are taken over.

    Attributes:
        goals: per home, the goals that can be drawn there.
        texts: the sentences that `text` numbers: the task's vocabulary, then the others in the order of the homes.
        playable: indices of the homes that offer at least one goal.
        stages: the largest number of stages of a goal.

    Raises:
        InputError: no home offers any goal; names the first homes. Homes without goals are left out with a warning.
    """

    def __init__(
        self, pool: HomePool, task: Task, max_bytes: int = MAX_BYTES, previous: "GoalFields | None" = None
    ) -> None:
        if task.interactive and not pool.interactive:
            raise InputError(
                "this task moves things, and nothing moves in this pool's homes; make it with interactive=True, e.g. "
                "HomePool.procedural(8, seed=0, interactive=True)"
            )
        self.pool, self.task, self.max_bytes = pool, task, max_bytes
        self.unit_m = pool.grids.cell_m / UNITS_PER_CELL
        self._moved: OrderedDict[tuple[Any, ...], Fields | None] = OrderedDict()
        self._moved_bytes = 0
        taken = [None if previous is None else previous.pool.at.get(id(home)) for home in pool.homes]
        self.goals: list[list[Goal]] = [
            task.goals(home) if at is None or previous is None else previous.goals[at]
            for home, at in zip(pool.homes, taken)
        ]
        self.stages = max((len(goal.stages) for listed in self.goals for goal in listed), default=1)
        self.keeps_regions = self.stages > 1 or pool.interactive
        self.cells_per_slot = max(home.grid.free.size for home in pool.homes)
        self.capacity = max(1, max_bytes // (self.stages * self.cells_per_slot * (3 if self.keeps_regions else 2)))
        rows = min(64, self.capacity)
        self._units = np.empty((rows, self.stages, self.cells_per_slot), dtype=np.uint16)
        self._inside = np.empty((rows, self.stages, self.cells_per_slot if self.keeps_regions else 0), dtype=bool)
        self._owner: list[tuple[int, int]] = []  # per slot in use, its home and goal
        self._last_use = np.zeros(rows, dtype=np.int64)
        self._clock = 0
        most = max(1, *(len(listed) for listed in self.goals))
        self._slot = np.full((len(pool), most), -1, dtype=np.int64)
        for index, (home, at) in enumerate(zip(pool.homes, taken)):
            if at is not None and previous is not None:
                for g in range(len(self.goals[index])):
                    kept = previous.kept(at, g)
                    if kept is not None and len(self._owner) < self.capacity:
                        self._store(index, g, kept)
                continue
            offered: list[Goal] = []
            known: dict[tuple[Stage, ...], _Way | None] = {}
            for goal in self.goals[index]:
                made = self._compute(home, goal, known=known)
                if made is not None and self._startable(made):
                    if len(self._owner) < self.capacity:
                        self._store(index, len(offered), made)
                    offered.append(goal)
            self.goals[index] = offered
        self._counts = np.array([len(offered) for offered in self.goals], dtype=np.int64)
        self.playable = np.flatnonzero(self._counts)
        self._check_playable(self._counts)
        self.texts: list[str] = list(task.vocabulary)
        number = {text: index for index, text in enumerate(self.texts)}
        self._text = np.zeros((len(pool), most), dtype=np.int64)
        self._last_stage = np.zeros((len(pool), most), dtype=np.int64)
        for index, offered in enumerate(self.goals):
            for g, goal in enumerate(offered):
                if goal.text not in number:
                    number[goal.text] = len(self.texts)
                    self.texts.append(goal.text)
                self._text[index, g] = number[goal.text]
                self._last_stage[index, g] = len(goal.stages) - 1
        free = [home.free_cells for home in pool.homes]
        self._free_cells = np.concatenate(free)
        self._first = np.concatenate([[0], np.cumsum([len(part) for part in free])]).astype(np.int64)

    def _check_playable(self, counts: Int64[ndarray, " M"]) -> None:
        empty = [self.pool.ids[k] for k in np.flatnonzero(counts == 0)]
        if not empty:
            return
        message = f"{len(empty)} of {len(self.pool)} homes offer no reachable goal: {', '.join(empty[:5])}"
        if len(empty) == len(self.pool):
            known = ", ".join(self.task.vocabulary[:5])
            raise InputError(message + (f". The task's goals: {known}" if known else "") + "; use other homes or goals")
        warnings.warn(message + "; no episode takes place in them", stacklevel=4)

    @property
    def _start_units(self) -> tuple[float, float]:
        low, high = self.task.start_range_m
        return low / self.unit_m, min(high / self.unit_m, int(UNREACHABLE) - 1)

    def _startable(self, made: Fields) -> bool:
        """Whether an episode may start anywhere; the rule of `_fits`."""
        low, high = self._start_units
        fitting = (made.units[0] > low) & (made.units[0] <= high)
        return bool((fitting & ~made.inside[0] if self.keeps_regions else fitting).any())

    def region(
        self, home: Home, stage: Stage, boxes: Float64[ndarray, "N 7"] | None = None
    ) -> Bool[ndarray, "H W"] | None:
        """Cells where a stage is done, or from which it can be done by one action; None where that is nowhere.

        Args:
            boxes: where the stage's objects are, if not where the scene has them ("hold" only).
        """
        if stage.kind == "reach":
            region = self.task.region(home, stage)
        elif stage.kind == "hold":
            region = reach_region(home, stage.objects, boxes)
        else:
            region = reach_region(home, stage.on, place=min(stage.objects))
        return None if region is None or not (region & home.grid.free).any() else region & home.grid.free

    def _compute(
        self,
        home: Home,
        goal: Goal,
        moved: dict[int, Float64[ndarray, "N 7"]] | None = None,
        known: "dict[tuple[Stage, ...], _Way | None] | None" = None,
    ) -> Fields | None:
        """The fields of a goal in a home, flat; None where it can be reached from nowhere.

        Args:
            moved: per stage, the boxes of its objects where they lie now.
            known: ways of this home found before, by the stages they lead through; new ones are added.
        """
        ways: list[_Way] = []
        for s in reversed(range(len(goal.stages))):
            stages = goal.stages[s:]
            if known is not None and stages in known:
                way = known[stages]
            else:
                onward = ways[-1].units if ways else None
                way = self._way(home, goal.stages[s], onward, None if moved is None else moved.get(s))
                if known is not None:
                    known[stages] = way
            if way is None:
                return None
            ways.append(way)
        ways.reverse()
        return Fields(np.stack([way.units.ravel() for way in ways]), np.stack([way.region.ravel() for way in ways]))

    def _way(
        self,
        home: Home,
        stage: Stage,
        onward: UInt16[ndarray, "H W"] | None,
        boxes: Float64[ndarray, "N 7"] | None,
    ) -> "_Way | None":
        """Where a stage is done, and the distances to there and on; None where that is nowhere."""
        region = self.region(home, stage, boxes)
        if region is None:
            return None
        units = distance_field(home.grid.free, region, onward)
        if stage.kind != "reach":
            hand = np.uint16(round(HAND_M / self.unit_m))
            units = np.where(units < UNREACHABLE - hand, units + hand, UNREACHABLE)
        return _Way(region, units)

    def kept(self, home: int, goal: int) -> Fields | None:
        """A copy of the fields of a goal, if they are in memory."""
        slot, cells = self._slot[home, goal], self.pool[home].grid.free.size
        if slot < 0:
            return None
        stages = len(self.goals[home][goal].stages)
        units = self._units[slot, :stages, :cells].copy()
        inside = self._inside[slot, :stages, :cells] if self.keeps_regions else units == 0
        return Fields(units, inside.copy())

    def _store(self, home: int, goal: int, made: Fields, keep: Int64[ndarray, " B"] | None = None) -> None:
        if len(self._owner) < self.capacity:
            slot = len(self._owner)
            self._owner.append((home, goal))
            if slot == len(self._units):
                more = min(self.capacity, 2 * slot) - slot
                self._units = _grown(self._units, more)
                self._inside = _grown(self._inside, more)
                self._last_use = np.concatenate([self._last_use, np.zeros(more, dtype=np.int64)])
        else:
            use = self._last_use.copy()
            if keep is not None:
                use[keep[keep >= 0]] = np.iinfo(np.int64).max
            slot = int(use.argmin())
            if use[slot] == np.iinfo(np.int64).max:
                raise InputError(
                    f"the batch needs more distance fields at once than {self.capacity} "
                    f"({self.max_bytes / 2**20:.0f} MiB); raise max_bytes or use fewer environments"
                )
            self._slot[self._owner[slot]] = -1
            self._owner[slot] = (home, goal)
        stages, cells = made.units.shape
        self._units[slot, :stages, :cells] = made.units
        if self.keeps_regions:
            self._inside[slot, :stages, :cells] = made.inside
        self._slot[home, goal] = slot
        self._last_use[slot] = self._clock

    def slots(self, home: Int64[ndarray, " B"], goal: Int64[ndarray, " B"]) -> Int64[ndarray, " B"]:
        """Rows of `units` for B environments; makes the ones that are missing. Valid until the next call."""
        slot = self._slot[home, goal]
        if self._counts.sum() > self.capacity or (slot < 0).any():
            self._clock += 1
            self._last_use[slot[slot >= 0]] = self._clock
            for b in np.flatnonzero(slot < 0):
                h, g = int(home[b]), int(goal[b])
                if self._slot[h, g] < 0:
                    made = self._compute(self.pool[h], self.goals[h][g])
                    assert made is not None, "offered goals have fields"
                    self._store(h, g, made, keep=self._slot[home, goal])
            slot = self._slot[home, goal]
        return slot

    @property
    def units(self) -> UInt16[ndarray, "R S C"]:
        """Kept fields per slot and stage: flat grids in units of `unit_m`, UNREACHABLE where there is no way."""
        return self._units

    @property
    def inside(self) -> Bool[ndarray, "R S C"]:
        """Kept regions per slot and stage; width 0 where every goal is one walk (its region is where units are 0)."""
        return self._inside

    @property
    def complete(self) -> bool:
        """Whether the fields of all goals are in memory and stay there."""
        return int(self._counts.sum()) <= self.capacity and len(self._owner) == int(self._counts.sum())

    @property
    def slot_table(self) -> Int64[ndarray, "M G"]:
        """The row of `units` of every goal of every home, -1 where there is none."""
        return self._slot

    @property
    def last_stage_table(self) -> Int64[ndarray, "M G"]:
        """Number of the last stage of every goal of every home."""
        return self._last_stage

    def last_stage(self, home: Int64[ndarray, " B"], goal: Int64[ndarray, " B"]) -> Int64[ndarray, " B"]:
        """Number of the last stage of each goal: 0 where there is one only."""
        return self._last_stage[home, goal]

    def text(self, home: Int64[ndarray, " B"], goal: Int64[ndarray, " B"]) -> Int64[ndarray, " B"]:
        """Number of each goal's sentence in `texts`."""
        return self._text[home, goal]

    def goal(self, home: int, goal: int) -> Goal:
        """A goal by its numbers."""
        return self.goals[home][goal]

    def distance(
        self,
        home: Int64[ndarray, " B"],
        goal: Int64[ndarray, " B"],
        stage: Int64[ndarray, " B"],
        cell: Int64[ndarray, " B"],
    ) -> Float64[ndarray, " B"]:
        """Walking distance in metres from grid cells through `stage` and all later ones; infinite without a way.

        Every picking up and putting down still to be done counts HAND_M.
        """
        units = self._units[self.slots(home, goal), stage, cell]
        return np.where(units == UNREACHABLE, np.inf, units * self.unit_m)

    def moved(self, home: int, goal: int, boxes: dict[int, Float64[ndarray, "N 7"]]) -> Fields | None:
        """Fields of a goal whose things lie elsewhere; None where there is no way. The last ones asked are kept.

        All other things are taken to be where the scene has them.

        Args:
            boxes: per stage of kind "hold", where its objects lie now.
        """
        key = (home, goal, *((s, box.round(3).tobytes()) for s, box in sorted(boxes.items())))
        if key not in self._moved:
            made = self._compute(self.pool[home], self.goals[home][goal], boxes)
            self._moved[key] = made
            self._moved_bytes += _bytes(made)
            while self._moved_bytes > self.max_bytes // MOVED_SHARE and len(self._moved) > 1:
                self._moved_bytes -= _bytes(self._moved.popitem(last=False)[1])
        self._moved.move_to_end(key)
        return self._moved[key]

    def draw_home(self, share: Float64[ndarray, " B"]) -> Int64[ndarray, " B"]:
        """Playable homes for uniform numbers in [0, 1)."""
        return self.playable[np.floor(share * len(self.playable)).astype(np.int64)]

    def draw_goal(self, home: Int64[ndarray, " B"], share: Float64[ndarray, " B"]) -> Int64[ndarray, " B"]:
        """Goals offered in each home for uniform numbers in [0, 1)."""
        return np.floor(share * self._counts[home]).astype(np.int64)

    def draw_start(
        self, home: Int64[ndarray, " B"], goal: Int64[ndarray, " B"], share: Float64[ndarray, " B"]
    ) -> Float64[ndarray, "B 2"]:
        """Middles of cells whose walking distance lies in the task's start range, for uniform numbers in [0, 1)."""
        low, high = self._start_units
        cell = np.full(len(home), -1, dtype=np.int64)
        slot = self.slots(home, goal)
        _pick(
            self._units,
            self._inside,
            slot,
            self._free_cells,
            self._first[home],
            self._first[home + 1],
            low,
            high,
            share,
            cell,
        )
        assert (cell >= 0).all(), "a goal was offered without a start"
        columns = self.pool.grids.shape[home, 1]
        middle = np.stack([cell % columns, cell // columns], axis=1) + 0.5
        return middle * self.pool.grids.cell_m + self.pool.grids.origin[home]


def _bytes(made: Fields | None) -> int:
    return 0 if made is None else made.units.nbytes + made.inside.nbytes


def _grown(table: ndarray, more: int) -> ndarray:
    return np.concatenate([table, np.empty((more, *table.shape[1:]), dtype=table.dtype)])


def goal_number(goals: Sequence[Goal], goal: Goal) -> int | None:
    """Where a goal is among a home's; None if it is not."""
    return next((number for number, known in enumerate(goals) if known == goal), None)
