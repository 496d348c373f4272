"""BLEU against hand counts, the formula written out, and the COCO caption code's values."""

import math
from collections import Counter

import numpy as np
import pytest

from scene.protocols.bleu import bleu
from scene.protocols.ptb_tokens import words_of
from tests.scene.protocols.answer_cases import BLEU, RIGHT, SAID


def _values(said: list[str], right: list[list[str]]) -> list[float]:
    metrics = bleu([words_of(text) for text in said], [[words_of(text) for text in texts] for texts in right])
    return [metric.value() for metric in metrics]


def test_the_released_code_gives_the_same():
    assert _values(SAID, RIGHT) == pytest.approx([100 * value for value in BLEU], rel=1e-9)


def test_the_same_words_are_all_right():
    assert _values(["on the red table"], [["on the red table"]]) == pytest.approx([100.0] * 4, rel=1e-6)


def test_a_word_said_too_often_counts_as_often_as_it_is_right():
    # of "the the the" one is right, and of two bigrams none
    one, two, *_ = _values(["the the the"], [["the table here"]])
    assert one == pytest.approx(100 / 3)
    assert two < 0.01


def test_short_answers_are_penalised_against_the_closest_length():
    # 2 words against 3 (closest) and 5: exp(1 - 3 / 2)
    value = _values(["red chair"], [["a red chair", "it is a red chair"]])[0]
    assert value == pytest.approx(100 * math.exp(-0.5))
    assert _values(["a red chair"], [["a red chair", "red"]])[0] == pytest.approx(100.0)


def test_counts_are_summed_before_they_are_divided():
    # 1 of 1 and 1 of 4 words: 2 of 5, not the mean of 1 and 1/4
    assert _values(["red", "a b c red"], [["red"], ["x y z red"]])[0] == pytest.approx(40.0)


def test_it_is_the_formula_written_out():
    rng = np.random.default_rng(0)
    said = [list(rng.choice(list("abcd"), rng.integers(1, 9))) for _ in range(20)]
    right = [[list(rng.choice(list("abcd"), rng.integers(1, 9))) for _ in range(rng.integers(1, 4))] for _ in said]

    def runs(words: list[str], n: int) -> list[str]:
        return [" ".join(words[k : k + n]) for k in range(len(words) - n + 1)]

    product, expected = 1.0, []
    length = sum(map(len, said))
    closest = sum(min(map(len, texts), key=lambda n: (abs(n - len(words)), n)) for words, texts in zip(said, right))
    for n in (1, 2, 3, 4):
        hits = 0
        for words, texts in zip(said, right):
            for run in set(runs(words, n)):
                hits += min(runs(words, n).count(run), max(runs(text, n).count(run) for text in texts))
        product *= hits / sum(len(runs(words, n)) for words in said)
        expected.append(100 * product ** (1 / n) * min(1.0, math.exp(1 - closest / length)))
    found = bleu([tuple(words) for words in said], [[tuple(text) for text in texts] for texts in right])
    assert [metric.value() for metric in found] == pytest.approx(expected, rel=1e-6)


def test_an_answer_without_words_adds_none():
    values = _values(["", "red"], [["red"], ["red"]])
    assert values[0] == pytest.approx(100 * math.exp(-1))  # 1 word of 2


def test_every_example_has_its_row():
    metric = bleu([("a",), ("b",)], [[("a",)], [("c",)]])[0]
    assert Counter(metric.statistics[:, 0]) == {1.0: 1, 0.0: 1}
    assert metric.value(np.array([True, False])) == pytest.approx(100.0)
