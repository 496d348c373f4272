"""The 21 spatial relations, each a pure function of boxes.

Every function takes a `Pairs` (what N boxes are to each other, computed once) and returns a margin matrix: entry
[i, j] says by how much "i RELATION j" holds; it holds where the margin is positive. Margins are clearances to the
nearest threshold, in metres unless said otherwise.

Viewpoint: left, right, behind and in front are as seen by one viewer who stands outside the scene, far away, and looks
horizontally along `Viewpoint.yaw_rad`. The default viewer looks along +y: on a map with y up, left is left, and what is
farther up is behind. Where the viewer stands does not matter, only where it looks; so one rule serves every room, and
turning the home and the viewer together changes nothing.

Source: the relation set is that of SceneVerse (arXiv:2401.09340, section 3.2); thresholds marked [SV] are those of its
released script `preprocess/ssg`, [Sr3D] those of ReferIt3D's generator (Achlioptas et al., ECCV 2020), the others are
this project's. The published count takes near and far as variants of a direction; so does `reach`. Different here:
directions are measured angles instead of twelve clock bins, "far" compares with the objects' sizes as [SV] does, the
four proximity relations are nested by distance instead of drawn at random, and left/right mean the viewer's own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from numpy import ndarray

from core.errors import InputError
from scene.geometry import footprint


class Relation(StrEnum):
    """The published vocabulary. "i RELATION j": the subject comes first."""

    SUPPORTED_BY = "supported by"
    EMBEDDED_INTO = "embedded into"
    PLACED_IN = "placed in"
    INSIDE = "inside"
    HANGING_ON = "hanging on"
    AFFIXED_ON = "affixed on"
    MOUNTED_ON = "mounted on"
    ABOVE = "above"
    HIGHER_THAN = "higher than"
    BELOW = "below"
    LOWER_THAN = "lower than"
    LEFT_OF = "left of"
    RIGHT_OF = "right of"
    BEHIND = "behind"
    IN_FRONT_OF = "in front of"
    CLOSE_TO = "close to"
    ADJACENT_TO = "adjacent to"
    BESIDES = "besides"
    NEXT_TO = "next to"
    BETWEEN = "between"
    ALIGNED = "aligned"


R = Relation
FAMILIES: Final[dict[str, tuple[Relation, ...]]] = {
    "contact": (
        *(R.SUPPORTED_BY, R.EMBEDDED_INTO, R.PLACED_IN, R.INSIDE),
        *(R.HANGING_ON, R.AFFIXED_ON, R.MOUNTED_ON),
    ),
    "vertical": (R.ABOVE, R.HIGHER_THAN, R.BELOW, R.LOWER_THAN),
    "horizontal": (
        *(R.LEFT_OF, R.RIGHT_OF, R.BEHIND, R.IN_FRONT_OF),
        *(R.CLOSE_TO, R.ADJACENT_TO, R.BESIDES, R.NEXT_TO),
    ),
    "multi-object": (R.BETWEEN, R.ALIGNED),
}
CONVERSES: Final[dict[Relation, Relation]] = {
    R.ABOVE: R.BELOW,
    R.BELOW: R.ABOVE,
    R.HIGHER_THAN: R.LOWER_THAN,
    R.LOWER_THAN: R.HIGHER_THAN,
    R.LEFT_OF: R.RIGHT_OF,
    R.RIGHT_OF: R.LEFT_OF,
    R.BEHIND: R.IN_FRONT_OF,
    R.IN_FRONT_OF: R.BEHIND,
}
VIEW_DEPENDENT: Final = frozenset({R.LEFT_OF, R.RIGHT_OF, R.BEHIND, R.IN_FRONT_OF})
SYNONYMS: Final[dict[Relation, tuple[str, ...]]] = {
    R.SUPPORTED_BY: ("on", "on top of"),
    R.EMBEDDED_INTO: ("in", "set into"),
    R.PLACED_IN: ("in", "placed in"),
    R.INSIDE: ("in", "inside"),
    R.HANGING_ON: ("hanging on",),
    R.AFFIXED_ON: ("affixed to",),
    R.MOUNTED_ON: ("mounted on",),
    R.ABOVE: ("above", "over"),
    R.HIGHER_THAN: ("higher than",),
    R.BELOW: ("below", "under"),
    R.LOWER_THAN: ("lower than",),
    R.LEFT_OF: ("left of", "to the left of"),
    R.RIGHT_OF: ("right of", "to the right of"),
    R.BEHIND: ("behind",),
    R.IN_FRONT_OF: ("in front of",),
    R.CLOSE_TO: ("close to", "near"),
    R.ADJACENT_TO: ("adjacent to", "touching"),
    R.BESIDES: ("beside", "at the side of"),
    R.NEXT_TO: ("next to", "by"),
    R.BETWEEN: ("between", "in the middle of"),
    R.ALIGNED: ("aligned with", "in line with"),
}

ON_MIN_OVERLAP: Final = 0.3  # share of a thing's footprint that rests on its supporter [Sr3D]
ON_MAX_GAP_M: Final = 0.11  # a thing may hover this much: simulated houses are not settled (up to 10 cm measured)
ON_MAX_SINK_M: Final = 0.06  # or sink this much into a surface that is not quite its box's top
INSIDE_MIN_OVERLAP: Final = 0.6  # share of a thing's footprint that its container's footprint holds
PLACED_FROM, EMBEDDED_FROM, INSIDE_FROM = 0.5, 0.8, 0.95  # sunk share of a thing's height; the last two [SV]
VERTICAL_MIN_GAP_M: Final = 0.06  # clear space between a thing and what it is above [Sr3D]
ABOVE_REACH_M: Final = 0.2  # a painting above a bed hangs at the wall, a little off the bed's footprint
HIGHER_REACH: Final = 0.85  # of the height that the boxes span: how far sideways "higher than" still compares [SV]
FAR_FACTOR: Final = 1.5  # far: centres are farther apart than this times both half-diagonals together [SV]
ADJACENT_MAX_GAP_M: Final = 0.15  # touching [Sr3D]
NEXT_MAX_GAP_M: Final = 0.5  # a person hardly fits between
CLOSE_MAX_GAP_M: Final = 1.0  # one step
BETWEEN_MIN_ANGLE_RAD: Final = np.deg2rad(150.0)  # directions to both ends, opposite within one clock hour [SV]
ALIGNED_TOLERANCE: Final = 0.065  # metres, and square metres of footprint [SV]
ALIGNED_MIN_GROUP: Final = 3
WALL_REACH_M: Final = 0.12  # a thing hangs on a wall when its box comes this close to it


@dataclass(frozen=True)
class Viewpoint:
    """The viewer of left, right, behind and in front; see the file's head."""

    yaw_rad: float = 0.5 * np.pi  # where it looks, about +z from +x

    def __post_init__(self) -> None:
        if not np.isfinite(self.yaw_rad):
            raise InputError(f"viewpoint yaw is {self.yaw_rad}, expected a finite angle in radians")


