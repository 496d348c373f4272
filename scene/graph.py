"""The scene graph: which objects stand in which relation, and what rests on what.

Built from boxes, labels and rooms alone, without any randomness: the same scene gives the same bytes. Levels follow
SceneVerse (arXiv:2401.09340, section 3.2): what stands on the floor, hangs on a wall or from the ceiling is level 0,
what is on or in such a thing level 1, and so on. Support links neighbouring levels; every other relation holds among
siblings (things with one supporter), where floor, walls and ceiling of a room count as one.

Of each family a pair has at most one relation, the most telling one: a direction; the closest of adjacent, beside, next
and close (they are nested); above or higher. A pair one above the other has no direction and no nearness.

What N things cost: among up to CROWD siblings (scene/pairs.py) every pair is compared. Of a larger crowd (say a scan
without rooms, with a thousand things on its floor) only pairs that come within CROWD_REACH_M of each other, measured
between the circles around their footprints, so that edges and time grow with the number of things and not with its
square; things of a crowd that are farther apart have no relation.
"""

import json
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64
from numpy import ndarray

from core.errors import InputError
from scene import relations as rel
from scene.edges import CODE, MARGIN_DIGITS, REACHES, EdgeTable
from scene.edges import Edge as Edge  # what a graph consists of
from scene.hetero import from_hetero_data, to_hetero_data
from scene.pairs import Pairs, Shapes, Viewpoint, pairs_near, spans
from scene.relations import CONVERSES, Relation
from scene.support import find_support, room_of_objects
from scene.types import Scene

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

FORMAT: Final = "sightline-graph/1"
WHOLE_HOME_MAX_OBJECTS, WHOLE_HOME_MAX_ROOMS = 40, 2
"""Larger homes are spoken of room by room."""
NEARNESS: Final = (Relation.ADJACENT_TO, Relation.BESIDES, Relation.NEXT_TO, Relation.CLOSE_TO)  # closest first
DIRECTIONS: Final = (Relation.LEFT_OF, Relation.RIGHT_OF, Relation.BEHIND, Relation.IN_FRONT_OF)
VERTICAL: Final = (Relation.ABOVE, Relation.BELOW, Relation.HIGHER_THAN, Relation.LOWER_THAN)
CROWD_REACH_M: Final = 2.0
"""Above, near and close to all lie within it (0.2 m, half the footprints' diagonals, 1 m)."""


