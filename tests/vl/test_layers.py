"""The layer against a slow second implementation, and what its masks let through."""

import math

import pytest
import torch
from torch import nn

from core.errors import InputError
from vl.layers import Attention, Block, causal_mask, key_mask, prefix_mask, start_at_random


def slow_attention(attention: Attention, x, context, looks):
    """Head by head, query by query, from the definition."""
    width = x.shape[1]
    size = width // attention.heads
    weight, bias = attention.qkv.weight, attention.qkv.bias
    q = x @ weight[:width].T + bias[:width]
    k = context @ weight[width : 2 * width].T + bias[width : 2 * width]
    v = context @ weight[2 * width :].T + bias[2 * width :]
    seen = torch.zeros_like(x)
    for head in range(attention.heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(x)):
            keys = [j for j in range(len(context)) if looks[i][j]]
            score = torch.stack([q[i, part] @ k[j, part] / math.sqrt(size) for j in keys]).softmax(0)
            seen[i, part] = sum(s * v[j, part] for s, j in zip(score, keys))
    return seen @ attention.out.weight.T + attention.out.bias


def test_attention_equals_its_definition_with_itself_and_with_a_context():
    torch.manual_seed(0)
    attention = Attention(8, 2)
    x, context = torch.randn(3, 8), torch.randn(4, 8)
    every = torch.ones(3, 3, dtype=torch.bool)
    some = torch.tensor([[1, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]]).bool()
    torch.testing.assert_close(attention(x[None])[0], slow_attention(attention, x, x, every))
    torch.testing.assert_close(
        attention(x[None], context[None], some[None, None])[0], slow_attention(attention, x, context, some)
    )


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_block_is_three_sublayers_each_added_to_its_input(norm):
    torch.manual_seed(1)
    block = Block(8, 2, 12, norm=norm, cross=True, activation="relu")
    for layer_norm in (block.attention_norm, block.cross_norm, block.feed_norm):
        nn.init.normal_(layer_norm.weight)
        nn.init.normal_(layer_norm.bias)
    x, context = torch.randn(2, 3, 8), torch.randn(2, 4, 8)
    steps = [
        (block.attention_norm, block.attention),
        (block.cross_norm, lambda y: block.cross(y, context)),
        (block.feed_norm, lambda y: block.shrink(block.grow(y).clamp(min=0))),
    ]
    expected = x
    for layer_norm, step in steps:
        expected = expected + step(layer_norm(expected)) if norm == "pre" else layer_norm(expected + step(expected))
    torch.testing.assert_close(block(x, context), expected)


def test_a_block_without_a_context_leaves_its_cross_attention_out():
    torch.manual_seed(2)
    with_cross = Block(8, 2, 16, cross=True)
    without = Block(8, 2, 16)
    without.load_state_dict(with_cross.state_dict(), strict=False)
    x = torch.randn(2, 3, 8)
    torch.testing.assert_close(with_cross(x), without(x))


def test_masks_by_hand():
    text, image = torch.tensor([[True, True, False]]), torch.tensor([[True, True]])
    assert key_mask(text).tolist() == [[[[True, True, False]]]]
    assert causal_mask(text)[0, 0].int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert prefix_mask(text, image)[0, 0].int().tolist() == [
        [1, 0, 0, 1, 1],
        [1, 1, 0, 1, 1],
        [1, 1, 1, 1, 1],
        [0, 0, 0, 1, 1],
        [0, 0, 0, 1, 1],
    ]


def test_the_start_keeps_the_size_of_signals_at_any_width():
    torch.manual_seed(3)
    for width in (64, 768):
        layer = nn.Sequential(nn.Linear(width, 2000))
        start_at_random(layer)
        size = layer(torch.randn(50, width)).std().item()
        assert size == pytest.approx(0.02 * 768**0.5, rel=0.05)
    patches = nn.Sequential(nn.Conv2d(3, 2000, 8, stride=8))
    start_at_random(patches)
    assert patches(torch.randn(50, 3, 8, 8)).std().item() == pytest.approx(0.02 * 768**0.5, rel=0.05)


def test_a_width_that_does_not_split_over_heads_is_refused():
    with pytest.raises(InputError, match="width=10 does not split over heads=4"):
        Block(10, 4, 20)
    with pytest.raises(InputError, match="norm='middle' is unknown"):
        Block(8, 4, 20, norm="middle")
