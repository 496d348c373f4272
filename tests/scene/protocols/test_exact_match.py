"""Exact and lenient match of answers."""

import pytest

from core.errors import InputError
from scene.protocols.exact_match import answers_given, clean_answer, exact_match, refined_match
from scene.protocols.records import Example, Prediction


def test_one_of_the_first_k_answers_must_be_right():
    said, right = [("blue", "red"), ("red",)], [("red", "crimson"), ("crimson",)]
    assert exact_match(said, right, 1).value() == 0.0
    assert exact_match(said, right, 10).value() == 50.0
    assert exact_match(said, right, 10).name == "EM@10"


def test_exact_is_letter_by_letter():
    assert exact_match([("Red",)], [("red",)], 1).value() == 0.0


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("The 2 Chairs.", "two chairs"),
        ("to the letf", "to left"),
        ("  3 o' clock", "three o'clock"),
        ("none", "zero"),
        ("23", "twenty-three"),
        ("100", "100"),
        ("07", "07"),
        ("a TV, an oven", "TV, oven"),
        ("mat2", "mat"),
        ("backwards", "backward"),
    ],
)
def test_answers_are_compared_in_a_clean_form(text: str, clean: str):
    assert clean_answer(text) == clean


def test_the_lenient_match_takes_parts_as_letters():
    said = [("the table",), ("brown wooden table",), ("table cloth",), ("chair",), ("",), ("2",)]
    right = [("table",), ("wooden table", "desk"), ("tablecloth",), ("table",), ("table",), ("two",)]
    assert refined_match(said, right).statistics[:, 0].tolist() == [1, 1, 1, 0, 0, 1]


def test_an_example_without_a_prediction_is_an_error_and_silence_is_wrong():
    examples = [Example("q1", "s", "?", answers=("red",)), Example("q2", "s", "?", answers=("red",))]
    with pytest.raises(InputError, match="1 of 2 examples have no prediction"):
        answers_given(examples, {"q1": Prediction("q1", answers=("red",))})
    with pytest.raises(InputError, match="none of the 2 predictions has answers"):
        answers_given(examples, {name: Prediction(name, objects=(0,)) for name in ("q1", "q2")})
    found = answers_given(examples, {"q1": Prediction("q1", answers=("red", "blue")), "q2": Prediction("q2")})
    assert found == [("red", "blue"), ("",)]


def test_questions_without_known_answers_cannot_be_measured():
    with pytest.raises(InputError, match="1 of 1 questions have no right answers"):
        answers_given([Example("q", "s", "?")], {"q": Prediction("q", answers=("red",))})
