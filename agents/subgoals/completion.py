"""Which subgoals are true of the world, for a whole batch at once: what the simulator knows.

Every test of a home becomes a row of tables when it is first asked about (`Completion.row`); from then on
`Completion.done` answers B environments with a few array operations and no loop over them. Plans that
share a test share its row.

    reach   the agent stands where a stage of the home's goals with these objects counts as done by the task; a thing
            that no goal of the task is about is reached within NEAR_M of its footprint, in sight of it; a point, within
            POINT_M
    hold    one of the objects is in the hand, or lies on one of those it is to go on already (`Test.on`)
    rest    one of the objects lies on one of the surfaces: it was put there, or the scene has it there; not on a tray
            on it
    enter   the agent stands in the room
    open    one of the doors stands open; where doors do not move, as the scene has them

What is on the way to something (`Subgoal.leads_to`) is done as well where that is true already. To be gone to, things
are where the scene has them. A test can be true before anything was done. One that can never be true here (a thing out
of reach, one that cannot be carried, a door that does not open) is kept and stays false; `Completion.possible` says
which those are.
"""

from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Int64
from numpy import ndarray
from torch import Tensor

from agents.subgoals.types import Plan, Subgoal, Test
from core.errors import InputError
from envs.goals import Stage
from envs.layout import AT_REST, layout_of
from envs.pool import Home
from envs.simulator import Simulator
from envs.state import SimState
from envs.tasks.common import near_objects
from scene.occupancy import in_polygon
from scene.storeys import is_inner, storey_of, storeys

NEAR_M: Final = 1.0  # as in FindObject and its like
POINT_M: Final = 0.2  # as in PointGoal
NOTHING: Final = -1
"""The row of an environment with nothing to judge; never done."""
GOAL: Final = -2
"""The row of the goal itself: done where stopping now succeeds."""
ROWS: Final = 64
"""Rows there is room for at first."""
_STAND, _HAND, _ALWAYS, _NEVER = range(4)
_COLUMNS: Final[dict[str, tuple[tuple[int, ...], int]]] = {
    "kind": ((), _NEVER),
    "leads": ((), NOTHING),  # the row of what this one is on the way to
    "window": ((4,), 0),  # of _STAND: first row and column of the home's grid, height, width
    "start": ((), 0),  # of _STAND: where the window's cells begin
    "doors": ((), 0),  # of _HAND: bits of doors, any of which stands open
    "things": ((1,), -2),  # of _HAND: slots of things, any of which is in the hand
    "pairs": ((1, 2), -1),  # of _HAND: slot of a thing and what it was put on, any of which lies so
}
"""What a row says, by column: its shape, and what fills it where a row has nothing to say."""


