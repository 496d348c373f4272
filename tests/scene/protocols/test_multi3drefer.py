"""Multi3DRefer: F1 after matching, zero targets, groups."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import InputError
from scene.protocols.multi3drefer import load, measure
from scene.protocols.records import Prediction
from tests.scene.protocols.small import box, json_file, scan

SCENES = {"scene0011_00": scan("chair", "chair", "desk", "lamp")}


def row(ann: int, ids: list[int], group: str) -> dict[str, Any]:
    return {
        "scene_id": "scene0011_00", "object_ids": ids, "object_name": "chair", "ann_id": ann,
        "description": "some things", "eval_type": group,
    }  # fmt: skip


def test_f1_by_group_and_overall(tmp_path: Path):
    rows = [
        row(0, [10, 11], "mt"), row(1, [12], "st_wo_d"), row(2, [10], "st_w_d"), row(3, [], "zt_w_d"),
        row(4, [], "zt_wo_d"),
    ]  # fmt: skip
    examples = load(json_file(tmp_path / "val.json", rows), SCENES)
    assert [example.id for example in examples] == [f"scene0011_00|{k}" for k in range(5)]
    assert examples[0].targets == (0, 1) and examples[0].boxes == (box(0.0), box(10.0))
    sets: list[dict[str, Any]] = [
        {"objects": (1, 2, 0)},  # both and one too many: 2 * 2 / (3 + 2)
        {"boxes": (box(20.5),)},  # IoU 1/3: right at 0.25 only
        {"objects": ()},  # nothing: 0
        {"objects": ()},  # nothing is meant and nothing predicted: 1
        {"objects": (3,)},  # something is predicted: 0
    ]
    predictions = {e.id: Prediction(e.id, **one) for e, one in zip(examples, sets)}
    at_25, at_50 = measure(examples, predictions, SCENES)
    assert at_25.name == "F1@0.25" and at_25.value() == pytest.approx(100 * (0.8 + 1 + 0 + 1 + 0) / 5)
    assert at_50.value() == pytest.approx(100 * (0.8 + 0 + 0 + 1 + 0) / 5)
    single = np.array([e.groups[0].startswith("st") for e in examples])
    assert at_25.value(single) == pytest.approx(50.0)


def test_two_boxes_of_one_thing_count_once(tmp_path: Path):
    (example,) = load(json_file(tmp_path / "val.json", [row(0, [10], "st_w_d")]), SCENES)
    twice = {example.id: Prediction(example.id, boxes=(box(0.0), box(0.1)))}
    assert measure([example], twice, SCENES)[1].value() == pytest.approx(100 * 2 / 3)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(0, [10], "zt_w_d"), r"eval_type zt_w_d says no target\(s\), but object_ids are \['10'\]"),
        (row(0, [10], "mt"), r"eval_type mt says several target\(s\)"),
        (row(0, [10], "st"), "eval_type is 'st'; known: mt, st_w_d"),
        (row(0, [10, 10], "mt"), "name one of them twice"),
        ({**row(0, [], "mt"), "object_ids": 4}, "object_ids is 4, expected a list"),
        ({"scene_id": "scene0011_00"}, "lacks object_ids, ann_id, description, eval_type; it has scene_id"),
    ],
)
def test_rows_that_contradict_themselves_are_errors(tmp_path: Path, bad: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        load(json_file(tmp_path / "val.json", [bad]), SCENES)
