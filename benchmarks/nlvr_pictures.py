"""Pictures in the style of NLVR: three boxes of coloured shapes, drawn at random, changed by little, and painted.

A picture is 400 x 100 pixels: boxes of 100 x 100 with grey bands of 50 between them. Its boxes hold either shapes
scattered about (kind "scatter") or one tower of up to four squares of 20 pixels each (kind "tower").

Source: Suhr et al. 2017, A Corpus of Natural Language for Visual Reasoning; sizes, colours, gaps and the shares of
shapes at a wall were read off the corpus' public `test` file.
"""

import io
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import permutations
from random import Random
from typing import Any, Final, Literal, TypeVar

import numpy as np
from jaxtyping import Float64, UInt8
from numpy import ndarray
from PIL import Image

T = TypeVar("T")
Kind = Literal["scatter", "tower"]

SIDE: Final = 100  # pixels of a box
BAND: Final = 50  # pixels between two boxes
SHAPES: Final = ("circle", "square", "triangle")
COLOURS: Final = {"yellow": (255, 255, 0), "black": (0, 0, 0), "blue": (0, 153, 255)}
CODES: Final = {"yellow": "Yellow", "black": "Black", "blue": "#0099ff"}  # of the corpus' files
SIZES: Final = (10, 20, 30)
MOST_SCATTERED: Final = 7
MOST_STACKED: Final = 4
TOWER_X: Final = 40
BLOCK: Final = 20  # pixels of a tower's square; the next one stands a pixel above it
LEVELS: Final = 32  # of coverage at the rims of shapes
ORDERS: Final = tuple(permutations(range(3)))  # of the boxes; the file's k-th picture shows them in order k
PALETTE: Final = [128, 128, 128, 211, 211, 211] + [
    round(211 + (channel - 211) * level / LEVELS)
    for colour in COLOURS.values()
    for level in range(1, LEVELS + 1)
    for channel in colour
]


@dataclass(frozen=True, slots=True)
class Item:
    """A shape and its square of pixels."""

    shape: str
    colour: str
    size: int
    x: int  # of the left side, from the left wall
    y: int  # of the upper side, from the ceiling

    @property
    def look(self) -> "Look":
        return self.shape, self.colour, self.size

    def gap(self, other: "Item") -> int:
        """Pixels between the squares of two items, along the axis that separates them more; negative if they meet."""
        across = max(self.x - other.x - other.size, other.x - self.x - self.size)
        return max(across, self.y - other.y - other.size, other.y - self.y - self.size)

    def wall_gaps(self) -> dict[str, int]:
        """Pixels to each side of the box."""
        return {"left": self.x, "right": SIDE - self.x - self.size, "top": self.y, "base": SIDE - self.y - self.size}


Look = tuple[str, str, int]  # shape, colour, size
Box = tuple[Item, ...]  # a tower from its base upwards


@dataclass(frozen=True)
class Picture:
    """Three boxes."""

    kind: Kind
    boxes: tuple[Box, Box, Box]

    @cached_property
    def items(self) -> Box:
        return self.boxes[0] + self.boxes[1] + self.boxes[2]

    def structured_rep(self) -> list[list[dict[str, Any]]]:
        """As the corpus writes it."""
        return [
            [
                {"y_loc": item.y, "size": item.size, "type": item.shape, "x_loc": item.x, "color": CODES[item.colour]}
                for item in box
            ]
            for box in self.boxes
        ]

    @classmethod
    def read(cls, structured_rep: list[list[dict[str, Any]]]) -> "Picture":
        """The reverse of structured_rep(). A picture whose items all are a tower's squares is one of towers."""
        colours = {code: name for name, code in CODES.items()}
        boxes = [
            tuple(Item(row["type"], colours[row["color"]], row["size"], row["x_loc"], row["y_loc"]) for row in box)
            for box in structured_rep
        ]
        stacked = all(item.shape == "square" and item.x == TOWER_X for box in boxes for item in box)
        if stacked:
            boxes = [tuple(sorted(box, key=lambda item: -item.y)) for box in boxes]
        return cls("tower" if stacked else "scatter", (boxes[0], boxes[1], boxes[2]))


def draw_picture(rng: Random, kind: Kind) -> Picture:
    """A picture at random."""
    if kind == "tower":
        first, second, third = (tower(rng.choices(list(COLOURS), k=rng.randint(1, MOST_STACKED))) for _ in range(3))
    else:
        first, second, third = (draw_scattered(rng) for _ in range(3))
    return Picture(kind, (first, second, third))


def tower(colours: list[str]) -> Box:
    """Squares stacked from the base up."""
    top = SIDE - BLOCK
    return tuple(Item("square", colour, BLOCK, TOWER_X, top - (BLOCK + 1) * row) for row, colour in enumerate(colours))


def draw_scattered(rng: Random) -> Box:
    """Any items that fit."""
    while True:
        count = rng.randint(1, MOST_SCATTERED)
        looks = [(rng.choice(SHAPES), rng.choice(list(COLOURS)), rng.choice(SIZES)) for _ in range(count)]
        if box := scattered(looks, rng):
            return box


def scattered(looks: list[Look], rng: Random) -> Box | None:
    """Items of these looks at places at random, a pixel or more between them; None where they find no room."""
    for _ in range(4):
        box: Box = ()
        for look in looks:
            box = joined(box, look, rng) or box
        if len(box) == len(looks):
            return box
    return None


