"""Questions that their words alone decide: sums, and orders put together from sentences.

They come with a picture of the home like all others, which has nothing to do with the answer. So a model that looks has
to learn when not to, and what it gains on them is not seeing.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from agents.reasoning.question_balance import Asked
from agents.reasoning.question_views import View, can_be_asked
from agents.reasoning.questions import about
from scene.english import counted, number, plural

MOST: Final = 9  # of any number in a sum


def word_questions(views: Sequence[View], labels: Sequence[str], each: int, rng: np.random.Generator) -> list[Asked]:
    """`each` sums and as many orders about things of a home; none where it has fewer than four kinds of things."""
    kinds = sorted({label for label in labels if can_be_asked(label)})
    if len(kinds) < 4 or not views:
        return []
    asked: dict[str, Asked] = {}
    for turn in range(each):
        view = views[int(rng.integers(len(views)))]
        for one in (_sum(view, kinds, turn, rng), _order(view, kinds, turn, rng)):
            asked[one.sample.id] = Asked(replace(one.sample, needs_picture=False), one.key, one.turn)
    return list(asked.values())


def _sum(view: View, kinds: Sequence[str], turn: int, rng: np.random.Generator) -> Asked:
    """What is left of things that are brought and carried away, the answer drawn first."""
    label = kinds[int(rng.integers(len(kinds)))]
    many = plural(label)
    left = turn % (MOST + 1)
    total = int(rng.integers(max(left, 2), MOST + 1))  # before some are carried away
    first = int(rng.integers(1, total))
    there = f"there {_is(first)} {counted(label, first)} in a room."
    story = f"{there} {number(total - first)} more {_is(total - first)} brought in."
    thought = f"{first} + {total - first} = {total}."
    if total > left:
        story += f" then {number(total - left)} {_is(total - left)} carried away."
        thought += f" {total} - {total - left} = {left}."
    question = f"{story} how many {many} are in the room?"
    return about("arithmetic", [view], question, str(left), thought, reward="number", key="sum")


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _order(view: View, kinds: Sequence[str], turn: int, rng: np.random.Generator) -> Asked:
    """Which side of one thing another stands on, from sentences about neighbours in a row of four."""
    row = [kinds[k] for k in rng.permutation(len(kinds))[:4]]
    sentences = []
    for near, far in zip(row, row[1:]):
        flip = rng.random() < 0.5
        sentences.append(f"the {far} is right of the {near}." if flip else f"the {near} is left of the {far}.")
    told = " ".join(sentences[k] for k in rng.permutation(len(sentences)))
    start = int(rng.integers(2))
    near, far = row[start], row[start + 2]  # two apart: no sentence says it
    asked, anchor, answer = (near, far, "left") if turn % 2 == 0 else (far, near, "right")
    question = f"{told} is the {asked} left or right of the {anchor}?"
    thought = f"from left to right: {', '.join(row)}."
    return about("deduction", [view], question, answer, thought, key="order", choices=("left", "right"))
