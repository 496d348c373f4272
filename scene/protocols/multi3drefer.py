"""Multi3DRefer (Zhang et al., ICCV 2023): find all boxes a description means, be they none, one or several.

Input: a list of {scene_id, object_ids, ann_id, description, eval_type, ...} (.json); example ids are
"scene_id|ann_id", for an ann_id occurs once per scene. The groups are the file's eval_type: no, one or several targets
(zt, st, mt), with or without distractors of their class (w_d, wo_d).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from core.errors import InputError, nearest
from scene.protocols.annotations import Loaded, Placing, Scenes, read_rows
from scene.protocols.grounding_metrics import Predictions, f1_at_iou
from scene.protocols.metric import Metric
from scene.protocols.records import Example

TARGETS: Final = {"zt_w_d": "no", "zt_wo_d": "no", "st_w_d": "one", "st_wo_d": "one", "mt": "several"}
"""Each group, and how many targets its descriptions have."""
GROUPS: Final = tuple(TARGETS)


def load(path: str | Path, scenes: Scenes, *, unknown_scenes: str = "error", missing_targets: str = "error") -> Loaded:
    """The descriptions of a Multi3DRefer file with targets, boxes and group.

    Args:
        scenes: objects of the scans, with ScanNet's object ids as source ids.
        unknown_scenes: "error", or "skip" rows of scans that are not loaded.
        missing_targets: "error", or "skip" rows with a target that its scan lacks.

    Raises:
        MissingFileError, InputError: the file is absent, damaged or of another kind; a scan or a target is unknown; an
            eval_type that is unknown or does not fit the number of targets; an id that stands twice; or no row is
            left.
    """
    needed = ("scene_id", "object_ids", "ann_id", "description", "eval_type")
    out = Loaded()
    placing = Placing(scenes, out, unknown_scenes, missing_targets)
    for row in read_rows(path, "Multi3DRefer annotations", needed):
        scene_id, official, group = row.text("scene_id"), row.ids("object_ids"), row.text("eval_type")
        if group not in TARGETS:
            raise InputError(f"{row.where}: eval_type is {group!r}; {nearest(group, TARGETS)}")
        if TARGETS[group] != ("no", "one", "several")[min(len(official), 2)]:
            raise InputError(
                f"{row.where}: eval_type {group} says {TARGETS[group]} target(s), but object_ids are {official}"
            )
        if len(set(official)) < len(official):
            raise InputError(f"{row.where}: object_ids {official} name one of them twice")
        name = f"{scene_id}|{row.id('ann_id')}"
        text = row.text("description")
        found = placing.find(row, name, scene_id, official)
        if found is not None:
            out.take(row, Example(name, scene_id, text, found, placing.boxes(scene_id, found), groups=(group,)))
    return out.checked(path)


def measure(examples: Sequence[Example], predictions: Predictions, objects: Scenes) -> list[Metric]:
    """F1@0.25 and F1@0.5, means over descriptions; `objects` are what predicted objects index."""
    return f1_at_iou(examples, predictions, objects)
