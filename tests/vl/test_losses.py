"""Facts about vl/losses.py."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from core.errors import InputError
from vl.losses import LOSSES, sigmoid_loss, softmax_loss


def unit(rows: int, dim: int, seed: int) -> torch.Tensor:
    return normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def test_softmax_loss_of_distinct_pairs_is_the_mean_of_two_cross_entropies():
    image, text, scale = unit(6, 4, 0), unit(6, 4, 1), torch.tensor(7.0, dtype=torch.float64)
    logits, target = scale * image @ text.T, torch.arange(6)
    expected = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(softmax_loss(image, text, scale), expected)


def test_two_equal_rows_cost_ln_two_as_contrasts_and_nothing_extra_once_ignored():
    same = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    scale = torch.tensor(5.0)
    everything = torch.ones(2, 2, dtype=torch.bool)
    assert softmax_loss(same, same, scale).item() == pytest.approx(math.log(2))
    assert softmax_loss(same, same, scale, positive=everything).item() == pytest.approx(math.log(2))
    assert softmax_loss(same, same, scale, ignored=everything).item() == pytest.approx(0.0)


def test_a_positive_pair_pulls_where_a_contrast_would_push():
    image = torch.tensor([[1.0, 0.0], [0.6, 0.8]], requires_grad=True)
    text = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    for positive, sign in ((None, 1.0), (torch.ones(2, 2, dtype=torch.bool), -1.0)):
        (gradient,) = torch.autograd.grad(softmax_loss(image, text, torch.tensor(1.0), positive=positive), image)
        assert gradient[0, 1].item() * sign > 0  # towards text 1: up the loss as a contrast, down as a match


def test_sigmoid_loss_is_the_sum_over_all_pairs_written_out():
    image, text = unit(4, 3, 2), unit(4, 3, 3)
    scale, bias = torch.tensor(10.0, dtype=torch.float64), torch.tensor(-10.0, dtype=torch.float64)
    positive, ignored = torch.zeros(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    positive[0, 2] = ignored[1, 3] = ignored[2, 2] = True  # the diagonal cannot be ignored
    expected = 0.0
    for i in range(4):
        for j in range(4):
            if (i, j) == (1, 3):
                continue
            z = 1.0 if i == j or (i, j) == (0, 2) else -1.0
            logit = 10.0 * float(image[i] @ text[j]) - 10.0
            expected += math.log1p(math.exp(-z * logit)) / 4
    assert sigmoid_loss(image, text, scale, bias, positive, ignored).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_stay_finite_with_ignored_pairs_and_shapes_are_checked(name):
    image, text = unit(4, 3, 4).requires_grad_(), unit(4, 3, 5)
    ignored = torch.ones(4, 4, dtype=torch.bool)
    loss = LOSSES[name](image, text, torch.tensor(100.0), torch.tensor(-10.0), None, ignored)
    (gradient,) = torch.autograd.grad(loss, image)
    assert torch.isfinite(gradient).all()
    with pytest.raises(InputError, match="two .B, D. tensors"):
        LOSSES[name](image, text[:3], torch.tensor(1.0))
    with pytest.raises(InputError, match="expected bool"):
        LOSSES[name](image, text, torch.tensor(1.0), positive=torch.ones(4, 4))
