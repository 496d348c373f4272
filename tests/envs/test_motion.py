"""Walking, turning, sliding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.motion import FORWARD_M, GridStack, move
from scene.occupancy import Occupancy


def stack(free, cell_m=0.05):
    free = np.asarray(free, bool)
    empty = np.zeros_like(free)
    return GridStack.of([Occupancy(np.zeros(2), cell_m, free, empty, np.full(free.shape, -1, np.int16), free)])


def act(grids, xy, yaw, action, slide=True):
    position, new_yaw, moved, touched = move(
        grids, np.zeros(1, np.int64), np.array([xy], float), np.array([yaw], float), np.array([action]),
        np.ones(1, bool), slide=slide,
    )  # fmt: skip
    return position[0], new_yaw[0], moved[0], bool(touched[0])


OPEN = stack(np.ones((60, 60)))


def test_forward_walks_a_quarter_metre_along_the_yaw():
    position, yaw, moved, touched = act(OPEN, (1.0, 1.0), np.pi / 2, 1)
    np.testing.assert_allclose(position, [1.0, 1.25])
    assert moved == pytest.approx(0.25) and not touched and yaw == np.pi / 2


def test_left_turns_counter_clockwise_and_right_undoes_it():
    _, left, moved, _ = act(OPEN, (1, 1), 0.1, 2)
    _, back, _, _ = act(OPEN, (1, 1), left, 3)
    assert left == pytest.approx(0.1 + np.pi / 6) and back == pytest.approx(0.1) and moved == 0


def test_twelve_turns_come_full_circle():
    yaw = 0.3
    for _ in range(12):
        _, yaw, _, _ = act(OPEN, (1, 1), yaw, 2)
    assert yaw == pytest.approx(0.3, abs=1e-12)


def test_stop_stays():
    position, yaw, moved, touched = act(OPEN, (1, 1), 0.3, 0)
    assert (*position, yaw, moved, touched) == (1, 1, 0.3, 0, False)


def test_a_wall_one_cell_thin_is_not_walked_through():
    free = np.ones((60, 60), bool)
    free[:, 25] = False  # x from 1.25 to 1.30
    position, _, moved, touched = act(stack(free), (1.2, 1.0), 0.0, 1)
    assert position[0] < 1.25 and touched and moved < 0.06


def test_along_a_wall_the_agent_slides_and_without_sliding_it_stands():
    free = np.ones((60, 60), bool)
    free[:, 25:] = False
    yaw = np.pi / 3  # mostly along +y
    slid, _, moved, touched = act(stack(free), (1.24, 1.0), yaw, 1)
    stood, _, still, _ = act(stack(free), (1.24, 1.0), yaw, 1, slide=False)
    assert slid[1] == pytest.approx(1.0 + FORWARD_M * np.sin(yaw)) and touched and moved < FORWARD_M
    np.testing.assert_allclose(stood, [1.24, 1.0])
    assert still == 0


def test_the_edge_of_the_grid_is_a_wall():
    position, _, _, touched = act(OPEN, (2.95, 1.0), 0.0, 1)
    assert position[0] < 3.0 and touched


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(-np.pi, np.pi))
def test_agents_stay_on_free_cells_and_sliding_never_gains_speed(seed, yaw):
    rng = np.random.default_rng(seed)
    free = rng.random((20, 20)) > 0.35
    grids = stack(free)
    row, column = rng.permutation(np.argwhere(free))[0]
    xy = (np.array([column, row]) + rng.random(2) * 0.98 + 0.01) * 0.05
    for _ in range(4):
        xy, _, moved, _ = act(grids, xy, yaw, 1)
        assert grids.is_free(np.zeros(1, np.int64), xy[None]).all() and moved <= FORWARD_M + 1e-9
