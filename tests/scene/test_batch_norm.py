"""Batch norm over weighted rows: loops against tensor operations, and both against repeated rows in torch."""

import threading

import pytest
import torch

from scene import batch_norm
from scene.batch_norm import BatchNormRelu


def rows(count: int = 1300, width: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of more than one block, far from zero; how often each counts; gradients at the output."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, width, generator=generator) * torch.arange(1, width + 1) + 50
    repeats = torch.randint(1, 6, (count,), generator=generator).float()
    return x, repeats, torch.randn(count, width, generator=generator)


def norm(width: int = 5) -> BatchNormRelu:
    net = BatchNormRelu(width)
    with torch.no_grad():
        net.weight.copy_(torch.linspace(-1, 2, width))
        net.bias.copy_(torch.linspace(0.5, -0.5, width))
    return net


def run(net: BatchNormRelu, x: torch.Tensor, repeats: torch.Tensor | None, grad: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    y = net.rows(x, repeats)
    y.backward(grad)
    return [y, x.grad, net.weight.grad, net.bias.grad, net.running_mean, net.running_var, net.num_batches_tracked]


@pytest.mark.parametrize("loops", [True, False])
def test_a_row_that_counts_three_times_is_three_rows(loops, monkeypatch):
    if not loops:
        monkeypatch.setattr(batch_norm, "_loops", lambda x: False)
    x, repeats, grad = rows()
    y, dx, dweight, dbias, mean, variance, batches = run(norm(), x, repeats, grad)
    many = repeats.long()
    torch_norm = torch.nn.BatchNorm1d(5)
    torch_norm.load_state_dict(norm().state_dict())
    long = x.double().repeat_interleave(many, 0).requires_grad_()
    expected = torch_norm.double()(long).relu()
    first = many.cumsum(0) - many
    share = torch.zeros_like(expected)
    share[first] = grad.double()  # the gradient goes to one of equal rows, as a maximum sends it
    expected.backward(share)
    torch.testing.assert_close(y.double(), expected[first], atol=1e-4, rtol=1e-4)  # 50 has units of 4e-6
    owner = torch.repeat_interleave(torch.arange(len(x)), many)
    summed = torch.zeros(len(x), 5, dtype=torch.float64).index_add_(0, owner, long.grad)
    torch.testing.assert_close(dx.double(), summed, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(dweight.double(), torch_norm.weight.grad, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(dbias.double(), torch_norm.bias.grad, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(mean.double(), torch_norm.running_mean, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(variance.double(), torch_norm.running_var, atol=1e-6, rtol=1e-4)
    assert batches == 1


def test_loops_and_tensor_operations_agree_and_threads_change_nothing(monkeypatch):
    x, repeats, grad = rows()
    by_loops = run(norm(), x, None, grad)
    monkeypatch.setattr("core.threads.granted", lambda: 3)
    assert all(torch.equal(a, b) for a, b in zip(by_loops, run(norm(), x, None, grad)))
    monkeypatch.setattr(batch_norm, "_loops", lambda x: False)
    for a, b in zip(by_loops, run(norm(), x, None, grad)):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_the_folded_map_is_the_norm_in_evaluation_mode():
    net, weight = norm(), torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    net.running_mean.fill_(0.3), net.running_var.fill_(2.0)
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(torch.nn.functional.linear(x, *net.folded(weight)), net.eval()(x @ weight.T))


def test_a_single_row_has_no_variance_and_stays_finite():
    net = norm()
    y, dx, *_ = run(net, torch.full((1, 5), 3.0), None, torch.ones(1, 5))
    torch.testing.assert_close(y, net.bias.detach().clamp(min=0)[None])
    assert torch.isfinite(dx).all() and torch.isfinite(net.running_var).all()


def test_two_processes_normalise_as_one(monkeypatch):
    """Two threads that exchange their sums stand for two processes."""
    x, repeats, grad = rows()
    whole = run(norm(), x, repeats, grad)
    barrier, given = threading.Barrier(2), {}

    def exchange(mine: torch.Tensor) -> torch.Tensor:
        given[threading.current_thread().name] = mine
        barrier.wait()
        total = given["0"] + given["1"]
        barrier.wait()
        return total

    monkeypatch.setattr(batch_norm, "sum_over_ranks", exchange)
    parts = (slice(0, 500), slice(500, None))
    results = {}

    def process(number: int) -> None:
        part = parts[number]
        results[number] = run(norm(), x[part], repeats[part], grad[part])

    threads = [threading.Thread(target=process, args=(k,), name=str(k)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, part in enumerate(parts):
        for index in (0, 1):  # outputs and gradients of its own rows
            torch.testing.assert_close(results[k][index], whole[index][part], atol=1e-4, rtol=1e-4)
        for index in (4, 5):  # running statistics of all
            torch.testing.assert_close(results[k][index], whole[index])
    for index in (2, 3):  # each process's share of the parameters' gradients
        torch.testing.assert_close(results[0][index] + results[1][index], whole[index], atol=1e-3, rtol=1e-4)
