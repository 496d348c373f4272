"""The simulator's tasks as a `TensorEnv`: frames become observations; the task, a model or both pay."""

import time
from collections import defaultdict
from dataclasses import replace
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from agents.encoders import ObservationSpec
from agents.networks import Observation
from agents.rollout import EnvStep
from agents.senses import Note, Senses, Sight, with_rows
from core import distributed
from core.checkpoint import on_device
from core.errors import InputError
from envs.home_stream import HomeStream
from envs.simulator import Simulator
from envs.state import SimState
from scene.render import Frame


class StepReward(Protocol):
    """A reward model's scores as a reward: of frames (agents/sentence_reward.py), of objects (grounded_reward.py)."""

    def attach(self, simulator: Simulator) -> None:
        """Learns a simulator's sentences and homes; again whenever its homes change."""
        ...

    def begin(self, state: SimState) -> Note:
        """What it remembers of episodes that begin."""
        ...

    def carried(self, note: Note) -> Note:
        """What it remembers from before the homes changed, for those attached now; of agents whose home stays."""
        ...

    def potential(self, frame: Frame, state: SimState, sight: Sight, note: Note) -> tuple[Float[Tensor, " B"], Note]:
        """How good it looks now, and what it remembers then.

        Args:
            sight: what the senses made of the same frame.
        """
        ...

    def __call__(
        self,
        potential: Float[Tensor, " B"],
        next_potential: Float[Tensor, " B"],
        text: Int64[Tensor, " B"],
        stopped: Bool[Tensor, " B"],
    ) -> Float[Tensor, " B"]:
        """Reward of a step between two potentials."""
        ...


