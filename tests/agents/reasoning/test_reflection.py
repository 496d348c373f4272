import pytest
import torch

from agents.reasoning.reflection import REFLECTION_WORDS, Reflection, reflection, reflects


def test_there_are_the_fifteen_words_and_each_is_found():
    assert len(set(REFLECTION_WORDS)) == 15 and all(reflects(f"so , {word} .") for word in REFLECTION_WORDS)


@pytest.mark.parametrize("text", ["Wait, no", "let me re - check it", "check\n again", "not yet", "wait - is it?"])
def test_words_are_found_whatever_their_case_and_spacing(text):
    assert reflects(text) and reflects(text, as_maye=True)


@pytest.mark.parametrize(
    "text", ["a waiting room", "they await it", "the eyetest", "verifying it", "the waiter rechecked"]
)
def test_words_inside_other_words_count_only_as_maye_counts(text):
    assert not reflects(text) and reflects(text, as_maye=True)


def test_the_five_ratios_by_hand():
    responses = ["wait", "wait", "wait", "a", "a", "a", "a", "a"]
    right = torch.tensor([True, False, False, True, True, True, False, False])
    assert reflection(responses, right) == Reflection(3 / 8, 1 / 4, 2 / 4, 1 / 3, 3 / 5)


def test_an_empty_denominator_gives_zero():
    assert reflection(["a"], torch.tensor([True])) == Reflection(0, 0, 0, 0, 1)
    assert reflection(["wait"], torch.tensor([False])) == Reflection(1, 0, 1, 0, 0)
    assert reflection([], torch.zeros(0, dtype=torch.bool)) == Reflection(0, 0, 0, 0, 0)
