"""How a language model acts in the simulator, as far as a trained one must be asked again; and what a run can be told.

The first is kept as turns.json in the model's folder. A folder without that file, say a released model, is asked in the
default way.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from agents.homes import PROCEDURAL
from core.errors import InputError, check_choice
from core.files import atomic_write, plain, read_json
from envs.state import Sensors
from envs.tasks import TASKS

STYLE_FILE: Final = "turns.json"
CREDITS: Final = ("gigpo", "gae")


@dataclass(frozen=True)
class TurnStyle:
    """How a model is asked."""

    task: str = ""  # what it was trained for; empty = nobody said
    history: int = 4  # of its last actions, told in the question
    max_new_tokens: int = 48  # of an answer
    image_size: int = 64  # pixels of a side of its picture
    max_turns: int = 0  # of an episode; 0 = as many as the task has

    def __post_init__(self) -> None:
        check_choice("task", self.task, ("", *TASKS))
        for name, least in (("history", 0), ("max_new_tokens", 1), ("image_size", 1), ("max_turns", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name}={getattr(self, name)} should be a number from {least} on")

    @property
    def sensors(self) -> Sensors:
        """The camera it looks through."""
        return Sensors(width=self.image_size, height=self.image_size)


def save_style(folder: str | Path, style: TurnStyle) -> None:
    """Writes it into a model's folder."""
    atomic_write(Path(folder) / STYLE_FILE, json.dumps(plain(asdict(style)), indent=2) + "\n")


def read_style(folder: str | Path) -> TurnStyle:
    """How the model in a folder wants to be asked; the default where the folder does not say.

    Raises:
        InputError: the file says it in a way that this version does not know.
    """
    if not (Path(folder) / STYLE_FILE).is_file():
        return TurnStyle()
    said: Any = read_json(Path(folder) / STYLE_FILE, "description of turns")
    known = {item.name: type(item.default) for item in fields(TurnStyle)}
    if not isinstance(said, dict) or {name: type(value) for name, value in said.items()} != known:
        raise InputError(
            f"{folder}/{STYLE_FILE} does not describe how a model is asked; expected {', '.join(known)}. "
            "Save the model again, or delete the file to ask in the default way"
        )
    return TurnStyle(**said)


def is_language_policy(folder: str | Path) -> bool:
    """Whether a folder holds a language model to be asked, rather than a network that train-agent made."""
    folder = Path(folder)
    return (folder / "config.json").is_file() and not (folder / "policy.json").is_file()


@dataclass
class EnvironmentConfig:
    """Learning from episodes in the simulator instead of from questions."""

    scenes: str = ""  # folder made by build-scenes, or procedural = generated homes; empty = learn from data=
    homes: int = 0  # train homes used, 0 = all; of procedural ones how many
    task: str = "find_object"  # what to do in the homes
    max_turns: int = 32  # answers after which an episode is cut off
    image_size: int = 64  # pixels of a side of the picture
    history: int = 4  # of the last actions, told in the question
    credit: str = "gigpo"  # who earned what: gigpo, or gae = a critic's estimates over turns
    gamma: float = 0.95  # discount per turn
    omega: float = 1.0  # gigpo: weight of comparing turns that met the same view; 0 = whole episodes alone (GRPO)
    std: bool = False  # gigpo: divide by the deviation within groups
    lam: float = 1.0  # gae: lambda
    thought_weight: float = 1.0  # weight of the thought's tokens beside those of the action
    malformed_cost: float = 0.1  # taken off the reward of a turn whose answer is not a thought and an action

    def __post_init__(self) -> None:
        check_choice("environment.task", self.task, TASKS)
        check_choice("environment.credit", self.credit, CREDITS)
        for name in ("gamma", "lam", "thought_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"environment.{name}={getattr(self, name)} should be between 0 and 1")
        for name in ("homes", "history", "omega", "malformed_cost"):
            if not getattr(self, name) >= 0:
                raise InputError(f"environment.{name}={getattr(self, name)} should not be negative")
        if self.scenes == PROCEDURAL and not self.homes:
            raise InputError(f"environment.scenes={PROCEDURAL} has no end: say how many homes, environment.homes=200")
        for name in ("max_turns", "image_size"):
            if getattr(self, name) < 1:
                raise InputError(f"environment.{name}={getattr(self, name)} should be positive")

    def style(self, max_new_tokens: int) -> TurnStyle:
        """How the policy is asked, in training and afterwards."""
        return TurnStyle(self.task, self.history, max_new_tokens, self.image_size, self.max_turns)
