"""Conformal sets: thresholds by hand, coverage over homes, and what cannot be calibrated."""

import numpy as np
import pytest

from core.errors import InputError
from scene.conformal import Conformal, calibrate, measure


def test_the_threshold_of_a_home_is_that_of_a_group():
    # ceil((19 + 1) * 0.9) = 18th largest of 19: the second smallest
    found = calibrate(np.arange(1, 20) / 20, range(19), level=0.9)
    assert found == Conformal(0.9, 0.1, n=19, homes=19)
    assert calibrate([0.9, 0.8, 0.7, 0.6, 0.2], ["a", "a", "a", "a", "b"], level=1 / 3).threshold == 0.6


def test_too_few_homes_for_the_level_leave_every_object_in_the_set():
    found = calibrate([0.9] * 100, np.arange(100) % 8, level=0.9)  # 8 / 9 is less than 0.9
    assert found.threshold == 0.0 and found.present(np.array([0.0, 1.0])).all()
    assert calibrate([0.9] * 100, np.arange(100) % 9, level=0.9).threshold == 0.9


def test_sets_are_what_reaches_the_threshold():
    conformal = Conformal(0.9, 0.5, 100, 20)
    assert conformal.present(np.array([[0.5, 0.49, 0.9], [0.1, 0.2, 0.0]])).tolist() == [
        [True, False, True],
        [False, False, False],
    ]


def test_coverage_is_counted_by_home_and_empty_sets_by_kind_of_sentence():
    rows = [[0.9, 0.6, 0.1], [0.2, 0.1, 0.1], [0.9, 0.8, 0.1], [0.1, 0.1, 0.1], [0.7, 0.1, 0.1]]
    targets = [(0,), (0,), (0, 2), (), ()]
    found = measure(Conformal(0.9, 0.5, 9, 9), [np.array(row) for row in rows], targets, ["a", "a", "b", "b", "b"])
    assert found.covered == pytest.approx((0.5 + 0) / 2)  # the third lacks one of its two targets
    assert (found.size, found.single, found.empty) == pytest.approx((4 / 3, 0, 1 / 3))
    assert (found.sentences, found.homes, found.sentences_of_none, found.empty_of_none) == (3, 2, 2, 0.5)
    assert measure(Conformal(0.9, 0.5, 9, 9), [np.array(rows[0])], [(0,)], ["a"]).empty_of_none is None


@pytest.mark.parametrize(
    ("values", "homes"), [([], []), ([0.5, 1.5], ["a", "b"]), ([0.5], ["a", "b"]), ([float("nan")], ["a"])]
)
def test_what_is_no_probability_per_sentence_is_refused(values: list[float], homes: list[str]):
    with pytest.raises(InputError, match="at least one sentence"):
        calibrate(values, homes)


def test_a_damaged_record_is_refused():
    with pytest.raises(InputError, match="calibrate the model again"):
        Conformal(1.5, 0.5, 1, 1)
    with pytest.raises(InputError, match="conformal score"):
        Conformal(0.9, 0.5, 1, 1, "scores")


def test_a_target_that_is_no_candidate_counts_as_a_miss():
    threshold = Conformal(0.9, 0.5, n=20, homes=20)
    found = measure(threshold, [np.array([0.9, 0.1]), np.array([0.9, 0.1])], [[0], [-1]], ["a", "b"])
    assert (found.covered, found.sentences) == (0.5, 2)
