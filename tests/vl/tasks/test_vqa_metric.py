from itertools import combinations

import pytest

from vl.tasks.vqa_metric import answer_vocabulary, normalise, soft_scores, worth


@pytest.mark.parametrize(
    "given, comparable",
    [
        ("The Red\tBus.", "red bus"),
        ("two", "2"),
        ("none", "0"),
        ("A dog and a cat", "dog and cat"),
        ("dont know", "don't know"),
        ("couldnt've", "couldn't've"),
        ("girl's", "girl's"),
        ("2:50 pm", "2:50 pm"),
        ("100,978", "100978"),
        ("1.5", "1.5"),
        (".5 mile.", ".5 mile"),
        ("t-shirt", "t shirt"),
        ("red, white", "red white"),
        ("cat/dog", "cat dog"),
        ("left - right/up", "left right up"),
        ("yes!\n", "yes"),
        ("lets go", "lets go"),  # a word of its own
        ("Ill", "ill"),
    ],
)
def test_the_rules_of_the_evaluation_page(given, comparable):
    assert normalise(given) == comparable


def test_punctuation_beside_a_space_goes_without_leaving_one():
    assert normalise("a-b - c") == "ab c"  # the released script's rule: one "-" stands beside a space


def test_an_answer_is_worth_the_mean_over_all_nine_of_ten():
    for said_by in range(11):
        people = [True] * said_by + [False] * (10 - said_by)
        slow = [min(sum(nine) / 3, 1.0) for nine in combinations(people, 9)]
        assert worth(said_by) == pytest.approx(sum(slow) / 10)
    assert [round(worth(n), 12) for n in range(6)] == [0, 0.3, 0.6, 0.9, 1, 1]


def test_answers_that_read_alike_are_counted_together():
    scores = soft_scores(["Two", "2", "2.", "the two"] + ["three"] * 3 + ["a few", "few", "many"])
    assert {answer: round(score, 12) for answer, score in scores.items()} == {"2": 1, "3": 0.9, "few": 0.6, "many": 0.3}


def test_the_vocabulary_keeps_answers_that_are_frequent_enough():
    answers = ["yes"] * 3 + ["no"] * 3 + ["Two", "2"] + ["red"]
    assert answer_vocabulary(answers, 2) == ("no", "yes", "2")
    assert answer_vocabulary(answers, 3) == ("no", "yes")
    assert answer_vocabulary(answers, 4) == ()
