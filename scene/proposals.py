"""Objects of a scan that nobody annotated: its floor, ceiling and walls are taken away, and what is left falls apart.

Gravity is known (z is up), so a floor or ceiling is guessed from one point and a wall from two (RANSAC, Fischler and
Bolles 1981, with minimal samples of one and two); the rest is clustered by density (DBSCAN, Ester et al. 1996) on a
grid of cells. Proposals have no names. Things that touch, such as a lamp and its table, stay one proposal.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Float64, Int32, Int64
from numpy import ndarray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from core.errors import InputError

CELL_M: Final = 0.03  # points of one cell count as one; smaller in scans of less than 1.8 m
CELLS_ACROSS: Final = 60
SPACINGS: Final = 1.5  # a cell is at least so many times as wide as the median distance to the nearest point
PLANE_REACH_M: Final = 0.04  # points this close to a plane belong to it
SHELL_M: Final = 0.15  # floor and ceiling lie this close to the scan's lowest and highest points
TRIED: Final = 600  # planes guessed per round
ROUNDS: Final = 24
SCORED: Final = 4_000  # cells that vote for a guess
FLAT_SHARE: Final = 0.3  # a floor or ceiling covers this share of the scan seen from above,
FLAT_AREA_M2: Final = 2.0  # and at least this area: a couch alone has no floor
WALL_SHARE: Final = 0.6  # a wall is as high as this share of the scan,
WALL_HEIGHT_M: Final = 1.2  # and at least this high;
OUTER_WALL_M: Final = 1.0  # it is this long where nothing lies behind it,
INNER_WALL_M: Final = 2.5  # else this long: a wardrobe is shorter
FILLED_SHARE: Final = 0.5  # of a wall's height is filled where it counts: doors, windows and furniture hide the rest
TILE_M: Final = 0.1  # side of the squares that measure surfaces
BEHIND_SHARE: Final = 0.03  # of the cells may lie behind an outer wall
CLUSTER_REACH: Final = 2.5  # cells closer than this many cells belong together
CORE_NEIGHBOURS: Final = 4  # a cell with so many neighbours in reach, itself included, is inside a thing
CLUSTER_CELLS: Final = 10  # a thing has at least so many


@dataclass(frozen=True)
class Proposals:
    """What the points of a scan fall into."""

    instance: Int32[ndarray, " P"]  # 0..count-1, the largest first; -1 = floor, wall, ceiling or stray
    count: int
    planes: Float64[ndarray, "K 4"]  # unit normal n and offset d of what was taken away: n . x + d = 0


def propose(points: Float[ndarray, "P 3"], seed: int = 0) -> Proposals:
    """Splits a scan, in metres with z up, into proposals. The same points and seed give the same proposals.

    Raises:
        InputError: no points, or points that are NaN or infinite.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0 or not np.isfinite(points).all():
        raise InputError(f"propose() needs finite points (P, 3), at least one; got shape {points.shape}")
    low = points.min(axis=0)
    cell_m = max(min(float(np.ptp(points, axis=0).max()) / CELLS_ACROSS, CELL_M), SPACINGS * _spacing(points), 1e-4)
    cells, owner = _cells(points - low, cell_m)
    planes, taken = _structure(cells, np.random.default_rng(seed))
    cluster = np.full(len(cells), -1, dtype=np.int64)
    cluster[~taken] = _clusters(cells[~taken], CLUSTER_REACH * cell_m)
    planes[:, 3] -= planes[:, :3] @ low  # back from the scan's corner to its own origin
    return Proposals(cluster[owner].astype(np.int32), int(cluster.max(initial=-1)) + 1, planes)