@dataclass(frozen=True)
class Pairs:
    """What N boxes are to each other; every (N, N) array speaks of the row's box relative to the column's."""

    boxes: Float64[ndarray, "N 7"]
    viewpoint: Viewpoint = Viewpoint()

    @cached_property
    def offset(self) -> Float64[ndarray, "N N 2"]:
        """Horizontal vector from the column's centre to the row's."""
        xy = self.boxes[:, :2]
        return xy[:, None] - xy[None]

    @cached_property
    def distance(self) -> Float64[ndarray, "N N"]:
        """Horizontal distance of centres."""
        return np.hypot(self.offset[..., 0], self.offset[..., 1])

    @cached_property
    def rightward(self) -> Float64[ndarray, "N N"]:
        """How far the row's centre is to the viewer's right of the column's."""
        yaw = self.viewpoint.yaw_rad
        return self.offset[..., 0] * np.sin(yaw) - self.offset[..., 1] * np.cos(yaw)

    @cached_property
    def forward(self) -> Float64[ndarray, "N N"]:
        """How much farther from the viewer the row's centre is than the column's."""
        yaw = self.viewpoint.yaw_rad
        return self.offset[..., 0] * np.cos(yaw) + self.offset[..., 1] * np.sin(yaw)

    @cached_property
    def bottom(self) -> Float64[ndarray, " N"]:
        return self.boxes[:, 2] - 0.5 * self.boxes[:, 5]

    @cached_property
    def top(self) -> Float64[ndarray, " N"]:
        return self.boxes[:, 2] + 0.5 * self.boxes[:, 5]

    @cached_property
    def clearance(self) -> Float64[ndarray, "N N"]:
        """Height of the row's bottom over the column's top; negative when it reaches below that."""
        return self.bottom[:, None] - self.top[None]

    @cached_property
    def sunk(self) -> Float64[ndarray, "N N"]:
        """Share of the row's height that is below the column's top, -inf..1 and more."""
        return -self.clearance / self.boxes[:, None, 5]

    @cached_property
    def area(self) -> Float64[ndarray, " N"]:
        return self.boxes[:, 3] * self.boxes[:, 4]

    @cached_property
    def half_diagonal(self) -> Float64[ndarray, " N"]:
        return 0.5 * np.hypot(self.boxes[:, 3], self.boxes[:, 4])

    @cached_property
    def depth(self) -> Float64[ndarray, "N N"]:
        """How deep the row's centre lies in the column's footprint: metres to the nearest side, negative outside."""
        return (self._half[None] - np.abs(_turned(self.offset, self.boxes[:, 6]))).min(axis=-1)

    @cached_property
    def beside(self) -> Float64[ndarray, "N N"]:
        """How well the row's centre faces a side of the column's footprint, not a corner: positive when it does."""
        return (self._half[None] - np.abs(_turned(self.offset, self.boxes[:, 6]))).max(axis=-1)

    @cached_property
    def gap(self) -> Float64[ndarray, "N N"]:
        """Horizontal distance of the two footprints, 0 when they overlap."""
        if len(self.boxes) == 0:
            return np.zeros((0, 0))
        from_corner = self._corners - self.boxes[None, None, :, :2]  # (N, 4, N, 2)
        local = _turned(from_corner, self.boxes[:, 6])
        outside = np.maximum(np.abs(local) - self._half, 0.0)
        # the shortest way between two separate convex shapes starts at a corner of one of them
        corner_gap = np.hypot(outside[..., 0], outside[..., 1]).min(axis=1)
        apart = ((local.min(axis=1) >= self._half) | (local.max(axis=1) <= -self._half)).any(axis=-1)
        return np.where(apart | apart.T, np.minimum(corner_gap, corner_gap.T), 0.0)

    @cached_property
    def overlap(self) -> Float64[ndarray, "N N"]:
        """Share of the row's footprint that lies in the column's, on a grid of 5 x 5 points."""
        row, column = np.nonzero(self.distance < self.half_diagonal[:, None] + self.half_diagonal[None])
        ticks = (np.arange(5) + 0.5) / 5 - 0.5
        grid = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)
        points = _turned(grid * self.boxes[row, None, 3:5], -self.boxes[row, 6, None])  # (K, 25, 2), about the centre
        seen = _turned(points + self.offset[row, column][:, None], self.boxes[column, 6, None])
        share = np.zeros(self.distance.shape)
        share[row, column] = (np.abs(seen) <= self._half[column, None] + 1e-9).all(axis=-1).mean(axis=1)
        return share

    @cached_property
    def _half(self) -> Float64[ndarray, "N 2"]:
        return 0.5 * self.boxes[:, 3:5]

    @cached_property
    def _corners(self) -> Float64[ndarray, "N 4 1 2"]:
        return footprint(self.boxes)[:, :, None]


