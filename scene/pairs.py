"""What boxes are to each other: the measures of pairs of boxes that relations are made of, and which pairs to compare.

Measures are computed on first use and for listed pairs only, so that a home of many objects costs what its pairs
cost: `Pairs.rows` and `Pairs.columns` are index arrays that broadcast to a shape S (all pairs of N boxes: (N, 1) and
(1, N)), and every measure has that shape.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from numpy import ndarray

from core.errors import InputError
from scene.geometry import footprint

OVERLAP_TICKS: Final = 5
"""A footprint is sampled at the middles of 5 x 5 cells."""
_TICKS: Final = (np.arange(OVERLAP_TICKS) + 0.5) / OVERLAP_TICKS - 0.5
_GRID: Final = np.stack(np.meshgrid(_TICKS, _TICKS, indexing="ij"), axis=-1).reshape(-1, 2)
CROWD: Final = 100
"""Things of one group of which every pair is listed; rooms of the ProcTHOR train houses have up to 17 siblings."""
PAIRS_AT_ONCE: Final = 65_536
"""Pairs that are compared in one go; a corner array of so many takes 4 MiB."""


@dataclass(frozen=True)
class Viewpoint:
    """The viewer of left, right, behind and in front; see the head of scene/relations.py."""

    yaw_rad: float = 0.5 * np.pi  # where it looks, about +z from +x

    def __post_init__(self) -> None:
        if not np.isfinite(self.yaw_rad):
            raise InputError(f"viewpoint yaw is {self.yaw_rad}, expected a finite angle in radians")


@dataclass(frozen=True)
class Shapes:
    """N boxes, and what each of them is by itself."""

    boxes: Float64[ndarray, "N 7"]

    @cached_property
    def bottom(self) -> Float64[ndarray, " N"]:
        return self.boxes[:, 2] - 0.5 * self.boxes[:, 5]

    @cached_property
    def top(self) -> Float64[ndarray, " N"]:
        return self.boxes[:, 2] + 0.5 * self.boxes[:, 5]

    @cached_property
    def area(self) -> Float64[ndarray, " N"]:
        return self.boxes[:, 3] * self.boxes[:, 4]

    @cached_property
    def volume(self) -> Float64[ndarray, " N"]:
        return self.area * self.boxes[:, 5]

    @cached_property
    def half_diagonal(self) -> Float64[ndarray, " N"]:
        return 0.5 * np.hypot(self.boxes[:, 3], self.boxes[:, 4])

    @cached_property
    def half(self) -> Float64[ndarray, "N 2"]:
        return 0.5 * self.boxes[:, 3:5]

    @cached_property
    def turn(self) -> Float64[ndarray, "N 2"]:
        """Cosine and sine of the yaw."""
        return np.stack([np.cos(self.boxes[:, 6]), np.sin(self.boxes[:, 6])], axis=1)

    @cached_property
    def corners(self) -> Float64[ndarray, "N 4 2"]:
        """Corners of the footprints."""
        return footprint(self.boxes)

    @cached_property
    def height(self) -> float:
        """From the lowest bottom to the highest top."""
        return float(self.top.max() - self.bottom.min()) if len(self.boxes) else 0.0


@dataclass(frozen=True)
class Pairs:
    """Pairs of boxes; every measure speaks of the row's box relative to the column's."""

    shapes: Shapes
    viewpoint: Viewpoint
    rows: Int64[ndarray, "*#S"]
    columns: Int64[ndarray, "*#S"]
    height: float | Float64[ndarray, "*#S"]  # of all the things that a pair is compared among, see `Shapes.height`

    @property
    def boxes(self) -> Float64[ndarray, "N 7"]:
        return self.shapes.boxes

    @cached_property
    def reversed(self) -> "Pairs":
        """The same pairs with row and column exchanged."""
        return Pairs(self.shapes, self.viewpoint, self.columns, self.rows, self.height)

    def where(self, chosen: Bool[ndarray, "*S"]) -> "Pairs":
        """Only the chosen pairs, as a list (S = K)."""
        rows, columns = np.broadcast_arrays(self.rows, self.columns)
        height = self.height if isinstance(self.height, float) else np.broadcast_to(self.height, rows.shape)[chosen]
        return Pairs(self.shapes, self.viewpoint, rows[chosen], columns[chosen], height)

    def blocks(self) -> Iterator["Pairs"]:
        """A list of pairs (S = K) in parts that fit the processor's memory."""
        if len(self.rows) <= PAIRS_AT_ONCE:
            yield self
            return
        for start in range(0, len(self.rows), PAIRS_AT_ONCE):
            part = slice(start, start + PAIRS_AT_ONCE)
            height = self.height if isinstance(self.height, float) else self.height[part]
            yield Pairs(self.shapes, self.viewpoint, self.rows[part], self.columns[part], height)

    @cached_property
    def offset(self) -> Float64[ndarray, "*S 2"]:
        """Horizontal vector from the column's centre to the row's."""
        xy = self.boxes[:, :2]
        return xy[self.rows] - xy[self.columns]

    @cached_property
    def distance(self) -> Float64[ndarray, "*S"]:
        """Horizontal distance of centres."""
        return np.hypot(self.offset[..., 0], self.offset[..., 1])

    @cached_property
    def rightward(self) -> Float64[ndarray, "*S"]:
        """How far the row's centre is to the viewer's right of the column's."""
        yaw = self.viewpoint.yaw_rad
        return self.offset[..., 0] * np.sin(yaw) - self.offset[..., 1] * np.cos(yaw)

    @cached_property
    def forward(self) -> Float64[ndarray, "*S"]:
        """How much farther from the viewer the row's centre is than the column's."""
        yaw = self.viewpoint.yaw_rad
        return self.offset[..., 0] * np.cos(yaw) + self.offset[..., 1] * np.sin(yaw)

    @cached_property
    def clearance(self) -> Float64[ndarray, "*S"]:
        """Height of the row's bottom over the column's top; negative when it reaches below that."""
        return self.shapes.bottom[self.rows] - self.shapes.top[self.columns]

    @cached_property
    def rise(self) -> Float64[ndarray, "*S"]:
        """Height of the row's bottom over the column's bottom."""
        return self.shapes.bottom[self.rows] - self.shapes.bottom[self.columns]

    @cached_property
    def sunk(self) -> Float64[ndarray, "*S"]:
        """Share of the row's height that is below the column's top, -inf..1 and more."""
        return -self.clearance / self.boxes[self.rows, 5]

    @cached_property
    def reach(self) -> Float64[ndarray, "*S"]:
        """Both half diagonals together: circles around the footprints meet where the distance is this."""
        return self.shapes.half_diagonal[self.rows] + self.shapes.half_diagonal[self.columns]

    @cached_property
    def depth(self) -> Float64[ndarray, "*S"]:
        """How deep the row's centre lies in the column's footprint: metres to the nearest side, negative outside."""
        return self._within_sides.min(axis=-1)

    @cached_property
    def beside(self) -> Float64[ndarray, "*S"]:
        """How well the row's centre faces a side of the column's footprint, not a corner: positive when it does."""
        return self._within_sides.max(axis=-1)

    @cached_property
    def gap(self) -> Float64[ndarray, "*S"]:
        """Horizontal distance of the two footprints, 0 when they overlap."""
        # the shortest way between two separate convex shapes starts at a corner of one of them
        (near, apart), (near_too, apart_too) = self._corners_outside, self.reversed._corners_outside
        return np.where(apart | apart_too, np.minimum(near, near_too), 0.0)

    @cached_property
    def separation(self) -> Float64[ndarray, "*S"]:
        """Distance of the two boxes in space: of their footprints and of the heights they reach over."""
        clear = np.maximum(self.clearance, self.reversed.clearance)
        return np.hypot(self.gap, np.maximum(clear, 0.0))

    @cached_property
    def overlap(self) -> Float64[ndarray, "*S"]:
        """Share of the row's footprint that lies in the column's, on a grid of 5 x 5 points."""
        close = self.distance < self.reach
        rows, columns = (a[close] for a in np.broadcast_arrays(self.rows, self.columns))
        half, turn = self.shapes.half, self.shapes.turn
        away = turn[rows] * [1.0, -1.0]  # out of the row's frame
        points = _turned(_GRID * self.boxes[rows, None, 3:5], away[:, None])  # (K, 25, 2), about the centre
        seen = _turned(points + self.offset[close][:, None], turn[columns, None])
        share = np.zeros(self.distance.shape)
        share[close] = (np.abs(seen) <= half[columns, None] + 1e-9).all(axis=-1).mean(axis=1)
        return share

    @cached_property
    def _within_sides(self) -> Float64[ndarray, "*S 2"]:
        return self.shapes.half[self.columns] - np.abs(_turned(self.offset, self.shapes.turn[self.columns]))

    @cached_property
    def _corners_outside(self) -> tuple[Float64[ndarray, "*S"], Bool[ndarray, "*S"]]:
        """Distance of the row's nearest corner from the column's footprint, and whether a side of it parts the two."""
        from_centre = self.shapes.corners[self.rows] - self.boxes[self.columns, None, :2]  # (*S, 4, 2)
        local = _turned(from_centre, self.shapes.turn[self.columns][..., None, :])
        half = self.shapes.half[self.columns]
        outside = np.maximum(np.abs(local) - half[..., None, :], 0.0)
        near = np.hypot(outside[..., 0], outside[..., 1]).min(axis=-1)
        return near, ((local.min(axis=-2) >= half) | (local.max(axis=-2) <= -half)).any(axis=-1)


