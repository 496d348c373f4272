"""High-level plans of household tasks as rows of steps: "go to the fridge", "put the apple on the plate".

The eight actions are ALFRED's (Shridhar et al., arXiv:1912.01734, section 3.1); its closing NoOp says nothing and is no
step here. Names of things are ALFRED's too: lower case, without spaces ("alarmclock").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from core.errors import InputError, check_choice

ACTIONS: Final = {
    "GotoLocation": "go to the {}",
    "PickupObject": "pick up the {}",
    "PutObject": "put the {} on the {}",
    "SliceObject": "slice the {}",
    "CleanObject": "clean the {}",
    "HeatObject": "heat the {}",
    "CoolObject": "cool the {}",
    "ToggleObject": "turn on the {}",
}
"""What can be done, and how a step reads in plain words."""
GOTO, PICK, PUT, SLICE, TOGGLE = "GotoLocation", "PickupObject", "PutObject", "SliceObject", "ToggleObject"
CHANGES: Final = ("CleanObject", "HeatObject", "CoolObject")
"""What happens to the thing in the hand."""


@dataclass(frozen=True)
class Step:
    """One step; raises InputError for an unknown action or a thing that has no name."""

    action: str  # key of ACTIONS
    object: str  # what is acted on; of GotoLocation: where to
    receptacle: str = ""  # of PutObject: what it goes on or into

    def __post_init__(self) -> None:
        check_choice("action", self.action, ACTIONS)
        names = 2 if self.action == PUT else 1
        if not self.object or bool(self.receptacle) != (names == 2):
            given = [name for name in (self.object, self.receptacle) if name]
            raise InputError(f"{self.action} is about {names} thing(s), each with a name, got {given}")

    @property
    def words(self) -> str:
        """The step in plain words."""
        return ACTIONS[self.action].format(self.object, self.receptacle)


Steps = tuple[Step, ...]


class StepPlanner(Protocol):
    """From goals in words to rows of steps; learned models and baselines alike."""

    def plans(self, goals: Sequence[str]) -> list[Steps]: ...
