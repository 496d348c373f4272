"""Phrases of NLVR's sentences ("at least two black circles", "touching the edge"): drawn, worded, and read again.

Each phrase is a kind with four parts: a regular expression of everything it can look like, read() from such a text to
its value, draw() of a value at random, and say() from the value to words with whether a verb beside them is plural.
What the words mean is the values' own: an Amount holds of a number, a Look of an item, a Touch of an item. Where
people are not of one mind ("2 blocks": exactly, or at least?) the meaning is the one that fits the answers in the
corpus' public `test` file better.
"""

import math
import re
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Protocol

from benchmarks.nlvr_pictures import COLOURS, MOST_SCATTERED, MOST_STACKED, SHAPES, Item, Kind

NEARLY: Final = 10  # pixels
WORDS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")
SIZE_WORDS: Final = {"small": 10, "medium": 20, "big": 30, "large": 30}
ANY_SHAPE: Final = ("item", "object")
NUMBER: Final = rf"(?:{'|'.join(WORDS[1:])}|[1-9])"
COLOUR: Final = rf"(?:{'|'.join(COLOURS)})"
AMOUNT: Final = rf"(?:(?:exactly|at least|at most|more than|less than|only) {NUMBER}|{NUMBER}|an?|no|a single)"
NOUN: Final = rf"(?:{'|'.join((*ANY_SHAPE, *SHAPES, 'block'))})s?"
LOOK: Final = rf"(?:(?:{'|'.join(SIZE_WORDS)}) )?(?:{COLOUR} )?{NOUN}"


@dataclass(frozen=True)
class Amount:
    """A range of whole numbers."""

    words: str
    low: float
    high: float = math.inf

    def holds(self, number: int) -> bool:
        return self.low <= number <= self.high

    def exactly(self) -> "Amount":
        """A number that stands alone, meant exactly; other amounts as they are."""
        return Amount("", self.low, self.low) if self.words == "" else self

    @classmethod
    def read(cls, text: str, *, exact: bool = False) -> "Amount":
        """Reads it. A number alone is meant exactly, or as at least so many."""
        first, _, last = text.rpartition(" ")
        if text in ("a", "an"):
            return cls("a", 1)
        if text == "no":
            return cls("no", 0, 0)
        if text == "a single":
            return cls("a single", 1, 1)
        number = WORDS.index(last) if last in WORDS else int(last)
        ranges = {"at least": (number, math.inf), "at most": (0, number), "more than": (number + 1, math.inf)}
        ranges |= {"less than": (0, number - 1), "exactly": (number, number), "only": (number, number)}
        return cls(first, *ranges.get(first, (number, number if exact else math.inf)))

    @property
    def number(self) -> int:
        """The number that is spoken."""
        return int(
            {"more than": self.low - 1, "less than": self.high + 1, "at most": self.high}.get(self.words, self.low)
        )

    def say(self, rng: Random) -> tuple[str, bool]:
        if self.words in ("a", "no", "a single"):
            return self.words, False
        spoken = spell(self.number, rng)
        return f"{self.words} {spoken}".strip(), self.number != 1


def spell(number: int, rng: Random) -> str:
    return str(number) if rng.random() < 0.3 else WORDS[number]


def draw_amount(rng: Random, most: int, *, bare: float = 0.35) -> Amount:
    """At random.

    Args:
        most: the largest number spoken.
        bare: how often it is "a" alone.
    """
    if rng.random() < bare:
        return Amount("a", 1)
    if rng.random() < 0.08:
        return Amount("no", 0, 0)
    words = rng.choice(("", "", "exactly", "exactly", "at least", "at least", "only", "at most", "more than"))
    number = rng.choices(range(1, most + 1), [0.6**row for row in range(most)])[0]
    return Amount.read(f"{words} {WORDS[number]}".strip())


