import math

import numpy as np
import pytest

from agents.intervals import bootstrap, bootstrap_mean, epic_distance, grouped_auc, roc_auc, wilson


def test_wilson_matches_the_textbook_values():
    assert wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    low, high = wilson(0, 10)
    assert low == 0.0 and high == pytest.approx(0.2775328, abs=1e-6)


def test_wilson_refuses_impossible_counts():
    with pytest.raises(ValueError, match="3 successes of 2"):
        wilson(3, 2)


def test_bootstrap_of_a_mean_is_close_to_the_normal_interval():
    values = np.random.default_rng(0).normal(2.0, 1.0, 400)
    low, high = bootstrap_mean(values, resamples=2000)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_whole_groups_are_resampled_together():
    values = np.repeat([0.0, 1.0], 50)  # two homes, each constant: a resample's mean can only be 0, 0.5 or 1
    groups = np.repeat(["a", "b"], 50)
    seen = set()
    bootstrap(lambda rows: seen.add(values[rows].mean()) or 0.0, groups, resamples=50)
    assert seen == {0.0, 0.5, 1.0}


def test_auc_counts_pairs_with_ties_as_half():
    generator = np.random.default_rng(1)
    score, positive = generator.integers(0, 6, 40).astype(float), generator.random(40) < 0.4
    pairs = [(p > n) + 0.5 * (p == n) for p in score[positive] for n in score[~positive]]
    assert roc_auc(score, positive) == pytest.approx(np.mean(pairs))
    assert math.isnan(roc_auc(score, np.ones(40, bool)))


def test_the_grouped_auc_equals_the_plain_one_and_its_interval_a_plain_bootstrap_over_groups():
    generator = np.random.default_rng(2)
    groups = generator.integers(0, 8, 200)
    positive = generator.random(200) < 0.3
    score = np.round(generator.normal(positive + 0.5 * groups / 8), 1)
    value, (low, high) = grouped_auc(score, positive, groups, resamples=4000)
    assert value == pytest.approx(roc_auc(score, positive))
    slow = bootstrap(lambda rows: roc_auc(score[rows], positive[rows]), groups, resamples=1500, seed=1)
    assert (low, high) == pytest.approx(slow, abs=0.015)
    assert math.isnan(grouped_auc(score, np.zeros(200, bool), groups)[0])


def test_epic_is_zero_for_equal_rewards_up_to_scale_and_one_for_opposite_ones():
    truth = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    assert epic_distance(3 * truth - 7, truth) == pytest.approx(0.0, abs=1e-7)
    assert epic_distance(-truth, truth) == pytest.approx(1.0)
    assert epic_distance(np.full(5, 0.5), truth) == pytest.approx(math.sqrt(0.5))
