"""A split of a built corpus as a benchmark of its own: sentences with one target, several, or none.

Sentences with one target are measured by accuracy, as Nr3D; those with several or none by the F1 of the predicted set
of objects, as Multi3DRefer, with ids in place of boxes. Both columns stand in one table; a sentence counts in one.

Groups: the kind of referral; how many things of the target's class are in its room (1: unique, 2: easy, more: hard);
whether it depends on the viewer; and which kinds of language it uses that no training text does (scene/heldout.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from scene.heldout import REASONS
from scene.language import ALL_KIND_SHARES
from scene.protocols.annotations import VIEWS, Loaded, Placing, Row, Scenes
from scene.protocols.grounding_metrics import (
    Predictions,
    accuracy_at_iou,
    accuracy_of_choice,
    by_boxes,
    f1_at_iou,
    f1_of_choice,
    spread,
)
from scene.protocols.metric import Metric
from scene.protocols.records import Example
from scene.protocols.referit3d import EASY_MAX
from scene.store import SceneStore
from scene.texts import Referral

KINDS: Final = (*ALL_KIND_SHARES, "multi", "zero")
GROUPS: Final = (
    *("unique", "easy", "hard"),
    *VIEWS,
    *(f"kind {kind}" for kind in KINDS),
    "nothing held out",
    *(f"held out: {reason}" for reason in REASONS),
)


def load(
    path: str | Path,
    scenes: Scenes,
    *,
    split: str = "test",
    unknown_scenes: str = "error",
    missing_targets: str = "error",
) -> Loaded:
    """The referrals of a split of a corpus; ids are "scene_id|k", k-th referral of its scene from 0.

    Args:
        path: folder made by build-scenes.
        scenes: objects of the split's scenes.
        unknown_scenes: "error", or "skip" referrals of scenes that are not given.
        missing_targets: "error", or "skip" referrals with a target that its scene lacks.

    Raises:
        MissingFileError, InputError: no such folder or split, a damaged one, a referral that cannot be placed, or no
            referral is left.
    """
    store = SceneStore(path)
    out = Loaded()
    placing = Placing(scenes, out, unknown_scenes, missing_targets, official=False)
    told: dict[str, int] = {}
    for number, text in enumerate(store.texts(split, "referral")):
        assert isinstance(text, Referral)
        count = told[text.scene_id] = told.get(text.scene_id, -1) + 1
        name, row = f"{text.scene_id}|{count}", Row(store.folder, number, {})
        found = placing.find(row, name, text.scene_id, [str(target) for target in text.targets])
        if found is not None:
            boxes = placing.boxes(text.scene_id, found)
            example = Example(name, text.scene_id, text.utterance, found, boxes, groups=_groups(text), room=text.room)
            out.take(row, example)
    return out.checked(store.folder)


def _groups(text: Referral) -> tuple[str, ...]:
    groups = [f"kind {text.kind}", VIEWS[0] if text.view_dependent else VIEWS[1]]
    if len(text.targets) == 1:
        alike = text.n_same_class
        groups.append("unique" if alike <= 1 else "easy" if alike <= EASY_MAX else "hard")
    held_out = text.held_out.split(",") if text.held_out else []
    return (*groups, *(f"held out: {reason}" for reason in held_out), *(() if held_out else ("nothing held out",)))


def measure(examples: Sequence[Example], predictions: Predictions, objects: Scenes) -> list[Metric]:
    """Accuracy over sentences with one target, and F1 over all others; by IoU of boxes or of other proposals.

    A column has no value (NaN) in groups where no sentence counts in it.

    Args:
        objects: scene id -> what predicted objects index: the scene's objects, or other proposals.
    """
    single = np.array([len(example.targets) == 1 for example in examples], dtype=bool)
    one = [example for example, alone in zip(examples, single) if alone]
    others = [example for example, alone in zip(examples, single) if not alone]
    if by_boxes(examples, predictions, objects):
        accuracy = accuracy_at_iou(one, predictions, objects)
        f1 = f1_at_iou(others, predictions, objects)
    else:
        accuracy = [accuracy_of_choice(one, predictions)]
        f1 = [f1_of_choice(others, predictions)]
    return [spread(metric, single) for metric in accuracy] + [spread(metric, ~single) for metric in f1]
