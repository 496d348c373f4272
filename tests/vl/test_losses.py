"""Facts about vl/losses.py."""

import json
import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize
from torch.utils._python_dispatch import TorchDispatchMode

from core.errors import InputError
from tests.core.test_distributed import launch
from vl import losses
from vl.losses import LOSSES, local_loss, match_loss, pixel_loss, sigmoid_loss, softmax_loss, word_loss


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


def masks(count: int, seed: int) -> dict[str, torch.Tensor]:
    draw = torch.rand(2, count, count, generator=torch.Generator().manual_seed(seed))
    return {"positive": draw[0] < 0.1, "ignored": draw[1] < 0.2}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("masked", [False, True])
def test_blocks_of_rows_change_neither_the_loss_nor_its_gradients(name, masked, monkeypatch):
    leaves = [unit(23, 6, 0), unit(23, 6, 1), torch.tensor(9.0).double(), torch.tensor(-2.0).double()]
    given = masks(23, 2) if masked else {}
    found = []
    for block in (1 << 22, 5 * 23, 1):  # all rows, five rows, one row at a time
        monkeypatch.setattr(losses, "BLOCK", block)
        weights = [leaf.clone().requires_grad_() for leaf in leaves]
        loss = LOSSES[name](*weights, **given)
        found.append([loss.detach(), *torch.autograd.grad(loss, weights, allow_unused=True)])
    assert (found[0][4] is None) == (name == "softmax")
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


class Largest(TorchDispatchMode):
    """The most elements that any tensor had that came out of an operation."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("name", LOSSES)
def test_the_table_of_similarities_is_never_made(name, monkeypatch):
    monkeypatch.setattr(losses, "BLOCK", 4096)
    image, text = unit(512, 6, 0).requires_grad_(), unit(512, 6, 1).requires_grad_()
    with Largest() as largest:
        LOSSES[name](image, text, torch.tensor(10.0), torch.tensor(-10.0)).backward()
    assert 0 < largest.elements <= 4096 < 512 * 512


LOCAL = """
import json, torch
from core import distributed as d
from tests.vl.test_losses import masks, unit
from vl.losses import LOSSES, local_loss
torch.set_num_threads(1)
with d.processes():
    mine = slice(5 * d.rank(), 5 * d.rank() + 5)
    for name in LOSSES:
        for given in ({}, masks(10, 2)):
            weights = [torch.nn.Parameter(x) for x in (unit(10, 4, 0), unit(10, 4, 1),
                       torch.tensor(9.0).double(), torch.tensor(-2.0).double())]
            image, text, scale, bias = weights
            loss = local_loss(name, image[mine], text[mine], scale, bias, **given)
            loss.backward()
            d.sum_gradients(weights)
            print(json.dumps([d.sum_over_ranks(loss.detach()).item(), *(w.grad.tolist() for w in weights)]))
d.leave()
"""


@pytest.mark.slow
def test_two_processes_have_the_loss_and_the_gradients_of_one():
    outputs = [[json.loads(line) for line in out.splitlines()] for out in launch(["-c", LOCAL], 2)]
    assert len(outputs[0]) == 4 and outputs[0] == outputs[1]
    found = iter(outputs[0])
    for name in LOSSES:
        for given in ({}, masks(10, 2)):
            weights = [unit(10, 4, 0), unit(10, 4, 1), torch.tensor(9.0).double(), torch.tensor(-2.0).double()]
            weights = [weight.requires_grad_() for weight in weights]
            loss = LOSSES[name](*weights, **given)
            gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
            expected = [loss.detach(), *gradients]
            together = [torch.tensor(value, dtype=torch.float64) for value in next(found)]
            torch.testing.assert_close(together, expected)


@pytest.mark.parametrize("name", LOSSES)
def test_one_process_alone_has_the_whole_loss(name):
    given = unit(6, 4, 0), unit(6, 4, 1), torch.tensor(9.0), torch.tensor(-2.0)
    assert local_loss(name, *given, **masks(6, 1)) == LOSSES[name](*given, **masks(6, 1))
    with pytest.raises(InputError, match=r"positive is torch.bool \(5, 5\), expected bool \(6, 6\)"):
        local_loss(name, *given, positive=torch.ones(5, 5, dtype=torch.bool))


def test_matching_words_and_pixels_by_hand():
    fits = torch.tensor([True, False])
    assert match_loss(torch.tensor([[0.0, math.log(3)], [0.0, 0.0]]), fits).item() == pytest.approx(math.log(8 / 3))
    assert word_loss(torch.zeros(3, 4), torch.tensor([0, 1, 3])).item() == pytest.approx(3 * math.log(4))
    hidden = torch.tensor([[[True, False]]])
    predicted, pixels = torch.full((1, 3, 1, 2), 0.5), torch.zeros(1, 3, 1, 2)
    assert pixel_loss(predicted, pixels, hidden).item() == 1.5
    assert word_loss(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)).item() == 0.0
