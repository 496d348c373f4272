"""Furnished homes from a seed: rectangular rooms with walls, doors and windows, and what people put into them.

The same (seed, config) gives the same home. Splits draw from separate random streams; train and val homes never show a
held-out colour x class pair (scene/palette.py); in test homes they are twice as likely as other colours of the class.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from core.errors import InputError, nearest
from scene import palette
from scene.datasets.draft import CLEARANCE_M, HomeDraft, RoomDraft, Wall
from scene.datasets.furnishing import ROOM_KINDS, Furnisher
from scene.datasets.shell import MeshParts, wall_boxes
from scene.palette import GOAL_COLORS, GOAL_LABELS, HELD_OUT_PAIRS
from scene.types import Door, Room, Scene, SupportTruth

__all__ = [
    "GOAL_COLORS",
    "GOAL_LABELS",
    "HELD_OUT_PAIRS",
    "HomeConfig",
    "generate_home",
    "generate_home_with_truth",
    "load",
]

SPLITS = {"train": 0, "val": 1, "test": 2}
HALF_WALL_M = 0.07  # a wall between rooms is two of these
HEIGHT_M = 2.6
DOOR_M = (1.05, 2.1)  # the hole; its frame leaves 0.95 m
CURTAIN_TOP_M = 2.2


@dataclass(frozen=True)
class HomeConfig:
    """What homes look like.

    Raises:
        InputError: an unknown split, or room counts or sizes that make no home.
    """

    split: str = "train"  # train | val | test; train and val leave out HELD_OUT_PAIRS, test favours them
    rooms_min: int = 1
    rooms_max: int = 2  # at most 6
    side_min_m: float = 3.6  # shortest side of a room
    side_max_m: float = 5.6  # longest side of a room
    clutter: float = 0.7  # how many small things, 0 = none, 1 = a lived-in home
    goals_min: int = 3  # at least so many things of GOAL_LABELS in a home

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise InputError(f"no split {self.split!r}; {nearest(self.split, SPLITS)}")
        if not 1 <= self.rooms_min <= self.rooms_max <= 6:
            raise InputError(f"rooms_min={self.rooms_min}, rooms_max={self.rooms_max}: expected 1 <= min <= max <= 6")
        if self.side_min_m < 3.0 or self.side_max_m < 1.5 * self.side_min_m:
            raise InputError(
                f"side_min_m={self.side_min_m}, side_max_m={self.side_max_m}: rooms need at least 3 m a side and a "
                "longest side of at least 1.5 times the shortest"
            )
        if self.clutter < 0:
            raise InputError(f"clutter={self.clutter} is negative")


def load(seeds: Iterable[int], config: HomeConfig | None = None) -> Iterator[Scene]:
    """One home per seed."""
    config = config or HomeConfig()
    for seed in seeds:
        yield generate_home(seed, config)


def generate_home(seed: int, config: HomeConfig | None = None) -> Scene:
    """The home of a seed; its id is "procedural-<split>-<seed, five digits>"."""
    return generate_home_with_truth(seed, config)[0]


def generate_home_with_truth(seed: int, config: HomeConfig | None = None) -> tuple[Scene, SupportTruth]:
    """The home of a seed, and what rests on or in what (never shown to graph builders).

    Raises:
        InputError: a negative seed.
    """
    config = config or HomeConfig()
    if seed < 0:
        raise InputError(f"seed {seed} is negative; seeds are 0, 1, 2, ...")
    rng = np.random.default_rng([SPLITS[config.split], seed])
    count = int(rng.integers(config.rooms_min, config.rooms_max + 1))
    cells = _cells(count, config, rng)
    kinds = _kinds(count, rng)
    rooms = [
        RoomDraft(k, kinds[k], np.array(cell[:2]) + HALF_WALL_M, np.array(cell[2:]) - HALF_WALL_M)
        for k, cell in enumerate(cells)
    ]
    home = HomeDraft(rooms, rng, held_out=config.split == "test")
    doors = _doors(home, cells, rng)
    exterior = _exterior(cells)
    _windows(home, exterior, rng)

    people = Furnisher(home, config.clutter)
    for room in rooms:
        ROOM_KINDS[room.kind](people, room.index)
    people.top_up(config.goals_min)
    for room in rooms:
        people.details(room.index)

    shell = MeshParts()
    _build_shell(shell, rooms, cells, exterior, rng)
    objects, truth = home.finish(shell)
    scene = Scene(
        id=f"procedural-{config.split}-{seed:05d}",
        source="procedural",
        objects=objects,
        rooms=[
            Room(room.index, room.kind, np.stack([wall.start for wall in room.walls]), 0.0, HEIGHT_M) for room in rooms
        ],
        doors=doors,
        mesh=shell.mesh(),
    )
    return scene, truth


Cell = tuple[float, float, float, float]
"""x from, y from, x to, y to of a room measured to the middle of its walls."""


def _cells(count: int, config: HomeConfig, rng: np.random.Generator) -> list[Cell]:
    """Splits a rectangle into one or two rows, and each row into rooms."""
    low, high = config.side_min_m + 2 * HALF_WALL_M, config.side_max_m + 2 * HALF_WALL_M
    rows = [count] if count <= 3 else [count // 2, count - count // 2]
    most, least = max(rows), min(rows)
    width = float(rng.uniform(most * low, max(most * low, least * high)))
    if least == most:  # room for sides in between: not always the widest
        width = float(rng.uniform(most * low, most * 0.5 * (low + high)))
    cells: list[Cell] = []
    y = 0.0
    for number in rows:
        depth = float(rng.uniform(low, high if number == 1 else 0.5 * (low + high)))
        cuts = [0.0]
        for k in range(number - 1):  # every room left of and right of a cut keeps its shortest and longest side
            rest = number - k - 1
            first = max(cuts[-1] + low, width - rest * high)
            last = min(cuts[-1] + high, width - rest * low)
            cuts.append(float(rng.uniform(first, last)))
        cuts.append(width)
        cells += [(a, y, b, y + depth) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
        y += depth
    if rng.random() < 0.5:  # along y as often as along x
        cells = [(c[1], c[0], c[3], c[2]) for c in cells]
    return cells


def _kinds(count: int, rng: np.random.Generator) -> list[str]:
    """Kinds of rooms: each at most once before any repeats; a bathroom only beside two other rooms."""
    main = ["living room", "bedroom", "kitchen", "dining room", "office"]
    picked = [str(name) for name in rng.permutation(main)[:count]]
    picked += ["bedroom"] * (count - len(picked))
    if count >= 3:
        picked[int(rng.integers(1, count))] = "bathroom"
    return picked


def _shared(a: Cell, b: Cell) -> tuple[int, float, float, float] | None:
    """The common wall of two cells: axis it stands across (0 = x), its coordinate, from and to along it."""
    for axis in (0, 1):
        other = 1 - axis
        for at, opposite in ((a[axis + 2], b[axis]), (a[axis], b[axis + 2])):
            if abs(at - opposite) < 1e-6:
                low, high = max(a[other], b[other]), min(a[other + 2], b[other + 2])
                if high - low > DOOR_M[0] + 0.8:
                    return axis, at, low, high
    return None


def _side(axis: int, outward: bool) -> int:
    """Index of a room's wall: across x (axis 0) east or west, across y north or south."""
    return (1 if outward else 3) if axis == 0 else (2 if outward else 0)


