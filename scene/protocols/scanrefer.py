"""ScanRefer (Chen et al., ECCV 2020): find the box a description means, in ScanNet's validation scans.

Input: ScanRefer_filtered_val.json, a list of {scene_id, object_id, object_name, ann_id, description, ...}; example ids
are "scene_id|object_id|ann_id". SceneVerse's annotations/refer/scanrefer.jsonl is read, too, with its item_id as id.

Whether a target is "unique" is counted in three ways in the published tables, which therefore disagree on every row but
the overall one. All three stand in ours:

    unique                      official: objects of the scene that the file annotates, 18 classes
    unique (scan, 18 classes)   all objects of the scan, 18 classes: the released code of GPS (arXiv:2401.09340)
    unique (scan, NYU40)        all objects of the scan but walls, floors and ceilings, the 40 classes of NYU: the
                                released code of ZSVG3D (Yuan et al., CVPR 2024)

A raw name becomes one of NYU's 40 classes by ScanNet's own table, and one of the 18 by the list below.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from core.errors import InputError
from scene.datasets.scannet import TABLE, label_table
from scene.protocols.annotations import Loaded, Placing, Row, Scenes, read_rows
from scene.protocols.grounding_metrics import Predictions, accuracy_at_iou
from scene.protocols.metric import Metric
from scene.protocols.records import Example

OTHERS: Final = "others"
CLASSES: Final = (
    "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter", "desk", "curtain",
    "refrigerator", "shower curtain", "toilet", "sink", "bathtub", OTHERS,
)  # fmt: skip
"""ScanNet's 18 benchmark classes as ScanRefer's code has them: 17 of NYU40, and all others as one."""
COUNTS: Final = ("", " (scan, 18 classes)", " (scan, NYU40)")
GROUPS: Final = tuple(f"{name}{count}" for count in COUNTS for name in ("unique", "multiple"))

_OFFICIAL: Final = ("scene_id", "object_id", "object_name", "ann_id", "description")
_SCENEVERSE: Final = ("item_id", "scan_id", "target_id", "instance_type", "utterance")


class Classes:
    """Classes of raw ScanNet names.

    Args:
        path: scannetv2-labels.combined.tsv of the ScanNet release.

    Raises:
        InputError: no path is given, or it is no such table. MissingFileError: not there.
    """

    def __init__(self, path: str | Path) -> None:
        if not str(path):
            raise InputError(
                f"unique and multiple of ScanRefer need ScanNet's table of labels: give labels=PATH/{TABLE} (it is in "
                "the ScanNet release)"
            )
        self._nyu40 = {_plain(raw): name for raw, name in label_table(Path(path)).items()}

    def nyu40(self, raw: str) -> str:
        """One of NYU's 40 classes; empty for a name the table does not know."""
        return self._nyu40.get(_plain(raw), "")

    def benchmark(self, raw: str) -> str:
        """One of CLASSES."""
        name = self.nyu40(raw)
        return name if name in CLASSES else OTHERS


def load(
    path: str | Path,
    scenes: Scenes,
    *,
    labels: str | Path = "",
    unknown_scenes: str = "error",
    missing_targets: str = "error",
) -> Loaded:
    """The descriptions of a ScanRefer file with target, box and the three readings of unique and multiple.

    Args:
        scenes: objects of the scans, with ScanNet's object ids as source ids and its raw names as labels.
        labels: ScanNet's scannetv2-labels.combined.tsv.
        unknown_scenes: "error", or "skip" rows of scans that are not loaded.
        missing_targets: "error", or "skip" rows whose target its scan lacks.

    Raises:
        MissingFileError, InputError: a file is absent, damaged or of another kind; a scan or a target is unknown; an
            id stands twice; or no row is left.
    """
    classes = Classes(labels)
    official = Path(path).suffix != ".jsonl"
    rows = read_rows(path, "ScanRefer annotations", _OFFICIAL if official else _SCENEVERSE)
    scene_key, object_key, name_key, text_key = (
        ("scene_id", "object_id", "object_name", "description")
        if official
        else ("scan_id", "target_id", "instance_type", "utterance")
    )
    annotated = _annotated(rows, scene_key, object_key, name_key, classes)
    in_scan: dict[str, list[tuple[bool, bool]]] = {}
    out = Loaded()
    placing = Placing(scenes, out, unknown_scenes, missing_targets)
    for row in rows:
        scene_id, target = row.text(scene_key), row.id(object_key)
        name = f"{scene_id}|{target}|{row.id('ann_id')}" if official else row.id("item_id")
        text = row.text(text_key)
        found = placing.find(row, name, scene_id, [target])
        if found is None:
            continue
        if scene_id not in in_scan:
            in_scan[scene_id] = _alone_in_scan([item.label for item in scenes[scene_id]], classes)
        alone = annotated[scene_id][classes.benchmark(_name(row, name_key))] == 1
        readings = (alone, *in_scan[scene_id][found[0]])
        groups = tuple(("unique" if one else "multiple") + count for one, count in zip(readings, COUNTS))
        out.take(row, Example(name, scene_id, text, found, placing.boxes(scene_id, found), groups=groups))
    return out.checked(path)


def _annotated(
    rows: Sequence[Row], scene_key: str, object_key: str, name_key: str, classes: Classes
) -> dict[str, Counter[str]]:
    """Per scene and class, how many different objects the file annotates; an object's first row names its class."""
    counts: dict[str, Counter[str]] = {}
    seen = set()
    for row in rows:
        scene_id = row.text(scene_key)
        key = scene_id, row.id(object_key)
        if key not in seen:
            seen.add(key)
            counts.setdefault(scene_id, Counter())[classes.benchmark(_name(row, name_key))] += 1
    return counts


def _alone_in_scan(labels: Sequence[str], classes: Classes) -> list[tuple[bool, bool]]:
    """Of each object of a scan, whether it is the only one of its class: of the 18 classes, and of NYU40.

    Walls, floors and ceilings are "others" among the 18. Our scenes do not hold them as objects, but every scan has
    some, so that none of the others is ever unique.
    """
    of_18, of_40 = ([name(label) for label in labels] for name in (classes.benchmark, classes.nyu40))
    count_18, count_40 = Counter(of_18), Counter(of_40)
    return [(count_18[a] == 1 and a != OTHERS, count_40[b] == 1) for a, b in zip(of_18, of_40)]


def _name(row: Row, key: str) -> str:
    return row.text(key).replace("_", " ")


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def measure(examples: Sequence[Example], predictions: Predictions, objects: Scenes) -> list[Metric]:
    """Acc@0.25 and Acc@0.5; `objects` are what predicted objects index (`grounding_metrics.accuracy_at_iou`)."""
    return accuracy_at_iou(examples, predictions, objects)
