"""Step 1 of 4, data flow: which questions a step asks.

All questions in a shuffled order, then in another one, without end. What comes at a place of that order is a function
of (seed, place), so that a killed run goes on with the questions it would have asked, and several processes ask
together what one would have asked alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from agents.reasoning.types import Picture, Prompts, Sample
from core import distributed
from core.errors import InputError

QUESTIONS = 0  # stream of random numbers, beside what is drawn elsewhere from the same seed


@dataclass(frozen=True)
class Questions:
    """What this process asks in one round."""

    samples: tuple[Sample, ...]
    pictures: tuple[tuple[Picture, ...], ...]  # of each sample
    places: tuple[int, ...]  # in the order of the run: numbers of the groups that the responses form

    def __len__(self) -> int:
        return len(self.samples)

    def prompts(self, vlm: Any, reserve: int) -> Prompts:
        """As inputs of a model, with room for an answer of `reserve` tokens.

        Raises:
            InputError: one does not fit the model; the message names the sample.
        """
        asked = [sample.prompt for sample in self.samples]
        try:
            return vlm.encode(asked, self.pictures, reserve=reserve)
        except InputError:
            for sample, prompt, shown in zip(self.samples, asked, self.pictures):
                try:
                    vlm.encode([prompt], [shown], reserve=reserve)
                except InputError as fault:
                    raise InputError(f"question {sample.id!r}: {fault}") from fault
            raise


class Order:
    """The endless order of a set of questions."""

    def __init__(
        self, samples: Sequence[Sample], pictures_of: Callable[[int], Sequence[Picture]], *, seed: int
    ) -> None:
        """
        Args:
            pictures_of: reads the pictures of sample i.

        Raises:
            InputError: there are no samples.
        """
        if not samples:
            raise InputError("there are no questions to learn from; the training split is empty")
        self.samples = samples
        self.pictures_of = pictures_of
        self.seed = seed
        self._epoch: tuple[int, Int64[ndarray, " N"]] = (-1, np.zeros(0, np.int64))

    def __len__(self) -> int:
        """Questions of an epoch."""
        return len(self.samples)

    def at(self, place: int) -> int:
        """Number of the sample at a place of the order."""
        epoch, inside = divmod(place, len(self.samples))
        if self._epoch[0] != epoch:
            self._epoch = epoch, np.random.default_rng([self.seed, QUESTIONS, epoch]).permutation(len(self.samples))
        return int(self._epoch[1][inside])


def data_flow(order: Order, first: int, count: int) -> Questions:
    """The questions at places first..first + count - 1 that fall to this process, with their pictures.

    Args:
        count: summed over processes.

    Raises:
        InputError: `count` does not split over the processes, or a picture does not read.
    """
    places = tuple(first + own for own in distributed.share(count, "prompts"))
    numbers = [order.at(place) for place in places]
    return Questions(
        tuple(order.samples[number] for number in numbers),
        tuple(tuple(order.pictures_of(number)) for number in numbers),
        places,
    )