def _cut(wall: Wall, point: Float[ndarray, "2"], width: float, z: tuple[float, float]) -> None:
    """Records a hole of a wall around the point nearest to `point`."""
    along = float((point - wall.start) @ wall.along)
    wall.openings.append((along - 0.5 * width, along + 0.5 * width, *z))


def _doors(home: HomeDraft, cells: list[Cell], rng: np.random.Generator) -> list[Door]:
    """Open passages that connect all rooms, and a closed entrance."""
    pairs = [
        (i, j, wall)
        for i in range(len(cells))
        for j in range(i + 1, len(cells))
        if (wall := _shared(cells[i], cells[j])) is not None
    ]
    pairs = [pairs[k] for k in rng.permutation(len(pairs))]
    group = list(range(len(cells)))
    doors: list[Door] = []
    for i, j, (axis, at, low, high) in pairs:
        if group[i] == group[j] and rng.random() > 0.4:
            continue
        group = [group[i] if g == group[j] else g for g in group]
        along = float(rng.uniform(low + 0.4 + 0.5 * DOOR_M[0], high - 0.4 - 0.5 * DOOR_M[0]))
        point = np.array([at, along]) if axis == 0 else np.array([along, at])
        yaw = 0.0 if axis == 0 else 0.5 * np.pi
        outward = cells[i][axis + 2] == at
        _cut(home.rooms[i].walls[_side(axis, outward)], point, DOOR_M[0], (0.0, DOOR_M[1]))
        _cut(home.rooms[j].walls[_side(axis, not outward)], point, DOOR_M[0], (0.0, DOOR_M[1]))
        box = np.array([*point, 0.5 * DOOR_M[1], 2 * HALF_WALL_M + 0.03, *DOOR_M, yaw])
        home.put("door", box, i, color=home.color("door", ("white", "brown", "gray")), shape="open door")
        doors.append(Door(len(doors), box, (i, j), open=True))
        normal = np.array([1.0, 0.0]) if axis == 0 else np.array([0.0, 1.0])
        across = normal[::-1]
        passage = 0.5 * DOOR_M[0] - 0.05 - CLEARANCE_M
        reach = (HALF_WALL_M + CLEARANCE_M + 0.1) * normal + passage * across
        home.open_floor(point - reach, point + reach)
        zone = 0.8 * normal + (0.5 * DOOR_M[0] + 0.05) * across
        home.zones.append((*(point - zone), 0.0, *(point + zone), DOOR_M[1] + 0.1))  # type: ignore[arg-type]
    doors.append(_entrance(home, cells, len(doors), rng))
    return doors


