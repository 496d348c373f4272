"""Questions about one picture of a home, with exact answers and a short worked one.

Every kind is a function from a view to what may be asked about it. Each answer follows from the ids of the pixels, the
boxes and the graph; what a person could dispute is not asked (agents/reasoning/question_views.py). `key` and `turn` of
a question say what has to be even for the words to give nothing away (agents/reasoning/question_balance.py).
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from typing import Final

from agents.reasoning.answers import worked
from agents.reasoning.question_balance import Asked
from agents.reasoning.question_views import Thing, View, can_be_asked, family
from agents.reasoning.types import PICTURE, Sample
from scene.english import plural, with_article
from scene.palette import GOAL_COLORS

COUNTED: Final = 4  # more are not asked for
TOLD: Final = 4  # things of a description
APART: Final = 0.15  # of the width, between the middles of things of which one is left of the other
NEARER_M: Final = 0.6  # at least so much nearer, by its footprint and by its pixels
BOX_SHARE: Final = 0.6  # of a thing must show before its box is asked for
BASES: Final = frozenset({"table", "cabinet"})  # families of things that others are put on
FITTED: Final = frozenset({"countertop", "counter"})  # hobs and sinks are part of them, and not
ON_PIXELS: Final = 15  # of a 64 x 64 picture: something is there, whatever it is
TOLD_COLORS: Final = frozenset(GOAL_COLORS)
SIDE_WORDS: Final = {"left": "on the left", "middle": "in the middle", "right": "on the right"}


def about(
    kind: str,
    views: Sequence[View],
    question: str,
    answer: str,
    thought: str,
    *,
    reward: str = "exact",
    key: str = "",
    turn: str = "",
    choices: tuple[str, ...] = (),
) -> Asked:
    """A question about pictures of one home; its id is the kind, the pictures and the words."""
    pictures = tuple(f"{view.name}.png" for view in views)
    sample = Sample(
        id=f"{kind}/{'+'.join(view.name for view in views)}/{question.replace(' ', '-').rstrip('?.')}",
        prompt=f"{' '.join([PICTURE] * len(views))} {question}",
        pictures=pictures,
        answer=answer,
        reward=reward,
        choices=choices,
        kind=kind,
        group=views[0].home,
        worked=worked(thought, answer),
    )
    return Asked(sample, key or question, turn)


def place(thing: Thing, noun: str = "") -> str:
    """ "a red chair on the left"."""
    return f"{with_article(noun or thing.label)} {SIDE_WORDS[thing.side]}"


# --- existence, count, colour ---


def existence(view: View, nouns: Sequence[tuple[str, str]]) -> Iterator[Asked]:
    """ "is there a red chair in the picture?", about the (label, colour) pairs of `nouns`."""
    for label, color in nouns:
        there = view.shows(label, color)
        if there is None:
            continue
        noun = f"{color} {label}".strip()
        if there:
            found = next(t for t in view.sure if t.label == label and color in ("", t.color))
            thought = f"i see {place(found, noun)}."
        else:
            seen = list(dict.fromkeys(with_article(thing.label) for thing in view.sure))[:3]
            thought = f"i see {' and '.join(seen)} but no {noun}." if seen else f"i see no {noun}."
        question = f"is there {with_article(noun)} in the picture?"
        answer = "yes" if there else "no"
        yield about("existence", [view], question, answer, thought, reward="yes-no", key=noun)


def count(view: View, labels: Sequence[str]) -> Iterator[Asked]:
    """ "how many chairs are in the picture?" """
    for label in labels:
        number = view.count(label)
        if number is None or number > COUNTED:
            continue
        sides = [SIDE_WORDS[thing.side] for thing in sorted(view.alike(label), key=lambda thing: thing.column)]
        thought = f"i see {', '.join(f'one {side}' for side in sides)}." if number else f"i see no {label}."
        question = f"how many {plural(label)} are in the picture?"
        yield about("count", [view], question, str(number), thought, reward="number", key=label)


def color(view: View) -> Iterator[Asked]:
    """ "which color does the sofa have?" """
    for thing in view.sure:
        if thing.clear and thing.color in TOLD_COLORS and view.noun_for(thing) == thing.label:
            question = f"which color does the {thing.label} have?"
            thought = f"the {thing.label} is {SIDE_WORDS[thing.side]}. it is {thing.color}."
            yield about("color", [view], question, thing.color, thought, key=thing.label)


# --- everything at once ---


def describe(view: View) -> Iterator[Asked]:
    """ "what is in the picture?": its largest things from left to right. It teaches seeing more than it tests it."""
    largest: dict[str, Thing] = {}
    for thing in view.sure:
        largest.setdefault(f"{thing.color} {thing.label}".strip() if thing.clear else thing.label, thing)
    named = sorted(list(largest.items())[:TOLD], key=lambda pair: pair[1].column)
    if named:
        thought = f"i see {', '.join(place(thing, noun) for noun, thing in named)}."
        answer = ", ".join(noun for noun, _ in named)
        yield about("describe", [view], "what is in the picture?", answer, thought, reward="words", key=view.name)


# --- relations between two things ---


def _pairs(view: View) -> Iterator[tuple[Thing, str, Thing, str]]:
    named = [(thing, noun) for thing in view.sure if (noun := view.noun_for(thing))]
    for (a, first), (b, second) in combinations(named, 2):
        if a.label != b.label:
            yield a, first, b, second


def left_or_right(view: View) -> Iterator[Asked]:
    """ "is the lamp left or right of the bed?", in both orders."""
    for a, first, b, second in _pairs(view):
        apart = a.box[2] <= b.box[0] or b.box[2] <= a.box[0]
        if not apart or abs(a.column - b.column) < APART:
            continue
        for (thing, noun), (other, anchor) in permutations(((a, first), (b, second))):
            at, to = round(thing.column * view.width), round(other.column * view.width)
            answer = "left" if thing.column < other.column else "right"
            question = f"is the {noun} left or right of the {anchor}?"
            thought = f"the {noun} is at {at} and the {anchor} at {to} of {view.width}."
            key = f"{thing.label} side of {other.label}"
            yield about("relation", [view], question, answer, thought, key=key, choices=("left", "right"))


def on_top(view: View, support: Sequence[int]) -> Iterator[Asked]:
    """ "is there anything on the table?"; asked of tables, desks and low furniture.

    A "yes" has a thing of another colour on it, large enough to be noticed; a "no" nothing that could seem to be on it:
    whatever reaches into its box stands before it.

    Args:
        support: of each object what it rests on or in, by the scene's graph; below 0 = a part of the room.
    """
    for base in view.sure:
        noun = view.noun_for(base)
        if not noun or family(base.label) not in BASES or base.label in FITTED or base.share < BOX_SHARE:
            continue
        things = [thing for thing in view.things if support[thing.id] == base.id]
        seen = [t for t in things if t.pixels >= ON_PIXELS * view.width**2 / 4096 and t.color != base.color]
        left, top, right, low = base.box
        reaching = [t for t in view.things if t.id != base.id and t.box[0] < right and t.box[2] > left
                    and t.box[1] < low and top < t.box[3] <= low]  # fmt: skip
        if seen or not (things or reaching):
            what = f"{with_article(seen[0].label)} is" if seen else "nothing is"
            yield about("relation", [view], f"is there anything on the {noun}?", "yes" if seen else "no",
                        f"{what} on the {noun}.", reward="yes-no", key=f"on {base.label}")  # fmt: skip


def nearer(view: View) -> Iterator[Asked]:
    """ "which is nearer, the bed or the red chair?", in both orders."""
    for a, first, b, second in _pairs(view):
        gaps = (b.distance_m - a.distance_m, b.depth_m - a.depth_m)
        if min(abs(gap) for gap in gaps) < NEARER_M or gaps[0] * gaps[1] < 0:
            continue
        answer = first if gaps[0] > 0 else second
        thing = a if gaps[0] > 0 else b
        for one, other in ((first, second), (second, first)):
            metres = {first: f"{a.distance_m:.1f}", second: f"{b.distance_m:.1f}"}
            yield about(
                "nearer", [view], f"which is nearer, the {one} or the {other}?", answer,
                f"the {one} is {metres[one]} m away and the {other} {metres[other]} m.",
                key=" ".join(sorted((a.label, b.label))), turn=thing.label, choices=(one, other),
            )  # fmt: skip


# --- where ---


def box(view: View) -> Iterator[Asked]:
    """ "where is the red chair?": its box in pixels."""
    for thing in view.sure:
        noun = view.noun_for(thing)
        if noun and thing.share >= BOX_SHARE:
            answer = f"[{', '.join(str(edge) for edge in thing.box)}]"
            question = f"give the box of the {noun} as [x1, y1, x2, y2]."
            yield about("box", [view], question, answer, f"the {noun} is {SIDE_WORDS[thing.side]}.",
                        reward="box", key=thing.label, turn=thing.side)  # fmt: skip


# --- two pictures ---

ORDINALS: Final = ("first", "second")


def _which(
    views: tuple[View, View], question: str, first: bool, thoughts: tuple[str, str], key: str
) -> Iterator[Asked]:
    """The question about both orders of the pictures; `first` says whether it is the first of `views`."""
    for order in ((0, 1), (1, 0)):
        answer = ORDINALS[0] if first == (order[0] == 0) else ORDINALS[1]
        said = ", ".join(f"the {name} picture shows {thoughts[k]}" for name, k in zip(ORDINALS, order))
        yield about("two-views", [views[k] for k in order], question, answer, f"{said}.", key=key, choices=ORDINALS)


def two_views(a: View, b: View) -> Iterator[Asked]:
    """Which of two pictures of a home shows a thing, shows more of its kind, or is nearer to it."""
    for label in asked_labels((a, b)):
        here, there = a.count(label), b.count(label)
        if here is None or there is None or here == there:
            continue
        said = (_number(here, label), _number(there, label))
        if min(here, there) == 0:
            question = f"which picture shows {with_article(label)}, the first or the second?"
            yield from _which((a, b), question, here > there, said, f"shows {label}")
        else:
            question = f"which picture shows more {plural(label)}, the first or the second?"
            yield from _which((a, b), question, here > there, said, f"more {label}")
    in_b = {thing.id: thing for thing in b.sure}
    for thing in a.sure:
        other = in_b.get(thing.id)
        noun = view_noun if other and (view_noun := a.noun_for(thing)) == b.noun_for(other) else ""
        if not noun or other is None:
            continue
        gaps = (other.distance_m - thing.distance_m, other.depth_m - thing.depth_m)
        if min(abs(gap) for gap in gaps) >= NEARER_M and gaps[0] * gaps[1] > 0:
            said = (f"it at {thing.distance_m:.1f} m", f"it at {other.distance_m:.1f} m")
            question = f"in which picture is the {noun} nearer, the first or the second?"
            yield from _which((a, b), question, gaps[0] > 0, said, f"nearer {thing.label}")


def turned(a: View, b: View, left: bool) -> Iterator[Asked]:
    """Which way the camera turned from one picture to the next, where both show a thing that tells it; in both orders.

    Args:
        left: from `a` to `b` it turned to the left.
    """
    in_b = {thing.id: thing for thing in b.sure}
    shared = [(thing, noun) for thing in a.sure if thing.id in in_b and (noun := a.noun_for(thing))
              and noun == b.noun_for(in_b[thing.id])]  # fmt: skip
    if not shared:
        return
    thing, noun = shared[0]
    columns = round(thing.column * a.width), round(in_b[thing.id].column * b.width)
    question = "did the camera turn left or right from the first picture to the second?"
    for views, to_left, (before, after) in (((a, b), left, columns), ((b, a), not left, columns[::-1])):
        moved = "right" if after > before else "left"
        if moved == ("right" if to_left else "left"):  # a thing cut by the edge can seem to move the other way
            answer = "left" if to_left else "right"
            thought = f"the {noun} moves from {before} to {after}, to the {moved}. so the camera turned {answer}."
            yield about("camera-turn", views, question, answer, thought, key=thing.label, choices=("left", "right"))


def _number(count: int, label: str) -> str:
    return f"{count} {label if count == 1 else plural(label)}" if count else f"no {label}"


def asked_labels(views: Sequence[View]) -> list[str]:
    """Labels of things that some of the views surely show and that can be counted, in the order of the alphabet."""
    return sorted({thing.label for view in views for thing in view.sure if can_be_asked(thing.label)})


def asked_nouns(views: Sequence[View]) -> list[tuple[str, str]]:
    """(label, colour) of these things, and (label, "")."""
    colored = {(t.label, t.color) for view in views for t in view.sure if t.clear and t.color in TOLD_COLORS}
    return sorted({(label, "") for label in asked_labels(views)} | {p for p in colored if can_be_asked(p[0])})


__all__ = [
    "about", "asked_labels", "asked_nouns", "box", "color", "count", "existence", "left_or_right", "nearer",
    "on_top", "place", "turned", "two_views",
]  # fmt: skip
