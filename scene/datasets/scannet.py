"""ScanNet's raw release (Dai et al., arXiv:1702.04405): meshes, segments and their grouping into objects.

    <root>/scans/<scan>/<scan>_vh_clean_2.ply                         coloured mesh
                        <scan>_vh_clean_2.0.010000.segs.json          a segment per vertex
                        <scan>.aggregation.json                       objects as groups of segments, with labels
                        <scan>.txt                                    axisAlignment, among others
    <root>/scannetv2_train.txt, scannetv2_val.txt                     the official split, one scan name a line
    <root>/scannetv2-labels.combined.tsv                              only for labels="nyu40"

`scans` may be missing from the path: scan folders right below the root are found, too. The hidden test scans carry no
objects and are not read.
"""

import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from core.errors import InputError, MissingFileError, check_choice, existing_file
from core.files import read_json
from scene.datasets.ply import read_ply
from scene.datasets.point_scan import (
    checked_scan_name,
    clean_label,
    folder_of,
    our_splits,
    point_scene,
    read_scan_list,
)
from scene.types import Scene

LABELS: Final = ("raw", "nyu40")
TABLE: Final = "scannetv2-labels.combined.tsv"
MESH: Final = "_vh_clean_2.ply"


def load(path: str | Path, split: str | None = None, labels: str = "raw", unmatched: str = "refuse") -> Iterator[Scene]:
    """The scans of the release as scenes with points and mesh, one in memory at a time.

    Scene ids are the scans' names, source ids the files' objectId (which ScanRefer, Nr3D and ScanQA use). Scans stand
    axis aligned, as benchmarks measure them; `to_source` leads back to the mesh's own frame.

    Args:
        path: folder of the release.
        split: train, val or test (see `splits`); None = every scan on disk, in the order of names.
        labels: "raw" names, or the 40 classes of NYU ("nyu40") by the release's table.
        unmatched: groups that no vertex belongs to: "refuse" such a scan, or "drop" them.

    Raises:
        MissingFileError, InputError: no such folder or file, a damaged one, files that do not belong together, or a
            scan that `point_scene` refuses.
    """
    check_choice("source.labels", labels, LABELS)
    if split is None:
        names = scans(path)
    else:
        chosen = splits(path)
        check_choice("split", split, chosen)
        names = chosen[split]
    for name in names:
        yield read_scan(path, name, labels, unmatched)


def scans(path: str | Path) -> list[str]:
    """Names of the scans on disk, sorted. Raises InputError when there are none."""
    root = _scan_root(path)
    names = sorted(item.parent.name for item in root.glob(f"*/*{MESH}") if item.name == item.parent.name + MESH)
    if not names:
        raise InputError(f"no scans in {root}: expected folders <scan>/ with <scan>{MESH}")
    return names


def _scan_root(path: str | Path) -> Path:
    folder = folder_of(path, "ScanNet release")
    return folder / "scans" if (folder / "scans").is_dir() else folder


def splits(path: str | Path) -> dict[str, list[str]]:
    """Our train, val and test: scan names by the official lists (see `our_splits`; their val is our test).

    One of the two lists may be absent; reads no scan.

    Raises:
        MissingFileError: neither list is there. InputError: a damaged list.
    """
    folder = folder_of(path, "ScanNet release")
    files = [folder / f"scannetv2_{split}.txt" for split in ("train", "val")]
    if not any(file.exists() for file in files):
        raise MissingFileError(
            f"ScanNet's splits are missing: expected {files[0].name} and {files[1].name} in {folder} (they are in the "
            "benchmark's repository, ScanNet/Tasks/Benchmark)"
        )
    train, val = (read_scan_list(file) if file.exists() else [] for file in files)
    return our_splits(train, val)


def read_scan(path: str | Path, scan: str, labels: str = "raw", unmatched: str = "refuse") -> Scene:
    """One scan of the release; arguments and errors as `load`."""
    check_choice("source.labels", labels, LABELS)
    folder = _scan_root(path) / checked_scan_name(scan)
    mesh_file = folder / f"{scan}{MESH}"
    table = read_ply(mesh_file)
    vertex, faces = table.get("vertex", {}), table.get("face", {})
    corners = next((faces[name] for name in ("vertex_indices", "vertex_index") if name in faces), None)
    lacking = [name for name in ("x", "y", "z", "red", "green", "blue") if name not in vertex]
    if lacking or corners is None:
        raise InputError(f"{mesh_file} lacks {', '.join(lacking) or 'faces'}; is it the release's {scan}{MESH}?")
    if corners.ndim != 2 or corners.shape[1] not in (0, 3):  # 0: no faces at all
        raise InputError(f"{mesh_file}: faces have shape {corners.shape}, expected triangles (F, 3)")
    raw = np.stack([vertex[k] for k in "xyz"], axis=1).astype(np.float64)
    to_ours = _alignment(folder / f"{scan}.txt")
    segment = _segments(folder / f"{scan}_vh_clean_2.0.010000.segs.json", len(raw))
    instance, names = _objects(folder / f"{scan}.aggregation.json", segment, scan)
    if labels == "nyu40":
        names = _in_nyu40(names, folder_of(path, "ScanNet release") / TABLE, scan)
    return point_scene(
        scan,
        "scannet",
        raw @ to_ours[:3, :3].T + to_ours[:3, 3],
        np.stack([vertex[k] for k in ("red", "green", "blue")], axis=1),
        instance,
        {key: clean_label(name, scan) for key, name in names.items()},
        to_source=np.linalg.inv(to_ours),
        faces=corners.reshape(-1, 3),
        unmatched=unmatched,
    )


