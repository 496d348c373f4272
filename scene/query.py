"""What a referral sentence means: a small query, evaluated on the scene graph.

A query names a class, perhaps a colour, and what stands in a relation to things named the same way. `resolve` returns
every object it fits; the generator keeps a sentence only when that is exactly the target, and anybody can ask again.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from core.errors import InputError, nearest
from scene.graph import SceneGraph, candidates
from scene.relations import SYNONYMS, VIEW_DEPENDENT, Relation
from scene.types import Scene, SceneObject

R = Relation
SUPERLATIVE_MIN_GAP_M: Final = 0.2
"""The closest thing is closer than the next by this much, or it is not said; source: Sr3D (ReferIt3D, ECCV 2020)."""


@dataclass(frozen=True)
class Predicate:
    """A relation as sentences use it."""

    kind: str  # of the referral: relation, support, between, superlative
    words: tuple[str, ...]  # wordings of one meaning
    relations: tuple[Relation, ...] = ()  # graph edges that make it true; any of them
    inverse: bool = False  # the edge runs from the anchor to the thing meant

    @property
    def view_dependent(self) -> bool:
        return any(relation in VIEW_DEPENDENT for relation in self.relations)


_NEXT = (R.ADJACENT_TO, R.BESIDES, R.NEXT_TO)
_IN = (R.INSIDE, R.PLACED_IN, R.EMBEDDED_INTO)
PREDICATES: Final[dict[str, Predicate]] = {
    "left": Predicate("relation", SYNONYMS[R.LEFT_OF], (R.LEFT_OF,)),
    "right": Predicate("relation", SYNONYMS[R.RIGHT_OF], (R.RIGHT_OF,)),
    "behind": Predicate("relation", SYNONYMS[R.BEHIND], (R.BEHIND,)),
    "front": Predicate("relation", SYNONYMS[R.IN_FRONT_OF], (R.IN_FRONT_OF,)),
    "next": Predicate("relation", ("next to", "beside"), _NEXT),
    "near": Predicate("relation", ("near", "close to"), (*_NEXT, R.CLOSE_TO)),
    "above": Predicate("relation", SYNONYMS[R.ABOVE], (R.ABOVE,)),
    "below": Predicate("relation", SYNONYMS[R.BELOW], (R.BELOW,)),
    "on": Predicate("support", SYNONYMS[R.SUPPORTED_BY], (R.SUPPORTED_BY,)),
    "in": Predicate("support", SYNONYMS[R.INSIDE], _IN),
    "hanging": Predicate("support", SYNONYMS[R.HANGING_ON], (R.HANGING_ON,)),
    "carrying": Predicate("support", ("on it", "on top"), (R.SUPPORTED_BY,), inverse=True),
    "containing": Predicate("support", ("in it", "inside"), _IN, inverse=True),
    "between": Predicate("between", ("between",), (R.BETWEEN,)),
    "closest": Predicate("superlative", ("closest to", "nearest to")),
    "farthest": Predicate("superlative", ("farthest from",)),
}


@dataclass(frozen=True, order=True)
class Noun:
    """A class of things, narrowed by colour where one is given."""

    label: str
    color: str = ""

    def fits(self, item: SceneObject) -> bool:
        return item.label == self.label and (not self.color or item.attributes.get("color") == self.color)

    def __str__(self) -> str:
        return f"{self.color} {self.label}" if self.color else self.label


@dataclass(frozen=True)
class Query:
    """`noun`, and where `predicate` is given, only those in that relation to `anchors`."""

    noun: Noun
    predicate: str = ""  # key of PREDICATES, or empty
    anchors: tuple[Noun, ...] = ()  # two for between, one otherwise

    def __post_init__(self) -> None:
        if self.predicate and self.predicate not in PREDICATES:
            raise InputError(f"unknown predicate {self.predicate!r}; {nearest(self.predicate, PREDICATES)}")
        expected = 0 if not self.predicate else 2 if self.predicate == "between" else 1
        if len(self.anchors) != expected:
            raise InputError(f"{self.predicate or 'a plain query'} takes {expected} anchors, got {len(self.anchors)}")

    @property
    def kind(self) -> str:
        """unique (class alone), attribute (class and colour), or the predicate's kind."""
        if self.predicate:
            return PREDICATES[self.predicate].kind
        return "attribute" if self.noun.color else "unique"

    @property
    def view_dependent(self) -> bool:
        """Whether its truth depends on where the viewer looks."""
        return bool(self.predicate) and PREDICATES[self.predicate].view_dependent

    def to_json(self) -> str:
        nouns = [[noun.label, noun.color] for noun in (self.noun, *self.anchors)]
        return json.dumps({"noun": nouns[0], "predicate": self.predicate, "anchors": nouns[1:]}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Query":
        """Raises InputError when the text is no query."""
        try:
            raw: dict[str, Any] = json.loads(text)
            anchors = tuple(Noun(str(label), str(color)) for label, color in raw["anchors"])
            label, color = raw["noun"]
            return cls(Noun(str(label), str(color)), str(raw["predicate"]), anchors)
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"not a query: {text[:80]!r} ({error})") from error


def resolve(query: Query, scene: Scene, graph: SceneGraph, room: int = -1) -> set[int]:
    """Ids of all objects the query fits.

    A relation to an anchor that fits several things holds when it holds for one of them. A superlative needs its anchor
    to be one thing (otherwise nothing fits), leaves the anchor itself out, and fits everything within
    SUPERLATIVE_MIN_GAP_M of the extreme.

    Args:
        room: the room the sentence is about, in homes that are spoken of room by room.

    Raises:
        InputError: such a home without a room.
    """
    scope = candidates(scene, room)
    named = {i for i in scope if query.noun.fits(scene.objects[i])}
    if not query.predicate:
        return named
    anchors = [{i for i in scope if noun.fits(scene.objects[i])} for noun in query.anchors]
    if query.predicate in ("closest", "farthest"):
        return _extreme(named, anchors[0], scene, query.predicate == "closest")
    return named & _related(PREDICATES[query.predicate], anchors, graph)


def _related(predicate: Predicate, anchors: list[set[int]], graph: SceneGraph) -> set[int]:
    if len(anchors) == 2:
        ends = [tuple(sorted((a, b))) for a in anchors[0] for b in anchors[1] if a != b]
        return {i for relation in predicate.relations for end in ends for i in graph.subjects.get((relation, end), ())}
    if predicate.inverse:
        edges = (edge for a in anchors[0] for edge in graph.edges_of(a) if edge.relation in predicate.relations)
        return {edge.objects[0] for edge in edges if edge.objects[0] >= 0}
    return {i for relation in predicate.relations for a in anchors[0] for i in graph.subjects.get((relation, (a,)), ())}


def _extreme(named: set[int], anchor: set[int], scene: Scene, closest: bool) -> set[int]:
    if len(anchor) != 1:
        return set()
    (centre,) = anchor
    rest = sorted(named - anchor)
    if not rest:
        return set()
    boxes = scene.boxes
    offset = boxes[rest, :2] - boxes[centre, :2]
    distance = np.hypot(offset[:, 0], offset[:, 1]) * (1 if closest else -1)
    return {i for i, d in zip(rest, distance) if d < distance.min() + SUPERLATIVE_MIN_GAP_M}
