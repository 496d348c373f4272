"""Stored demonstrations beside what the policy does itself: the online part of offline-to-online learning.

Each update's loss gains `weight` times the mean of -log pi(what the teacher did), over as many stored steps as the
rollout has: for each environment, one of the rollouts in which the teacher acted there. The weight falls linearly to 0
over the updates in which the policy acts, so what is found at the end is the objective's own.

Sequences begin with the memory that the policy had when they were made ("stored state", R2D2, Kapturowski et al., ICLR
2019, section 3), not with what it would remember now.

Source: the augmented gradient of DAPG, Rajeswaran et al., arXiv:1709.10087, equation 8; there the weight falls by a
factor an update and grows with the largest advantage.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from agents.imitation import Demonstration
from agents.networks import Observation, Policy
from core import distributed
from core.errors import InputError


class DemonstrationStore:
    """The newest demonstrations, on the device they were made on.

    Args:
        most: steps that are kept, of this process's environments; the newest demonstration always is.

    Raises:
        InputError: nothing is to be kept.
    """

    def __init__(self, most: int) -> None:
        if most < 1:
            raise InputError(f"replay_steps={most} keeps no demonstration; give at least 1")
        self.most = most
        self.shown: list[Demonstration] = []  # oldest first, all of one shape

    def add(self, shown: Demonstration) -> None:
        """Keeps a demonstration, and lets go of the oldest ones that there is no room for."""
        self.shown.append(shown)
        size = shown.start.numel()
        del self.shown[: -max(1, self.most // size)]

    def draw(self, generator: torch.Generator) -> Demonstration:
        """One of the demonstrations for each environment, of the same shape as each of them.

        Args:
            generator: in the same state on every process; each draws for all environments and keeps its own.
        """
        batch = self.shown[0].start.shape[1]
        whole = batch * distributed.world_size()
        drawn = torch.randint(len(self.shown), (whole,), generator=generator, device=generator.device)
        own = drawn[distributed.rank() * batch : (distributed.rank() + 1) * batch].to(self.shown[0].start.device)
        steps = ("start", "label", "reward", "terminated", "truncated")
        seen = self.shown[0].observation
        return Demonstration(
            {name: _of_each([one.observation[name] for one in self.shown], own) for name in seen},
            memory=_of_each([one.memory[None] for one in self.shown], own)[0],
            **{name: _of_each([getattr(one, name) for one in self.shown], own) for name in steps},
        )

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs: everything that is kept."""
        names = [one.name for one in fields(Demonstration)]
        return {"shown": [{name: getattr(one, name) for name in names} for one in self.shown]}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.shown = [Demonstration(**one) for one in saved["shown"]]


def _of_each(columns: list[Tensor], own: Int64[Tensor, " B"]) -> Tensor:
    """(T, B, ...): environment b from columns[own[b]]."""
    made = torch.empty_like(columns[0])
    for number, column in enumerate(columns):
        rows = (own == number).nonzero()[:, 0]
        made[:, rows] = column[:, rows]
    return made


class Replayed:
    """A drawn demonstration, laid out as the passes over a rollout go: by environments or by single steps.

    Args:
        policy: whose running statistics normalise it; they stand still during an update.
        weight: of the imitation loss.
    """

    def __init__(self, policy: Policy, shown: Demonstration, weight: float) -> None:
        self.policy, self.weight = policy, weight
        self.observation: Observation = policy.normalise(shown.observation)
        self.start, self.label, self.memory = shown.start, shown.label, shown.memory
        if policy.memory is None:  # every step stands alone: (T, B, ...) -> (1, T * B, ...)
            self.observation = {name: x.flatten(0, 1)[None] for name, x in self.observation.items()}
            self.start, self.label = self.start.flatten()[None], self.label.flatten()[None]
            self.memory = policy.initial_memory(self.start.numel())

    def loss(self, rows: Int64[Tensor, " M"], size: int) -> Float[Tensor, ""]:
        """Mean of -log pi of the teacher's actions in the rows of a minibatch; `size` as of `minibatches_of`."""
        seen = {name: x.index_select(1, rows) for name, x in self.observation.items()}
        outputs, _ = self.policy.unroll(seen, self.start[:, rows], self.memory[rows])
        log_prob = self.policy.distribution(outputs).log_prob(self.label[:, rows])
        return -log_prob.sum() / (size * len(outputs))
