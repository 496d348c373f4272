"""What decomposers, judges and learners hand each other: subgoals in words, each with a test of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from jaxtyping import Bool
from torch import Tensor

from core.errors import InputError, check_choice
from envs.goals import Goal
from envs.state import SimState
from scene.render import Frame
from scene.types import Scene

TESTS: Final = ("reach", "hold", "rest", "enter", "open")
MOST: Final = 40
"""Subgoals of a plan at most; a longer one is refused."""


@dataclass(frozen=True)
class Test:
    """What is true of the world when a subgoal is done; raises InputError for a test of nothing."""

    __test__ = False  # pytest would take it for a class of tests

    kind: str  # reach, hold and rest as envs.goals.Stage; enter: be in a room; open: doors are open
    objects: tuple[int, ...] = ()  # ids of the home's objects, any of which will do; of open: indices of its doors
    on: tuple[int, ...] = ()  # rest: what they go on; hold: where they are to go next, lying there already will do
    room: int = -1  # enter: id of the room
    place: tuple[float, float] | None = None  # reach: a point instead of an object, world xy, metres

    def __post_init__(self) -> None:
        check_choice("test kind", self.kind, TESTS)
        if self.kind == "enter":
            if self.room < 0:
                raise InputError("an 'enter' test needs a room")
        elif not self.objects and self.place is None or self.kind == "rest" and not self.on:
            raise InputError(f"a {self.kind!r} test needs objects" + " and what they go on" * (self.kind == "rest"))


@dataclass(frozen=True)
class Subgoal:
    """One step of a goal."""

    text: str  # what to do, in words: "go to the bed"
    test: Test | None = None  # None: only a judge that reads the words can tell
    leads_to: Test | None = None  # of a step on the way to something: that being true already will do, too


@dataclass(frozen=True)
class Plan:
    """A goal and the steps to it, in order; without steps the goal itself is the only one."""

    goal: str
    subgoals: tuple[Subgoal, ...]
    source: str  # who made it: symbolic, planner, model, human, oracle, fallback

    def __post_init__(self) -> None:
        if len(self.subgoals) > MOST:
            raise InputError(f"{self.goal!r} falls into {len(self.subgoals)} subgoals; at most {MOST} make sense")
        if not self.subgoals:
            object.__setattr__(self, "subgoals", (Subgoal(self.goal),))


class Decomposer(Protocol):
    """From a goal to a plan."""

    def __call__(self, goal: Goal | str, scene: Scene, view: Any = None) -> Plan:
        """
        Args:
            view: (H, W, 3) uint8, what the agent sees at first; None where a decomposer needs no picture.

        Raises:
            InputError: the goal cannot be understood, or what it names is not in the scene.
        """
        ...


class Judge(Protocol):
    """Says which environments have done what they are at."""

    def __call__(self, current: Sequence[Subgoal | None], state: SimState, frame: Frame | None) -> Bool[Tensor, " B"]:
        """
        Args:
            current: per environment the subgoal under way, None where there is nothing to judge (the answer is False).
        """
        ...
