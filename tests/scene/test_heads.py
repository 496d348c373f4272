"""Heads on top of the joint transformer."""

import math

import pytest
import torch

from scene.heads import AnswerHead, AttentionFlatten, object_head, word_head


def test_flattening_weighs_tokens_by_a_softmax_of_their_scores():
    flatten = AttentionFlatten(2, 2, 2, 0.0)
    with torch.no_grad():
        flatten.score[0].weight.copy_(torch.eye(2))
        flatten.score[3].weight.copy_(torch.tensor([[1.0, 0.0]]))
        flatten.out.weight.copy_(torch.eye(2))
        for part in (flatten.score[0], flatten.score[3], flatten.out):
            part.bias.zero_()
    x = torch.tensor([[[0.0, 3.0], [2.0, 1.0], [9.0, 9.0]]])
    gelu = 2 * 0.5 * (1 + math.erf(2 / math.sqrt(2)))  # scores are gelu(0) = 0 and gelu(2)
    share = math.exp(gelu) / (1 + math.exp(gelu))
    expected = [share * 2, (1 - share) * 3 + share * 1]
    found = flatten(x, torch.tensor([[True, True, False]]))[0].tolist()
    assert found == pytest.approx(expected, rel=1e-5)  # the third token is padding


def test_answers_do_not_depend_on_padding():
    torch.manual_seed(0)
    head = AnswerHead(12, 5, 0.0, 0.0).eval()
    objects, words = torch.randn(1, 4, 12), torch.randn(1, 6, 12)
    all_of = torch.ones(1, 3, dtype=torch.bool)
    alone = head(objects[:, :3], all_of, words[:, :3], all_of)
    padded = head(objects, torch.tensor([[True] * 3 + [False]]), words, torch.tensor([[True] * 3 + [False] * 3]))
    torch.testing.assert_close(padded, alone)
    assert alone.shape == (1, 5)


def test_heads_keep_the_leading_dimensions():
    x = torch.randn(2, 3, 8)
    assert object_head(8, 0.0)(x).shape == (2, 3, 1) and word_head(8, 20)(x).shape == (2, 3, 20)