def _turned(vectors: Float[ndarray, "*s 2"], yaw: Float[ndarray, "*t"]) -> Float64[ndarray, "*s 2"]:
    """Vectors in the frame of a box with this yaw."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    x, y = vectors[..., 0], vectors[..., 1]
    return np.stack([cos * x + sin * y, cos * y - sin * x], axis=-1)


def pairs_of(boxes: Float[ndarray, "N 7"], viewpoint: Viewpoint | None = None) -> Pairs:
    """Pairs of checked boxes. Raises InputError when they are not (N, 7) or not finite."""
    boxes = np.asarray(boxes, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 7:
        raise InputError(f"boxes have shape {boxes.shape}, expected (N, 7) (see core/conventions.py)")
    if not np.isfinite(boxes).all() or (boxes[:, 3:6] <= 0).any():
        raise InputError("boxes need finite numbers and positive sizes; drop or mend the others first")
    return Pairs(boxes, viewpoint or Viewpoint())


# --- contact: geometry only; that a thing has one supporter, and labels, are the graph's business ---


def supported_by(p: Pairs) -> Float64[ndarray, "N N"]:
    """Stands on: rests within tolerance of the top, with enough of its footprint. Overlap counts as a share."""
    resting = np.minimum(ON_MAX_GAP_M - p.clearance, p.clearance + ON_MAX_SINK_M)
    return np.minimum(resting, p.overlap - ON_MIN_OVERLAP)


def contained_in(p: Pairs) -> Float64[ndarray, "N N"]:
    """Starts between bottom and top of the other, with most of its footprint in it."""
    between = np.minimum(p.bottom[:, None] - p.bottom[None], -p.clearance)
    return np.minimum(between, p.overlap - INSIDE_MIN_OVERLAP)


def placed_in(p: Pairs) -> Float64[ndarray, "N N"]:
    """In something open, standing out of it."""
    return np.minimum(contained_in(p), np.minimum(p.sunk - PLACED_FROM, EMBEDDED_FROM - p.sunk))


def embedded_into(p: Pairs) -> Float64[ndarray, "N N"]:
    """Sunk in almost to its top."""
    return np.minimum(contained_in(p), np.minimum(p.sunk - EMBEDDED_FROM, INSIDE_FROM - p.sunk))


def inside(p: Pairs) -> Float64[ndarray, "N N"]:
    """Swallowed whole, top included."""
    return np.minimum(contained_in(p), p.sunk - INSIDE_FROM)


# --- vertical, without contact ---


def above(p: Pairs) -> Float64[ndarray, "N N"]:
    """Clear space below it, and one of the two centres is over (or nearly over) the other's footprint."""
    reach = np.maximum(p.depth, p.depth.T) + ABOVE_REACH_M
    return np.minimum(p.clearance - VERTICAL_MIN_GAP_M, reach)


