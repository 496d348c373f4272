"""Collecting experience: T steps of B environments with a policy, as tensors.

Anything with `reset()` and `step(action)` of the `TensorEnv` protocol can be trained; the simulator's tasks are made
into one by agents/features.py.
"""

from dataclasses import dataclass, fields
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from agents.networks import Policy, sample_action


@dataclass
class EnvStep:
    """What B environments answer to an action."""

    observation: Float[Tensor, "B F"]  # what to act on next: of the new episode where one has just ended
    final_observation: Float[Tensor, "B F"]  # what this very step led to, before any reset
    reward: Float[Tensor, " B"]
    terminated: Bool[Tensor, " B"]  # the task ended
    truncated: Bool[Tensor, " B"]  # time ran out
    metrics: dict[str, Float[Tensor, " B"]]  # meaningful where an episode ended


class TensorEnv(Protocol):
    """B environments that reset themselves and speak tensors."""

    num_envs: int
    observation_size: int
    num_actions: int

    def reset(self) -> Float[Tensor, "B F"]: ...

    def step(self, action: Int64[Tensor, " B"]) -> EnvStep: ...


@dataclass
class Rollout:
    """T steps of B environments."""

    observation: Float[Tensor, "T B F"]  # raw; the policy's running statistics stay as they are within a rollout
    start: Bool[Tensor, "T B"]  # first step of an episode
    memory: Float[Tensor, "B M"]  # the policy's memory before the first step
    action: Int64[Tensor, "T B"]
    log_prob: Float[Tensor, "T B"]
    value: Float[Tensor, "T B"]
    next_value: Float[Tensor, "T B"]  # of what the step led to, before any reset
    reward: Float[Tensor, "T B"]
    terminated: Bool[Tensor, "T B"]
    truncated: Bool[Tensor, "T B"]


@dataclass
class Progress:
    """Where a policy stands in its environments between two rollouts: what a resume needs beside their own state."""

    observation: Float[Tensor, "B F"]  # raw
    start: Bool[Tensor, " B"]
    memory: Float[Tensor, "B M"]

    @classmethod
    def begin(cls, env: TensorEnv, policy: Policy) -> "Progress":
        """Fresh episodes everywhere."""
        observation = env.reset()
        start = torch.ones(env.num_envs, dtype=torch.bool, device=observation.device)
        return cls(observation, start, policy.initial_memory(env.num_envs))

    def state_dict(self) -> dict[str, Tensor]:
        """Its tensors by name: `Progress(**saved)` brings it back."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


class EpisodeLog:
    """Metrics of the episodes that ended, and the running return of those under way."""

    def __init__(self, num_envs: int, device: torch.device | str = "cpu") -> None:
        self.running = torch.zeros(num_envs, device=device)
        self.ended: list[dict[str, Tensor]] = []

    def add(self, step: EnvStep) -> None:
        self.running += step.reward
        done = step.terminated | step.truncated
        if done.any():
            rows = {name: value[done].float() for name, value in step.metrics.items()}
            self.ended.append({"return": self.running[done].clone(), **rows})
            self.running[done] = 0.0

    def flush(self) -> dict[str, float]:
        """Mean of each metric over the episodes ended since the last call, and their number as `episodes`."""
        if not self.ended:
            return {"episodes": 0.0}
        names = self.ended[0]
        columns = {name: torch.cat([row[name] for row in self.ended]) for name in names}
        self.ended = []
        return {"episodes": float(len(columns["return"])), **{n: float(c.mean()) for n, c in columns.items()}}

    def state_dict(self) -> dict:
        """What a resume needs."""
        return {"running": self.running, "ended": self.ended}

    def load_state_dict(self, saved: dict) -> None:
        """Go on where `state_dict` was taken."""
        self.running, self.ended = saved["running"].clone(), list(saved["ended"])


@torch.no_grad()
def collect(
    env: TensorEnv, policy: Policy, progress: Progress, steps: int, generator: torch.Generator, log: EpisodeLog
) -> Rollout:
    """Act `steps` times in every environment; `progress` moves along in place."""
    columns: dict[str, list[Tensor]] = {f.name: [] for f in fields(Rollout) if f.name != "memory"}
    memory_at_start = progress.memory
    for t in range(steps):
        memory = progress.memory.masked_fill(progress.start[:, None], 0.0)
        logits, value, memory = policy(policy.norm(progress.observation), memory)
        action, log_prob = sample_action(logits, generator)
        step = env.step(action)
        log.add(step)
        done = step.terminated | step.truncated

        next_value = torch.zeros_like(value)
        last = step.truncated | (t == steps - 1)  # elsewhere the next step's value is the same number
        if last.any():
            next_value[last] = policy(policy.norm(step.final_observation[last]), memory[last])[1]
        row = (progress.observation, progress.start, action, log_prob, value, next_value)
        for name, part in zip(("observation", "start", "action", "log_prob", "value", "next_value"), row):
            columns[name].append(part)
        for name in ("reward", "terminated", "truncated"):
            columns[name].append(getattr(step, name))
        progress.observation, progress.start, progress.memory = step.observation, done, memory
    stacked = {name: torch.stack(parts) for name, parts in columns.items()}
    ongoing = ~(stacked["terminated"] | stacked["truncated"])[:-1]
    stacked["next_value"][:-1] = torch.where(ongoing, stacked["value"][1:], stacked["next_value"][:-1])
    return Rollout(memory=memory_at_start, **stacked)
