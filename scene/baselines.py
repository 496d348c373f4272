"""What a grounding model is compared with: chance, the class alone, class and colour, and a symbolic parser.

Each baseline gives a score per candidate; equal scores are a tie, and a tie is shared evenly (`expected_accuracy`), so
that no figure depends on a draw. "(oracle)" reads class or colour from the true target, as published label-only rows
do; "(parsed)" takes them from the sentence, which is what anybody without the truth can do.

`symbolic` parses the sentence (scene/parse.py) and looks it up on the scene graph (scene/query.py). On sentences that
were generated from such a graph it is an upper bound: it asks the very rules that made them true. It never reads the
query that a referral stores.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from core.errors import InputError, check_choice
from scene.graph import SceneGraph
from scene.parse import Reading, readings
from scene.query import Clause, Noun, Query, resolve_among
from scene.types import Scene

PARTLY: Final = 0.5
"""Scores of what the sentence fits exactly are 1; of what it fits in part only, below this."""


@dataclass(frozen=True)
class Asked:
    """A sentence about a scene, and what may be meant."""

    scene: Scene
    graph: SceneGraph
    sentence: str
    ids: tuple[int, ...]  # candidates: indices into scene.objects
    targets: tuple[int, ...] = ()  # the truth; only "(oracle)" baselines look at it

    def __post_init__(self) -> None:
        count = len(self.scene.objects)
        wrong = [i for i in (*self.ids, *self.targets) if not 0 <= i < count]
        if wrong:
            raise InputError(f"scene {self.scene.id} has objects 0..{count - 1}, there is no object {wrong[0]}")


def chance(asked: Asked) -> Float64[ndarray, " N"]:
    """All alike."""
    return np.ones(len(asked.ids))


def label_only(asked: Asked) -> Float64[ndarray, " N"]:
    """1 for the class of the true target, 0 else; where nothing is meant, all alike."""
    labels = {asked.scene.objects[i].label for i in asked.targets}
    return np.array([float(not labels or asked.scene.objects[i].label in labels) for i in asked.ids])


def label_color(asked: Asked) -> Float64[ndarray, " N"]:
    """1 for class and colour of the true target; a source without colours gives `label_only`."""
    named = {_name(asked.scene, i) for i in asked.targets}
    return np.array([float(not named or _name(asked.scene, i) in named) for i in asked.ids])


def label_parsed(asked: Asked) -> Float64[ndarray, " N"]:
    """1 for the class the sentence names first of all; all alike where it names none of the scene's."""
    return _parsed(asked, colored=False)


def label_color_parsed(asked: Asked) -> Float64[ndarray, " N"]:
    """As `label_parsed`, with the colour where the sentence gives one that the class has here."""
    return _parsed(asked, colored=True)


def symbolic(asked: Asked) -> Float64[ndarray, " N"]:
    """1 for what the sentence fits; below PARTLY, by how much of it holds, for the others of the class it names.

    Readings of equal price are taken together, a dearer one counts as holding in part. Where the best reading fits
    nothing, no score reaches PARTLY: the sentence is then false, or not understood. A class nobody knows is any class.
    """
    understood = readings(asked.sentence, {item.label for item in asked.scene.objects})
    scores = np.zeros(len(asked.ids))
    if not understood:
        return scores
    fits = set[int]()
    for reading in understood:
        if reading.penalty > understood[0].penalty and fits:
            break
        found = _fits(reading.query, asked)
        exact = reading.penalty == understood[0].penalty
        if exact:
            fits |= found
        elif found:
            scores = np.maximum(scores, [0.95 * PARTLY * (i in found) for i in asked.ids])
            break
    if not fits:
        partly = _partly(understood[0], asked)
        scores = np.maximum(scores, [0.9 * PARTLY * partly[i] for i in asked.ids])
    return np.where([i in fits for i in asked.ids], 1.0, scores)


BASELINES: Final[dict[str, Callable[[Asked], Float64[ndarray, " N"]]]] = {
    "chance": chance,
    "label (oracle)": label_only,
    "label + colour (oracle)": label_color,
    "label (parsed)": label_parsed,
    "label + colour (parsed)": label_color_parsed,
    "symbolic parser": symbolic,
}


