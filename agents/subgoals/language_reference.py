"""A language model that sees as the reference policy: what it thinks of each action, told the goal and never a subgoal.

Any image-text model of agents/reasoning/vlm.py, as released or after `train-reasoner environment.scenes=`. It looks
through its own camera and is asked as it acts (agents/reasoning/turns.py): the picture now, the goal, its last actions;
but where an agent would draw an answer, all actions are scored (agents/reasoning/action_choice.py). So a divergence
from it is exact up to the thoughts that were drawn.

It is asked before every step that is learned from, for each environment: that is what such a run costs.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agents.networks import Observation
from agents.reasoning.action_choice import thoughtful_log_probs
from agents.reasoning.action_text import instead
from agents.reasoning.turn_config import TurnStyle, read_style
from agents.reasoning.turns import DRAWS, ask, turn_numbers
from agents.subgoals.reference import spread_evenly
from agents.task_env import TaskEnv
from core.errors import InputError

MOST_THOUGHTS: Final = 64
ROWS: Final = 64  # environments asked at a time: bounds memory, and answers do not depend on it


class LanguageReference:
    """A model that is asked, in the simulator that a policy learns in.

    Args:
        vlm: agents.reasoning.vlm.VLM or what stands in for one; it stays as it is.
        style: how it is asked.
        env: where the policy learns.
        spread: as of `ReferencePolicy`.
        thoughts: drawn before each answer and averaged over; 0 = it answers at once.
        seed: of the thoughts.

    Raises:
        InputError: actions without names, a number out of range, or a question that does not fit the model.
    """

    def __init__(
        self, vlm: Any, style: TurnStyle, env: TaskEnv, spread: float, *, thoughts: int = 1, seed: int = 0
    ) -> None:
        simulator = env.simulator
        instead(simulator.action_names if simulator.control == "discrete" else ())
        if not 0 < spread < 1 or not 0 <= thoughts <= MOST_THOUGHTS:
            raise InputError(
                f"spread={spread} is a share of probability between 0 and 1, and thoughts={thoughts} a number from 0 "
                f"to {MOST_THOUGHTS}"
            )
        self.vlm, self.style, self.env, self.spread = vlm, style, env, spread
        self.thoughts, self.seed = thoughts, seed
        self.past: list[list[str]] = [[] for _ in range(env.num_envs)]
        self.asked, self.without_answer, self.seconds = 0, 0, 0.0
        self._said: list[Float[Tensor, "B A"]] = []
        longest = max(simulator.action_names, key=len)
        one = env.state.rows(torch.zeros(1, dtype=torch.int64, device=simulator.device))
        ask(vlm, simulator, style, one, simulator.observe(one, sensors=style.sensors), [[longest] * style.history])

    @classmethod
    def from_pretrained(
        cls, path_or_id: str | Path, env: TaskEnv, spread: float, *, thoughts: int = 1, seed: int = 0
    ) -> "LanguageReference":
        """The model in a folder or under a hub id, asked as its turns.json says, on the simulator's device.

        Raises:
            MissingFileError, InputError: nothing there, another kind of model, or it cannot be asked.
        """
        from agents.reasoning.vlm import VLM  # needs transformers

        vlm = VLM.from_pretrained(path_or_id, device=str(env.simulator.device))
        return cls(vlm, read_style(path_or_id), env, spread, thoughts=thoughts, seed=seed)

    @torch.no_grad()
    def watch(self, action: Tensor, *, asked: bool) -> None:
        """Asks what it would do before a step is taken, and remembers what is done instead."""
        state = self.env.state
        names = self.env.simulator.action_names
        for row, step in enumerate(state.step.tolist()):
            if step == 0:
                self.past[row] = []
        if asked:
            began = time.perf_counter()
            rows = torch.arange(len(state), device=state.step.device)
            self._said.append(torch.cat([self._asked(part) for part in rows.split(ROWS)]))
            self.seconds += time.perf_counter() - began
        kept = max(1, self.style.history)
        for row, number in enumerate(action.tolist()):
            self.past[row] = [*self.past[row], names[number]][-kept:]

    def _asked(self, rows: Tensor) -> Float[Tensor, "K A"]:
        simulator = self.env.simulator
        state = self.env.state.rows(rows)
        frame = simulator.observe(state, sensors=self.style.sensors)
        prompts = ask(self.vlm, simulator, self.style, state, frame, [self.past[row] for row in rows.tolist()])
        said, lost = thoughtful_log_probs(
            self.vlm,
            prompts,
            simulator.action_names,
            thoughts=self.thoughts,
            max_new_tokens=self.style.max_new_tokens,
            seed=DRAWS,
            numbers=[number >> 7 for number in turn_numbers(self.seed, state)],  # room for a number of the thought
        )
        self.asked += len(rows)
        self.without_answer += lost
        return said

    def follow(self, observation: Observation, start: Bool[Tensor, "T B"]) -> Float[Tensor, "T B A"]:
        """What it said before each step of the rollout."""
        assert len(self._said) == len(start), "watch() each step of the rollout first"
        said, self._said = torch.stack(self._said), []
        return spread_evenly(said, self.spread)

    def summary(self) -> dict[str, Any]:
        """How often it was asked, how many of its thoughts got to no answer, and the time that took."""
        thoughts = self.asked * self.thoughts
        return {
            "asked": self.asked,
            "thoughts": thoughts,
            "thoughts_without_answer": self.without_answer,
            "seconds": round(self.seconds, 1),
        }

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs; the model itself stands still."""
        return {"past": [list(done) for done in self.past]}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.past = [list(done) for done in saved["past"]]
