"""The scene graph: which objects stand in which relation, and what rests on what.

Built from boxes, labels and rooms alone, without any randomness: the same scene gives the same bytes. Levels follow
SceneVerse (arXiv:2401.09340, section 3.2): what stands on the floor, hangs on a wall or from the ceiling is level 0,
what is on or in such a thing level 1, and so on. Support links neighbouring levels; every other relation holds among
siblings (things with one supporter), where floor, walls and ceiling of a room count as one.

Of each family a pair has at most one relation, the most telling one: a direction; the closest of adjacent, beside, next
and close (they are nested); above or higher. A pair one above the other has no direction and no nearness.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from core.errors import InputError
from scene import relations as rel
from scene.relations import Pairs, Relation, Viewpoint, pairs_of
from scene.support import SURFACE_NAMES, Support, find_support, room_of_objects
from scene.types import Scene

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

FORMAT: Final = "sightline-graph/1"
WHOLE_HOME_MAX_OBJECTS, WHOLE_HOME_MAX_ROOMS = 40, 2
"""Larger homes are spoken of room by room."""
NEARNESS: Final = (Relation.ADJACENT_TO, Relation.BESIDES, Relation.NEXT_TO, Relation.CLOSE_TO)  # closest first
DIRECTIONS: Final = (Relation.LEFT_OF, Relation.RIGHT_OF, Relation.BEHIND, Relation.IN_FRONT_OF)
VERTICAL: Final = (Relation.ABOVE, Relation.BELOW, Relation.HIGHER_THAN, Relation.LOWER_THAN)
_ORDER: Final = {relation: number for number, relation in enumerate(Relation)}


@dataclass(frozen=True)
class Edge:
    """`subject` RELATION `objects`."""

    subject: int
    objects: tuple[int, ...]  # one id, or more for between and aligned; FLOOR, WALL, CEILING (< 0) stand for the room's
    relation: Relation
    margin: float  # clearance to the nearest threshold, see scene/relations.py; at 1e-4
    reach: str = ""  # "near" or "far" with a direction


@dataclass(frozen=True)
class SceneGraph:
    """Relations of one scene's objects, by object id (= index into scene.objects)."""

    scene_id: str
    labels: list[str]
    room: Int64[ndarray, " N"]  # index into scene.rooms, -1 = unknown
    support_parent: Int64[ndarray, " N"]  # object id, or FLOOR (-1), WALL (-2), CEILING (-3)
    level: Int64[ndarray, " N"]  # 0 on floor, wall or ceiling
    edges: list[Edge]  # sorted by subject, relation, objects
    viewpoint: Viewpoint

    @cached_property
    def subjects(self) -> dict[tuple[Relation, tuple[int, ...]], frozenset[int]]:
        """Who stands in this relation to these objects."""
        found: dict[tuple[Relation, tuple[int, ...]], set[int]] = {}
        for edge in self.edges:
            found.setdefault((edge.relation, edge.objects), set()).add(edge.subject)
        return {key: frozenset(ids) for key, ids in found.items()}

    @cached_property
    def _of_subject(self) -> list[list[Edge]]:
        lists: list[list[Edge]] = [[] for _ in self.labels]
        for edge in self.edges:
            lists[edge.subject].append(edge)
        return lists

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
            "viewpoint_yaw_rad": round(self.viewpoint.yaw_rad, 9),
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
            edges = [Edge(s, tuple(o), Relation(r), float(m), reach) for s, o, r, m, reach in raw["edges"]]
            room, parent, level = (np.array(raw[name], np.int64) for name in ("room", "support_parent", "level"))
            viewpoint = Viewpoint(raw["viewpoint_yaw_rad"])
            return cls(raw["scene_id"], raw["labels"], room, parent, level, edges, viewpoint)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"not a scene graph, or a damaged one ({error}); build it again") from error

    def to_hetero_data(self) -> "HeteroData":
        """The graph for torch-geometric.

        Node types: "object" (label index into `data.labels`, room, level) and "surface" (floor, wall, ceiling). Edge
        types: (object, <relation>, object or surface), one edge per object of a relation, with `margin`, `far` (1 for
        a far direction) and `group` (edges of one statement, e.g. both ends of between, share a number).
        """
        import torch
        from torch_geometric.data import HeteroData

        data = HeteroData()
        data.scene_id = self.scene_id
        data.labels = sorted(set(self.labels))
        number = {label: k for k, label in enumerate(data.labels)}
        data["object"].num_nodes = len(self.labels)
        data["object"].label = torch.tensor([number[label] for label in self.labels])
        data["object"].room = torch.from_numpy(self.room.copy())
        data["object"].level = torch.from_numpy(self.level.copy())
        data["surface"].num_nodes = len(SURFACE_NAMES)
        rows: dict[tuple[str, str, str], list[tuple[int, int, float, bool, int]]] = {}
        for group, edge in enumerate(self.edges):
            for end in edge.objects:
                node, index = ("object", end) if end >= 0 else ("surface", -end - 1)
                key = ("object", edge.relation.value.replace(" ", "_"), node)
                rows.setdefault(key, []).append((edge.subject, index, edge.margin, edge.reach == "far", group))
        for key in sorted(rows):
            data[key].edge_index = torch.tensor([row[:2] for row in rows[key]], dtype=torch.int64).T.contiguous()
            data[key].margin = torch.tensor([row[2] for row in rows[key]], dtype=torch.float32)
            data[key].far = torch.tensor([row[3] for row in rows[key]], dtype=torch.bool)
            data[key].group = torch.tensor([row[4] for row in rows[key]], dtype=torch.int64)
        return data


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
    room = room_of_objects(scene)
    support = find_support(scene, room)
    edges = list(_support_edges(support))
    boxes = scene.boxes
    for members in _siblings(room, support.parent):
        edges += _edges_among(pairs_of(boxes[members], viewpoint), members, [scene.objects[i].label for i in members])
    edges.sort(key=lambda e: (e.subject, _ORDER[e.relation], e.objects))
    return SceneGraph(scene.id, scene.labels, room, support.parent, support.level, edges, viewpoint)


