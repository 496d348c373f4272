import math
import sys
import types
from typing import Any

import pytest
import torch

from agents.reasoning.rewards import (
    ANSWER_CHECKS,
    RewardConfig,
    answer_check,
    check_samples,
    cjk_share,
    is_right,
    reward_of,
)
from agents.reasoning.types import Sample
from core.errors import InputError


def sample(answer: str, reward: str, **more: Any) -> Sample:
    return Sample(f"{reward}-1", "?", (), answer, reward=reward, **more)


def score(answer: str, truth: str, reward: str, **more: Any) -> float:
    return ANSWER_CHECKS[reward].score(answer, sample(truth, reward, **more))


def tagged(answer: str) -> str:
    return f"<think> so </think> <answer> {answer} </answer>"


def paid(texts: list[str], one: Sample, config: RewardConfig, **more: Any) -> Any:
    rows = len(texts)
    ended = torch.tensor(more.pop("ended", [True] * rows))
    lengths = torch.tensor(more.pop("lengths", [10] * rows))
    return reward_of([one] * rows, texts, ended, lengths, config, **more)


def test_exact_answers_differ_in_case_and_spacing_only():
    assert score("Turn - Left.", "turn-left", "exact") == 1
    for wrong in ("turn", "turn-left or right", "turn-left turn-right", "turn left", "not turn-left", ""):
        assert score(wrong, "turn-left", "exact") == 0


def test_numbers_are_compared_by_value():
    assert score("two", "2", "number") == score("4/2", "2", "number") == 1
    for wrong in ("1 2 3", "1, 2, 3", "2 or 3", "12", "2 and not 3", "٢", "²", "nan", "2" * 500, "9^9^9^9"):
        assert score(wrong, "2", "number") == 0


@pytest.mark.parametrize("answer", ["b", "B", "(b)", "b.", "b)", "blue", " Blue ."])
def test_an_option_is_named_by_letter_or_text(answer):
    assert score(answer, "blue", "choice", choices=("red", "blue", "green")) == 1
    assert score(answer, "b", "choice", choices=("red", "blue", "green")) == 1


@pytest.mark.parametrize(
    "answer",
    [
        "a",
        "d",
        "z",
        "a, b, c",
        "a b c",
        "abc",
        "b, b",
        "b, a",
        "a or b",
        "not b",
        "b, blue",
        "(a) red (b) blue",
        "",
        ",",
        "{",
    ],
)
def test_other_options_lists_of_them_and_stories_are_wrong(answer):
    assert score(answer, "blue", "choice", choices=("red", "blue", "green")) == 0


def test_several_options_must_come_in_order():
    choices = ("red", "blue", "green, dark")
    assert score("c, a", "c, a", "choice", choices=choices) == score("(c), red", "c, a", "choice", choices=choices) == 1
    assert score("a, c", "c, a", "choice", choices=choices) == score("c", "c, a", "choice", choices=choices) == 0
    assert score("green, dark", "c", "choice", choices=choices) == 1


def test_an_option_that_is_a_letter_goes_before_the_letter_of_a_place():
    assert score("a", "a", "choice", choices=("b", "a")) == 1 and score("b", "a", "choice", choices=("b", "a")) == 0


def test_yes_or_no_is_one_word():
    assert score("Yes.", "yes", "yes-no") == score("true", "yes", "yes-no") == score("no", "False", "yes-no") == 1
    for wrong in ("no", "yes no", "yes or no", "yes, it is", "yesno", "y", "1", "not no", "y\u200bes", ""):
        assert score(wrong, "yes", "yes-no") == 0
    assert score("maybe", "maybe", "yes-no") == 0


def test_label_sets_earn_what_they_share():
    assert score("Bed, lamp", "lamp, bed", "words") == 1
    assert score("bed", "lamp, bed", "words") == 0.5
    assert score("bed, lamp, sofa, desk", "lamp, bed", "words") == 0.5
    assert score("bed, bed, bed", "bed", "words") == 1 and score("bed lamp", "lamp, bed", "words") == 0
    assert score(", ,", "bed", "words") == 0


