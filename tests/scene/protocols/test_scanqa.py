"""ScanQA's files and table."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import InputError, MissingFileError
from scene.protocols import scanqa
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
        ('[{"scene_id": "scene0', "damaged or not JSON"),
        ("", "is empty"),
        ([], "should be a list of entries, but is a list of 0"),
        ({"questions": []}, "should be a list of entries, but is a dictionary with 'questions'"),
        (["scene0011_00"], "entry 0 of .* expected a dictionary"),
        ([{"scene": "scene0011_00"}], "entry 0 of .* has no 'scene_id'; it has 'scene'"),
        ([ENTRY | {"question": 3}], "'question' is 3, expected str"),
        ([ENTRY | {"question": "  "}], "'question' is empty"),
        ([ENTRY | {"answers": ["red", ""]}], "the answers are .* expected texts that are not empty"),
        ([ENTRY | {"answers": "red"}], "'answers' is 'red', expected list"),
        ([ENTRY | {"object_ids": [4]}], "is about object 4, which scene 'scene0011_00' lacks"),
        ([ENTRY | {"scene_id": "scene0012_00"}], "'scene0012_00', which is not among the 1 scenes at hand"),
        ([ENTRY, ENTRY], "two questions with the id 'val-scene0011-0'"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: Any, message: str):
    with pytest.raises(InputError, match=message):
        scanqa.load(_file(tmp_path, content), {"scene0011_00": OBJECTS})


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(MissingFileError, match="ScanQA questions not found: .*nothing.json"):
        scanqa.load(tmp_path / "nothing.json")
