"""How an agent moves over a grid of free cells, without inertia.

A walk is done in pieces shorter than half a cell, so nothing is too thin to stop it. A piece that would leave the free
cells slides along x or y alone, whichever is longer, and is dropped when both are blocked; sliding never gains speed.
Free cells already keep the agent's radius from walls and furniture (scene/occupancy.py); shut doors block the cells of
their own bit.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt32
from numba import njit
from numpy import ndarray

from scene.occupancy import Occupancy

FORWARD_M = 0.25  # Habitat's forward action
TURN_RAD = np.pi / 6
TILT_RAD = np.pi / 6
MAX_PITCH_RAD = np.pi / 3
PIECES = 12  # of a walk: 2.1 cm each
LONGEST_M = 0.29  # of one action, noise included: pieces stay under half a cell of 5 cm
ALL_OPEN = -1  # a mask of open doors with every bit set


@dataclass(eq=False)
class GridStack:
    """The free cells of many homes in one array, for kernels that step different homes in one batch."""

    free: Bool[ndarray, " C"]  # all homes' cells, row by row, one home after the other
    shut: UInt32[ndarray, " C"]  # per cell the doors that block it while they are shut; one zero where no door moves
    offset: Int64[ndarray, " M"]  # per home, where its cells begin
    shape: Int64[ndarray, "M 2"]  # per home, rows and columns
    origin: Float64[ndarray, "M 2"]  # per home, world xy of the corner of cell (0, 0)
    cell_m: float

    @classmethod
    def of(cls, grids: list[Occupancy]) -> "GridStack":
        sizes = [grid.free.size for grid in grids]
        doors = [grid.shut for grid in grids]
        moving = [part.ravel() for part in doors if part is not None]
        return cls(
            free=np.concatenate([grid.free.ravel() for grid in grids]),
            shut=np.concatenate(moving) if len(moving) == len(grids) else np.zeros(1, np.uint32),
            offset=np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64),
            shape=np.array([grid.free.shape for grid in grids], dtype=np.int64),
            origin=np.array([grid.origin for grid in grids], dtype=np.float64),
            cell_m=float(grids[0].cell_m),
        )

    @property
    def has_doors(self) -> bool:
        """Whether doors of these homes open and shut."""
        return len(self.shut) == len(self.free)

    def cell(self, home: Int64[ndarray, " B"], position: Float64[ndarray, "B 2"]) -> Int64[ndarray, " B"]:
        """Flat cell index, within each agent's home, of world positions inside the grid."""
        return _cells(home, position, self.shape, self.origin, self.cell_m)

    def is_free(
        self,
        home: Int64[ndarray, " B"],
        position: Float64[ndarray, "B 2"],
        doors: Int64[ndarray, " B"] | None = None,
    ) -> Bool[ndarray, " B"]:
        """Whether agents may stand at world positions; False outside the grid.

        Args:
            doors: bit masks of the open doors; left out, every door stands open.
        """
        index = np.floor((position - self.origin[home]) / self.cell_m).astype(np.int64)
        known = ((index >= 0) & (index < self.shape[home][:, ::-1])).all(axis=1)
        flat = np.where(known, self.offset[home] + index[:, 1] * self.shape[home, 1] + index[:, 0], 0)
        standing = known & self.free[flat]
        if doors is not None and self.has_doors:
            standing &= (self.shut[flat].astype(np.int64) & ~doors) == 0
        return standing


@njit(cache=True, nogil=True)
def _cells(home, position, shape, origin, cell_m):
    cell = np.empty(len(home), np.int64)
    for b in range(len(home)):
        h = home[b]
        column = int(np.floor((position[b, 0] - origin[h, 0]) / cell_m))
        row = int(np.floor((position[b, 1] - origin[h, 1]) / cell_m))
        cell[b] = row * shape[h, 1] + column
    return cell


@njit(cache=True, nogil=True, inline="always")
def _open(free, shut, doors, cell):
    """Whether a cell may be stood on with the given doors open."""
    return free[cell] and (len(shut) == 1 or (np.int64(shut[cell]) & ~doors) == 0)


@njit(cache=True, nogil=True, inline="always")
def _step_allowed(free, shut, doors, offset, rows, columns, row, column, next_row, next_column):
    """Whether the step between two neighbouring (or equal) cells ends free and does not squeeze between corners."""
    if next_row == row and next_column == column:
        return True
    if next_row < 0 or next_column < 0 or next_row >= rows or next_column >= columns:
        return False
    if not _open(free, shut, doors, offset + next_row * columns + next_column):
        return False
    if next_row != row and next_column != column:
        return _open(free, shut, doors, offset + next_row * columns + column) or _open(
            free, shut, doors, offset + row * columns + next_column
        )
    return True


@njit(cache=True, nogil=True)
def walk(x, y, yaw, length, slide, free, shut, doors, offset, rows, columns, origin_x, origin_y, cell_m):
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
            if _step_allowed(free, shut, doors, offset, rows, columns, row, column, to_row, to_column):
                x, y, row, column = to_x, to_y, to_row, to_column
                break
            touched = True
    return x, y, touched


@njit(cache=True, nogil=True)
def _move(forward, turn, drift, doors, home, position, yaw, slide, free, shut, offset, shape, origin, cell_m):
    count = len(home)
    new_position, new_yaw = position.copy(), yaw.copy()
    moved, touched = np.zeros(count), np.zeros(count, np.bool_)
    for b in range(count):
        if forward[b] != 0.0:
            h = home[b]
            x, y, hit = walk(
                position[b, 0], position[b, 1], yaw[b] + drift[b % len(drift)], forward[b], slide,
                free, shut, doors[b % len(doors)],
                offset[h], shape[h, 0], shape[h, 1], origin[h, 0], origin[h, 1], cell_m,
            )  # fmt: skip
            moved[b] = np.hypot(x - position[b, 0], y - position[b, 1])
            new_position[b, 0], new_position[b, 1], touched[b] = x, y, hit
        if turn[b] != 0.0:
            new_yaw[b] = (yaw[b] + turn[b] + np.pi) % (2 * np.pi) - np.pi
    return new_position, new_yaw, moved, touched


def move(
    grids: GridStack,
    home: Int64[ndarray, " B"],
    position: Float64[ndarray, "B 2"],
    yaw: Float64[ndarray, " B"],
    forward: Float64[ndarray, " B"],
    turn: Float64[ndarray, " B"],
    *,
    drift: Float64[ndarray, " B"] | None = None,
    doors: Int64[ndarray, " B"] | None = None,
    slide: bool = True,
) -> tuple[Float64[ndarray, "B 2"], Float64[ndarray, " B"], Float64[ndarray, " B"], Bool[ndarray, " B"]]:
    """Walks along the old heading, then turns; an agent that does neither stays as it is.

    Args:
        position: world xy on free cells, metres. yaw: radians.
        forward: metres along the heading, at most LONGEST_M either way; negative goes backward.
        turn: radians, positive to the left.
        drift: radians by which each walk strays from the heading.
        doors: bit masks of the open doors; left out, all stand open.
        slide: along what is touched; without it a blocked piece is simply not walked.

    Returns:
        New position, new yaw in [-pi, pi), metres moved (straight from old to new place), whether anything was touched.
    """
    return _move(
        forward, turn, np.zeros(1) if drift is None else drift,
        np.full(1, ALL_OPEN, np.int64) if doors is None else doors,
        home, position, yaw, slide, grids.free, grids.shut, grids.offset, grids.shape, grids.origin, grids.cell_m,
    )  # fmt: skip
