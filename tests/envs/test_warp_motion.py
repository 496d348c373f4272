"""Warp's walking (on the CPU) beside numba's."""

import numpy as np
import pytest
import torch

from core.errors import InputError
from envs import motion, warp_motion
from envs.geodesic import UNREACHABLE, distance_field
from envs.motion import GridStack
from envs.warp_motion import DeviceGrids, device_units
from scene.occupancy import Occupancy


def stack(seed: int, doors: bool = False) -> GridStack:
    """Three homes of random cells and sizes; with doors, some cells are blocked by one of three."""
    rng = np.random.default_rng(seed)
    grids = []
    for rows, columns in ((30, 40), (25, 25), (50, 31)):
        free = rng.random((rows, columns)) > 0.25
        free[rows // 2 - 3 : rows // 2 + 3] = True
        shut = rng.choice([0, 0, 0, 1, 2, 4], (rows, columns)).astype(np.uint32) * free if doors else None
        origin = rng.uniform(-3, 3, 2)
        owner = np.full(free.shape, -1, np.int16)
        grids.append(Occupancy(origin, 0.05, free, np.zeros_like(free), owner, free, shut=shut))
    return GridStack.of(grids)


def starts(grids: GridStack, batch: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    home = rng.integers(0, len(grids.offset), batch)
    position = np.zeros((batch, 2))
    for b, h in enumerate(home):
        rows, columns = grids.shape[h]
        cells = np.flatnonzero(grids.free[grids.offset[h] : grids.offset[h] + rows * columns])
        row, column = divmod(int(rng.choice(cells)), columns)
        position[b] = grids.origin[h] + (np.array([column, row]) + rng.uniform(0.05, 0.95, 2)) * 0.05
    return home, position, rng.uniform(-np.pi, np.pi, batch)


def on_device(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(np.array(array)) for array in arrays]


@pytest.mark.parametrize("slide", [True, False])
@pytest.mark.parametrize("doors", [True, False])
def test_random_walks_take_the_same_way_as_on_the_cpu(slide: bool, doors: bool):
    grids = stack(1, doors)
    device, rng = DeviceGrids.of(grids, "cpu"), np.random.default_rng(2)
    home, position, yaw = starts(grids, 200, 3)
    mask = rng.integers(0, 8, 200)
    options = {"doors": mask} if doors else {}
    ever_touched, walked = np.zeros(200, bool), np.zeros(200)
    for step in range(30):
        forward = rng.choice([0.25, 0.25, -0.2, 0.0, 0.1037], 200)
        turn = rng.choice([0.0, np.pi / 6, -np.pi / 6, 0.31], 200)
        drift = {"drift": rng.normal(0, 0.05, 200)} if step % 2 else {}
        expected = motion.move(grids, home, position, yaw, forward, turn, slide=slide, **options, **drift)
        given = on_device(home, position, yaw, forward, turn)
        more = {name: torch.from_numpy(value) for name, value in {**options, **drift}.items()}
        found = warp_motion.move(device, *given, slide=slide, **more)
        for mine, theirs, name in zip(found, expected, ("position", "yaw", "moved", "touched")):
            np.testing.assert_allclose(mine.numpy(), theirs, atol=1e-12, rtol=0, err_msg=name)
        position, yaw, moved, touched = expected
        ever_touched |= touched
        walked += moved
    assert ever_touched.mean() > 0.5 and (walked > 1).mean() > 0.3


def test_a_full_turn_and_the_wrap_at_pi_are_those_of_the_cpu():
    grids = stack(1)
    device = DeviceGrids.of(grids, "cpu")
    home, position, _ = starts(grids, 8, 0)
    yaw = np.array([np.pi - 1e-9, -np.pi, 3.0, -3.0, 0.0, 1e-17, 2.9, -2.9])
    for turn in (np.pi / 6, -np.pi / 6, 4.0, -4.0):
        _, expected, _, _ = motion.move(grids, home, position, yaw, np.zeros(8), np.full(8, turn))
        _, found, _, _ = warp_motion.move(device, *on_device(home, position, yaw, np.zeros(8), np.full(8, turn)))
        np.testing.assert_array_equal(found.numpy(), expected)
        assert (np.abs(expected) <= np.pi).all()


def test_walking_distances_are_read_from_the_same_cells():
    grids = stack(4)
    home, position, _ = starts(grids, 300, 5)
    cells = int(grids.shape.prod(axis=1).max())
    units = np.full((3, 2, cells), UNREACHABLE, np.uint16)
    for h in range(3):
        rows, columns = grids.shape[h]
        free = grids.free[grids.offset[h] : grids.offset[h] + rows * columns].reshape(rows, columns)
        for stage in range(2):
            target = np.zeros_like(free)
            target[rows // 2, 3 + stage * 15] = True
            units[2 - h, stage, : rows * columns] = distance_field(free, target).ravel()
    slot, stage = 2 - home, np.arange(300) % 2
    expected = units[slot, stage, grids.cell(home, position)]
    found = warp_motion.distance(
        DeviceGrids.of(grids, "cpu"), device_units(units, "cpu"), 0.01, *on_device(home, slot, stage, position)
    )
    np.testing.assert_array_equal(found.numpy(), np.where(expected == UNREACHABLE, np.inf, expected * 0.01))
    assert np.isinf(found.numpy()).any() and (found.numpy() < 2).any()


def test_an_empty_batch_moves_nobody():
    device = DeviceGrids.of(stack(1), "cpu")
    none = torch.zeros(0, dtype=torch.float64)
    moved = warp_motion.move(device, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2).double(), none, none, none)
    assert [len(part) for part in moved] == [0, 0, 0, 0]


def test_tensors_with_gaps_are_read_where_they_lie():
    grids = stack(1)
    device = DeviceGrids.of(grids, "cpu")
    home, position, yaw = on_device(*starts(grids, 6, 0))
    ahead, still = torch.full((6,), 0.25, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    expected = warp_motion.move(device, home, position, yaw, ahead, still)
    wide = torch.zeros(6, 5, dtype=torch.float64)
    wide[:, 1:3], wide[:, 4] = position, yaw
    found = warp_motion.move(device, home, wide[:, 1:3], wide[:, 4], ahead, still)
    assert all(torch.equal(a, b) for a, b in zip(found, expected)) and bool((found[2] > 0).any())


def test_tensors_that_do_not_fit_are_named():
    grids = stack(1)
    device = DeviceGrids.of(grids, "cpu")
    home, position, yaw = on_device(*starts(grids, 4, 0))
    still = torch.zeros(4, dtype=torch.float64)
    for call, words in (
        (lambda: warp_motion.move(device, home, position.float(), yaw, still, still), "position is torch.float32"),
        (lambda: warp_motion.move(device, home, position, yaw[:3], still, still), r"yaw is .* shape \(3,\)"),
        (lambda: warp_motion.move(device, home, position, yaw, still, still, drift=still[:2]), "2 drifts"),
        (lambda: warp_motion.move(device, home.int(), position, yaw, still, still), "home is torch.int32"),
    ):
        with pytest.raises(InputError, match=words):
            call()


@pytest.mark.gpu
def test_random_walks_on_cuda_stay_within_a_hair_of_the_cpu():
    grids = stack(1, doors=True)
    device, rng = DeviceGrids.of(grids, "cuda"), np.random.default_rng(2)
    home, position, yaw = starts(grids, 200, 3)
    differ = 0
    for _ in range(30):
        forward, turn = rng.choice([0.25, 0.0], 200), rng.choice([0.0, np.pi / 6], 200)
        expected = motion.move(grids, home, position, yaw, forward, turn)
        found = warp_motion.move(device, *(part.cuda() for part in on_device(home, position, yaw, forward, turn)))
        # a last bit of the cosine may put a step into the neighbouring cell, rarely
        differ += int((np.abs(found[0].cpu().numpy() - expected[0]).max(axis=1) > 1e-9).sum())
        position, yaw = expected[:2]
    assert differ <= 6
