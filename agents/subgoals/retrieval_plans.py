"""Plans without learning to write them: the plan of the most similar goal sentence, and the most common plan."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from agents.subgoals.step_sequences import Steps
from core.errors import InputError

SATURATION: Final = 1.5
LENGTH: Final = 0.75
"""BM25's k1 and b at their usual values (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009)."""


def words_of(text: str) -> list[str]:
    """Lower-case words and numbers."""
    return re.findall(r"[a-z0-9]+", text.lower())


class NearestGoal:
    """The plan of the goal sentence that is nearest by BM25; of equally near ones the first.

    A sentence that shares no word with any known goal gets the plan of the first one.
    """

    def __init__(self, goals: Sequence[str], plans: Sequence[Steps]) -> None:
        if not goals or len(goals) != len(plans):
            raise InputError(f"retrieval needs a plan for each goal, got {len(goals)} goals and {len(plans)} plans")
        self._plans = list(plans)
        counts = [Counter(words_of(goal)) for goal in goals]
        self._column = {word: k for k, word in enumerate(sorted({word for count in counts for word in count}))}
        times = np.zeros((len(goals), len(self._column)), dtype=np.float32)
        for row, count in enumerate(counts):
            for word, number in count.items():
                times[row, self._column[word]] = number
        having = (times > 0).sum(0)
        rarity = np.log(1 + (len(goals) - having + 0.5) / (having + 0.5))
        length = times.sum(1, keepdims=True)
        scale = SATURATION * (1 - LENGTH + LENGTH * length / max(float(length.mean()), 1e-9))
        self._weight = rarity * times * (SATURATION + 1) / (times + scale)  # (goals, words)

    def plans(self, goals: Sequence[str]) -> list[Steps]:
        asked = np.zeros((len(goals), len(self._column)), dtype=np.float32)
        for row, goal in enumerate(goals):
            for word in words_of(goal):
                if word in self._column:
                    asked[row, self._column[word]] += 1
        return [self._plans[index] for index in (asked @ self._weight.T).argmax(1)] if len(goals) else []


class MostFrequent:
    """The plan that occurs most often, whatever the goal."""

    def __init__(self, plans: Sequence[Steps]) -> None:
        if not plans:
            raise InputError("the most frequent plan needs plans to count")
        counts = Counter(plans)
        self._plan = min(counts, key=lambda steps: (-counts[steps], [step.words for step in steps]))

    def plans(self, goals: Sequence[str]) -> list[Steps]:
        return [self._plan for _ in goals]
