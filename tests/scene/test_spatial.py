"""Pair-wise spatial features and the attention bias, against values worked out by hand."""

import math

import torch

from scene.spatial import SpatialLayer, bearings, key_mask, pair_features, spatial_bias

ALL = torch.ones(1, 2, dtype=torch.bool)


def test_features_of_a_pair_are_relative_distance_then_sines_and_cosines():
    centres = torch.tensor([[[3.0, 4.0, 12.0], [0.0, 0.0, 0.0]]])  # distance 13, horizontal part 5
    expected = torch.tensor([1.0, 12 / 13, 5 / 13, 4 / 5, 3 / 5])
    torch.testing.assert_close(pair_features(centres, ALL)[0, 0, 1], expected)
    torch.testing.assert_close(pair_features(centres, ALL)[0, 1, 0], expected * torch.tensor([1, -1, 1, -1, -1.0]))


def test_an_object_and_itself_have_zero_features_and_finite_gradients():
    centres = torch.zeros(1, 2, 3, requires_grad=True)  # two objects at one place
    features = pair_features(centres, ALL)
    features.sum().backward()
    assert features.abs().max() == 0
    assert torch.isfinite(centres.grad).all()


def test_padding_does_not_stretch_the_largest_distance():
    centres = torch.tensor([[[0.0, 0, 0], [2, 0, 0], [1, 0, 0], [900, 0, 0]]])
    valid = torch.tensor([[True, True, True, False]])
    features = pair_features(centres, valid)
    assert features[0, 0, 1, 0] == 1.0 and features[0, 0, 2, 0] == 0.5
    assert features[0, 3].abs().max() == 0 and features[0, :, 3].abs().max() == 0


def test_the_bias_is_the_log_of_a_sigmoid_of_the_weighted_features():
    weights = torch.tensor([1.0, 0, 0, 0, 0, -0.5]).expand(1, 2, 1, 6)  # reads relative distance, minus 0.5
    pairs = pair_features(torch.tensor([[[0.0, 0, 0], [1, 0, 0]]]), ALL)
    near, far = math.log(1 / (1 + math.exp(0.5))), math.log(1 / (1 + math.exp(-0.5)))
    torch.testing.assert_close(spatial_bias(weights, pairs)[0, 0], torch.tensor([[near, far], [far, near]]))


def test_a_sharp_anchor_gives_every_object_its_own_bearing_from_it():
    centres, valid = torch.tensor([[[0.0, 0, 0], [3, 4, 0], [9, 9, 9]]]), torch.tensor([[True, True, False]])
    pairs = pair_features(centres, valid)
    fit = torch.tensor([[[50.0], [0.0], [99.0]]])  # the first object fits; padding fits best of all, but is no object
    found = bearings(fit, pairs, centres, valid)[0]
    torch.testing.assert_close(found[1], torch.tensor([1, 0, 1, 0.8, 0.6, 3, 4, 0]))
    assert found[0].abs().max() < 1e-6
    halves = bearings(torch.zeros(1, 3, 1), pairs, centres, valid)[0]
    torch.testing.assert_close(halves[1], torch.tensor([0.5, 0, 0.5, 0.4, 0.3, 1.5, 2, 0]))


def test_keys_that_are_padding_change_nothing():
    torch.manual_seed(0)
    layer = SpatialLayer(16, 2, 32, 0.0).eval()
    x, centres = torch.randn(1, 5, 16), torch.randn(1, 3, 3)  # two words, three objects
    two, four = torch.ones(1, 2, dtype=torch.bool), key_mask(torch.ones(1, 4, dtype=torch.bool), x.dtype)
    alone = layer(x[:, :4], four, pair_features(centres[:, :2], two))
    valid = torch.tensor([[True, True, False]])
    padded = layer(x, key_mask(torch.cat([two, valid], 1), x.dtype), pair_features(centres, valid))
    torch.testing.assert_close(padded[:, :4], alone)
