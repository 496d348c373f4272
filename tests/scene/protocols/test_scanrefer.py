"""ScanRefer: the three counts of unique, ids, boxes, accuracy, and files that do not fit."""

from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError
from scene.protocols.records import Prediction
from scene.protocols.scanrefer import Classes, load, measure
from tests.scene.protocols.small import box, json_file, jsonl_file, scan

TABLE = (
    "id\traw_category\tnyu40id\tnyu40class\n"
    "1\tchair\t5\tchair\n2\toffice chair\t5\tchair\n3\tlamp\t35\tlamp\n4\tmonitor\t40\totherprop\n5\tdesk\t14\tdesk\n"
)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.tsv"
    path.write_text(TABLE)
    return path


def row(target: int, name: str, ann: int = 0, scene: str = "scene0011_00") -> dict[str, object]:
    return {
        "scene_id": scene,
        "object_id": str(target),
        "object_name": name,
        "ann_id": str(ann),
        "description": f"this is the {name} number {target}.",
        "token": ["this", "is"],
    }


def test_a_target_is_unique_in_three_ways(tmp_path: Path, labels: Path):
    scenes = {"scene0011_00": scan("chair", "office chair", "lamp", "monitor", "desk")}
    rows = [row(10, "chair"), row(10, "chair", 1), row(12, "lamp"), row(13, "monitor"), row(14, "desk")]
    found = {e.id.split("|")[1]: e.groups for e in load(json_file(tmp_path / "val.json", rows), scenes, labels=labels)}
    # one chair is annotated (twice), two are in the scan
    assert found["10"] == ("unique", "multiple (scan, 18 classes)", "multiple (scan, NYU40)")
    # lamp and monitor are two annotated "others"; of NYU40 each is alone
    assert found["12"] == ("multiple", "multiple (scan, 18 classes)", "unique (scan, NYU40)")
    assert found["14"] == ("unique", "unique (scan, 18 classes)", "unique (scan, NYU40)")


def test_one_of_the_others_is_never_unique_where_walls_count(tmp_path: Path, labels: Path):
    scenes = {"scene0011_00": scan("lamp", "desk")}
    (example,) = load(json_file(tmp_path / "val.json", [row(10, "lamp")]), scenes, labels=labels)
    assert example.groups == ("unique", "multiple (scan, 18 classes)", "unique (scan, NYU40)")


def test_an_example_has_official_id_text_target_and_box(tmp_path: Path, labels: Path):
    scenes = {"scene0011_00": scan("desk", "office chair")}
    (example,) = load(json_file(tmp_path / "val.json", [row(11, "office_chair", 3)]), scenes, labels=labels)
    assert example.id == "scene0011_00|11|3" and example.text == "this is the office_chair number 11."
    assert example.targets == (1,) and example.boxes == (box(10.0),)
    assert example.groups[0] == "unique"  # "office_chair" is the raw name "office chair"


def test_sceneverse_lines_read_the_same(tmp_path: Path, labels: Path):
    item = {
        "item_id": "scanrefer_000007", "scan_id": "scene0011_00", "target_id": 10, "instance_type": "desk",
        "utterance": "the desk", "tokens": ["the", "desk"],
    }  # fmt: skip
    (example,) = load(jsonl_file(tmp_path / "scanrefer.jsonl", [item]), {"scene0011_00": scan("desk")}, labels=labels)
    assert (example.id, example.targets) == ("scanrefer_000007", (0,))


