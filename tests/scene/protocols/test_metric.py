"""Metrics as sums over examples."""

import numpy as np
import pytest

from core.errors import InputError
from scene.protocols.grounding_metrics import spread
from scene.protocols.metric import Metric


def test_a_mean_counts_every_member_once():
    metric = Metric.mean("Acc", np.array([1.0, 0.0, 0.0, 1.0, 1.0]))
    assert metric.value() == pytest.approx(60.0)
    assert metric.value(np.array([True, True, False, False, False])) == pytest.approx(50.0)


def test_an_empty_group_has_no_value():
    metric = Metric.mean("Acc", np.ones(2))
    nobody = np.zeros(2, dtype=bool)
    assert np.isnan(metric.value(nobody))
    assert np.isnan(metric.interval(np.array(["a", "b"]), nobody)).all()


def test_a_corpus_metric_combines_sums_not_means():
    # 1 of 1 and 1 of 9: the ratio of sums is 0.2, the mean of ratios would be 0.56
    metric = Metric("precision", np.array([[1.0, 1.0], [1.0, 9.0]]))
    assert metric.value() == pytest.approx(20.0)


def test_the_interval_is_over_scenes_and_not_over_sentences():
    values = np.repeat([0.0, 1.0], 50)
    alone = Metric.mean("Acc", values).interval(np.arange(100).astype(str))
    clustered = Metric.mean("Acc", values).interval(np.repeat(["a", "b"], 50))
    assert clustered == (0.0, 100.0)  # of two scenes, a quarter of the draws takes one twice
    assert 38 < alone[0] < 43 and 57 < alone[1] < 62


def test_one_scene_has_no_interval():
    assert np.isnan(Metric.mean("Acc", np.array([0.0, 1.0, 1.0])).interval(np.array(["a", "a", "a"]))).all()


def test_equal_values_have_an_interval_of_no_width():
    low, high = Metric.mean("Acc", np.ones(6)).interval(np.array(list("aabbcc")))
    assert (low, high) == (100.0, 100.0)


def test_draws_of_scenes_in_which_nothing_counts_are_left_out():
    # one scene of four has an example that counts: a draw without it has no value, all others have 100
    metric = spread(Metric.mean("F1", np.ones(1)), np.array([True, False, False, False]))
    assert metric.interval(np.array(list("abcd"))) == (100.0, 100.0)
    nothing = spread(Metric.mean("F1", np.ones(0)), np.zeros(2, bool))
    assert np.isnan(nothing.interval(np.array(["a", "b"]))).all()


def test_scene_ids_of_another_length_are_refused():
    with pytest.raises(InputError, match="3 scene ids for 2 examples"):
        Metric.mean("Acc", np.ones(2)).interval(np.array(["a", "b", "c"]))
