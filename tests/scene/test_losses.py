"""Losses against values worked out by hand or a slow second implementation."""

import math

import pytest
import torch

from scene.losses import (
    IGNORED,
    INITIAL_LOG_SCALE,
    anchor_loss,
    info_nce,
    mask_words,
    masked_word_loss,
    referral_loss,
    scale_of,
    scene_pool,
)


def test_info_nce_of_two_orthogonal_pairs_is_the_two_way_softmax():
    pairs = torch.eye(2)
    expected = -math.log(math.exp(3) / (math.exp(3) + 1))
    assert info_nce(pairs, pairs * 7, torch.tensor(3.0)).item() == pytest.approx(
        expected, rel=1e-6
    )  # length does not matter


def test_info_nce_agrees_with_a_slow_definition_when_some_captions_repeat():
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(5, 4, generator=generator), torch.randn(5, 4, generator=generator)
    ids = [0, 1, 0, 2, 1]
    unit = [[x / math.sqrt(sum(v * v for v in row)) for x in row] for row in left.tolist()]
    other = [[x / math.sqrt(sum(v * v for v in row)) for x in row] for row in right.tolist()]
    s = [[2.0 * sum(a * b for a, b in zip(u, o)) for o in other] for u in unit]

    def one_way(table: list[list[float]]) -> float:
        total = 0.0
        for i, row in enumerate(table):
            positives = [j for j in range(5) if ids[j] == ids[i]]
            log_sum = math.log(sum(math.exp(x) for x in row))
            total -= sum(row[j] - log_sum for j in positives) / len(positives)
        return total / 5

    expected = (one_way(s) + one_way([list(column) for column in zip(*s)])) / 2
    assert info_nce(left, right, torch.tensor(2.0), torch.tensor(ids)).item() == pytest.approx(expected, rel=1e-5)


def test_a_batch_of_one_caption_repeated_has_nothing_to_tell_apart():
    x = torch.ones(3, 2)
    assert info_nce(x, x, torch.tensor(5.0), torch.zeros(3, dtype=torch.int64)).item() == pytest.approx(math.log(3))


def test_the_scale_starts_at_one_over_007_is_capped_and_has_a_gradient():
    log_scale = torch.tensor(INITIAL_LOG_SCALE, requires_grad=True)
    scale_of(log_scale).backward()
    assert log_scale.grad.item() == pytest.approx(1 / 0.07, rel=1e-5)
    assert scale_of(torch.tensor(99.0)).item() == pytest.approx(100.0)


def test_referral_loss_ignores_padded_slots():
    scores = torch.tensor([[0.0, 0.0, -math.inf]])
    assert referral_loss(scores, torch.tensor([1])).item() == pytest.approx(math.log(2))


def test_anchor_loss_spreads_over_anchors_and_skips_sentences_without_any():
    fit = torch.tensor([[0.0, 0.0, -math.inf], [0.0, 0.0, 0.0]], requires_grad=True)
    shares = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    loss = anchor_loss(fit, shares)
    assert loss.item() == pytest.approx(math.log(2) / 2)
    loss.backward()
    assert torch.isfinite(fit.grad).all() and fit.grad[1].abs().max() == 0


def test_scene_pool_takes_the_maximum_of_real_objects_only():
    objects = torch.tensor([[[1.0, -5.0], [0.0, -2.0], [9.0, 9.0]]])
    assert scene_pool(objects, torch.tensor([[True, True, False]])).tolist() == [[1.0, -2.0]]


def test_masked_word_loss_counts_chosen_positions_and_is_zero_without_any():
    logits = torch.zeros(1, 3, 4, requires_grad=True)
    target = torch.tensor([[IGNORED, 2, IGNORED]])
    assert masked_word_loss(logits, target).item() == pytest.approx(math.log(4))
    assert masked_word_loss(logits, torch.full((1, 3), IGNORED)).item() == 0.0


def test_masking_hides_about_a_share_and_never_special_tokens():
    tokens = torch.randint(5, 50, (200, 20), generator=torch.Generator().manual_seed(0))
    tokens[:, 0] = 2
    special = torch.tensor([0, 2, 3])
    hidden, target = mask_words(tokens, special, 4, 50, torch.Generator().manual_seed(1))
    chosen = target != IGNORED
    assert not chosen[:, 0].any()
    assert torch.equal(hidden[~chosen], tokens[~chosen]) and torch.equal(target[chosen], tokens[chosen])
    assert 0.12 < chosen[:, 1:].float().mean() < 0.18
    assert 0.75 < (hidden[chosen] == 4).float().mean() < 0.85
    again, _ = mask_words(tokens, special, 4, 50, torch.Generator().manual_seed(1))
    assert torch.equal(again, hidden)