def test_accuracy_at_two_thresholds(tmp_path: Path, labels: Path):
    scenes = {"scene0011_00": scan("desk", "chair", "lamp")}
    rows = [row(10, "desk"), row(11, "chair"), row(12, "lamp"), row(10, "desk", 1)]
    examples = load(json_file(tmp_path / "val.json", rows), scenes, labels=labels)
    ids = [example.id for example in examples]
    predictions = {
        ids[0]: Prediction(ids[0], objects=(0, 1)),  # IoU 1
        ids[1]: Prediction(ids[1], boxes=(box(10.5), box(10.0))),  # half a metre off: 0.5 / 1.5 = 1/3; best first
        ids[2]: Prediction(ids[2], boxes=(box(20.0, 4.0),)),  # four times as long: exactly 1/4
        ids[3]: Prediction(ids[3], objects=(1,)),  # another object
    }
    at_25, at_50 = measure(examples, predictions, scenes)
    assert (at_25.name, at_50.name) == ("Acc@0.25", "Acc@0.5")
    assert (at_25.value(), at_50.value()) == pytest.approx((75.0, 25.0))
    multiple = np.array(["multiple" in example.groups for example in examples])
    assert not multiple.any() and np.isnan(at_25.value(multiple))


def test_predicting_nothing_is_wrong(tmp_path: Path, labels: Path):
    scenes = {"scene0011_00": scan("desk")}
    examples = load(json_file(tmp_path / "val.json", [row(10, "desk")]), scenes, labels=labels)
    assert measure(examples, {examples[0].id: Prediction(examples[0].id)}, scenes)[0].value() == 0.0


def test_the_table_of_labels_is_needed(tmp_path: Path, labels: Path):
    path = json_file(tmp_path / "val.json", [row(10, "desk")])
    with pytest.raises(InputError, match=r"need ScanNet's table of labels: give labels=PATH/scannetv2-labels"):
        load(path, {"scene0011_00": scan("desk")})
    (tmp_path / "other.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(InputError, match="lacks the columns raw_category and nyu40class"):
        load(path, {"scene0011_00": scan("desk")}, labels=tmp_path / "other.tsv")


def test_raw_names_become_classes(labels: Path):
    classes = Classes(labels)
    assert [classes.benchmark(name) for name in ("Office  Chair", "lamp", "unheard of")] == [
        "chair",
        "others",
        "others",
    ]
    assert [classes.nyu40(name) for name in ("Office  Chair", "lamp", "unheard of")] == ["chair", "lamp", ""]


def test_rows_that_cannot_be_placed_are_errors_or_counted(tmp_path: Path, labels: Path):
    scenes = {"scene0011_00": scan("desk", "chair")}
    rows = [row(10, "desk"), row(99, "chair"), row(11, "chair", scene="scene0500_00")]
    path = json_file(tmp_path / "val.json", rows)
    with pytest.raises(InputError, match=r"val\.json, row 2: scene scene0011_00 has no object 99; its 2 objects"):
        load(path, scenes, labels=labels)
    with pytest.raises(InputError, match=r"row 3: scene 'scene0500_00' is not among the 1 loaded scenes"):
        load(path, scenes, labels=labels, missing_targets="skip")
    left = load(path, scenes, labels=labels, missing_targets="skip", unknown_scenes="skip")
    assert left.report() == "1 examples; left out: 1 target not in the scene, 1 scene not loaded"
    # the object that is left out still counts among the annotated ones, as in the official file
    assert left.left_out["scene0011_00|99|0"] == "target not in the scene"


def test_an_id_that_stands_twice_is_an_error(tmp_path: Path, labels: Path):
    path = json_file(tmp_path / "val.json", [row(10, "desk"), row(10, "desk")])
    with pytest.raises(InputError, match=r"row 2: the id scene0011_00\|10\|0 stands twice"):
        load(path, {"scene0011_00": scan("desk")}, labels=labels)


def test_nothing_left_is_an_error(tmp_path: Path, labels: Path):
    path = json_file(tmp_path / "val.json", [row(10, "desk", scene="elsewhere")])
    with pytest.raises(
        InputError, match=r"nothing is left to evaluate on \(0 examples; left out: 1 scene not loaded\)"
    ):
        load(path, {"scene0011_00": scan("desk")}, labels=labels, unknown_scenes="skip")