def _spacing(points: Float64[ndarray, "P 3"]) -> float:
    """Median distance of a point to the nearest other one, metres, from up to some thousand points."""
    if len(points) < 2:
        return 0.0
    some = points[:: max(1, len(points) // 2_000)]
    return float(np.median(cKDTree(points).query(some, k=2)[0][:, 1]))


def _cells(points: Float64[ndarray, "P 3"], cell_m: float) -> tuple[Float64[ndarray, "M 3"], Int64[ndarray, " P"]]:
    """Means of the points of each occupied cell, and the cell of each point."""
    _, owner, size = np.unique(
        np.floor(points / cell_m).astype(np.int64), axis=0, return_inverse=True, return_counts=True
    )
    owner = owner.ravel()
    sums = np.stack([np.bincount(owner, points[:, k], len(size)) for k in range(3)], axis=1)
    return sums / size[:, None], owner


def _structure(cells: Float64[ndarray, "M 3"], rng: np.random.Generator) -> tuple[Float64[ndarray, "K 4"], ndarray]:
    """Planes of floor, ceiling and walls, and which cells lie on them."""
    found: list[ndarray] = []
    taken = np.zeros(len(cells), bool)
    settled = np.zeros(len(cells), bool)  # on a plane that was looked at, whether it was taken away or not
    whole_m2 = _area(cells[:, :2])
    for _ in range(ROUNDS):
        open_ = np.flatnonzero(~settled)
        if len(open_) < CLUSTER_CELLS:
            break
        plane, on = _best_plane(cells, open_, rng)
        if len(on) < CLUSTER_CELLS:
            break
        settled[on] = True
        near = np.abs(cells @ plane[:3] + plane[3]) <= PLANE_REACH_M
        if _is_flat(plane, cells, on, whole_m2) or _is_wall(plane, cells, on):
            found.append(plane)
            taken |= near
    return np.array(found).reshape(-1, 4), taken


def _best_plane(
    cells: Float64[ndarray, "M 3"], open_: Int64[ndarray, " K"], rng: np.random.Generator
) -> tuple[Float64[ndarray, "4"], Int64[ndarray, " n"]]:
    """The upright or level plane with the most open cells, fitted to them, and those cells."""
    a, b = cells[rng.choice(open_, TRIED)], cells[rng.choice(open_, TRIED)]
    along = b - a
    normals = np.stack([-along[:, 1], along[:, 0], np.zeros(TRIED)], axis=1)
    normals[: TRIED // 4] = [0.0, 0.0, 1.0]
    lengths = np.linalg.norm(normals, axis=1)
    normals[lengths < 1e-9] = [0.0, 0.0, 1.0]  # one point twice, or one above the other
    normals /= np.where(lengths < 1e-9, 1.0, lengths)[:, None]
    offsets = -(normals * a).sum(axis=1)
    voters = cells[rng.choice(open_, min(SCORED, len(open_)), replace=False)]
    votes = (np.abs(voters @ normals.T + offsets) <= PLANE_REACH_M).sum(axis=0)
    best = int(votes.argmax())
    normal, offset = normals[best], float(offsets[best])
    upright = abs(normal[2]) < 0.5
    on = open_[np.abs(cells[open_] @ normal + offset) <= PLANE_REACH_M]
    for _ in range(2):  # least squares among planes of its kind
        middle = cells[on].mean(axis=0)
        if upright:
            _, _, axes = np.linalg.svd((cells[on] - middle)[:, :2], full_matrices=False)
            if len(axes) < 2:
                break
            normal = np.array([*axes[1], 0.0])
        offset = -float(normal @ middle)
        on = open_[np.abs(cells[open_] @ normal + offset) <= PLANE_REACH_M]
        if len(on) < 2:
            break
    return np.array([*normal, offset]), on


def _is_flat(plane: ndarray, cells: Float64[ndarray, "M 3"], on: Int64[ndarray, " n"], whole_m2: float) -> bool:
    """Whether it is the floor or the ceiling, not a table."""
    if abs(plane[2]) < 0.5:
        return False
    height = float(cells[on, 2].mean())
    outermost = min(height - cells[:, 2].min(), cells[:, 2].max() - height) <= SHELL_M
    return outermost and _area(cells[on, :2]) >= max(FLAT_AREA_M2, FLAT_SHARE * whole_m2)


def _is_wall(plane: ndarray, cells: Float64[ndarray, "M 3"], on: Int64[ndarray, " n"]) -> bool:
    """Whether it is a wall, not the front of a wardrobe."""
    if abs(plane[2]) > 0.5:
        return False
    needed_m = max(WALL_HEIGHT_M, WALL_SHARE * float(np.ptp(cells[:, 2])))
    if np.subtract(*np.percentile(cells[on, 2], [98, 2])) < needed_m:
        return False
    along = cells[on] @ np.array([-plane[1], plane[0], 0.0])
    tiles = np.unique(np.floor(np.stack([along, cells[on, 2]], axis=1) / TILE_M).astype(np.int64), axis=0)
    _, filled = np.unique(tiles[:, 0], return_counts=True)
    long_m = (filled * TILE_M >= FILLED_SHARE * needed_m).sum() * TILE_M  # what crosses the plane is a column or two
    side = cells @ plane[:3] + plane[3]
    behind = min((side > SHELL_M).mean(), (side < -SHELL_M).mean())
    return long_m >= (OUTER_WALL_M if behind <= BEHIND_SHARE else INNER_WALL_M)


def _area(xy: Float64[ndarray, "n 2"]) -> float:
    """Square metres of the tiles that the points touch."""
    return len(np.unique(np.floor(xy / TILE_M).astype(np.int64), axis=0)) * TILE_M**2


def _clusters(cells: Float64[ndarray, "M 3"], reach_m: float) -> Int64[ndarray, " M"]:
    """DBSCAN: cluster of each cell, the largest is 0; -1 = in none, or in one of too few cells."""
    result = np.full(len(cells), -1, dtype=np.int64)
    if len(cells) == 0:
        return result
    tree = cKDTree(cells)
    pairs = tree.query_pairs(reach_m, output_type="ndarray")
    neighbours = np.bincount(pairs.ravel(), minlength=len(cells)) + 1
    core = neighbours >= CORE_NEIGHBOURS
    if not core.any():
        return result
    joined = pairs[core[pairs].all(axis=1)]
    links = coo_array((np.ones(len(joined), bool), joined.T), shape=(len(cells), len(cells)))
    _, part = connected_components(links, directed=False)
    inside = np.flatnonzero(core)
    distance, nearest = cKDTree(cells[inside]).query(cells)
    part = np.where(distance <= reach_m, part[inside[nearest]], -1)  # a border cell follows the nearest core cell
    ids, first, size = np.unique(part[part >= 0], return_index=True, return_counts=True)
    order = np.lexsort((first, -size))
    number = np.full(len(cells), -1, dtype=np.int64)
    kept = [k for k in order if size[k] >= CLUSTER_CELLS]
    number[ids[kept]] = np.arange(len(kept))
    result[part >= 0] = number[part[part >= 0]]
    return result
