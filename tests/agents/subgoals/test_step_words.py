"""How people say a step."""

import pytest

from agents.subgoals.step_sequences import Step
from agents.subgoals.step_words import StepWords, most_typical, word_f1
from core.errors import InputError


def test_a_step_is_said_as_most_people_say_it_and_walks_in_plain_words():
    take, go = Step("PickupObject", "mug"), Step("GotoLocation", "bed")
    told = [("grab it", take), ("pick up the mug", take), ("pick up the white mug", take), ("turn left, go", go)]
    words = StepWords.of(told)
    assert words.say((take, go, Step("PickupObject", "pen"))) == ["pick up the mug", "go to the bed", "pick up the pen"]
    assert StepWords.from_json(words.to_json()).say((take,)) == ["pick up the mug"]
    assert most_typical(["b", "a", "a"]) == "a"
    with pytest.raises(InputError, match="rows of action"):
        StepWords.from_json([1])


def test_words_in_common_are_counted_as_often_as_both_have_them():
    assert word_f1("pick up the mug", "Pick up the mug!") == 1
    assert word_f1("the the mug", "the cup") == pytest.approx(2 * 1 / 5)
    assert word_f1("a", "b") == 0
