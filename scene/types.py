"""What a scene is: objects, surfaces, rooms and doors, in the frame of core/conventions.py.

A scene never records what rests on what: that is the graph's to infer (scene/graph.py). Sources that know it hand it
out separately, as `SupportTruth`, which graph builders do not see.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int32, UInt8
from numpy import ndarray

from core.errors import InputError

SupportTruth = dict[int, int | None]
"""For each object id the id of the object it rests on or in; None = stands on the floor or hangs on a wall."""


@dataclass
class SceneMesh:
    """A coloured triangle mesh whose faces know their object."""

    vertices: Float32[ndarray, "V 3"]
    faces: Int32[ndarray, "F 3"]
    face_colors: UInt8[ndarray, "F 3"]
    face_instance: Int32[ndarray, " F"]  # index into scene.objects; -1 = wall, floor, ceiling, frame


@dataclass
class SceneObject:
    """One thing in a scene."""

    id: int  # equals its index in scene.objects
    label: str  # lower-case noun, e.g. "armchair"
    box: Float[ndarray, "7"]  # centre xyz, size xyz, yaw
    source_id: str = ""  # the name it has in the raw data
    attributes: dict[str, str] = field(default_factory=dict)  # e.g. {"color": "red", "material": "wood"}
    room: int = -1  # index into scene.rooms, -1 = unknown
    affordances: tuple[str, ...] = ()  # e.g. ("pickup", "surface", "open")


@dataclass
class Room:
    """A floor area bounded by walls."""

    id: int  # equals its index in scene.rooms
    kind: str  # e.g. "bedroom"
    polygon: Float[ndarray, "K 2"]  # counter-clockwise corners on the floor
    floor_z: float = 0.0
    height: float = 2.6  # metres, floor to ceiling


@dataclass
class Door:
    """A passage between two rooms, or from a room outside (-1)."""

    id: int
    box: Float[ndarray, "7"]
    rooms: tuple[int, int]
    open: bool = True


@dataclass
class PosedImage:
    """A picture the source itself took of the scene."""

    extrinsics: Float[ndarray, "4 4"]
    intrinsics: Float[ndarray, "3 3"]
    path: Path


@dataclass
class Scene:
    """A home, a room or a scan.

    Points, colours and instance ids are one table of P rows. What is absent is derived by
    scene/geometry.py (points from the mesh, boxes from points). Raises InputError when the parts disagree.
    """

    id: str
    source: str  # key of SOURCES in scene/corpus.py
    objects: list[SceneObject]
    rooms: list[Room] = field(default_factory=list)
    doors: list[Door] = field(default_factory=list)
    mesh: SceneMesh | None = None
    points: Float32[ndarray, "P 3"] | None = None
    colors: UInt8[ndarray, "P 3"] | None = None
    instance: Int32[ndarray, " P"] | None = None
    views: list[PosedImage] = field(default_factory=list)
    to_source: Float[ndarray, "4 4"] = field(default_factory=lambda: np.eye(4))  # our frame -> the raw data's frame

    def __post_init__(self) -> None:
        for index, item in enumerate(self.objects):
            if item.id != index:
                raise InputError(f"scene {self.id}: object at index {index} has id {item.id}; ids are 0..N-1 in order")
            box = np.asarray(item.box, dtype=np.float64)
            if box.shape != (7,):
                raise InputError(
                    f"scene {self.id}, object {index} ({item.label}): box has shape {box.shape}, expected 7 numbers "
                    "(centre xyz, size xyz, yaw; see core/conventions.py)"
                )
            if not np.isfinite(box).all() or (box[3:6] <= 0).any():
                raise InputError(
                    f"scene {self.id}, object {index} ({item.label}): box {box.tolist()} needs finite numbers and "
                    "positive sizes; drop the object or mend its source"
                )
            if not -1 <= item.room < len(self.rooms):
                raise InputError(
                    f"scene {self.id}, object {index} ({item.label}): it is in room {item.room}, the scene has "
                    f"{len(self.rooms)} rooms; -1 stands for an unknown room"
                )
            item.box = box
        table = {"points": self.points, "colors": self.colors, "instance": self.instance}
        rows = {name: len(part) for name, part in table.items() if part is not None}
        if len(set(rows.values())) > 1:
            raise InputError(f"scene {self.id}: points, colors and instance are one table, but have rows {rows}")
        if self.points is not None and not np.isfinite(self.points).all():
            bad = int((~np.isfinite(self.points)).any(axis=1).sum())
            raise InputError(f"scene {self.id}: {bad} of {len(self.points)} points are NaN or infinite; remove them")
        of_faces = None if self.mesh is None else self.mesh.face_instance
        for name, ids in (("instance", self.instance), ("mesh.face_instance", of_faces)):
            if ids is not None and len(ids) and (ids.max() >= len(self.objects) or ids.min() < -1):
                raise InputError(
                    f"scene {self.id}: {name} holds ids {int(ids.min())}..{int(ids.max())}, "
                    f"expected -1..{len(self.objects) - 1}"
                )

    @property
    def boxes(self) -> Float[ndarray, "N 7"]:
        """All boxes, stacked."""
        return np.stack([item.box for item in self.objects]) if self.objects else np.zeros((0, 7))

    @property
    def labels(self) -> list[str]:
        return [item.label for item in self.objects]
