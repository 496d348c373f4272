"""SQA3D's files and tables; the real test split where it is at hand."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import InputError, MissingFileError
from scene.protocols import sqa3d
from scene.protocols.predictions import read_predictions, write_predictions
from scene.protocols.records import Example, Prediction

QUESTION = {
    "scene_id": "scene0050_00",
    "situation": "I am standing by the ottoman. ",
    "alternative_situation": [],
    "question": "What's in front of me?",
    "question_id": 220602000002,
}
NOTE = {
    "scene_id": "scene0050_00",
    "question_id": 220602000002,
    "answers": [{"answer": "piano", "answer_confidence": "yes", "answer_id": 1}],
    "rotation": {"_x": 0, "_y": 0, "_z": math.sin(0.25), "_w": math.cos(0.25)},
    "position": {"x": 0.5, "y": -1.5, "z": 0},
}


def _files(folder: Path, questions: Any, notes: Any, where: str = "") -> Path:
    folder = folder / where
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "v1_balanced_questions_test_scannetv2.json"
    path.write_text(questions if isinstance(questions, str) else json.dumps({"questions": questions}))
    notes_path = folder / "v1_balanced_sqa_annotations_test_scannetv2.json"
    notes_path.write_text(notes if isinstance(notes, str) else json.dumps({"annotations": notes}))
    return path


def test_a_question_is_read_with_situation_answer_and_pose(tmp_path: Path):
    (example,) = sqa3d.load(_files(tmp_path, [QUESTION], [NOTE]))
    assert example.id == "220602000002"
    assert example.text == "I am standing by the ottoman. What's in front of me?"
    assert example.answers == ("piano",)
    assert example.groups == ("what",)
    assert example.pose == pytest.approx((0.5, -1.5, 0.0, 0.5))


@pytest.mark.parametrize("where", ["", "balanced", "sqa_task/balanced"])
def test_the_folder_of_the_release_will_do(tmp_path: Path, where: str):
    _files(tmp_path, [QUESTION], [NOTE], where)
    assert len(sqa3d.load(tmp_path)) == 1
    with pytest.raises(MissingFileError, match="no SQA3D questions of the split 'train'"):
        sqa3d.load(tmp_path, split="train")


@pytest.mark.parametrize(
    ("question", "group"),
    [("What is it?", "what"), ("What’s it?", "what"), ("Is it?", "is"), ("Are they?", "other"), ("how many", "how")],
)
def test_the_first_word_is_the_type(question: str, group: str):
    assert sqa3d.question_type(question) == group


def test_a_quaternion_and_its_negative_are_one_rotation(tmp_path: Path):
    turned = NOTE | {"rotation": {name: -value for name, value in NOTE["rotation"].items()}}
    (example,) = sqa3d.load(_files(tmp_path, [QUESTION], [turned]))
    assert example.pose[3] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("questions", "notes", "message"),
    [
        ('{"questions": [{"scene', [NOTE], "damaged or not JSON"),
        ([QUESTION], '{"annot', "damaged or not JSON"),
        ('{"annotations": []}', [NOTE], "hold annotations, expected a dictionary with the list 'questions'"),
        ("[]", [NOTE], "hold a list, expected a dictionary with the list 'questions'"),
        ([], [], "nothing is left to evaluate on"),
        (["?"], [NOTE], "row 1 lacks scene_id, question_id, situation, question; it has nothing"),
        ([{"question_id": 5}], [NOTE], "row 1 lacks scene_id, situation, question; it has question_id"),
        ([QUESTION | {"question_id": 5}], [NOTE], "the question 5 has no annotation"),
        ([QUESTION], [NOTE, NOTE | {"question_id": 5}], "1 annotations in .* are of no question in .*: 5"),
        ([QUESTION, QUESTION], [NOTE], "the id 220602000002 stands twice"),
        ([QUESTION | {"question_id": None}], [NOTE], "question_id is None, expected an id"),
        ([QUESTION | {"situation": ""}], [NOTE], "situation is '', expected a text that is not empty"),
        ([QUESTION], [NOTE | {"answers": [{"answer": ""}]}], "answers are .* a text that is not empty"),
        ([QUESTION], [NOTE | {"answers": []}], "answers are \\[\\], expected"),
        ([QUESTION], [NOTE | {"answers": ["piano"]}], "answers are \\['piano'\\], expected"),
        ([QUESTION], [NOTE | {"answers": 3}], "answers are 3, expected"),
        ([QUESTION], [NOTE | {"scene_id": "scene1"}], "is about scene0050_00, .* about scene1"),
        ([QUESTION], [NOTE | {"position": {"x": 1, "y": None}}], "y of the position is None, expected a number"),
        ([QUESTION], [NOTE | {"position": [1, 2, 0]}], "x of the position is None, expected a number"),
        ([QUESTION], [NOTE | {"rotation": {"_x": 0, "_y": 0, "_z": 0, "_w": 0}}], "no unit quaternion"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, questions: Any, notes: Any, message: str):
    with pytest.raises(InputError, match=message):
        sqa3d.load(_files(tmp_path, questions, notes))


def test_questions_without_their_annotations_are_refused(tmp_path: Path):
    path = _files(tmp_path, [QUESTION], [NOTE])
    path.with_name("v1_balanced_sqa_annotations_test_scannetv2.json").unlink()
    with pytest.raises(MissingFileError, match="SQA3D annotations not found"):
        sqa3d.load(path)
    with pytest.raises(InputError, match="SQA3D questions are in a file"):
        sqa3d.load(path.rename(tmp_path / "questions.json"))


def test_a_scan_that_is_not_at_hand_is_named(tmp_path: Path):
    path = _files(tmp_path, [QUESTION, QUESTION | {"question_id": 5}], [NOTE, NOTE | {"question_id": 5}])
    with pytest.raises(InputError, match="'scene0050_00' is not among the 1 loaded scenes"):
        sqa3d.load(path, {"scene0001_00": []})
    with pytest.raises(InputError, match="nothing is left to evaluate on .*2 scene not loaded"):
        sqa3d.load(path, {"scene0001_00": []}, unknown_scenes="skip")
    assert len(sqa3d.load(path, {"scene0050_00": []})) == 2


def _situated(pose: tuple[float, ...]) -> tuple[list[Example], dict[str, Prediction]]:
    examples = [Example("a", "s", "?", answers=("yes",), pose=(1.0, 1.0, 0.0, math.radians(175)))]
    return examples, {"a": Prediction("a", answers=("no",), pose=pose)}


def test_poses_are_measured_in_the_plane_and_around_the_circle():
    # 0.6 m away in x and y, 5 m in z; from 175 to -173 degrees are 12
    metrics = sqa3d.measure(*_situated((1.6, 1.0, 5.0, math.radians(-173))))
    answers, places = {"EM@1": 0.0, "EM@1 (refined)": 0.0}, {"Acc@0.5m": 0.0, "Acc@1.0m": 100.0}
    found = {metric.name: metric.value() for metric in metrics}
    assert found == answers | places | {"Acc@15°": 100.0, "Acc@30°": 100.0}
    turned = sqa3d.measure_poses(*_situated((1.0, 1.0, 0.0, math.radians(155))))
    assert [metric.value() for metric in turned] == [100.0, 100.0, 0.0, 100.0]


def test_without_poses_only_answers_are_measured():
    examples, _ = _situated((0.0,) * 4)
    metrics = sqa3d.measure(examples, {"a": Prediction("a", answers=("yes",))})
    assert [(metric.name, metric.value()) for metric in metrics] == [("EM@1", 100.0), ("EM@1 (refined)", 100.0)]


@pytest.mark.parametrize("pose", [(1.0, 1.0), (1.0, 1.0, 0.0, math.nan)])
def test_a_pose_that_is_none_is_refused(pose: tuple[float, ...]):
    with pytest.raises(InputError, match="the prediction for 'a' has the pose"):
        sqa3d.measure_poses(*_situated(pose))


def test_situations_are_listed_once(tmp_path: Path):
    second = QUESTION | {"question_id": 5, "question": "Is it near?"}
    path = _files(tmp_path, [QUESTION, second], [NOTE, NOTE | {"question_id": 5}])
    (situation,) = sqa3d.load_situations(path)
    assert (situation.id, situation.text) == ("situation-0", "I am standing by the ottoman.")
    own = tmp_path / "v1_balanced_localization_test_scannetv2.json"
    own.write_text(json.dumps({"annotations": [NOTE | {"situation": QUESTION["situation"]}]}))
    assert sqa3d.load_situations(own) == [situation]


@pytest.mark.shared_data
def test_the_released_test_split_has_the_papers_counts(shared_data: Path):
    examples = sqa3d.load(shared_data / "sqa3d")
    counts = {group: sum(group in example.groups for example in examples) for group in sqa3d.GROUPS}
    assert len(examples) == 3519
    assert counts == {"what": 1147, "is": 652, "how": 465, "can": 338, "which": 351, "other": 566}
    assert len({example.scene_id for example in examples}) == 67
    assert len(sqa3d.load_situations(shared_data / "sqa3d")) == 719


@pytest.mark.shared_data
def test_the_truth_has_full_marks_on_the_released_split(shared_data: Path):
    examples = sqa3d.load(shared_data / "sqa3d")
    truth = {e.id: Prediction(e.id, answers=e.answers, pose=e.pose) for e in examples}
    assert {metric.value() for metric in sqa3d.measure(examples, truth)} == {100.0}
    elsewhere = {e.id: Prediction(e.id, answers=("no",), pose=(9.0, 9.0, 0.0, 0.0)) for e in examples}
    exact, _, near, *_ = sqa3d.measure(examples, elsewhere)
    assert exact.value() == pytest.approx(100 * 283 / 3519)
    assert near.value() == 0.0
    assert np.isfinite(exact.interval(np.array([e.scene_id for e in examples]))).all()


@pytest.mark.parametrize("name", ["said.jsonl", "said.json", "said.parquet"])
def test_predicted_poses_survive_writing_and_reading(tmp_path: Path, name: str):
    said = [Prediction("a", answers=("yes",), pose=(1.0, 2.0, 0.0, 0.5)), Prediction("b", pose=(0.0, 0.0, 0.0, 0.0))]
    assert list(read_predictions(write_predictions(tmp_path / name, said)).values()) == said


def test_a_predicted_pose_has_four_numbers(tmp_path: Path):
    path = tmp_path / "said.jsonl"
    path.write_text('{"id": "a", "pose": [1, 2, 3]}\n')
    with pytest.raises(InputError, match="the pose .* four finite numbers"):
        read_predictions(path)