@dataclass(frozen=True, eq=False)
class SceneGraph:
    """Relations of one scene's objects, by object id (= index into scene.objects)."""

    scene_id: str
    labels: list[str]
    room: Int64[ndarray, " N"]  # index into scene.rooms, -1 = unknown
    support_parent: Int64[ndarray, " N"]  # object id, or FLOOR (-1), WALL (-2), CEILING (-3)
    level: Int64[ndarray, " N"]  # 0 on floor, wall or ceiling
    table: EdgeTable  # the edges as columns
    viewpoint: Viewpoint

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SceneGraph):
            return NotImplemented
        pairs = [(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        return all(np.array_equal(a, b) if isinstance(a, ndarray) else a == b for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]  # its arrays may change

    @cached_property
    def edges(self) -> list[Edge]:
        """All edges, sorted by subject, relation, objects."""
        return list(self.table)

    @cached_property
    def subjects(self) -> dict[tuple[Relation, tuple[int, ...]], frozenset[int]]:
        """Who stands in this relation to these objects."""
        return self.table.subjects()

    @cached_property
    def _of_subject(self) -> list[list[Edge]]:
        stop = np.searchsorted(self.table.subject, np.arange(len(self.labels)), side="right").tolist()
        return [self.edges[first:last] for first, last in zip([0, *stop], stop)]

    def edges_of(self, subject: int) -> list[Edge]:
        """Edges that start at an object."""
        return self._of_subject[subject]

    def children(self, parent: int) -> list[int]:
        """What rests on or in an object."""
        return np.flatnonzero(self.support_parent == parent).tolist()

    def to_json(self) -> str:
        """The graph as text; equal scenes give equal bytes."""
        content = {
            "format": FORMAT,
            "scene_id": self.scene_id,
            "viewpoint_yaw_rad": self.viewpoint.yaw_rad,
            "labels": self.labels,
            "room": self.room.tolist(),
            "support_parent": self.support_parent.tolist(),
            "level": self.level.tolist(),
            "edges": [[e.subject, list(e.objects), e.relation.value, e.margin, e.reach] for e in self.edges],
        }
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "SceneGraph":
        """Reads what `to_json` wrote. Raises InputError when it is something else or cut off."""
        try:
            raw = json.loads(text)
            if not isinstance(raw, dict) or raw.get("format") != FORMAT:
                raise ValueError(f"no {FORMAT!r} in its head")
            table = EdgeTable.of(Edge(s, tuple(o), Relation(r), float(m), reach) for s, o, r, m, reach in raw["edges"])
            room, parent, level = (np.array(raw[name], np.int64) for name in ("room", "support_parent", "level"))
            viewpoint = Viewpoint(raw["viewpoint_yaw_rad"])
            return cls(raw["scene_id"], raw["labels"], room, parent, level, table, viewpoint)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"not a scene graph, or a damaged one ({error}); build it again") from error

    def to_hetero_data(self) -> "HeteroData":
        """The graph for torch-geometric.

        Node types: "object" (label index into `data.labels`, room, level, support_parent as here) and "surface"
        (`kind` 0 floor, 1 wall, 2 ceiling). Edge types, the same in every graph: (object, <relation>, object), and
        (object, <relation>, surface) for relations of contact; one edge per object of a relation, with `margin`
        (float32: exact to 1e-4 up to 800 m), `far` (true for a far direction) and `group` (edges of one statement,
        e.g. both ends of between, share a number).
        """
        return to_hetero_data(self)

    @classmethod
    def from_hetero_data(cls, data: "HeteroData") -> "SceneGraph":
        """The graph that `to_hetero_data` was made of; of a batch take `batch.get_example(k)`.

        Raises:
            InputError: something is missing.
        """
        return from_hetero_data(data)


def build_graph(scene: Scene, viewpoint: Viewpoint | None = None) -> SceneGraph:
    """The scene graph of a scene.

    Args:
        viewpoint: who sees left, right, behind and in front; default: a viewer who looks along +y.

    Raises:
        InputError: the scene has no objects.
    """
    if not scene.objects:
        raise InputError(f"scene {scene.id} has no objects: no graph to build; leave it out or mend its source")
    viewpoint = viewpoint or Viewpoint()
    room, labels, shapes = room_of_objects(scene), scene.labels, Shapes(scene.boxes)
    support = find_support(scene, room)
    statements = _Statements()
    on = np.where(support.rod >= 0, support.rod, support.parent)
    contact = np.array([CODE[relation] for relation in support.contact])
    statements.add(np.arange(len(labels)), contact, on, np.round(support.margin, MARGIN_DIGITS))
    pairs = _siblings(shapes, viewpoint, room, support.parent)
    near = [_pair_statements(block, statements) for block in pairs.blocks()]
    _group_statements(pairs, np.concatenate(near), labels, statements)
    return SceneGraph(scene.id, labels, room, support.parent, support.level, statements.table(), viewpoint)


def _siblings(shapes: Shapes, viewpoint: Viewpoint, room: Int64[ndarray, " N"], parent: Int64[ndarray, " N"]) -> Pairs:
    """Pairs of things with one supporter, each once; all of a room's floor, wall and ceiling things together."""
    # things on one object are siblings wherever it stands; rooms count on after the objects, room -1 first
    _, family = np.unique(np.where(parent >= 0, parent, len(room) + 1 + room), return_inverse=True)
    rows, columns = pairs_near(family, shapes.boxes, CROWD_REACH_M)
    order, start = spans(family)
    height = np.maximum.reduceat(shapes.top[order], start) - np.minimum.reduceat(shapes.bottom[order], start)
    return Pairs(shapes, viewpoint, rows, columns, height[family[rows]])


class _Statements:
    """Edges as they are found, in parts."""

    def __init__(self) -> None:
        self.parts: list[tuple[ndarray, ...]] = []

    def add(
        self,
        subject: Int[ndarray, " K"],
        relation: int | Int[ndarray, " K"],
        objects: Int[ndarray, "K *width"],
        margin: Float64[ndarray, " K"],
        reach: int | Int[ndarray, " K"] = 0,
    ) -> None:
        """`objects` (K,) or (K, n)."""
        count, width = len(subject), 1 if objects.ndim == 1 else objects.shape[1]
        codes = (np.full(count, value) if isinstance(value, int) else value for value in (relation, reach))
        self.parts.append((subject, *codes, margin, np.full(count, width), objects.reshape(-1)))

    def table(self) -> EdgeTable:
        subject, relation, reach, margin, width, objects = (np.concatenate(part) for part in zip(*self.parts))
        return EdgeTable.in_order(subject, relation, margin, reach, width, objects)


_CODES: Final[dict[tuple[Relation, ...], ndarray]] = {
    family: np.array([CODE[r] for r in family]) for family in (VERTICAL, DIRECTIONS, NEARNESS)
}
_CONVERSE: Final = np.array([CODE[CONVERSES.get(relation, relation)] for relation in CODE])
_NEAR, _FAR = REACHES.index("near"), REACHES.index("far")


def _pair_statements(p: Pairs, statements: _Statements) -> Bool[ndarray, " K"]:
    """States what each pair is to each other, both ways round; returns which pairs are near (not far)."""

    def state(family: tuple[Relation, ...], allowed: ndarray | None, reach: ndarray | None = None) -> ndarray:
        margin = np.round(np.stack([rel.MARGINS[relation](p) for relation in family]), MARGIN_DIGITS)
        holds = margin > 0 if allowed is None else (margin > 0) & allowed
        if family is NEARNESS:  # only the first that holds
            holds[1:] &= ~np.logical_or.accumulate(holds)[:-1]
        which, pair = np.nonzero(holds)
        relation, value = _CODES[family][which], margin[which, pair]
        extent = 0 if reach is None else reach[pair]
        rows, columns = p.rows[pair], p.columns[pair]
        statements.add(rows, relation, columns, value, extent)
        statements.add(columns, _CONVERSE[relation], rows, value, extent)
        return holds

    distant = rel.far(p) > 0
    over = state(VERTICAL, None)
    stacked = over[[VERTICAL.index(Relation.ABOVE), VERTICAL.index(Relation.BELOW)]]
    apart = ~np.logical_or.reduce(stacked, axis=0)
    state(DIRECTIONS, apart, np.where(distant, _FAR, _NEAR))
    state(NEARNESS, apart)
    return ~distant


def _group_statements(p: Pairs, near: Bool[ndarray, " K"], labels: list[str], statements: _Statements) -> None:
    """States what is between two others, and which things of one label are in a row; a bin in line says nothing."""
    triples, margin = rel.between(p.where(near))
    margin = np.round(margin, MARGIN_DIGITS)
    wide = margin > 0
    statements.add(triples[wide, 0], CODE[Relation.BETWEEN], triples[wide, 1:], margin[wide])
    _, kind = np.unique(np.array(labels), return_inverse=True)
    for group, weakest in rel.aligned_groups(p.where(kind[p.rows] == kind[p.columns])):
        value = round(weakest, MARGIN_DIGITS)
        if value > 0:
            members = np.array(group)
            others = np.broadcast_to(members, (len(group),) * 2)[~np.eye(len(group), dtype=bool)]
            objects = others.reshape(len(group), -1)
            statements.add(members, CODE[Relation.ALIGNED], objects, np.full(len(group), value))


# --- which objects a sentence is about ---


def spoken_room_by_room(scene: Scene) -> bool:
    """Whether sentences about this home name objects of one room, which the listener knows: true for large homes.

    A scene without rooms, such as a scan, is spoken of as a whole.
    """
    large = len(scene.objects) > WHOLE_HOME_MAX_OBJECTS or len(scene.rooms) > WHOLE_HOME_MAX_ROOMS
    return large and len(scene.rooms) > 0


def candidates(scene: Scene, room: int = -1) -> list[int]:
    """Ids of the objects a sentence may mean: those of `room` in a large home, all of them otherwise.

    Args:
        room: the room the sentence is about (column `room` of the referrals); a large home needs it.

    Raises:
        InputError: a large home without a room, or a room it does not have.
    """
    if not spoken_room_by_room(scene):
        return list(range(len(scene.objects)))
    if not 0 <= room < len(scene.rooms):
        raise InputError(
            f"scene {scene.id} has {len(scene.objects)} objects in {len(scene.rooms)} rooms and is spoken of room by "
            f"room: give room=0..{len(scene.rooms) - 1} (got {room})"
        )
    return np.flatnonzero(room_of_objects(scene) == room).tolist()


def scene_room(scene: Scene, room: int) -> tuple[Scene, list[int]]:
    """One room of a home as a scene of its own, and the ids its objects have in the home (in order).

    Objects are numbered anew from 0; faces and points of other rooms' objects are left out, walls stay.

    Raises:
        InputError: the room does not exist or has no objects.
    """
    if not 0 <= room < len(scene.rooms):
        raise InputError(f"scene {scene.id} has rooms 0..{len(scene.rooms) - 1}, there is no room {room}")
    ids = np.flatnonzero(room_of_objects(scene) == room).tolist()
    if not ids:
        raise InputError(f"room {room} ({scene.rooms[room].kind}) of scene {scene.id} has no objects")
    number = np.full(len(scene.objects) + 1, -2, dtype=np.int32)  # last entry: -1, part of no object
    number[ids], number[-1] = np.arange(len(ids)), -1
    mesh, points, colors, instance = scene.mesh, scene.points, scene.colors, scene.instance
    if mesh is not None:
        kept = number[mesh.face_instance] > -2
        mesh = replace(
            mesh,
            faces=mesh.faces[kept],
            face_colors=mesh.face_colors[kept],
            face_instance=number[mesh.face_instance[kept]],
        )
    if instance is not None:
        rows: Any = number[instance] > -2
        points = None if points is None else points[rows]
        colors = None if colors is None else colors[rows]
        instance = number[instance[rows]]
    objects = [replace(scene.objects[i], id=k, room=0) for k, i in enumerate(ids)]
    here = [0 if index == room else -1 for index in range(len(scene.rooms))] + [-1]
    doors = [
        replace(door, id=k, rooms=(here[door.rooms[0]], here[door.rooms[1]]))
        for k, door in enumerate(d for d in scene.doors if room in d.rooms)
    ]
    part = replace(
        scene,
        id=f"{scene.id}-room{room}",
        objects=objects,
        rooms=[replace(scene.rooms[room], id=0)],
        doors=doors,
        mesh=mesh,
        points=points,
        colors=colors,
        instance=instance,
    )
    return part, ids