class Completion:
    """Truth of subgoals in the homes of a simulator; make a new one for another pool.

    Args:
        sim: its homes, its task's ideas of being somewhere, and its numbers of things and doors count.
    """

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim
        self._number: dict[tuple[int, Test, Test | None], int] = {}
        self._count = self._used = 0  # rows, and cells of their windows
        self._tables: dict[str, ndarray] = {
            name: np.full((ROWS, *width), empty) for name, (width, empty) in _COLUMNS.items()
        }
        self._cells = np.zeros(ROWS, bool)  # the windows, flat, one after the other

    def row(self, home: int, subgoal: Subgoal, goal_text: str = "") -> int:
        """The row of a subgoal in a home.

        Args:
            home: index into the simulator's homes.
            goal_text: the sentence of the goal; a subgoal without a test that says just this is the goal itself.

        Raises:
            InputError: a subgoal that only words describe, or things, rooms or doors that the home does not have.
        """
        if subgoal.test is None:
            if subgoal.text == goal_text:
                return GOAL
            raise InputError(
                f"whether {subgoal.text!r} is done cannot be read off the simulator: the subgoal is words alone; use a "
                "judge that reads words, or a decomposer that adds tests (symbolic, planner)"
            )
        key = (home, subgoal.test, subgoal.leads_to)
        if key not in self._number:
            leads = NOTHING if subgoal.leads_to is None else self.row(home, Subgoal(subgoal.text, subgoal.leads_to))
            self._add(self.sim.homes[home], home, subgoal, leads)
            self._number[key] = self._count - 1
        return self._number[key]

    def rows(self, home: int, plan: Plan) -> Int64[ndarray, " L"]:
        """The rows of a plan's subgoals; raises InputError as `row` does."""
        return np.array([self.row(home, subgoal, plan.goal) for subgoal in plan.subgoals], np.int64)

    def possible(self, rows: Int64[ndarray, " K"]) -> Bool[ndarray, " K"]:
        """Whether a subgoal's own test can be true at all; the goal itself can."""
        return (rows == GOAL) | (rows >= 0) & (self._tables["kind"][np.maximum(rows, 0)] != _NEVER)

    def kept(self, home: int, plan: Plan) -> Plan:
        """The plan without the subgoals that can never be true in a home; the goal alone where none is left."""
        can = self.possible(self.rows(home, plan))
        return replace(plan, subgoals=tuple(step for step, ok in zip(plan.subgoals, can) if ok))

    def done(self, rows: Int64[ndarray, " B"], state: SimState) -> Bool[Tensor, " B"]:
        """Whether each environment has done its subgoal.

        Args:
            rows: numbers `row` gave for the environment's home, or NOTHING, or GOAL.
        """
        if len(rows) != len(state):
            raise InputError(f"{len(rows)} subgoals for a state of {len(state)} environments; give one row each")
        true = self._true(rows, state)
        leads = np.where((rows >= 0) & ~true, self._tables["leads"][np.maximum(rows, 0)], NOTHING)
        if (leads >= 0).any():
            true |= self._true(leads, state)
        return torch.from_numpy(true).to(state.home.device)

    def _true(self, rows: Int64[ndarray, " B"], state: SimState) -> Bool[ndarray, " B"]:
        """Whether the rows' own tests are true."""
        true = np.zeros(len(rows), bool)
        goal = rows == GOAL
        if goal.any():
            true[goal] = _numpy(state.distance)[goal] <= 0
        kind = self._tables["kind"][np.maximum(rows, 0)]
        kind[rows < 0] = _NEVER
        true[kind == _ALWAYS] = True
        at = np.flatnonzero(kind == _STAND)
        if len(at):
            home = _numpy(state.home)[at]
            cell = self.sim.homes.grids.cell(home, _numpy(state.position)[at])
            true[at] = self._stands(rows[at], home, cell)
        if state.world is not None:
            self._handled(true, np.flatnonzero(kind == _HAND), rows, state)
        return true

    def _stands(
        self, rows: Int64[ndarray, " K"], home: Int64[ndarray, " K"], cell: Int64[ndarray, " K"]
    ) -> Bool[ndarray, " K"]:
        """Whether agents stand in the windows of their rows."""
        columns = self.sim.homes.grids.shape[home, 1]
        low_row, low_column, height, width = self._tables["window"][rows].T
        down, across = cell // columns - low_row, cell % columns - low_column
        within = (down >= 0) & (down < height) & (across >= 0) & (across < width)
        flat = np.where(within, self._tables["start"][rows] + down * width + across, 0)
        return within & self._cells[flat]

    def _handled(
        self, true: Bool[ndarray, " B"], at: Int64[ndarray, " K"], rows: Int64[ndarray, " B"], state: SimState
    ) -> None:
        """Writes whether hands and doors are as the rows of some environments want."""
        assert state.world is not None
        if not len(at):
            return
        world, wanted, tables = state.world, rows[at], self._tables
        held, doors = _numpy(world.held)[at], _numpy(world.doors)[at]
        support = _numpy(world.support)
        in_hand = (tables["things"][wanted] == held[:, None]).any(axis=1) & (held >= 0)
        slot, surface = tables["pairs"][wanted].transpose(2, 0, 1)  # (K, P) each, -1 where a row has fewer
        lies = (slot >= 0) & (support[at[:, None], np.maximum(slot, 0)] == surface)
        true[at] = in_hand | lies.any(axis=1) | (doors & tables["doors"][wanted] != 0)

    def _add(self, home: Home, index: int, subgoal: Subgoal, leads: int) -> None:
        """Another row."""
        test = subgoal.test
        assert test is not None
        self._check(home, subgoal)
        kind, cells = _NEVER, np.zeros(0, bool)
        doors, things, pairs = 0, np.zeros(0, np.int64), np.zeros((0, 2), np.int64)
        window, start = np.zeros(4, np.int64), 0
        if test.kind in ("reach", "enter"):
            region = self._room(home, test.room) if test.kind == "enter" else self._near(home, index, test)
            if region is not None and region.any():
                kind = _STAND
                down, across = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
                low, high = np.array([down[0], across[0]]), np.array([down[-1], across[-1]]) + 1
                window = np.concatenate([low, high - low]).astype(np.int64)
                cells, start = region[low[0] : high[0], low[1] : high[1]].ravel(), self._used
        elif test.kind == "open":
            bits = [home.grid.openable.index(k) for k in test.objects if k in home.grid.openable]
            still = [home.scene.doors[k] for k in test.objects if k not in home.grid.openable]
            doors = sum(1 << bit for bit in bits)
            if any(is_inner(home.scene, door) if home.interactive else door.open for door in still):
                kind = _ALWAYS  # of an interactive home, inner doors that have no bit stand open
            elif bits:
                kind = _HAND
        else:
            layout = layout_of(home)
            slots = [slot for slot in map(layout.slot, test.objects) if slot >= 0]
            first = [(slot, AT_REST) for slot in slots if int(layout.carrier[slot]) in test.on]
            if home.interactive and slots:
                kind = _HAND
                things = np.array(slots if test.kind == "hold" else [], np.int64)
                pairs = np.array([*((slot, at) for slot in slots for at in test.on), *first], np.int64).reshape(-1, 2)
            elif first:
                kind = _ALWAYS
        self._append(cells, kind=kind, window=window, start=start, doors=doors, things=things, pairs=pairs, leads=leads)

    def _append(self, cells: Bool[ndarray, " n"], **columns: Any) -> None:
        """Writes a row behind the others; tables double when they are full."""
        if self._used + len(cells) > len(self._cells):
            self._cells = _grown(self._cells, (2 * (self._used + len(cells)),), False)
        self._cells[self._used : self._used + len(cells)] = cells
        self._used += len(cells)
        for name, value in columns.items():
            table, empty = self._tables[name], _COLUMNS[name][1]
            shape = list(table.shape)
            if self._count == shape[0]:
                shape[0] *= 2
            if name in ("things", "pairs"):
                shape[1] = max(shape[1], len(value))
            if shape != list(table.shape):
                table = self._tables[name] = _grown(table, tuple(shape), empty)
            if name in ("things", "pairs"):
                table[self._count, : len(value)] = value
            else:
                table[self._count] = value
        self._count += 1

    def _check(self, home: Home, subgoal: Subgoal) -> None:
        test, scene = subgoal.test, home.scene
        assert test is not None
        known = len(scene.doors) if test.kind == "open" else len(scene.objects)
        wrong = [k for k in (*test.objects, *test.on) if not 0 <= k < known]
        if wrong or test.kind == "enter" and test.room >= len(scene.rooms):
            raise InputError(
                f"{subgoal.text!r} is about something that home {home.name} does not have: "
                + (f"{'doors' if test.kind == 'open' else 'objects'} {wrong}" if wrong else f"room {test.room}")
                + f"; it has {len(scene.objects)} objects, {len(scene.doors)} doors and {len(scene.rooms)} rooms. "
                "Plans belong to the home they were made for"
            )

    def _near(self, home: Home, index: int, test: Test) -> Bool[ndarray, "H W"] | None:
        """Where a "reach" test is true."""
        stage = Stage("reach", test.objects, place=test.place)
        if any(stage == known for goal in self.sim.fields.goals[index] for known in goal.stages):
            return self.sim.fields.region(home, stage)
        if test.objects:
            return near_objects(home, test.objects, NEAR_M)
        rows, columns = home.grid.free.shape
        middles = home.grid.centers(np.moveaxis(np.indices((rows, columns)), 0, -1))
        return home.grid.free & (np.hypot(*(middles - np.array(test.place)).transpose(2, 0, 1)) <= POINT_M)

    def _room(self, home: Home, room: int) -> Bool[ndarray, "H W"] | None:
        """The cells of a room on this storey."""
        floors = storeys(home.scene)
        found = home.scene.rooms[room]
        if storey_of(found.floor_z, floors) != storey_of(home.floor_z, floors):
            return None
        rows, columns = home.grid.free.shape
        x = home.grid.origin[0] + (np.arange(columns) + 0.5) * home.grid.cell_m
        y = home.grid.origin[1] + (np.arange(rows) + 0.5) * home.grid.cell_m
        return home.grid.free & in_polygon(found.polygon, x, y)


def _grown(table: ndarray, shape: tuple[int, ...], empty: int | bool) -> ndarray:
    """A larger table with the same rows at its front."""
    made = np.full(shape, empty, table.dtype)
    made[tuple(slice(size) for size in table.shape)] = table
    return made


def _numpy(tensor: Tensor) -> ndarray:
    return tensor.detach().cpu().numpy()
