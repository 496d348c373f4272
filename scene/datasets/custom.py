"""A user's own scans: one file with what is known about it, a folder of objects with poses, or a folder of either.

Files and their forms: docs/sources/custom.md. Every object says where it came from in its attribute "instance_source":
points (an id per point), boxes, mask, proposals (nobody annotated the scan; scene/proposals.py), or meshes (a file per
object).
"""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Float64, Int32, Int64, UInt8
from numpy import ndarray
from scipy.spatial import cKDTree

from core.conventions import wrap_angle
from core.errors import InputError, MissingFileError
from scene.datasets import scan_notes as notes
from scene.datasets.posed_objects import POSES, load_objects
from scene.datasets.scan_files import (
    GREY,
    SUFFIXES,
    RawScan,
    read_scan,
    room_around,
    scene_name,
    surface_of,
    up_of,
)
from scene.geometry import boxes_from_points, face_areas, sample_surface
from scene.proposals import propose
from scene.types import Scene, SceneMesh, SceneObject

SPLITS_FILE: Final = "splits.json"
SAMPLES_PER_M2: Final = 400  # of a mesh without ids per vertex: corners alone do not show where its surface is
SAMPLES: Final = (5_000, 300_000)  # at least and at most


# --- what a path holds ---


def load(path: str | Path, **options: Any) -> Iterator[Scene]:
    """The scenes of a scan file, of a folder of objects with poses, or of a folder of several of these.

    Of several, a broken one is left out with a warning that names the reason.

    Args:
        options: those of `load_scan` that concern every scan: up, scale, default_label, room, align, seed.

    Raises:
        InputError: nothing is there, the only scene is broken, or all are.
    """
    homes = homes_at(path, **options)
    if len(homes) == 1:
        yield homes[0][1]()
        return
    broken = []
    for name, make in homes:
        try:
            scene = make()
        except InputError as error:
            broken.append(f"{name}: {error}")
            warnings.warn(f"left out scan {broken[-1]}", stacklevel=2)
        else:
            yield scene
    if len(broken) == len(homes):
        raise InputError(f"all {len(homes)} scans of {path} are broken; the first is {broken[0]}")


