"""What kinds of rooms hold, and how it is arranged: one function per kind of room."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from scene.datasets.draft import HomeDraft
from scene.furniture.storage import shelf_heights
from scene.palette import GOAL_LABELS

Range = tuple[float, float]

SIZES: dict[str, tuple[Range, Range, Range]] = {
    "armchair": ((0.75, 0.85), (0.75, 0.9), (0.8, 0.95)),
    "sofa": ((0.82, 0.95), (1.6, 2.2), (0.72, 0.82)),
    "chair": ((0.45, 0.52), (0.42, 0.48), (0.85, 0.98)),
    "stool": ((0.36, 0.4), (0.36, 0.4), (0.45, 0.6)),
    "bench": ((0.38, 0.42), (0.9, 1.2), (0.44, 0.48)),
    "bed": ((1.95, 2.1), (1.0, 1.7), (0.58, 0.64)),
    "table": ((0.75, 0.95), (1.1, 1.6), (0.72, 0.77)),
    "desk": ((0.6, 0.7), (1.15, 1.4), (0.72, 0.76)),
    "coffee table": ((0.5, 0.65), (0.8, 1.1), (0.36, 0.44)),
    "bookshelf": ((0.28, 0.36), (0.8, 1.1), (1.6, 2.0)),
    "wardrobe": ((0.55, 0.62), (1.0, 1.6), (1.9, 2.1)),
    "cabinet": ((0.4, 0.48), (0.9, 1.3), (0.75, 0.9)),
    "dresser": ((0.42, 0.5), (0.9, 1.2), (0.75, 0.9)),
    "nightstand": ((0.36, 0.44), (0.4, 0.48), (0.46, 0.54)),
    "tv stand": ((0.38, 0.45), (1.2, 1.6), (0.42, 0.5)),
    "tv": ((0.16, 0.2), (0.9, 1.15), (0.58, 0.7)),
    "countertop": ((0.6, 0.64), (1.2, 1.8), (0.88, 0.92)),
    "fridge": ((0.62, 0.7), (0.6, 0.7), (1.65, 1.85)),
    "stove": ((0.6, 0.64), (0.58, 0.62), (0.88, 0.92)),
    "bathtub": ((0.72, 0.8), (1.5, 1.7), (0.52, 0.58)),
    "toilet": ((0.64, 0.7), (0.38, 0.42), (0.74, 0.82)),
    "sink": ((0.44, 0.5), (0.5, 0.6), (0.95, 1.02)),
    "floor lamp": ((0.42, 0.48), (0.42, 0.48), (1.45, 1.7)),
    "plant": ((0.5, 0.65), (0.5, 0.65), (0.8, 1.2)),
    "box": ((0.36, 0.46), (0.36, 0.46), (0.22, 0.38)),
    "basket": ((0.3, 0.36), (0.3, 0.36), (0.2, 0.38)),
    "ball": ((0.2, 0.24), (0.2, 0.24), (0.2, 0.24)),
    "table lamp": ((0.24, 0.3), (0.24, 0.3), (0.4, 0.5)),
    "mug": ((0.09, 0.1), (0.11, 0.12), (0.09, 0.11)),
    "book": ((0.2, 0.24), (0.14, 0.17), (0.03, 0.06)),
    "bowl": ((0.22, 0.3), (0.22, 0.3), (0.08, 0.1)),
    "bottle": ((0.08, 0.1), (0.08, 0.1), (0.26, 0.32)),
    "vase": ((0.14, 0.18), (0.14, 0.18), (0.24, 0.34)),
    "laptop": ((0.26, 0.3), (0.34, 0.38), (0.22, 0.25)),
    "pillow": ((0.34, 0.4), (0.5, 0.6), (0.14, 0.17)),
    "clock": ((0.06, 0.08), (0.14, 0.18), (0.15, 0.19)),
    "apple": ((0.08, 0.09), (0.08, 0.09), (0.085, 0.095)),
    "picture": ((0.035, 0.045), (0.5, 0.8), (0.4, 0.6)),
    "mirror": ((0.035, 0.045), (0.5, 0.7), (0.7, 0.9)),
    "wall clock": ((0.05, 0.06), (0.32, 0.4), (0.32, 0.4)),
    "shelf": ((0.2, 0.25), (0.7, 1.0), (0.14, 0.16)),
    "ceiling lamp": ((0.42, 0.55), (0.42, 0.55), (0.5, 0.65)),
}
"""Class -> ranges of depth, width and height in metres; round things are made round below."""

ROUND = {"stool", "floor lamp", "plant", "box", "basket", "ball", "table lamp", "bowl", "bottle", "vase", "apple"}
ROUND |= {"ceiling lamp"}
PLAIN_COLORS: dict[str, tuple[str, ...]] = {
    "tv": ("black",),
    "laptop": ("gray", "black", "white"),
    "fridge": ("white", "gray", "red", "blue"),
    "stove": ("white", "gray", "black"),
    "bathtub": ("white", "pink", "blue"),
    "toilet": ("white", "pink", "gray"),
    "sink": ("white", "gray"),
    "plant": ("green",),
    "apple": ("red", "green", "yellow"),
    "mirror": ("brown", "black", "gray", "white"),
    "pillow": ("white", "gray", "red", "yellow", "blue", "pink", "purple"),
}
"""Classes that do not come in every colour."""

ON_TOP: dict[str, tuple[str, ...]] = {
    "table": ("bowl", "vase", "mug", "bottle", "book", "apple"),
    "desk": ("laptop", "book", "mug", "table lamp", "clock"),
    "coffee table": ("book", "mug", "bowl", "vase"),
    "cabinet": ("vase", "table lamp", "clock", "book", "bowl"),
    "dresser": ("vase", "table lamp", "clock", "book"),
    "nightstand": ("table lamp", "clock", "book", "mug"),
    "countertop": ("bottle", "bowl", "mug", "apple"),
    "shelf": ("vase", "book", "clock", "bottle", "mug"),
    "bench": ("book", "pillow"),
}


def size_of(label: str, rng: np.random.Generator) -> Float64[ndarray, "3"]:
    """A plausible depth, width and height."""
    size = np.array([rng.uniform(*bounds) for bounds in SIZES[label]])
    if label in ROUND:
        size[1] = size[0]
    if label == "ball":
        size[2] = size[0]
    return size


class Furnisher:
    """Fills the rooms of a draft. `clutter` scales how many small things there are."""

    def __init__(self, home: HomeDraft, clutter: float) -> None:
        self.home, self.rng, self.clutter = home, home.rng, clutter

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def color(self, label: str) -> str:
        return self.home.color(label, PLAIN_COLORS.get(label))

    def wall_piece(self, label: str, room: int, **how: object) -> int | None:
        """A piece of furniture with its back to a wall."""
        how.setdefault("color", self.color(label))
        return self.home.try_wall(label, size_of(label, self.rng), room, **how)  # type: ignore[arg-type]

    def in_front(
        self, base: int, label: str, space: float, yaw: float, shift: float = 0.0, **how: object
    ) -> int | None:
        """A piece before another one: `space` metres off its front, `shift` metres to its left, turned by `yaw`."""
        thing, size = self.home.things[base], size_of(label, self.rng)
        turned = abs(np.cos(yaw)) * size[0] + abs(np.sin(yaw)) * size[1]
        forward = 0.5 * thing.box[3] + space + 0.5 * turned
        cos, sin = np.cos(thing.box[6]), np.sin(thing.box[6])
        xy = thing.box[:2] + forward * np.array([cos, sin]) + shift * np.array([-sin, cos])
        how.setdefault("color", self.color(label))
        return self.home.try_floor(label, size, xy, thing.box[6] + yaw, thing.room, **how)  # type: ignore[arg-type]

    def beside(self, base: int, label: str, side: int, space: float = 0.06, **how: object) -> int | None:
        """A piece next to another one (side +1 = its left), both backs in line, facing the same way."""
        thing, size = self.home.things[base], size_of(label, self.rng)
        sideways = side * (0.5 * thing.box[4] + space + 0.5 * size[1])
        forward = -0.5 * thing.box[3] + 0.5 * size[0]
        cos, sin = np.cos(thing.box[6]), np.sin(thing.box[6])
        xy = thing.box[:2] + forward * np.array([cos, sin]) + sideways * np.array([-sin, cos])
        how.setdefault("color", self.color(label))
        return self.home.try_floor(label, size, xy, thing.box[6], thing.room, **how)  # type: ignore[arg-type]

    def small(self, parent: int, label: str, **how: object) -> int | None:
        """A small thing on a support."""
        how.setdefault("color", self.color(label))
        if label in ("table lamp", "clock", "laptop", "vase"):
            how.setdefault("yaw", float(self.rng.normal(0, 0.15)))
        return self.home.try_on(label, size_of(label, self.rng), parent, **how)  # type: ignore[arg-type]

    def side_of(self, base: int) -> tuple[int, float]:
        """The wall a piece has its back to, and where along it its middle is."""
        thing = self.home.things[base]
        walls = self.home.rooms[thing.room].walls
        side = min(range(4), key=lambda k: abs(np.sin(0.5 * (walls[k].yaw - thing.box[6]))))
        return side, float((thing.box[:2] - walls[side].start) @ walls[side].along)

    def hang_above(self, base: int, label: str, bottom_z: float, shift: float = 0.0) -> int | None:
        """A thing on the wall over a piece that stands against it."""
        side, at = self.side_of(base)
        size = size_of(label, self.rng)
        return self.home.try_hang(
            label, size, self.home.things[base].room, bottom_z, side=side, at=at + shift, color=self.color(label)
        )

    def picture_row(self, room: int, side: int | None = None, at: float | None = None) -> None:
        """One to three pictures of one size side by side at one height, as many as fit."""
        size, bottom = size_of("picture", self.rng), float(self.rng.uniform(1.4, 1.5))
        size[1] = min(size[1], 0.55)
        step = size[1] + float(self.rng.uniform(0.1, 0.2))
        for count in (3, 3, 3, 2, 1) if self.chance(0.6) else (1, 1):
            chosen = int(self.rng.integers(4)) if side is None else side
            length = self.home.rooms[room].walls[chosen].length
            middle = float(self.rng.uniform(0.3, 0.7)) * length if at is None else at
            places = [middle + (k - 0.5 * (count - 1)) * step for k in range(count)]
            start = self.home.mark()
            made = [
                self.home.try_hang("picture", size, room, bottom, side=chosen, at=place, color=self.color("picture"))
                for place in places
            ]
            if None not in made:
                return
            self.home.undo(start)

    # rooms -----------------------------------------------------------------------------------------------------------

    def living_room(self, room: int) -> None:
        """Sofa and armchairs around a coffee table, a television, books."""
        screen = self.wall_piece("tv stand", room)
        sofa = None
        if screen is not None:
            side, at = self.side_of(screen)
            if self.chance(0.7):
                self.small(screen, "tv", yaw=0.0)
            else:
                flat = np.array([0.06, self.rng.uniform(0.9, 1.2), self.rng.uniform(0.55, 0.68)])
                room_wall = self.home.try_hang("tv", flat, room, 0.95, side=side, at=at, color="black")
                if room_wall is None:
                    self.small(screen, "tv", yaw=0.0)
            opposite = (side + 2) % 4
            length = self.home.rooms[room].walls[opposite].length
            sofa = self.wall_piece("sofa", room, walls=(opposite,), at=float(np.clip(length - at, 1.2, length - 1.2)))
        if sofa is None:
            sofa = self.wall_piece("sofa", room)
        if sofa is not None:
            table = self.in_front(sofa, "coffee table", 0.36, 0.0)
            if self.chance(0.8):
                lamp_side = 1 if self.chance(0.5) else -1
                if self.beside(sofa, "floor lamp", lamp_side) is None:
                    self.beside(sofa, "floor lamp", -lamp_side)
            if table is not None:
                self.around_coffee_table(table)
            if self.chance(0.6):
                side, at = self.side_of(sofa)
                self.picture_row(room, side, at)
        for _ in range(int(self.rng.integers(0, 2)) + (sofa is None)):
            self.wall_piece("armchair", room)
        self.wall_piece("bookshelf", room, front_m=0.5)
        if self.chance(0.4):
            self.wall_piece("bookshelf", room, front_m=0.5)
        if self.chance(0.5):
            self.wall_piece("cabinet", room)
        if self.chance(0.5):
            self.wall_piece("plant", room, corner=True, front_m=0.0)
        if self.chance(0.4):
            self.wall_piece("floor lamp", room, front_m=0.0)

    def around_coffee_table(self, table: int) -> None:
        """Armchairs at one or both ends of the coffee table, facing it."""
        thing = self.home.things[table]
        same = self.color("armchair") if self.chance(0.3) else None
        sides = (1, -1) if self.chance(0.6) else ((1,) if self.chance(0.5) else (-1,))
        for side in sides:
            size = size_of("armchair", self.rng)
            cos, sin = np.cos(thing.box[6]), np.sin(thing.box[6])
            reach = side * (0.5 * thing.box[4] + 0.3 + 0.5 * size[0])
            ahead = float(self.rng.uniform(0.0, 0.25))
            xy = thing.box[:2] + ahead * np.array([cos, sin]) + reach * np.array([-sin, cos])
            yaw = thing.box[6] - side * 0.5 * np.pi + float(self.rng.normal(0, 0.12))
            self.home.try_floor("armchair", size, xy, yaw, thing.room, color=same or self.color("armchair"))

    def bedroom(self, room: int) -> None:
        """One or two beds with nightstands, a wardrobe, a dresser under a mirror."""
        bed = self.wall_piece("bed", room, front_m=0.5, tries=20)
        if bed is not None:
            for side in (1, -1):
                if self.chance(0.8):
                    self.beside(bed, "nightstand", side)
            thing = self.home.things[bed]
            lying = (-0.5 * thing.box[3] + 0.1, -0.5 * thing.box[3] + 0.58, -0.5 * thing.box[4], 0.5 * thing.box[4])
            for _ in range(1 if thing.box[4] < 1.25 else 2):
                if self.chance(0.75):
                    top = float(thing.box[5]) - 0.1
                    self.small(bed, "pillow", z=top, area=lying, yaw=float(self.rng.normal(0, 0.05)))
            if self.chance(0.3):
                self.in_front(bed, "bench", 0.05, 0.0)
            if self.chance(0.5):
                self.hang_above(bed, "picture", 1.4)
        self.wall_piece("wardrobe", room, front_m=0.55, tries=16)
        if self.chance(0.25):
            self.wall_piece("bed", room, front_m=0.5)
        if self.chance(0.6):
            dresser = self.wall_piece("dresser", room)
            if dresser is not None and self.chance(0.7):
                self.hang_above(dresser, "mirror", 1.2)
        if self.chance(0.6):
            self.wall_piece("armchair", room, corner=self.chance(0.5))
        if self.chance(0.35):
            self.wall_piece("bookshelf", room)
        for _ in range(int(self.rng.integers(0, 3))):
            self.wall_piece("chair", room)
        if self.chance(0.6):
            self.wall_piece("floor lamp", room, corner=True, front_m=0.0)
        if self.chance(0.3):
            self.wall_piece("plant", room, corner=True, front_m=0.0)

    def kitchen(self, room: int) -> None:
        """A row of counter, stove and fridge along one wall, a table with chairs, stools."""
        counter = self.wall_piece("countertop", room, tries=16)
        if counter is not None:
            side = 1 if self.chance(0.5) else -1
            self.beside(counter, "stove", side, 0.02, gap=0.0)
            self.beside(counter, "fridge", -side, 0.04, gap=0.0)
            basin = np.array([0.4, 0.5, 0.16])
            top = self.home.things[counter].bounds[5]
            self.home.try_on(
                "sink", basin, counter, z=top - 0.87 * 0.16, yaw=0.0, color=self.color("sink"), solid=False
            )
            if self.chance(0.6):
                self.hang_above(counter, "shelf", 1.5)
        self.dining(room, int(self.rng.integers(2, 5)))
        if self.chance(0.45):
            self.row(room, "stool", 3 if self.chance(0.7) else 2)
        if self.chance(0.5):
            self.wall_piece("cabinet", room)
        if self.chance(0.3):
            self.wall_piece("plant", room, corner=True, front_m=0.0)

    def dining_room(self, room: int) -> None:
        """A table with chairs, a cabinet, a lamp."""
        self.dining(room, int(self.rng.integers(3, 5)))
        for label, probability in (("cabinet", 0.9), ("bookshelf", 0.5), ("armchair", 0.5), ("floor lamp", 0.7)):
            if self.chance(probability):
                self.wall_piece(label, room)
        if self.chance(0.35):
            self.row(room, "chair", 3)
        elif self.chance(0.5):
            self.wall_piece("armchair", room)
        if self.chance(0.5):
            self.wall_piece("plant", room, corner=True, front_m=0.0)

    def dining(self, room: int, chairs: int) -> None:
        """A table somewhere in the middle with chairs on its two long sides, facing it."""
        table, size = None, size_of("table", self.rng)
        draft = self.home.rooms[room]
        for _ in range(20):
            yaw = 0.5 * np.pi * float(self.rng.integers(2))
            margin = np.minimum(1.25, 0.5 * (draft.high - draft.low) - 0.05)
            xy = self.rng.uniform(draft.low + margin, draft.high - margin)
            table = self.home.try_floor("table", size, xy, yaw, room, color=self.color("table"), gap=0.3)
            if table is not None:
                break
        if table is None:
            self.row(room, "chair", min(chairs, 3))
            return
        box = self.home.things[table].box
        same = self.color("chair") if self.chance(0.35) else None
        one_side = self.chance(0.3)
        seats = [(side, slot) for side in ((1,) if one_side else (1, -1)) for slot in (-0.25, 0.25)]
        if not one_side:
            self.rng.shuffle(seats)
        for side, slot in seats[:chairs]:
            chair = size_of("chair", self.rng)
            pull = float(self.rng.uniform(0.02, 0.12))
            out = side * (0.5 * box[3] + pull + 0.5 * chair[0])
            cos, sin = np.cos(box[6]), np.sin(box[6])
            xy = box[:2] + out * np.array([cos, sin]) + slot * box[4] * np.array([-sin, cos])
            yaw = box[6] + (np.pi if side > 0 else 0.0) + float(self.rng.normal(0, 0.06))
            self.home.try_floor("chair", chair, xy, yaw, room, color=same or self.color("chair"), gap=0.0)

    def row(self, room: int, label: str, count: int) -> None:
        """Several of a kind, of one size, side by side along a wall."""
        size = size_of(label, self.rng)
        step = size[1] + float(self.rng.uniform(0.12, 0.25))
        for _ in range(8):
            side = int(self.rng.integers(4))
            slack = self.home.rooms[room].walls[side].length - (count - 1) * step - size[1] - 0.1
            if slack < 0:
                continue
            first = 0.5 * size[1] + 0.05 + slack * float(self.rng.random())
            start = self.home.mark()
            made = [
                self.home.try_wall(
                    label,
                    size,
                    room,
                    walls=(side,),
                    at=first + k * step,
                    color=self.color(label),
                    front_m=0.0,
                    back_m=0.04,
                )
                for k in range(count)
            ]
            if None not in made:
                return
            self.home.undo(start)
        self.wall_piece(label, room)

    def bathroom(self, room: int) -> None:
        """Bathtub, toilet, a sink under a mirror."""
        self.wall_piece("bathtub", room, tries=16)
        self.wall_piece("toilet", room, front_m=0.5)
        sink = self.wall_piece("sink", room, front_m=0.5)
        if sink is not None and self.chance(0.85):
            self.hang_above(sink, "mirror", 1.2)
        if self.chance(0.6):
            self.wall_piece("cabinet", room)
        self.row(room, "stool" if self.chance(0.5) else "chair", int(self.rng.integers(2, 4)))
        for label, probability in (("wardrobe", 0.5), ("armchair", 0.3), ("floor lamp", 0.4)):
            if self.chance(probability):
                self.wall_piece(label, room)
        if self.chance(0.5):
            self.wall_piece("basket", room, corner=True, front_m=0.0)

    def office(self, room: int) -> None:
        """One or two desks with chairs, bookshelves, an armchair."""
        for _ in range(1 if self.chance(0.6) else 2):
            desk = self.wall_piece("desk", room, front_m=0.6)
            if desk is not None:
                self.in_front(desk, "chair", -0.12, np.pi, float(self.rng.uniform(-0.2, 0.1)), gap=-0.2)
        if self.chance(0.3):
            self.row(room, "bookshelf", int(self.rng.integers(2, 4)))
        else:
            for _ in range(int(self.rng.integers(1, 3))):
                self.wall_piece("bookshelf", room, front_m=0.5)
        if self.chance(0.6):
            self.wall_piece("armchair", room, corner=self.chance(0.5))
        if self.chance(0.5):
            self.wall_piece("floor lamp", room, corner=True, front_m=0.0)
        if self.chance(0.3):
            self.wall_piece("sofa", room)
        if self.chance(0.4):
            self.wall_piece("plant", room, corner=True, front_m=0.0)
        if self.chance(0.4):
            self.wall_piece("cabinet", room)

    # what every room may have ----------------------------------------------------------------------------------------

    def details(self, room: int) -> None:
        """Wall things, a ceiling lamp, containers, and small things on and in what stands there."""
        draft = self.home.rooms[room]
        if self.chance(0.5):
            self.home.try_hang(
                "wall clock", size_of("wall clock", self.rng), room, 1.75, color=self.color("wall clock")
            )
        if self.chance(0.4):
            self.picture_row(room)
        if self.chance(0.35):
            self.home.try_hang("shelf", size_of("shelf", self.rng), room, 1.5, color=self.color("shelf"))
        if self.chance(0.6):
            size = size_of("ceiling lamp", self.rng)
            box = np.array([*draft.center, 2.6 - 0.5 * size[2], *size, 0.0])
            self.home.put("ceiling lamp", box, room, color=self.color("ceiling lamp"))
        for _ in range(int(self.rng.poisson(0.5 * self.clutter))):
            crate = self.wall_piece("box" if self.chance(0.7) else "basket", room, front_m=0.0)
            if crate is not None and self.chance(0.7):
                depth = 0.03 if self.home.things[crate].label == "box" else 0.02
                kind = "ball" if self.chance(0.6) else "bottle"  # sunk to its top or standing out, as tall as it is
                self.small(crate, kind, z=depth, solid=False)
        for parent in [k for k, thing in enumerate(self.home.things) if thing.room == room]:
            self.load(parent)

    def load(self, parent: int) -> None:
        """Small things on one support, in one bookshelf."""
        label = self.home.things[parent].label
        if label == "bookshelf":
            self.fill_bookshelf(parent)
        if label not in ON_TOP:
            return
        for _ in range(min(3, int(self.rng.poisson(0.9 * self.clutter)))):
            kind = ON_TOP[label][int(self.rng.integers(len(ON_TOP[label])))]
            made = self.small(parent, kind)
            if made is not None and kind == "bowl" and self.chance(0.6):
                low, high = self.home.things[made].bounds[2] + 0.012, self.home.things[made].bounds[5] - 0.05
                self.small(
                    made, "apple", z=float(self.rng.uniform(low, high)), area=(-0.06, 0.06, -0.06, 0.06), solid=False
                )

    def fill_bookshelf(self, parent: int) -> None:
        """Things at the free end of some boards."""
        size = self.home.things[parent].box[3:6]
        boards = shelf_heights((float(size[0]), float(size[1]), float(size[2])))
        area = (-0.5 * size[0] + 0.03, 0.5 * size[0] - 0.005, 0.25 * size[1], 0.5 * size[1] - 0.045)
        for z in boards[1:]:
            if self.chance(0.25 * self.clutter):
                kind = ("book", "book", "mug", "ball")[int(self.rng.integers(4))]
                if kind == "ball":
                    self.home.try_on(
                        "ball", np.full(3, 0.14), parent, z=z, area=area, yaw=0.0, color=self.color("ball")
                    )
                else:
                    self.small(parent, kind, z=z, area=area, yaw=0.0)

    def top_up(self, least_goals: int) -> None:
        """Adds goal furniture until there are enough goal things, and two of one class among them."""
        extra: Sequence[str] = ("chair", "armchair", "floor lamp", "bookshelf")
        for _ in range(12):
            labels = [thing.label for thing in self.home.things if thing.label in GOAL_LABELS]
            twins = any(labels.count(name) > 1 for name in labels)
            if len(labels) >= least_goals and twins:
                return
            common = [name for name in labels if name in extra]
            wanted = common[0] if common and not twins else extra[int(self.rng.integers(len(extra)))]
            self.wall_piece(wanted, int(self.rng.integers(len(self.home.rooms))), front_m=0.0)


ROOM_KINDS: dict[str, Callable[[Furnisher, int], None]] = {
    "living room": Furnisher.living_room,
    "bedroom": Furnisher.bedroom,
    "kitchen": Furnisher.kitchen,
    "dining room": Furnisher.dining_room,
    "office": Furnisher.office,
    "bathroom": Furnisher.bathroom,
}
