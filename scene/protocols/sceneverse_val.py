"""SceneVerse-val (Jia et al., arXiv:2401.09340): human referrals of MultiScan, chosen among the annotated objects.

Input: MultiScan's annotations/anno.json, a list of {item_id, scan_id, target_id, instance_type, utterance}; it holds
all scans, so rows of scans that are not loaded (load those of val_split.txt) are left out and counted. Ids are item_id.

Groups by the released code of GPS: hard when more than two objects of the scan have the target's label, itself
included; view-dependent when a word between spaces, as it is written, is one of ReferIt3D's. Referrals of walls, floors
and ceilings are left out, as there. That code also drops objects whose label is none of ScanNet's 607 raw names; here
they stay candidates.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from scene.datasets.point_scan import STRUCTURE
from scene.protocols.annotations import VIEWS, Loaded, Placing, Scenes, read_rows, view_group
from scene.protocols.grounding_metrics import Predictions
from scene.protocols.metric import Metric
from scene.protocols.records import Example
from scene.protocols.referit3d import EASY_MAX
from scene.protocols.referit3d import measure as measure_choice

GROUPS: Final = ("easy", "hard", *VIEWS)


def load(path: str | Path, scenes: Scenes, *, unknown_scenes: str = "skip", missing_targets: str = "error") -> Loaded:
    """The referrals about the loaded scans; what is left out is counted.

    Args:
        scenes: objects of the scans, with MultiScan's instance ids as source ids.
        unknown_scenes: "skip" rows of scans that are not loaded, or "error".
        missing_targets: "error", or "skip" rows whose target its scan lacks.

    Raises:
        MissingFileError, InputError: the file is absent, damaged or of another kind; a target is unknown; an id stands
            twice; or no row is left.
    """
    needed = ("item_id", "scan_id", "target_id", "instance_type", "utterance")
    out = Loaded()
    placing = Placing(scenes, out, unknown_scenes, missing_targets)
    for row in read_rows(path, "SceneVerse referrals", needed):
        name, scan, text = row.id("item_id"), row.text("scan_id"), row.text("utterance")
        if row.text("instance_type").lower() in STRUCTURE:
            out.leave(row, name, "of a wall, floor or ceiling")
            continue
        found = placing.find(row, name, scan, [row.id("target_id")])
        if found is None:
            continue
        difficulty = "easy" if placing.alike(scan, found[0]) <= EASY_MAX else "hard"
        groups = (difficulty, view_group(text.split(" ")))
        out.take(row, Example(name, scan, text, found, placing.boxes(scan, found), groups=groups))
    return out.checked(path)


def measure(examples: Sequence[Example], predictions: Predictions, objects: Scenes) -> list[Metric]:
    """Accuracy of the chosen object; of boxes or of other proposals, Acc@0.25 and Acc@0.5."""
    return measure_choice(examples, predictions, objects)
