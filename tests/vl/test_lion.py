"""Facts about vl/lion.py."""

import io

import pytest
import torch

from core.errors import InputError
from vl.lion import Lion


def test_two_steps_by_hand():
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    optimizer = Lion([weight], lr=0.1, betas=(0.9, 0.5), weight_decay=0.5)
    weight.grad = torch.tensor([4.0, -0.01, 0.0])
    optimizer.step()  # times 0.95, less 0.1 sign(0.1 g)
    torch.testing.assert_close(weight.data, torch.tensor([0.85, -1.8, 0.475]))
    weight.grad = torch.tensor([-16.0, 1.0, 0.0])
    optimizer.step()  # m = g / 2 = (2, -0.005, 0); 0.9 m + 0.1 g = (0.2, 0.0955, 0)
    torch.testing.assert_close(weight.data, torch.tensor([0.7075, -1.81, 0.45125]))
    torch.testing.assert_close(optimizer.state[weight]["momentum"], torch.tensor([-7.0, 0.4975, 0.0]))


def test_weights_without_a_gradient_stay_and_groups_have_their_own_rates():
    still, moved, slow = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    optimizer = Lion([{"params": [still, moved]}, {"params": [slow], "lr": 0.01}], lr=0.1, weight_decay=0.1)
    moved.grad, slow.grad = torch.ones(2), torch.ones(2)
    optimizer.step()
    assert still.tolist() == [1.0, 1.0] and still not in optimizer.state
    torch.testing.assert_close(torch.stack([moved[0], slow[0]]).data, torch.tensor([0.99 - 0.1, 0.999 - 0.01]))


def test_a_saved_state_goes_on_as_if_nothing_had_happened():
    gradients = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))

    def walk(weight, optimizer, steps):
        for g in steps:
            weight.grad = g
            optimizer.step()

    whole, broken = torch.nn.Parameter(torch.zeros(4)), torch.nn.Parameter(torch.zeros(4))
    walk(whole, Lion([whole]), gradients)
    first = Lion([broken])
    walk(broken, first, gradients[:3])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = Lion([broken], lr=1.0)
    second.load_state_dict(torch.load(file, weights_only=True))
    walk(broken, second, gradients[3:])
    assert torch.equal(whole, broken)


def test_impossible_settings_are_refused():
    for given in ({"lr": -1.0}, {"weight_decay": -0.1}, {"betas": (0.9, 1.0)}):
        with pytest.raises(InputError, match="betas"):
            Lion([torch.nn.Parameter(torch.zeros(1))], **given)
