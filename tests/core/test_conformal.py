"""Conformal thresholds: by hand, as p-values, and what they cover in new groups."""

import numpy as np
import pytest

from core.conformal import group_means, threshold
from core.errors import InputError


def test_independent_values_give_the_order_statistic_of_split_conformal_prediction():
    values = np.random.default_rng(0).permutation(np.arange(1, 20) / 20)  # 0.05 .. 0.95
    # ceil((19 + 1) * 0.9) = 18th largest of 19: the second smallest
    assert threshold(values, range(19), level=0.9) == 0.1


def test_a_group_of_many_values_weighs_as_much_as_a_group_of_one():
    # two groups: 1/3 for each; group a spreads it over four values
    values, groups = [0.9, 0.8, 0.7, 0.6, 0.2], ["a", "a", "a", "a", "b"]
    assert threshold(values, groups, level=1 / 3) == 0.6
    assert threshold(values, groups, level=0.34) == 0.2
    assert threshold(values, groups, level=2 / 3) == 0.2


def test_too_few_groups_for_the_level_let_everything_reach_the_threshold():
    assert threshold([0.9] * 100, np.arange(100) % 8, level=0.9) == -np.inf  # 8 / 9 is less than 0.9
    assert threshold([0.9] * 100, np.arange(100) % 9, level=0.9) == 0.9


def test_what_reaches_the_threshold_is_what_has_a_p_value_above_one_minus_level():
    rng = np.random.default_rng(3)
    values, groups = rng.normal(size=60).round(1), rng.integers(0, 12, 60)  # rounded: some are equal
    names, count = np.unique(groups, return_counts=True)
    weight = {name: 1 / ((len(names) + 1) * number) for name, number in zip(names, count)}
    for new in np.arange(-3, 3, 0.05).round(2):
        fits_worse = sum(weight[group] for value, group in zip(values, groups) if value <= new)
        p_value = 1 / (len(names) + 1) + fits_worse
        for level in (0.5, 0.83, 0.9):
            assert (p_value > 1 - level + 1e-9) == (new >= threshold(values, groups, level))


def test_new_groups_are_covered_at_the_stated_level_although_their_values_are_alike():
    rng = np.random.default_rng(1)

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        groups = np.repeat(np.arange(count), rng.integers(1, 30, count))
        return rng.normal(0, 1, count)[groups] + rng.normal(0, 0.3, len(groups)), groups

    covered = []
    for _ in range(200):
        limit = threshold(*drawn(19), level=0.8)
        values, groups = drawn(50)
        covered.append(group_means(values >= limit, groups).mean())
    assert 0.8 - 0.01 < np.mean(covered) < 0.8 + 1 / 20 + 0.02


def test_group_means_count_every_value_of_a_group_once():
    assert group_means([1, 0, 0, 1, 1], ["b", "b", "b", "b", "a"]).tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("values", "groups"), [([], []), ([0.5], ["a", "b"]), ([float("nan")], ["a"]), ([float("inf")], ["a"])]
)
def test_what_is_no_number_per_group_entry_is_refused(values: list[float], groups: list[str]):
    with pytest.raises(InputError, match="one finite number per group entry"):
        threshold(values, groups, 0.9)


@pytest.mark.parametrize("level", [0.0, 1.0, 90.0])
def test_a_level_that_is_no_probability_is_refused(level: float):
    with pytest.raises(InputError, match="between 0 and 1"):
        threshold([0.5], ["a"], level)
