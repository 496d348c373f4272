"""Losses against values worked out by hand or a slow second implementation."""

import math

import pytest
import torch

from scene.losses import (
    IGNORED,
    INITIAL_LOG_SCALE,
    anchor_loss,
    answer_loss,
    info_nce,
    mask_words,
    masked_word_loss,
    member_loss,
    object_class_loss,
    referral_contrast,
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
    assert masked_word_loss(logits[:, 1], target[:, 1]).item() == pytest.approx(math.log(4))  # only where it is asked
    assert masked_word_loss(logits[0, :0], target[0, :0]).item() == 0.0


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


def test_member_loss_asks_each_object_for_itself_and_skips_padding():
    members = torch.tensor([[0.0, math.log(3), -math.inf], [-math.log(3), 0.0, 0.0]], requires_grad=True)
    meant = torch.tensor([[False, True, False], [False, False, False]])  # one target; none
    first = math.log(2) - math.log(3 / 4)
    second = -math.log(3 / 4) + 2 * math.log(2)
    loss = member_loss(members, meant)
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)
    assert loss.item() == member_loss(members, meant.float()).item()
    loss.backward()
    assert torch.isfinite(members.grad).all() and members.grad[0, 2] == 0


def test_answer_loss_takes_any_number_of_right_answers():
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    right = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    expected = (math.log(2) - math.log(3 / 4) + 2 * math.log(2)) / 2
    assert answer_loss(logits, right).item() == pytest.approx(expected, rel=1e-6)


def test_object_class_loss_smooths_the_label_and_leaves_the_text_alone():
    features = torch.tensor([[math.log(3), 0.0]], requires_grad=True)
    text = torch.eye(2, requires_grad=True)
    loss = object_class_loss(features, text, torch.tensor([0]), smoothing=0.3)
    expected = -(0.85 * math.log(3 / 4) + 0.15 * math.log(1 / 4))
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert text.grad is None and features.grad is not None


def test_sentences_about_one_object_are_positives_of_each_other():
    objects, text = torch.tensor([[1.0, 0], [1, 0], [0, 1]]), torch.tensor([[2.0, 0], [2, 0], [0, 2]])
    told_apart = referral_contrast(objects, text, torch.tensor(1.0)).item()
    e = math.e
    row, last = math.log((2 * e + 1) / e), math.log((2 + e) / e)
    assert told_apart == pytest.approx((2 * row + last) / 3, rel=1e-5)
    merged = referral_contrast(objects, text, torch.tensor(1.0), torch.tensor([0, 0, 1])).item()
    assert merged == pytest.approx(told_apart, rel=1e-5)  # both are equally near, so sharing costs nothing
    apart = torch.tensor([[2.0, 0], [0, 2], [0, 2]])
    split = referral_contrast(objects, apart, torch.tensor(1.0), torch.tensor([0, 0, 1])).item()
    assert split > merged


def test_a_mean_over_slots_counts_empty_ones_however_far_the_batch_is_padded():
    objects, valid = torch.tensor([[[3.0], [6.0], [99.0]]]), torch.tensor([[True, True, False]])
    empty = torch.tensor([[1.0]])
    assert scene_pool(objects, valid, "mean").item() == 4.5
    assert scene_pool(objects, valid, "mean", slots=4, empty=empty).item() == (3 + 6 + 1 + 1) / 4
    assert scene_pool(objects[:, :2], valid[:, :2], "mean", slots=4, empty=empty).item() == (3 + 6 + 1 + 1) / 4
    assert scene_pool(objects, valid, "mean", slots=1, empty=empty).item() == 4.5


def test_losses_of_half_precision_features_are_single_precision():
    half = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    scale, target = torch.tensor(10.0), torch.tensor([0, 1, 2, 3])
    for loss in (
        info_nce(half, half, scale),
        object_class_loss(half, half, target),
        referral_loss(half, target),
        member_loss(half, half > 0),
        answer_loss(half, half > 0),
        masked_word_loss(half[None], target[None]),
    ):
        assert loss.dtype == torch.float32
