"""Figures of judged answers, from answers small enough to count by hand."""

import numpy as np
import pytest

from agents.reasoning.answer_figures import (
    ALL,
    BEFORE,
    CHANCE,
    MAJORITY,
    ORACLE,
    SEEN,
    TOLD,
    Judged,
    chance,
    gains,
    majority,
    manner,
    per_question,
    powers,
    reflections,
    subsets,
    table,
)
from agents.reasoning.types import Sample
from agents.reasoning.ways import Answered

ANSWERS = ["yes", "no", "yes", "3"]
SAMPLES = [
    Sample(f"q{k}", "?", () if k == 3 else ("p.png",), answer, kind="sum" if k == 3 else "existence",
           needs_picture=k != 3, group="ab"[k % 2])
    for k, answer in enumerate(ANSWERS)
]  # fmt: skip


def judged(correct: list[list[int]], length: int = 4, text: str = "yes") -> Judged:
    right = np.array(correct, dtype=bool)
    texts = tuple(tuple(text for _ in row) for row in correct)
    tokens = tuple(tuple(tuple(range(length + bool(hit))) for hit in row) for row in correct)
    said = tuple(tuple("yes" if hit else None for hit in row) for row in correct)
    return Judged(Answered(texts, tokens, np.ones_like(right)), said, right.astype(float), right)


def test_the_most_frequent_answer_and_chance_are_those_of_a_kind():
    assert majority(SAMPLES).tolist() == [1, 0, 1, 1]
    np.testing.assert_allclose(chance(SAMPLES), [1 / 2, 1 / 2, 1 / 2, 1])
    of_four = Sample("c", "?", (), "a", choices=("a", "b", "c", "d"), kind="existence")
    assert chance([*SAMPLES, of_four])[-1] == 0.25


def test_questions_of_a_kind_that_ask_for_unlike_answers_are_guessed_apart():
    asked = [Sample(f"s{k}", "?", (), answer, kind="relation", choices=("left", "right")) for k, answer in
             enumerate(("left", "right", "right", "left", "left"))]  # fmt: skip
    asked += [Sample(f"o{k}", "?", (), answer, "yes-no", kind="relation") for k, answer in enumerate(("yes", "no"))]
    assert chance(asked).tolist() == [0.5] * 7
    assert majority(asked).tolist() == [1, 0, 0, 1, 1, 0, 1]


def test_one_of_k_answers_is_right_as_often_as_drawing_k_of_them_says():
    judgements = {
        "sampled": judged([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]),
        "cold": judged([[1]] * 4),
    }
    rows = per_question(SAMPLES, judgements, 4, np.ones(4))
    assert powers(4) == [1, 2, 4] and powers(1) == [1] and powers(6) == [1, 2, 4, 6]
    np.testing.assert_allclose(rows["pass@1"], [1 / 4, 1 / 2, 0, 1])
    np.testing.assert_allclose(rows["pass@2"], [1 / 2, 5 / 6, 0, 1])  # 1 - C(3,2)/C(4,2), 1 - C(2,2)/C(4,2)
    np.testing.assert_allclose(rows["pass@4"], [1, 1, 0, 1])
    assert list(rows) == ["pass@1", "pass@2", "pass@4", "cold", MAJORITY, CHANCE, ORACLE]


def test_questions_are_split_by_what_they_need_and_by_kind_only_where_there_are_both():
    assert {name: part.tolist() for name, part in subsets(SAMPLES).items()} == {
        ALL: [True] * 4,
        SEEN: [True, True, True, False],
        TOLD: [False, False, False, True],
        "existence": [True, True, True, False],
        "sum": [False, False, False, True],
    }
    assert list(subsets(SAMPLES[:3])) == [ALL, "existence"]


def test_a_mean_has_the_interval_of_its_homes():
    found = table(SAMPLES, {"cold": np.array([1.0, 0, 1, 0]), CHANCE: np.full(4, 0.5)})
    assert found["cold"][ALL] == {"value": 0.5, "interval": [0.0, 1.0], "n": 4, "groups": 2}  # home a 1, home b 0
    assert found["cold"][SEEN]["value"] == pytest.approx(2 / 3)
    assert found[CHANCE][ALL]["interval"] == [0.5, 0.5]
    low, high = found["cold"]["sum"]["interval"]  # all wrong: Wilson's interval, not none
    assert low == 0 and high > 0.5


def test_what_seeing_and_training_add_is_counted_question_by_question():
    rows = {"cold": np.array([1.0, 1, 1, 0]), "blind": np.array([0.0, 1, 0, 0]), BEFORE: np.array([1.0, 1, 1, 1])}
    found = gains(SAMPLES, rows)
    assert list(found) == ["blind", BEFORE]
    assert found["blind"][SEEN]["value"] == pytest.approx(2 / 3) and found["blind"][TOLD]["value"] == 0
    assert found[BEFORE][ALL]["value"] == -0.25
    same = gains(SAMPLES, {"cold": np.ones(4), "blind": np.ones(4)})["blind"][ALL]
    assert (same["value"], same["interval"]) == (0, [0, 0])  # not the interval of a rate of which none hit


def test_length_is_told_apart_for_right_and_wrong_answers():
    found = manner(SAMPLES, {"cold": judged([[1], [0], [0], [1]]), "blind": judged([[0]] * 4)})
    assert found["cold"]["length"]["value"] == 4.5
    assert (found["cold"]["length_correct"], found["cold"]["length_incorrect"]) == (5.0, 4.0)
    assert found["blind"]["length_correct"] is None and found["blind"]["answer_given"]["value"] == 0
    assert found["cold"]["answer_given"]["value"] == 0.5 and found["cold"]["ended"]["value"] == 1


def test_reflection_is_counted_over_all_answers_of_a_way():
    answers = judged([[1, 0], [0, 0], [0, 0], [1, 0]])
    texts = (("wait , yes", "no"), ("let me verify : no", "no"), ("no", "a waiter"), ("yes", "no"))
    answered = Answered(texts, answers.answered.tokens, answers.answered.ended)
    both = reflections(Judged(answered, answers.said, answers.score, answers.correct))
    assert both["as MAYE"] != (found := both["whole words"])
    assert found["ratio"] == 2 / 8
    assert found["in_correct"] == 1 / 2 and found["in_incorrect"] == pytest.approx(1 / 6)
    assert found["correct_in_reflection"] == 1 / 2 and found["correct_in_no_reflection"] == pytest.approx(1 / 6)
