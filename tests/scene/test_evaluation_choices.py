"""What counts as a right answer, and what is told of a wrong one."""

import pytest

from scene.evaluation_choices import failure_of, is_right, kind_of
from scene.protocols.records import Example, Prediction


def test_right_and_wrong_answers_of_one_object_and_of_sets():
    example = Example("a", "s", "the chairs", targets=(1, 2), room=3, groups=("kind multi",))
    assert is_right(example, Prediction("a", (2, 0)), whole=False)
    assert not is_right(example, Prediction("a", (2, 0)), whole=True)
    assert is_right(example, Prediction("a", (2, 1)), whole=True)
    failure = failure_of(example, Prediction("a", (0, 2), scores=(0.7, 0.2)), whole=False)
    assert (failure.predictions, failure.targets, failure.room, failure.kind) == ((0,), (1, 2), 3, "multi")
    assert failure.margin == pytest.approx(0.5)


def test_the_kind_of_a_sentence_is_one_of_its_groups():
    assert kind_of(Example("a", "s", "x", groups=("hard", "kind star"))) == "star"
    assert kind_of(Example("a", "s", "x", groups=("unique",))) == ""
