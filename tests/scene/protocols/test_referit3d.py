"""Nr3D and Sr3D: csv and jsonl, what is filtered, the groups, accuracy of the chosen object."""

from pathlib import Path
from typing import Any

import pytest

from core.errors import InputError
from scene.protocols.records import Prediction
from scene.protocols.referit3d import load_nr3d, load_sr3d, measure
from tests.scene.protocols.small import box, csv_file, jsonl_file, scan

SCENES = {"scene0011_00": scan("chair", "chair", "chair", "desk")}


def row(target: int, stimulus: str, tokens: list[str], **more: Any) -> dict[str, Any]:
    return {
        "tokens": repr(tokens), "instance_type": "chair", "scan_id": "scene0011_00", "dataset": "nr3d",
        "target_id": target, "utterance": " ".join(tokens), "stimulus_id": stimulus,
        "mentions_target_class": True, "correct_guess": True, **more,
    }  # fmt: skip


def test_groups_follow_stimulus_scan_and_tokens(tmp_path: Path):
    rows = [
        row(10, "scene0011_00-chair-2-10-11", ["the", "chair", "left", "of", "it's", "desk"]),
        row(13, "scene0011_00-desk-1-13", ["the", "Left", "desk"]),  # tokens are compared as they are written
        row(11, "scene0011_00-office_chair-3-11-10-12", ["chair", "in", "front"]),
    ]
    a, b, c = load_nr3d(csv_file(tmp_path / "nr3d.csv", rows), SCENES)
    # two of its kind by the stimulus, three by the scan's labels
    assert set(a.groups) == {"easy", "hard (scan)", "view-dependent"}
    assert set(b.groups) == {"easy", "easy (scan)", "view-independent"}
    assert set(c.groups) == {"hard", "hard (scan)", "view-dependent"}
    assert (a.id, a.targets, a.boxes) == ("scene0011_00|10|0", (0,), (box(0.0),))
    assert a.text == "the chair left of it's desk"


def test_long_unmentioned_and_misunderstood_rows_are_dropped_and_counted(tmp_path: Path):
    stimulus = "scene0011_00-chair-3-10-11-12"
    rows = [
        row(10, stimulus, ["a"] * 24),
        row(10, stimulus, ["a"] * 25),
        row(10, stimulus, ["this"], mentions_target_class=False),
        row(10, stimulus, ["that"], correct_guess=False),
        row(10, stimulus, ["elsewhere"], scan_id="scene0500_00"),
    ]
    path = csv_file(tmp_path / "nr3d.csv", rows)
    usual = load_nr3d(path, SCENES)
    assert [example.id for example in usual] == ["scene0011_00|10|0", "scene0011_00|10|3"]
    assert sorted(usual.left_out.values()) == [
        "longer than 24 tokens", "not mentions_target_class", "scene not loaded",
    ]  # fmt: skip
    assert len(load_nr3d(path, SCENES, max_tokens=0, mentions_target_class=False)) == 4
    assert len(load_nr3d(path, SCENES, correct_guess=True)) == 1


def test_sceneverse_lines_have_the_scans_groups_only(tmp_path: Path):
    item = {
        "item_id": "nr3d_000001", "scan_id": "scene0011_00", "target_id": 10, "instance_type": "chair",
        "utterance": "the chair across the room", "tokens": ["the", "chair", "across", "the", "room"],
    }  # fmt: skip
    (example,) = load_nr3d(jsonl_file(tmp_path / "nr3d.jsonl", [item]), SCENES)
    assert (example.id, example.groups) == ("nr3d_000001", ("hard (scan)", "view-dependent"))
    item["stimulus_id"] = "scene0011_00-chair-2-10-11"
    (example,) = load_nr3d(jsonl_file(tmp_path / "nr3d.jsonl", [item]), SCENES)
    assert example.groups == ("easy", "hard (scan)", "view-dependent")


def test_sr3d_needs_no_tokens(tmp_path: Path):
    sr3d = row(13, "scene0011_00-desk-1-13", [])
    sr3d = {k: v for k, v in sr3d.items() if k not in ("tokens", "mentions_target_class", "correct_guess")}
    sr3d["utterance"] = "the desk that is left of the chair"
    path = csv_file(tmp_path / "sr3d.csv", [sr3d])
    (example,) = load_sr3d(path, SCENES)
    assert "view-dependent" in example.groups
    with pytest.raises(InputError, match=r"sr3d\.csv, row 1 lacks tokens, mentions_target_class; it has instance_type"):
        load_nr3d(path, SCENES)


def test_accuracy_of_the_chosen_object_and_of_boxes(tmp_path: Path):
    stimulus = "scene0011_00-chair-3-{}-{}"
    rows = [row(10, stimulus.format(10, "11-12"), ["a"]), row(11, stimulus.format(11, "10-12"), ["b"])]
    examples = load_nr3d(csv_file(tmp_path / "nr3d.csv", rows), SCENES)
    a, b = (example.id for example in examples)
    (accuracy,) = measure(examples, {a: Prediction(a, (0, 1)), b: Prediction(b, (2, 1))}, SCENES)
    assert (accuracy.name, accuracy.value()) == ("Acc", 50.0)
    detected = measure(examples, {a: Prediction(a, boxes=(box(0.5),)), b: Prediction(b, boxes=(box(10.0),))}, SCENES)
    assert [(m.name, m.value()) for m in detected] == [("Acc@0.25", 100.0), ("Acc@0.5", 50.0)]


def test_other_proposals_are_compared_by_boxes_not_by_ids(tmp_path: Path):
    path = csv_file(tmp_path / "nr3d.csv", [row(10, "scene0011_00-chair-3-10-11-12", ["a"])])
    (example,) = load_nr3d(path, SCENES)
    segments = {"scene0011_00": list(reversed(SCENES["scene0011_00"]))}  # the target's box is the last of them
    found = [
        [m.value() for m in measure([example], {example.id: Prediction(example.id, (k,))}, segments)] for k in (0, 3)
    ]
    assert found == [[0.0, 0.0], [100.0, 100.0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": "__import__('os').getcwd()"}, "tokens are no Python list of words"),
        ({"tokens": "['the', 3]"}, "expected a list of words"),
        ({"tokens": "['the"}, "tokens are no Python list of words"),
        ({"stimulus_id": "scene0011_00-chair-3-10-11"}, "expected scan-label-n-target and n - 1 distractors"),
        ({"stimulus_id": "scene0011_00-chair-2-11-10"}, "target_id is 10, but stimulus_id names 11"),
        ({"mentions_target_class": "yes"}, "mentions_target_class is 'yes', expected True or False"),
        ({"target_id": 77}, "scene scene0011_00 has no object 77"),
    ],
)
def test_damaged_rows_are_named(tmp_path: Path, change: dict[str, Any], message: str):
    rows = [row(10, "scene0011_00-chair-2-10-11", ["a"]), {**row(10, "scene0011_00-chair-2-10-11", ["a"]), **change}]
    with pytest.raises(InputError, match=rf"nr3d\.csv, row 2: .*{message}"):
        load_nr3d(csv_file(tmp_path / "nr3d.csv", rows), SCENES)
