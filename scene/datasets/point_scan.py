"""What scans of any origin share: coloured points with instance ids and labels, made a Scene or refused with a reason.

Sources differ in files (scene/datasets/sceneverse.py, scannet.py); from here on all is alike: objects are numbered
0..N-1 in the order of their source ids, boxes are axis aligned around the points, walls, floors and ceilings stay as
points of no object.
"""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from core.errors import InputError, MissingFileError, check_choice, existing_file
from scene.geometry import boxes_from_points
from scene.types import Scene, SceneMesh, SceneObject

STRUCTURE: Final = ("wall", "floor", "ceiling")
"""Labels that are no objects; their points stay, with instance -1 (as in arXiv:2401.09340's own loaders)."""
TUNING_SHARE: Final = 0.1  # of a source's train scans, in the order of their names: the last ones are there to tune on
UNMATCHED: Final = ("refuse", "drop")
SCAN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def point_scene(
    name: str,
    source: str,
    points: Any,
    colors: Any,
    instance: Any,
    labels: Mapping[int, str],
    *,
    to_source: Float[ndarray, "4 4"] | None = None,
    faces: ndarray | None = None,
    zero_is_none: bool = False,
    unmatched: str = "refuse",
) -> Scene:
    """A scan as a scene.

    Args:
        name: the scan; in every error, and the scene's id.
        points: (P, 3), metres, z up.
        colors: (P, 3), 0..255.
        instance: (P,), the source's instance ids; negative = no object.
        labels: source id -> label, cleaned (`clean_label`).
        faces: (F, 3), triangles over the points, where the scan is a mesh.
        zero_is_none: an id of 0 that has no label means no object, too.
        unmatched: what becomes of ids without a label and labels without a point: "refuse" the scan, or "drop" them
            (those points become points of no object) with a warning that counts them.

    Raises:
        InputError: shapes that do not fit, no points, NaN or infinite points, colours that are not 0..255 (0..1 is
            told apart), ids that are no whole numbers, unmatched ids, or no object left.
    """
    check_choice("unmatched", unmatched, UNMATCHED)
    xyz = _table(points, "points", name, 3)
    rgb = _table(colors, "colours", name, 3)
    ids = np.asarray(instance)
    if not len(xyz):
        raise InputError(f"scan {name} is empty: it has no points")
    if ids.shape != (len(xyz),) or rgb.shape != xyz.shape:
        raise InputError(
            f"scan {name}: points {xyz.shape}, colours {rgb.shape} and instance ids {ids.shape} are no one table; "
            "expected (P, 3), (P, 3) and (P,)"
        )
    bad = int((~np.isfinite(xyz)).any(axis=1).sum())
    if bad:
        raise InputError(f"scan {name}: {bad} of {len(xyz)} points are NaN or infinite; remove them")
    ids = _whole(ids, name)
    if zero_is_none and 0 not in labels:
        ids = np.where(ids == 0, -1, ids)
    present = set(np.unique(ids[ids >= 0]).tolist())
    known = _matched(present, labels, name, unmatched)
    kept = [key for key in known if labels[key] not in STRUCTURE]
    if not kept:
        raise InputError(f"scan {name} has no objects: {len(known)} labelled instances, all {', '.join(STRUCTURE)}")
    place = np.searchsorted(kept, ids)
    own = np.isin(ids, kept)
    number = np.where(own, place, -1).astype(np.int32)
    boxes = boxes_from_points(xyz, number, len(kept))
    shades = _colors(rgb, name)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which Scene refuses
        xyz = xyz.astype(np.float32)
    return Scene(
        id=name,
        source=source,
        objects=[
            SceneObject(k, labels[key], box, source_id=str(key))
            for k, (key, box) in enumerate(zip(kept, boxes, strict=True))
        ],
        mesh=None if faces is None else _mesh(xyz, faces, shades, number),
        points=xyz,
        colors=shades,
        instance=number,
        to_source=np.eye(4) if to_source is None else to_source,
    )


def _table(values: Any, what: str, name: str, width: int) -> ndarray:
    table = np.asarray(values)
    if table.ndim != 2 or table.shape[1] != width or table.dtype.kind not in "fiu":
        raise InputError(
            f"scan {name}: {what} are {table.dtype} of shape {table.shape}, expected numbers of shape (P, {width})"
        )
    return table


def _whole(ids: ndarray, name: str) -> ndarray:
    whole = ids.astype(np.float64) if ids.dtype.kind in "fiub" else np.full(len(ids), np.nan)
    wrong = ~(np.isfinite(whole) & (whole == np.floor(whole)) & (np.abs(whole) < 2**31))
    if wrong.any():
        raise InputError(f"scan {name}: {int(wrong.sum())} instance ids are no whole numbers, e.g. {ids[wrong][0]!r}")
    return whole.astype(np.int64)


