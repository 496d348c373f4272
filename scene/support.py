"""What rests on what: one supporter for every object, from boxes, labels and rooms alone.

A source's own parent links (`SupportTruth`) never come in here; they are what the result is measured against. Follows
the idea of SceneVerse's script (arXiv:2401.09340, `preprocess/ssg`), whose measured misses shaped the differences:
gaps are compared with lengths, not with the height of the thing (a pencil is thin); nothing depends on the sign of a
coordinate; every candidate has a cost, and the cheapest one wins instead of the highest; a thing in the box of a bed or
a chair lies on it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Float64, Int64
from numpy import ndarray

from scene.relations import (
    EMBEDDED_FROM,
    INSIDE_FROM,
    ON_MAX_GAP_M,
    PLACED_FROM,
    WALL_REACH_M,
    Pairs,
    Relation,
    contained_in,
    supported_by,
    wall_distance,
)
from scene.types import Scene

FLOOR, WALL, CEILING = -1, -2, -3
"""Stand-ins for an object id, where the supporter is part of the room."""
SURFACE_NAMES: Final = {FLOOR: "floor", WALL: "wall", CEILING: "ceiling"}

FLOOR_MAX_GAP_M: Final = 0.05  # a thing stands on the floor up to this height over it
CEILING_MAX_GAP_M: Final = 0.12
WALL_MIN_HEIGHT_M: Final = 0.15  # what hangs on a wall starts at least this high
FLOATING_MAX_GAP_M: Final = 0.4  # a thing without any support drops onto what is below, this far at most
INSIDE_COST_M: Final = 0.005  # being in a thing counts like a gap of this size: its inner surface is unknown
OPEN_TOP_COST_M: Final = 0.12  # in the box of a chair under a table: any surface within reach wins
ROD_REACH_M: Final = 0.15  # a curtain hangs on a rod that is this close, seen from above, and as high at the top
MAX_AREA_RATIO: Final = 1.5  # a thing may stand out over its supporter, up to this ratio of footprints [Sr3D]

PART_OF_ROOM: Final = frozenset({"door", "doorway", "doorframe", "window", "wall", "curtain", "blinds"})
"""Labels and head nouns ("lamp" of "table lamp") of what belongs to a wall, however low it starts."""
FLAT: Final = PART_OF_ROOM | {"painting", "picture", "photo", "poster", "mirror", "clock", "towel", "sconce", "rod"}
"""Those of what carries nothing."""
OPEN_TOP: Final = frozenset(
    {"bed", "sofa", "couch", "chair", "armchair", "bench", "stool", "ottoman", "desk", "table", "toilet", "counter"}
)
"""Those whose box rises over the surface that carries: a headboard, a backrest, a cistern."""
SOLID: Final = frozenset(
    {
        "television",
        "tv",
        "laptop",
        "lamp",
        "plant",
        "houseplant",
        "statue",
        "vase",
        "bottle",
        "book",
        "pillow",
        "person",
    }
)
"""Those that nothing is inside of, whatever their boxes say."""


@dataclass(frozen=True)
class Support:
    """What carries each of N objects."""

    parent: Int64[ndarray, " N"]  # object id, or FLOOR, WALL, CEILING
    contact: list[Relation]  # how
    margin: Float64[ndarray, " N"]  # clearance to the nearest threshold that decided it, metres; 0 where none did
    rod: Int64[ndarray, " N"]  # for a curtain (whose parent is the wall) the id of the rod it hangs on, else -1
    level: Int64[ndarray, " N"]  # 0 on floor, wall or ceiling; 1 on such a thing; ...


def find_support(scene: Scene, room: Int64[ndarray, " N"]) -> Support:
    """Supporters of all objects. `room`: index of each object's room, -1 = unknown; supporters are of the same room."""
    count = len(scene.objects)
    boxes, labels = scene.boxes, scene.labels
    parent = np.full(count, FLOOR, dtype=np.int64)
    contact = [Relation.SUPPORTED_BY] * count
    margin = np.zeros(count)
    rod = np.full(count, -1, dtype=np.int64)
    for index in np.unique(room):
        ids = np.flatnonzero(room == index)
        own_room = scene.rooms[index] if index >= 0 else None
        p = Pairs(boxes[ids])
        floor_z = own_room.floor_z if own_room else float(p.bottom.min())
        ceiling_z = floor_z + own_room.height if own_room else np.inf
        to_wall = wall_distance(p.boxes, own_room.polygon) if own_room else np.full(len(ids), np.inf)
        words = [{labels[i], labels[i].split()[-1]} for i in ids]
        cost, sunk_in = _costs(p, words)
        best = cost.argmin(axis=1)
        for row, i in enumerate(ids):
            column, label = int(best[row]), words[row]
            height = p.bottom[row] - floor_z
            lowest = float(cost[row, column])
            part, _, _ = labels[i].partition(" ")
            if label & PART_OF_ROOM or part == "wall":
                parent[i] = WALL
                if "curtain" in label:
                    rod[i], margin[i] = _rod(p, row, ids, words)
            elif part == "ceiling":
                parent[i] = CEILING
            elif height <= FLOOR_MAX_GAP_M and not (lowest < np.inf and sunk_in[row, column] and not label & FLAT):
                parent[i], margin[i] = FLOOR, FLOOR_MAX_GAP_M - height
            elif lowest < np.inf:
                parent[i] = ids[column]
                margin[i] = ON_MAX_GAP_M - min(lowest, ON_MAX_GAP_M)
                if sunk_in[row, column]:
                    contact[i] = _wording(float(p.sunk[row, column]), words[column])
            elif to_wall[row] <= WALL_REACH_M and height > WALL_MIN_HEIGHT_M:
                parent[i], margin[i] = WALL, WALL_REACH_M - to_wall[row]
            elif ceiling_z - p.top[row] <= CEILING_MAX_GAP_M:
                parent[i], margin[i] = CEILING, CEILING_MAX_GAP_M - (ceiling_z - p.top[row])
            else:
                parent[i] = _below(p, row, ids, words, height)
            if parent[i] in (WALL, CEILING):
                contact[i] = _hanging(label)
    return Support(parent, contact, margin, rod, _levels(parent))


