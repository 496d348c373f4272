"""The 21 spatial relations, each a pure function of boxes.

Every function takes a `Pairs` (scene/pairs.py: pairs of boxes and their measures) and returns a margin for each pair:
by how much "row RELATION column" holds; it holds where the margin is positive. Margins are clearances to the nearest
threshold, in metres unless said otherwise. For `pairs_of(boxes)`, all pairs, entry [i, j] speaks of box i and box j.

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
from enum import StrEnum
from typing import Final

import numpy as np
from jaxtyping import Float, Float64, Int64
from numpy import ndarray

from scene.geometry import footprint
from scene.pairs import Pairs, pairs_after
from scene.pairs import Viewpoint as Viewpoint  # the rule above is its meaning
from scene.pairs import pairs_of as pairs_of


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


# --- contact: geometry only; that a thing has one supporter, and labels, are the graph's business ---


def supported_by(p: Pairs) -> Float64[ndarray, "*S"]:
    """Stands on: rests within tolerance of the top, with enough of its footprint. Overlap counts as a share."""
    resting = np.minimum(ON_MAX_GAP_M - p.clearance, p.clearance + ON_MAX_SINK_M)
    return np.minimum(resting, p.overlap - ON_MIN_OVERLAP)


def contained_in(p: Pairs) -> Float64[ndarray, "*S"]:
    """Starts between bottom and top of the other, with most of its footprint in it."""
    return np.minimum(np.minimum(p.rise, -p.clearance), p.overlap - INSIDE_MIN_OVERLAP)


def lies_within(p: Pairs) -> Float64[ndarray, "*S"]:
    """Lies on a surface inside the other's box (a mattress below the headboard's top), with enough of its footprint."""
    return np.minimum(np.minimum(p.rise, -p.clearance), p.overlap - ON_MIN_OVERLAP)


def placed_in(p: Pairs) -> Float64[ndarray, "*S"]:
    """In something open, standing out of it."""
    return np.minimum(contained_in(p), np.minimum(p.sunk - PLACED_FROM, EMBEDDED_FROM - p.sunk))


def embedded_into(p: Pairs) -> Float64[ndarray, "*S"]:
    """Sunk in almost to its top."""
    return np.minimum(contained_in(p), np.minimum(p.sunk - EMBEDDED_FROM, INSIDE_FROM - p.sunk))


def inside(p: Pairs) -> Float64[ndarray, "*S"]:
    """Swallowed whole, top included."""
    return np.minimum(contained_in(p), p.sunk - INSIDE_FROM)


# --- vertical, without contact ---


def above(p: Pairs) -> Float64[ndarray, "*S"]:
    """Clear space below it, and one of the two centres is over (or nearly over) the other's footprint."""
    return np.minimum(p.clearance - VERTICAL_MIN_GAP_M, _over(p))


def below(p: Pairs) -> Float64[ndarray, "*S"]:
    return above(p.reversed)


def higher_than(p: Pairs) -> Float64[ndarray, "*S"]:
    """Wholly higher, aside from it, not too far away."""
    near = HIGHER_REACH * p.height - p.distance
    return np.minimum(p.clearance - VERTICAL_MIN_GAP_M, np.minimum(-_over(p), near))


def lower_than(p: Pairs) -> Float64[ndarray, "*S"]:
    return higher_than(p.reversed)


def _over(p: Pairs) -> Float64[ndarray, "*S"]:
    return np.maximum(p.depth, p.reversed.depth) + ABOVE_REACH_M


# --- horizontal ---


def left_of(p: Pairs) -> Float64[ndarray, "*S"]:
    """In the quarter to the viewer's left: more to the left than to the front or back."""
    return -p.rightward - np.abs(p.forward)


def right_of(p: Pairs) -> Float64[ndarray, "*S"]:
    return p.rightward - np.abs(p.forward)


def behind(p: Pairs) -> Float64[ndarray, "*S"]:
    """In the quarter that is farther from the viewer."""
    return p.forward - np.abs(p.rightward)


def in_front_of(p: Pairs) -> Float64[ndarray, "*S"]:
    return -p.forward - np.abs(p.rightward)


def far(p: Pairs) -> Float64[ndarray, "*S"]:
    """Centres far apart for things of this size; the reach of a direction is near where this is negative."""
    return p.distance - FAR_FACTOR * p.reach


def close_to(p: Pairs) -> Float64[ndarray, "*S"]:
    """Near in space: a ceiling lamp is not close to the chairs below it."""
    return CLOSE_MAX_GAP_M - p.separation


def next_to(p: Pairs) -> Float64[ndarray, "*S"]:
    return NEXT_MAX_GAP_M - p.separation


def besides(p: Pairs) -> Float64[ndarray, "*S"]:
    """Next to, and facing a side rather than a corner (of one or the other)."""
    return np.minimum(NEXT_MAX_GAP_M - p.separation, np.maximum(p.beside, p.reversed.beside))


def adjacent_to(p: Pairs) -> Float64[ndarray, "*S"]:
    return ADJACENT_MAX_GAP_M - p.separation


