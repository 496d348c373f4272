"""The geometry of one file as it stands there: PLY, PCD, OBJ, GLB and glTF, checked for what parsers let pass.

PLY goes through the strict reader, PCD through open3d, OBJ and glTF through trimesh. open3d fills what it could not
read with leftovers of memory and only warns; its counts and numbers are therefore checked against the header first.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Float64, Int32, Int64, UInt8
from numpy import ndarray

from core.errors import InputError, MissingLibraryError, check_choice, existing_file
from scene.datasets.ply import read_ply
from scene.types import Room, SceneMesh

SUFFIXES: Final = (".ply", ".pcd", ".obj", ".glb", ".gltf")
ID_PROPERTIES: Final = ("instance", "instance_id", "objectid", "object_id", "label_id")  # in any case; first come
GREY: Final = 127  # of what has no colour
UP: Final = {
    "z": np.eye(4),
    "y": np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]),  # (x, y, z) -> (x, -z, y)
}
"""From a frame with that axis up to ours, by turning about x."""
_PCD_LINE = re.compile(rb"^(FIELDS|SIZE|COUNT|POINTS|DATA)[ \t]+(.*?)[ \t]*\r?$", re.MULTILINE)


@dataclass
class RawScan:
    """Points or a mesh in the file's own frame and unit."""

    points: Float64[ndarray, "P 3"]  # of a mesh its vertices
    colors: UInt8[ndarray, "P 3"] | None  # None = the file has none
    instance: Int64[ndarray, " P"] | None = None  # raw ids where the file has them
    faces: Int32[ndarray, "F 3"] | None = None


def read_scan(path: str | Path) -> RawScan:
    """Reads one file by its ending.

    Colours: whole numbers are 0..255 (16 bit ones are scaled down); of fractions a largest value up to 1 means 0..1,
    anything above means 0..255.

    Raises:
        MissingFileError, MissingLibraryError: no file, or no library that reads it.
        InputError: an archive or another ending, a truncated or garbled file, no points, points or colours that are
            NaN, infinite or out of range.
    """
    path = existing_file(path, "scan")
    suffix = path.suffix.lower()
    with open(path, "rb") as file:
        packed = file.read(4) == b"PK\x03\x04"
    if packed or suffix in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"):
        raise InputError(f"{path} is an archive, which is not unpacked here; unpack it and name the scan inside")
    if suffix not in SUFFIXES:
        raise InputError(f"{path} ends in {suffix!r}, expected a scan: {', '.join(SUFFIXES)}")
    raw = _read_ply(path) if suffix == ".ply" else _read_pcd(path) if suffix == ".pcd" else _read_trimesh(path)
    if len(raw.points) == 0:
        raise InputError(f"{path} holds no points; nothing to find there")
    bad = int((~np.isfinite(raw.points)).any(axis=1).sum())
    if bad:
        raise InputError(f"{path}: {bad} of {len(raw.points)} points are NaN or infinite; remove them from the scan")
    if np.abs(raw.points).max() > 1e9:
        raise InputError(f"{path}: coordinates reach {np.abs(raw.points).max():.3g}; no scan is that large")
    if raw.faces is not None and len(raw.faces) == 0:
        raw.faces = None
    return raw


