"""What rests on what: one supporter for every object, from boxes, labels and rooms alone.

A source's own parent links (`SupportTruth`) never come in here; they are what the result is measured against. Follows
the idea of SceneVerse's script (arXiv:2401.09340, `preprocess/ssg`), whose measured misses shaped the differences:
gaps are compared with lengths, not with the height of the thing (a pencil is thin); nothing depends on the sign of a
coordinate; every candidate has a cost, and the cheapest one wins instead of the highest; a thing in the box of a bed or
a chair lies on it.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from numpy import ndarray

from scene.pairs import Pairs, Shapes, Viewpoint, pairs_near
from scene.relations import (
    EMBEDDED_FROM,
    INSIDE_FROM,
    ON_MAX_GAP_M,
    ON_MAX_SINK_M,
    PLACED_FROM,
    WALL_REACH_M,
    Relation,
    contained_in,
    lies_within,
    supported_by,
    wall_distances,
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
OPEN_TOP_COST_M: Final = 0.12  # in the box of a chair under a table, or on its back: any surface within reach wins
ROD_REACH_M: Final = 0.15  # a curtain hangs on a rod that is this close, seen from above, and as high at the top
LEANING_COST_M: Final = 1.0  # a bat that leans in a corner of the bed: better than nothing, dearer than all else
SAME_HEIGHT_M: Final = 1e-6  # heights and costs that differ by less are the same: rounding must not choose
MAX_AREA_RATIO: Final = 1.5  # of footprints: what is larger needs its middle over the supporter [Sr3D]

PART_OF_ROOM: Final = frozenset({"door", "doorway", "doorframe", "window", "wall", "curtain", "blinds"})
"""Labels and head nouns ("lamp" of "table lamp") of what belongs to a wall, however low it starts."""
FLAT: Final = PART_OF_ROOM | {"painting", "picture", "photo", "poster", "mirror", "clock", "towel", "sconce", "rod"}
"""Those of what carries nothing."""
OPEN_TOP: Final = frozenset(
    {"bed", "sofa", "couch", "chair", "armchair", "bench", "stool", "ottoman", "desk", "table", "toilet", "counter"}
)
"""Those whose box rises over the surface that carries: a headboard, a backrest, a cistern."""
BACKED: Final = frozenset({"bed", "sofa", "couch", "chair", "armchair", "toilet"})
"""Those whose box ends at a thin upper edge: what lies as high as that more likely lies on the table beside it."""
MOUNTED: Final = frozenset({"tv", "television", "shelf", "cabinet", "lamp", "light", "sconce"})
"""Those that are mounted on a wall or a ceiling when nothing carries them."""
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
        "bat",
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


@dataclass(frozen=True)
class Traits:
    """What a label says about a thing; True where a label or its head noun ("lamp" of "table lamp") is listed above."""

    of_wall: bool  # PART_OF_ROOM, "wall ..."
    of_ceiling: bool  # "ceiling ..."
    flat: bool
    hangs: bool  # FLAT or MOUNTED
    solid: bool
    open_top: bool
    backed: bool
    words: frozenset[str]

    @cached_property
    def flags(self) -> tuple[bool, ...]:
        """In the order of _FLAGS."""
        return tuple(getattr(self, name) for name in _FLAGS)

    @classmethod
    @cache
    def of(cls, label: str) -> "Traits":
        words = frozenset({label, label.split()[-1] if label.split() else label})
        part, _, _ = label.partition(" ")
        return cls(
            of_wall=bool(words & PART_OF_ROOM) or part == "wall",
            of_ceiling=part == "ceiling",
            flat=bool(words & FLAT),
            hangs=bool(words & (FLAT | MOUNTED)),
            solid=bool(words & SOLID),
            open_top=bool(words & OPEN_TOP),
            backed=bool(words & BACKED),
            words=words,
        )


def find_support(scene: Scene, room: Int64[ndarray, " N"]) -> Support:
    """Supporters of all objects. `room`: index of each object's room, -1 = unknown; supporters are of the same room."""
    shapes, count = Shapes(scene.boxes), len(scene.objects)
    traits = [Traits.of(label) for label in scene.labels]
    flag = dict(zip(_FLAGS, np.array([t.flags for t in traits], dtype=bool).reshape(count, len(_FLAGS)).T))
    floor_z, ceiling_z = _storey(scene, room, shapes)
    height = shapes.bottom - floor_z
    p = _candidates(shapes, room, flag)
    carrier, sunk_in, sunk, clear = _cheapest(p, flag, height)
    landing = _landing(p, flag, height)

    on_floor = (height <= FLOOR_MAX_GAP_M) & ~(sunk_in & ~flag["flat"])
    carried = carrier >= 0
    given = flag["of_wall"] | flag["of_ceiling"] | on_floor | carried
    to_wall = _wall_distance(scene, room, shapes, ~given & (height > WALL_MIN_HEIGHT_M))
    to_ceiling = ceiling_z - shapes.top
    holds = [  # the first that does
        flag["of_wall"],
        flag["of_ceiling"],
        on_floor,
        carried,
        to_wall <= WALL_REACH_M,
        to_ceiling <= CEILING_MAX_GAP_M,
    ]
    surface = [np.full(count, number) for number in (WALL, CEILING, FLOOR, WALL, CEILING)]
    parent = np.select(holds, [*surface[:3], carrier, *surface[3:]], landing)
    none = np.zeros(count)
    margins = [none, none, FLOOR_MAX_GAP_M - height, clear, WALL_REACH_M - to_wall, CEILING_MAX_GAP_M - to_ceiling]
    margin = np.select(holds, margins, none)
    rod = _rods(shapes, room, traits, margin)
    contact = [Relation.SUPPORTED_BY] * count
    for index in np.flatnonzero((parent == WALL) | (parent == CEILING)).tolist():
        contact[index] = _hanging(traits[index].words)
    for index in np.flatnonzero((parent == carrier) & sunk_in).tolist():
        contact[index] = _wording(float(sunk[index]), traits[carrier[index]])
    return Support(parent, contact, margin, rod, _levels(parent))


