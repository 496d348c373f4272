"""Point operations against hand-made cases and against each other."""

import numpy as np
import pytest
import torch

from core.errors import InputError
from scene.pointops import (
    ball_query,
    ball_query_torch,
    farthest_points,
    farthest_points_torch,
    gather,
    grouped,
    neighbourhoods,
    segment_max,
)


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


def test_more_threads_give_the_same_indices(monkeypatch):
    points = torch.rand(5, 40, 3, generator=torch.Generator().manual_seed(3))
    chosen = farthest_points(points, 7)
    index = ball_query(points, gather(points, chosen), 0.3, 6)
    monkeypatch.setattr("core.threads.granted", lambda: 3)
    assert torch.equal(farthest_points(points, 7), chosen)
    assert torch.equal(ball_query(points, gather(points, chosen), 0.3, 6), index)


def test_neighbourhoods_list_each_point_of_a_ball_once_and_say_how_many_slots_it_fills():
    index = torch.tensor([[[1, 2, 3, 1], [0, 0, 0, 0]], [[0, 2, 3, 4], [2, 4, 2, 2]]])
    around = neighbourhoods(index, 5)
    assert around.point.tolist() == [1, 2, 3, 0, 5, 7, 8, 9, 7, 9]
    assert around.centre.tolist() == [0, 0, 0, 1, 2, 2, 2, 2, 3, 3]
    assert around.start.tolist() == [0, 3, 4, 8, 10]
    assert around.repeats.tolist() == [2, 1, 1, 4, 1, 1, 1, 1, 3, 1]


def test_grouped_rows_are_seen_from_their_centre_by_loops_and_by_tensor_operations_with_gradient():
    points = torch.tensor([[[1.0, 2, 3, 7], [4, 5, 6, 8]], [[0, 0, 0, 9], [1, 1, 1, 5]]])
    centres = torch.tensor([[[1.0, 1, 1]], [[0, 0, 1]]])
    around = neighbourhoods(torch.tensor([[[0, 1]], [[1, 1]]]), 2)
    expected = [[0, 1, 2, 7], [3, 4, 5, 8], [1, 1, 0, 5]]
    assert grouped(points, centres, around).tolist() == expected
    points.requires_grad_()
    rows = grouped(points, centres, around)
    rows.sum().backward()
    assert rows.tolist() == expected and points.grad[:, :, 3].tolist() == [[1, 1], [0, 1]]


def test_the_largest_of_a_segment_gets_the_gradient_and_of_equals_the_first():
    rows = torch.tensor([[1.0, 5.0], [3.0, 5.0], [-2.0, -1.0]], requires_grad=True)
    start = torch.tensor([0, 2, 3])
    best = segment_max(rows, start)
    assert best.tolist() == [[3.0, 5.0], [-2.0, -1.0]]
    best.backward(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert rows.grad.tolist() == [[0.0, 2.0], [1.0, 0.0], [3.0, 4.0]]
    assert segment_max(rows.detach().bfloat16(), start).tolist() == best.tolist()


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
