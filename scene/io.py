"""Scenes on disk: one `<id>.npz` with the arrays and one `<id>.json` with the rest, in a folder with a manifest.

The JSON is written last and holds the checksum of the .npz: a scene whose JSON is there is whole, and a pair that does
not belong together is noticed. Nothing is ever unpickled.
"""

import io
import json
import re
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from core.errors import InputError, MissingFileError, nearest
from core.files import atomic_write, read_json
from scene.types import Door, PosedImage, Room, Scene, SceneMesh, SceneObject

SCENE_FORMAT = "sightline-scene/1"
MANIFEST_FORMAT = "sightline-scenes/1"
MANIFEST = "manifest.json"

_MESH = ("vertices", "faces", "face_colors", "face_instance")
_TABLE = ("points", "colors", "instance")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _checked_id(scene_id: str) -> str:
    if not _ID.fullmatch(scene_id):
        raise InputError(
            f"scene id {scene_id!r} cannot be a file name; use letters, digits, '.', '_' and '-', not starting with '.'"
        )
    return scene_id


def save_scene(scene: Scene, folder: str | Path) -> Path:
    """Writes `<id>.npz` and `<id>.json` into `folder` (made if absent), each whole or not at all; returns the JSON.

    Raises:
        InputError: the scene's id cannot be a file name.
    """
    folder = Path(folder)
    scene_id = _checked_id(scene.id)
    arrays: dict[str, ndarray] = {"boxes": scene.boxes, "to_source": np.asarray(scene.to_source, dtype=np.float64)}
    if scene.mesh is not None:
        arrays |= {f"mesh_{name}": getattr(scene.mesh, name) for name in _MESH}
    arrays |= {name: getattr(scene, name) for name in _TABLE if getattr(scene, name) is not None}
    arrays |= {f"room_{room.id}": np.asarray(room.polygon, dtype=np.float64) for room in scene.rooms}
    if scene.doors:
        arrays["doors"] = np.stack([np.asarray(door.box, dtype=np.float64) for door in scene.doors])
    for index, view in enumerate(scene.views):
        arrays[f"view_{index}_extrinsics"] = np.asarray(view.extrinsics, dtype=np.float64)
        arrays[f"view_{index}_intrinsics"] = np.asarray(view.intrinsics, dtype=np.float64)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    content = buffer.getvalue()

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
    atomic_write(folder / f"{scene_id}.npz", content)
    return atomic_write(folder / f"{scene_id}.json", json.dumps(record))


def _read_arrays(path: Path, expected: dict[str, Any]) -> dict[str, ndarray]:
    if not path.exists():
        raise MissingFileError(f"arrays of the scene not found: {path}; build the scenes again")
    content = path.read_bytes()
    again = "build the scenes again"
    if zlib.crc32(content) != expected["crc32"]:
        raise InputError(f"scene arrays are truncated or belong to another build (checksum differs): {path}; {again}")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in expected["names"]}
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise InputError(f"scene arrays cannot be read: {path} ({error}); {again}") from error


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
    found = record.get("format") if isinstance(record, dict) else None
    if found != SCENE_FORMAT:
        raise InputError(f"{path} has format {found!r}, expected {SCENE_FORMAT!r}; build the scenes with this version")
    try:
        return _scene(record, _read_arrays(path.with_suffix(".npz"), record["arrays"]))
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"scene file lacks or garbles a part: {path} ({error!r}); build the scenes again") from error


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


def save_manifest(folder: str | Path, manifest: dict[str, Any]) -> Path:
    """Writes manifest.json with its format; `manifest` needs "source" and "splits" (split name -> scene ids)."""
    missing = {"source", "splits"} - manifest.keys()
    if missing:
        raise InputError(f"the manifest lacks {sorted(missing)}; it needs source and splits")
    return atomic_write(Path(folder) / MANIFEST, json.dumps({"format": MANIFEST_FORMAT} | manifest, indent=1))


class SceneStore:
    """A folder of saved scenes with its manifest; the scenes read last stay in memory.

    Args:
        folder: holds manifest.json and the scenes it names.
        cache: how many scenes stay in memory.

    Raises:
        MissingFileError: no folder or no manifest. InputError: a manifest that is damaged or of another format.
    """

    def __init__(self, folder: str | Path, cache: int = 64) -> None:
        self.folder = Path(folder).expanduser()
        if not (self.folder / MANIFEST).exists():
            raise MissingFileError(
                f"no scenes in {self.folder}: {MANIFEST} is missing (working folder: {Path.cwd()}); "
                "make them with: sightline build-scenes"
            )
        manifest = read_json(self.folder / MANIFEST, "scene manifest")
        found = manifest.get("format") if isinstance(manifest, dict) else None
        if found != MANIFEST_FORMAT or not isinstance(manifest.get("splits"), dict):
            raise InputError(
                f"{self.folder / MANIFEST} has format {found!r}, expected {MANIFEST_FORMAT!r} with splits; "
                "build the scenes with this version"
            )
        self.manifest: dict[str, Any] = manifest
        self._cache: OrderedDict[str, Scene] = OrderedDict()
        self._size = cache

    @property
    def splits(self) -> dict[str, list[str]]:
        """Split name -> scene ids."""
        return self.manifest["splits"]

    def split(self, name: str) -> list[str]:
        """Scene ids of a split. Raises InputError for an unknown one."""
        if name not in self.splits:
            raise InputError(f"scenes in {self.folder} have no split {name!r}; {nearest(name, self.splits)}")
        return list(self.splits[name])

    def load(self, scene_id: str) -> Scene:
        """One scene, from memory when it was read lately; treat it as read-only."""
        scene = self._cache.pop(scene_id, None)
        if scene is None:
            scene = load_scene(self.folder, scene_id)
        self._cache[scene_id] = scene
        while len(self._cache) > self._size:
            self._cache.popitem(last=False)
        return scene
