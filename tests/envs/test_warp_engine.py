"""The simulator on Warp kernels (their CPU mode) beside the one on numba and Embree."""

import pytest
import torch

from core.errors import InputError
from envs.expert import RandomPolicy
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Noise, Sensors

pytest.importorskip("warp", reason="warp-lang is not installed")


def pair(pool, task, **options):
    return [
        Simulator(pool, task, 8, 3, Sensors(20, 14), max_steps=15, backend=backend, **options)
        for backend in ("embree", "warp")
    ]


@pytest.mark.parametrize(
    ("task", "interactive", "options"),
    [
        ("find_object", False, {"tilt": True, "noise": Noise(depth=0.0)}),
        ("follow_instruction", False, {}),
        ("rearrange", True, {"shut_doors": 0.5}),
        ("point_goal", False, {"control": "continuous"}),
    ],
)
def test_both_backends_lead_to_the_same_states_and_pictures(task, interactive, options):
    pool = HomePool.procedural(3, seed=2, interactive=interactive)
    embree, warp = pair(pool, task, **options)
    policy = RandomPolicy(0, sim=embree)
    left, right = embree.reset(), warp.reset()
    alike = 0.0
    for _ in range(20):
        action = policy(left)
        left, step = embree.step(left, action)
        right, other = warp.step(right, action)
        assert torch.allclose(left.position, right.position, atol=1e-9)
        assert torch.equal(left.stage, right.stage)
        assert torch.allclose(step.reward, other.reward, atol=1e-5)
        assert torch.equal(step.terminated, other.terminated)
        same = step.frame.instance == other.frame.instance
        alike += float(same.float().mean()) / 20
        assert (step.frame.depth - other.frame.depth)[same].abs().max() < 1e-3
        left, right = embree.reset(left, step.done), warp.reset(right, other.done)
    assert alike > 0.998


def test_a_pool_that_changes_is_drawn_anew():
    first, second = HomePool.procedural(2, seed=2), HomePool.procedural(2, seed=40)
    mixed = HomePool.of([first[1], second[0]])
    sim = Simulator(first, "point_goal", 4, 0, Sensors(16, 12), backend="warp")
    state = sim.reset()
    sim.observe(state)
    twin, state, gone = sim.moved_to(mixed, state)
    state = twin.reset(state, gone)
    plain = Simulator(mixed, "point_goal", 4, 0, Sensors(16, 12))
    same = twin.observe(state).instance == plain.observe(state).instance
    assert same.float().mean() > 0.99


def test_embree_refuses_a_device_it_does_not_draw_on():
    with pytest.raises(InputError, match="backend='warp'"):
        Simulator(HomePool.procedural(1, seed=2), "point_goal", device="cuda", backend="embree")


@pytest.mark.gpu
def test_on_cuda_the_same_states():
    pool = HomePool.procedural(2, seed=2)
    host, device = (Simulator(pool, "point_goal", 8, 3, device=name, backend="warp") for name in ("cpu", "cuda"))
    left, right = host.reset(), device.reset()
    policy = RandomPolicy(0)
    for _ in range(20):
        action = policy(left)
        left, step = host.step(left, action)
        right, other = device.step(right, action.cuda())
        assert torch.allclose(left.position, right.position.cpu(), atol=1e-6)
        assert (step.frame.instance == other.frame.instance.cpu()).float().mean() > 0.99
        left, right = host.reset(left, step.done), device.reset(right, other.done)
