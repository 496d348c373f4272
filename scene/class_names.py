"""Which of a scene's classes a word may mean: the class itself, a common other name of it, or its head noun."""

from collections.abc import Set
from functools import lru_cache
from typing import Final

OTHER_NAMES: Final[tuple[frozenset[str], ...]] = tuple(
    frozenset(names.split(", "))
    for names in (
        "sofa, couch, settee, loveseat",
        "tv, television, tv screen",
        "fridge, refrigerator",
        "garbage can, trash can, trashcan, rubbish bin, waste bin, wastebasket, trash bin, bin, dustbin",
        "picture, painting, poster, photo, artwork",
        "nightstand, bedside table, night table, side table, end table",
        "bookshelf, bookcase, shelf, shelves, shelving unit",
        "wardrobe, closet, armoire",
        "rug, carpet, mat",
        "plant, house plant, houseplant, potted plant",
        "stove, oven, cooker, range",
        "curtain, curtains, drapes",
        "mug, cup",
        "phone, cell phone, telephone, smartphone",
        "countertop, counter, kitchen counter",
        "bathtub, bath, tub",
        "cabinet, cupboard",
        "clock, alarm clock",
        "table lamp, desk lamp, lamp",
        "door, doorway, doorframe",
        "blinds, window blinds, shades",
        "monitor, computer monitor, screen, display",
        "laptop, notebook computer",
        "pillow, cushion",
        "stool, footstool, ottoman, footrest",
        "keys, key, key chain",
        "dresser, chest of drawers, drawers",
        "towel, bath towel",
        "person, people, man, woman",
    )
)
"""Names that people use for one class; a name may stand in several rows."""


@lru_cache(maxsize=1 << 14)
def class_of(name: str, labels: Set[str]) -> tuple[str, ...]:
    """The classes among `labels` that a name may mean; itself when it is one of them, or none is like it.

    Otherwise its other names; then classes it is the head of ("chair": "office chair"); then its own head ("office
    chair": "chair").
    """
    if name in labels or not name or not labels:
        return (name,)
    others = sorted(label for names in OTHER_NAMES if name in names for label in names & labels)
    if others:
        return tuple(dict.fromkeys(others))
    kinds = sorted(label for label in labels if label.endswith(f" {name}"))
    if kinds:
        return tuple(kinds)
    words = name.split()
    for start in range(1, len(words)):
        head = " ".join(words[start:])
        if head in labels:
            return (head,)
    return (name,)
