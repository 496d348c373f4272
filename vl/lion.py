"""Lion: an optimiser that moves every weight by the same amount, in the direction of a momentum's sign.

It keeps one number per weight where Adam keeps two. Steps are larger than Adam's for the same learning rate: take a
rate 3 to 10 times lower and a weight decay as many times higher, and large batches.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from core.errors import InputError


class Lion(torch.optim.Optimizer):
    """One step on a weight p with gradient g, learning rate r and decay w; momentum m starts at 0.

        p <- (1 - r w) p
        p <- p - r sign(b1 m + (1 - b1) g)
        m <- b2 m + (1 - b2) g

    Source: Chen et al., arXiv:2302.06675, algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        """Parameters, or groups of them, as for every optimiser of torch.

        Raises:
            InputError: lr or weight_decay is negative, or a beta is outside [0, 1).
        """
        if lr < 0 or weight_decay < 0 or not all(0 <= beta < 1 for beta in betas):
            raise InputError(f"lr={lr} and weight_decay={weight_decay} should not be negative, betas={betas} in [0, 1)")
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step on every weight that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            for p in weights:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            gradients = [p.grad for p in weights]
            momenta = [self.state[p]["momentum"] for p in weights]
            (b1, b2), lr = group["betas"], group["lr"]
            torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
            direction = torch._foreach_lerp(momenta, gradients, 1 - b1)
            torch._foreach_sign_(direction)
            torch._foreach_add_(weights, direction, alpha=-lr)
            torch._foreach_lerp_(momenta, gradients, 1 - b2)
        return loss