def below(p: Pairs) -> Float64[ndarray, "N N"]:
    return above(p).T


def higher_than(p: Pairs) -> Float64[ndarray, "N N"]:
    """Wholly higher, aside from it, not too far away."""
    span = p.top.max(initial=0.0) - p.bottom.min(initial=np.inf) if len(p.boxes) else 0.0
    aside = -(np.maximum(p.depth, p.depth.T) + ABOVE_REACH_M)
    near = HIGHER_REACH * span - p.distance
    return np.minimum(p.clearance - VERTICAL_MIN_GAP_M, np.minimum(aside, near))


def lower_than(p: Pairs) -> Float64[ndarray, "N N"]:
    return higher_than(p).T


# --- horizontal ---


def left_of(p: Pairs) -> Float64[ndarray, "N N"]:
    """In the quarter to the viewer's left: more to the left than to the front or back."""
    return -p.rightward - np.abs(p.forward)


def right_of(p: Pairs) -> Float64[ndarray, "N N"]:
    return p.rightward - np.abs(p.forward)


def behind(p: Pairs) -> Float64[ndarray, "N N"]:
    """In the quarter that is farther from the viewer."""
    return p.forward - np.abs(p.rightward)


def in_front_of(p: Pairs) -> Float64[ndarray, "N N"]:
    return -p.forward - np.abs(p.rightward)


def far(p: Pairs) -> Float64[ndarray, "N N"]:
    """Centres far apart for things of this size; the reach of a direction is near where this is negative."""
    return p.distance - FAR_FACTOR * (p.half_diagonal[:, None] + p.half_diagonal[None])


def close_to(p: Pairs) -> Float64[ndarray, "N N"]:
    return CLOSE_MAX_GAP_M - p.gap


def next_to(p: Pairs) -> Float64[ndarray, "N N"]:
    return NEXT_MAX_GAP_M - p.gap


def besides(p: Pairs) -> Float64[ndarray, "N N"]:
    """Next to, and facing a side rather than a corner (of one or the other)."""
    return np.minimum(NEXT_MAX_GAP_M - p.gap, np.maximum(p.beside, p.beside.T))


def adjacent_to(p: Pairs) -> Float64[ndarray, "N N"]:
    return ADJACENT_MAX_GAP_M - p.gap


MARGINS: Final[dict[Relation, Callable[[Pairs], Float64[ndarray, "N N"]]]] = {
    R.SUPPORTED_BY: supported_by,
    R.EMBEDDED_INTO: embedded_into,
    R.PLACED_IN: placed_in,
    R.INSIDE: inside,
    R.ABOVE: above,
    R.HIGHER_THAN: higher_than,
    R.BELOW: below,
    R.LOWER_THAN: lower_than,
    R.LEFT_OF: left_of,
    R.RIGHT_OF: right_of,
    R.BEHIND: behind,
    R.IN_FRONT_OF: in_front_of,
    R.CLOSE_TO: close_to,
    R.ADJACENT_TO: adjacent_to,
    R.BESIDES: besides,
    R.NEXT_TO: next_to,
}
"""The relations of two objects. Those of more (between, aligned) and of walls have functions of their own below."""


