import math

import numpy as np
import pytest

from agents.auc import epic_distance, grouped_auc, roc_auc


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
    members = [np.flatnonzero(groups == home) for home in range(8)]
    draws = np.random.default_rng(1).integers(0, 8, (1500, 8))
    slow = [roc_auc(score[rows], positive[rows]) for rows in (np.concatenate([members[h] for h in d]) for d in draws)]
    assert (low, high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.015)
    assert math.isnan(grouped_auc(score, np.zeros(200, bool), groups)[0])


def test_epic_is_zero_for_equal_rewards_up_to_scale_and_one_for_opposite_ones():
    truth = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    assert epic_distance(3 * truth - 7, truth) == pytest.approx(0.0, abs=1e-7)
    assert epic_distance(-truth, truth) == pytest.approx(1.0)
    assert epic_distance(np.full(5, 0.5), truth) == pytest.approx(math.sqrt(0.5))