def _matched(present: set[int], labels: Mapping[int, str], name: str, unmatched: str) -> list[int]:
    """Ids that have both points and a label, in order."""
    nameless, pointless = sorted(present - labels.keys()), sorted(labels.keys() - present)
    parts = []
    if nameless:
        parts.append(f"{len(nameless)} instance ids without a label ({_few(nameless)})")
    if pointless:
        parts.append(f"{len(pointless)} labels without a point ({_few(pointless)})")
    if parts and unmatched == "refuse":
        raise InputError(
            f"scan {name} has {' and '.join(parts)}; mend its files, or leave these out with source.unmatched=drop"
        )
    if parts:
        warnings.warn(f"scan {name}: left out {' and '.join(parts)}", stacklevel=4)
    return sorted(present & labels.keys())


def _few(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")


def _colors(rgb: ndarray, name: str) -> ndarray:
    """Colours as uint8; fractions are rounded."""
    low, high = float(rgb.min()), float(rgb.max())
    if not (low >= 0 and high <= 255):  # NaN fails, too
        raise InputError(f"scan {name}: colours run from {low:g} to {high:g}, expected 0..255")
    if rgb.dtype.kind == "f" and 0 < high <= 1:
        raise InputError(f"scan {name}: colours run from {low:g} to {high:g}, expected 0..255; multiply them by 255")
    return np.rint(rgb).astype(np.uint8)


def _mesh(xyz: ndarray, faces: ndarray, colors: ndarray, number: ndarray) -> SceneMesh:
    """A face belongs to the object of at least two of its corners and has their mean colour."""
    a, b, c = number[faces].T
    owner = np.where((a == b) | (a == c), a, np.where(b == c, b, -1))
    shade = np.rint(colors[faces].astype(np.float64).mean(axis=1)).astype(np.uint8)
    return SceneMesh(xyz, faces.astype(np.int32), shade, owner.astype(np.int32))


def clean_label(text: object, name: str, before_dot: bool = False) -> str:
    """A label in lower case with single spaces; `before_dot` keeps what stands before the first "." ("chair.3").

    Raises:
        InputError: no text, or nothing left of it.
    """
    if not isinstance(text, str):
        raise InputError(f"scan {name}: a label is {text!r}, expected text")
    label = " ".join((text.partition(".")[0] if before_dot else text).lower().split())
    if not label:
        raise InputError(f"scan {name}: the label {text!r} is empty")
    return label


def checked_scan_name(name: str, where: str = "") -> str:
    """Raises InputError for a scan name that is no plain file name, such as one that climbs out of the folder."""
    if not SCAN_NAME.fullmatch(name):
        raise InputError(f"{where}scan name {name!r} is no file name; use letters, digits, '.', '_' and '-'")
    return name


def read_scan_list(path: Path) -> list[str]:
    """The scan names of a split file, one a line, sorted.

    Raises:
        InputError: not UTF-8, a name that is no file name, or one that stands twice.
    """
    path = existing_file(path, "split file")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"split file is no UTF-8 text: {path} ({error})") from error
    names = [checked_scan_name(line.strip(), f"{path}: ") for line in text.splitlines() if line.strip()]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise InputError(f"{path} names {', '.join(twice[:3])} twice; keep one of each")
    return sorted(names)


def our_splits(train: Sequence[str], val: Sequence[str]) -> dict[str, list[str]]:
    """Scans of a source's own train and val lists as our splits.

    Their val is what results are reported on, so it is our test; the last TUNING_SHARE of their train, by name, is our
    val, to tune on. Scans of one place (scene0011_00, scene0011_01) stay together, so val may be a little larger; it is
    empty where they train on a single place. A scan in both lists is an error.
    """
    both = sorted(set(train) & set(val))
    if both:
        raise InputError(f"{len(both)} scans are in both the train and the val list, e.g. {both[0]}")
    ordered = sorted(train)
    cut = len(ordered) - math.ceil(TUNING_SHARE * len(ordered))
    while 0 < cut < len(ordered) and _place(ordered[cut - 1]) == _place(ordered[cut]):
        cut -= 1
    cut = cut or len(ordered)
    return {"train": ordered[:cut], "val": ordered[cut:], "test": sorted(val)}


def _place(name: str) -> str:
    """Where a scan was taken, as far as its name tells: scene0011_01 and scene_00011_01 of ScanNet and MultiScan."""
    found = re.match(r"(scene_?\d+)_", name)
    return found[1] if found else name


def folder_of(path: str | Path, what: str) -> Path:
    """`path` as an unpacked folder. Raises InputError when it is an archive, MissingFileError when nothing is there."""
    path = Path(path).expanduser()
    if path.is_file():
        raise InputError(f"{what} should be an unpacked folder, but {path} is a file; unpack archives first")
    if not path.is_dir():
        raise MissingFileError(f"{what} not found: {path} (working folder: {Path.cwd()})")
    return path
