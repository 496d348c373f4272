"""Single scenes on disk: one `<id>.npz` with the arrays and one `<id>.json` with the rest.

The JSON is written last and holds the checksum of the .npz: a scene whose JSON is there is whole, and a pair that does
not belong together is noticed. Nothing is ever unpickled.
"""

import io
import json
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from core.errors import InputError, MissingFileError, nearest
from core.files import atomic_write, read_json
from scene.types import Door, PosedImage, Room, Scene, SceneMesh, SceneObject

SCENE_FORMAT = "sightline-scene/1"
MANIFEST = "manifest.json"  # of a folder of scenes, see scene/store.py
AGAIN = "build the scenes again"

_MESH = ("vertices", "faces", "face_colors", "face_instance")
TABLE = ("points", "colors", "instance")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _checked_id(scene_id: str) -> str:
    if not _ID.fullmatch(scene_id):
        raise InputError(
            f"scene id {scene_id!r} cannot be a file name; use letters, digits, '.', '_' and '-', not starting with '.'"
        )
    return scene_id


def encode_scene(scene: Scene, tables: bool = True) -> tuple[bytes, bytes]:
    """A scene as the bytes of its JSON and of its .npz; equal scenes give equal bytes.

    Args:
        tables: with points, colours and instance ids; without them for a store that keeps those elsewhere.

    Raises:
        InputError: the scene's id cannot be a file name.
    """
    scene_id = _checked_id(scene.id)
    arrays: dict[str, ndarray] = {"boxes": scene.boxes, "to_source": np.asarray(scene.to_source, dtype=np.float64)}
    if scene.mesh is not None:
        arrays |= {f"mesh_{name}": getattr(scene.mesh, name) for name in _MESH}
    if tables:
        arrays |= {name: getattr(scene, name) for name in TABLE if getattr(scene, name) is not None}
    arrays |= {f"room_{room.id}": np.asarray(room.polygon, dtype=np.float64) for room in scene.rooms}
    if scene.doors:
        arrays["doors"] = np.stack([np.asarray(door.box, dtype=np.float64) for door in scene.doors])
    for index, view in enumerate(scene.views):
        arrays[f"view_{index}_extrinsics"] = np.asarray(view.extrinsics, dtype=np.float64)
        arrays[f"view_{index}_intrinsics"] = np.asarray(view.intrinsics, dtype=np.float64)
    content = npz_bytes(arrays)
    record = {
        "format": SCENE_FORMAT,
        "id": scene_id,
        "source": scene.source,
        "objects": [
            {
                "label": item.label,
                "source_id": item.source_id,
                "attributes": item.attributes,
                "room": item.room,
                "affordances": list(item.affordances),
            }
            for item in scene.objects
        ],
        "rooms": [{"kind": room.kind, "floor_z": room.floor_z, "height": room.height} for room in scene.rooms],
        "doors": [{"rooms": list(door.rooms), "open": door.open} for door in scene.doors],
        "views": [str(view.path) for view in scene.views],
        "arrays": {"names": sorted(arrays), "crc32": zlib.crc32(content)},
    }
    return json.dumps(record).encode(), content


def decode_scene(record: Any, arrays: bytes, where: str) -> Scene:
    """The scene that `encode_scene` made into a JSON value and the bytes of an .npz.

    Args:
        where: names the place in errors.

    Raises:
        InputError: another format, truncated, or its parts disagree.
    """
    found = record.get("format") if isinstance(record, dict) else None
    if found != SCENE_FORMAT:
        raise InputError(f"{where} has format {found!r}, expected {SCENE_FORMAT!r}; build the scenes with this version")
    try:
        expected = record["arrays"]
        if zlib.crc32(arrays) != expected["crc32"]:
            raise InputError(
                f"scene arrays are truncated or belong to another build (checksum differs): {where}; {AGAIN}"
            )
        return _scene(record, read_npz(arrays, expected["names"], where))
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"scene file lacks or garbles a part: {where} ({error!r}); {AGAIN}") from error


def npz_bytes(arrays: dict[str, ndarray]) -> bytes:
    """Arrays as the content of an .npz file; the same arrays always give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def read_npz(content: bytes, names: Sequence[str] | None, where: str) -> dict[str, ndarray]:
    """The named arrays (None = all) of an .npz file's content; nothing is unpickled.

    Raises:
        InputError: it is damaged or lacks one; `where` names the place.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in (archive.files if names is None else names)}
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise InputError(f"scene arrays cannot be read: {where} ({error}); {AGAIN}") from error


def save_scene(scene: Scene, folder: str | Path) -> Path:
    """Writes `<id>.npz` and `<id>.json` into `folder` (made if absent), each whole or not at all; returns the JSON.

    Raises:
        InputError: the scene's id cannot be a file name.
    """
    folder = Path(folder)
    record, arrays = encode_scene(scene)
    atomic_write(folder / f"{scene.id}.npz", arrays)
    return atomic_write(folder / f"{scene.id}.json", record)


def load_scene(folder: str | Path, scene_id: str) -> Scene:
    """The scene saved under `scene_id`.

    Raises:
        MissingFileError: no such scene (names the closest), or its arrays are gone.
        InputError: truncated, of another format, or its parts disagree.
    """
    folder = Path(folder).expanduser()
    path = folder / f"{_checked_id(scene_id)}.json"
    if not path.exists():
        if not folder.is_dir():
            raise MissingFileError(f"scene folder not found: {folder} (working folder: {Path.cwd()})")
        known = [item.stem for item in folder.glob("*.json") if item.name != MANIFEST]
        hint = nearest(scene_id, known) if len(known) <= 20 or known == [] else f"it holds {len(known)} other scenes"
        raise MissingFileError(f"scene {scene_id!r} not found in {folder}; {hint if known else 'it holds no scenes'}")
    record = read_json(path, "scene")
    arrays = path.with_suffix(".npz")
    if not arrays.exists():
        raise MissingFileError(f"arrays of the scene not found: {arrays}; {AGAIN}")
    return decode_scene(record, arrays.read_bytes(), str(path))


def _scene(record: dict[str, Any], arrays: dict[str, ndarray]) -> Scene:
    mesh = None
    if "mesh_vertices" in arrays:
        mesh = SceneMesh(**{name: arrays[f"mesh_{name}"] for name in _MESH})
    if len(arrays["boxes"]) != len(record["objects"]):
        raise InputError(f"scene {record['id']}: {len(record['objects'])} objects but {len(arrays['boxes'])} boxes")
    objects = [
        SceneObject(
            id=index,
            label=item["label"],
            box=arrays["boxes"][index],
            source_id=item["source_id"],
            attributes=dict(item["attributes"]),
            room=int(item["room"]),
            affordances=tuple(item["affordances"]),
        )
        for index, item in enumerate(record["objects"])
    ]
    return Scene(
        id=record["id"],
        source=record["source"],
        objects=objects,
        rooms=[
            Room(index, item["kind"], arrays[f"room_{index}"], float(item["floor_z"]), float(item["height"]))
            for index, item in enumerate(record["rooms"])
        ],
        doors=[
            Door(index, arrays["doors"][index], (int(item["rooms"][0]), int(item["rooms"][1])), bool(item["open"]))
            for index, item in enumerate(record["doors"])
        ],
        mesh=mesh,
        points=arrays.get("points"),
        colors=arrays.get("colors"),
        instance=arrays.get("instance"),
        views=[
            PosedImage(arrays[f"view_{index}_extrinsics"], arrays[f"view_{index}_intrinsics"], Path(text))
            for index, text in enumerate(record["views"])
        ],
        to_source=arrays["to_source"],
    )
