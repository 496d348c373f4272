"""Sentences about a view: what is seen, in which colour, how far away and on which side of the picture.

One small grammar serves the captions that vision-language models train on and the prompts that later score an agent's
view, so a goal is asked for in the words the model has read:

    caption = phrase | phrase ", " ... phrase " and " phrase
    phrase  = ("a" | "an" | number) [colour] label distance side
    distance = "within reach" (nearer than 1 m) | "close by" (nearer than 2 m)
             | "a few steps away" (nearer than 3.5 m) | "far away"
    side     = "on the left" | "in the middle" | "on the right"

A caption names the nearest things first, and equally near ones in the order of the alphabet: the same things in the
same places always give the same text. Left and right decide only between things that are otherwise alike; but for
those, exchanging the two words describes the mirrored view in the usual order, too.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from scene.english import plural

DISTANCES: Final = (
    (1.0, "within reach"),  # where FindObject counts an object as found
    (2.0, "close by"),
    (3.5, "a few steps away"),
    (float("inf"), "far away"),
)  # nearer than, metres
SIDES: Final[dict[str, str]] = {"left": "on the left", "middle": "in the middle", "right": "on the right"}
NUMBERS: Final = {2: "two", 3: "three"}
EMPTY: Final = "a bare wall"
BASELINE_PROMPTS: Final = tuple(f"{EMPTY} {word}" for _, word in DISTANCES)
"""What a view is called that shows nothing in particular: the neutral end of goal-baseline rewards."""


def distance_word(distance_m: float) -> str:
    """The words for a horizontal distance."""
    return next(word for limit, word in DISTANCES if distance_m < limit or limit == float("inf"))


def noun(label: str, color: str = "", count: int = 1) -> str:
    """ "a red armchair", "an orange bed", "two blue chairs" (more than three are "several")."""
    name = " ".join(part for part in (color, label if count == 1 else plural(label)) if part)
    if count > 1:
        return f"{NUMBERS.get(count, 'several')} {name}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def phrase(label: str, color: str, distance_m: float, side: str, count: int = 1) -> str:
    """One thing (or `count` alike) in a view; `side` is a key of SIDES."""
    return f"{noun(label, color, count)} {distance_word(distance_m)} {SIDES[side]}"


def caption(things: Sequence[tuple[str, str, float, str]], wall_m: float) -> str:
    """A whole view in one sentence.

    Args:
        things: (label, colour, distance in metres, side) of each thing named; things alike are counted together.
        wall_m: distance of what fills the view when nothing is named.
    """
    if not things:
        return f"{EMPTY} {distance_word(wall_m)}"
    words = [word for _, word in DISTANCES]
    alike = Counter((words.index(distance_word(m)), label, color, side) for label, color, m, side in things)
    parts = [f"{noun(label, color, alike[rank, label, color, side])} {words[rank]} {SIDES[side]}"
             for rank, label, color, side in sorted(alike)]  # fmt: skip
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def goal_prompts(label: str, color: str = "") -> list[str]:
    """Captions of views that show a goal within reach, one per side of the picture."""
    return [phrase(label, color, 0.0, side) for side in SIDES]
