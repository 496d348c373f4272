"""Where the thing stands that the subgoal under way speaks of, as far as the agent has seen it: for object tokens.

Object tokens carry the grounder's scores for the goal's sentence, so a subgoal's words alone would say nothing about
them. The same grounder scores the same objects for each subgoal's words, once per home, and the best of those seen so
far is pointed out. Rooms and doors are not among its objects: a subgoal to enter or open points at nothing.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from agents.object_memory import ObjectMemory
from agents.senses import RANGE_M, Note, relative
from agents.subgoals.types import MOST, Plan
from envs.pool import Home
from envs.state import SimState

SIZE = 5  # whether anything, its share of the softmax, metres ahead, to the right and away over RANGE_M
NOTHING = 0  # row of a subgoal that is about no object


class PointedThing:
    """Scores of objects for the words of subgoals.

    Args:
        memory: of attached senses, whose grounder scores and whose notes say what was seen.
    """

    def __init__(self, memory: ObjectMemory) -> None:
        self.memory = memory
        self._row: dict[tuple[Home, str], int] = {}
        self._scores = torch.zeros(1, memory.most)

    def rows(self, home: Home, plan: Plan) -> list[int]:
        """Rows of a plan's subgoals in a home, and of the goal behind them, MOST + 1 in all.

        Raises:
            InputError: the grounder knows no word of one.
        """
        steps = [
            self._number(home, step.text) if step.test is None or step.test.kind not in ("enter", "open") else NOTHING
            for step in plan.subgoals
        ]
        return [*steps, *[self._number(home, plan.goal)] * (MOST + 1 - len(steps))]

    def _number(self, home: Home, text: str) -> int:
        if (home, text) not in self._row:
            found = self.memory.scores(home, text)[:, 0]
            row = torch.zeros(1, self.memory.most)
            row[0, : len(found)] = found
            self._row[home, text] = len(self._scores)
            self._scores = torch.cat([self._scores, row])
        return self._row[home, text]

    def __call__(self, rows: Int64[Tensor, " B"], state: SimState, note: Note) -> Float[Tensor, "B 5"]:
        """What is pointed out to each agent; zeros where nothing is."""
        best, which = (self._scores[rows] * (note["last_seen"] >= 0)).max(1)
        place = note["place"].gather(1, which[:, None, None].expand(-1, 1, 3))[..., :2]
        ahead, aside = relative(place, state.position.float(), state.yaw.float())
        away = torch.hypot(ahead, aside)
        metres = torch.cat([ahead, aside, away], 1).div(RANGE_M).clamp(-2, 2)
        there = (best > 0).float()[:, None]
        return torch.cat([there, best[:, None], metres], 1) * there
