"""How weights are updated in pretraining: optimiser, learning rate by progress, clipping; and seeds of random draws."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from core import distributed
from vl.lion import Lion

BETAS: Final = {"adamw": (0.9, 0.98), "lion": (0.9, 0.99)}
"""AdamW as in Renaissance and CLIP; Lion as published (Chen et al., arXiv:2302.06675)."""

OPTIMIZERS: Final[dict[str, Callable[..., torch.optim.Optimizer]]] = {
    "adamw": lambda groups: torch.optim.AdamW(groups, betas=BETAS["adamw"], eps=1e-6, fused=True),
    "lion": lambda groups: Lion(groups, betas=BETAS["lion"]),
}

SCHEDULES: Final[dict[str, Callable[[float], float]]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda done: 1.0,
}
"""Share of the peak learning rate when this share of the way down is done."""


def rate_factor(step: int, steps: int, warmup_steps: int, schedule: str) -> float:
    """Linear up to 1 over the warm-up, then down to 0 after the last step (constant: not at all)."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return SCHEDULES[schedule](min((step - warmup_steps) / max(1, steps - warmup_steps), 1.0))


def make_optimizer(name: str, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """The optimiser over parameter groups, each with its own `lr`, which is its peak."""
    return OPTIMIZERS[name]([{**group, "peak": group["lr"]} for group in groups])


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group at `factor` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def update(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], clip: float) -> Tensor:
    """One step down the gradients of all processes, summed; returns their norm before it is clipped at `clip`."""
    moved = [p for p in parameters if p.grad is not None]  # the same ones in every process
    distributed.sum_gradients(moved)
    norm = nn.utils.clip_grad_norm_(moved, clip)
    optimizer.step()
    return norm


@contextmanager
def seeded(device: torch.device, *numbers: int) -> Iterator[torch.Generator]:
    """A generator whose draws are a function of the numbers; so are, inside, those of torch itself (dropout)."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        # torch.manual_seed would note a call stack each time for a GPU that may never be asked for
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)