def test_free_text_earns_the_f1_of_its_words():
    assert score("The lamp, on a desk!", "a lamp on the desk", "text") == 1
    assert score("lamp lamp lamp", "the lamp", "text") == pytest.approx(2 * 1 / (3 + 1))
    assert score("", "lamp", "text") == score("the", "lamp", "text") == 0


def test_boxes_earn_overlap_and_the_progressive_rule_hardens():
    one = sample("[0, 0, 10, 10]", "boxes")
    config = RewardConfig(late_from=5)
    text = [tagged("[[0, 0, 10, 7]]")]
    _, early = paid(text, one, config, step=4)
    _, late = paid(text, one, config, step=5)
    assert early["accuracy"].item() == pytest.approx((1 + 1 + 0.7) / 3)
    assert late["accuracy"].item() == pytest.approx(1 / 3)
    assert score("[0, 5, 10, 15]", "[0, 0, 10, 10]", "box") == pytest.approx(1 / 3)
    assert score("[0, 0, 10, 7]", "[0, 0, 10, 10]", "box-hit") == 1
    assert score("[0, 0, 10, 5]", "[0, 0, 10, 10]", "box-hit") == 0
    assert is_right(sample("[0, 0, 10, 10]", "box"), "[0, 0, 10, 7]")


def test_parts_add_up_with_their_weights():
    config = RewardConfig(format=0.5, language=0.1, length=0.2, length_limit=20)
    texts = [tagged("2"), "<answer> 2 </answer>", tagged("3"), "2", "的" * 10]
    reward, parts = paid(texts, sample("2", "number"), config, lengths=[10, 20, 40, 0, 0])
    assert parts["accuracy"].tolist() == parts["right"].tolist() == [1, 1, 0, 0, 0]
    assert parts["format"].tolist() == [1, 0, 1, 0, 0] and parts["length"].tolist() == [0.5, 1, 1, 0, 0]
    assert parts["language"].tolist() == [0, 0, 0, 0, 1]
    assert reward.tolist() == pytest.approx([1 + 0.5 - 0.1, 1 - 0.2, 0.5 - 0.2, 0, -0.1])


def test_a_response_cut_off_earns_the_override_whatever_it_says():
    config = RewardConfig(min_length=5, format=1)
    reward, parts = paid([tagged("2")] * 3, sample("2", "number"), config, ended=[True, False, True], lengths=[5, 5, 4])
    assert reward.tolist() == pytest.approx([2, -0.1, -0.1])
    assert parts["right"].tolist() == [1, 0, 1] == parts["format"].tolist()
    reward, _ = paid([tagged("2")], sample("2", "number"), RewardConfig(not_ended=None), ended=[False])
    assert reward.tolist() == [0]
    with pytest.raises(InputError, match="min_length=5: a shorter one earns reward.not_ended=None"):
        RewardConfig(min_length=5, not_ended=None)


def test_truth_in_the_thought_or_beside_the_tags_earns_nothing():
    texts = [
        "2",
        "the answer is 2",
        "<think> the answer is 2 </think> <answer> 3 </answer>",
        "<think> <answer> 2 </answer> </think> <answer> 3 </answer>",
        "<answer> 2 </answer> <answer> 3 </answer>",
        "<answer> 3 </answer> 2",
        "<answer> 3 <answer> 2 </answer> </answer>",
        tagged("1 2 3 4"),
        tagged("1, 2, 3, 4"),
        tagged("2 3"),
        tagged("</think> 2"),
        tagged("\\boxed{2} \\boxed{3}"),
    ]
    for reward in ("number", "exact", "text"):
        _, parts = paid(texts, sample("2", reward), RewardConfig())
        assert parts["right"].sum() == 0


HOSTILE = [
    *("", " ", "\0", "NaN", "٣²½", "的", "<answer>", "[1, 2, 1, 2]", "9**9**9**9", "__import__('os').abort()"),
    *("[" * 5000, "{" * 5000, "(" * 5000, "9" * 5000, "e" * 5000, "a," * 2000, "yes " * 999, "\\boxed{" * 99),
]
TRUTHS = {
    "number": "2",
    "choice": "b",
    "yes-no": "yes",
    "box": "[0, 0, 1, 1]",
    "box-hit": "[0, 0, 1, 1]",
    "boxes": "[]",
}


