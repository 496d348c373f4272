import numpy as np
import pytest

from core.intervals import grouped_mean, grouped_rate, t_interval, wilson


def test_wilson_matches_the_textbook_values():
    assert wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    low, high = wilson(0, 10)
    assert low == 0.0 and high == pytest.approx(0.2775328, abs=1e-6)


def test_wilson_refuses_impossible_counts():
    with pytest.raises(ValueError, match="3 successes of 2"):
        wilson(3, 2)


def test_over_single_values_it_is_close_to_the_normal_interval():
    values = np.random.default_rng(0).normal(2.0, 1.0, 400)
    low, high = grouped_mean(values, range(400))
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_whole_homes_are_drawn_so_alike_values_widen_it():
    values, homes = np.repeat([0.0, 1.0], 50), np.repeat(["a", "b"], 50)
    assert grouped_mean(values, homes) == (0.0, 1.0)  # two homes, each of one kind: anything is possible
    low, high = grouped_mean(values, range(100))
    assert 0.35 < low < 0.45 and 0.55 < high < 0.65
    with pytest.raises(ValueError, match="3 values and 2 groups"):
        grouped_mean(np.ones(3), ["a", "b"])


def test_homes_of_different_sizes_weigh_by_their_values():
    values, homes = np.array([1.0, 0.0, 0.0, 0.0]), ["a", "b", "b", "b"]
    # home a drawn 0, 1 or 2 times of 2 (chance 1/4, 1/2, 1/4) gives the means 0, 1/4 and 1
    assert grouped_mean(values, homes, level=0.2) == (0.25, 0.25)
    assert grouped_mean(values, homes, level=0.95) == (0.0, 1.0)


def test_a_rate_of_all_or_none_still_has_an_interval():
    assert grouped_rate(np.ones(10), ["a"] * 5 + ["b"] * 5) == wilson(10, 10)
    assert grouped_rate(np.array([1.0, 0.0]), ["a", "b"]) == (0.0, 1.0)


def test_students_interval_of_three_values():
    assert t_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)
    assert np.isnan(t_interval([1.0])).all() and np.isnan(t_interval([])).all()
