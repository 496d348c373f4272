"""What a referral sentence means: a small query, evaluated on the scene graph.

A query names a class, perhaps a colour, and what stands in a relation to things named the same way. With several
clauses ("next to the bed and left of the door") all hold; an anchor may itself be a query ("on the table that is next
to the bed"). `resolve` returns every object it fits; the generator keeps a sentence only when that is exactly the
targets, and anybody can ask again.
"""

import json
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from core.errors import InputError, nearest
from scene.graph import SceneGraph, candidates
from scene.relations import VIEW_DEPENDENT, Relation
from scene.support import CEILING, FLOOR, WALL
from scene.types import Scene, SceneObject

R = Relation
SUPERLATIVE_MIN_GAP_M: Final = 0.2
"""The closest thing is closer than the next by this much, or it is not said; source: Sr3D (ReferIt3D, ECCV 2020)."""


SURFACES: Final = {"floor": FLOOR, "wall": WALL, "ceiling": CEILING}
"""Anchors that are part of the room, unless the scene has an object of that label."""


@dataclass(frozen=True)
class Predicate:
    """A relation as sentences use it."""

    kind: str  # of the referral: relation, support, between, aligned, superlative
    words: tuple[str, ...]  # wordings of one meaning
    relations: tuple[Relation, ...] = ()  # graph edges that make it true; any of them
    inverse: bool = False  # the edge runs from the anchor to the thing meant
    surface: bool = False  # the anchor is the floor, a wall or the ceiling
    only_of: frozenset[str] = frozenset()  # classes it is said of; empty = all
    not_of: frozenset[str] = frozenset()  # classes it sounds wrong of

    @property
    def view_dependent(self) -> bool:
        return any(relation in VIEW_DEPENDENT for relation in self.relations)

    def is_said_of(self, label: str) -> bool:
        """Whether the wording suits a class; truth does not depend on it."""
        return label not in self.not_of and (not self.only_of or label in self.only_of)


