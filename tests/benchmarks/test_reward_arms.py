"""Rank correlations over a few arms."""

import math
from itertools import permutations

import pytest

from benchmarks.reward_arms import rank_correlation, shown


def test_equal_orders_correlate_fully_and_p_counts_both_directions():
    rho, p = rank_correlation([0.1, 0.4, 0.2, 0.9], [1.0, 3.0, 2.0, 4.0])
    assert rho == pytest.approx(1.0)
    assert p == pytest.approx(2 / 24)  # this order and its reverse, of all 24


def test_correlation_of_a_swap_by_hand():
    # ranks 1 2 3 4 against 2 1 3 4: 1 - 6 * 2 / (4 * 15) = 0.8
    rho, p = rank_correlation([1, 2, 3, 4], [20, 10, 30, 40])
    assert rho == pytest.approx(0.8)
    as_far = sum(abs(1 - 6 * sum((a - b) ** 2 for a, b in zip((1, 2, 3, 4), order)) / 60) >= 0.8 - 1e-9
                 for order in permutations((1, 2, 3, 4)))  # fmt: skip
    assert p == pytest.approx(as_far / 24)


def test_ties_share_their_rank():
    assert rank_correlation([1, 1, 2], [5, 5, 9])[0] == pytest.approx(1.0)


@pytest.mark.parametrize("measure", [[1.0, 2.0], [3.0, 3.0, 3.0]])
def test_too_few_or_constant_arms_say_nothing(measure):
    assert all(math.isnan(x) for x in rank_correlation(measure, list(range(len(measure)))))


def test_a_measure_that_is_undefined_is_never_shown_as_a_number():
    assert shown(None) == shown({"value": None}) == shown({"value": math.nan}) == "undefined"
    assert shown({"value": 0.25, "interval": [0.2, 0.3]}) == "0.25 (0.20 to 0.30)"
