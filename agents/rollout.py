"""Collecting experience: T steps of B environments with a policy, as tensors on one device.

Anything with `reset()` and `step(action)` of the `TensorEnv` protocol can be trained: the simulator's tasks
(agents/task_env.py) and any Gymnasium vector environment (agents/gym_tensor_env.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agents.encoders import ObservationSpec
from agents.networks import Observation, Policy
from core import distributed


@dataclass
class EnvStep:
    """What B environments answer to an action."""

    observation: Observation  # (B, ...) what to act on next: of the new episode where one has just ended
    final_observation: Observation  # (B, ...) what this very step led to, before any reset
    reward: Float[Tensor, " B"]
    terminated: Bool[Tensor, " B"]  # the task ended
    truncated: Bool[Tensor, " B"]  # time ran out
    metrics: dict[str, Float[Tensor, " B"]]  # meaningful where an episode ended


class TensorEnv(Protocol):
    """B environments that reset themselves and speak tensors.

    `num_actions` is the number of discrete actions, given as int64 (B,); where it is 0, actions are float (B,
    `action_size`), and the environment cuts them to [-1, 1].
    """

    num_envs: int
    num_actions: int
    action_size: int

    @property
    def observation_spec(self) -> Mapping[str, ObservationSpec]: ...

    def reset(self) -> Observation: ...

    def step(self, action: Tensor) -> EnvStep: ...


@dataclass
class Rollout:
    """T steps of B environments. The tensors are written again by the next rollout collected into it."""

    observation: Observation  # (T, B, ...) raw; the policy's running statistics stay as they are within a rollout
    start: Bool[Tensor, "T B"]  # first step of an episode
    memory: Float[Tensor, "B M"]  # the policy's memory before the first step
    action: Tensor  # (T, B) int64, or (T, B, A) float as drawn, not cut
    log_prob: Float[Tensor, "T B"]
    value: Float[Tensor, "T B"]
    next_value: Float[Tensor, "T B"]  # of what the step led to, before any reset
    reward: Float[Tensor, "T B"]
    terminated: Bool[Tensor, "T B"]
    truncated: Bool[Tensor, "T B"]

    @classmethod
    def allocate(cls, policy: Policy, steps: int, batch: int) -> "Rollout":
        """Room for `steps` of `batch` environments on the policy's device; bytes stay bytes."""
        config, device = policy.config, policy.device

        def room(shape: tuple[int, ...] = (), dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty((steps, batch, *shape), dtype=dtype, device=device)

        return cls(
            observation={name: room(spec.shape, spec.torch_dtype) for name, spec in config.observations.items()},
            start=room(dtype=torch.bool),
            memory=policy.initial_memory(batch),
            action=room((config.action_size,)) if config.action_size else room(dtype=torch.int64),
            log_prob=room(),
            value=room(),
            next_value=room(),
            reward=room(),
            terminated=room(dtype=torch.bool),
            truncated=room(dtype=torch.bool),
        )


@dataclass
class Progress:
    """Where a policy stands in its environments between two rollouts: what a resume needs beside their own state."""

    observation: Observation  # raw
    start: Bool[Tensor, " B"]
    memory: Float[Tensor, "B M"]

    @classmethod
    def begin(cls, env: TensorEnv, policy: Policy) -> "Progress":
        """Fresh episodes everywhere."""
        observation = env.reset()
        start = torch.ones(env.num_envs, dtype=torch.bool, device=policy.device)
        return cls(observation, start, policy.initial_memory(env.num_envs))

    def state_dict(self) -> dict[str, Any]:
        """Its tensors by name: `Progress(**saved)` brings it back."""
        return {"observation": dict(self.observation), "start": self.start, "memory": self.memory}


class EpisodeLog:
    """Metrics of the episodes that ended, and the running return of those under way.

    Args:
        on_end: called with the returns (M,) of episodes that end in a step, in the order of their environments.
    """

    def __init__(
        self,
        num_envs: int,
        device: torch.device | str = "cpu",
        on_end: Callable[[Float[Tensor, " M"]], None] | None = None,
    ) -> None:
        self.running = torch.zeros(num_envs, device=device)
        self.ended: list[dict[str, Tensor]] = []
        self.on_end = on_end

    def add(self, step: EnvStep) -> None:
        self.running += step.reward
        done = step.terminated | step.truncated
        if done.any():
            rows = {name: value[done].float() for name, value in step.metrics.items()}
            returns = self.running[done]
            self.ended.append({"return": returns, **rows})
            self.running[done] = 0.0
            if self.on_end is not None:
                self.on_end(returns)

    def flush(self) -> dict[str, float]:
        """Mean of each metric over the episodes ended since the last call, and their number as `episodes`.

        Under torchrun: of this process's environments.
        """
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


@dataclass
class Ends:
    """Steps whose successor's value has to be computed: gathered, then valued in one pass."""

    step: list[Tensor] = field(default_factory=list)
    row: list[Tensor] = field(default_factory=list)
    observation: dict[str, list[Tensor]] = field(default_factory=dict)
    memory: list[Tensor] = field(default_factory=list)

    def add(self, t: int, rows: Tensor, observation: Observation, memory: Tensor) -> None:
        """Rows of step t: what they led to, and the memory they left."""
        self.step.append(torch.full_like(rows, t))
        self.row.append(rows)
        self.memory.append(memory[rows])
        for name, part in observation.items():
            self.observation.setdefault(name, []).append(part[rows])

    def write(self, policy: Policy, next_value: Float[Tensor, "T B"]) -> None:
        """Puts their values where they belong."""
        observation = {name: torch.cat(parts) for name, parts in self.observation.items()}
        value = policy(policy.normalise(observation), torch.cat(self.memory))[1]
        next_value[torch.cat(self.step), torch.cat(self.row)] = value


@torch.no_grad()
def collect(
    env: TensorEnv,
    policy: Policy,
    progress: Progress,
    steps: int,
    generator: torch.Generator,
    log: EpisodeLog,
    rollout: Rollout | None = None,
) -> Rollout:
    """Act `steps` times in every environment; `progress` moves along in place.

    Under torchrun every process draws the noise of all environments and uses its share, so B environments act alike
    on however many processes they are; all processes hold equal generators.

    Args:
        rollout: an earlier one of the same size whose memory is used again; None makes room.
    """
    batch = env.num_envs
    rollout = rollout or Rollout.allocate(policy, steps, batch)
    rollout.memory = progress.memory
    own = slice(distributed.rank() * batch, (distributed.rank() + 1) * batch)
    noise = policy.draw_noise((steps, batch * distributed.world_size()), generator)[:, own].to(policy.device)
    ends, outputs = Ends(), []
    last_step = torch.arange(batch, device=policy.device)
    for t in range(steps):
        for name, room in rollout.observation.items():
            room[t] = progress.observation[name]
        memory = progress.memory
        if policy.memory is not None:
            memory = memory.masked_fill(progress.start[:, None], 0.0)
        output, rollout.value[t], memory = policy(policy.normalise(progress.observation), memory)
        outputs.append(output)
        action = policy.distribution(output).sample(noise[t])
        step = env.step(action)
        log.add(step)
        rollout.start[t], rollout.action[t], rollout.reward[t] = progress.start, action, step.reward
        rollout.terminated[t], rollout.truncated[t] = step.terminated, step.truncated
        # elsewhere the next step's value is the same number
        rows = last_step if t == steps - 1 else step.truncated.nonzero()[:, 0]
        if len(rows):
            ends.add(t, rows, {name: step.final_observation[name] for name in rollout.observation}, memory)
        progress.observation, progress.start = step.observation, step.terminated | step.truncated
        progress.memory = memory
    rollout.log_prob.copy_(policy.distribution(torch.stack(outputs)).log_prob(rollout.action))
    rollout.next_value[:-1] = rollout.value[1:]  # of another episode where one ended: overwritten, or never used
    ends.write(policy, rollout.next_value)
    return rollout