def _costs(p: Pairs, words: list[set[str]]) -> tuple[Float64[ndarray, "N N"], ndarray]:
    """Cost in metres of each supporter (inf = it is none), and whether the row is sunk into it."""
    # a supporter starts lower, or as low and is larger: a strict order, so that nothing carries itself through others
    volume = p.boxes[:, 3:6].prod(axis=1)
    lower = p.bottom[None] < p.bottom[:, None] - 1e-6
    as_low = np.abs(p.bottom[None] - p.bottom[:, None]) <= 1e-6
    allowed = lower | (as_low & (volume[None] > volume[:, None] * (1 + 1e-9)))
    allowed &= p.area[:, None] <= MAX_AREA_RATIO * p.area[None]
    carries = np.array([not w & FLAT for w in words])
    holds = np.array([not w & (FLAT | SOLID) for w in words])
    on = np.where((supported_by(p) > 0) & allowed & carries[None], np.abs(p.clearance), np.inf)
    within = (contained_in(p) > 0) & allowed & holds[None] & (volume[None] > volume[:, None])
    # of several containers the tightest one holds the thing
    open_top = np.array([bool(w & OPEN_TOP) for w in words])
    tight = np.where(open_top, OPEN_TOP_COST_M, INSIDE_COST_M) + 1e-3 * np.cbrt(volume)[None]
    in_ = np.where(within, tight, np.inf)
    return np.minimum(on, in_), in_ < on


def _wording(sunk: float, container: set[str]) -> Relation:
    if container & OPEN_TOP or sunk < PLACED_FROM:
        return Relation.SUPPORTED_BY
    if sunk < EMBEDDED_FROM:
        return Relation.PLACED_IN
    return Relation.EMBEDDED_INTO if sunk < INSIDE_FROM else Relation.INSIDE


def _hanging(label: set[str]) -> Relation:
    if label & {"mirror", "door", "doorway", "doorframe", "window"}:
        return Relation.AFFIXED_ON
    if label & {"tv", "television", "shelf", "cabinet", "lamp", "light", "sconce"}:
        return Relation.MOUNTED_ON
    return Relation.HANGING_ON


def _rod(p: Pairs, row: int, ids: Int64[ndarray, " n"], words: list[set[str]]) -> tuple[int, float]:
    """The rod a curtain hangs on and by which margin, or -1 and 0."""
    reach = ROD_REACH_M - np.maximum(p.gap[row], np.abs(p.top - p.top[row]))
    reach[["rod" not in w for w in words]] = -np.inf
    column = int(reach.argmax())
    return (int(ids[column]), float(reach[column])) if reach[column] > 0 else (-1, 0.0)


def _below(p: Pairs, row: int, ids: Int64[ndarray, " n"], words: list[set[str]], height: float) -> int:
    """Where a floating thing would land: the highest thing under its middle within reach, else the floor."""
    gap = np.where((p.depth[row] > 0) & (p.clearance[row] > 0), p.clearance[row], np.inf)
    gap[[bool(w & FLAT) for w in words]] = np.inf
    column = int(gap.argmin())
    return int(ids[column]) if gap[column] < min(FLOATING_MAX_GAP_M, height) else FLOOR


def _levels(parent: Int64[ndarray, " N"]) -> Int64[ndarray, " N"]:
    level = np.zeros(len(parent), dtype=np.int64)
    above = parent.copy()
    while (carried := above >= 0).any():
        level[carried] += 1
        above[carried] = parent[above[carried]]
    return level


def room_of_objects(scene: Scene) -> Int64[ndarray, " N"]:
    """Room index of every object: as given, else the room whose polygon holds the box centre, else -1."""
    return np.array(
        [item.room if item.room >= 0 else _room_at(scene, item.box[:2]) for item in scene.objects], np.int64
    )


def _room_at(scene: Scene, xy: Float[ndarray, "2"]) -> int:
    """The room whose polygon holds the point (even-odd rule), -1 = none."""
    for room in scene.rooms:
        start = np.asarray(room.polygon, dtype=np.float64)
        end = np.roll(start, -1, axis=0)
        crosses = (start[:, 1] > xy[1]) != (end[:, 1] > xy[1])
        rise = np.where(crosses, end[:, 1] - start[:, 1], 1.0)
        x = start[:, 0] + (xy[1] - start[:, 1]) / rise * (end[:, 0] - start[:, 0])
        if (crosses & (x > xy[0])).sum() % 2:
            return room.id
    return -1
