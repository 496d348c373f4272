"""Subgoals in homes as `train-agent algorithm=vsc` and the agents it leaves have them: from the scene, judged by truth.

What enters beside picture and sentence is said here once: the scene graph (plans) and the simulator's state (whether a
subgoal is done). Whoever compares such an agent with one that sees pictures alone should say so.
"""

from collections.abc import Sequence
from typing import Any

from agents.senses import Senses
from agents.subgoals.judges import NoisyJudge, TruthJudge
from agents.subgoals.subgoal_senses import SubgoalSenses
from agents.subgoals.symbolic import SymbolicDecomposer, shuffled
from agents.subgoals.types import Decomposer, Judge, Plan
from envs.goals import Goal
from envs.simulator import Simulator
from scene.types import Scene

NO_PLANS = "none"


class HomeSubgoals(SubgoalSenses):
    """Senses with subgoals that a few plain settings describe.

    Args:
        subgoals: grain of agents/subgoals/symbolic.py, or none: the goal is the only subgoal.
        shuffle: subgoals in another order.
        miss: chance that the judge calls undone what is done; false: done what is not, at each step.
        seed: of the shuffling and of the judge's errors.
        vocabulary: see `SubgoalSenses`.

    Raises:
        InputError: unknown grain, or chances outside [0, 1] once a simulator is attached.
    """

    def __init__(
        self,
        inner: Senses,
        *,
        subgoals: str,
        shuffle: bool,
        miss: float,
        false: float,
        seed: int,
        vocabulary: Sequence[str] = (),
    ) -> None:
        self._settings = {"subgoals": subgoals, "shuffle": shuffle, "miss": miss, "false": false, "seed": seed}
        symbolic = None if subgoals == NO_PLANS else SymbolicDecomposer(subgoals)

        def decompose(goal: Goal | str, scene: Scene, view: Any = None) -> Plan:
            if symbolic is None:
                return Plan(goal if isinstance(goal, str) else goal.text, (), "symbolic")
            plan = symbolic(goal, scene)
            return shuffled(plan, seed) if shuffle else plan

        def make_judge(simulator: Simulator) -> Judge:
            truth = TruthJudge(simulator)
            return NoisyJudge(truth, miss=miss, false=false, seed=seed) if miss or false else truth

        made: Decomposer = decompose
        super().__init__(inner, made, make_judge, vocabulary)

    @property
    def description(self) -> dict[str, Any]:
        """What makes them again: `HomeSubgoals(inner, **description)`."""
        return {**self._settings, "vocabulary": self.vocabulary}