@pytest.mark.parametrize("name", ANSWER_CHECKS)
def test_every_check_refuses_hostile_answers(name):
    one = sample(TRUTHS.get(name, "bed"), name, choices=("x", "y"))
    check_samples([one])
    for answer in HOSTILE:
        assert 0 <= ANSWER_CHECKS[name].score(answer, one) < 1 and not is_right(one, answer), answer[:20]


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        ("cat", "number"),
        ("blue", "choice"),
        ("a, a", "choice"),
        ("perhaps", "yes-no"),
        ("[0, 0, 0, 0]", "box"),
        ("[1]", "boxes"),
        ("the", "text"),
        (",", "words"),
    ],
)
def test_an_answer_that_its_check_cannot_read_stops_before_training(answer, reward):
    with pytest.raises(InputError, match=rf"sample '{reward}-1': its answer '.*' is not one that reward '{reward}'"):
        check_samples([sample(answer, reward, choices=("x", "y"))])


def test_a_missing_answer_and_an_unknown_reward_name_the_sample():
    with pytest.raises(InputError, match="sample 'exact-1' has no answer"):
        check_samples([sample(" ", "exact")])
    with pytest.raises(InputError, match="sample 'numbr-1': reward 'numbr' is unknown; did you mean 'number'"):
        check_samples([sample("2", "numbr")])


def generous(answer: str, sample: Sample) -> Any:
    return 2.5 if answer == sample.answer else torch.tensor(-1)


def broken(answer: str, sample: Sample) -> float:
    raise KeyError("colour")


def undefined(answer: str, sample: Sample) -> float:
    return math.nan


def wordy(answer: str, sample: Sample) -> str:
    return "good"


@pytest.fixture
def here(monkeypatch):
    """This file as a module that a reward can name."""
    module = types.ModuleType("rewards_of_a_user")
    module.__dict__.update(generous=generous, broken=broken, undefined=undefined, wordy=wordy, number=3)
    monkeypatch.setitem(sys.modules, "rewards_of_a_user", module)
    answer_check.cache_clear()
    yield "rewards_of_a_user"
    answer_check.cache_clear()


def test_a_users_function_pays_what_it_says(here):
    one = sample("2", f"{here}:generous")
    check_samples([one])
    reward, parts = paid([tagged("2"), tagged("3"), "3"], one, RewardConfig())
    assert reward.tolist() == [2.5, -1, 0] and parts["right"].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("broken", r"failed on sample '.*' \(KeyError: 'colour'\); its answer was '7'"),
        ("undefined", "gave nan for sample '.*', expected a finite number; its answer was '7'"),
        ("wordy", "gave 'good' for sample '.*', expected a finite number; its answer was '7'"),
        ("number", "has no function 'number'"),
        ("absent", "has no function 'absent'"),
    ],
)
def test_a_users_function_that_fails_names_sample_and_answer(here, function, said):
    with pytest.raises(InputError, match=said):
        paid([tagged("7")], sample("2", f"{here}:{function}"), RewardConfig())


def test_a_module_that_does_not_load_says_why():
    with pytest.raises(InputError, match="module 'nowhere_at_all' does not load .ModuleNotFoundError"):
        answer_check("nowhere_at_all:f")


def test_rows_of_different_number_are_refused():
    with pytest.raises(InputError, match=r"differ in rows: \[1, 2\]"):
        reward_of([sample("2", "number")], ["a", "b"], torch.ones(2) > 0, torch.ones(2).long(), RewardConfig())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"style": "xml"}, "reward.style='xml' is unknown"),
        ({"format": math.nan}, "must be finite"),
        ({"length_limit": 0}, "length_limit=0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        RewardConfig(**given)


def test_the_share_of_cjk_characters():
    assert cjk_share("ab的か") == 0.5 and cjk_share("") == cjk_share("é ü") == 0