def _turned(vectors: Float[ndarray, "*s 2"], turn: Float[ndarray, "*t 2"]) -> Float64[ndarray, "*s 2"]:
    """Vectors in the frame of a box with this cosine and sine."""
    cos, sin = turn[..., 0], turn[..., 1]
    x, y = vectors[..., 0], vectors[..., 1]
    return np.stack([cos * x + sin * y, cos * y - sin * x], axis=-1)


def pairs_of(boxes: Float[ndarray, "N 7"], viewpoint: Viewpoint | None = None) -> Pairs:
    """All pairs of checked boxes (S = N, N). Raises InputError when they are not (N, 7) or not finite."""
    boxes = np.asarray(boxes, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 7:
        raise InputError(f"boxes have shape {boxes.shape}, expected (N, 7) (see core/conventions.py)")
    if not np.isfinite(boxes).all() or (boxes[:, 3:6] <= 0).any():
        raise InputError("boxes need finite numbers and positive sizes; drop or mend the others first")
    shapes, ids = Shapes(boxes), np.arange(len(boxes))
    return Pairs(shapes, viewpoint or Viewpoint(), ids[:, None], ids[None], shapes.height)


# --- which pairs to compare ---


def spans(group: Int64[ndarray, " N"]) -> tuple[Int64[ndarray, " N"], Int64[ndarray, " G"]]:
    """The ids 0..N-1 ordered by group and then by id, and where each group starts in that order."""
    order = np.argsort(group, kind="stable")
    start = np.flatnonzero(np.diff(group[order], prepend=group[order[:1]] - 1))
    return order, start


def pairs_after(end: Int64[ndarray, " N"]) -> tuple[Int64[ndarray, " K"], Int64[ndarray, " K"]]:
    """Every place k with every later place below end[k]: (k, k + 1), ..., (k, end[k] - 1)."""
    place = np.arange(len(end))
    count = np.maximum(end - place - 1, 0)
    first = np.repeat(place, count)
    skipped = np.repeat(np.cumsum(count) - count, count)
    return first, first + 1 + np.arange(len(first)) - skipped


def pairs_within(group: Int64[ndarray, " N"]) -> tuple[Int64[ndarray, " K"], Int64[ndarray, " K"]]:
    """Every pair a < b of one group."""
    order = np.argsort(group, kind="stable")
    first, second = pairs_after(np.searchsorted(group[order], group[order], side="right"))
    return order[first], order[second]


def pairs_that_meet(
    xy: Float64[ndarray, "N 2"], radius: Float64[ndarray, " N"]
) -> tuple[Int64[ndarray, " K"], Int64[ndarray, " K"]]:
    """Every pair a < b of overlapping circles, by a sweep along x: what N circles cost grows with their neighbours."""
    order = np.argsort(xy[:, 0] - radius, kind="stable")
    left, right = (xy[:, 0] - radius)[order], (xy[:, 0] + radius)[order]
    first, second = (order[place] for place in pairs_after(np.searchsorted(left, right)))
    meet = np.hypot(*(xy[first] - xy[second]).T) < radius[first] + radius[second]
    low, high = np.minimum(first[meet], second[meet]), np.maximum(first[meet], second[meet])
    place = np.lexsort((high, low))
    return low[place], high[place]


def pairs_near(
    group: Int64[ndarray, " N"], boxes: Float64[ndarray, "N 7"], within_m: float, crowd: int = CROWD
) -> tuple[Int64[ndarray, " K"], Int64[ndarray, " K"]]:
    """Pairs a < b of one group; in a group of more than `crowd`, only those whose surroundings meet.

    Surroundings: the circle around a footprint, wider by half of `within_m`; so no pair with a smaller gap is missed.
    """
    size = np.bincount(group)
    if size.max(initial=0) <= crowd:
        return pairs_within(group)
    radius = 0.5 * np.hypot(boxes[:, 3], boxes[:, 4]) + 0.5 * within_m
    small = np.flatnonzero(size[group] <= crowd)
    found = [tuple(small[part] for part in pairs_within(group[small]))]
    for large in np.flatnonzero(size > crowd):
        ids = np.flatnonzero(group == large)
        found.append(tuple(ids[part] for part in pairs_that_meet(boxes[ids, :2], radius[ids])))
    rows, columns = (np.concatenate(part) for part in zip(*found))
    return rows, columns