def _read_ply(path: Path) -> RawScan:
    elements = read_ply(path)
    vertex = elements.get("vertex")
    if vertex is None or not {"x", "y", "z"} <= vertex.keys():
        raise InputError(f"{path} has no vertices with x, y and z; its elements: {', '.join(elements) or 'none'}")
    points = np.stack([np.asarray(vertex[k], dtype=np.float64) for k in "xyz"], axis=1)
    colors = None
    for names in (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue")):
        if set(names) <= vertex.keys():
            colors = colors_in_bytes(np.stack([vertex[name] for name in names], axis=1), str(path))
            break
    face = elements.get("face", {})
    lists = [face[name] for name in ("vertex_indices", "vertex_index") if name in face]
    return RawScan(points, colors, _own_ids(dict(vertex), path), lists[0].astype(np.int32) if lists else None)


def _own_ids(properties: dict[str, ndarray], path: Path) -> Int64[ndarray, " P"] | None:
    """Instance ids among the properties of points; None where there are none."""
    by_name = {name.lower(): values for name, values in properties.items()}
    for name in ID_PROPERTIES:
        if name in by_name:
            return whole_numbers(by_name[name].reshape(-1), f"{path}, property {name}")
    return None


def whole_numbers(values: ndarray, where: str) -> Int64[ndarray, " P"]:
    """Ids as int64. Raises InputError for anything that is not a whole number."""
    values = np.asarray(values)
    if values.ndim != 1 or values.dtype.kind not in "iufb":
        raise InputError(
            f"{where}: instance ids are {values.dtype} of shape {values.shape}, expected a whole number per point"
        )
    if values.dtype.kind == "f":
        wrong = int((~np.isfinite(values) | (values != np.floor(values))).sum())
        if wrong:
            raise InputError(f"{where}: {wrong} of {len(values)} instance ids are no whole numbers")
    if len(values) and np.abs(values.astype(np.float64)).max() > 2**53:
        raise InputError(f"{where}: instance ids beyond 2**53 are not ids of things")
    return values.astype(np.int64)


def colors_in_bytes(values: ndarray, where: str) -> UInt8[ndarray, "P 3"]:
    """Colours as 0..255, see `read_scan`. Raises InputError for NaN and for what lies outside."""
    values = np.asarray(values)
    if values.dtype == np.uint8:
        return values[:, :3].copy()
    numbers = values[:, :3].astype(np.float64)
    if not np.isfinite(numbers).all():
        raise InputError(f"{where}: {int((~np.isfinite(numbers)).any(axis=1).sum())} colours are NaN or infinite")
    top = numbers.max(initial=0.0)
    if values.dtype.kind == "f" and top <= 1.0:
        numbers = numbers * 255
    elif values.dtype == np.uint16 and top > 255:
        numbers = numbers / 257
    if numbers.min(initial=0.0) < 0 or numbers.max(initial=0.0) > 255:
        raise InputError(
            f"{where}: colours run from {numbers.min():.4g} to {top:.4g}, expected 0..1 (fractions) or 0..255"
        )
    return np.rint(numbers).astype(np.uint8)


def _read_pcd(path: Path) -> RawScan:
    from scene.render import load_open3d

    fields, count = _checked_pcd(path)
    open3d = load_open3d()
    try:
        with open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error):
            point = open3d.t.io.read_point_cloud(str(path)).point
        table = {name: np.array(point[name].numpy()) for name in point}
    except RuntimeError as error:
        raise InputError(f"{path} is no PCD file that can be read: {error}") from error
    points = table.pop("positions", np.zeros((0, 3)))
    if points.shape != (count, 3):
        raise InputError(f"{path}: {len(points)} of {count} points could be read; the file is damaged, copy it again")
    colors = table.pop("colors", None)
    own = {name: values.reshape(count, -1)[:, 0] for name, values in table.items() if len(values) == count}
    return RawScan(
        points.astype(np.float64), None if colors is None else colors_in_bytes(colors, str(path)), _own_ids(own, path)
    )


def _checked_pcd(path: Path) -> tuple[list[str], int]:
    """Fields and number of points of a PCD file that is as long as its header says.

    Raises:
        InputError: no PCD header, or too few bytes, lines or numbers after it.
    """
    data = path.read_bytes()
    head = {match[1].decode(): match for match in _PCD_LINE.finditer(data[:65_536])}
    missing = {"FIELDS", "SIZE", "POINTS", "DATA"} - head.keys()
    if missing:
        raise InputError(f"{path} is no PCD file: its header lacks {', '.join(sorted(missing))}")
    try:
        fields = head["FIELDS"][2].decode("ascii").split()
        sizes = [int(word) for word in head["SIZE"][2].split()]
        counts = [int(word) for word in head["COUNT"][2].split()] if "COUNT" in head else [1] * len(fields)
        points = int(head["POINTS"][2])
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the PCD header is garbled ({error})") from error
    sound = len(fields) == len(sizes) == len(counts) and min([points, *sizes, *counts]) >= 0
    if not sound or not {"x", "y", "z"} <= set(fields):
        raise InputError(f"{path}: the PCD header does not fit together, or has no x, y and z (fields {fields})")
    kind, body = head["DATA"][2], data[head["DATA"].end() + 1 :]
    if kind == b"ascii":
        lines = [line.split() for line in body.splitlines() if line.strip()]
        if len(lines) != points:
            raise InputError(f"{path}: {len(lines)} points, but its header says {points}; copy the file again")
        try:
            widths = {len([float(word) for word in line]) for line in lines}
        except ValueError as error:
            raise InputError(f"{path}: a point is no list of numbers ({error})") from error
        if widths - {sum(counts)}:
            raise InputError(f"{path}: points have {sorted(widths)} numbers, expected {sum(counts)} each")
    elif kind in (b"binary", b"binary_compressed"):
        packed = kind == b"binary_compressed"
        needed = 8 + int.from_bytes(body[:4], "little") if packed else points * int(np.dot(sizes, counts))
        if len(body) < needed:
            raise InputError(f"{path} is truncated: {len(body)} bytes of points, {needed} expected; copy it again")
        if packed and int.from_bytes(body[4:8], "little") != points * int(np.dot(sizes, counts)):
            raise InputError(f"{path}: the unpacked size does not fit {points} points; the file is damaged")
    else:
        raise InputError(
            f"{path}: DATA {kind.decode('ascii', 'replace')!r}, expected ascii, binary or binary_compressed"
        )
    return fields, points


