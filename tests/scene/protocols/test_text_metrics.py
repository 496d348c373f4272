"""The text metrics together."""

import numpy as np
import pytest

from scene.protocols.text_metrics import text_metrics
from tests.scene.protocols.answer_cases import BLEU, CIDER, RIGHT, ROUGE_L, SAID

NAMES = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR (exact, stem)", "ROUGE-L", "CIDEr"]


def test_they_stand_in_the_order_of_the_table_with_the_released_codes_values():
    metrics = text_metrics(SAID, RIGHT)
    assert [metric.name for metric in metrics] == NAMES
    values = [metric.value() / 100 for metric in metrics]
    assert values[:4] == pytest.approx(BLEU)
    assert values[5:] == pytest.approx([ROUGE_L, CIDER])


def test_each_has_an_interval_around_its_value():
    scenes = np.array([f"scene {k % 5}" for k in range(len(SAID))])
    for metric in text_metrics(SAID, RIGHT):
        low, high = metric.interval(scenes)
        assert low < metric.value() < high


def test_equal_scenes_leave_corpus_metrics_no_width():
    metrics = text_metrics(SAID[:1] * 4, RIGHT[:1] * 4)
    for metric in metrics[:5]:
        low, high = metric.interval(np.array(list("abcd")))
        assert low == pytest.approx(metric.value()) and high == pytest.approx(metric.value())


def test_order_of_the_examples_does_not_matter():
    order = np.random.default_rng(0).permutation(len(SAID))
    shuffled = text_metrics([SAID[k] for k in order], [RIGHT[k] for k in order])
    for before, after in zip(text_metrics(SAID, RIGHT), shuffled):
        assert after.value() == pytest.approx(before.value())