_FLAGS: Final = ("of_wall", "of_ceiling", "flat", "hangs", "solid", "open_top", "backed")


def _storey(
    scene: Scene, room: Int64[ndarray, " N"], shapes: Shapes
) -> tuple[Float64[ndarray, " N"], Float64[ndarray, " N"]]:
    """Height of floor and ceiling at each thing; without a room, the lowest bottom and infinity."""
    unknown = room < 0
    ground = float(shapes.bottom[unknown].min()) if unknown.any() else 0.0
    floor = np.array([*(item.floor_z for item in scene.rooms), ground])  # room -1 is the last
    ceiling = np.array([*(item.floor_z + item.height for item in scene.rooms), np.inf])
    return floor[room], ceiling[room]


def _candidates(shapes: Shapes, room: Int64[ndarray, " N"], flag: dict[str, ndarray]) -> Pairs:
    """Things (rows) with what is below or around them (columns) and could carry them, in one room."""
    _, group = np.unique(room, return_inverse=True)
    low, high = pairs_near(group, shapes.boxes, within_m=0.0)
    xy, reach = shapes.boxes[:, :2], shapes.half_diagonal
    meet = np.hypot(*(xy[low] - xy[high]).T) < reach[low] + reach[high]
    low, high = low[meet], high[meet]
    rows, columns = np.concatenate([low, high]), np.concatenate([high, low])
    # a supporter starts lower, or as low and is larger: a strict order, so that nothing carries itself through others
    step = np.round(shapes.bottom / SAME_HEIGHT_M)
    lower = step[columns] < step[rows]
    larger = (step[columns] == step[rows]) & (shapes.volume[columns] > shapes.volume[rows] * (1 + 1e-9))
    chosen = (lower | larger) & ~flag["flat"][columns]
    return Pairs(shapes, Viewpoint(), rows[chosen], columns[chosen], 0.0)


