"""CIDEr against hand counts, dense vectors, and the COCO caption code's value."""

import math

import numpy as np
import pytest

from scene.protocols.cider import cider
from scene.protocols.ptb_tokens import words_of
from tests.scene.protocols.answer_cases import CIDER, RIGHT, SAID


def test_the_released_code_gives_the_same():
    metric = cider([words_of(text) for text in SAID], [[words_of(text) for text in texts] for texts in RIGHT])
    assert metric.value() == pytest.approx(100 * CIDER, rel=1e-9)


def test_one_right_word_is_a_fourth_of_ten():
    # only the unigram has a vector: cosine 1 of 4 lengths, times 10, times the table's 100
    metric = cider([("red",), ("blue",)], [[("red",)], [("green",)]])
    assert metric.value(np.array([True, False])) == pytest.approx(250.0)
    assert metric.value(np.array([False, True])) == 0.0


def test_words_of_every_example_say_nothing():
    assert cider([("the",), ("the",)], [[("the",)], [("the",)]]).value() == 0.0


def test_a_longer_answer_is_penalised_by_a_gaussian_of_six_words():
    # "red x" against "red" of 2 examples: unigram cosine 1/sqrt(2), 1 word too long
    value = cider([("red", "x"), ("b",)], [[("red",)], [("c",)]]).value(np.array([True, False]))
    assert value == pytest.approx(250 / math.sqrt(2) * math.exp(-1 / 72))


def test_a_group_keeps_the_frequencies_of_the_split():
    said, right = [("red",), ("red",), ("blue",)], [[("red",)], [("red", "chair")], [("blue",)]]
    whole = cider(said, right)
    part = cider(said[:2], right[:2])
    assert whole.value(np.array([True, True, False])) != pytest.approx(part.value())


def test_it_is_the_cosine_of_dense_vectors():
    rng = np.random.default_rng(0)
    said = [tuple(rng.choice(list("abcde"), rng.integers(1, 7))) for _ in range(12)]
    right = [[tuple(rng.choice(list("abcde"), rng.integers(1, 7))) for _ in range(2)] for _ in said]
    values = np.zeros(len(said))
    for n in (1, 2, 3, 4):
        runs = [[[t[k : k + n] for k in range(len(t) - n + 1)] for t in (s, *r)] for s, r in zip(said, right)]
        names = sorted({run for group in runs for text in group for run in text})
        frequency = np.array([sum(any(name in text for text in group[1:]) for group in runs) for name in names])
        weight = np.log(len(said)) - np.log(np.maximum(frequency, 1))
        for k, group in enumerate(runs):
            hypothesis, *references = (np.array([text.count(name) for name in names]) * weight for text in group)
            for words, reference in zip(right[k], references):
                norm = np.linalg.norm(hypothesis) * np.linalg.norm(reference)
                penalty = np.exp(-((len(said[k]) - len(words)) ** 2) / 72)
                if norm:
                    values[k] += 10 * penalty * (np.minimum(hypothesis, reference) @ reference) / norm / 4 / 2
    assert cider(said, right).statistics[:, 0] == pytest.approx(values, abs=1e-9)


def test_no_words_have_zero():
    assert cider([(), ("a",)], [[("b",)], [("c",)]]).value() == 0.0
