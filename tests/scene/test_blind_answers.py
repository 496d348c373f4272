"""Baselines that read no scene."""

from functools import partial
from pathlib import Path

import pytest

from core.errors import InputError
from scene.blind_answers import BLIND, AnswerPrior, NearestQuestions, cross_validated, one_type
from scene.protocols import sqa3d
from scene.protocols.records import Example


def _questions(*rows: tuple[str, str, str]) -> list[Example]:
    return [Example(str(k), scene, "?", answers=(a,), groups=(kind,)) for k, (scene, kind, a) in enumerate(rows)]


def _asked(text: str, *answers: str) -> Example:
    return Example(text, "s", text, answers=answers)


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


def test_the_nearest_question_gives_its_answer_first():
    train = [
        _asked("what color is the chair", "red"),
        _asked("how many lamps are here", "two"),
        _asked("can i go", "yes"),
    ]
    found = NearestQuestions(train).predict([_asked("what color is the lamp"), _asked("how many chairs are here")])
    assert found["what color is the lamp"].answers == ("red", "two", "yes")
    assert found["how many chairs are here"].answers[0] == "two"


def test_a_question_like_no_other_gets_the_most_frequent_answers():
    train = [_asked("is it red", "no"), _asked("is it blue", "no"), _asked("is it green", "yes")]
    assert NearestQuestions(train).predict([_asked("wohin")])["wohin"].answers == ("no", "yes")


def test_rare_words_decide_over_frequent_ones():
    train = [_asked("is the piano open", "black"), *(_asked(f"is the door {k}", "white") for k in range(5))]
    assert (
        NearestQuestions(train).predict([_asked("is the old piano here")])["is the old piano here"].answers[0]
        == "black"
    )


@pytest.mark.parametrize("fit", BLIND.values(), ids=BLIND)
def test_nothing_to_learn_from_is_an_error(fit):
    with pytest.raises(InputError, match="none of the 1 questions to learn from has an answer"):
        fit([Example("0", "s", "?")])


def test_no_scene_is_fitted_on_itself():
    examples = _questions(("s", "how", "two"), ("s", "how", "two"), ("t", "how", "one"))
    found = cross_validated(examples, AnswerPrior.fit)
    assert [found[example.id].answers for example in examples] == [("one",), ("one",), ("two",)]
    with pytest.raises(InputError, match="2 scenes do not make 3 folds"):
        cross_validated(examples, partial(AnswerPrior.fit, by=one_type), folds=3)


@pytest.mark.shared_data
def test_each_baseline_beats_the_one_before_on_real_questions(shared_data: Path):
    examples = [example for example in sqa3d.load(shared_data / "sqa3d") if example.scene_id < "scene0300"]
    values = [sqa3d.measure(examples, cross_validated(examples, fit))[0].value() for fit in BLIND.values()]
    assert values == sorted(values)
    assert values[1] > values[0] + 4 and values[2] > values[1] + 4