_BESIDE = (R.ADJACENT_TO, R.BESIDES)
_NEXT = (*_BESIDE, R.NEXT_TO)
_IN = (R.INSIDE, R.PLACED_IN, R.EMBEDDED_INTO)
_WALL_PARTS: Final = frozenset({"door", "doorway", "doorframe", "window", "wall cabinet"})
_BUILT_IN: Final = frozenset({"sink", "stove", "oven", "dishwasher", "stovetop"})
PREDICATES: Final[dict[str, Predicate]] = {
    "left": Predicate("relation", ("left of", "to the left of"), (R.LEFT_OF,)),
    "right": Predicate("relation", ("right of", "to the right of"), (R.RIGHT_OF,)),
    "behind": Predicate("relation", ("behind",), (R.BEHIND,)),
    "front": Predicate("relation", ("in front of",), (R.IN_FRONT_OF,)),
    "adjacent": Predicate("relation", ("adjacent to", "touching"), (R.ADJACENT_TO,)),
    "beside": Predicate("relation", ("beside", "at the side of"), _BESIDE),
    "next": Predicate("relation", ("next to", "by"), _NEXT),
    "near": Predicate("relation", ("near", "close to"), (*_NEXT, R.CLOSE_TO)),
    "above": Predicate("relation", ("above", "over"), (R.ABOVE,)),
    "below": Predicate("relation", ("below", "under", "beneath"), (R.BELOW,)),
    "higher": Predicate("relation", ("higher than", "higher up than"), (R.HIGHER_THAN,)),
    "lower": Predicate("relation", ("lower than", "lower down than"), (R.LOWER_THAN,)),
    "on": Predicate("support", ("on", "on top of"), (R.SUPPORTED_BY,)),
    "in": Predicate("support", ("in", "inside"), _IN, not_of=_BUILT_IN),
    "embedded": Predicate("support", ("set into", "built into"), (R.EMBEDDED_INTO,), only_of=_BUILT_IN),
    "hanging": Predicate("support", ("hanging on",), (R.HANGING_ON,)),
    "carrying": Predicate("support", ("on it", "on top"), (R.SUPPORTED_BY,), inverse=True),
    "containing": Predicate("support", ("in it", "inside"), _IN, inverse=True),
    "standing": Predicate("support", ("on",), (R.SUPPORTED_BY,), surface=True),
    "hung": Predicate("support", ("hanging on",), (R.HANGING_ON,), surface=True),
    "mounted": Predicate("support", ("mounted on", "fixed to"), (R.MOUNTED_ON,), surface=True),
    "affixed": Predicate("support", ("fixed to", "attached to"), (R.AFFIXED_ON,), surface=True, not_of=_WALL_PARTS),
    "set": Predicate("support", ("in", "set into"), (R.AFFIXED_ON,), surface=True, only_of=_WALL_PARTS),
    "between": Predicate("between", ("between",), (R.BETWEEN,)),
    "aligned": Predicate("aligned", ("aligned with", "in line with"), (R.ALIGNED,)),
    "closest": Predicate("superlative", ("closest to", "nearest to")),
    "farthest": Predicate("superlative", ("farthest from", "furthest from")),
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
class Clause:
    """In a relation to something."""

    predicate: str  # key of PREDICATES
    anchors: "tuple[Noun | Query, ...]"  # two for between, one otherwise

    def __post_init__(self) -> None:
        if self.predicate not in PREDICATES:
            raise InputError(f"unknown predicate {self.predicate!r}; {nearest(self.predicate, PREDICATES)}")
        expected = 2 if self.predicate == "between" else 1
        if len(self.anchors) != expected:
            raise InputError(f"{self.predicate} takes {expected} anchors, got {len(self.anchors)}")


@dataclass(frozen=True)
class Query:
    """`noun`, and where `predicate` is given, only those in that relation to `anchors`, and in those of `more`."""

    noun: Noun
    predicate: str = ""  # key of PREDICATES, or empty
    anchors: "tuple[Noun | Query, ...]" = ()  # two for between, one otherwise
    more: tuple[Clause, ...] = ()  # a star's further clauses

    def __post_init__(self) -> None:
        if self.predicate:
            Clause(self.predicate, self.anchors)  # checks both
        elif self.anchors or self.more:
            raise InputError(f"a plain query takes 0 anchors, got {len(self.anchors)} and {len(self.more)} clauses")
        if self.more and any(PREDICATES[c.predicate].kind == "superlative" for c in self.clauses):
            raise InputError("a superlative stands alone: of which things would it be the closest?")

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """All that is said of the things besides their noun."""
        return (Clause(self.predicate, self.anchors), *self.more) if self.predicate else ()

    @property
    def kind(self) -> str:
        """unique (class alone), attribute (class and colour), star, chain, or the predicate's kind."""
        if self.more:
            return "star"
        if any(isinstance(anchor, Query) for anchor in self.anchors):
            return "chain"
        if self.predicate:
            return PREDICATES[self.predicate].kind
        return "attribute" if self.noun.color else "unique"

    @property
    def view_dependent(self) -> bool:
        """Whether its truth depends on where the viewer looks."""
        return any(PREDICATES[clause.predicate].view_dependent for _, clause in self.claims())

    @property
    def anchor_nouns(self) -> tuple[Noun, ...]:
        """The noun of each anchor of the first clause."""
        return tuple(anchor.noun if isinstance(anchor, Query) else anchor for anchor in self.anchors)

    def claims(self) -> "Iterator[tuple[Noun, Clause]]":
        """Every clause with the noun it is said of, those of anchors included."""
        for clause in self.clauses:
            yield self.noun, clause
            for anchor in clause.anchors:
                if isinstance(anchor, Query):
                    yield from anchor.claims()

    def nouns(self) -> "Iterator[Noun]":
        """Every noun it says, its own first."""
        yield self.noun
        for clause in self.clauses:
            for anchor in clause.anchors:
                if isinstance(anchor, Query):
                    yield from anchor.nouns()
                else:
                    yield anchor

    def to_json(self) -> str:
        return json.dumps(_plain(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Query":
        """Raises InputError when the text is no query."""
        try:
            return _query(json.loads(text))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"not a query: {text[:80]!r} ({error})") from error


def _plain(query: Query) -> dict[str, Any]:
    raw: dict[str, Any] = {"noun": [query.noun.label, query.noun.color], "predicate": query.predicate}
    raw["anchors"] = [_plain_anchor(anchor) for anchor in query.anchors]
    if query.more:
        raw["more"] = [
            [clause.predicate, [_plain_anchor(anchor) for anchor in clause.anchors]] for clause in query.more
        ]
    return raw


def _plain_anchor(anchor: Noun | Query) -> Any:
    return _plain(anchor) if isinstance(anchor, Query) else [anchor.label, anchor.color]


def _query(raw: dict[str, Any]) -> Query:
    label, color = raw["noun"]
    more = tuple(Clause(str(predicate), tuple(map(_anchor, ends))) for predicate, ends in raw.get("more", ()))
    return Query(Noun(str(label), str(color)), str(raw["predicate"]), tuple(map(_anchor, raw["anchors"])), more)


def _anchor(raw: Any) -> Noun | Query:
    if isinstance(raw, dict):
        return _query(raw)
    label, color = raw
    return Noun(str(label), str(color))


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
    return resolve_among(query, candidates(scene, room), scene, graph)


def resolve_among(query: Query, scope: Sequence[int], scene: Scene, graph: SceneGraph) -> set[int]:
    """`resolve` where the objects that may be meant are known."""
    found = _named(query.noun, scope, scene)
    for clause in query.clauses:
        if not found:
            break
        anchors = [_fitting(anchor, scope, scene, graph) for anchor in clause.anchors]
        if clause.predicate in ("closest", "farthest"):
            found = _extreme(found, anchors[0], scene, clause.predicate == "closest")
        else:
            found &= _related(PREDICATES[clause.predicate], anchors, graph)
    return found


def _named(noun: Noun, scope: Sequence[int], scene: Scene) -> set[int]:
    return {i for i in scope if noun.fits(scene.objects[i])}


def _fitting(anchor: Noun | Query, scope: Sequence[int], scene: Scene, graph: SceneGraph) -> set[int]:
    if isinstance(anchor, Query):
        return resolve_among(anchor, scope, scene, graph)
    found = _named(anchor, scope, scene)
    if not found and not anchor.color and anchor.label in SURFACES:
        return {SURFACES[anchor.label]}
    return found


def _related(predicate: Predicate, anchors: list[set[int]], graph: SceneGraph) -> Set[int]:
    if predicate.kind == "aligned":
        edges = (edge for i in anchors[0] for edge in graph.edges_of(i) if edge.relation is R.ALIGNED)
        return {other for edge in edges for other in edge.objects}
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
