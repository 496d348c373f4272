"""Step 3 of 4, trajectory: what an update needs beside prompts and responses.

Log-probabilities under the policy that answered and under the reference, and the advantage of every token, weighed by
how much it looks (VGPO, agents/reasoning/vgpo.py). A pass through the model is made only where something needs it: the
policy's own is left out when a single update follows and nothing else is read off it.
"""

import copy
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agents.reasoning.collection import Collected
from agents.reasoning.group_advantages import advantages, without_cut_off
from agents.reasoning.kl import kl_divergence
from agents.reasoning.log_probs import score
from agents.reasoning.padding import tokens_read
from agents.reasoning.types import Prompts, Responses, Scored, Trajectory
from agents.reasoning.vgpo import VGPOConfig, focus, weights


class Reference:
    """The policy as it was when the run began: a copy of it, or itself without its adapters (LoRA)."""

    def __init__(self, vlm: Any, adapted: bool) -> None:
        self.vlm, self.adapted = vlm, adapted
        if not adapted:
            self.vlm = copy.deepcopy(vlm)
            self.vlm.model.eval().requires_grad_(False)

    def log_prob(
        self, prompts: Prompts, responses: Responses, *, temperature: float, rows: int
    ) -> Float[Tensor, "B T"]:
        """Of the tokens of responses that the policy gave."""
        with self.vlm.without_lora() if self.adapted else nullcontext():
            return scored(self.vlm, prompts, responses, temperature=temperature, rows=rows, hidden=False).log_prob


def scored(vlm: Any, prompts: Prompts, responses: Responses, *, hidden: bool, temperature: float, rows: int) -> Scored:
    """`score`, also of no rows at all, as where dynamic sampling left a process without a group."""
    if len(prompts):
        return score(vlm, prompts, responses, temperature=temperature, rows=rows, hidden=hidden)
    none = torch.zeros(responses.ids.shape, device=vlm.device)
    return Scored(none, hidden=none[..., None], prototype=none[:, :1], sees=none[:, 0] > 0)


def make_trajectory(
    vlm: Any,
    reference: Reference | None,
    collected: Collected,
    *,
    algorithm: str,
    temperature: float,
    updates: int,
    kl_cost: float,
    kl_kind: str,
    vgpo: VGPOConfig | None,
    mask_cut_off: bool,
    rows: int,
) -> tuple[Trajectory, dict[str, float]]:
    """Everything an update needs of the rows of this process. Every process calls this.

    Args:
        reference: None where no divergence is asked for.
        algorithm: whose advantages, one of `policy_losses.LOSSES`.
        updates: steps that will be taken on these rows; with more than one the policy moves away from the one that
            answered.
        kl_cost: weight of the divergence from the reference that is taken off the reward; 0 = none.
        vgpo: its weights on the advantages; None = none.
        mask_cut_off: answers that did not end are not learned from.
        rows: responses per forward pass.

    Returns:
        The trajectory; statistics of this process's weights, and `trajectory_tokens` that went through a model.
    """
    began = time.perf_counter()
    prompts, responses = collected.prompts, collected.responses
    if mask_cut_off:
        responses = replace(responses, mask=without_cut_off(responses.mask, responses.ended))
    old: Scored | None = None
    if updates > 1 or kl_cost or vgpo is not None:
        old = scored(vlm, prompts, responses, temperature=temperature, rows=rows, hidden=vgpo is not None)
    reference_log_prob = None
    if reference is not None:
        reference_log_prob = reference.log_prob(prompts, responses, temperature=temperature, rows=rows)

    advantage = collected.advantage
    if advantage is None:
        cost = None
        if kl_cost:
            assert old is not None and reference_log_prob is not None
            cost = kl_cost * kl_divergence(old.log_prob, reference_log_prob, responses.mask, kind=kl_kind)
        advantage = advantages(algorithm, collected.reward, collected.group, responses.mask, cost=cost)
    statistics: dict[str, float] = {}
    if vgpo is not None:
        assert old is not None and old.hidden is not None and old.prototype is not None and old.sees is not None
        weighed = weights(focus(old.hidden, old.prototype), responses.mask, collected.group, old.sees, vgpo)
        advantage = weighed.applied(advantage)
        statistics = {f"vgpo_{name}": float(value) for name, value in weighed.statistics.items()}

    passes = int(old is not None) + int(reference is not None)
    tokens = float(passes * tokens_read(prompts, responses))
    statistics |= {"trajectory_tokens": tokens, "seconds_trajectory": time.perf_counter() - began}
    old_log_prob = old.log_prob if old is not None and updates > 1 else None
    trajectory = Trajectory(
        prompts,
        responses,
        old_log_prob,
        reference_log_prob,
        collected.reward,
        collected.group,
        torch.where(responses.mask, advantage, 0.0),
    )
    return trajectory, statistics
