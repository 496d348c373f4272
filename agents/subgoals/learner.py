"""Everything that learning with subgoals adds to a policy and its environment: demonstrations, then rollouts.

    learner = SubgoalLearner(env, policy, objective, reference, lr=1e-3, seed=0)
    for index in range(updates):
        if index < cloned:
            learner.clone(...)      # the oracle acts; policy and reference learn what it does
        else:
            learner.learn(...)      # the policy acts; the objective says what of that is good

So a run is offline-to-online: the first steps are demonstrations, every arm's the same ones, and the reference that is
cloned from them on the goal alone stands still afterwards.

Left out of VSC-RL: replaying stored demonstrations while the policy acts.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from agents.imitation import Teacher, demonstrate, imitate
from agents.networks import Policy
from agents.rollout import EpisodeLog, Progress, Rollout, TensorEnv, collect
from agents.subgoals.divergence import Reference
from agents.subgoals.objective import Objective
from agents.subgoals.outcome_critics import OutcomeCritics
from agents.subgoals.reference import ReferencePolicy, drawn
from agents.subgoals.subgoal_env import Marks, SubgoalEnv
from agents.subgoals.update import PassSettings, update
from core.errors import InputError


class SubgoalLearner:
    """A policy's environment, objective, reference and critics.

    Args:
        env: with subgoals (see `SubgoalEnv`).
        reference: None where the objective has no divergence.
        lr: of the reference while it is cloned, and of the critics.
        seed: of the critics' weights.

    Raises:
        InputError: an objective that reads subgoals with a policy that does not, or the reverse; a divergence without a
            reference.
    """

    def __init__(
        self,
        env: TensorEnv,
        policy: Policy,
        objective: Objective,
        reference: ReferencePolicy | None,
        *,
        lr: float,
        seed: int,
    ) -> None:
        reads = "subgoal" in policy.config.observations
        if reads != objective.reads_subgoal:
            raise InputError(
                f"the objective {'tells' if objective.reads_subgoal else 'does not tell'} the policy its subgoal, but "
                f"the policy reads {', '.join(policy.config.observations)}"
            )
        if reference is None and objective.divergence != "none":
            raise InputError(f"the divergence {objective.divergence!r} needs a reference policy")
        self.env, self.objective, self.reference = SubgoalEnv(env), objective, reference
        self.critics = OutcomeCritics(policy, lr, seed) if objective.worth == "binary" else None
        self.optimizer: torch.optim.Optimizer | None = None
        if reference is not None:
            self.optimizer = torch.optim.Adam(reference.policy.parameters(), lr=lr, eps=1e-5)
        self.begins: Bool[Tensor, " B"] = torch.ones(env.num_envs, dtype=torch.bool, device=policy.device)
        self._rollout: Rollout | None = None

    def clone(
        self,
        policy: Policy,
        optimizer: torch.optim.Optimizer,
        teacher: Teacher,
        progress: Progress,
        steps: int,
        generator: torch.Generator,
        log: EpisodeLog,
        *,
        clones_reference: bool,
        settings: PassSettings,
    ) -> dict[str, float]:
        """`steps` of the teacher in every environment, then passes over them.

        Args:
            clones_reference: the reference learns the same, beside the policy.

        Returns:
            What agents.imitation.imitate does of the policy, and reference_loss.
        """
        shown = demonstrate(self.env, policy, teacher, progress, steps, generator, log)
        passes: dict[str, Any] = {"epochs": settings.epochs, "minibatches": settings.minibatches}
        passes["max_grad_norm"] = settings.max_grad_norm
        found = imitate(policy, optimizer, shown, generator=generator, **passes)
        if self.reference is not None:
            own = replace(shown, memory=self.reference.memory)
            self.reference.follow(shown.observation, shown.start)  # its memory moves along
            if clones_reference:
                assert self.optimizer is not None
                learned = imitate(self.reference.policy, self.optimizer, own, generator=generator, **passes)
                self.reference.policy.update_norms(shown.observation)
                found["reference_loss"] = learned["clone_loss"]
        policy.update_norms(shown.observation)
        self._took(self.env.take())
        return found

    def learn(
        self,
        policy: Policy,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        steps: int,
        generator: torch.Generator,
        log: EpisodeLog,
        *,
        settings: PassSettings,
    ) -> dict[str, float]:
        """`steps` of the policy in every environment, then the objective's passes; what `update` returns."""
        rollout = self._rollout = collect(self.env, policy, progress, steps, generator, log, self._rollout)
        marks = self.env.take()
        says = Reference()
        if self.reference is not None:
            says = drawn(self.reference.follow(rollout.observation, rollout.start), generator)
        found = update(
            policy,
            optimizer,
            rollout,
            marks,
            self.begins,
            self.objective,
            says,
            self.critics,
            generator=generator,
            settings=settings,
        )
        policy.update_norms(rollout.observation)
        self._took(marks)
        return found

    def _took(self, marks: Marks) -> None:
        """Whether the next rollout's first step takes up a segment."""
        done = marks.subgoal | marks.goal if self.objective.per_subgoal else marks.goal
        self.begins = (done | marks.ended)[-1]

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs beside policy, optimiser, generator, progress and environment."""
        parts = {"reference": self.reference, "optimizer": self.optimizer, "critics": self.critics}
        return {"begins": self.begins, **{name: x.state_dict() for name, x in parts.items() if x is not None}}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.begins = saved["begins"].clone()
        for name, part in (("reference", self.reference), ("optimizer", self.optimizer), ("critics", self.critics)):
            if part is not None:
                part.load_state_dict(saved[name])
