"""Walking distances on a grid of free cells: Dijkstra with buckets and whole-number steps.

Steps go to 16 neighbours: straight (5 units), diagonal (7) and knight's moves (11), one unit being a fifth of a cell
(1 cm for 5 cm cells). In open space the result is within -1.7 % and +2.0 % of the straight line (Borgefors 1986, 5-7-11
chamfer); a field is accurate to that plus half a cell at either end. Diagonal and knight's moves need the cells they
brush to be free, so a path never squeezes between two corners.
"""

import numpy as np
from jaxtyping import Bool, UInt16
from numba import njit
from numpy import ndarray

from core.errors import InputError

UNITS_PER_CELL = 5
UNREACHABLE = np.uint16(65_535)  # also the longest walk: 655 m at 5 cm
_LONGEST_STEP = 11


@njit(cache=True, nogil=True)
def _dijkstra(free, sources, costs):
    """Smallest cost of a source plus distance to it, in units, of each free cell; free is (H, W).

    Sources are flat indices of free cells in the order of their costs.
    """
    rows, cols = free.shape
    width = cols + 4  # two blocked cells all around spare the bounds checks
    total = (rows + 4) * width
    open_ = np.zeros(total, np.bool_)
    distance = np.full(total, np.int32(65_535), np.int32)
    ring = _LONGEST_STEP + 1
    head = np.full(ring, -1, np.int64)  # buckets are linked lists of queue entries
    capacity = 4 * rows * cols + len(sources) + 32
    node = np.empty(capacity, np.int32)
    link = np.empty(capacity, np.int64)
    used = 0
    for i in range(rows):
        for j in range(cols):
            open_[(i + 2) * width + j + 2] = free[i, j]
    waiting, following = 0, 0  # entries in the buckets; the next source to enter
    now = costs[0] if len(costs) else 0
    while waiting > 0 or following < len(sources):
        if waiting == 0 and costs[following] > now:
            now = costs[following]
        bucket = now % ring
        while following < len(sources) and costs[following] == now:
            source = sources[following]
            cell = (source // cols + 2) * width + source % cols + 2
            following += 1
            if distance[cell] > now:
                distance[cell] = now
                node[used], link[used] = cell, head[bucket]
                head[bucket] = used
                used += 1
                waiting += 1
        entry = head[bucket]
        if entry < 0:
            now += 1
            continue
        head[bucket] = link[entry]
        waiting -= 1
        cell = node[entry]
        if distance[cell] != now:
            continue  # a shorter way was found after this entry was queued
        if used + 32 > capacity:
            capacity *= 2
            longer_node, longer_link = np.empty(capacity, np.int32), np.empty(capacity, np.int64)
            longer_node[:used], longer_link[:used] = node[:used], link[:used]
            node, link = longer_node, longer_link
        for a in range(-2, 3):
            for b in range(-2, 3):
                near, far = min(abs(a), abs(b)), max(abs(a), abs(b))
                if far == 1:
                    cost = 5 if near == 0 else 7
                elif far == 2 and near == 1:
                    cost = 11
                else:
                    continue
                other = cell + a * width + b
                reached = now + cost
                if not open_[other] or reached >= distance[other]:
                    continue
                if far == 1 and near == 1:
                    if not (open_[cell + a * width] and open_[cell + b]):
                        continue
                elif far == 2:
                    straight = (a // 2) * width if abs(a) == 2 else (b // 2 if abs(b) == 2 else 0)
                    corner = straight + (b if abs(a) == 2 else a * width)
                    if not (open_[cell + straight] and open_[cell + corner]):
                        continue
                distance[other] = reached
                place = reached % ring
                node[used], link[used] = other, head[place]
                head[place] = used
                used += 1
                waiting += 1
    field = np.empty((rows, cols), np.uint16)
    for i in range(rows):
        for j in range(cols):
            field[i, j] = min(distance[(i + 2) * width + j + 2], 65_535)
    return field


def distance_field(
    free: Bool[ndarray, "H W"], target: Bool[ndarray, "H W"], onward: UInt16[ndarray, "H W"] | None = None
) -> UInt16[ndarray, "H W"]:
    """Walking distance of every cell to the nearest target cell, in fifths of a cell; UNREACHABLE where there is none.

    Args:
        free: cells the agent's centre may stand on.
        target: cells to reach; those that are not free are ignored.
        onward: what is still to be walked from each target cell; left out: nothing. The result is then the shortest
            way through the target and on, so fields can be chained through several places in turn.

    Raises:
        InputError: the grids differ in shape.
    """
    if free.shape != target.shape or free.ndim != 2 or (onward is not None and onward.shape != free.shape):
        shapes = f"{free.shape} and {target.shape}" + ("" if onward is None else f" and {onward.shape}")
        raise InputError(f"distance_field() needs grids of one shape, got {shapes}")
    sources = np.flatnonzero(free & target)
    if onward is None:
        costs = np.zeros(len(sources), np.int64)
    else:
        costs = onward.ravel()[sources].astype(np.int64)
        order = np.argsort(costs, kind="stable")
        order = order[costs[order] < UNREACHABLE]
        sources, costs = sources[order], costs[order]
    return _dijkstra(np.ascontiguousarray(free, dtype=np.bool_), sources, costs)
