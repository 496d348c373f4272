"""A corpus on disk: homes in shards of a few dozen, each shard five files.

    manifest.json                     splits, counts, seed, code version, checksums; written last
    texts/train-00000.parquet         sentences, captions, questions: scene/texts.py
    objects/train-00000.parquet       an object per row: label, colour, box, room, what it rests on
    relations/train-00000.parquet     an edge of the scene graph per row
    scenes/train-00000.zip            <id>.json and <id>.npz: rooms, doors, boxes, meshes (scene/io.py)
    points/train-00000.zip            <id>.npz: points, colors, instance, one table per home

Shard and home are functions of the split, the seed and the shard's number alone, so any number of workers writes the
same bytes. The zips store without compression and with one fixed date; a home is read without touching the others.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from core.files import TEMPORARY, atomic_file
from scene.edges import REACHES, RELATIONS
from scene.geometry import object_points
from scene.graph import SceneGraph
from scene.io import TABLE, encode_scene, npz_bytes
from scene.types import Scene

ENDINGS: Final = {
    "texts": "parquet",
    "objects": "parquet",
    "relations": "parquet",
    "scenes": "zip",
    "points": "zip",
}
"""Folder of each part of a shard and the ending of its files."""
_DATE: Final = (1980, 1, 1, 0, 0, 0)


def shard_name(split: str, number: int) -> str:
    """ "train-00012"."""
    return f"{split}-{number:05d}"


def shard_file(folder: Path, part: str, name: str) -> Path:
    """Where a part of a shard lies; `part` is a key of ENDINGS."""
    return folder / part / f"{name}.{ENDINGS[part]}"


def with_points(scene: Scene, per_object: int, seed: int) -> dict[str, np.ndarray]:
    """The point table of a home: its own where the source has one, else `per_object` samples of every surface.

    Returns:
        points (P, 3) float32 in metres, colors (P, 3) uint8, instance (P,) int32; empty when the home has no points
        and none are wanted.

    Raises:
        InputError: points are wanted of an object without any surface.
    """
    own = {name: getattr(scene, name) for name in TABLE if getattr(scene, name) is not None}
    if "points" in own or per_object == 0 or scene.mesh is None:
        return own
    cloud = object_points(scene, per_object, seed)
    return {
        "points": cloud[..., :3].reshape(-1, 3),
        "colors": np.rint(cloud[..., 3:]).astype(np.uint8).reshape(-1, 3),
        "instance": np.repeat(np.arange(len(scene.objects), dtype=np.int32), per_object),
    }


class ShardWriter:
    """Writes one shard; its files appear together when the block ends well, and none of them otherwise.

    with ShardWriter(folder, "train-00000") as shard:
        shard.add(scene, graph, points)
        shard.texts(table)
    shard.files  # what was written: size and SHA-256 per part
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.files: dict[str, dict[str, Any]] = {}
        self._objects: list[dict[str, Any]] = []
        self._edges: list[Any] = []
        self._open = ExitStack()

    def __enter__(self) -> "ShardWriter":
        self._scenes = self._zip("scenes")
        self._points = self._zip("points")
        return self

    def __exit__(self, *fault: Any) -> None:
        if fault[0] is not None:
            self._open.__exit__(*fault)
            return
        self._open.close()
        for part in ENDINGS:
            path = shard_file(self.folder, part, self.name)
            self.files[part] = {"bytes": path.stat().st_size, "sha256": sha256(path)}

    def _zip(self, part: str) -> zipfile.ZipFile:
        file = self._open.enter_context(atomic_file(shard_file(self.folder, part, self.name)))
        return self._open.enter_context(zipfile.ZipFile(file, "w", zipfile.ZIP_STORED))

    def add(self, scene: Scene, graph: SceneGraph, points: dict[str, np.ndarray]) -> None:
        """Takes a home in; `points` as `with_points` made them."""
        record, arrays = encode_scene(scene, tables=False)
        self._scenes.writestr(zipfile.ZipInfo(f"{scene.id}.json", _DATE), record)
        self._scenes.writestr(zipfile.ZipInfo(f"{scene.id}.npz", _DATE), arrays)
        if points:
            self._points.writestr(zipfile.ZipInfo(f"{scene.id}.npz", _DATE), npz_bytes(points))
        counts = np.zeros(len(scene.objects), np.int64)
        if "instance" in points:
            counts = np.bincount(points["instance"][points["instance"] >= 0], minlength=len(counts))
        self._objects += object_rows(scene, graph, counts.tolist())
        self._edges.append(edge_rows(graph))

    def tables(self, texts: Any) -> None:
        """Writes the three tables; `texts` is that of the shard (scene/texts.py)."""
        import pyarrow as pa

        self._parquet("texts", texts)
        self._parquet("objects", pa.Table.from_pylist(self._objects, schema=object_schema()))
        self._parquet("relations", pa.Table.from_batches(self._edges, schema=edge_schema()))

    def _parquet(self, part: str, table: Any) -> None:
        import pyarrow.parquet as pq

        file: BinaryIO = self._open.enter_context(atomic_file(shard_file(self.folder, part, self.name)))
        pq.write_table(table, file, compression="zstd")


