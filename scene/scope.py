"""What can be said within a scope: the home, or one room of a large one.

A `Scope` indexes the graph once per home: which things a noun fits, which names fit one thing only, and who stands in
which relation to what. In training (`held_out=False`) held-out language (scene/heldout.py) is not even in the index.
"""

from collections import Counter, defaultdict
from typing import Final

import numpy as np

from scene.graph import SceneGraph, spoken_room_by_room
from scene.heldout import SAME_WORDS, is_held_out_color, is_held_out_relation
from scene.query import PREDICATES, Noun
from scene.relations import Relation
from scene.support import SURFACE_NAMES
from scene.types import Scene

FURNITURE_MIN_M: Final = 0.7  # a ball, a box or a bin "on the floor" is smaller
CLEAR_MARGIN_M: Final = 0.1  # a direction is said of a target only when it holds by this much

_KEYS: Final[dict[tuple[Relation, bool], tuple[str, ...]]] = {
    (relation, surface): tuple(
        key
        for key, predicate in PREDICATES.items()
        if predicate.kind in ("relation", "support")
        and relation in predicate.relations
        and predicate.surface == surface
        and not (surface and predicate.inverse)
    )
    for relation in Relation
    for surface in (False, True)
}
"""Predicates that an edge makes true; with the floor, a wall or the ceiling as its object, or a thing."""


class Scope:
    """The objects a sentence may mean, and the relations among them that are clear enough to be said."""

    def __init__(self, scene: Scene, graph: SceneGraph, room: int = -1, *, held_out: bool = True) -> None:
        self.scene, self.graph, self.room, self.held_out = scene, graph, room, held_out
        self.boxes = scene.boxes
        everything = range(len(scene.objects))
        self.ids = list(everything) if room < 0 else np.flatnonzero(graph.room == room).tolist()
        self.home_of = graph.room.tolist()
        self.nouns: dict[int, tuple[Noun, ...]] = {i: self._nouns_of(i) for i in self.ids}
        self._rivals = Counter((graph.labels[i], self.home_of[i]) for i in self.ids)
        self.of_noun: dict[Noun, set[int]] = {}
        for i in self.ids:
            for noun in self.nouns[i]:
                self.of_noun.setdefault(noun, set()).add(i)
        unique = {i: [noun for noun in self.nouns[i] if len(self.of_noun[noun]) == 1] for i in self.ids}
        self.names: dict[int, list[Noun]] = {i: nouns for i, nouns in unique.items() if nouns}  # the shortest first
        for surface, label in SURFACE_NAMES.items():
            if Noun(label) not in self.of_noun:
                self.names[surface] = [Noun(label)]
        self.related: dict[str, dict[int, set[int]]] = {}
        self.between: dict[tuple[int, int], set[int]] = defaultdict(set)
        self.rows: set[tuple[int, ...]] = set()  # things of a class in a line
        self._index()

    def _nouns_of(self, i: int) -> tuple[Noun, ...]:
        item = self.scene.objects[i]
        color = item.attributes.get("color", "")
        if not color or not self.may_color(color, item.label):
            return (Noun(item.label),)
        return (Noun(item.label), Noun(item.label, color))

    def may_color(self, color: str, label: str) -> bool:
        return self.held_out or not is_held_out_color(color, label)

    def may_relate(self, key: str, label: str) -> bool:
        """Whether a relation may be said of a class here."""
        return PREDICATES[key].is_said_of(label) and (self.held_out or not is_held_out_relation(key, label))

    def _index(self) -> None:
        allowed = set(self.ids)
        related: dict[str, dict[int, set[int]]] = {key: defaultdict(set) for key in PREDICATES}
        blurred: set[tuple[str, int]] = set()
        labels = self.graph.labels
        may = {
            (key, label): self.may_relate(key, label) for key in PREDICATES for label in {labels[i] for i in self.ids}
        }
        for i in self.ids:
            label = labels[i]
            for edge in self.graph.edges_of(i):
                relation, objects = edge.relation, edge.objects
                if relation is Relation.BETWEEN:
                    if may["between", label] and allowed.issuperset(objects):
                        self.between[objects[0], objects[1]].add(i)
                elif relation is Relation.ALIGNED:
                    if may["aligned", label]:
                        self.rows.add(tuple(sorted((i, *objects))))
                elif objects[0] < 0 or objects[0] in allowed:
                    other = objects[0]
                    for key in _KEYS[relation, other < 0]:
                        if PREDICATES[key].inverse:  # said of what carries, but it says "on" of what is carried
                            if may[SAME_WORDS[key], label]:
                                related[key][i].add(other)
                        elif may[key, label]:
                            related[key][other].add(i)
                        if edge.reach and edge.margin < CLEAR_MARGIN_M:
                            blurred.add((key, other))
        self.related = {
            key: {anchor: found for anchor, found in ends.items() if (key, anchor) not in blurred}
            for key, ends in related.items()
        }

    def rivals(self, i: int) -> int:
        """Things of its class in its room, itself included."""
        return self._rivals[self.graph.labels[i], self.home_of[i]]

    def is_obvious_on_floor(self, i: int) -> bool:
        """Whether nobody would say so of a thing that stands on the floor: it is furniture."""
        return bool(self.boxes[i, 3:6].max() > FURNITURE_MIN_M)

    def siblings(self, i: int, j: int) -> bool:
        """Whether the graph would know how the two stand to each other (scene/graph.py): one supporter, or one room."""
        parent = self.graph.support_parent
        a, b = int(parent[i]), int(parent[j])
        return a == b if a >= 0 or b >= 0 else self.home_of[i] == self.home_of[j]


def scopes(scene: Scene, graph: SceneGraph, *, held_out: bool = True) -> list[Scope]:
    """The whole home, or each furnished room of a large one."""
    if not spoken_room_by_room(scene):
        return [Scope(scene, graph, -1, held_out=held_out)]
    rooms = np.unique(graph.room[graph.room >= 0]).tolist()
    return [Scope(scene, graph, room, held_out=held_out) for room in rooms]
