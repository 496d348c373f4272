"""Walking, turning, sliding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.motion import FORWARD_M, LONGEST_M, TURN_RAD, GridStack, move
from scene.occupancy import Occupancy

STOP, FORWARD, LEFT, RIGHT = (0.0, 0.0), (FORWARD_M, 0.0), (0.0, TURN_RAD), (0.0, -TURN_RAD)


def stack(free, cell_m=0.05, shut=None):
    free = np.asarray(free, bool)
    empty = np.zeros_like(free)
    sight = np.full(free.shape, -1, np.int16)
    return GridStack.of([Occupancy(np.zeros(2), cell_m, free, empty, sight, free, shut=shut)])


def act(grids, xy, yaw, action, slide=True, **options):
    position, new_yaw, moved, touched = move(
        grids, np.zeros(1, np.int64), np.array([xy], float), np.array([yaw], float), *np.array([action]).T.copy(),
        slide=slide, **options,
    )  # fmt: skip
    return position[0], new_yaw[0], moved[0], bool(touched[0])


OPEN = stack(np.ones((60, 60)))


def test_forward_walks_a_quarter_metre_along_the_yaw():
    position, yaw, moved, touched = act(OPEN, (1.0, 1.0), np.pi / 2, FORWARD)
    np.testing.assert_allclose(position, [1.0, 1.25])
    assert moved == pytest.approx(0.25) and not touched and yaw == np.pi / 2


def test_left_turns_counter_clockwise_and_right_undoes_it():
    _, left, moved, _ = act(OPEN, (1, 1), 0.1, LEFT)
    _, back, _, _ = act(OPEN, (1, 1), left, RIGHT)
    assert left == pytest.approx(0.1 + np.pi / 6) and back == pytest.approx(0.1) and moved == 0


def test_twelve_turns_come_full_circle():
    yaw = 0.3
    for _ in range(12):
        _, yaw, _, _ = act(OPEN, (1, 1), yaw, LEFT)
    assert yaw == pytest.approx(0.3, abs=1e-12)


def test_stop_stays():
    position, yaw, moved, touched = act(OPEN, (1, 1), 0.3, STOP)
    assert (*position, yaw, moved, touched) == (1, 1, 0.3, 0, False)


def test_a_wall_one_cell_thin_is_not_walked_through():
    free = np.ones((60, 60), bool)
    free[:, 25] = False  # x from 1.25 to 1.30
    position, _, moved, touched = act(stack(free), (1.2, 1.0), 0.0, FORWARD)
    assert position[0] < 1.25 and touched and moved < 0.06


def test_along_a_wall_the_agent_slides_and_without_sliding_it_stands():
    free = np.ones((60, 60), bool)
    free[:, 25:] = False
    yaw = np.pi / 3  # mostly along +y
    slid, _, moved, touched = act(stack(free), (1.24, 1.0), yaw, FORWARD)
    stood, _, still, _ = act(stack(free), (1.24, 1.0), yaw, FORWARD, slide=False)
    assert slid[1] == pytest.approx(1.0 + FORWARD_M * np.sin(yaw)) and touched and moved < FORWARD_M
    np.testing.assert_allclose(stood, [1.24, 1.0])
    assert still == 0


def test_the_edge_of_the_grid_is_a_wall():
    position, _, _, touched = act(OPEN, (2.95, 1.0), 0.0, FORWARD)
    assert position[0] < 3.0 and touched


def test_speeds_walk_both_ways_along_the_old_heading_and_then_turn():
    back, yaw, moved, touched = act(OPEN, (1.0, 1.0), 0.0, (-0.1, 0.2))
    np.testing.assert_allclose(back, [0.9, 1.0])
    assert (moved, yaw, touched) == (pytest.approx(0.1), pytest.approx(0.2), False)


def test_drift_bends_the_walk_and_not_the_heading():
    position, yaw, _, _ = act(OPEN, (1.0, 1.0), 0.0, FORWARD, drift=np.array([np.pi / 2]))
    np.testing.assert_allclose(position, [1.0, 1.25])
    assert yaw == 0.0


def test_a_door_blocks_while_its_bit_is_shut():
    shut = np.zeros((60, 60), np.uint32)
    shut[:, 25:28] = 0b10  # x from 1.25 to 1.40: door 1
    grids = stack(np.ones((60, 60)), shut=shut)
    held = act(grids, (1.2, 1.0), 0.0, FORWARD, doors=np.array([0b01]))
    through = act(grids, (1.2, 1.0), 0.0, FORWARD, doors=np.array([0b10]))
    assert held[0][0] < 1.25 and held[3] and through[0][0] == pytest.approx(1.45) and not through[3]
    where = np.array([[1.3, 1.0]])
    assert [grids.is_free(np.zeros(1, np.int64), where, np.array([mask]))[0] for mask in (1, 2)] == [False, True]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(-np.pi, np.pi), st.floats(-LONGEST_M, LONGEST_M))
def test_agents_stay_on_free_cells_and_sliding_never_gains_speed(seed, yaw, length):
    rng = np.random.default_rng(seed)
    free = rng.random((20, 20)) > 0.35
    grids = stack(free)
    row, column = rng.permutation(np.argwhere(free))[0]
    xy = (np.array([column, row]) + rng.random(2) * 0.98 + 0.01) * 0.05
    for _ in range(4):
        xy, _, moved, _ = act(grids, xy, yaw, (length, 0.0))
        assert grids.is_free(np.zeros(1, np.int64), xy[None]).all() and moved <= abs(length) + 1e-9
