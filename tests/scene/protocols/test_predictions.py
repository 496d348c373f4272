"""Predictions: read, written, checked, completed, turned into boxes."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import InputError, MissingFileError
from scene.protocols.annotations import Loaded, Row
from scene.protocols.grounding_metrics import accuracy_at_iou, accuracy_of_choice, f1_of_choice
from scene.protocols.predictions import (
    boxes_of,
    complete,
    read_predictions,
    write_predictions,
)
from scene.protocols.records import Example, Prediction
from tests.scene.protocols.small import box, jsonl_file, scan

ALL = [
    Prediction("a", objects=(3, 0), scores=(0.9, 0.1)),
    Prediction("b", boxes=(box(1.0), box(2.0)), scores=(2.0, -1.0)),
    Prediction("c"),
    Prediction("d", answers=("a brown chair", "chair")),
]


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.parquet"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str):
    found = read_predictions(write_predictions(tmp_path / name, ALL))
    assert list(found.values()) == ALL and list(found) == ["a", "b", "c", "d"]


def test_anybodys_lines_are_read(tmp_path: Path):
    path = jsonl_file(tmp_path / "p.jsonl", [{"id": "x", "boxes": [[0, 0, 0, 1, 1, 1, 0]]}, {"id": "y", "objects": []}])
    assert read_predictions(path) == {"x": Prediction("x", boxes=(box(0.0),)), "y": Prediction("y")}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"id": "x", "boxes": [[0, 0, 0, 1, 1, 1]]}, "a box has 6 numbers, expected 7: centre xyz, size xyz, yaw"),
        ({"id": "x", "boxes": [[0, 0, 0, 1, 1, 1, float("nan")]]}, "needs finite numbers"),
        ({"id": "x", "boxes": [[0, 0, 0, 1, -1, 1, 0]]}, "sizes that are not negative"),
        ({"id": "x", "boxes": [3]}, "a box has a int, expected 7"),
        ({"id": "x", "objects": [0, 0]}, "name one of them twice"),
        ({"id": "x", "objects": [-1]}, "object -1 is no index"),
        ({"id": "x", "objects": ["0"]}, "object '0' is no index"),
        ({"id": "x", "objects": 3}, "objects is 3, expected a list"),
        ({"id": "x", "objects": [1], "boxes": [[0, 0, 0, 1, 1, 1, 0]]}, "both objects and boxes"),
        ({"id": "x", "objects": [1], "scores": [0.5, 0.1]}, "2 scores for 1 objects or boxes"),
        ({"id": "x", "objects": [1], "scores": [float("inf")]}, "not all finite"),
        ({"id": "x", "answers": [3]}, "are not all text"),
        ({"id": "x"}, "predicts nothing"),
        ({"id": 4, "objects": [1]}, "id is 4, expected the example's id as text"),
        ({"id": "x", "object": [1]}, "unknown key 'object'; did you mean 'objects'"),
        ([1], "is a list, expected a record"),
    ],
)
def test_a_bad_record_is_named_by_its_line(tmp_path: Path, record: Any, message: str):
    path = jsonl_file(tmp_path / "p.jsonl", [{"id": "good", "objects": [1]}, record])
    with pytest.raises(InputError, match=rf"p\.jsonl, line 2.*{message}"):
        read_predictions(path)


def test_files_that_are_damaged_empty_or_of_another_kind(tmp_path: Path):
    twice = jsonl_file(tmp_path / "p.jsonl", [{"id": "x", "objects": [1]}] * 2)
    with pytest.raises(InputError, match="line 2: the id x stands twice"):
        read_predictions(twice)
    (tmp_path / "q.jsonl").write_text('{"id": "x", "obj')
    with pytest.raises(InputError, match="line 1 is truncated or not JSON"):
        read_predictions(tmp_path / "q.jsonl")
    (tmp_path / "q.json").write_text("{}")
    with pytest.raises(InputError, match="holds a dict, expected a list of records"):
        read_predictions(tmp_path / "q.json")
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(InputError, match="hold no rows"):
        read_predictions(tmp_path / "r.json")
    (tmp_path / "q.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="truncated or no Parquet"):
        read_predictions(tmp_path / "q.parquet")
    (tmp_path / "q.csv").write_text("id\n")
    with pytest.raises(InputError, match=r"expected a file that ends in \.jsonl, \.json, \.parquet"):
        read_predictions(tmp_path / "q.csv")
    with pytest.raises(MissingFileError):
        read_predictions(tmp_path / "none.json")


def examples(*ids: str) -> list[Example]:
    return [Example(name, "s", "text", (0,), (box(0.0),)) for name in ids]


def test_unknown_and_missing_ids_are_counted_with_the_first_few():
    known = {name: Prediction(name, objects=(0,)) for name in "abcde"}
    with pytest.raises(InputError, match=r"2 of 5 predictions have an id that no example has \(d, e\); ids of this"):
        complete(examples("a", "b", "c"), known)
    with pytest.raises(InputError, match=r"4 of 9 examples have no prediction \(f, g, h, \.\.\.\)"):
        complete(examples(*"abcdefghi"), known)


def test_a_missing_prediction_counts_as_wrong_also_where_nothing_is_meant():
    nothing = Example("z", "s", "no such thing")
    one = examples("a", "b")
    found = complete([*one, nothing], {"a": Prediction("a", objects=(0,))}, missing="wrong")
    assert accuracy_of_choice(one, found).value() == 50.0
    assert [m.value() for m in accuracy_at_iou(one, found, {"s": scan("desk")})] == [50.0, 50.0]
    assert f1_of_choice([nothing], found).value() == 0.0
    assert f1_of_choice([nothing], {"z": Prediction("z")}).value() == 100.0


def test_predictions_of_rows_that_were_left_out_are_let_go():
    loaded, row = Loaded(), Row(Path("f"), 0, {})
    loaded.take(row, examples("a")[0])
    loaded.leave(row, "long", "longer than 24 tokens")
    both = {name: Prediction(name, objects=(0,)) for name in ("a", "long")}
    assert list(complete(loaded, both)) == ["a"]


def test_objects_index_the_proposals():
    proposals = scan("", "", "")
    assert boxes_of(Prediction("a", objects=(2, 0)), proposals)[:, 0].tolist() == [20.0, 0.0]
    assert boxes_of(Prediction("a", boxes=(box(5.0),)), proposals).tolist() == [list(box(5.0))]
    assert boxes_of(Prediction("a"), proposals).shape == (0, 7)
    with pytest.raises(InputError, match="object 3 is none of the 3 objects of its scene, counted from 0 to 2"):
        boxes_of(Prediction("a", objects=(3,)), proposals)


def test_the_first_object_has_to_be_the_best():
    with pytest.raises(InputError, match="the first score is 0.1, the best 0.9; objects and boxes come best first"):
        accuracy_of_choice(examples("a"), {"a": Prediction("a", objects=(0, 1), scores=(0.1, 0.9))})


def test_ids_and_boxes_do_not_mix():
    with pytest.raises(InputError, match="prediction a has boxes; this measure compares ids"):
        accuracy_of_choice(examples("a"), {"a": Prediction("a", boxes=(box(0.0),))})


def test_a_scene_without_proposals_is_an_error():
    with pytest.raises(InputError, match="scene s of example a has no proposals"):
        accuracy_at_iou(examples("a"), {"a": Prediction("a", objects=(0,))}, {})


def test_jsonl_leaves_out_what_is_empty(tmp_path: Path):
    path = write_predictions(tmp_path / "p.jsonl", [Prediction("a", objects=(1,)), Prediction("b")])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"id": "a", "objects": [1]},
        {"id": "b", "objects": []},
    ]


def test_a_prediction_that_was_never_made_is_not_written(tmp_path: Path):
    found = complete(examples("a", "b"), {"a": Prediction("a", objects=(0,))}, missing="wrong")
    assert list(read_predictions(write_predictions(tmp_path / "p.jsonl", found.values()))) == ["a"]