@dataclass(frozen=True)
class Look:
    """Which items are meant; None: any."""

    colour: str | None
    noun: str  # a shape, or item, object, block
    size: int | None = None

    def holds(self, item: Item) -> bool:
        return (
            self.colour in (None, item.colour)
            and self.size in (None, item.size)
            and (item.shape == self.noun or self.noun not in SHAPES)
        )

    @property
    def any_item(self) -> bool:
        return self.colour is None and self.size is None and self.noun not in SHAPES

    @classmethod
    def read(cls, text: str) -> "Look":
        words = text.split()
        size = next((SIZE_WORDS[word] for word in words if word in SIZE_WORDS), None)
        colour = next((word for word in words if word in COLOURS), None)
        return cls(colour, words[-1].removesuffix("s"), size)

    def say(self, plural: bool, rng: Random) -> str:
        sizes = [word for word, size in SIZE_WORDS.items() if size == self.size]
        words = [rng.choice(sizes)] if sizes else []
        words += [self.colour] if self.colour else []
        return " ".join([*words, self.noun + "s" * plural])

    @classmethod
    def draw(cls, rng: Random, kind: Kind) -> "Look":
        colour = rng.choice(list(COLOURS)) if rng.random() < 0.8 else None
        if kind == "tower":
            return cls(colour, "block" if rng.random() < 0.75 else rng.choice(("item", "object", "square")))
        noun = rng.choice(SHAPES) if colour is None or rng.random() < 0.6 else rng.choice(ANY_SHAPE)
        return cls(colour, noun, rng.choice((10, 20, 30)) if rng.random() < 0.1 else None)


@dataclass(frozen=True)
class Touch:
    """At a side of the box."""

    sides: tuple[str, ...]
    wording: str
    negated: bool = False
    at_once: int = 1  # sides touched at the same time; 2: a corner

    def holds(self, item: Item) -> bool:
        gaps = item.wall_gaps()
        near = NEARLY if self.wording.startswith(("nearly", "close to")) else 0
        return (sum(gaps[side] <= near for side in self.sides) >= self.at_once) != self.negated

    @classmethod
    def read(cls, text: str) -> "Touch":
        plain = text.removeprefix("not ")
        sides, at_once = TOUCHES[plain]
        return cls(sides, plain, plain != text, at_once)

    @classmethod
    def draw(cls, rng: Random) -> "Touch":
        wording = rng.choice(list(TOUCHES)[: 6 if rng.random() < 0.6 else None])
        return cls.read(("not " if rng.random() < 0.2 and "corner" not in wording else "") + wording)


EVERY_SIDE: Final = ("left", "right", "top", "base")
NEAR: Final = ("touching", "closely touching")
CORNER: Final = (*NEAR, "close to", "nearly touching")
CORNERS: Final = ("a corner", "the corner", "a corner of a box", "the corner of a box")
TOUCHES: Final[dict[str, tuple[tuple[str, ...], int]]] = {  # sides, and how many at once
    **{f"touching {words}": (EVERY_SIDE, 1) for words in ("the edge", "the wall", "any edge", "the side", "a wall")},
    "closely touching the wall": (EVERY_SIDE, 1),
    **{f"{near} the {words}": (("base",), 1) for near in NEAR for words in ("base", "bottom", "bottom of a box")},
    "touching the base edge": (("base",), 1),
    **{f"touching the {words}": (("top",), 1) for words in ("top", "top edge", "top of a box")},
    **{f"{near} {side} wall of a box": ((side,), 1) for near in NEAR for side in ("left", "right")},
    **{f"{near} {words}": (EVERY_SIDE, 2) for near in CORNER for words in CORNERS},
}


class Phrase(Protocol):
    """A kind of phrase."""

    pattern: str

    def read(self, text: str) -> Any: ...
    def draw(self, rng: Random, kind: Kind) -> Any: ...
    def say(self, value: Any, rng: Random) -> tuple[str, bool]: ...


class Number:
    """A number alone, 1 to `most`."""

    pattern = NUMBER

    def __init__(self, most: int = 4, least: int = 1) -> None:
        self.most, self.least = most, least

    def read(self, text: str) -> int:
        return WORDS.index(text) if text in WORDS else int(text)

    def draw(self, rng: Random, kind: Kind) -> int:
        return rng.randint(self.least, self.most)

    def say(self, value: int, rng: Random) -> tuple[str, bool]:
        return spell(value, rng), value != 1


class Colour:
    """A colour's name."""

    pattern = COLOUR

    def read(self, text: str) -> str:
        return text

    def draw(self, rng: Random, kind: Kind) -> str:
        return rng.choice(list(COLOURS))

    def say(self, value: str, rng: Random) -> tuple[str, bool]:
        return value, False