def between(p: Pairs) -> tuple[Int64[ndarray, "K 3"], Float64[ndarray, " K"]]:
    """Every (subject, a, b), a < b, with the subject near both and in the middle; margin in radians.

    The angle a-subject-b decides, so that being a little off the line matters more for close ends than for far ones.
    """
    near = far(p) < 0
    np.fill_diagonal(near, False)
    found, margins = [np.zeros((0, 3), dtype=np.int64)], [np.zeros(0)]
    for subject in range(len(p.boxes)):
        ends = np.flatnonzero(near[subject])
        ends = ends[p.distance[subject, ends] > 1e-6]
        towards = -p.offset[subject, ends] / p.distance[subject, ends, None]
        angle = np.arccos(np.clip(towards @ towards.T, -1.0, 1.0))
        a, b = np.nonzero(np.triu(angle > BETWEEN_MIN_ANGLE_RAD, k=1))
        found.append(np.stack([np.full(len(a), subject), ends[a], ends[b]], axis=1))
        margins.append(angle[a, b] - BETWEEN_MIN_ANGLE_RAD)
    return np.concatenate(found), np.concatenate(margins)


def aligned(p: Pairs) -> Float64[ndarray, "2 N N"]:
    """Of one size and height, and in one line: across the viewer's gaze [0], along it [1]."""
    same_size = ALIGNED_TOLERANCE - np.abs(p.area[:, None] - p.area[None])
    same_height = ALIGNED_TOLERANCE - np.abs(p.boxes[:, None, 2] - p.boxes[None, :, 2])
    alike = np.minimum(same_size, same_height)
    return np.stack([np.minimum(alike, ALIGNED_TOLERANCE - np.abs(line)) for line in (p.forward, p.rightward)])


def aligned_groups(p: Pairs) -> list[tuple[tuple[int, ...], float]]:
    """Groups of at least three boxes in a line, and the smallest margin that joins each, sorted."""
    groups = []
    for margin in aligned(p):
        joined = margin > 0
        for members in _components(joined):
            if len(members) >= ALIGNED_MIN_GROUP:
                links = margin[np.ix_(members, members)]
                weakest = float(np.where(links > 0, links, np.inf).min())
                groups.append((tuple(int(i) for i in members), weakest))
    return sorted(set(groups))


def _components(joined: Bool[ndarray, "N N"]) -> list[Int64[ndarray, " K"]]:
    from scipy.sparse.csgraph import connected_components

    if len(joined) == 0:
        return []
    count, label = connected_components(joined, directed=False)
    return [np.flatnonzero(label == k) for k in range(count)]


def wall_distance(boxes: Float[ndarray, "N 7"], polygon: Float[ndarray, "K 2"]) -> Float64[ndarray, " N"]:
    """Horizontal distance in metres from each footprint to the nearest wall of a room; 0 when it crosses one."""
    start = np.asarray(polygon, dtype=np.float64)
    along = np.roll(start, -1, axis=0) - start  # (K, 2)
    squared = np.maximum((along**2).sum(axis=1), 1e-12)
    corners = np.concatenate([footprint(boxes), np.asarray(boxes)[:, None, :2]], axis=1)  # (N, 5, 2)
    offset = corners[:, :, None] - start  # (N, 5, K, 2)
    share = np.clip((offset * along).sum(axis=-1) / squared, 0.0, 1.0)
    distance = np.linalg.norm(offset - share[..., None] * along, axis=-1)  # (N, 5, K)
    side = offset[..., 1] * along[:, 0] - offset[..., 0] * along[:, 1]
    crossing = ((side.min(axis=1) <= 0) & (side.max(axis=1) >= 0) & _faces(offset, along, squared)).any(axis=1)
    return np.where(crossing, 0.0, distance.min(axis=(1, 2)))


def _faces(offset: ndarray, along: ndarray, squared: ndarray) -> Bool[ndarray, "N K"]:
    """Whether some corner projects onto the wall itself rather than past its ends."""
    share = (offset * along).sum(axis=-1) / squared
    return ((share >= 0) & (share <= 1)).any(axis=1)
