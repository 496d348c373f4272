"""Step 4 of 4, policy update: minibatches of what was collected, each a step of AdamW down its loss.

A minibatch is some of the groups of all processes; a process computes those of its own rows that are in it, in
microbatches, and gradients are summed. What losses are divided by counts the whole minibatch, so neither
the number of processes nor `micro_rows` changes an update (beyond rounding). A minibatch without any advantage, as when
every group has equal rewards, is skipped: momentum and weight decay alone shall not move the policy.
"""

import contextlib
import math
import time
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from agents.reasoning.kl import kl_divergence
from agents.reasoning.log_probs import score
from agents.reasoning.padding import microbatches, tokens_read
from agents.reasoning.policy_losses import LOSSES, Clip, Totals, totals_of
from agents.reasoning.types import Scored, Trajectory
from core import distributed
from core.errors import InputError
from vl.optimise import update
from vl.parameter_groups import parameter_groups

BETAS: Final = (0.9, 0.95)  # as MAYE and most language models


@dataclass
class Descent:
    """The weights that learn, and how they step."""

    optimizer: torch.optim.Optimizer
    trained: list[nn.Parameter]
    max_grad_norm: float
    device: torch.device
    half: bool  # forward passes in bfloat16; weights and sums stay as they are

    @classmethod
    def of(cls, model: nn.Module, *, lr: float, weight_decay: float, max_grad_norm: float, half: bool) -> "Descent":
        """AdamW over all that requires a gradient; decay acts on matrices alone.

        Raises:
            InputError: nothing does.
        """
        groups = [{**group, "peak": lr} for group in parameter_groups(model, lr, weight_decay=weight_decay)]
        if not groups:
            raise InputError("nothing is left to train: every weight is frozen")
        trained = [parameter for group in groups for parameter in group["params"]]
        optimizer = torch.optim.AdamW(groups, betas=BETAS, fused=True)
        return cls(optimizer, trained, max_grad_norm, trained[0].device, half)

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """What every pass through the model runs under."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    def step(self) -> float:
        """One step down the gradients of all processes; their norm before it is cut.

        Raises:
            InputError: the gradient is not finite.
        """
        for parameter in self.trained:
            if parameter.grad is None:  # of a process without rows here, and of parts that nothing passes through
                parameter.grad = torch.zeros_like(parameter)
        norm = float(update(self.optimizer, self.trained, self.max_grad_norm))
        if not math.isfinite(norm):
            rate = self.optimizer.param_groups[0]["lr"]
            raise InputError(f"the gradient became {norm}; lower lr (now {rate:g}), or look at the rewards in metrics")
        self.optimizer.zero_grad(set_to_none=True)
        return norm


def update_policy(
    vlm: Any,
    descent: Descent,
    trajectory: Trajectory,
    *,
    groups: list[int],
    algorithm: str,
    clip: Clip,
    kl_coef: float,
    kl_kind: str,
    temperature: float,
    longest_response: int,
    passes: int,
    minibatches: int,
    micro_rows: int,
    generator: torch.Generator,
) -> dict[str, float]:
    """Improves the policy by what it collected. Every process calls this with its own rows, be it none.

    Args:
        groups: numbers of the groups of all processes.
        algorithm: one of LOSSES.
        kl_coef: weight of the divergence from the reference in the loss; 0 = none.
        longest_response: tokens a response may have, what Dr.GRPO divides by.
        passes: over all groups. minibatches: steps of each pass.
        micro_rows: rows per forward and backward.
        generator: decides the minibatches, alike in all processes.

    Returns:
        Means over all processes and minibatches; `updates` says how many minibatches were not skipped.
    """
    began = time.perf_counter()
    penalised = kl_coef > 0 and trajectory.reference_log_prob is not None
    number = torch.tensor(groups, dtype=torch.int64)
    group = trajectory.group.cpu()
    sums: dict[str, Tensor] = {}
    norms: list[float] = []
    passed = 0

    for _ in range(passes):
        for part in torch.randperm(len(groups), generator=generator).tensor_split(minibatches):
            batch = trajectory.rows(torch.nonzero(torch.isin(group, number[part]))[:, 0])
            totals = totals_of(batch.responses.mask, longest_response)
            signal = distributed.sum_over_ranks((batch.advantage != 0).sum())
            if not totals.tokens or not (signal or penalised):
                continue
            for rows in microbatches(batch.group, batch.responses.mask.sum(1), micro_rows):
                micro = batch.rows(rows)
                with descent.precision():
                    scored = score(
                        vlm, micro.prompts, micro.responses, temperature=temperature, entropy=True, grad=True
                    )
                found = losses(
                    scored, micro, totals, algorithm=algorithm, clip=clip, kl_coef=kl_coef * penalised, kl_kind=kl_kind
                )
                found["loss"].backward()
                for name, value in found.items():
                    sums[name] = sums.get(name, 0.0) + value.detach()
                passed += tokens_read(micro.prompts, micro.responses)
            norms.append(descent.step())

    return {
        **means_of(sums, len(norms), penalised),
        "grad_norm": sum(norms) / max(1, len(norms)),
        "updates": float(len(norms)),
        "update_tokens": float(distributed.sum_over_ranks(torch.tensor(passed))),
        "seconds_update": time.perf_counter() - began,
    }


def losses(
    scored: Scored, micro: Trajectory, totals: Totals, *, algorithm: str, clip: Clip, kl_coef: float, kl_kind: str
) -> dict[str, Tensor]:
    """A microbatch's share of the loss, which carries the gradient, and of what is told of its minibatch."""
    mask, log_prob, penalty = micro.responses.mask, scored.log_prob, None
    if kl_coef:
        assert micro.reference_log_prob is not None
        penalty = kl_coef * kl_divergence(log_prob, micro.reference_log_prob, mask, kind=kl_kind)
    # without old ones the policy is still the one that answered: every ratio is 1, and has a gradient
    old = log_prob.detach() if micro.old_log_prob is None else micro.old_log_prob
    loss = LOSSES[algorithm](log_prob, old, micro.advantage, mask, totals=totals, clip=clip, penalty=penalty)
    assert scored.entropy is not None
    found = {"loss": loss.value, **loss.statistics, "entropy": (scored.entropy * mask).sum() / totals.tokens}
    if penalty is not None:
        found["kl"] = (penalty * mask).sum() / (kl_coef * totals.tokens)
    return found


def means_of(sums: dict[str, Tensor], updates: int, penalised: bool) -> dict[str, float]:
    """Each number summed over processes, its mean over minibatches.

    Where every minibatch was skipped the loss is 0 and nothing else is known: an entropy of 0 would be a collapse.
    """
    if not updates:
        return {"loss": 0.0}
    names = ["loss", "clipped_low", "clipped_high", "clipped_dual", "ratio", "moved", "entropy"]
    names += ["kl"] if penalised else []
    own = torch.stack([torch.as_tensor(sums.get(name, 0.0), dtype=torch.float64).cpu() for name in names])
    found = dict(zip(names, distributed.sum_over_ranks(own).tolist()))
    found["clip_share"] = sum(found.pop(f"clipped_{side}") for side in ("low", "high", "dual"))
    return {name: value / updates for name, value in found.items()}