def _alignment(file: Path) -> Float64[ndarray, "4 4"]:
    """Raw frame -> axis-aligned frame; the identity where the file names none, as for scans that need no turn."""
    file = existing_file(file, "scan description")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"scan description is no UTF-8 text: {file} ({error})") from error
    found = [line.partition("=")[2] for line in lines if line.partition("=")[0].strip() == "axisAlignment"]
    if not found:
        return np.eye(4)
    try:
        numbers = [float(word) for word in found[0].split()]
    except ValueError as error:
        raise InputError(f"{file}: axisAlignment holds something that is no number ({error})") from error
    if len(found) > 1 or len(numbers) != 16:
        raise InputError(
            f"{file}: axisAlignment holds {len(numbers)} numbers on {len(found)} lines, expected 16 on one"
        )
    matrix = np.array(numbers).reshape(4, 4)
    turn = matrix[:3, :3]
    rigid = np.isfinite(matrix).all() and np.abs(matrix[3] - (0, 0, 0, 1)).max() < 1e-6
    if not rigid or np.abs(turn @ turn.T - np.eye(3)).max() > 1e-3 or np.linalg.det(turn) < 0:
        raise InputError(f"{file}: axisAlignment is no turn and shift: {matrix.tolist()}")
    return matrix


def _segments(file: Path, vertices: int) -> ndarray:
    """Segment of each vertex."""
    content = read_json(file, "segment file")
    listed = content.get("segIndices") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not all(type(item) is int and 0 <= item < 2**31 for item in listed):
        raise InputError(f"{file} has no segIndices, a list of segment numbers")
    if len(listed) != vertices:
        raise InputError(f"{file} has {len(listed)} segIndices, but the mesh {vertices} vertices; copy both again")
    return np.array(listed, dtype=np.int64)


def _objects(file: Path, segment: ndarray, scan: str) -> tuple[ndarray, dict[int, str]]:
    """objectId of each vertex, -1 = none, and the label of each objectId; a later group takes shared segments."""
    content = read_json(file, "aggregation file")
    groups = content.get("segGroups") if isinstance(content, dict) else None
    if not isinstance(groups, list):
        raise InputError(f"{file} has no segGroups, a list of objects")
    names: dict[int, str] = {}
    kinds, where = np.unique(segment, return_inverse=True)
    owner = np.full(len(kinds), -1, dtype=np.int64)
    for number, group in enumerate(groups):
        key = group.get("objectId") if isinstance(group, dict) else None
        parts: Any = group.get("segments") if isinstance(group, dict) else None
        whole = isinstance(parts, list) and all(type(item) is int and 0 <= item < 2**31 for item in parts)
        if type(key) is not int or not 0 <= key < 2**31 or not whole or not isinstance(group.get("label"), str):
            raise InputError(f"{file}: segGroups[{number}] has no objectId, label and list of segments")
        if key in names:
            raise InputError(f"{file}: objectId {key} stands twice in scan {scan}; ids must differ")
        names[key] = group["label"]
        owner[np.isin(kinds, parts)] = key
    return owner[where], names


def _in_nyu40(names: dict[int, str], file: Path, scan: str) -> dict[int, str]:
    table = label_table(file)
    unknown = sorted({str(name) for name in names.values()} - table.keys())
    if unknown:
        raise InputError(
            f"scan {scan} has {len(unknown)} labels that {file} does not know, e.g. {unknown[0]!r}; use labels=raw"
        )
    return {key: table[name] for key, name in names.items()}


@cache
def label_table(file: Path) -> dict[str, str]:
    """raw_category -> nyu40class."""
    file = existing_file(file, "ScanNet label table")
    try:
        with open(file, encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines, delimiter="\t"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"ScanNet label table is damaged: {file} ({error}); copy it again") from error
    if not rows or not {"raw_category", "nyu40class"} <= rows[0].keys():
        raise InputError(f"{file} lacks the columns raw_category and nyu40class; is it the release's {TABLE}?")
    return {row["raw_category"]: row["nyu40class"] for row in rows if row["nyu40class"]}
