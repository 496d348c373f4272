"""DigiRL's pair of critics at work: they read what the policy's encoders make of an observation, and learn what came.

The encoders are the policy's and learn with it; the critics pass no gradient on, as VSC-RL's step critic does not to
its frozen encoders. They see single observations: a policy's memory is not theirs. Source: agents/subgoals/critics.py.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.networks import Observation, Policy
from agents.subgoals.critics import InstructionCritic, StepCritic, chance, outcome_loss
from agents.subgoals.segments import Segments
from core import distributed

STEPS_AT_ONCE = 512  # observations encoded together


class OutcomeCritics:
    """A step critic and an instruction critic with their optimiser.

    Args:
        policy: whose encoders they read.
        seed: of their weights; the global generator is left as it was.
    """

    def __init__(self, policy: Policy, lr: float, seed: int, width: int = 128) -> None:
        size = policy.encoded_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.critics = nn.ModuleDict({"step": StepCritic(size, width), "instruction": InstructionCritic(size)})
        self.critics.to(policy.device)
        self.optimizer = torch.optim.Adam(self.critics.parameters(), lr=lr)

    def update(self, policy: Policy, observation: Observation, segments: Segments, *, epochs: int) -> dict[str, float]:
        """Passes over all steps of segments that ended in the rollout; returns the last pass's critic_loss.

        The instruction critic learns of segments seen whole: of the others it does not know the beginning.
        """
        features = _features(policy, observation)
        known, whole = segments.spread(segments.closed), segments.whole
        reached = segments.reached.to(features.dtype)
        beginnings = features.transpose(0, 1)[segments.first.T][whole]
        counts = torch.stack([known.sum(), whole.sum()]).double()
        counts = distributed.sum_over_ranks(counts).clamp(min=1)
        parameters = list(self.critics.parameters())
        loss = torch.zeros(())
        for _ in range(epochs):
            steps = outcome_loss(self.critics["step"](features[known]), segments.spread(reached)[known]).sum()
            starts = outcome_loss(self.critics["instruction"](beginnings), reached[whole]).sum()
            loss = (steps / counts[0] + starts / counts[1]).float()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            distributed.sum_gradients(parameters)
            self.optimizer.step()
        return {"critic_loss": float(distributed.sum_over_ranks(loss.detach()))}

    @torch.no_grad()
    def judge(
        self, policy: Policy, observation: Observation, segments: Segments
    ) -> tuple[Float[Tensor, "T B"], Float[Tensor, "T B"], Float[Tensor, " S"]]:
        """Chance before each step, after it, and at each segment's beginning.

        Where a segment ends nobody looks further: the chance after its last step is that before it.
        """
        features = _features(policy, observation)
        before = chance(self.critics["step"](features))
        after = torch.cat([before[1:], before[-1:]])
        after = torch.where(segments.last, before, after)
        beginning = chance(self.critics["instruction"](features.transpose(0, 1)[segments.first.T]))
        return before, after, beginning

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs."""
        return {"critics": self.critics.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.critics.load_state_dict(saved["critics"])
        self.optimizer.load_state_dict(saved["optimizer"])


@torch.no_grad()
def _features(policy: Policy, observation: Observation) -> Float[Tensor, "T B E"]:
    seen = policy.normalise(observation)
    steps, batch = next(iter(seen.values())).shape[:2]
    flat = {name: x.flatten(0, 1) for name, x in seen.items()}
    rows = torch.arange(steps * batch, device=policy.device).split(STEPS_AT_ONCE)
    parts = [policy.encode({name: x[part] for name, x in flat.items()}).float() for part in rows]
    return torch.cat(parts).view(steps, batch, -1)