def baseline_scores(name: str, asked: Asked) -> Float64[ndarray, " N"]:
    """Scores of one of BASELINES. Raises InputError for an unknown name."""
    check_choice("baseline", name, BASELINES)
    return BASELINES[name](asked)


def fitting(asked: Asked, scores: Float64[ndarray, " N"]) -> set[int]:
    """Ids of what a symbolic score says the sentence means: several, one, or none."""
    return {i for i, score in zip(asked.ids, scores) if score > PARTLY}


def expected_accuracy(scores: Float64[ndarray, " N"], right: Bool[ndarray, " N"]) -> float:
    """Chance that the highest score is a right one, ties broken evenly; 0 without candidates.

    Raises:
        InputError: lengths that differ.
    """
    if len(scores) != len(right):
        raise InputError(f"{len(scores)} scores for {len(right)} candidates")
    if not len(scores):
        return 0.0
    return float(np.asarray(right, dtype=bool)[scores == scores.max()].mean())


def _name(scene: Scene, i: int) -> tuple[str, str]:
    item = scene.objects[i]
    return item.label, item.attributes.get("color", "")


def _parsed(asked: Asked, *, colored: bool) -> Float64[ndarray, " N"]:
    understood = readings(asked.sentence, {item.label for item in asked.scene.objects})
    nouns = {reading.query.noun for reading in understood[:1]}
    nouns |= {r.query.noun for r in understood if r.penalty == understood[0].penalty}
    items = [asked.scene.objects[i] for i in asked.ids]
    full = [any(noun.fits(item) for noun in nouns) for item in items]
    plain = [any(noun.label == item.label for noun in nouns) for item in items]
    chosen = full if colored and any(full) else plain
    return np.array(chosen, dtype=float) if any(chosen) else np.ones(len(items))


def _fits(query: Query, asked: Asked) -> set[int]:
    """`resolve_among`; a noun whose class the scene lacks may be anything."""
    known = {asked.scene.objects[i].label for i in asked.ids}
    if query.noun.label in known:
        return resolve_among(query, asked.ids, asked.scene, asked.graph)
    if not query.predicate and not query.noun.color:
        return set()
    found = (replace(query, noun=Noun(label, query.noun.color)) for label in sorted(known))
    return {i for one in found for i in resolve_among(one, asked.ids, asked.scene, asked.graph)}


def _partly(reading: Reading, asked: Asked) -> dict[int, float]:
    """How much of a reading holds of each candidate, 0..1: the class weighs more than all the rest together."""
    query = reading.query
    parts = list(_parts(query))
    known = any(asked.scene.objects[i].label == query.noun.label for i in asked.ids)
    held = dict.fromkeys(asked.ids, 0.0)
    for part in parts:
        for i in _fits(part, asked) if known or part.predicate or part.noun.color else ():
            held[i] += 1
    if not known:
        return {i: held[i] / (2 * len(parts) + 2) for i in asked.ids}
    whole = 2 * len(parts) + 1
    return {
        i: (held[i] + len(parts) + 1) / whole if asked.scene.objects[i].label == query.noun.label else 0.0
        for i in asked.ids
    }


def _parts(query: Query) -> Iterator[Query]:
    """What a query says, piece by piece: its colour, and each clause of the bare class."""
    if query.noun.color:
        yield Query(query.noun)
    bare = Noun(query.noun.label)
    for clause in query.clauses:
        yield from (Query(bare, one.predicate, one.anchors) for one in (clause, *_plainer(clause)))


def _plainer(clause: Clause) -> Sequence[Clause]:
    """The clause with its anchors named by their class alone, where they are called by more."""
    nouns = tuple(anchor.noun if isinstance(anchor, Query) else anchor for anchor in clause.anchors)
    plain = tuple(Noun(noun.label) for noun in nouns)
    return () if plain == clause.anchors else (Clause(clause.predicate, plain),)