def joined(box: Box, look: Look, rng: Random) -> Box | None:
    """A box with one more item somewhere, a pixel or more from the others; None where it finds no room.

    Places beyond the right wall or the floor are moved back to it, as the corpus has them.
    """
    shape, colour, size = look
    for _ in range(60):
        x, y = min(int(SIDE * rng.random()), SIDE - size), min(int(SIDE * rng.random()), SIDE - size)
        if all(
            x > other.x + other.size or other.x > x + size or y > other.y + other.size or other.y > y + size
            for other in box
        ):
            return (*box, Item(shape, colour, size, x, y))
    return None


def changed(picture: Picture, rng: Random) -> Picture:
    """A near miss of a picture: one item altered, moved, added or taken away, two exchanged, or all dealt anew.

    The same picture where the change drawn finds no room.
    """
    return changed_towers(picture, rng) if picture.kind == "tower" else changed_scatter(picture, rng)


def changed_towers(picture: Picture, rng: Random) -> Picture:
    colours = [[item.colour for item in stack] for stack in picture.boxes]
    here, there = rng.choice(colours), rng.choice(colours)
    row, other = rng.randrange(len(here)), rng.randrange(len(there))
    change = rng.choice(("colour", "colour", "add", "remove", "swap", "deal"))
    if change == "colour":
        here[row] = other_than(here[row], tuple(COLOURS), rng)
    elif change == "add" and len(here) < MOST_STACKED:
        here.insert(rng.randint(0, len(here)), rng.choice(list(COLOURS)))
    elif change == "remove" and len(here) > 1:
        del here[row]
    elif change == "swap":
        here[row], there[other] = there[other], here[row]
    else:
        dealt = [colour for stack in colours for colour in stack]
        rng.shuffle(dealt)
        colours = [[dealt.pop() for _ in stack] for stack in colours]
    return Picture("tower", (tower(colours[0]), tower(colours[1]), tower(colours[2])))


def changed_scatter(picture: Picture, rng: Random) -> Picture:
    boxes: list[Box | None] = list(picture.boxes)
    here = rng.randrange(3)
    there = (here + rng.randint(1, 2)) % 3
    box, across = picture.boxes[here], picture.boxes[there]
    row, other = rng.randrange(len(box)), rng.randrange(len(across))
    item, rest = box[row], box[:row] + box[row + 1 :]
    change = rng.choice(("colour", "shape", "size", "move", "move", "add", "remove", "swap", "deal"))
    if change == "colour":
        boxes[here] = (*rest, replace(item, colour=other_than(item.colour, tuple(COLOURS), rng)))
    elif change == "shape":
        boxes[here] = (*rest, replace(item, shape=other_than(item.shape, SHAPES, rng)))
    elif change == "size":
        boxes[here] = joined(rest, (item.shape, item.colour, other_than(item.size, SIZES, rng)), rng)
    elif change == "move":
        boxes[here] = joined(rest, item.look, rng)
    elif change == "add" and len(box) < MOST_SCATTERED:
        boxes[here] = joined(box, (rng.choice(SHAPES), rng.choice(list(COLOURS)), rng.choice(SIZES)), rng)
    elif change == "remove" and rest:
        boxes[here] = rest
    elif change == "swap":
        theirs = across[other]
        boxes[here] = (*rest, replace(item, shape=theirs.shape, colour=theirs.colour))
        boxes[there] = (*across[:other], replace(theirs, shape=item.shape, colour=item.colour), *across[other + 1 :])
    else:
        looks = [one.look for one in picture.items]
        rng.shuffle(looks)
        boxes = [scattered([looks.pop() for _ in one], rng) for one in picture.boxes]
    first, second, third = (new or old for new, old in zip(boxes, picture.boxes))
    return Picture("scatter", (first, second, third)) if all(boxes) else picture


def other_than(value: T, choices: tuple[T, ...], rng: Random) -> T:
    return rng.choice([choice for choice in choices if choice != value])


@cache
def sprite(shape: str, colour: str, size: int) -> UInt8[ndarray, "size size"]:
    """Palette indices of a shape, 1 where the box shows."""
    fine = 16  # samples along a pixel's side
    centre: Float64[ndarray, " F"] = (np.arange(size * fine) + 0.5) / fine
    x, y = centre[None], centre[:, None]
    if shape == "circle":
        inside = (x - size / 2) ** 2 + (y - size / 2) ** 2 <= (size / 2) ** 2
    elif shape == "triangle":
        inside = 2 * np.abs(x - size / 2) <= y
    else:
        inside = np.ones((size * fine, size * fine), dtype=bool)
    level = np.rint(LEVELS * inside.reshape(size, fine, size, fine).mean((1, 3))).astype(np.int64)
    first = 2 + LEVELS * list(COLOURS).index(colour)
    return np.where(level > 0, first + level - 1, 1).astype(np.uint8)


def paint(picture: Picture, order: tuple[int, ...] = ORDERS[0]) -> UInt8[ndarray, "100 400"]:
    """Indices into PALETTE, the boxes from left to right in this order."""
    canvas = np.zeros((SIDE, 3 * SIDE + 2 * BAND), dtype=np.uint8)
    for place, row in enumerate(order):
        left = place * (SIDE + BAND)
        canvas[:, left : left + SIDE] = 1
        for item in picture.boxes[row]:
            at = canvas[item.y : item.y + item.size, left + item.x : left + item.x + item.size]
            np.maximum(at, sprite(item.shape, item.colour, item.size), out=at)
    return canvas


def png(picture: Picture, order: tuple[int, ...] = ORDERS[0]) -> bytes:
    """The file of a picture, with a palette, as the corpus has them."""
    image = Image.fromarray(paint(picture, order))
    image.putpalette(PALETTE)
    held = io.BytesIO()
    image.save(held, format="PNG", compress_level=1)
    return held.getvalue()
