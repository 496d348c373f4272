"""The reference policy of VSC-RL: told the goal alone, never the subgoal, it says what it would do where the policy is.

It may come from demonstrations (the learner clones them twice: into the policy and into its reference), from the
folder of a policy trained before, or be a language model that sees (agents/subgoals/language_reference.py). Policies
read of an observation what they know, so one that knows no subgoals is shown the same observations and reads the goal.

A reference that rules out an action would make the reverse divergence there infinite, and cloned policies do rule
out: a share of its probability is spread over all actions.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from agents.distributions import Categorical
from agents.encoders import ObservationSpec
from agents.networks import Observation, Policy
from agents.subgoals.divergence import Reference
from core import distributed
from core.errors import InputError


class Onlooker(Protocol):
    """Whoever is asked along what it would do."""

    def watch(self, action: Tensor, *, asked: bool) -> None:
        """A step is about to be taken.

        Args:
            action: (B,) what will be done.
            asked: whether what it would have done itself will be wanted.
        """
        ...

    def follow(self, observation: Observation, start: Bool[Tensor, "T B"]) -> Float[Tensor, "T B A"]:
        """Logits at each step of a rollout that goes on where the last one ended.

        Args:
            observation: (T, B, ...) raw, of the learning policy.
            start: first steps of episodes.
        """
        ...

    def summary(self) -> dict[str, Any]:
        """Plain numbers for result.json; empty where there is nothing to tell."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, saved: Mapping[str, Any]) -> None: ...


class ReferencePolicy:
    """A policy that looks on, with a memory of its own that goes from rollout to rollout.

    Args:
        policy: of discrete actions.
        batch: B, environments.
        spread: share of probability spread evenly over the actions, in (0, 1); keeps each divergence below
            log(A / spread).

    Raises:
        InputError: continuous actions, a policy that reads subgoals, or a share outside (0, 1).
    """

    def __init__(self, policy: Policy, batch: int, spread: float) -> None:
        if not policy.config.num_actions:
            raise InputError("a reference policy needs discrete actions; use control=discrete")
        if "subgoal" in policy.config.observations:
            raise InputError("the reference policy reads subgoals; VSC-RL's is told the goal alone, train one without")
        if not 0 < spread < 1:
            raise InputError(f"spread={spread} is a share of probability between 0 and 1, e.g. 0.05")
        self.policy, self.spread = policy, spread
        self.memory = policy.initial_memory(batch)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        shown: Mapping[str, ObservationSpec],
        num_actions: int,
        batch: int,
        spread: float,
        device: torch.device | str = "cpu",
    ) -> "ReferencePolicy":
        """The policy in a folder.

        Args:
            shown: what the learning policy reads.

        Raises:
            MissingFileError: nothing there. InputError: a policy of other observations or actions.
        """
        policy, _ = Policy.from_pretrained(folder)
        other = [name for name, spec in policy.config.observations.items() if shown.get(name) != spec]
        if other or policy.config.num_actions != num_actions:
            raise InputError(
                f"reference={folder} does not fit: it reads {', '.join(policy.config.observations)} and chooses among "
                f"{policy.config.num_actions} actions, here are {', '.join(shown)} and {num_actions}; train it with "
                "the same features, task and models"
            )
        return cls(policy.to(device), batch, spread)

    def watch(self, action: Tensor, *, asked: bool) -> None:
        """Nothing: the observations of a rollout are all it looks at."""

    def summary(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    @torch.no_grad()
    def follow(self, observation: Observation, start: Bool[Tensor, "T B"]) -> Float[Tensor, "T B A"]:
        """Logits at each step of a rollout that goes on where the last one ended; the memory moves along.

        Args:
            observation: (T, B, ...) raw.
            start: first steps of episodes, where the memory is emptied.
        """
        policy, rows = self.policy, []
        seen = policy.normalise(observation)
        for t in range(len(start)):
            memory = self.memory
            if policy.memory is not None:
                memory = memory.masked_fill(start[t][:, None], 0.0)
            outputs, _, self.memory = policy({name: x[t] for name, x in seen.items()}, memory)
            rows.append(outputs)
        return spread_evenly(torch.stack(rows), self.spread)

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs."""
        return {"policy": self.policy.state_dict(), "memory": self.memory}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.policy.load_state_dict(saved["policy"])
        self.memory = saved["memory"].clone()


def spread_evenly(logits: Float[Tensor, "*s A"], share: float) -> Float[Tensor, "*s A"]:
    """Log-probabilities of (1 - share) of a distribution and `share` of the uniform one."""
    return ((1 - share) * logits.softmax(-1) + share / logits.shape[-1]).log()


def drawn(logits: Float[Tensor, "T B A"], generator: torch.Generator) -> Reference:
    """What the reference says, with an action of its own drawn at each step.

    Args:
        generator: in the same state on every process; each draws for all environments and keeps its own.
    """
    steps, batch = logits.shape[:2]
    own = slice(distributed.rank() * batch, (distributed.rank() + 1) * batch)
    noise = Categorical.noise((steps, batch * distributed.world_size()), generator)[:, own].to(logits.device)
    action: Int64[Tensor, "T B"] = Categorical(logits.log_softmax(-1)).sample(noise)
    return Reference(logits, action)
