"""The ways a reasoning model is asked, and what it answered in one of them.

How MAYE measures (Ma et al., arXiv:2504.02587, section 3): k answers at temperature 1, and one at each of two low
temperatures. Grey and exchanged pictures are asked at the lowest, which is all but greedy.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Int64
from numpy import ndarray


@dataclass(frozen=True)
class Way:
    """One way of asking."""

    title: str
    temperature: float
    top_p: float
    many: bool = False  # k answers to each question; else one
    pictures: Literal["own", "grey", "exchanged"] = "own"


WAYS: Final = {
    "sampled": Way("T = 1", 1.0, 1.0, many=True),
    "warm": Way("T = 0.6", 0.6, 1.0),
    "cold": Way("T = 0.01", 0.01, 0.001),
    "blind": Way("grey pictures", 0.01, 0.001, pictures="grey"),
    "exchanged": Way("pictures of other questions", 0.01, 0.001, pictures="exchanged"),
}


@dataclass(frozen=True, eq=False)
class Answered:
    """What was answered in one way, the answers to a question beside each other."""

    texts: tuple[tuple[str, ...], ...]  # Q questions of G answers
    tokens: tuple[tuple[tuple[int, ...], ...], ...]  # ids, the end token among them
    ended: Bool[ndarray, "Q G"]  # False: cut off at the limit

    @property
    def length(self) -> Int64[ndarray, "Q G"]:
        """Tokens of each answer."""
        return np.array([[len(answer) for answer in row] for row in self.tokens])
