"""Point operations against hand-made cases and against each other."""

import numpy as np
import pytest
import torch

from core.errors import InputError
from scene.pointops import ball_query, ball_query_torch, farthest_points, farthest_points_torch, gather


def line(*x: float) -> torch.Tensor:
    return torch.tensor([[[value, 0.0, 0.0] for value in x]])


def test_farthest_points_start_at_the_first_and_go_to_the_far_end_then_the_middle():
    assert farthest_points(line(0, 1, 2, 9, 5), 3).tolist() == [[0, 3, 4]]


def test_ties_go_to_the_lower_index():
    assert farthest_points(line(0, -2, 2), 2).tolist() == [[0, 1]]


def test_a_cloud_of_one_place_repeats_index_zero():
    assert farthest_points(line(3, 3, 3), 3).tolist() == [[0, 0, 0]]


def test_a_ball_keeps_index_order_and_repeats_its_first_point():
    points, centres = line(5, 1, 0, 0.5), line(0, 9)
    assert ball_query(points, centres, 1.0, 4).tolist() == [[[1, 2, 3, 1], [0, 0, 0, 0]]]
    assert ball_query(points, centres, 1.0, 2).tolist() == [[[1, 2], [0, 0]]]


@pytest.mark.parametrize("seed", range(3))
def test_loops_and_tensor_operations_give_the_same_indices(seed):
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(4, 50, 3, generator=generator).mul(8).round().div(8)  # a coarse grid: many ties
    chosen = farthest_points(points, 12)
    assert torch.equal(chosen, farthest_points_torch(points, 12))
    centres = gather(points, chosen)
    for radius, samples in ((0.25, 5), (0.5, 60)):
        assert torch.equal(
            ball_query(points, centres, radius, samples), ball_query_torch(points, centres, radius, samples)
        )


def test_farthest_points_agree_with_a_slow_definition():
    points = torch.from_numpy(np.random.default_rng(0).random((1, 30, 3), dtype=np.float32))
    chosen = [0]
    for _ in range(5):
        gaps = [min(float((p - points[0, c]).pow(2).sum()) for c in chosen) for p in points[0]]
        chosen.append(int(np.argmax(gaps)))
    assert farthest_points(points, 6).tolist() == [chosen]


def test_gather_takes_each_items_own_rows():
    values = torch.arange(12.0).view(2, 3, 2)
    assert gather(values, torch.tensor([[2], [0]])).tolist() == [[[4.0, 5.0]], [[6.0, 7.0]]]


def test_wrong_shapes_and_counts_are_refused():
    with pytest.raises(InputError, match=r"\(B, P, 3\)"):
        farthest_points(torch.zeros(4, 3), 1)
    with pytest.raises(InputError, match="4 of 3"):
        farthest_points(torch.zeros(1, 3, 3), 4)
    with pytest.raises(InputError, match="radius > 0"):
        ball_query(torch.zeros(1, 3, 3), torch.zeros(1, 1, 3), 0.0, 1)
