"""The simulator's tasks as a `TensorEnv`: frames become observation vectors, and either reward becomes the reward."""

import time
from collections import defaultdict
from dataclasses import fields

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from agents.encoders import ObservationSpec
from agents.features import Note, ObservationEncoder, Perception
from agents.networks import Observation
from agents.rollout import EnvStep
from agents.shaping import FrameReward
from core.errors import InputError
from envs.simulator import Simulator
from envs.state import ACTION_NAMES, STOP, SimState
from vl.rewards import RewardModel, StepBatch

REWARDS = ("task", "vlm")


class TaskEnv:
    """B environments that reset themselves, seen through frozen features.

    Both rewards are computed at every step; `reward` says which one the learner is given. The frame that is scored is
    the step's own: the picture an episode ends with is paid before the environment is reset.

    Attributes:
        seconds: time spent so far in "render" (the whole simulator) and "encode".
    """

    num_actions = len(ACTION_NAMES)
    action_size = 0

    def __init__(
        self,
        simulator: Simulator,
        encoder: ObservationEncoder,
        reward: str,
        model: RewardModel,
        frame_reward: FrameReward,
    ) -> None:
        if reward not in REWARDS:
            raise InputError(f"reward={reward!r} is unknown; choose {' or '.join(REWARDS)}")
        self.simulator, self.encoder, self.reward = simulator, encoder, reward
        self.model, self.frame_reward = model, frame_reward
        self.num_envs = simulator.num_envs
        self.seconds: dict[str, float] = defaultdict(float)
        self.state: SimState = simulator.reset()
        self.note = Note.empty(self.num_envs)
        self.potential = torch.zeros(self.num_envs)
        self.returns = torch.zeros(len(REWARDS), self.num_envs)

    @property
    def observation_spec(self) -> dict[str, ObservationSpec]:
        """One vector of features."""
        return {"vector": ObservationSpec((self.encoder.size,))}

    def reset(self) -> Observation:
        """New episodes everywhere, the first ones of the simulator's seed."""
        self.state = self.simulator.reset()
        self.note = Note.empty(self.num_envs)
        self.returns.zero_()
        return {"vector": self._begin(torch.ones(self.num_envs, dtype=torch.bool), None)}

    def step(self, action: Int64[Tensor, " B"]) -> EnvStep:
        """One action everywhere; environments whose episode ended go on with their next one."""
        started = time.perf_counter()
        state, step = self.simulator.step(self.state, action)
        done = step.terminated | step.truncated
        self._spend("render", started)

        started = time.perf_counter()
        assert step.frame is not None, "a TaskEnv needs a simulator with sensors"
        self.note.action = action
        seen = self.encoder.perceive(step.frame, state.goal)
        final, self.note = self.encoder.observe(seen, state, self.note)
        potential = self._potential(seen, state.goal)
        vlm = self.frame_reward(self.potential, potential, state.goal, step.terminated & (action == STOP))
        rewards = torch.stack([step.reward, vlm])
        self.returns += rewards
        metrics = {**step.metrics, **{f"{name}_return": row.clone() for name, row in zip(REWARDS, self.returns)}}
        metrics["steps"] = state.step.float()
        self.potential, self.state = potential, state
        self._spend("encode", started)

        observation = final
        if done.any():
            self.state = self.simulator.reset(state, done)
            self.note = self.note.where(done, Note.empty(self.num_envs))
            self.returns[:, done] = 0.0
            observation = self._begin(done, final)
        reward = rewards[REWARDS.index(self.reward)]
        return EnvStep({"vector": observation}, {"vector": final}, reward, step.terminated, step.truncated, metrics)

    def _begin(self, mask: Bool[Tensor, " B"], observation: Float[Tensor, "B F"] | None) -> Float[Tensor, "B F"]:
        """First observations of the episodes in `mask`, merged into `observation`."""
        started = time.perf_counter()
        rows = mask.nonzero()[:, 0]
        state = self.state.rows(rows)
        frame = self.simulator.observe(state)
        self._spend("render", started)
        started = time.perf_counter()
        seen = self.encoder.perceive(frame, state.goal)
        first, note = self.encoder.observe(seen, state, Note.empty(len(rows)))
        for field in fields(Note):
            column = getattr(self.note, field.name).clone()
            column[rows] = getattr(note, field.name)
            setattr(self.note, field.name, column)
        self.potential = self.potential.clone()
        self.potential[rows] = self._potential(seen, state.goal)
        observation = torch.zeros(self.num_envs, self.encoder.size) if observation is None else observation.clone()
        observation[rows] = first
        self._spend("encode", started)
        return observation

    def _potential(self, seen: Perception, goal: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
        return self.frame_reward.potential(self.model.score(StepBatch(embedding=seen.embedding), goal), goal)

    def _spend(self, what: str, started: float) -> None:
        self.seconds[what] += time.perf_counter() - started

    def state_dict(self) -> dict:
        """Everything that decides what comes next."""
        return {
            "state": {f.name: getattr(self.state, f.name) for f in fields(SimState)},
            "note": self.note.state_dict(),
            "potential": self.potential,
            "returns": self.returns,
        }

    def load_state_dict(self, saved: dict) -> None:
        self.state = SimState(**saved["state"])
        self.note = Note(**saved["note"])
        self.potential, self.returns = saved["potential"], saved["returns"].clone()