def _cheapest(
    p: Pairs, flag: dict[str, ndarray], height: Float64[ndarray, " N"]
) -> tuple[Int64[ndarray, " N"], Bool[ndarray, " N"], Float64[ndarray, " N"], Float64[ndarray, " N"]]:
    """The supporter of least cost (-1 = none), whether the thing is sunk into it, how far, and the margin in metres."""
    area, volume = p.shapes.area, p.shapes.volume
    p = p.where(p.clearance < ON_MAX_GAP_M)
    rows, columns = p.rows, p.columns
    fits = area[rows] <= MAX_AREA_RATIO * area[columns]
    balanced = fits | (p.depth > 0)  # a wide screen on a narrow stand does not fall while its middle is over the stand
    top_cost = np.abs(p.clearance) + np.where(flag["backed"][columns], OPEN_TOP_COST_M, 0.0)
    on = np.where((supported_by(p) > 0) & balanced, top_cost, np.inf)
    open_top = flag["open_top"][columns]
    # what may as well hang on the wall behind the bed is on the bed only when most of it is
    held = np.where(open_top & ~flag["hangs"][rows], lies_within(p), contained_in(p)) > 0
    within = held & fits & ~flag["solid"][columns] & (volume[columns] > volume[rows])
    # of several containers the tightest one holds the thing
    tight = np.where(open_top, OPEN_TOP_COST_M, INSIDE_COST_M) + 1e-3 * np.cbrt(volume[columns])
    # what is partly in the box of another, and neither on the floor nor of a kind that hangs, leans there
    leans = (p.overlap > 0) & (p.rise > 0) & (p.clearance < 0) & (height[rows] > FLOOR_MAX_GAP_M)
    leans &= fits & ~flag["hangs"][rows] & ~flag["solid"][columns]
    in_ = np.where(within, tight, np.where(leans, LEANING_COST_M + 1.0 - p.overlap, np.inf))
    cost = np.round(np.minimum(on, in_) / SAME_HEIGHT_M) * SAME_HEIGHT_M
    order = np.lexsort((columns, volume[columns], np.round(p.distance / SAME_HEIGHT_M), cost, rows))
    order = order[np.isfinite(cost[order])]
    thing, first = np.unique(rows[order], return_index=True)
    best = order[first]
    sunk_in = (in_ < on)[best]
    upright = np.minimum(p.rise, -p.clearance), np.minimum(ON_MAX_GAP_M - p.clearance, p.clearance + ON_MAX_SINK_M)
    depth = np.where(within, p.sunk, 0.0)[best]  # what leans in a cupboard's door is not inside it
    found = (columns[best], sunk_in, depth, np.where(sunk_in, *(margin[best] for margin in upright)))
    count = len(height)
    carrier, inside, sunk, clear = np.full(count, -1), np.zeros(count, bool), np.zeros(count), np.zeros(count)
    carrier[thing], inside[thing], sunk[thing], clear[thing] = found
    return carrier, inside, sunk, clear


def _landing(p: Pairs, flag: dict[str, ndarray], height: Float64[ndarray, " N"]) -> Int64[ndarray, " N"]:
    """Where a floating thing would land: the highest thing under its middle within reach, else the floor."""
    p = p.where((p.clearance > 0) & (p.clearance < np.minimum(FLOATING_MAX_GAP_M, height[p.rows])))
    p = p.where(p.depth > 0)
    order = np.lexsort((p.columns, np.round(p.clearance / SAME_HEIGHT_M), p.rows))
    thing, first = np.unique(p.rows[order], return_index=True)
    below = np.full(len(height), FLOOR, dtype=np.int64)
    below[thing] = p.columns[order][first]
    return below


def _wall_distance(
    scene: Scene, room: Int64[ndarray, " N"], shapes: Shapes, asked: Bool[ndarray, " N"]
) -> Float64[ndarray, " N"]:
    """Distance in metres to the nearest wall of the room, of those asked for that have a room; infinite for others."""
    distance = np.full(len(room), np.inf)
    ids = np.flatnonzero(asked & (room >= 0))
    if len(ids):
        polygons = [np.asarray(item.polygon, dtype=np.float64) for item in scene.rooms]
        distance[ids] = wall_distances(shapes.boxes[ids], polygons, room[ids])
    return distance


def _wording(sunk: float, container: Traits) -> Relation:
    if container.open_top or sunk < PLACED_FROM:
        return Relation.SUPPORTED_BY
    if sunk < EMBEDDED_FROM:
        return Relation.PLACED_IN
    return Relation.EMBEDDED_INTO if sunk < INSIDE_FROM else Relation.INSIDE


def _hanging(words: frozenset[str]) -> Relation:
    if words & {"mirror", "door", "doorway", "doorframe", "window"}:
        return Relation.AFFIXED_ON
    if words & MOUNTED:
        return Relation.MOUNTED_ON
    return Relation.HANGING_ON


def _rods(
    shapes: Shapes, room: Int64[ndarray, " N"], traits: list[Traits], margin: Float64[ndarray, " N"]
) -> Int64[ndarray, " N"]:
    """The rod that each curtain hangs on (-1 = none); writes by how much into `margin`."""
    rod = np.full(len(room), -1, dtype=np.int64)
    curtains = np.array([k for k, t in enumerate(traits) if "curtain" in t.words and t.of_wall], dtype=np.int64)
    rods = np.array([k for k, t in enumerate(traits) if "rod" in t.words], dtype=np.int64)
    if not len(curtains) or not len(rods):
        return rod
    p = Pairs(shapes, Viewpoint(), curtains[:, None], rods[None], 0.0)
    apart = np.maximum(p.gap, np.abs(shapes.top[curtains][:, None] - shapes.top[rods][None]))
    reach = np.where(room[curtains][:, None] == room[rods][None], ROD_REACH_M - apart, -np.inf)
    best = reach.argmax(axis=1)
    value = reach[np.arange(len(curtains)), best]
    rod[curtains[value > 0]], margin[curtains[value > 0]] = rods[best[value > 0]], value[value > 0]
    return rod


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
