"""Answers as classes."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import InputError
from scene.answers import AnswerVocabulary


def test_the_most_frequent_answer_comes_first_and_ties_are_alphabetical():
    vocabulary = AnswerVocabulary.of([("two", "2"), ("two",), ("red",), ("red", "red"), ("blue",)])
    assert vocabulary.answers == ("red", "two", "2", "blue")
    assert AnswerVocabulary.of([("two", "2"), ("two",)], least=2).answers == ("two",)


def test_a_question_none_of_whose_answers_is_listed_is_out_of_reach():
    assert AnswerVocabulary(("red", "blue")).unknown([("red",), ("blue", "navy", "red"), ("navy",)]) == 1


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
