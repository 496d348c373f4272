import math

import numpy as np
import pytest

from agents.agreement import (
    draws_of,
    epic_distance,
    grouped_auc,
    grouped_pearson,
    grouped_spearman,
    pearson,
    ranks,
    roc_auc,
    spearman,
)


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
    assert math.isnan(epic_distance(np.zeros(0), np.zeros(0)))


def test_epic_of_half_a_correlation_is_one_half():
    # deviations -1 0 1 and -1 1 0: rho = 1 / sqrt(2 * 2), D = sqrt((1 - 0.5) / 2)
    assert pearson([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5)
    assert epic_distance([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5)


def test_ties_share_their_mean_rank():
    assert ranks(np.array([5.0, 2.0, 1.0, 2.0])).tolist() == [4.0, 2.5, 1.0, 2.5]
    # rank deviations -1.5 0 0 1.5 and -1.5 -0.5 0.5 1.5: 4.5 / sqrt(4.5 * 5)
    assert spearman([1, 2, 2, 5], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(22.5))
    generator = np.random.default_rng(3)
    x, y = generator.integers(0, 5, (2, 30)).astype(float)
    slow = [[sum(v < u for v in side) + (sum(v == u for v in side) + 1) / 2 for u in side] for side in (x, y)]
    assert spearman(x, y) == pytest.approx(np.corrcoef(*slow)[0, 1])


def test_a_constant_has_no_correlation_and_none_is_made_up():
    assert math.isnan(pearson([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))
    assert math.isnan(spearman([1.0, 2.0, 3.0], [4.0, 4.0, 4.0]))
    assert math.isnan(spearman([1.0], [2.0])) and math.isnan(spearman([], []))


@pytest.mark.parametrize(("plain", "grouped"), [(pearson, grouped_pearson), (spearman, grouped_spearman)])
def test_intervals_are_those_of_the_resampled_rows_themselves(plain, grouped):
    generator = np.random.default_rng(4)
    groups = generator.integers(0, 6, 60)
    truth = generator.integers(0, 5, 60).astype(float)
    score = truth + generator.integers(0, 6, 60) + groups
    value, interval = grouped(score, truth, groups, seed=5, resamples=60)
    assert value == pytest.approx(plain(score, truth))
    members = [np.flatnonzero(groups == g) for g in range(6)]
    slow = []
    for draw in draws_of(6, 5, 60).astype(int):
        rows = np.concatenate([np.repeat(part, times) for part, times in zip(members, draw)])
        slow.append(plain(score[rows], truth[rows]))
    assert interval == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])))
