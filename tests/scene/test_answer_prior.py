"""Baselines that read no scene."""

from pathlib import Path

import pytest

from core.errors import InputError
from scene.answer_prior import AnswerPrior, cross_validated, one_type
from scene.protocols import sqa3d
from scene.protocols.records import Example


def _questions(*rows: tuple[str, str, str]) -> list[Example]:
    return [Example(str(k), scene, "?", answers=(a,), groups=(kind,)) for k, (scene, kind, a) in enumerate(rows)]


TRAIN = _questions(("s", "how", "two"), ("s", "how", "two"), ("s", "how", "one"), ("s", "is", "yes"), ("s", "is", "no"))


def test_each_type_has_its_own_most_frequent_answers():
    asked = _questions(("t", "how", "-"), ("t", "is", "-"), ("t", "where", "-"))
    found = AnswerPrior.fit(TRAIN).predict(asked)
    assert found["0"].answers == ("two", "one")
    assert found["1"].answers == ("no", "yes")  # a tie, alphabetical
    assert found["2"].answers == ("two", "no", "one", "yes")  # a type that training lacks: all questions
    assert AnswerPrior.fit(TRAIN).predict(asked, top=1)["2"].answers == ("two",)


def test_one_type_is_the_majority_answer():
    assert AnswerPrior.fit(TRAIN, one_type).predict(TRAIN, top=1)["3"].answers == ("two",)


def test_an_answer_counts_once_a_question():
    examples = [Example("0", "s", "?", answers=("b", "b")), Example("1", "s", "?", answers=("a",))]
    assert AnswerPrior.fit(examples).ranked[""] == ("a", "b")


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(InputError, match="none of the 1 questions to learn from has an answer"):
        AnswerPrior.fit([Example("0", "s", "?")])


def test_no_scene_is_fitted_on_itself():
    examples = _questions(("s", "how", "two"), ("s", "how", "two"), ("t", "how", "one"))
    found = cross_validated(examples)
    assert [found[example.id].answers for example in examples] == [("one",), ("one",), ("two",)]
    with pytest.raises(InputError, match="2 scenes do not make 3 folds"):
        cross_validated(examples, folds=3)


@pytest.mark.shared_data
def test_a_prior_by_question_type_beats_the_majority_answer_on_real_questions(shared_data: Path):
    examples = sqa3d.load(shared_data / "sqa3d")
    majority = sqa3d.measure(examples, cross_validated(examples, one_type))[0].value()
    by_type = sqa3d.measure(examples, cross_validated(examples))[0].value()
    assert 9 < majority < 13
    assert 18 < by_type < 22
