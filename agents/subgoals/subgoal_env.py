"""What a learner of subgoals has to know of each step beside what every learner knows: what was reached with it.

`SubgoalEnv` passes everything through and keeps two marks of every step until the learner takes them: whether a
subgoal was done, and whether the goal was reached. It wraps any environment whose observations hold "reached" of this
step, and "subgoal" already of the next: the simulator's tasks through `SubgoalSenses`, MiniGrid through
agents/subgoals/minigrid_tasks.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from agents.encoders import ObservationSpec
from agents.networks import Observation
from agents.rollout import EnvStep, TensorEnv
from core.errors import InputError

REACHED = "reached"


@dataclass(frozen=True, eq=False)
class Marks:
    """Of the steps of a rollout, what subgoals and goal have to do with them."""

    subgoal: Bool[Tensor, "T B"]  # a subgoal was done with this step; False for the goal itself
    goal: Bool[Tensor, "T B"]  # the episode ended with this step, and well
    ended: Bool[Tensor, "T B"]  # the episode ended, either way


class SubgoalEnv:
    """An environment that keeps marks.

    Args:
        env: any whose `final_observation` holds "reached", (B,) bool. An episode ends well where its metrics have a
            "success" above 0; one without that metric is given it: 1 where the task ended and paid.
        watch: told of each action before it is taken.
    """

    def __init__(self, env: TensorEnv, watch: Callable[[Tensor], None] | None = None) -> None:
        self.env, self.watch = env, watch
        self.num_envs, self.num_actions, self.action_size = env.num_envs, env.num_actions, env.action_size
        self._marks: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def observation_spec(self) -> Mapping[str, ObservationSpec]:
        """That of the environment, which says nothing of what was reached: a policy is not to read it."""
        return {name: spec for name, spec in self.env.observation_spec.items() if name != REACHED}

    def reset(self) -> Observation:
        """New episodes everywhere."""
        self._marks = []
        return self.env.reset()

    def step(self, action: Tensor) -> EnvStep:
        """A step; raises InputError where the environment does not say what was reached."""
        if self.watch is not None:
            self.watch(action)
        step = self.env.step(action)
        if REACHED not in step.final_observation:
            raise InputError(
                "the environment has no subgoals: its observations lack 'reached'; look through SubgoalSenses"
            )
        ended = step.terminated | step.truncated
        if "success" not in step.metrics:
            step.metrics["success"] = (step.terminated & (step.reward > 0)).float()
        reached = step.final_observation[REACHED]
        if reached.dtype != torch.bool:
            reached = reached.flatten(1).amax(1) > 0 if reached.ndim > 1 else reached > 0
        self._marks.append((reached, ended & (step.metrics["success"] > 0), ended))
        return step

    def take(self) -> Marks:
        """The marks of all steps since they were taken last."""
        columns = [torch.stack(column) for column in zip(*self._marks)]
        self._marks = []
        return Marks(*columns)
