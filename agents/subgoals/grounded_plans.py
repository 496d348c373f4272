"""Plans in words made testable: what a model says to do, read by a decomposer that knows the scene.

A model's steps are words, and simulator truth cannot tell whether words are done. Here each step is read as an errand
of its own, after those before it ("pick up the mug, then put it on the desk"), by a decomposer over the scene graph.
A step that it cannot read, or about a thing that is not there, is left out and counted: no judge of this kind could
ever say that it is done, and the agent would stay at it to the end of the episode.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from agents.subgoals.plan_cache import plans_of
from agents.subgoals.types import Decomposer, Plan
from core.errors import InputError
from envs.goals import Goal
from scene.types import Scene


@dataclass
class GroundingCounts:
    """What became of the steps of all plans so far."""

    grounded: int = 0  # steps in words that were read, and have tests now
    left_out: int = 0  # steps in words that could not be read
    bare: int = 0  # plans of whose steps none was left: the goal stands as its own only step

    def summary(self) -> dict[str, Any]:
        """Plain numbers for result.json."""
        return dict(vars(self))


class GroundedPlans:
    """A decomposer whose plans have a test at every step, or are the goal alone.

    Plans that have tests already, and goals that stand alone, pass as they are. A step may become several where the
    reader puts rooms and doors between. The source of a plan stays that of whoever made it.

    Attributes:
        counts: steps read and left out.
    """

    def __init__(self, decomposer: Decomposer, reader: Decomposer) -> None:
        """
        Args:
            decomposer: makes the plans.
            reader: turns a sentence of steps joined by ", then " into steps with tests, or raises InputError.
        """
        self.decomposer, self.reader = decomposer, reader
        self.counts = GroundingCounts()

    def __call__(self, goal: Goal | str, scene: Scene, view: Any = None) -> Plan:
        """Raises InputError where the decomposer does."""
        return self.plans([goal], [scene], [view])[0]

    def plans(self, goals: Sequence[Goal | str], scenes: Sequence[Scene], views: Sequence[Any]) -> list[Plan]:
        """A plan for each goal, in order; see `plans_of`."""
        made = plans_of(self.decomposer, goals, scenes, views)
        return [self._grounded(plan, scene, view) for plan, scene, view in zip(made, scenes, views)]

    def _grounded(self, plan: Plan, scene: Scene, view: Any) -> Plan:
        if all(step.test is not None or step.text == plan.goal for step in plan.subgoals):
            return plan
        sentence, read = "", Plan(plan.goal, (), plan.source)
        for step in plan.subgoals:
            words = step.text.rstrip(" .!;,")
            longer = f"{sentence}, then {words}" if sentence else words
            try:
                read = self.reader(longer, scene, view)
            except InputError:  # this is what `left_out` counts
                self.counts.left_out += 1
            else:
                sentence = longer
                self.counts.grounded += 1
        if not sentence:
            self.counts.bare += 1
        return replace(read, goal=plan.goal, source=plan.source)
