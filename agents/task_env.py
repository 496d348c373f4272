"""The simulator's tasks as a `TensorEnv`: frames become observations, and either reward becomes the reward."""

import time
from collections import defaultdict
from dataclasses import replace

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from agents.encoders import ObservationSpec
from agents.networks import Observation
from agents.rollout import EnvStep
from agents.senses import Note, Senses, Sight, with_rows
from agents.sentence_reward import SentenceReward
from core import distributed
from core.errors import InputError, check_choice
from envs.home_stream import HomeStream
from envs.simulator import Simulator
from envs.state import SimState
from scene.render import Frame

REWARDS = ("task", "vlm")


class TaskEnv:
    """B environments that reset themselves, seen through some senses.

    `reward` says what the learner is given. With a `scorer` both rewards are computed at every step, and both returns
    are among the metrics. The frame that is scored is the step's own: the picture an episode ends with is paid before
    the environment is reset.

    With a `stream` the homes change after fixed numbers of environment steps, summed over all processes. Episodes in
    homes that leave end as truncated there, with the last frame as their last observation; metrics then hold `cut`,
    whether that ended an episode.

    Attributes:
        simulator: the one of the present homes.
        taken: environment steps so far, of all processes.
        seconds: time spent so far in "render" (the whole simulator) and "encode".

    Raises:
        InputError: an unknown reward; reward="vlm" without a scorer; a simulator without sensors, or with other homes
            than the stream begins with.
    """

    def __init__(
        self,
        simulator: Simulator,
        senses: Senses,
        reward: str = "task",
        scorer: SentenceReward | None = None,
        stream: HomeStream | None = None,
    ) -> None:
        check_choice("reward", reward, REWARDS)
        if reward == "vlm" and scorer is None:
            raise InputError("reward='vlm' needs a model that scores frames")
        if simulator.sensors is None:
            raise InputError("agents look at pictures; give the simulator sensors")
        self.simulator, self.senses, self.reward, self.scorer = simulator, senses, reward, scorer
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
        self.potential = torch.zeros(self.num_envs)
        self.returns = torch.zeros(len(REWARDS), self.num_envs)

    @property
    def observation_spec(self) -> dict[str, ObservationSpec]:
        """What the senses give."""
        return self.senses.spec

    def reset(self) -> Observation:
        """New episodes everywhere, the first ones of the simulator's seed."""
        self.state = self.simulator.reset()
        self.returns.zero_()
        sight, self.potential = self._begin(torch.arange(self.num_envs))
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
        self.returns[0] += step.reward
        reward, metrics = step.reward, {**step.metrics, "task_return": self.returns[0].clone()}
        if self.scorer is not None:
            potential = self._potential(step.frame, state, sight)
            # an episode that the task ends was ended by the agent's stop
            scored = self.scorer(self.potential, potential, state.text, step.terminated)
            self.returns[1] += scored
            metrics["vlm_return"] = self.returns[1].clone()
            self.potential = potential
            reward = scored if self.reward == "vlm" else reward
        metrics["steps"] = state.step.float()
        self._spend("encode", started)

        truncated = step.truncated
        if self.stream is not None:
            cut = self._change_homes(self.stream) & ~(step.terminated | step.truncated)
            metrics["cut"], truncated = cut.float(), truncated | cut
        done = step.terminated | truncated

        observation = final
        if done.any():
            self.state = self.simulator.reset(self.state, done)
            rows = done.nonzero()[:, 0]
            first, potential = self._begin(rows)
            observation = with_rows(final, rows, first.observation)
            self.note = with_rows(self.note, rows, first.note)
            self.potential = self.potential.index_copy(0, rows, potential)
            self.returns[:, done] = 0.0
        return EnvStep(observation, final, reward, step.terminated, truncated, metrics)

    def _change_homes(self, stream: HomeStream) -> Bool[Tensor, " B"]:
        """Counts the step, moves on to the pool that serves the next one, and says whose home is gone."""
        self.taken += self.num_envs * distributed.world_size()
        pool = stream.pool_at(stream.number(self.taken))
        if pool is self.simulator.homes:
            return torch.zeros(self.num_envs, dtype=torch.bool)
        self.simulator, self.state, gone = self.simulator.moved_to(pool, self.state)
        self._attach()
        self.note = self.senses.carried(self.note)
        return gone

    def _attach(self) -> None:
        self.senses.attach(self.simulator)
        if self.scorer is not None:
            self.scorer.attach(self.simulator)

    def _begin(self, rows: Int64[Tensor, " K"]) -> tuple[Sight, Tensor]:
        """What agents see first of the episodes that have just begun in some environments."""
        started = time.perf_counter()
        state = self.state.rows(rows)
        frame = self.simulator.observe(state)
        self._spend("render", started)
        started = time.perf_counter()
        sight = self.senses.observe(frame, state, self.senses.begin(state))
        potential = torch.zeros(len(rows)) if self.scorer is None else self._potential(frame, state, sight)
        self._spend("encode", started)
        return sight, potential

    def _potential(self, frame: Frame, state: SimState, sight: Sight) -> Tensor:
        assert self.scorer is not None
        embedding = self.scorer.embed(frame) if sight.embedding is None else sight.embedding
        return self.scorer.potential(embedding, state.text)

    def _spend(self, what: str, started: float) -> None:
        self.seconds[what] += time.perf_counter() - started

    def state_dict(self) -> dict:
        """Everything that decides what comes next."""
        return {
            "state": self.state.state_dict(),
            "note": dict(self.note),
            "potential": self.potential,
            "returns": self.returns,
            "taken": self.taken,
        }

    def load_state_dict(self, saved: dict) -> None:
        """Go on where `state_dict` was taken, with the same senses, and the same simulator or stream.

        Raises:
            WorkerError: a process of the stream failed.
        """
        if self.stream is not None:
            self.taken = saved["taken"]
            pool = self.stream.pool_at(self.stream.number(self.taken))
            if pool is not self.simulator.homes:
                self.simulator, _, _ = self.simulator.moved_to(pool, self.state)
                self._attach()
        self.state = SimState.from_state_dict(saved["state"])
        if self.stream is not None:  # sentences are numbered as they are met: a run that began here has met fewer
            text = self.simulator.fields.text(self.state.home.numpy(), self.state.goal.numpy())
            self.state = replace(self.state, text=torch.from_numpy(text))
        self.note = dict(saved["note"])
        self.potential, self.returns = saved["potential"], saved["returns"].clone()
