import time

import pytest

from agents.reasoning.answers import NO_ANSWER, STYLES, Answer, extract, plain
from core.errors import InputError


def test_a_response_in_the_form_gives_thought_and_answer():
    expected = Answer("2", "i see 2 red chairs .", True)
    assert extract("<think> i see 2 red chairs . </think> <answer> 2 </answer>") == expected
    assert extract("<think>i see 2 red chairs .</think>\n<answer>2</answer>\n") == expected
    assert extract("<think></think><answer>2</answer>") == Answer("2", "", True)


@pytest.mark.parametrize(
    "text", ["<answer> 2 </answer>", "so: <answer>2</answer>", "a <think> b </think> <answer> 2 </answer>"]
)
def test_an_answer_outside_the_whole_form_counts_but_is_not_well_formed(text):
    answer = extract(text)
    assert answer.text == "2" and not answer.well_formed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2",
        "the answer is 2",
        "<think> 2 </think>",
        "<answer></answer>",
        "<answer> \n </answer>",
        "<answer> 2",
        "2 </answer>",
        "</answer> 2 <answer>",
        "<answer> 1 </answer> <answer> 2 </answer>",
        "<think> x </think> <answer> 1 </answer> <answer> 2 </answer>",
        "<think> <answer> 1 </answer> </think> <answer> 2 </answer>",
        "<think> a </think> <think> b </think> <answer> 2 </answer>",
        "<think> <think> a </think> </think> <answer> 2 </answer>",
        "<think> a <answer> 2 </answer>",
        "<think> a <answer> 2 </answer> </think>",
        "<answer> 2 </answer> <think> a </think>",
        "<answer> <answer> 2 </answer> </answer>",
        "<answer> <answer> 2 </answer>",
        "<answer> <think> a </think> 2 </answer>",
        "<answer> 2 </answer> or 3",
        "<answer> 2 </answer> <",
        "< answer > 2 < / answer >",
        "<ANSWER> 2 </ANSWER>",
        "<answer x='1'> 2 </answer>",
        "<answer> 1 </answer ><answer> 2 </answer>",
        "<answer/> <answer> 2 </answer>",
        "<answer> 1 <\\answer> <answer> 2 </answer>",
        "＜answer＞ 2 ＜/answer＞",
        "<\u200banswer> 2 </answer>",
    ],
)
def test_other_uses_of_the_tags_state_no_answer(text):
    assert extract(text) == NO_ANSWER


def test_the_only_box_is_the_answer_with_its_braces_balanced():
    assert extract(r"so $\boxed{\frac{1}{2}}$.", "boxed") == Answer(r"\frac{1}{2}", "so $", True)
    assert extract(r"\boxed {3}", "boxed").text == "3"
    late = extract(r"\boxed{3} as i said", "boxed")
    assert late.text == "3" and not late.well_formed


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{1} \boxed{2}",
        r"\boxed{2} \boxed{2}",
        r"\boxed{\boxed{2}}",
        r"\boxed{2",
        r"\boxed{}",
        r"\boxed 2",
        r"\boxed",
        r"\boxed{ }",
        r"\boxed}2{",
        r"boxed{2}",
        r"\fbox{2}",
        "\\boxed" + "{" * 500,
    ],
)
def test_several_empty_or_broken_boxes_state_no_answer(text):
    assert extract(text, "boxed") == NO_ANSWER


def test_a_whole_response_can_be_the_answer():
    assert extract(" forward ", "whole") == Answer("forward", None, True)
    assert extract("  ", "whole") == NO_ANSWER


def test_an_unknown_style_lists_the_known():
    with pytest.raises(InputError, match="answer style='tag' is unknown; did you mean 'tags'"):
        extract("2", "tag")


@pytest.mark.parametrize("style", sorted(STYLES))
@pytest.mark.parametrize("piece", ["<answer", "<", "< ", "<answer>", "\\boxed{", "{", "</think", "<" + " " * 50])
def test_long_hostile_responses_take_no_time(style, piece):
    text = piece * (40_000 // len(piece))
    start = time.process_time()
    extract(text, style)
    assert time.process_time() - start < 1


def test_plain_text_ignores_case_spacing_and_one_full_stop_only():
    assert plain("Turn-Left.") == plain("turn - left .") == "turn - left"
    assert plain(".") == "." and plain("2 . .") == "2 ."
    assert plain("٣") != plain("3") and plain("²") != plain("2") and plain("y\u200bes") != plain("yes")