def load_trimesh() -> Any:
    """The trimesh module. Raises MissingLibraryError where it is absent."""
    try:
        import trimesh
    except ImportError as error:
        raise MissingLibraryError(
            f"OBJ and glTF files need trimesh, which does not load ({error}). Install it with: pip install trimesh"
        ) from error
    return trimesh


def _read_trimesh(path: Path) -> RawScan:
    """All meshes and point clouds of an OBJ or glTF file, placed by its nodes, as one."""
    trimesh = load_trimesh()

    class Beside(trimesh.resolvers.FilePathResolver):  # type: ignore[name-defined]
        """Finds materials, textures and buffers in the file's own folder or below."""

        def get(self, name: str) -> bytes:
            wanted = (path.parent / name.strip()).resolve()
            if not wanted.is_relative_to(path.parent.resolve()):
                raise InputError(f"{path} names {name!r}, which lies outside its folder; copy it beside the file")
            return super().get(name)

    try:
        with open(path, "rb") as file:
            scene = trimesh.load_scene(
                file, file_type=path.suffix[1:].lower(), resolver=Beside(str(path)), process=False, maintain_order=True
            )
        parts = [_part(scene.geometry[name], scene.graph.get(node)[0]) for node in scene.graph.nodes_geometry
                 for name in [scene.graph.get(node)[1]]]  # fmt: skip
    except InputError:
        raise
    except Exception as error:  # its parsers raise whatever the damage trips over first
        raise InputError(f"{path} is damaged, or no {path.suffix[1:].upper()} file ({error!r})") from error
    return _joined([part for part in parts if len(part.points)])


def _part(geometry: Any, pose: ndarray) -> RawScan:
    """One mesh or point cloud, moved to its place."""
    points = np.asarray(geometry.vertices, dtype=np.float64) @ pose[:3, :3].T + pose[:3, 3]
    faces = np.asarray(geometry.faces, dtype=np.int32) if hasattr(geometry, "faces") else None
    if faces is not None and len(faces) and (faces.min() < 0 or faces.max() >= len(points)):
        raise InputError(f"faces name vertices {faces.min()}..{faces.max()}, there are {len(points)}")
    if faces is None:
        known = getattr(geometry, "colors", None)
        colors = np.asarray(known) if known is not None and len(known) == len(points) else None
    else:
        visual = geometry.visual
        visual = visual.to_color() if visual.kind == "texture" else visual
        colors = np.asarray(visual.vertex_colors) if visual.kind else None
    return RawScan(points, None if colors is None else colors_in_bytes(colors, "colours"), faces=faces)


def _joined(parts: list[RawScan]) -> RawScan:
    """Parts as one table; a part without colours is grey where others have some."""
    if not parts:
        return RawScan(np.zeros((0, 3)), None)
    start = np.cumsum([0, *(len(part.points) for part in parts)])
    faces = [part.faces + first for part, first in zip(parts, start, strict=False) if part.faces is not None]
    grey = [np.full((len(part.points), 3), GREY, np.uint8) for part in parts]
    colors = [plain if part.colors is None else part.colors for part, plain in zip(parts, grey)]
    return RawScan(
        np.concatenate([part.points for part in parts]),
        np.concatenate(colors) if any(part.colors is not None for part in parts) else None,
        faces=np.concatenate(faces).astype(np.int32) if faces else None,
    )


# --- what scenes are made of ---


def up_of(path: Path, up: str) -> Float64[ndarray, "4 4"]:
    """The turn that puts a file upright; `up` is "z", "y" or "", which is y for glTF, as its standard says, else z."""
    if up:
        check_choice("up", up, UP)
    return UP[up or ("y" if path.suffix.lower() in (".glb", ".gltf") else "z")]


def scene_name(text: str) -> str:
    """A name as an id that can be a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip("._-") or "scan"


def surface_of(
    points: Float64[ndarray, "V 3"], faces: Int32[ndarray, "F 3"], colors: UInt8[ndarray, "V 3"]
) -> SceneMesh:
    """A surface whose faces have the mean colour of their corners and belong to nothing yet."""
    of_faces = np.rint(colors[faces].mean(axis=1)).astype(np.uint8)
    return SceneMesh(points.astype(np.float32), faces, of_faces, np.full(len(faces), -1, dtype=np.int32))


def room_around(points: Float[ndarray, "P 3"], kind: str) -> Room:
    """A rectangle around everything, as high as it."""
    (x0, y0, z0), (x1, y1, z1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    label = kind
    return Room(0, label, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), z0, max(z1 - z0, 0.1))
