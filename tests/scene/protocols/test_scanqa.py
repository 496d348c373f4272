"""ScanQA's files and table."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import InputError, MissingFileError
from scene.protocols import scanqa
from scene.protocols.predictions import read_predictions
from scene.protocols.records import Prediction
from scene.types import SceneObject

ENTRY = {
    "scene_id": "scene0011_00",
    "question_id": "val-scene0011-0",
    "question": "What color is the chair in the kitchen?",
    "answers": ["dark brown", "brown", "brown"],
    "object_ids": [8, 3],
    "object_names": ["chair", "kitchen cabinet"],
    "situation": "fields nobody asked for stay unread",
}
OTHER = ENTRY | {"question_id": "val-scene0011-1", "question": "Where is the table?", "answers": ["on the left"]}
OBJECTS = [SceneObject(k, "thing", np.zeros(7), source_id=name) for k, name in enumerate(("3", "5", "8"))]


def _file(folder: Path, content: Any) -> Path:
    path = folder / "ScanQA_v1.0_val.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_an_entry_becomes_an_example(tmp_path: Path):
    first, second = scanqa.load(_file(tmp_path, [ENTRY, OTHER]), {"scene0011_00": OBJECTS})
    assert (first.id, first.scene_id, first.text) == ("val-scene0011-0", "scene0011_00", ENTRY["question"])
    assert first.answers == ("dark brown", "brown")
    assert first.targets == (2, 0)  # objects named 8 and 3
    assert (first.groups, second.groups) == (("color",), ("place",))


def test_without_scans_there_are_no_targets(tmp_path: Path):
    assert scanqa.load(_file(tmp_path, [ENTRY]))[0].targets == ()


def test_test_splits_have_questions_without_answers(tmp_path: Path):
    hidden = {name: ENTRY[name] for name in ("scene_id", "question_id", "question")}
    examples = scanqa.load(_file(tmp_path, [hidden]), {"scene0011_00": OBJECTS})
    assert (examples[0].answers, examples[0].targets) == ((), ())
    with pytest.raises(InputError, match="kept by their benchmark's server"):
        scanqa.measure(examples, {ENTRY["question_id"]: Prediction("x", answers=("red",))})


@pytest.mark.parametrize(
    ("question", "group"),
    [
        ("Where is the sink?", "place"),
        ("How many chairs are there?", "number"),
        ("What is the color of the sofa?", "color"),
        ("What shape is the table?", "object nature"),
        ("What is on the table?", "object"),
        ("Is there a lamp?", "other"),
        ("In what is the color?", "other"),  # the released rule reads capitals
    ],
)
def test_question_types_follow_the_released_rule(question: str, group: str):
    assert scanqa.question_type(question) == group
    assert group in scanqa.GROUPS


def test_the_table_has_its_columns_and_values(tmp_path: Path):
    examples = scanqa.load(_file(tmp_path, [ENTRY, OTHER]))
    predictions = {
        "val-scene0011-0": Prediction("val-scene0011-0", answers=("black", "brown")),
        "val-scene0011-1": Prediction("val-scene0011-1", answers=("on the left", "on the right")),
    }
    table = {metric.name: metric for metric in scanqa.measure(examples, predictions)}
    assert list(table) == (
        ["EM@1", "EM@10", "EM@1 (refined)", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"]
        + ["METEOR (exact, stem)", "ROUGE-L", "CIDEr"]
    )
    assert table["EM@1"].value() == 50.0
    assert table["EM@10"].value() == 100.0
    assert table["BLEU-1"].value() == pytest.approx(75.0)  # 3 of 4 words
    assert table["ROUGE-L"].value() == pytest.approx(50.0)
    # 3 of 4 lengths of n-grams are there, each alike
    assert table["CIDEr"].value(np.array([False, True])) == pytest.approx(750.0)


def test_answers_that_are_not_ranked_have_no_top_ten(tmp_path: Path):
    examples = scanqa.load(_file(tmp_path, [ENTRY]))
    metrics = scanqa.measure(examples, {examples[0].id: Prediction(examples[0].id, answers=("brown",))})
    assert "EM@10" not in [metric.name for metric in metrics]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"scene_id": "scene0', "is truncated or not JSON"),
        ("", "is empty"),
        ([], "hold no rows"),
        ({"questions": []}, "with keys questions, expected a list of rows"),
        (["scene0011_00"], "row 1 is a str"),
        ([{"scene": "scene0011_00"}], "row 1 lacks scene_id, question_id, question; it has scene"),
        ([ENTRY | {"question": 3}], "question is 3, expected a text"),
        ([ENTRY | {"question": "  "}], "question is '  ', expected a text that is not empty"),
        ([ENTRY | {"answers": ["red", ""]}], "answers are .* expected a list of texts that are not empty"),
        ([ENTRY | {"answers": "red"}], "answers are 'red', expected a list"),
        ([ENTRY | {"object_ids": [4]}], "scene scene0011_00 has no object 4"),
        ([ENTRY | {"scene_id": "scene0012_00"}], "'scene0012_00' is not among the 1 loaded scenes"),
        ([ENTRY, ENTRY], "the id val-scene0011-0 stands twice"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: Any, message: str):
    with pytest.raises(InputError, match=message):
        scanqa.load(_file(tmp_path, content), {"scene0011_00": OBJECTS})


def test_what_is_not_at_hand_can_be_left_out_and_is_counted(tmp_path: Path):
    elsewhere = OTHER | {"scene_id": "scene0012_00"}
    strange = OTHER | {"question_id": "val-scene0011-2", "object_ids": [4]}
    path = _file(tmp_path, [ENTRY, elsewhere, strange])
    skipped = scanqa.load(path, {"scene0011_00": OBJECTS}, unknown_scenes="skip", missing_targets="skip")
    assert skipped.report() == "1 examples; left out: 1 scene not loaded, 1 target not in the scene"
    assert len(scanqa.load(path)) == 3


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(MissingFileError, match="ScanQA questions not found: .*nothing.json"):
        scanqa.load(tmp_path / "nothing.json")


def test_predictions_in_the_form_of_the_benchmarks_server_are_read(tmp_path: Path):
    path = tmp_path / "pred.json"
    record = {
        "scene_id": "scene0011_00",
        "question_id": "val-scene0011-0",
        "answer_top10": ["brown", "red"],
        "bbox": [],
    }
    path.write_text(json.dumps([record]))
    assert read_predictions(path) == {"val-scene0011-0": Prediction("val-scene0011-0", answers=("brown", "red"))}
    path.write_text(json.dumps([record | {"answer_top10": "brown"}]))
    with pytest.raises(InputError, match="answers is 'brown', expected a list"):
        read_predictions(path)