def _exterior(cells: list[Cell]) -> list[list[bool]]:
    """For each room, which of its four walls is an outer one."""
    low = [min(c[k] for c in cells) for k in (0, 1)]
    high = [max(c[k] for c in cells) for k in (2, 3)]
    return [
        [abs(c[1] - low[1]) < 1e-6, abs(c[2] - high[0]) < 1e-6, abs(c[3] - high[1]) < 1e-6, abs(c[0] - low[0]) < 1e-6]
        for c in cells
    ]


def _entrance(home: HomeDraft, cells: list[Cell], index: int, rng: np.random.Generator) -> Door:
    """A closed door in an outer wall."""
    outer = [(r, s) for r, sides in enumerate(_exterior(cells)) for s, out in enumerate(sides) if out]
    r, s = outer[int(rng.integers(len(outer)))]
    wall = home.rooms[r].walls[s]
    width = 0.95
    at = float(rng.uniform(0.3 + 0.5 * width, wall.length - 0.3 - 0.5 * width))
    foot = wall.start + at * wall.along
    wall.openings.append((at - 0.5 * width, at + 0.5 * width, 0.0, DOOR_M[1]))
    box = np.array([*(foot - HALF_WALL_M * wall.inward), 0.5 * DOOR_M[1], 2 * HALF_WALL_M, width, DOOR_M[1], wall.yaw])
    home.put("door", box, r, color=home.color("door", ("white", "brown", "red", "blue", "green")))
    before = foot + 0.4 * wall.inward
    reach = 0.4 * np.abs(wall.inward) + (0.5 * width + 0.05) * np.abs(wall.along)
    home.zones.append((*(before - reach), 0.0, *(before + reach), DOOR_M[1] + 0.1))  # type: ignore[arg-type]
    return Door(index, box, (r, -1), open=False)


def _windows(home: HomeDraft, exterior: list[list[bool]], rng: np.random.Generator) -> None:
    """One or two windows per room in outer walls, some with curtains on a rod."""
    for room in home.rooms:
        sides = [s for s in range(4) if exterior[room.index][s]]
        for s in rng.permutation(sides)[: int(rng.integers(1, 3))]:
            wall = room.walls[int(s)]
            width, sill, top = float(rng.uniform(1.0, 1.5)), 0.95, 2.05
            at = float(rng.uniform(0.5 + 0.5 * width, wall.length - 0.5 - 0.5 * width))
            hole = (at - 0.5 * width, at + 0.5 * width)
            if any(hole[0] < o[1] + 0.4 and o[0] - 0.4 < hole[1] for o in wall.openings):
                continue
            foot = wall.start + at * wall.along
            center = foot - HALF_WALL_M * wall.inward
            box = np.array([*center, 0.5 * (sill + top), 2 * HALF_WALL_M, width, top - sill, wall.yaw])
            home.put("window", box, room.index, color="white")
            if rng.random() < 0.5:
                _curtains(home, room.index, int(s), at, width, rng)
            wall.openings.append((*hole, sill, top))
            before = foot + 0.2 * wall.inward
            reach = 0.2 * np.abs(wall.inward) + 0.5 * width * np.abs(wall.along)
            home.zones.append((*(before - reach), sill, *(before + reach), top))  # type: ignore[arg-type]