def homes_at(path: str | Path, **options: Any) -> list[tuple[str, Callable[[], Scene]]]:
    """Name (= id of the scene) and maker of every scene at a path, by name; no scan is read yet.

    Raises:
        MissingFileError: nothing is there.
        InputError: an ending that is no scan's, a folder without scans, two scans of one name, options that a folder
            with poses does not take.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise MissingFileError(f"scan not found: {path} (working folder: {Path.cwd()})")
    if not path.is_dir():
        return [(scene_name(path.stem), partial(load_scan, path, **options))]
    if (path / POSES).exists():
        return [(scene_name(path.resolve().name), _maker(path, "", options))]
    homes: list[tuple[str, Callable[[], Scene]]] = []
    for item in sorted(path.iterdir()):
        if item.is_dir() and (item / POSES).exists():
            homes.append((scene_name(item.name), _maker(item, item.name, options)))
        elif item.is_dir():
            inner = [file for file in sorted(item.iterdir()) if _is_scan(file)]
            names = [item.name if len(inner) == 1 else f"{item.name}-{file.stem}" for file in inner]
            homes += [(scene_name(name), _maker(file, name, options)) for name, file in zip(names, inner)]
        elif _is_scan(item):
            homes.append((scene_name(item.stem), _maker(item, item.stem, options)))
    if not homes:
        raise InputError(f"{path} holds no {POSES} and no scan ({', '.join(SUFFIXES)}), nor do its folders")
    names = [name for name, _ in homes]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise InputError(f"{path} holds several scans named {', '.join(twice[:5])}; rename them")
    return sorted(homes, key=lambda home: home[0])


def _maker(path: Path, name: str, options: dict[str, Any]) -> Callable[[], Scene]:
    if not path.is_dir():
        return partial(load_scan, path, name=name, **options)
    odd = {
        key: value
        for key, value in options.items()
        if key in ("up", "scale", "default_label") and value not in ("", 1.0)
    }
    if odd:
        raise InputError(f"{path / POSES} states {', '.join(odd)} itself; leave it out here")
    return partial(load_objects, path, room=options.get("room", ""))


def _is_scan(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES


# --- one scan ---


def load_scan(
    path: str | Path,
    instances: str | Path | None = None,
    boxes: str | Path | None = None,
    mask: str | Path | None = None,
    *,
    labels: str | Path | None = None,
    up: str = "",
    scale: float = 1.0,
    default_label: str = "",
    room: str = "",
    align: bool = True,
    seed: int = 0,
    name: str = "",
) -> Scene:
    """One PLY, PCD, OBJ, GLB or glTF file as a scene.

    Its things come from one of: `instances`, `boxes` or `mask`; a file beside the scan named like it
    (`<stem>.instances.npy|npz|json|csv`, `<stem>.boxes.json|csv`, `<stem>.mask.npz`); ids in the scan itself; or, where
    there is nothing, geometric proposals with the label "object". Where boxes or masks overlap, the smaller one has
    the points. A mesh gives the scene its surface and, as points, its vertices where ids are per vertex; else the
    points are drawn evenly from the surface.

    Args:
        instances: an id per point; negative is none, and so is 0 unless a label names it.
        boxes: boxes in the scan's own frame and unit.
        mask: instances x points.
        labels: label per id; default `<stem>.labels.json|csv` beside the scan.
        up: the axis that points up in the file, "z" or "y"; "" = y for glTF, as its standard says, z for all others.
        scale: metres per unit of the file.
        default_label: for ids without a label; "" = such ids are an error (masks: "object").
        room: kind of a room to put around everything, a rectangle; "" = the scene has no rooms.
        align: move the scan so that its lowest point is at z = 0 and its middle at x = y = 0; `to_source` leads back.
        seed: of proposals and of sampling.
        name: id of the scene; "" = the file's name.

    Raises:
        MissingFileError, MissingLibraryError: a file or a library is absent.
        InputError: a file is damaged or of another form, several sources of things at once, ids without labels, labels
            or boxes without points, or nothing found.
    """
    path = Path(path).expanduser()
    if not (np.isfinite(scale) and scale > 0):
        raise InputError(f"scale={scale}: expected metres per unit of the file, above 0, e.g. 0.001 for millimetres")
    raw = read_scan(path)
    source, file = _source_of_things(path, {"instances": instances, "boxes": boxes, "mask": mask})
    to_ours = up_of(path, up) @ np.diag([scale] * 3 + [1.0])
    points = raw.points @ to_ours[:3, :3].T
    if align:
        low, high = points.min(axis=0), points.max(axis=0)
        to_ours[:3, 3] = [*(-0.5 * (low + high)[:2]), -low[2]]
        points = points + to_ours[:3, 3]
    colors = np.full((len(points), 3), GREY, np.uint8) if raw.colors is None else raw.colors
    mesh = None if raw.faces is None else surface_of(points, raw.faces, colors)

    if source in ("instances", "mask") or (source == "" and raw.instance is not None):
        things = _numbered(path, raw, source, file, labels, default_label)
        boxes7 = boxes_from_points(points, things.instance, len(things.labels))
        if mesh is not None:
            mesh.face_instance = _of_corners(things.instance, mesh.faces)
    else:
        if labels is not None:
            raise InputError(f"labels={labels} name ids, but {path} has none; boxes carry their own labels")
        if mesh is not None:
            points, colors = _sampled(mesh, seed)
        if source == "boxes":
            assert file is not None
            things, boxes7 = _boxed(path, notes.read_boxes(file), points, to_ours)
            if mesh is not None:
                mesh.face_instance = points_in_boxes(mesh.vertices[mesh.faces].mean(axis=1), boxes7).astype(np.int32)
        else:
            things = _proposed(path, points, seed)
            boxes7 = boxes_from_points(points, things.instance, len(things.labels))
            if mesh is not None:
                _, near = cKDTree(points).query(mesh.vertices[mesh.faces].mean(axis=1))
                mesh.face_instance = things.instance[near]
    objects = [
        SceneObject(
            k, things.labels[k], boxes7[k], things.ids[k], {"instance_source": things.source}, 0 if room else -1
        )
        for k in range(len(things.labels))
    ]
    corners = np.concatenate([points, np.zeros((0, 3))]) if mesh is None else np.concatenate([points, mesh.vertices])
    return Scene(
        scene_name(name or path.stem),
        "custom",
        objects,
        [room_around(corners, notes.label_text(room, "room"))] if room else [],
        mesh=mesh,
        points=points.astype(np.float32),
        colors=colors,
        instance=things.instance,
        to_source=np.linalg.inv(to_ours),
    )


def _source_of_things(path: Path, given: dict[str, str | Path | None]) -> tuple[str, Path | None]:
    """Where the things of a scan are written down, "instances", "boxes" or "mask", and the file; "" = nowhere."""
    named = {kind: Path(file).expanduser() for kind, file in given.items() if file}
    if not named:
        endings = {"instances": notes.ID_FILES, "boxes": notes.TABLE_FILES, "mask": (".npz",)}
        beside = [
            (kind, file) for kind, wanted in endings.items() for ending in wanted
            if (file := path.with_name(f"{path.stem}.{kind}{ending}")).exists()
        ]  # fmt: skip
        if len(beside) > 1:
            raise InputError(
                f"beside {path} lie {', '.join(file.name for _, file in beside)}; keep or name one of them"
            )
        named = dict(beside)
    if len(named) > 1:
        raise InputError(f"{path}: give one of {', '.join(named)}, they say the same thing in different ways")
    return next(iter(named.items()), ("", None))


class _Things:
    """The things of a scan: per point the index of its thing, per thing its label and its id in the raw data."""

    def __init__(self, source: str, instance: ndarray, labels: list[str], ids: list[str]) -> None:
        self.source, self.labels, self.ids = source, labels, ids
        self.instance: Int32[ndarray, " P"] = instance.astype(np.int32)


def _numbered(
    path: Path, raw: RawScan, source: str, file: Path | None, labels: str | Path | None, default_label: str
) -> _Things:
    """Things from an id per point or from masks, in the order of their ids."""
    count = len(raw.points)
    names: dict[int, str] = {}
    if source == "mask":
        assert file is not None
        ids, names = notes.read_masks(file, count)
        default_label = default_label or "object"
    elif source == "instances":
        assert file is not None
        ids = notes.read_instances(file, count)
    else:
        assert raw.instance is not None
        ids = raw.instance
    if labels is None:
        beside = [path.with_name(f"{path.stem}.labels{ending}") for ending in notes.TABLE_FILES]
        found = [item for item in beside if item.exists()]
        if len(found) > 1:
            raise InputError(f"beside {path} lie {found[0].name} and {found[1].name}; keep or name one of them")
        labels = found[0] if found else None
    if labels is not None:
        names = notes.read_labels(labels)
    nothing = (ids < 0) | ((ids == 0) & (0 not in names) & (source != "mask"))
    present, instance = np.unique(ids[~nothing], return_inverse=True)
    if len(present) == 0:
        raise InputError(f"{path}: no point has an instance id of a thing (negative is none, and 0 without a label)")
    unnamed = [k for k in present.tolist() if k not in names]
    if unnamed and not default_label:
        raise InputError(
            f"{path}: instance ids {unnamed[:8]} have no label ({len(unnamed)} of {len(present)}); add them to "
            f"{labels or path.stem + '.labels.json'}, or give default_label"
        )
    empty = sorted(set(names) - set(present.tolist()))
    if empty:
        raise InputError(f"{path}: labels name ids {empty[:8]} that no point has ({len(empty)}); drop them")
    of_point = np.full(count, -1, dtype=np.int64)
    of_point[~nothing] = instance.ravel()
    default = notes.label_text(default_label, "default_label") if unnamed else ""
    all_labels = [names.get(k, default) for k in present.tolist()]
    return _Things("mask" if source == "mask" else "points", of_point, all_labels, [str(k) for k in present.tolist()])


def _boxed(
    path: Path, given: list[notes.RawBox], points: Float64[ndarray, "P 3"], to_ours: Float64[ndarray, "4 4"]
) -> tuple[_Things, Float64[ndarray, "N 7"]]:
    """Things from boxes, which are turned, scaled and moved with the scan."""
    boxes = np.zeros((len(given), 7))
    for k, box in enumerate(given):
        boxes[k, :3] = to_ours[:3, :3] @ box.center + to_ours[:3, 3]
        boxes[k, 3:6] = np.abs(to_ours[:3, :3]) @ box.size
        boxes[k, 6] = float(wrap_angle(np.array(box.yaw_rad)))  # the turn about x leaves turns about "up" as they are
    instance = points_in_boxes(points, boxes)
    held = np.bincount(instance[instance >= 0], minlength=len(given))
    empty = [f"{box.id} ({box.label})" for box, n in zip(given, held) if n == 0]
    if empty:
        raise InputError(
            f"{path}: boxes {', '.join(empty[:8])} hold no point of their own; boxes are in the scan's own frame and "
            "unit, and where some overlap the smaller one has the points"
        )
    return _Things("boxes", instance, [box.label for box in given], [box.id for box in given]), boxes


def points_in_boxes(points: Float[ndarray, "P 3"], boxes: Float[ndarray, "N 7"]) -> Int64[ndarray, " P"]:
    """The box each point lies in, -1 = none; of several the one of the least volume, of equal ones the first."""
    ids = np.full(len(points), -1, dtype=np.int64)
    volume = boxes[:, 3:6].prod(axis=1)
    for k in np.lexsort((-np.arange(len(boxes)), -volume)):  # the smallest comes last and wins
        offset = points - boxes[k, :3]
        cos, sin = np.cos(boxes[k, 6]), np.sin(boxes[k, 6])
        along, across = cos * offset[:, 0] + sin * offset[:, 1], cos * offset[:, 1] - sin * offset[:, 0]
        reach = np.abs(np.stack([along, across, offset[:, 2]], axis=1))
        ids[(reach <= 0.5 * boxes[k, 3:6] + 1e-9).all(axis=1)] = k
    return ids


def _proposed(path: Path, points: Float64[ndarray, "P 3"], seed: int) -> _Things:
    """Things that geometry alone tells apart."""
    found = propose(points, seed)
    if found.count == 0:
        raise InputError(
            f"{path}: besides floor and walls nothing stands out in its {len(points)} points; give instances, boxes or "
            "mask, and check up and scale (metres per unit)"
        )
    return _Things("proposals", found.instance, ["object"] * found.count, [str(k) for k in range(found.count)])


# --- meshes ---


def _of_corners(ids: Int32[ndarray, " V"], faces: Int32[ndarray, "F 3"]) -> Int32[ndarray, " F"]:
    """The thing that at least two corners of a face belong to, else -1."""
    a, b, c = ids[faces].T
    return np.where((a == b) | (a == c), a, np.where(b == c, b, -1)).astype(np.int32)


def _sampled(mesh: SceneMesh, seed: int) -> tuple[Float64[ndarray, "P 3"], UInt8[ndarray, "P 3"]]:
    """Points spread evenly over a surface, and their colours."""
    area = float(face_areas(mesh.vertices, mesh.faces).sum())
    count = int(np.clip(SAMPLES_PER_M2 * area, *SAMPLES))
    drawn = sample_surface(mesh, np.array([-1]), count, np.random.default_rng(seed))[0]
    return drawn[:, :3].astype(np.float64), drawn[:, 3:].astype(np.uint8)
