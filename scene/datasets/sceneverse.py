"""SceneVerse's released scans (Jia et al., arXiv:2401.09340) of any of its seven datasets, and their sentences.

A dataset's folder, unpacked:

    <Dataset>/scan_data/pcd_with_global_alignment/<scan>.pth   tuple: [0] xyz (P, 3), [1] rgb (P, 3), [-1] instance (P,)
              scan_data/pcd_with_global_alignment/<scan>_align_angle.npy   degrees; scans processed anew only
              scan_data/instance_id_to_label/<scan>.pth                    dict: instance id -> label
              scan_data/instance_id_to_name/<scan>.json                    ScanNet without the .pth: list of labels
              annotations/splits/{train,val}_split.txt                     ScanNet: scannetv2_{train,val}.txt
              annotations/anno.json, annotations/ssg_ref_*.json, annotations/refer/*.jsonl, ...   referrals

.pth files are read without running anything in them (scene/datasets/pth.py).
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from core.errors import InputError, MissingFileError, check_choice, existing_file
from core.files import read_json
from scene.datasets.point_scan import (
    STRUCTURE,
    checked_scan_name,
    clean_label,
    folder_of,
    our_splits,
    point_scene,
    read_scan_list,
)
from scene.datasets.pth import read_pth
from scene.geometry import rotation_z
from scene.language import Referral
from scene.protocols.annotations import VIEW_WORDS
from scene.types import Scene, SceneObject

DATASETS: Final = ("ScanNet", "3RScan", "MultiScan", "ARKitScenes", "HM3D", "Structured3D", "ProcThor")
COUNT_FROM_ZERO: Final = ("ScanNet", "3RScan")
"""Datasets whose objects count from 0; in the others an id of 0 without a label marks points of no object."""

_POINTS = "scan_data/pcd_with_global_alignment"
_LABELS = "scan_data/instance_id_to_label"
_NAMES = "scan_data/instance_id_to_name"


def load(path: str | Path, split: str | None = None, dataset: str = "", unmatched: str = "refuse") -> Iterator[Scene]:
    """The scans of a dataset's folder as scenes, one in memory at a time.

    Scene ids are the scans' names; the frame is the file's own (metres, z up).

    Args:
        path: the dataset's folder, unpacked.
        split: train, val or test (see `splits`); None = every scan on disk, in the order of names.
        dataset: one of DATASETS; "" = the folder's name.
        unmatched: ids without a label and labels without points: "refuse" such a scan, or "drop" them.

    Raises:
        MissingFileError, InputError: no such folder or file, a damaged one, one with code in it, or a scan that
            `point_scene` refuses.
    """
    names = scans(path) if split is None else _split(path, split, dataset)
    for name in names:
        yield read_scan(path, name, dataset, unmatched)


def _split(path: str | Path, split: str, dataset: str) -> list[str]:
    chosen = splits(path, dataset)
    check_choice("split", split, chosen)
    return chosen[split]


def scans(path: str | Path) -> list[str]:
    """Names of the scans on disk, sorted. Raises InputError when there are none."""
    folder = folder_of(path, "SceneVerse dataset") / _POINTS
    names = sorted(item.stem for item in folder.glob("*.pth"))
    if not names:
        raise InputError(f"no scans in {folder}: expected <scan>.pth there; is {path} one dataset's folder, unpacked?")
    return names


def dataset_of(path: str | Path, dataset: str = "") -> str:
    """Which of DATASETS a folder holds: as given, or by its name."""
    folder = folder_of(path, "SceneVerse dataset")
    if dataset:
        check_choice("source.dataset", dataset, DATASETS)
        return dataset
    named = [item for item in DATASETS if item.lower() == folder.resolve().name.lower()]
    if not named:
        raise InputError(
            f"{folder} is not named after a dataset of SceneVerse; say which it holds with source.dataset=NAME, one of "
            f"{', '.join(DATASETS)}"
        )
    return named[0]


def splits(path: str | Path, dataset: str = "") -> dict[str, list[str]]:
    """Our train, val and test: scan names (see `our_splits`; their val is our test).

    One of their two lists may be absent, e.g. of a dataset used for testing only; reads no scan.

    Raises:
        MissingFileError: neither list is there. InputError: a damaged list.
    """
    name = dataset_of(path, dataset)
    folder = Path(path).expanduser() / "annotations" / "splits"
    form = "scannetv2_{}.txt" if name == "ScanNet" else "{}_split.txt"
    files = [folder / form.format(split) for split in ("train", "val")]
    if not any(file.exists() for file in files):
        raise MissingFileError(
            f"{name} has no splits: expected {files[0].name} and {files[1].name} in {folder}, one scan name a line"
        )
    train, val = (read_scan_list(file) if file.exists() else [] for file in files)
    return our_splits(train, val)


def read_scan(path: str | Path, scan: str, dataset: str = "", unmatched: str = "refuse") -> Scene:
    """One scan of a dataset's folder; arguments and errors as `load`."""
    name = dataset_of(path, dataset)
    folder = Path(path).expanduser()
    file = folder / _POINTS / f"{checked_scan_name(scan)}.pth"
    content = read_pth(file, "point cloud")
    if not isinstance(content, tuple | list) or len(content) < 3:
        size = f" of {len(content)}" if isinstance(content, tuple | list) else ""
        raise InputError(
            f"point cloud {file} holds a {type(content).__name__}{size}, expected a tuple (xyz, rgb, ..., ids)"
        )
    return point_scene(
        scan,
        "sceneverse",
        content[0],
        content[1],
        content[-1],
        _labels(folder, scan, before_dot=name == "MultiScan"),
        to_source=_unturned(folder / _POINTS / f"{scan}_align_angle.npy"),
        zero_is_none=name not in COUNT_FROM_ZERO,
        unmatched=unmatched,
    )


