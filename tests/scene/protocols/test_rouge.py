"""ROUGE-L against hand counts and a search over all subsequences."""

from itertools import combinations

import numpy as np
import pytest

from scene.protocols.ptb_tokens import words_of
from scene.protocols.rouge import common_subsequence, rouge_l
from tests.scene.protocols.answer_cases import RIGHT, ROUGE_L, SAID


def test_the_released_code_gives_the_same():
    metric = rouge_l([words_of(text) for text in SAID], [[words_of(text) for text in texts] for texts in RIGHT])
    assert metric.value() == pytest.approx(100 * ROUGE_L, rel=1e-9)


def test_precision_and_recall_are_weighed_by_beta():
    # "left of sofa" and "to the left of the sofa": 3 in common, precision 1, recall 1/2, beta 1.2
    value = rouge_l([("left", "of", "sofa")], [[words_of("to the left of the sofa")]]).value()
    assert value == pytest.approx(100 * (1 + 1.44) * 0.5 / (0.5 + 1.44))


def test_the_best_precision_and_recall_may_come_from_two_answers():
    # recall 1 from "red", precision 1 from "a red chair": the released code's choice
    assert rouge_l([("red", "chair")], [[("red",), ("a", "red", "chair")]]).value() == pytest.approx(100.0)


def test_nothing_in_common_and_no_words_have_zero():
    assert rouge_l([("a",), ()], [[("b",)], [("b",)]]).value() == 0.0


def test_the_common_subsequence_is_the_longest_of_all():
    rng = np.random.default_rng(1)

    def subsequences(words: list[str]) -> set[tuple[str, ...]]:
        return {chosen for n in range(len(words) + 1) for chosen in combinations(words, n)}

    for _ in range(30):
        a, b = (list(rng.choice(list("abc"), rng.integers(0, 8))) for _ in range(2))
        assert common_subsequence(a, b) == max(len(s) for s in subsequences(a) & subsequences(b))
