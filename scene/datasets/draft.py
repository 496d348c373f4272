"""A home while it is being furnished: what stands where, what may still be put down, and where one can walk.

Heights count from the floor (z = 0). A thing is kept as a draft until the end, when all meshes are made at once.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Float64
from numpy import ndarray
from scipy import ndimage

from scene.datasets.shell import MeshParts
from scene.furniture import build
from scene.palette import GOAL_COLORS, GOAL_LABELS, HELD_OUT_PAIRS, PALETTE
from scene.types import SceneObject, SupportTruth

CELL_M = 0.1  # of the walking grid
CLEARANCE_M = 0.27  # an agent of radius 0.2 m, and half a cell for the grid's coarseness
REACH_M = 0.7  # every thing an agent is sent to has free floor this close
Bounds = tuple[float, float, float, float, float, float]
"""min xyz, max xyz."""


@dataclass
class Wall:
    """One side of a room, seen from inside."""

    start: Float[ndarray, "2"]
    end: Float[ndarray, "2"]
    yaw: float  # direction into the room
    openings: list[tuple[float, float, float, float]] = field(default_factory=list)

    @property
    def length(self) -> float:
        return float(np.abs(self.end - self.start).sum())

    @property
    def along(self) -> Float[ndarray, "2"]:
        return (self.end - self.start) / self.length

    @property
    def inward(self) -> Float[ndarray, "2"]:
        return np.array([np.cos(self.yaw), np.sin(self.yaw)]).round(9)


@dataclass
class RoomDraft:
    """A rectangular room: its inner edges and walls (counter-clockwise, starting at the south side)."""

    index: int
    kind: str
    low: Float[ndarray, "2"]
    high: Float[ndarray, "2"]
    walls: list[Wall] = field(default_factory=list)

    def __post_init__(self) -> None:
        (x0, y0), (x1, y1) = self.low, self.high
        corners = [np.array(c) for c in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
        turns = (0.5 * np.pi, np.pi, -0.5 * np.pi, 0.0)
        self.walls = [Wall(corners[k], corners[(k + 1) % 4], turns[k]) for k in range(4)]

    @property
    def center(self) -> Float[ndarray, "2"]:
        return 0.5 * (self.low + self.high)


def bounds_of(box: Float[ndarray, "7"]) -> Bounds:
    """min xyz, max xyz of one oriented box."""
    cos, sin = abs(float(np.cos(box[6]))), abs(float(np.sin(box[6])))
    ex, ey = 0.5 * (cos * box[3] + sin * box[4]), 0.5 * (sin * box[3] + cos * box[4])
    x, y, z, ez = float(box[0]), float(box[1]), float(box[2]), 0.5 * float(box[5])
    return x - ex, y - ey, z - ez, x + ex, y + ey, z + ez


def overlap(a: Bounds, b: Bounds, gap: float = 0.0) -> bool:
    """Whether two boxes come closer than `gap` in all three directions."""
    return all(a[k] < b[k + 3] + gap and b[k] < a[k + 3] + gap for k in range(3))


@dataclass
class Thing:
    """An object before its mesh exists."""

    label: str
    shape: str
    box: Float64[ndarray, "7"]
    color: str
    room: int
    parent: int | None
    affordances: tuple[str, ...]
    bounds: Bounds


AFFORDANCES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("armchair", "sofa", "chair", "stool", "bench"), ("sit",)),
    **dict.fromkeys(("table", "desk", "coffee table", "tv stand", "shelf", "countertop"), ("surface",)),
    **dict.fromkeys(("bookshelf", "box", "basket"), ("container",)),
    **dict.fromkeys(("cabinet", "dresser", "nightstand"), ("surface", "open")),
    **dict.fromkeys(("wardrobe", "fridge", "stove"), ("open",)),
    **dict.fromkeys(("floor lamp", "table lamp", "ceiling lamp", "tv"), ("switch",)),
    **dict.fromkeys(
        ("mug", "book", "bowl", "bottle", "vase", "laptop", "pillow", "ball", "apple", "clock"), ("pickup",)
    ),
    "bed": ("lie", "surface"),
    "door": ("open",),
    "window": ("open",),
}


class HomeDraft:
    """Things put into rooms so far. Every `try_...` returns the thing's id, or None when it does not fit."""

    def __init__(self, rooms: list[RoomDraft], rng: np.random.Generator, held_out: bool) -> None:
        """`held_out`: whether the held-out colour x class pairs may occur."""
        self.rooms, self.rng = rooms, rng
        self.forbidden = set() if held_out else set(HELD_OUT_PAIRS)
        self.things: list[Thing] = []
        self.zones: list[Bounds] = []  # kept empty: before doors, windows
        low = np.min([room.low for room in rooms], axis=0) - 0.5
        high = np.max([room.high for room in rooms], axis=0) + 0.5
        self.origin = low
        self.free = np.zeros(np.ceil((high - low) / CELL_M).astype(int), dtype=bool)  # (x, y)
        for room in rooms:
            self.open_floor(room.low + CLEARANCE_M, room.high - CLEARANCE_M)

    def _cells(self, low: Float[ndarray, "2"], high: Float[ndarray, "2"]) -> tuple[slice, slice]:
        """The cells whose middles lie in a rectangle."""
        first = np.ceil((np.asarray(low) - self.origin) / CELL_M - 0.5).astype(int).clip(0)
        last = np.floor((np.asarray(high) - self.origin) / CELL_M - 0.5).astype(int) + 1
        return slice(first[0], max(last[0], 0)), slice(first[1], max(last[1], 0))

    def open_floor(self, low: Float[ndarray, "2"], high: Float[ndarray, "2"]) -> None:
        """Marks a rectangle as walkable."""
        self.free[self._cells(low, high)] = True

    def color(self, label: str, choices: tuple[str, ...] | None = None) -> str:
        """A random colour name for this class; held-out pairs never, or twice as often where they may occur."""
        if choices is None:
            choices = GOAL_COLORS if label in GOAL_LABELS else tuple(PALETTE)
        allowed = [name for name in choices if (name, label) not in self.forbidden]
        allowed += [name for name in allowed if (name, label) in HELD_OUT_PAIRS]
        return allowed[int(self.rng.integers(len(allowed)))]

    def put(
        self,
        label: str,
        box: Float[ndarray, "7"],
        room: int,
        *,
        color: str | None = None,
        parent: int | None = None,
        shape: str | None = None,
    ) -> int:
        """Puts a thing down without any test."""
        box = np.asarray(box, dtype=np.float64)
        name = self.color(label) if color is None else color
        thing = Thing(label, shape or label, box, name, room, parent, AFFORDANCES.get(label, ()), bounds_of(box))
        self.things.append(thing)
        return len(self.things) - 1

    def mark(self) -> tuple[int, Bool[ndarray, "X Y"]]:
        """The state so far, for `undo`."""
        return len(self.things), self.free

    def undo(self, mark: tuple[int, Bool[ndarray, "X Y"]]) -> None:
        """Takes away what was put down since `mark`."""
        del self.things[mark[0] :]
        self.free = mark[1]

    def collides(self, bounds: Bounds, gap: float = 0.03, ignore: int | None = None, zones: bool = True) -> bool:
        """Whether a box meets another thing or a zone that stays empty."""
        others = (thing.bounds for k, thing in enumerate(self.things) if k != ignore)
        return any(overlap(bounds, other, gap) for other in others) or (
            zones and any(overlap(bounds, zone) for zone in self.zones)
        )

    def blocked(self, things: list[Bounds]) -> Bool[ndarray, "X Y"]:
        """The walking grid after more things stand on the floor."""
        free = self.free.copy()
        for b in things:
            free[self._cells(np.array(b[:2]) - CLEARANCE_M, np.array(b[3:5]) + CLEARANCE_M)] = False
        return free

    def _reachable(self, free: Bool[ndarray, "X Y"], things: list[Bounds]) -> bool:
        return all(free[self._cells(np.array(b[:2]) - REACH_M, np.array(b[3:5]) + REACH_M)].any() for b in things)

    def try_floor(
        self,
        label: str,
        size: Float[ndarray, "3"],
        xy: Float[ndarray, "2"],
        yaw: float,
        room: int,
        *,
        color: str | None = None,
        gap: float = 0.05,
    ) -> int | None:
        """Stands a thing on the floor where it meets nothing, blocks no way and stays reachable."""
        box = np.array([xy[0], xy[1], 0.5 * size[2], *size, yaw])
        bounds = bounds_of(box)
        low, high = self.rooms[room].low, self.rooms[room].high
        if bounds[0] < low[0] or bounds[1] < low[1] or bounds[3] > high[0] or bounds[4] > high[1]:
            return None
        if self.collides(bounds, gap):
            return None
        free = self.blocked([bounds])
        if ndimage.label(free)[1] != 1:
            return None
        goals = [thing.bounds for thing in self.things if thing.label in GOAL_LABELS]
        if not self._reachable(free, [*goals, bounds]):
            return None
        self.free = free
        return self.put(label, box, room, color=color)

    def try_wall(
        self,
        label: str,
        size: Float[ndarray, "3"],
        room: int,
        *,
        walls: tuple[int, ...] = (0, 1, 2, 3),
        at: float | None = None,
        color: str | None = None,
        front_m: float = 0.45,
        tries: int = 10,
        corner: bool = False,
        back_m: float | None = None,
    ) -> int | None:
        """Stands a thing with its back to a wall, facing the room, with some free floor before it.

        Args:
            walls: sides that may be taken.
            at: distance of its middle from the wall's start; random when None.
            corner: only at an end of a wall.
            back_m: distance of its back from the wall; a few random centimetres when None.
        """
        for _ in range(tries if at is None else 1):
            wall = self.rooms[room].walls[walls[int(self.rng.integers(len(walls)))]]
            slack = wall.length - size[1] - 0.06
            if slack < 0:
                continue
            if at is not None:
                along = at
            elif corner or self.rng.random() < 0.25:
                along = 0.5 * size[1] + 0.03 + slack * float(self.rng.integers(2))
            else:
                along = 0.5 * size[1] + 0.03 + slack * float(self.rng.random())
            back = 0.03 + 0.04 * float(self.rng.random()) if back_m is None else back_m
            xy = wall.start + along * wall.along + (0.5 * size[0] + back) * wall.inward
            front = xy + 0.5 * (size[0] + front_m) * wall.inward
            zone = bounds_of(np.array([*front, 0.2, front_m, size[1] - 0.06, 0.3, wall.yaw]))
            if front_m > 0 and self.collides(zone, 0.0, zones=False):
                continue
            made = self.try_floor(label, size, xy, wall.yaw, room, color=color)
            if made is not None:
                return made
        return None

    def try_hang(
        self,
        label: str,
        size: Float[ndarray, "3"],
        room: int,
        bottom_z: float,
        *,
        side: int | None = None,
        at: float | None = None,
        color: str | None = None,
        tries: int = 8,
        zones: bool = True,
        shape: str | None = None,
        out_m: float = 0.0,
        ignore: int | None = None,
    ) -> int | None:
        """Hangs a thing on a wall; `side` and `at` fix the wall and the place along it, `out_m` its distance to it,
        `ignore` a thing it may touch."""
        for _ in range(tries if at is None else 1):
            chosen = int(self.rng.integers(4)) if side is None else side
            wall = self.rooms[room].walls[chosen]
            along = (
                float(self.rng.uniform(0.5 * size[1] + 0.1, wall.length - 0.5 * size[1] - 0.1)) if at is None else at
            )
            if along - 0.5 * size[1] < 0.02 or along + 0.5 * size[1] > wall.length - 0.02:
                continue
            holes = ((o[0] - 0.12, o[1] + 0.12, o[2] - 0.08, o[3] + 0.08) for o in wall.openings)
            if zones and any(
                a < along + 0.5 * size[1] and along - 0.5 * size[1] < b and c < bottom_z + size[2] and bottom_z < d
                for a, b, c, d in holes
            ):
                continue
            xy = wall.start + along * wall.along + (0.5 * size[0] + 0.005 + out_m) * wall.inward
            box = np.array([*xy, bottom_z + 0.5 * size[2], *size, wall.yaw])
            if self.collides(bounds_of(box), 0.02, ignore, zones=zones):
                continue
            return self.put(label, box, room, color=color, shape=shape)
        return None

    def try_on(
        self,
        label: str,
        size: Float[ndarray, "3"],
        parent: int,
        *,
        z: float | None = None,
        area: tuple[float, float, float, float] | None = None,
        yaw: float | None = None,
        color: str | None = None,
        tries: int = 6,
        solid: bool = True,
    ) -> int | None:
        """Lays a thing on a support's top, or at height `z` inside it.

        Args:
            area: where on the support, in its own frame (x from, x to, y from, y to), for the whole thing; the top
                less a 3 cm rim when None.
            yaw: relative to the support; any multiple of a quarter turn, roughly, when None.
            solid: False when the thing may cut into its support (set in, lying in a hollow).
        """
        base = self.things[parent]
        bottom = base.bounds[5] if z is None else z
        turn = float(self.rng.integers(4)) * 0.5 * np.pi + float(self.rng.normal(0, 0.2)) if yaw is None else yaw
        local = bounds_of(np.array([0, 0, 0, *size, turn]))
        half = np.array(local[3:5])
        if area is None:
            area = (
                -0.5 * base.box[3] + 0.03,
                0.5 * base.box[3] - 0.03,
                -0.5 * base.box[4] + 0.03,
                0.5 * base.box[4] - 0.03,
            )
        low, high = np.array([area[0], area[2]]) + half, np.array([area[1], area[3]]) - half
        if (high < low).any():
            return None
        cos, sin = np.cos(base.box[6]), np.sin(base.box[6])
        for _ in range(tries):
            u, v = self.rng.uniform(low, high)
            center = (base.box[0] + cos * u - sin * v, base.box[1] + sin * u + cos * v, bottom + 0.5 * size[2])
            box = np.array([*center, *size, base.box[6] + turn])
            bounds = bounds_of(box)
            inside = not solid or z is not None
            if self.collides(bounds, 0.0 if inside else 0.01, ignore=parent, zones=False):
                continue
            if not inside and bounds[2] < base.bounds[5] - 1e-9:
                continue
            return self.put(label, box, base.room, color=color, parent=parent)
        return None

    def finish(self, shell: MeshParts) -> tuple[list[SceneObject], SupportTruth]:
        """Objects, with their meshes added to the shell, and what rests on what."""
        objects: list[SceneObject] = []
        truth: SupportTruth = {}
        for k, thing in enumerate(self.things):
            mesh = build(thing.shape, thing.box[3:6], PALETTE[thing.color], self.rng)
            cos, sin = np.cos(thing.box[6]), np.sin(thing.box[6])
            turned = mesh.vertices @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
            floor = thing.box[:3] - (0.0, 0.0, 0.5 * thing.box[5])
            shell.add(turned + floor, mesh.faces, mesh.face_colors, k)
            objects.append(
                SceneObject(
                    id=k,
                    label=thing.label,
                    box=thing.box,
                    source_id=f"{thing.label.replace(' ', '_')}_{k}",
                    attributes={"color": thing.color},
                    room=thing.room,
                    affordances=thing.affordances,
                )
            )
            truth[k] = thing.parent
        return objects, truth
