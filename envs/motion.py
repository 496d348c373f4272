"""How an agent moves: Habitat's discrete actions on a grid of free cells, without inertia.

Forward goes 0.25 m in pieces shorter than half a cell, so nothing is too thin to stop it. A piece that would leave the
free cells slides along x or y alone, whichever is longer, and is dropped when both are blocked; sliding never gains
speed. Free cells already keep the agent's radius from walls and furniture (scene/occupancy.py).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numba import njit
from numpy import ndarray

from envs.state import FORWARD, TURN_LEFT, TURN_RIGHT
from scene.occupancy import Occupancy

FORWARD_M = 0.25
TURN_RAD = np.pi / 6
PIECES = 12  # of a forward action: 2.1 cm each


@dataclass(eq=False)
class GridStack:
    """The free cells of many homes in one array, for kernels that step different homes in one batch."""

    free: Bool[ndarray, " C"]  # all homes' cells, row by row, one home after the other
    offset: Int64[ndarray, " M"]  # per home, where its cells begin
    shape: Int64[ndarray, "M 2"]  # per home, rows and columns
    origin: Float64[ndarray, "M 2"]  # per home, world xy of the corner of cell (0, 0)
    cell_m: float

    @classmethod
    def of(cls, grids: list[Occupancy]) -> "GridStack":
        sizes = [grid.free.size for grid in grids]
        return cls(
            free=np.concatenate([grid.free.ravel() for grid in grids]),
            offset=np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64),
            shape=np.array([grid.free.shape for grid in grids], dtype=np.int64),
            origin=np.array([grid.origin for grid in grids], dtype=np.float64),
            cell_m=float(grids[0].cell_m),
        )

    def cell(self, home: Int64[ndarray, " B"], position: Float64[ndarray, "B 2"]) -> Int64[ndarray, " B"]:
        """Flat cell index, within each agent's home, of world positions inside the grid."""
        index = np.floor((position - self.origin[home]) / self.cell_m).astype(np.int64)
        return index[:, 1] * self.shape[home, 1] + index[:, 0]

    def is_free(self, home: Int64[ndarray, " B"], position: Float64[ndarray, "B 2"]) -> Bool[ndarray, " B"]:
        """Whether agents may stand at world positions; False outside the grid."""
        index = np.floor((position - self.origin[home]) / self.cell_m).astype(np.int64)
        known = ((index >= 0) & (index < self.shape[home][:, ::-1])).all(axis=1)
        flat = np.where(known, self.offset[home] + index[:, 1] * self.shape[home, 1] + index[:, 0], 0)
        return known & self.free[flat]


@njit(cache=True, nogil=True, inline="always")
def _step_allowed(free, offset, rows, columns, row, column, next_row, next_column):
    """Whether the step between two neighbouring (or equal) cells ends free and does not squeeze between corners."""
    if next_row < 0 or next_column < 0 or next_row >= rows or next_column >= columns:
        return False
    if not free[offset + next_row * columns + next_column]:
        return False
    if next_row != row and next_column != column:
        return free[offset + next_row * columns + column] or free[offset + row * columns + next_column]
    return True


@njit(cache=True, nogil=True)
def walk(x, y, yaw, length, slide, free, offset, rows, columns, origin_x, origin_y, cell_m):
    """One agent walks `length` metres along `yaw`; returns x, y and whether anything was touched."""
    dx, dy = np.cos(yaw) * length / PIECES, np.sin(yaw) * length / PIECES
    row, column = int(np.floor((y - origin_y) / cell_m)), int(np.floor((x - origin_x) / cell_m))
    touched = False
    for _ in range(PIECES):
        for attempt in range(3 if slide else 1):
            along_x = attempt == 0 or (attempt == 1) == (abs(dx) >= abs(dy))
            along_y = attempt == 0 or not along_x
            to_x, to_y = x + dx * along_x, y + dy * along_y
            to_row, to_column = int(np.floor((to_y - origin_y) / cell_m)), int(np.floor((to_x - origin_x) / cell_m))
            if _step_allowed(free, offset, rows, columns, row, column, to_row, to_column):
                x, y, row, column = to_x, to_y, to_row, to_column
                break
            touched = True
    return x, y, touched


@njit(cache=True, nogil=True)
def _move(action, active, home, position, yaw, length, turn, slide, free, offset, shape, origin, cell_m):
    count = len(action)
    new_position, new_yaw = position.copy(), yaw.copy()
    moved, touched = np.zeros(count), np.zeros(count, np.bool_)
    for b in range(count):
        if not active[b]:
            continue
        if action[b] == FORWARD:
            h = home[b]
            x, y, hit = walk(
                position[b, 0], position[b, 1], yaw[b], length, slide,
                free, offset[h], shape[h, 0], shape[h, 1], origin[h, 0], origin[h, 1], cell_m,
            )  # fmt: skip
            moved[b] = np.hypot(x - position[b, 0], y - position[b, 1])
            new_position[b, 0], new_position[b, 1], touched[b] = x, y, hit
        elif action[b] == TURN_LEFT or action[b] == TURN_RIGHT:
            angle = yaw[b] + (turn if action[b] == TURN_LEFT else -turn)
            new_yaw[b] = (angle + np.pi) % (2 * np.pi) - np.pi
    return new_position, new_yaw, moved, touched


def move(
    grids: GridStack,
    home: Int64[ndarray, " B"],
    position: Float64[ndarray, "B 2"],
    yaw: Float64[ndarray, " B"],
    action: Int64[ndarray, " B"],
    active: Bool[ndarray, " B"],
    *,
    slide: bool = True,
) -> tuple[Float64[ndarray, "B 2"], Float64[ndarray, " B"], Float64[ndarray, " B"], Bool[ndarray, " B"]]:
    """Carries out one action per agent.

    Args:
        position: world xy on free cells, metres. yaw: radians.
        action: 0 stop, 1 forward, 2 turn left, 3 turn right (envs/state.py).
        active: agents that act; the others stay as they are.
        slide: along what is touched; without it a blocked piece is simply not walked.

    Returns:
        New position, new yaw in [-pi, pi), metres moved (straight from old to new place), whether anything was touched.
    """
    return _move(
        action, active, home, position, yaw, FORWARD_M, TURN_RAD, slide,
        grids.free, grids.offset, grids.shape, grids.origin, grids.cell_m,
    )  # fmt: skip
