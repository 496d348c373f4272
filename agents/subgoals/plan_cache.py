"""Plans made together and once: a memory in front of any decomposer, since planning takes a search or a call.

VSC-RL (arXiv:2502.07949) has the subgoals of a task made once, before training. So a goal in a home keeps the plan it
got first, whatever is seen at later starts, and a run that is resumed goes on with the plans it had, also with those
that fell back while an endpoint was down. Answers of models are on disk beside this (vl/generator.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol, runtime_checkable

from agents.subgoals.types import Decomposer, Plan, Subgoal, Test
from core.errors import InputError
from envs.goals import Goal
from scene.types import Scene


@runtime_checkable
class BatchDecomposer(Protocol):
    """A decomposer that makes several plans at once faster than one by one."""

    def plans(self, goals: Sequence[Goal | str], scenes: Sequence[Scene], views: Sequence[Any]) -> list[Plan]:
        """A plan for each goal, in order."""
        ...


def plans_of(
    decomposer: Decomposer, goals: Sequence[Goal | str], scenes: Sequence[Scene], views: Sequence[Any]
) -> list[Plan]:
    """A plan for each goal, in order: made together where the decomposer can, otherwise one by one.

    Raises:
        InputError: lists of different lengths, or what the decomposer raises.
    """
    if not len(goals) == len(scenes) == len(views):
        raise InputError(f"{len(goals)} goals, {len(scenes)} scenes and {len(views)} views; give one of each")
    if isinstance(decomposer, BatchDecomposer):
        return decomposer.plans(goals, scenes, views)
    return [decomposer(*given) for given in zip(goals, scenes, views)]


class RememberedPlans:
    """A decomposer that asks another one once for each goal in each home.

    Attributes:
        known: plans by home and goal.
    """

    def __init__(self, decomposer: Decomposer) -> None:
        self.decomposer = decomposer
        self.known: dict[str, Plan] = {}

    def __call__(self, goal: Goal | str, scene: Scene, view: Any = None) -> Plan:
        return self.plans([goal], [scene], [view])[0]

    def plans(self, goals: Sequence[Goal | str], scenes: Sequence[Scene], views: Sequence[Any]) -> list[Plan]:
        """A plan for each goal, in order; new ones are made together where the decomposer can.

        Raises:
            InputError: lists of different lengths, or what the decomposer raises.
        """
        if not len(goals) == len(scenes) == len(views):
            raise InputError(f"{len(goals)} goals, {len(scenes)} scenes and {len(views)} views; give one of each")
        keys = [_key(goal, scene) for goal, scene in zip(goals, scenes)]
        first = {key: i for i, key in reversed(list(enumerate(keys))) if key not in self.known}
        rows = sorted(first.values())
        if not rows:
            return [self.known[key] for key in keys]
        made = plans_of(self.decomposer, [goals[i] for i in rows], [scenes[i] for i in rows], [views[i] for i in rows])
        self.known.update(zip([keys[i] for i in rows], made))
        return [self.known[key] for key in keys]

    def forget(self, source: str) -> int:
        """Drops the plans of a source, such as "fallback" once an endpoint is back; returns how many."""
        dropped = [key for key, plan in self.known.items() if plan.source == source]
        for key in dropped:
            del self.known[key]
        return len(dropped)

    def state_dict(self) -> dict[str, Any]:
        """All plans as plain data, for a checkpoint or a JSON file."""
        return {key: asdict(plan) for key, plan in self.known.items()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave, also after a way through JSON.

        Raises:
            InputError: it is something else.
        """
        try:
            self.known = {str(key): _plan(raw) for key, raw in saved.items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"these are no saved plans ({type(error).__name__}: {error}); see state_dict()") from error


def _key(goal: Goal | str, scene: Scene) -> str:
    """Home and goal; two goals of one sentence differ when what fulfils them does."""
    return f"{scene.source}/{scene.id}\n{goal!r}"


def _plan(raw: Mapping[str, Any]) -> Plan:
    subgoals = tuple(Subgoal(item["text"], _test(item["test"]), _test(item["leads_to"])) for item in raw["subgoals"])
    return Plan(raw["goal"], subgoals, raw["source"])


def _test(raw: Mapping[str, Any] | None) -> Test | None:
    if raw is None:
        return None
    place = raw["place"]
    return Test(
        raw["kind"],
        objects=tuple(raw["objects"]),
        on=tuple(raw["on"]),
        room=raw["room"],
        place=None if place is None else (place[0], place[1]),
    )
