"""Edges of a scene graph as columns: a home has a thousand, of which a reader asks for few.

`EdgeTable` keeps them as arrays; `Edge` objects are made on demand.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from jaxtyping import Float, Float64, Int, Int8, Int64
from numpy import ndarray

from scene.relations import Relation

RELATIONS: Final = tuple(Relation)
"""Relation codes are indices into this."""
CODE: Final = {relation: code for code, relation in enumerate(RELATIONS)}
REACHES: Final = ("", "near", "far")
"""Reach codes are indices into this."""
MARGIN_DIGITS: Final = 4  # margins are kept to a tenth of a millimetre


@dataclass(frozen=True, slots=True)
class Edge:
    """`subject` RELATION `objects`."""

    subject: int
    objects: tuple[int, ...]  # one id, or more for between and aligned; FLOOR, WALL, CEILING (< 0) stand for the room's
    relation: Relation
    margin: float  # clearance to the nearest threshold, see scene/relations.py; at 1e-4
    reach: str = ""  # "near" or "far" with a direction


@dataclass(frozen=True, eq=False)
class EdgeTable:
    """E edges, sorted by subject, relation (in the order of `Relation`) and objects."""

    subject: Int64[ndarray, " E"]
    relation: Int8[ndarray, " E"]  # index into RELATIONS
    margin: Float64[ndarray, " E"]
    reach: Int8[ndarray, " E"]  # index into REACHES
    start: Int64[ndarray, " E+1"]  # the objects of edge e are objects[start[e] : start[e + 1]]
    objects: Int64[ndarray, " M"]

    def __len__(self) -> int:
        return len(self.subject)

    def __iter__(self) -> Iterator[Edge]:
        return self.rows(0, len(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EdgeTable):
            return NotImplemented
        return all(np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    __hash__ = None  # type: ignore[assignment]  # arrays may change

    def rows(self, first: int, stop: int) -> Iterator[Edge]:
        """The edges first..stop-1."""
        start = self.start[first : stop + 1].tolist()
        objects = self.objects[start[0] : start[-1]].tolist() if start else []
        offset = start[0] if start else 0
        part = slice(first, stop)
        columns = (self.subject[part], self.relation[part], self.margin[part], self.reach[part])
        for row, (subject, relation, margin, reach) in enumerate(zip(*(column.tolist() for column in columns))):
            ends = tuple(objects[start[row] - offset : start[row + 1] - offset])
            yield Edge(subject, ends, RELATIONS[relation], margin, REACHES[reach])

    def subjects(self) -> dict[tuple[Relation, tuple[int, ...]], frozenset[int]]:
        """Who stands in a relation to some objects."""
        found: dict[tuple[Relation, tuple[int, ...]], set[int]] = {}
        start, objects = self.start.tolist(), self.objects.tolist()
        for row, (subject, relation) in enumerate(zip(self.subject.tolist(), self.relation.tolist())):
            key = (RELATIONS[relation], tuple(objects[start[row] : start[row + 1]]))
            found.setdefault(key, set()).add(subject)
        return {key: frozenset(ids) for key, ids in found.items()}

    @classmethod
    def in_order(
        cls,
        subject: Int[ndarray, " E"],
        relation: Int[ndarray, " E"],
        margin: Float[ndarray, " E"],
        reach: Int[ndarray, " E"],
        width: Int[ndarray, " E"],
        objects: Int[ndarray, " M"],
    ) -> "EdgeTable":
        """A table of edges that come in any order, each with its objects in ascending order.

        Args:
            width: how many objects each edge has, at least one; they follow each other in `objects`.
        """
        if not len(subject):
            none = np.zeros(0, np.int64)
            return cls(none, none.astype(np.int8), np.zeros(0), none.astype(np.int8), np.zeros(1, np.int64), none)
        start = np.cumsum(width) - width
        second = np.where(width > 1, objects[np.minimum(start + 1, len(objects) - 1)], np.iinfo(np.int64).min)
        keys = (second, objects[start], relation, subject)
        order = np.lexsort(keys)
        alike = np.all([np.diff(key[order]) == 0 for key in keys], axis=0)
        wide = width[order] > 2
        if (alike & (wide[1:] | wide[:-1])).any():  # rare: edges that differ in their third object at the earliest
            ends = [tuple(part.tolist()) for part in np.split(objects, start[1:])]
            rank = {key: place for place, key in enumerate(sorted(set(ends)))}
            order = np.lexsort((np.array([rank[key] for key in ends]), relation, subject))
        width = width[order]
        end = np.cumsum(width)
        gathered = np.repeat(start[order] - (end - width), width) + np.arange(len(objects))
        return cls(
            subject=subject[order].astype(np.int64),
            relation=relation[order].astype(np.int8),
            margin=margin[order].astype(np.float64),
            reach=reach[order].astype(np.int8),
            start=np.concatenate([[0], end]).astype(np.int64),
            objects=objects[gathered].astype(np.int64),
        )

    @classmethod
    def of(cls, edges: Iterable[Edge]) -> "EdgeTable":
        """A table of single edges. Raises ValueError for a reach that is none of REACHES."""
        rows = list(edges)
        strange = {edge.reach for edge in rows} - set(REACHES)
        if strange:
            raise ValueError(f"unknown reach {sorted(strange)}, expected one of {REACHES}")
        return cls.in_order(
            np.array([edge.subject for edge in rows], np.int64),
            np.array([CODE[edge.relation] for edge in rows], np.int64),
            np.array([edge.margin for edge in rows], np.float64),
            np.array([REACHES.index(edge.reach) for edge in rows], np.int64),
            np.array([len(edge.objects) for edge in rows], np.int64),
            np.array([end for edge in rows for end in edge.objects], np.int64),
        )