def object_rows(scene: Scene, graph: SceneGraph, points: Sequence[int]) -> Iterator[dict[str, Any]]:
    """A row per object; `points`: how many of the point table are its own."""
    for item in scene.objects:
        room = int(graph.room[item.id])
        yield {
            "scene_id": scene.id,
            "object_id": item.id,
            "source_id": item.source_id,
            "label": item.label,
            "color": item.attributes.get("color", ""),
            "attributes": json.dumps(item.attributes, sort_keys=True),
            "box": item.box.tolist(),
            "room": room,
            "room_kind": scene.rooms[room].kind if room >= 0 else "",
            "support": int(graph.support_parent[item.id]),
            "level": int(graph.level[item.id]),
            "affordances": list(item.affordances),
            "points": points[item.id],
        }


def object_schema() -> Any:
    """Columns of the objects table; `support`: id of what it rests on, -1 floor, -2 wall, -3 ceiling."""
    import pyarrow as pa

    return pa.schema(
        [
            ("scene_id", pa.string()),
            ("object_id", pa.int32()),
            ("source_id", pa.string()),
            ("label", pa.string()),
            ("color", pa.string()),
            ("attributes", pa.string()),
            ("box", pa.list_(pa.float64(), 7)),
            ("room", pa.int32()),
            ("room_kind", pa.string()),
            ("support", pa.int32()),
            ("level", pa.int32()),
            ("affordances", pa.list_(pa.string())),
            ("points", pa.int32()),
        ]
    )


def edge_rows(graph: SceneGraph) -> Any:
    """The edges of a graph as a pyarrow record batch of `edge_schema`."""
    import pyarrow as pa

    table = graph.table
    words = np.array([relation.value for relation in RELATIONS])
    columns = [
        pa.array([graph.scene_id] * len(table), pa.string()),
        pa.array(table.subject.astype(np.int32)),
        pa.ListArray.from_arrays(pa.array(table.start.astype(np.int32)), pa.array(table.objects.astype(np.int32))),
        pa.array(words[table.relation].tolist(), pa.string()),
        pa.array(table.margin.astype(np.float32)),
        pa.array(np.array(REACHES)[table.reach].tolist(), pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=edge_schema())


def edge_schema() -> Any:
    """Columns of the relations table, named as the fields of scene.graph.Edge."""
    import pyarrow as pa

    return pa.schema(
        [
            ("scene_id", pa.string()),
            ("subject", pa.int32()),
            ("objects", pa.list_(pa.int32())),
            ("relation", pa.string()),
            ("margin", pa.float32()),
            ("reach", pa.string()),
        ]
    )


def sha256(path: Path) -> str:
    """Of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shard_fault(folder: Path, name: str, files: dict[str, dict[str, Any]]) -> str:
    """What is wrong with a shard that should be there: "" where its files are those recorded in `files`."""
    for part in ENDINGS:
        path = shard_file(folder, part, name)
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != files[part]["bytes"] or sha256(path) != files[part]["sha256"]:
            return f"{path} differs from what was written"
    return ""


def remove_temporaries(folder: Path) -> None:
    """Removes what killed writers left unfinished."""
    for part in ENDINGS:
        for leftover in (folder / part).glob(f".*{TEMPORARY}*"):
            leftover.unlink(missing_ok=True)
