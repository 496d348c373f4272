"""The object encoder and what it is fed."""

import math

import numpy as np
import pytest
import torch

from core.errors import InputError
from scene.objects import ObjectEncoder, location_tokens, normalise_points, object_encoder, rotate_points, subsample


def cloud(n: int, p: int = 40, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([torch.randn(n, p, 3, generator=generator), torch.rand(n, p, 3, generator=generator) * 255], -1)


def encoder() -> ObjectEncoder:
    torch.manual_seed(0)
    return object_encoder("small", 16)


def test_normalised_points_are_centred_within_radius_one_and_colours_within_one():
    points = torch.tensor([[[1.0, 0, 0, 0, 127.5, 255], [3.0, 0, 0, 255, 127.5, 0]]])
    shape, radius = normalise_points(points)
    assert radius.tolist() == [1.0]
    assert shape.tolist() == [[[-1, 0, 0, -1, 0, 1], [1, 0, 0, 1, 0, -1]]]


def test_many_points_at_one_place_far_from_the_origin_have_radius_zero():
    shape, radius = normalise_points(torch.full((1, 12, 6), 123.4567))
    assert radius.item() == 0 and (shape[..., :3] == 0).all()


def test_a_location_is_the_mean_of_the_points_not_the_middle_of_the_box():
    points = torch.zeros(1, 4, 6)
    points[0, 3, :3] = torch.tensor([4.0, 2.0, 8.0])
    assert location_tokens(points).tolist() == [[1.0, 0.5, 2.0, 4.0, 2.0, 8.0]]


def test_rotation_by_a_quarter_turn_takes_x_to_y_per_object():
    points = torch.tensor([[[1.0, 0, 5, 9, 9, 9]], [[1.0, 0, 5, 9, 9, 9]]])
    turned = rotate_points(points, torch.tensor([math.pi / 2, 0.0]))
    torch.testing.assert_close(turned, torch.tensor([[[0.0, 1, 5, 9, 9, 9]], [[1.0, 0, 5, 9, 9, 9]]]))


def test_a_feature_depends_on_its_own_object_alone_and_not_on_where_it_stands():
    net, points = encoder(), cloud(5)
    together = net.encode(points, chunk=2)
    torch.testing.assert_close(together[3:4], net.encode(points[3:4]))
    moved = points + torch.tensor([2.0, -1.0, 0.5, 0, 0, 0])
    torch.testing.assert_close(net.encode(moved), together, atol=1e-4, rtol=1e-4)


def test_colour_shape_and_size_each_change_the_feature():
    net, points = encoder(), cloud(1)
    base = net.encode(points)
    recoloured = torch.cat([points[..., :3], 255 - points[..., 3:]], -1)
    flat = points * torch.tensor([1, 1, 0.1, 1, 1, 1])
    bigger = points * torch.tensor([2, 2, 2, 1, 1, 1])
    for other in (recoloured, flat, bigger):
        assert (net.encode(other) - base).abs().max() > 1e-3


def test_objects_of_one_point_or_no_objects_are_encoded():
    net = encoder()
    assert torch.isfinite(net.encode(torch.full((2, 1, 6), 7.0))).all()
    assert torch.isfinite(net.encode(torch.full((2, 30, 6), 7.0))).all()
    assert net.encode(torch.zeros(0, 8, 6)).shape == (0, 16)


def test_a_wrong_shape_is_refused_with_the_right_one():
    with pytest.raises(InputError, match=r"\(N, P, 6\)"):
        encoder()(torch.zeros(2, 10, 3))


def test_a_subsample_takes_different_points_and_repeats_for_the_same_seed():
    points = torch.arange(10.0).view(1, 10, 1).expand(3, 10, 6)
    first = subsample(points, 4, np.random.default_rng(1))
    assert torch.equal(first, subsample(points, 4, np.random.default_rng(1)))
    assert all(len(set(row[:, 0].tolist())) == 4 for row in first)
    assert subsample(points, 10, np.random.default_rng(1))[0, :, 0].sort().values.tolist() == list(range(10))
    with pytest.raises(InputError, match="11 of 10"):
        subsample(points, 11, np.random.default_rng(1))
