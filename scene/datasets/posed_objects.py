"""A folder of meshes and where each of them stands: one file per kind of object, placed by a poses.json."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from core.conventions import wrap_angle
from core.errors import InputError, nearest
from scene.datasets import scan_notes as notes
from scene.datasets.scan_files import GREY, RawScan, read_scan, room_around, scene_name, surface_of, up_of
from scene.geometry import boxes_from_corners, rotation_z
from scene.types import Scene, SceneMesh, SceneObject

POSES: Final = "poses.json"
_POSE_KEYS: Final = ("file", "label", "position", "yaw", "matrix", "scale", "id")


def load_objects(folder: str | Path, *, room: str = "") -> Scene:
    """A folder of meshes, one file per kind of object, placed by its poses.json (z up, metres).

    poses.json: {"up": "y", "scale": 0.01, "objects": [{"file": "chair.glb", "label": "chair", "position": [x, y, z],
    "yaw": 1.57}, ...]}. A mesh is turned upright (`up` of the mesh files, default as in `load_scan`), scaled (`scale`
    of all times that of the object), turned by `yaw` (radians) and moved to `position`; `matrix` (4 rows of 4) stands
    for the last two. Boxes have the object's yaw; with a tilted or sheared matrix they lie along the axes.

    Raises:
        MissingFileError: no poses.json, or a mesh is not there.
        InputError: poses.json of another form, a path that leaves the folder, a mesh without faces, an id twice.
    """
    folder = Path(folder).expanduser()
    file = folder / POSES
    value = notes.json_of(file, "poses file")
    value = {"objects": value} if isinstance(value, list) else value
    if not isinstance(value, dict) or not isinstance(value.get("objects"), list):
        raise InputError(
            f'poses file {file} should hold {{"objects": [{{"file": ..., "label": ..., "position": ...}}]}}'
        )
    if not value["objects"]:
        raise InputError(f"poses file {file} lists no objects; nothing to find there")
    _check_keys(value, ("up", "scale", "objects"), f"poses file {file}")
    up = str(value.get("up", ""))
    scale = _scale(value, f"poses file {file}")
    raws: dict[Path, RawScan] = {}
    vertices: list[ndarray] = []
    faces: list[ndarray] = []
    colors: list[ndarray] = []
    owner: list[ndarray] = []
    objects: list[SceneObject] = []
    start = 0
    for index, item in enumerate(value["objects"]):
        where = f"poses file {file}, object {index}"
        if not isinstance(item, dict):
            raise InputError(f"{where}: expected an object with file, label and position, got {type(item).__name__}")
        _check_keys(item, _POSE_KEYS, where)
        path = _inside(folder, item.get("file"), where)
        if path not in raws:
            raws[path] = read_scan(path)
        raw = raws[path]
        if raw.faces is None:
            raise InputError(f"{where}: {path.name} has no faces; objects with poses are meshes")
        pose = _pose(item, where)
        placed = pose @ np.diag([scale * _scale(item, where)] * 3 + [1.0]) @ up_of(path, up)
        world = raw.points @ placed[:3, :3].T + placed[:3, 3]
        mesh = surface_of(
            world, raw.faces, np.full((len(world), 3), GREY, np.uint8) if raw.colors is None else raw.colors
        )
        objects.append(
            SceneObject(
                index,
                notes.label_text(item.get("label"), where),
                _box_of(world[np.unique(raw.faces)], pose),
                str(item.get("id", f"{item['file']}#{index}")),
                {"instance_source": "meshes"},
                0 if room else -1,
            )
        )
        vertices.append(mesh.vertices)
        faces.append(mesh.faces + start)
        colors.append(mesh.face_colors)
        owner.append(np.full(len(mesh.faces), index, dtype=np.int32))
        start += len(world)
    names = [item.source_id for item in objects]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InputError(f"poses file {file} names the ids {twice[:5]} twice; keep one of each")
    surface = SceneMesh(
        np.concatenate(vertices), np.concatenate(faces).astype(np.int32), np.concatenate(colors), np.concatenate(owner)
    )
    rooms = [room_around(surface.vertices, notes.label_text(room, "room"))] if room else []
    return Scene(scene_name(folder.resolve().name), "custom", objects, rooms, mesh=surface)


def _check_keys(item: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    odd = sorted(item.keys() - set(known))
    if odd:
        raise InputError(f"{where}: {odd[0]!r} is unknown; {nearest(odd[0], known)}")


def _inside(folder: Path, name: Any, where: str) -> Path:
    """A mesh of the folder. Raises InputError when the name leads out of it."""
    if not isinstance(name, str) or not name.strip() or "\x00" in name:
        raise InputError(f"{where}: file {name!r} should name a mesh in {folder}")
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InputError(f"{where}: file {name!r} leads out of {folder}; copy the mesh into the folder")
    return path


def _scale(item: dict[str, Any], where: str) -> float:
    scale = float(notes.numbers([item.get("scale", 1.0)], (1,), f"{where}, scale")[0])
    if scale <= 0:
        raise InputError(f"{where}: scale {scale} should be above 0")
    return scale


def _pose(item: dict[str, Any], where: str) -> Float64[ndarray, "4 4"]:
    """Upright, scaled mesh -> world."""
    if "matrix" in item:
        if "position" in item or "yaw" in item:
            raise InputError(f"{where}: give either matrix, or position and yaw")
        matrix = notes.numbers(item["matrix"], (4, 4), f"{where}, matrix")
        if not np.array_equal(matrix[3], [0, 0, 0, 1]) or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
            raise InputError(f"{where}: matrix needs the last row 0 0 0 1 and must not flatten; it is given row by row")
        return matrix
    if "position" not in item:
        raise InputError(f"{where} has neither position nor matrix")
    pose = rotation_z(float(notes.numbers([item.get("yaw", 0.0)], (1,), f"{where}, yaw")[0]))
    pose[:3, 3] = notes.numbers(item["position"], (3,), f"{where}, position")
    return pose


def _box_of(points: Float64[ndarray, "V 3"], pose: Float64[ndarray, "4 4"], least_m: float = 0.01) -> ndarray:
    """The box of a posed mesh, turned as the pose is; along the axes where the pose tilts or shears."""
    turn = pose[:3, :3] / np.linalg.norm(pose[:3, :3], axis=0)
    upright = np.allclose(turn @ turn.T, np.eye(3), atol=1e-6) and abs(turn[2, 2]) > 1 - 1e-6
    yaw = float(np.arctan2(turn[1, 0], turn[0, 0])) if upright else 0.0
    back = rotation_z(-yaw)[:3, :3]
    own = points @ back.T
    box = boxes_from_corners(np.concatenate([own.min(axis=0), own.max(axis=0)])[None])[0]
    box[:3] = back.T @ box[:3]
    box[3:6] = np.maximum(box[3:6], least_m)
    box[6] = float(wrap_angle(np.array(yaw)))
    return box