class TaskEnv:
    """B environments that reset themselves, seen through some senses.

    The learner is given `task_weight` times the task's own reward and `model_weight` times the model's. With a model
    both are computed at every step, and both returns are among the metrics, unweighted. What is scored is the step's
    own frame: the picture an episode ends with is paid before the environment is reset.

    A sum can have another best policy than either of its parts. What the model's potential adds does not change the
    task's best policy (agents/shaping.py); what it pays for a stop, and its cost of a step, can.

    With a `stream` the homes change after fixed numbers of environment steps, summed over all processes. Episodes in
    homes that leave end as truncated there, with the last frame as their last observation; metrics then hold `cut`,
    whether that ended an episode.

    Attributes:
        simulator: the one of the present homes.
        taken: environment steps so far, of all processes.
        seconds: time spent so far in "render" (the whole simulator), "encode" (the senses) and "score" (the model,
            with the frames it encodes for itself).

    Raises:
        InputError: a weight for a model that is not given; a simulator without sensors, or with other homes than the
            stream begins with.
    """

    def __init__(
        self,
        simulator: Simulator,
        senses: Senses,
        model: StepReward | None = None,
        *,
        task_weight: float = 1.0,
        model_weight: float = 0.0,
        stream: HomeStream | None = None,
    ) -> None:
        if model_weight and model is None:
            raise InputError(f"model_weight={model_weight} needs a model that scores the steps")
        if simulator.sensors is None:
            raise InputError("agents look at pictures; give the simulator sensors")
        self.simulator, self.senses, self.model = simulator, senses, model
        self.task_weight, self.model_weight = task_weight, model_weight
        if stream is not None and simulator.homes is not stream.pool_at(0):
            raise InputError("a simulator on a stream begins with its first pool: Simulator(stream.pool_at(0), ...)")
        self.stream, self.taken = stream, 0
        self.num_envs = simulator.num_envs
        continuous = simulator.control == "continuous"
        self.num_actions = 0 if continuous else len(simulator.action_names)
        self.action_size = simulator.action_size if continuous else 0
        self.seconds: dict[str, float] = defaultdict(float)
        self._attach()
        self.state: SimState = simulator.reset()
        self.note: Note = {}
        self.potential = torch.zeros(self.num_envs, device=simulator.device)
        self.scored: Note = {}  # what the model remembers
        self.returns = torch.zeros(2, self.num_envs, device=simulator.device)  # of the task, of the model

    @property
    def observation_spec(self) -> dict[str, ObservationSpec]:
        """What the senses give."""
        return self.senses.spec

    def reset(self) -> Observation:
        """New episodes everywhere, the first ones of the simulator's seed."""
        self.state = self.simulator.reset()
        self.returns.zero_()
        sight, self.potential, self.scored = self._begin(torch.arange(self.num_envs, device=self.simulator.device))
        self.note = sight.note
        return sight.observation

    def step(self, action: Tensor) -> EnvStep:
        """One action everywhere; environments whose episode ended go on with their next one."""
        started = time.perf_counter()
        state, step = self.simulator.step(self.state, action)
        self._spend("render", started)

        started = time.perf_counter()
        assert step.frame is not None, "a simulator with sensors gives frames"
        taken = action.clamp(-1, 1) if self.action_size else action
        sight = self.senses.observe(step.frame, state, {**self.note, "action": taken})
        final, self.note, self.state = sight.observation, sight.note, state
        self._spend("encode", started)

        self.returns[0] += step.reward
        reward, metrics = step.reward, {**step.metrics, "task_return": self.returns[0].clone()}
        if self.model is not None:
            started = time.perf_counter()
            potential, self.scored = self.model.potential(step.frame, state, sight, self.scored)
            # an episode that the task ends was ended by the agent's stop
            paid = self.model(self.potential, potential, state.text, step.terminated)
            self.returns[1] += paid
            metrics["model_return"] = self.returns[1].clone()
            self.potential = potential
            reward = self.task_weight * step.reward + self.model_weight * paid
            self._spend("score", started)
        metrics["steps"] = state.step.float()

        truncated = step.truncated
        if self.stream is not None:
            cut = self._change_homes(self.stream) & ~(step.terminated | step.truncated)
            metrics["cut"], truncated = cut.float(), truncated | cut
        done = step.terminated | truncated

        observation = final
        if done.any():
            self.state = self.simulator.reset(self.state, done)
            rows = done.nonzero()[:, 0]
            first, potential, scored = self._begin(rows)
            observation = with_rows(final, rows, first.observation)
            self.note = with_rows(self.note, rows, first.note)
            self.potential = self.potential.index_copy(0, rows, potential)
            self.scored = with_rows(self.scored, rows, scored)
            self.returns[:, done] = 0.0
        return EnvStep(observation, final, reward, step.terminated, truncated, metrics)

    def _change_homes(self, stream: HomeStream) -> Bool[Tensor, " B"]:
        """Counts the step, moves on to the pool that serves the next one, and says whose home is gone."""
        self.taken += self.num_envs * distributed.world_size()
        pool = stream.pool_at(stream.number(self.taken))
        if pool is self.simulator.homes:
            return torch.zeros(self.num_envs, dtype=torch.bool, device=self.simulator.device)
        self.simulator, self.state, gone = self.simulator.moved_to(pool, self.state)
        self._attach()
        self.note = self.senses.carried(self.note)
        if self.model is not None:
            self.scored = self.model.carried(self.scored)
        return gone

    def _attach(self) -> None:
        self.senses.attach(self.simulator)
        if self.model is not None:
            self.model.attach(self.simulator)

    def _begin(self, rows: Int64[Tensor, " K"]) -> tuple[Sight, Tensor, Note]:
        """What agents see first of the episodes that have just begun in some environments, and what that scores."""
        started = time.perf_counter()
        state = self.state.rows(rows)
        frame = self.simulator.observe(state)
        self._spend("render", started)
        started = time.perf_counter()
        sight = self.senses.observe(frame, state, self.senses.begin(state))
        self._spend("encode", started)
        if self.model is None:
            return sight, torch.zeros(len(rows), device=rows.device), {}
        started = time.perf_counter()
        potential, scored = self.model.potential(frame, state, sight, self.model.begin(state))
        self._spend("score", started)
        return sight, potential, scored

    def _spend(self, what: str, started: float) -> None:
        self.seconds[what] += time.perf_counter() - started

    def state_dict(self) -> dict:
        """Everything that decides what comes next."""
        return {
            "state": self.state.state_dict(),
            "note": dict(self.note),
            "potential": self.potential,
            "scored": dict(self.scored),
            "returns": self.returns,
            "taken": self.taken,
        }

    def load_state_dict(self, saved: dict) -> None:
        """Go on where `state_dict` was taken, with the same senses, and the same simulator or stream.

        Raises:
            WorkerError: a process of the stream failed.
        """
        saved = on_device(saved, self.simulator.device)
        if self.stream is not None:
            self.taken = saved["taken"]
            pool = self.stream.pool_at(self.stream.number(self.taken))
            if pool is not self.simulator.homes:
                self.simulator, _, _ = self.simulator.moved_to(pool, self.state)
                self._attach()
        self.state = SimState.from_state_dict(saved["state"])
        if self.stream is not None:  # sentences are numbered as they are met: a run that began here has met fewer
            text = self.simulator.fields.text(self.state.home.cpu().numpy(), self.state.goal.cpu().numpy())
            self.state = replace(self.state, text=torch.from_numpy(text).to(self.simulator.device))
        self.note = dict(saved["note"])
        self.potential, self.scored = saved["potential"], dict(saved["scored"])
        self.returns = saved["returns"].clone()
