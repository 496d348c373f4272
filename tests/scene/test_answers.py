"""Answers as classes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import InputError, MissingFileError
from scene.answers import AnswerVocabulary


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
