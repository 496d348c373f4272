from collections import Counter
from dataclasses import replace

import pytest
import torch

from agents.reasoning.curriculum import FORMS, best_responses, in_form
from agents.reasoning.rewards import check_samples, is_right
from agents.reasoning.types import Sample
from core.errors import InputError


def counts(number: int = 12) -> list[Sample]:
    return [
        Sample(f"q{k}", f"how many chairs in picture {k}?", (), str(k % 4), "number", kind="count", group=f"home{k}")
        for k in range(number)
    ]


def test_the_stages_come_easy_first():
    assert list(FORMS) == ["yes-no", "choice", "open"] and in_form(counts(), "open", seed=0) == counts()


def test_half_of_the_yes_or_no_questions_are_true_and_the_others_show_a_wrong_answer():
    asked = in_form(counts(), "yes-no", seed=3)
    check_samples(asked)
    assert Counter(one.answer for one in asked) == {"yes": 6, "no": 6}
    for was, now in zip(counts(), asked):
        shown = now.prompt.removeprefix(f"{was.prompt} Is the answer ").removesuffix("? Answer yes or no.")
        assert (shown == was.answer) == (now.answer == "yes") and shown in "0123"
        assert (now.id, now.reward, now.kind, now.group) == (f"{was.id}/yes-no", "yes-no", "count", was.group)


def test_a_choice_shows_the_answer_once_among_wrong_ones_of_its_kind():
    asked = in_form(counts(), "choice", seed=3)
    check_samples(asked)
    places = {one.choices.index(was.answer) for was, one in zip(counts(), asked)}
    assert all(sorted(one.choices) == ["0", "1", "2", "3"] for one in asked) and len(places) > 1
    first = asked[0]
    assert first.prompt == "how many chairs in picture 0? Choose one: " + " ".join(
        f"({letter}) {option}" for letter, option in zip("abcd", first.choices)
    )
    assert is_right(first, "abcd"[first.choices.index("0")]) and not is_right(first, ", ".join(first.choices))


def test_an_equal_answer_in_other_words_is_never_shown_as_wrong():
    same = [replace(one, answer=word) for one, word in zip(counts(4), ("2", "two", "4/2", "3"))]
    assert [sorted(one.choices) for one in in_form(same, "choice", seed=0)][:3] == [
        ["2", "3"],
        ["3", "two"],
        ["3", "4/2"],
    ]


def test_one_option_in_two_spellings_is_shown_once():
    colours = [
        replace(one, answer=word, reward="exact") for one, word in zip(counts(4), ("blue", "red", "Red", "red."))
    ]
    assert len(in_form(colours, "choice", seed=0)[0].choices) == 2


def test_wrong_boxes_lie_elsewhere():
    boxes = ["[0, 0, 10, 10]", "[0, 0, 10, 9]", "[30, 30, 40, 40]"]
    asked = in_form(
        [Sample(str(k), "where?", (), box, "box", kind="box") for k, box in enumerate(boxes)], "choice", seed=0
    )
    assert [len(one.choices) for one in asked] == [2, 2, 3] and set(asked[0].choices) == {boxes[0], boxes[2]}


def test_forms_are_the_same_for_a_seed_and_differ_between_seeds():
    assert (
        in_form(counts(), "choice", seed=1)
        == in_form(counts(), "choice", seed=1)
        != in_form(counts(), "choice", seed=2)
    )


def test_questions_that_ask_so_already_stay():
    yes = Sample("y", "is there a bed?", (), "yes", "yes-no")
    pick = Sample("c", "which?", (), "a", "choice", choices=("bed", "lamp"))
    assert in_form([yes], "yes-no", seed=0) == in_form([yes], "choice", seed=0) == [yes]
    assert in_form([pick], "choice", seed=0) == [pick]


def test_a_worked_thought_leads_to_the_new_answer():
    worked = replace(counts(2)[0], worked="<think> no chairs . </think> <answer> 0 </answer>")
    asked = in_form([worked, counts(2)[1]], "yes-no", seed=0)
    assert (
        asked[0].worked == f"<think> no chairs . </think> <answer> {asked[0].answer} </answer>"
        and asked[1].worked == ""
    )


@pytest.mark.parametrize("form", ["yes-no", "choice"])
def test_a_kind_with_one_answer_cannot_be_asked_so(form):
    with pytest.raises(InputError, match=r"all questions of its kind \(count\) have the answer '5'"):
        in_form([replace(one, answer="5") for one in counts(3)], form, seed=0)


def test_an_unknown_form_is_refused():
    with pytest.raises(InputError, match="form='yesno' is unknown"):
        in_form(counts(), "yesno", seed=0)


def test_of_several_responses_the_best_right_ones_are_kept():
    group = torch.tensor([7, 7, 7, 7, 2, 2, 3])
    reward = torch.tensor([1.0, 1.5, 1.5, 9.0, 0.0, 1.0, 1.0])
    right = torch.tensor([True, True, True, False, False, True, False])
    lengths = torch.tensor([1, 9, 5, 1, 1, 1, 1])
    texts = ["a", "b", "c", "d", "e", "f", "g"]
    assert best_responses(reward, right, lengths, group, texts) == [5, 2]
    assert best_responses(reward, right, lengths, group, texts, keep=3) == [5, 2, 1, 0]
    twice = ["a", "c", "c", "d", "e", "f", "g"]
    assert best_responses(reward, right, lengths, group, twice, keep=2) == [5, 2, 0]
