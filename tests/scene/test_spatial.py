"""Pair-wise spatial features and the attention bias, against values worked out by hand."""

import math

import torch

from scene.spatial import SelfAttention, SpatialLayer, Speakers, bearings, key_mask, pair_features, spatial_bias

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


def test_the_released_code_counts_empty_slots_at_the_origin_as_far_away():
    centres = torch.tensor([[[30.0, 0, 0], [33, 4, 0], [0, 0, 0]]])  # 5 apart, the farther one 33.24 from the origin
    valid = torch.tensor([[True, True, False]])
    of_three = pair_features(centres, valid, farthest="padded", slots=3)
    far = math.sqrt(33**2 + 4**2)
    torch.testing.assert_close(of_three[0, 0, 1], torch.tensor([5 / far, 0, 1, -0.8, -0.6]))
    torch.testing.assert_close(of_three[0, 0, 0], torch.tensor([1e-5 / far, 0, 1, 0, 0]))
    assert of_three[0, 2].abs().max() == 0 and of_three[0, :, 2].abs().max() == 0
    full = pair_features(centres[:, :2], valid[:, :2], farthest="padded", slots=2)  # no slot is empty
    torch.testing.assert_close(full[0, 0, 1, 0], torch.tensor(1.0))
    torch.testing.assert_close(
        pair_features(centres[:, :2], valid[:, :2], farthest="padded", slots=3), of_three[:, :2, :2]
    )


def test_sentences_share_the_pairs_of_their_scene_in_any_order():
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(2, 4, 3, generator=generator)
    valid = torch.tensor([[True] * 4, [True, True, True, False]])
    pairs = pair_features(centres, valid)
    weights = torch.randn(4, 4, 3, 6, generator=generator)
    fit = torch.randn(4, 4, 2, generator=generator)
    regular, mixed = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 0, 1, 1])
    assert Speakers.of(regular, 2).each == 2 and Speakers.of(mixed, 2).each == 0
    assert Speakers.of(torch.zeros(4, dtype=torch.int64), 1).each == 4
    assert Speakers.of(torch.tensor([0, 1, 0, 1]), 2).each == 0
    for scene in (regular, mixed):
        speakers = Speakers.of(scene, 2)
        slow = torch.stack([spatial_bias(weights[s : s + 1], pairs[b : b + 1])[0] for s, b in enumerate(scene)])
        torch.testing.assert_close(speakers.bias(weights, pairs), slow)
        places = (pairs, centres, valid)
        slow = [bearings(fit[s : s + 1], *(x[b : b + 1] for x in places))[0] for s, b in enumerate(scene)]
        torch.testing.assert_close(speakers.bearings(fit, *places), torch.stack(slow))


def test_attention_is_the_softmax_of_scaled_products_and_the_mask():
    torch.manual_seed(0)
    attention = SelfAttention(8, 2)
    x, mask = torch.randn(1, 3, 8), torch.randn(1, 2, 3, 3)
    q, k, v = (part.view(3, 2, 4) for part in attention.qkv(x)[0].chunk(3, -1))
    rows = []
    for i in range(3):
        heads = []
        for h in range(2):
            share = torch.stack([q[i, h] @ k[j, h] / 2 + mask[0, h, i, j] for j in range(3)]).softmax(0)
            heads.append(sum(share[j] * v[j, h] for j in range(3)))
        rows.append(torch.cat(heads))
    torch.testing.assert_close(attention(x, mask)[0], attention.out(torch.stack(rows)))


def test_post_norm_ends_in_a_norm_and_pre_norm_in_a_sum():
    torch.manual_seed(0)
    x, mask = torch.randn(2, 3, 8), key_mask(torch.ones(2, 3, dtype=torch.bool), torch.float32)
    post = SpatialLayer(8, 2, 16, 0.0, norm="post", activation="relu", bias="none")
    middle = post.norm_attention(x + post.attention(x, mask))
    feed = post.feed[3](post.feed[0](middle).clamp(min=0))
    torch.testing.assert_close(post(x, mask), post.norm_feed(middle + feed))
    pre = SpatialLayer(8, 2, 16, 0.0, bias="none")
    middle = x + pre.attention(pre.norm_attention(x), mask)
    torch.testing.assert_close(pre(x, mask), middle + pre.feed(pre.norm_feed(middle)))


def test_a_static_bias_has_the_same_weights_for_every_query():
    torch.manual_seed(0)
    layer = SpatialLayer(8, 2, 16, 0.0, bias="static")
    with torch.no_grad():
        layer.weights.weight.copy_(torch.tensor([[1.0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]))
        layer.weights.bias.copy_(torch.tensor([-0.5, 0.0]))
    pairs = pair_features(torch.tensor([[[0.0, 0, 0], [1, 0, 0]]]), ALL)
    near, far = math.log(1 / (1 + math.exp(0.5))), math.log(1 / (1 + math.exp(-0.5)))
    bias = layer._bias(torch.randn(1, 2, 8), pairs, None)
    torch.testing.assert_close(bias[0, 0], torch.tensor([[near, far], [far, near]]))
    torch.testing.assert_close(bias[0, 1], torch.full((2, 2), -math.log(2)))
