"""Everything that learning with subgoals adds to a policy and its environment: demonstrations, then rollouts.

    learner = SubgoalLearner(env, policy, objective, reference, teacher=oracle, cloned=20, settings=..., ...)
    for index in range(updates):
        learner.update(index, policy, optimizer, progress, steps, generator, log)

In the first `cloned` updates the teacher acts, and policy and reference learn what it does; after that the policy acts,
and the objective says what of it is good.

So a run is offline-to-online: the first steps are demonstrations, every arm's the same ones, and the reference that is
cloned from them on the goal alone stands still afterwards. Where asked for, they are kept and imitated on beside the
objective while the policy acts, ever less (agents/subgoals/replay.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from agents.subgoals.reference import Onlooker, ReferencePolicy, drawn
from agents.subgoals.replay import DemonstrationStore, Replayed
from agents.subgoals.subgoal_env import Marks, SubgoalEnv
from agents.subgoals.update import PassSettings, update
from core.errors import InputError


@dataclass(frozen=True)
class Replay:
    """How demonstrations are replayed while the policy acts."""

    weight: float = 0.0  # of imitating them when the policy begins to act; 0 = they are not kept
    steps: int = 1  # kept of them, the newest ones, of this process's environments
    updates: int = 1  # over which the weight falls to 0


class SubgoalLearner:
    """A policy's environment, objective, reference and critics.

    Args:
        env: with subgoals (see `SubgoalEnv`).
        reference: None where the objective has no divergence.
        teacher: the right actions where the environments stand; asked before each step it is to show.
        cloned: updates in which it acts, the first ones.
        clones_reference: the reference, a policy, learns from it too; otherwise it stands still from the start.
        settings: of the passes over what was shown and over rollouts.
        lr: of the reference while it is cloned, and of the critics.
        seed: of the critics' weights.
        replay: of what the teacher showed.

    Raises:
        InputError: an objective that reads subgoals with a policy that does not, or the reverse; a divergence without a
            reference.
    """

    def __init__(
        self,
        env: TensorEnv,
        policy: Policy,
        objective: Objective,
        reference: Onlooker | None,
        *,
        teacher: Teacher,
        cloned: int,
        clones_reference: bool,
        settings: PassSettings,
        lr: float,
        seed: int,
        replay: Replay = Replay(),  # noqa: B008  frozen, so one default can be shared
    ) -> None:
        reads = "subgoal" in policy.config.observations
        if reads != objective.reads_subgoal:
            raise InputError(
                f"the objective {'tells' if objective.reads_subgoal else 'does not tell'} the policy its subgoal, but "
                f"the policy reads {', '.join(policy.config.observations)}"
            )
        if reference is None and objective.divergence != "none":
            raise InputError(f"the divergence {objective.divergence!r} needs a reference policy")
        self.env, self.objective, self.reference = SubgoalEnv(env, self._watched), objective, reference
        self.teacher, self.cloned, self.clones_reference, self.settings = teacher, cloned, clones_reference, settings
        self.replay = replay
        self.store = DemonstrationStore(replay.steps) if replay.weight else None
        self.critics = OutcomeCritics(policy, lr, seed) if objective.worth == "binary" else None
        self.optimizer: torch.optim.Optimizer | None = None
        if isinstance(reference, ReferencePolicy):
            self.optimizer = torch.optim.Adam(reference.policy.parameters(), lr=lr, eps=1e-5)
        self._acts = False  # the policy, not the teacher
        self.begins: Bool[Tensor, " B"] = torch.ones(env.num_envs, dtype=torch.bool, device=policy.device)
        self._rollout: Rollout | None = None

    def update(
        self,
        index: int,
        policy: Policy,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        steps: int,
        generator: torch.Generator,
        log: EpisodeLog,
    ) -> dict[str, float]:
        """Update number `index`: `steps` in every environment, then passes over them; means of what was measured.

        While the teacher acts, these are what agents.imitation.imitate returns, and reference_loss; then what
        agents.subgoals.update.update does.
        """
        if index == self.cloned:
            # cloning left the value without gradients, which one process skips and several count as zeros
            optimizer.state.clear()
        self._acts = index >= self.cloned
        going = (policy, optimizer, progress, steps, generator, log)
        return self._learn(*going, self._weight(index)) if self._acts else self._clone(*going)

    def _weight(self, index: int) -> float:
        """Of the demonstrations in an update."""
        return self.replay.weight * max(0.0, 1 - (index - self.cloned) / self.replay.updates)

    def _watched(self, action: Tensor) -> None:
        if self.reference is not None:
            self.reference.watch(action, asked=self._acts)

    def _clone(
        self,
        policy: Policy,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        steps: int,
        generator: torch.Generator,
        log: EpisodeLog,
    ) -> dict[str, float]:
        shown = demonstrate(self.env, policy, self.teacher, progress, steps, generator, log)
        passes: dict[str, Any] = {"epochs": self.settings.epochs, "minibatches": self.settings.minibatches}
        passes["max_grad_norm"] = self.settings.max_grad_norm
        found = imitate(policy, optimizer, shown, generator=generator, **passes)
        if self.store is not None:
            self.store.add(shown)
        if isinstance(self.reference, ReferencePolicy):
            own = replace(shown, memory=self.reference.memory)
            self.reference.follow(shown.observation, shown.start)  # its memory moves along
            if self.clones_reference:
                assert self.optimizer is not None
                learned = imitate(self.reference.policy, self.optimizer, own, generator=generator, **passes)
                self.reference.policy.update_norms(shown.observation)
                found["reference_loss"] = learned["clone_loss"]
        policy.update_norms(shown.observation)
        self._took(self.env.take())
        return found

    def _learn(
        self,
        policy: Policy,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        steps: int,
        generator: torch.Generator,
        log: EpisodeLog,
        weight: float,
    ) -> dict[str, float]:
        rollout = self._rollout = collect(self.env, policy, progress, steps, generator, log, self._rollout)
        marks = self.env.take()
        says = Reference()
        if self.reference is not None:
            says = drawn(self.reference.follow(rollout.observation, rollout.start), generator)
        replayed = None
        if self.store is not None and weight:
            replayed = Replayed(policy, self.store.draw(generator), weight)
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
            settings=self.settings,
            replayed=replayed,
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
        return {"begins": self.begins, **{name: part.state_dict() for name, part in self._parts().items()}}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.begins = saved["begins"].clone()
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])

    def _parts(self) -> dict[str, Any]:
        """What has a state of its own, by name."""
        parts = {"reference": self.reference, "optimizer": self.optimizer, "critics": self.critics}
        return {name: part for name, part in {**parts, "shown": self.store}.items() if part is not None}