class Choice:
    """One of some wordings, with what each stands for."""

    def __init__(self, wordings: dict[str, Any]) -> None:
        self.wordings = wordings
        self.pattern = f"(?:{'|'.join(sorted(wordings, key=len, reverse=True))})"

    def read(self, text: str) -> Any:
        return self.wordings[text]

    def draw(self, rng: Random, kind: Kind) -> Any:
        return rng.choice(list(self.wordings.values()))

    def say(self, value: Any, rng: Random) -> tuple[str, bool]:
        return rng.choice([words for words, meaning in self.wordings.items() if meaning == value]), False


class Counted:
    """An amount of a thing: "exactly two towers". Plural without an amount: "grey boxes" is read, never drawn."""

    def __init__(self, nouns: tuple[str, ...], most: int) -> None:
        self.nouns, self.most = nouns, most
        self.pattern = rf"{AMOUNT} (?:{'|'.join(nouns)})(?:s|es)?"

    def read(self, text: str) -> Amount:
        noun = max((noun for noun in self.nouns if f" {noun}" in text), key=len)
        return Amount.read(text[: text.rindex(f" {noun}")])

    def draw(self, rng: Random, kind: Kind) -> Amount:
        return draw_amount(rng, self.most, bare=0.6)

    def say(self, value: Amount, rng: Random) -> tuple[str, bool]:
        words, plural = value.say(rng)
        noun = rng.choice(self.nouns)
        return f"{words} {noun}{('es' if noun.endswith('x') else 's') * plural}", plural


class CountedItems:
    """An amount of items of a look, "two black circles", or the plural alone, "yellow items" (at least one)."""

    pattern = rf"(?:{AMOUNT} )?{LOOK}"

    def read(self, text: str) -> tuple[Amount, Look]:
        amount = re.match(rf"({AMOUNT}) ", text)
        look = Look.read(text[amount.end() :] if amount else text)
        return (Amount.read(amount[1]) if amount else Amount("some", 1)), look

    def draw(self, rng: Random, kind: Kind) -> tuple[Amount, Look]:
        amount, look = draw_amount(rng, 3), Look.draw(rng, kind)
        return amount, look

    def say(self, value: tuple[Amount, Look], rng: Random) -> tuple[str, bool]:
        amount, look = value
        if amount.words == "some":
            return look.say(True, rng), True
        words, plural = amount.say(rng)
        return f"{words} {look.say(plural, rng)}", plural


class Items:
    """Items of a look, in the plural: "blue squares"."""

    pattern = LOOK
    plural = True

    def __init__(self, *, plural: bool = True) -> None:
        self.plural = plural

    def read(self, text: str) -> Look:
        return Look.read(text)

    def draw(self, rng: Random, kind: Kind) -> Look:
        return Look.draw(rng, kind)

    def say(self, value: Look, rng: Random) -> tuple[str, bool]:
        return value.say(self.plural, rng), self.plural


class Place:
    """Where an item touches its box."""

    pattern = rf"(?:not )?(?:{'|'.join(sorted(TOUCHES, key=len, reverse=True))})"

    def read(self, text: str) -> Touch:
        return Touch.read(text)

    def draw(self, rng: Random, kind: Kind) -> Touch:
        return Touch.draw(rng)

    def say(self, value: Touch, rng: Random) -> tuple[str, bool]:
        return "not " * value.negated + value.wording, False


class Height:
    """How many items a box holds, of whatever look: "exactly three blocks". Numbers that stand alone are exact."""

    pattern = rf"{AMOUNT} (?:block|object|item)s?"

    def __init__(self, noun: str) -> None:
        self.noun = noun

    def read(self, text: str) -> Amount:
        return Amount.read(text.rpartition(" ")[0], exact=True)

    def draw(self, rng: Random, kind: Kind) -> Amount:
        words = rng.choice(("", "", "exactly", "exactly", "only", "at least", "at most", "more than"))
        most = MOST_STACKED if kind == "tower" else MOST_SCATTERED
        number = rng.randint(2 if words in ("", "at least") else 1, most - (words in ("at most", "more than")))
        return Amount.read(f"{words} {WORDS[number]}".strip(), exact=True)

    def say(self, value: Amount, rng: Random) -> tuple[str, bool]:
        words, plural = value.say(rng)
        return f"{words} {self.noun}{'s' * plural}", plural
