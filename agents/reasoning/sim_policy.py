"""A language model that sees, as a policy of the simulator: for `evaluate-agent policy=FOLDER`, the model's folder."""

from pathlib import Path
from typing import Any

from torch import Tensor

from agents.reasoning.action_text import instead
from agents.reasoning.turn_config import TurnStyle, read_style
from agents.reasoning.turns import DRAWS, Taken, take_turn, turn_numbers
from core.errors import InputError
from envs.simulator import Simulator
from envs.state import Sensors, SimState
from scene.render import Frame


class VLMAgent:
    """Asks a model at every step and does what it answers; a `PolicyFn` for envs.episodes.run_episodes.

    An answer that names no action makes the agent turn to the left (agents/reasoning/action_text.py). Answers are drawn
    with noise that depends on the seed, the episode and the step only, so an episode goes the same way whatever batch
    it runs in (up to the last bits of the model's sums).

    Attributes:
        answers: how many there were.
        unreadable: of them, those that named no action.
        last: what was asked and answered in the last turn.

    Raises:
        InputError: the simulator's actions have no names (control="continuous").
    """

    def __init__(
        self, vlm: Any, simulator: Simulator, style: TurnStyle, *, seed: int = 0, temperature: float = 1.0
    ) -> None:
        """
        Args:
            simulator: whose episodes it acts in.
            temperature: of the answers; 0 = the likeliest token each time.
        """
        instead(simulator.action_names if simulator.control == "discrete" else ())
        self.vlm, self.simulator, self.style = vlm, simulator, style
        self.seed, self.temperature = seed, temperature
        self.past: dict[int, list[str]] = {}  # of each environment
        self.answers = self.unreadable = 0
        self.last: Taken | None = None

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, simulator: Simulator, *, seed: int = 0, greedy: bool = False, device: str = "cpu"
    ) -> "VLMAgent":
        """The model in a folder, asked as its turns.json says; the caller gives the simulator `agent.sensors`.

        Raises:
            MissingFileError, InputError: no such folder, or another kind of model in it.
        """
        from agents.reasoning.vlm import VLM

        vlm = VLM.from_pretrained(folder, device=device)
        return cls(vlm, simulator, read_style(folder), seed=seed, temperature=0.0 if greedy else 1.0)

    @property
    def sensors(self) -> Sensors:
        """The camera it looks through."""
        return self.style.sensors

    @property
    def unreadable_share(self) -> float:
        """Of all answers so far."""
        return self.unreadable / max(1, self.answers)

    def __call__(self, state: SimState, frame: Frame | None) -> Tensor:
        """An action for each environment; rows whose step is 0 begin an episode and forget the one before."""
        if frame is None:
            raise InputError("this policy looks at pictures; give the simulator sensors")
        places = state.env.tolist()
        for place, step in zip(places, state.step.tolist()):
            if step == 0:
                self.past[place] = []
        past = [self.past[place] for place in places]
        taken = take_turn(
            self.vlm, self.simulator, self.style, state, frame, past,
            temperature=self.temperature, top_p=1.0, seed=DRAWS, numbers=turn_numbers(self.seed, state),
        )  # fmt: skip
        self.last = taken
        self.answers += len(places)
        self.unreadable += sum(answer.action is None for answer in taken.answers)
        for done, action in zip(past, taken.action.tolist()):
            done.append(self.simulator.action_names[action])
        return taken.action
