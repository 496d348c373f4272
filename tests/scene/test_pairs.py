"""Which pairs are compared: against lists of all pairs."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scene import pairs
from scene.pairs import pairs_near, pairs_of, pairs_that_meet, pairs_within
from scene.relations import MARGINS, between


def listed(rows, columns):
    return list(zip(rows.tolist(), columns.tolist()))


def boxes_at(xy, size=0.5):
    return np.array([[x, y, 0.5, size, size, 1.0, 0.0] for x, y in xy], dtype=np.float64).reshape(-1, 7)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=12))
def test_pairs_of_a_group_are_all_its_pairs_once(group):
    expected = {(a, b) for a, b in combinations(range(len(group)), 2) if group[a] == group[b]}
    found = listed(*pairs_within(np.array(group, dtype=np.int64)))
    assert len(found) == len(expected) and set(found) == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.floats(0.01, 3)), max_size=12))
def test_the_sweep_finds_every_two_circles_that_overlap(circles):
    rows = np.array(circles, dtype=np.float64).reshape(-1, 3)
    xy, radius = rows[:, :2], rows[:, 2]
    expected = [
        (a, b) for a, b in combinations(range(len(rows)), 2) if np.hypot(*(xy[a] - xy[b])) < radius[a] + radius[b]
    ]
    assert listed(*pairs_that_meet(xy, radius)) == expected


def test_of_a_crowd_only_near_pairs_are_compared_and_of_others_all():
    crowd = [(float(k), 0.0) for k in range(6)]  # every metre, half a metre wide
    few = [(100.0, 0.0), (200.0, 0.0)]
    group = np.array([0] * 6 + [1] * 2)
    found = set(listed(*pairs_near(group, boxes_at(crowd + few), within_m=1.0, crowd=5)))
    # circles of 0.354 + 0.5 m meet up to 1.71 m apart
    assert found == {(k, k + 1) for k in range(5)} | {(6, 7)}
    assert len(pairs_near(group, boxes_at(crowd + few), within_m=1.0, crowd=6)[0]) == 15 + 1


def test_no_pair_with_a_smaller_gap_is_missed_in_a_crowd():
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.uniform(0, 8, (60, 2)), rng.uniform(0, 1, 60), rng.uniform(0.1, 2, (60, 3)),
                             rng.uniform(-3, 3, 60)])  # fmt: skip
    found = set(listed(*pairs_near(np.zeros(60, np.int64), boxes, within_m=1.0, crowd=10)))
    gap = pairs_of(boxes).gap
    near = {(a, b) for a, b in combinations(range(60), 2) if gap[a, b] < 1.0}
    assert near <= found and len(found) < 60 * 59 / 2


def test_listed_pairs_have_the_margins_of_the_matrix_and_reversed_ones_its_transpose():
    rng = np.random.default_rng(1)
    boxes = np.column_stack([rng.uniform(-2, 2, (7, 3)), rng.uniform(0.2, 2, (7, 3)), rng.uniform(-3, 3, 7)])
    every = pairs_of(boxes)
    chosen = rng.random((7, 7)) < 0.5
    some = every.where(chosen)
    for relation, margin in MARGINS.items():
        np.testing.assert_array_equal(margin(some), margin(every)[chosen], err_msg=relation)
        np.testing.assert_array_equal(margin(some.reversed), margin(every).T[chosen], err_msg=relation)


def test_blocks_are_the_whole_list_in_order(monkeypatch):
    boxes = boxes_at([(float(k), 0.0) for k in range(5)])
    rows = pairs_of(boxes).where(~np.eye(5, dtype=bool))
    assert list(rows.blocks()) == [rows]
    monkeypatch.setattr(pairs, "PAIRS_AT_ONCE", 6)
    parts = list(rows.blocks())
    assert [len(part.rows) for part in parts] == [6, 6, 6, 2]
    np.testing.assert_array_equal(np.concatenate([part.distance for part in parts]), rows.distance)


def test_between_is_the_same_from_pairs_listed_once_or_both_ways_round():
    boxes = boxes_at([(0, 0), (0.9, 0.1), (-0.9, 0), (0, 0.9), (0, -0.8)])
    every = pairs_of(boxes)
    (triples, margin), (again, same) = between(every), between(every.where(np.tri(5, k=-1, dtype=bool)))
    assert triples.tolist() == again.tolist() == [[0, 1, 2], [0, 3, 4]]
    assert margin == pytest.approx(same)
