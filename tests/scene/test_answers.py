"""Answers as classes, and the questions of a corpus as examples."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import InputError, MissingFileError
from scene.answers import AnswerVocabulary, corpus_questions, question_examples
from scene.store import write_corpus
from scene.texts import Caption, Question
from tests.scene.toy import toy_scene

SITUATED = Question(
    "home",
    "what is on your left?",
    ("bed", "a bed"),
    "situated",
    situation="standing at the door, facing the window",
    position=(1.0, 2.0, 0.0),
    yaw_rad=0.5,
    objects=(3,),
    room=1,
    view_dependent=True,
)
EXISTENCE = Question("home", "is there a lamp?", ("yes",), "existence", held_out="pattern")


def test_the_most_frequent_answer_comes_first_and_ties_are_alphabetical():
    vocabulary = AnswerVocabulary.of([("two", "2"), ("two",), ("red",), ("red", "red"), ("blue",)])
    assert vocabulary.answers == ("red", "two", "2", "blue")
    assert AnswerVocabulary.of([("two", "2"), ("two",)], least=2).answers == ("two",)


def test_targets_mark_every_right_answer_that_is_known():
    vocabulary = AnswerVocabulary(("red", "blue"))
    answers = [("red",), ("blue", "navy", "red"), ("navy",)]
    assert vocabulary.targets(answers).tolist() == [[1, 0], [1, 1], [0, 0]]
    assert vocabulary.unknown(answers) == 1
    assert vocabulary.targets([]).shape == (0, 2)


def test_answers_are_ranked_by_score_and_then_by_frequency():
    vocabulary = AnswerVocabulary(("a", "b", "c"))
    assert vocabulary.ranked(torch.tensor([[1.0, 3.0, 1.0]]), top=2) == [("b", "a")]
    with pytest.raises(InputError, match="2 scores for 3 answers"):
        vocabulary.ranked(torch.zeros(1, 2))


def test_a_model_folder_keeps_them(tmp_path: Path):
    vocabulary = AnswerVocabulary(("two", "l-förmig"))
    vocabulary.save(tmp_path)
    assert AnswerVocabulary.load(tmp_path) == vocabulary
    (tmp_path / "answers.json").write_text('["two", "l-f')
    with pytest.raises(InputError, match="damaged or not JSON"):
        AnswerVocabulary.load(tmp_path)
    (tmp_path / "answers.json").write_text('{"two": 0}')
    with pytest.raises(InputError, match="should be a list of answers"):
        AnswerVocabulary.load(tmp_path)
    with pytest.raises(MissingFileError, match="answers of the model not found"):
        AnswerVocabulary.load(tmp_path / "elsewhere")


def test_the_released_answer_dictionary_of_sqa3d_is_read(tmp_path: Path):
    path = tmp_path / "answer_dict.json"
    path.write_text(json.dumps([{"yes": 0, "TV": 1}, {"0": "yes", "1": "TV"}]))
    assert AnswerVocabulary.from_answer_dict(path).answers == ("yes", "TV")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"yes": 0}, "should be a list of two dictionaries"),
        ([{"yes": 0}, {"0": "no"}], "the two dictionaries disagree"),
        ([{"yes": 1}, {"1": "yes"}], "classes do not count 0, 1, 2"),
        ([{}, {}], "needs answers"),
    ],
)
def test_other_dictionaries_are_refused(tmp_path: Path, content: Any, message: str):
    path = tmp_path / "answer_dict.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        AnswerVocabulary.from_answer_dict(path)


@pytest.mark.parametrize(("answers", "message"), [((), "needs answers"), (("a", " "), "none of them empty")])
def test_a_vocabulary_has_answers(answers: tuple[str, ...], message: str):
    with pytest.raises(InputError, match=message):
        AnswerVocabulary(answers)


def test_no_answer_stands_twice():
    with pytest.raises(InputError, match="has 'a' 2 times"):
        AnswerVocabulary(("a", "b", "a"))


def test_questions_of_a_corpus_become_examples():
    caption = Caption("home", "a room.", "room")
    first, second = question_examples([caption, SITUATED, EXISTENCE])
    assert (first.id, second.id) == ("home|question|0", "home|question|1")
    assert first.text == "standing at the door, facing the window: what is on your left?"
    assert (first.answers, first.targets, first.room) == (("bed", "a bed"), (3,), 1)
    assert first.pose == (1.0, 2.0, 0.0, 0.5)
    assert first.groups == ("situated", "training language", "view-dependent")
    assert second.groups == ("existence", "held-out language")
    assert second.pose == ()


def test_the_questions_of_a_split_are_found_in_its_store(tmp_path: Path):
    scene = toy_scene(0)
    question = Question(scene.id, "is there a cube?", ("yes",), "existence")
    store = write_corpus(tmp_path, {"train": [(scene, [question])], "val": [(toy_scene(1), [])]}, "toy")
    assert [example.id for example in corpus_questions(store, "train")] == [f"{scene.id}|question|0"]
    with pytest.raises(InputError, match="the split 'val' .* has no questions"):
        corpus_questions(store, "val")
