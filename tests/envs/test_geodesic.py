"""Walking distances against values by hand and a slow second implementation."""

import heapq

import numpy as np
import pytest

from core.errors import InputError
from envs.geodesic import UNREACHABLE, distance_field


def slow_field(free, target):
    """Textbook Dijkstra with a heap over the same 16 steps."""
    rows, cols = free.shape
    best = {(int(i), int(j)): 0 for i, j in np.argwhere(free & target)}
    queue = [(0, cell) for cell in best]
    heapq.heapify(queue)
    while queue:
        cost, (i, j) = heapq.heappop(queue)
        if cost > best[i, j]:
            continue
        for a in range(-2, 3):
            for b in range(-2, 3):
                kind = tuple(sorted((abs(a), abs(b))))
                if kind not in {(0, 1): 5, (1, 1): 7, (1, 2): 11}:
                    continue
                step = {(0, 1): 5, (1, 1): 7, (1, 2): 11}[kind]
                brushed = {(0, 1): [], (1, 1): [(a, 0), (0, b)]}.get(kind)
                if brushed is None:  # knight: one cell straight along the long side, then the diagonal one
                    half = (a // abs(a), 0) if abs(a) == 2 else (0, b // abs(b))
                    brushed = [half, (half[0] + (a if abs(a) == 1 else 0), half[1] + (b if abs(b) == 1 else 0))]
                cells = [(i + x, j + y) for x, y in [*brushed, (a, b)]]
                if all(0 <= x < rows and 0 <= y < cols and free[x, y] for x, y in cells):
                    other = cells[-1]
                    if cost + step < best.get(other, 1 << 30):
                        best[other] = cost + step
                        heapq.heappush(queue, (cost + step, other))
    field = np.full(free.shape, UNREACHABLE)
    for cell, cost in best.items():
        field[cell] = cost
    return field


def one(shape, cell):
    grid = np.zeros(shape, bool)
    grid[cell] = True
    return grid


def test_straight_diagonal_and_knights_moves_cost_5_7_and_11():
    field = distance_field(np.ones((5, 5), bool), one((5, 5), (2, 2)))
    assert field[2, 2] == 0 and field[2, 4] == 10 and field[1, 1] == 7 and field[0, 1] == 11 and field[0, 0] == 14


@pytest.mark.parametrize("seed", range(4))
def test_the_field_equals_a_slow_dijkstra_on_cluttered_grids(seed):
    rng = np.random.default_rng(seed)
    free = rng.random((14, 17)) > 0.3
    target = rng.random(free.shape) > 0.97
    target[tuple(np.argwhere(free)[0])] = True
    np.testing.assert_array_equal(distance_field(free, target), slow_field(free, target))


def test_in_the_open_the_field_is_within_two_percent_of_the_straight_line():
    field = distance_field(np.ones((101, 101), bool), one((101, 101), (50, 50))) / 5
    rows, cols = np.mgrid[:101, :101]
    straight = np.hypot(rows - 50, cols - 50)
    ratio = field[straight > 0] / straight[straight > 0]
    assert ratio.min() >= 0.983 and ratio.max() <= 1.02


def test_a_path_does_not_squeeze_between_two_corners():
    free = np.array([[1, 0], [0, 1]], bool)
    assert distance_field(free, one((2, 2), (0, 0)))[1, 1] == UNREACHABLE


def test_a_target_on_a_blocked_cell_does_not_count():
    free = np.array([[1, 1, 0]], bool)
    assert (distance_field(free, one((1, 3), (0, 2))) == UNREACHABLE).all()


def test_grids_of_two_shapes_are_refused():
    with pytest.raises(InputError, match="one shape"):
        distance_field(np.ones((2, 2), bool), np.ones((3, 2), bool))
