"""Facts about vl/optimise.py: learning rates by progress, and draws that numbers decide."""

import pytest
import torch

from vl.optimise import make_optimizer, rate_factor, seeded, set_rates, update


def test_the_learning_rate_rises_then_falls_to_nothing():
    cosine = [rate_factor(step, 10, 4, "cosine") for step in range(11)]
    assert cosine[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert cosine[7] == pytest.approx(0.5) and cosine[10] == pytest.approx(0.0)
    linear = [rate_factor(step, 10, 4, "linear") for step in range(4, 11)]
    assert linear == pytest.approx([1 - k / 6 for k in range(7)])
    assert rate_factor(0, 10, 0, "linear") == 1.0  # no warm-up


@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_every_group_moves_at_its_own_peak(name):
    slow, fast = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    groups = [{"params": [slow], "lr": 1e-3, "weight_decay": 0.0}, {"params": [fast], "lr": 5e-3, "weight_decay": 0.0}]
    optimizer = make_optimizer(name, groups)
    set_rates(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [5e-4, 2.5e-3]
    slow.grad, fast.grad = torch.ones(3), torch.ones(3)
    update(optimizer, [slow, fast], clip=100.0)
    # the first step of AdamW and Lion is the sign of the gradient
    torch.testing.assert_close(1 - slow.detach(), torch.full((3,), 5e-4), rtol=1e-3, atol=0)
    torch.testing.assert_close(1 - fast.detach(), torch.full((3,), 2.5e-3), rtol=1e-3, atol=0)


def test_the_gradient_is_cut_to_its_largest_norm_and_what_has_none_stays():
    used, unused = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.ones(2))
    used.grad = torch.tensor([3.0, 4.0])
    optimizer = torch.optim.SGD([used, unused], lr=1.0, weight_decay=0.1)
    assert update(optimizer, [used, unused], clip=1.0).item() == 5.0
    torch.testing.assert_close(used.detach(), torch.tensor([-0.6, -0.8]))
    assert unused.tolist() == [1.0, 1.0]


def test_draws_are_a_function_of_the_numbers_and_leave_the_global_state_alone():
    def draws(*numbers: int) -> tuple[float, float]:
        with seeded(torch.device("cpu"), *numbers) as generator:
            return torch.rand(()).item(), torch.rand((), generator=generator).item()

    before = torch.get_rng_state()
    assert draws(3, 1, 0) == draws(3, 1, 0)
    assert len({*draws(3, 1, 0), *draws(3, 1, 1), *draws(1, 3, 0)}) >= 3
    assert torch.equal(before, torch.get_rng_state())