def _labels(folder: Path, scan: str, before_dot: bool) -> dict[int, str]:
    file = folder / _LABELS / f"{scan}.pth"
    listed = folder / _NAMES / f"{scan}.json"
    if listed.exists() and not file.exists():
        file = listed
        names = read_json(file, "label file")
        table: Any = dict(enumerate(names)) if isinstance(names, list) else names
    else:
        table = read_pth(file, "label file")
    if not isinstance(table, dict) or any(isinstance(k, bool) or not isinstance(k, int) or k < 0 for k in table):
        raise InputError(f"label file {file} is no table of labels by instance id (whole numbers from 0)")
    return {key: clean_label(text, scan, before_dot) for key, text in table.items()}


def _unturned(file: Path) -> Float64[ndarray, "4 4"]:
    """Leads back to the scan before SceneVerse turned it.

    Its processing turns points clockwise, seen from above, by the angle; what it then takes off (mean of xy, least z)
    it does not record, so the way back ends in the raw frame's axes with that offset left.
    """
    if not file.exists():
        return np.eye(4)
    try:
        angle = np.load(existing_file(file, "alignment angle"), allow_pickle=False)
    except InputError:
        raise
    except Exception as error:  # numpy raises errors of every kind from a damaged header
        raise InputError(f"alignment angle {file} is damaged ({error}); copy it again") from error
    if (
        not isinstance(angle, ndarray)
        or angle.size != 1
        or angle.dtype.kind not in "fiu"
        or not np.isfinite(angle).all()
    ):
        raise InputError(f"alignment angle {file} holds no single finite number (degrees)")
    return rotation_z(float(np.deg2rad(float(angle.reshape(())))))


# --- sentences ---


@dataclass
class ReadReferrals:
    """What a file of referrals gave, and what of it could not be placed."""

    referrals: list[Referral] = field(default_factory=list)
    unknown_scans: Counter[str] = field(default_factory=Counter)  # sentences of each scan that was not given
    unknown_targets: Counter[str] = field(default_factory=Counter)  # per scan: targets that are none of its objects
    structural: int = 0  # sentences that mean a wall, a floor or a ceiling

    def report(self) -> str:
        """One line of counts."""
        return (
            f"{len(self.referrals)} referrals; left out: {self.unknown_scans.total()} of {len(self.unknown_scans)} "
            f"scans that are not loaded, {self.unknown_targets.total()} with an unknown target in "
            f"{len(self.unknown_targets)} scans, {self.structural} of walls, floors or ceilings"
        )


def read_referrals(file: str | Path, objects: Mapping[str, Sequence[SceneObject]]) -> ReadReferrals:
    """SceneVerse's referrals (annotations/*.json, refer/*.jsonl) with targets as our object ids.

    Args:
        file: a list of {scan_id, target_id, instance_type, utterance, ...} (.json), or one such item a line (.jsonl).
        objects: scan name -> objects of its scene, e.g. {scene.id: scene.objects for scene in load(...)}.

    Returns:
        Referrals with source "sceneverse", kind = the file's name without its ending, view_dependent by VIEW_WORDS;
        sentences that cannot be placed are counted.

    Raises:
        MissingFileError: not there. InputError: damaged, or an item that lacks a key.
    """
    file = existing_file(file, "referral file")
    ids = {name: {item.source_id: item.id for item in items} for name, items in objects.items()}
    classes = {name: Counter(item.label for item in items) for name, items in objects.items()}
    out = ReadReferrals()
    for number, item in _items(file):
        lacking = [key for key in ("scan_id", "target_id", "utterance") if key not in item]
        if lacking:
            raise InputError(f"{file}, item {number} lacks {', '.join(lacking)}; it has {', '.join(sorted(item)[:8])}")
        scan, target, text = str(item["scan_id"]), str(item["target_id"]).strip(), item["utterance"]
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{file}, item {number}: utterance is {text!r}, expected a sentence")
        if scan not in ids:
            out.unknown_scans[scan] += 1
        elif target not in ids[scan]:
            if str(item.get("instance_type", "")).lower().strip() in STRUCTURE:
                out.structural += 1
            else:
                out.unknown_targets[scan] += 1
        else:
            index = ids[scan][target]
            out.referrals.append(
                Referral(
                    scene_id=scan,
                    utterance=text.strip(),
                    targets=(index,),
                    anchors=(),
                    kind=file.name.partition(".")[0],
                    source="sceneverse",
                    view_dependent=not VIEW_WORDS.isdisjoint(text.lower().split()),
                    n_same_class=classes[scan][objects[scan][index].label],
                )
            )
    return out


def _items(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, item)."""
    if file.suffix == ".jsonl":
        items: list[Any] = []
        for line, raw in enumerate(file.read_bytes().split(b"\n"), start=1):
            try:
                items += [json.loads(raw)] if raw.strip() else []
            except ValueError as error:  # also of text that is no UTF-8
                raise InputError(f"{file}, line {line} is damaged or not JSON: {error}; copy it again") from error
    else:
        content = read_json(file, "referral file")
        if not isinstance(content, list):
            raise InputError(f"{file} holds a {type(content).__name__}, expected a list of referrals")
        items = content
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            raise InputError(f"{file}, item {number} is a {type(item).__name__}, expected an object with keys")
        yield number, item