MARGINS: Final[dict[Relation, Callable[[Pairs], Float64[ndarray, "*S"]]]] = {
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
    `p` may list a pair in one order or in both.
    """
    close = p.where((far(p) < 0) & (p.distance > 1e-6))
    count = max(len(p.boxes), 1)
    low, high = np.minimum(close.rows, close.columns), np.maximum(close.rows, close.columns)
    low, high = np.divmod(np.unique(low * count + high), count)
    subject, end = np.concatenate([low, high]), np.concatenate([high, low])
    order = np.lexsort((end, subject))
    subject, end = subject[order], end[order]
    towards = p.boxes[end, :2] - p.boxes[subject, :2]
    towards /= np.hypot(towards[:, 0], towards[:, 1])[:, None]
    first, second = pairs_after(np.searchsorted(subject, subject, side="right"))
    angle = np.arccos(np.clip((towards[first] * towards[second]).sum(axis=1), -1.0, 1.0))
    wide = angle > BETWEEN_MIN_ANGLE_RAD
    triples = np.stack([subject[first], end[first], end[second]], axis=1)
    return triples[wide], angle[wide] - BETWEEN_MIN_ANGLE_RAD


def aligned(p: Pairs) -> Float64[ndarray, "2 *S"]:
    """Of one size and height, and in one line: across the viewer's gaze [0], along it [1]."""
    area, z = p.shapes.area, p.boxes[:, 2]
    same_size = ALIGNED_TOLERANCE - np.abs(area[p.rows] - area[p.columns])
    same_height = ALIGNED_TOLERANCE - np.abs(z[p.rows] - z[p.columns])
    alike = np.minimum(same_size, same_height)
    return np.stack([np.minimum(alike, ALIGNED_TOLERANCE - np.abs(line)) for line in (p.forward, p.rightward)])


def aligned_groups(p: Pairs) -> list[tuple[tuple[int, ...], float]]:
    """Groups of at least three boxes in a line, and the smallest margin that joins each, sorted.

    Boxes that are alike and in line (`aligned`) are in one group, and so are all that such links join.
    """
    found: dict[tuple[int, ...], float] = {}
    rows, columns = np.broadcast_arrays(p.rows, p.columns)
    for margin in aligned(p):
        joined = (margin > 0) & (rows != columns)
        links = np.stack([rows[joined], columns[joined]])
        if links.shape[1] < ALIGNED_MIN_GROUP - 1:
            continue
        for members, weakest in _joined(links, margin[joined]):
            if len(members) >= ALIGNED_MIN_GROUP:
                found[members] = max(weakest, found.get(members, 0.0))
    return sorted(found.items())


def _joined(links: Int64[ndarray, "2 K"], margin: Float64[ndarray, " K"]) -> list[tuple[tuple[int, ...], float]]:
    """The boxes that links join, directly or over others, and the smallest margin among them, group by group."""
    head: dict[int, int] = {}

    def head_of(box: int) -> int:
        path = [box]
        while (following := head.setdefault(path[-1], path[-1])) != path[-1]:
            path.append(following)
        head.update(dict.fromkeys(path, path[-1]))
        return path[-1]

    first, second = links.tolist()
    for a, b in zip(first, second):
        head[head_of(a)] = head_of(b)
    members: dict[int, list[int]] = {}
    for box in sorted(head):
        members.setdefault(head_of(box), []).append(box)
    weakest = dict.fromkeys(members, np.inf)
    for a, value in zip(first, margin.tolist()):
        weakest[head_of(a)] = min(weakest[head_of(a)], value)
    return [(tuple(boxes), weakest[top]) for top, boxes in members.items()]


def wall_distance(boxes: Float[ndarray, "N 7"], polygon: Float[ndarray, "K 2"]) -> Float64[ndarray, " N"]:
    """Horizontal distance in metres from each footprint to the nearest wall of a room; 0 when it crosses one."""
    boxes = np.asarray(boxes, dtype=np.float64)
    return wall_distances(boxes, [np.asarray(polygon, dtype=np.float64)], np.zeros(len(boxes), dtype=np.int64))


def wall_distances(
    boxes: Float64[ndarray, "N 7"], polygons: list[Float64[ndarray, "K 2"]], room: Int64[ndarray, " N"]
) -> Float64[ndarray, " N"]:
    """`wall_distance` of each box to the walls of its own room, an index into `polygons`."""
    if not len(boxes):
        return np.zeros(0)
    walls = np.array([len(polygon) for polygon in polygons])
    first = np.cumsum(walls) - walls
    start = np.concatenate(polygons)
    along = np.concatenate([np.roll(polygon, -1, axis=0) for polygon in polygons]) - start
    # every box with every wall of its room, box by box: M lines
    count = walls[room]
    box = np.repeat(np.arange(len(boxes)), count)
    begin = np.cumsum(count) - count
    wall = first[room][box] + np.arange(len(box)) - begin[box]
    corners = np.concatenate([footprint(boxes), boxes[:, None, :2]], axis=1)  # (N, 5, 2)
    offset, along = corners[box] - start[wall][:, None], along[wall][:, None]  # (M, 5, 2), (M, 1, 2)
    squared = np.maximum((along**2).sum(axis=-1), 1e-12)
    share = (offset * along).sum(axis=-1) / squared  # (M, 5)
    away = offset - np.clip(share, 0.0, 1.0)[..., None] * along
    distance = np.hypot(away[..., 0], away[..., 1]).min(axis=1)
    side = offset[..., 1] * along[..., 0] - offset[..., 0] * along[..., 1]
    # a corner on either side, and some corner beside the wall itself rather than past its ends
    crossing = (side.min(axis=1) <= 0) & (side.max(axis=1) >= 0) & ((share >= 0) & (share <= 1)).any(axis=1)
    return np.minimum.reduceat(np.where(crossing, 0.0, distance), begin)