def _curtains(home: HomeDraft, room: int, side: int, at: float, width: float, rng: np.random.Generator) -> None:
    """A rod over a window and a curtain at one or both of its sides, hanging to below the sill."""
    drop, cloth = float(rng.uniform(1.4, 1.5)), 0.28
    rod = np.array([0.05, width + 2 * cloth + 0.06, 0.05])
    made = home.try_hang(
        "curtain rod", rod, room, CURTAIN_TOP_M, side=side, at=at, zones=False, out_m=0.04,
        color=home.color("curtain rod", ("brown", "gray", "black")),
    )  # fmt: skip
    if made is None:
        return
    color = home.color("curtain", ("red", "yellow", "green", "blue", "purple", "pink", "gray", "white"))
    for end in (-1, 1) if rng.random() < 0.7 else (1,):
        place = at + end * 0.5 * (width + cloth)
        size = np.array([0.09, cloth, drop])
        home.try_hang(
            "curtain",
            size,
            room,
            CURTAIN_TOP_M - drop,
            side=side,
            at=place,
            zones=False,
            out_m=0.02,
            color=color,
            ignore=made,
        )


def _build_shell(
    shell: MeshParts, rooms: list[RoomDraft], cells: list[Cell], exterior: list[list[bool]], rng: np.random.Generator
) -> None:
    """Floors, walls with baseboards, ceilings, and a plain rug in some rooms."""
    for room, cell in zip(rooms, cells, strict=True):
        low, high = np.array(cell[:2]), np.array(cell[2:])
        wet = room.kind in ("kitchen", "bathroom")
        tones = palette.TILE_FLOORS if wet else palette.WOOD_FLOORS
        tile = (0.6, 0.6) if wet else ((1.6, 0.24) if rng.random() < 0.5 else (0.24, 1.6))
        shell.floor(low, high, tile, tones[int(rng.integers(len(tones)))], rng)
        corners = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
        shell.polygon(corners, HEIGHT_M, palette.CEILING, up=False)
        shade = palette.WALLS[int(rng.integers(len(palette.WALLS)))]
        accent = int(rng.integers(4))
        for s, wall in enumerate(room.walls):
            outer = 2 * HALF_WALL_M if exterior[room.index][s] else HALF_WALL_M
            # walls run counter-clockwise: their left is the room, their right the outside; corners are filled too
            start, end = wall.start - HALF_WALL_M * wall.along, wall.end + HALF_WALL_M * wall.along
            holes = [(a + HALF_WALL_M, b + HALF_WALL_M, c, d) for a, b, c, d in wall.openings]
            tint = tuple(int(v * (0.95 if s == accent else 1.0)) for v in shade)
            shell.boxes(wall_boxes(start, end, HEIGHT_M, (0.0, outer), holes), tint)  # type: ignore[arg-type]
            gaps = [(a, b, 0.0, 1.0) for a, b, c, _ in wall.openings if c == 0.0]
            shell.boxes(wall_boxes(wall.start, wall.end, 0.09, (0.012, 0.0), gaps), palette.TRIM)
        if not wet and rng.random() < 0.6:
            reach = np.minimum(rng.uniform(0.8, 1.3, 2), 0.5 * (room.high - room.low) - 0.5)
            for inset, tone in ((0.0, (170, 160, 148)), (0.1, (200, 192, 178))):
                shell.floor(
                    room.center - reach + inset, room.center + reach - inset, (9, 9), tone, rng, z=0.008 + 0.04 * inset
                )
