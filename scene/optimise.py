"""How weights are updated: learning rates by module and by progress, decay, clipping; and seeds of random draws."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from core import distributed

BETAS: Final = (0.9, 0.98)
"""Of AdamW, in every stage of GPS (SceneVerse, arXiv:2401.09340, supplement)."""
MODULES: Final[dict[str, str]] = {
    "text": "text",
    "spatial": "spatial",
    "place": "spatial",  # the locations that it reads; this and the next two as in GPS's code
    "fusion": "fusion",
    "joint_place": "fusion",
    "kind": "fusion",
}
"""First name of a parameter -> the learning rate it may have of its own; all others share one."""


def make_optimizer(
    model: nn.Module, rates: Mapping[str, float], weight_decay: float, *, fused: bool = True
) -> torch.optim.Optimizer:
    """AdamW over what is trained; biases, norms and scales do not decay.

    Args:
        rates: peak learning rates: "rest", and those of `MODULES` that differ.
        weight_decay: of weight matrices.
    """
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            module = MODULES.get(name.split(".", 1)[0], "rest")
            groups.setdefault((module, parameter.ndim >= 2), []).append(parameter)
    listed = [
        {
            "params": parameters,
            "weight_decay": weight_decay if decays else 0.0,
            "peak": rates.get(module, rates["rest"]),
        }
        for (module, decays), parameters in groups.items()
    ]
    return torch.optim.AdamW(listed, lr=0.0, betas=BETAS, fused=fused)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group at `factor` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def learning_rate_factor(step: int, steps: int, warmup: float, floor: float = 0.1) -> float:
    """Linear warm-up, then a cosine down to `floor`.

    Args:
        step, steps: updates done, and in all.
        warmup: updates until the peak; below 1 a share of all.
    """
    rise = warmup * steps if warmup < 1 else warmup
    if step < rise:
        return min((step + 1e-3 * steps) / rise, 1.0) if warmup < 1 else (step + 1) / rise
    done = (step - rise) / max(steps - rise, 1)
    return floor + (1 - floor) / 2 * (1 + math.cos(math.pi * min(done, 1.0)))


def update(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], loss: Tensor, clip: float) -> Tensor:
    """One step down the gradient of the losses of all processes, summed; the norm before it is clipped at `clip`."""
    optimizer.zero_grad()
    loss.backward()
    moved = [p for p in parameters if p.grad is not None]
    distributed.sum_gradients(moved)
    norm = nn.utils.clip_grad_norm_(moved, clip)
    optimizer.step()
    return norm


def seed_of(*numbers: int) -> int:
    """A seed for torch that is a function of several whole numbers, none of them negative."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def seeded(device: str | torch.device, *numbers: int) -> Iterator[None]:
    """Makes what torch draws inside (initial weights, dropout) a function of the numbers; restores its state after."""
    place = torch.device(device)
    with torch.random.fork_rng(devices=[] if place.type == "cpu" else [place]):
        torch.manual_seed(seed_of(*numbers))
        yield