def _siblings(room: Int64[ndarray, " N"], parent: Int64[ndarray, " N"]) -> list[Int64[ndarray, " K"]]:
    """Ids of things with one supporter; all of a room's floor, wall and ceiling things together."""
    shell = np.where(parent >= 0, parent, -1)
    home = np.where(parent >= 0, -1, room)  # things on one object are siblings wherever it stands
    keys = np.stack([shell, home], axis=1)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    cuts = np.flatnonzero(np.diff(group.ravel()[order])) + 1
    return [members for members in np.split(order, cuts) if len(members) > 1]


def _support_edges(support: Support) -> Iterator[Edge]:
    for subject, (parent, rod) in enumerate(zip(support.parent.tolist(), support.rod.tolist())):
        on = rod if rod >= 0 else parent
        yield Edge(subject, (on,), support.contact[subject], round(float(support.margin[subject]), 4))


def _edges_among(p: Pairs, ids: Int64[ndarray, " K"], labels: list[str]) -> Iterator[Edge]:
    """All non-support edges of a group of siblings."""
    apart = ~np.eye(len(ids), dtype=bool)
    margins = {relation: np.round(rel.MARGINS[relation](p), 4) for relation in (*VERTICAL, *DIRECTIONS, *NEARNESS)}
    stacked = (margins[Relation.ABOVE] > 0) | (margins[Relation.BELOW] > 0)
    far = rel.far(p) > 0
    open_pairs = apart & ~stacked
    for relation in VERTICAL:
        yield from _pair_edges(relation, apart & (margins[relation] > 0), margins[relation], ids)
    for relation in DIRECTIONS:
        yield from _pair_edges(relation, open_pairs & (margins[relation] > 0), margins[relation], ids, far)
    undecided = open_pairs
    for relation in NEARNESS:
        holds = undecided & (margins[relation] > 0)
        undecided = undecided & ~holds
        yield from _pair_edges(relation, holds, margins[relation], ids)
    triples, angles = rel.between(p)
    for (subject, a, b), angle in zip(ids[triples].tolist(), np.round(angles, 4).tolist()):
        if angle > 0:
            yield Edge(subject, (min(a, b), max(a, b)), Relation.BETWEEN, angle)
    for group, margin in _aligned_of_a_kind(p, labels):
        members = sorted(ids[list(group)].tolist())
        for subject in members:
            others = tuple(i for i in members if i != subject)
            yield Edge(subject, others, Relation.ALIGNED, margin)


def _pair_edges(
    relation: Relation, holds: ndarray, margin: ndarray, ids: Int64[ndarray, " K"], far: ndarray | None = None
) -> Iterator[Edge]:
    row, column = np.nonzero(holds)
    reach = [""] * len(row) if far is None else np.where(far[row, column], "far", "near").tolist()
    for s, o, m, r in zip(ids[row].tolist(), ids[column].tolist(), margin[row, column].tolist(), reach):
        yield Edge(s, (o,), relation, m, r)


def _aligned_of_a_kind(p: Pairs, labels: list[str]) -> list[tuple[list[int], float]]:
    """Rows of things with one label; a chair in line with a bin says nothing."""
    found = []
    for label in sorted({label for label in labels if labels.count(label) >= rel.ALIGNED_MIN_GROUP}):
        rows = np.array([k for k, other in enumerate(labels) if other == label])
        for group, margin in rel.aligned_groups(Pairs(p.boxes[rows], p.viewpoint)):
            if round(margin, 4) > 0:
                found.append((rows[list(group)].tolist(), round(margin, 4)))
    return found


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
