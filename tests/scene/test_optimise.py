"""Learning rates by module and progress; seeds."""

import pytest
import torch
from torch import nn

from scene.optimise import learning_rate_factor, make_optimizer, seed_of, seeded, set_rates, update


def test_the_learning_rate_climbs_then_falls_to_its_floor():
    assert learning_rate_factor(0, 100, 0.1) < 0.05
    assert learning_rate_factor(10, 100, 0.1) == pytest.approx(1.0)
    assert learning_rate_factor(100, 100, 0.1) == pytest.approx(0.1)
    assert learning_rate_factor(55, 100, 0.1, floor=0.0) == pytest.approx(0.5)  # half of the way down
    assert learning_rate_factor(0, 100, 0) == 1.0
    assert max(learning_rate_factor(step, 40_000, 0.01) for step in range(500)) == 1.0  # long runs too


def test_a_warm_up_of_one_or_more_counts_updates():
    assert [learning_rate_factor(step, 1000, 4) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_modules_have_rates_of_their_own_and_only_matrices_decay():
    model = nn.ModuleDict({"text": nn.Linear(2, 2), "spatial": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    model["head"].bias.requires_grad_(False)
    optimizer = make_optimizer(model, {"rest": 1.0, "text": 0.5}, 0.1)
    set_rates(optimizer, 0.5)
    found = {
        name: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for name, parameter in model.named_parameters()
        if any(parameter is p for p in group["params"])
    }
    assert found == {
        "text.weight": (0.25, 0.1), "text.bias": (0.25, 0.0), "spatial.weight": (0.5, 0.1), "spatial.bias": (0.5, 0.0),
        "head.weight": (0.5, 0.1),
    }  # fmt: skip


def test_locations_and_kinds_of_token_learn_with_the_transformer_that_reads_them():
    names = ("place", "joint_place", "kind", "head")
    model = nn.ModuleDict({name: nn.Linear(2, 2, bias=False) for name in names})
    optimizer = make_optimizer(model, {"rest": 1.0, "spatial": 0.2, "fusion": 0.1}, 0.0)
    peak = {id(parameter): group["peak"] for group in optimizer.param_groups for parameter in group["params"]}
    assert [peak[id(model[name].weight)] for name in names] == [0.2, 0.1, 0.1, 1.0]


def test_an_update_clips_the_norm_of_all_gradients_together():
    model = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    norm = update(optimizer, model.parameters(), (model.weight * torch.tensor([[3.0], [4.0]])).sum(), 1.0)
    assert norm.item() == pytest.approx(5.0)
    assert model.weight.flatten().tolist() == pytest.approx([-0.6, -0.8], abs=1e-5)


def test_seeded_draws_depend_on_all_numbers_and_leave_the_global_state_alone():
    before = torch.get_rng_state()
    draws = []
    for numbers in ((0, 1, 1), (0, 1, 1), (0, 1, 2), (0, 2, 1), (1, 1, 1)):
        with seeded("cpu", *numbers):
            draws.append(torch.rand(()).item())
    assert torch.equal(torch.get_rng_state(), before)
    assert draws[0] == draws[1] and len(set(draws)) == 4 and seed_of(1, 2) != seed_of(2, 1)
