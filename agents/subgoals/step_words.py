"""How people say a step: for each step of training the instruction that is most like all that were written for it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from agents.subgoals.retrieval_plans import words_of
from agents.subgoals.step_sequences import GOTO, Step, Steps
from core.errors import InputError


class StepWords:
    """Phrases of steps; a step without one, and every walk, is said in plain words.

    People's words for a walk tell turns in the room they were written in ("turn left, go to the bed"), which are wrong
    in another.
    """

    def __init__(self, phrases: dict[Step, str]) -> None:
        self._phrases = phrases

    @classmethod
    def of(cls, instructions: Iterable[tuple[str, Step]]) -> "StepWords":
        """Chooses for each step the instruction whose words are nearest, by cosine, to all of the step together."""
        told: dict[Step, list[str]] = {}
        for text, step in instructions:
            if step.action != GOTO and words_of(text):
                told.setdefault(step, []).append(text)
        return cls({step: most_typical(texts) for step, texts in told.items()})

    def __len__(self) -> int:
        return len(self._phrases)

    def say(self, steps: Steps) -> list[str]:
        """A phrase for each step."""
        return [self._phrases.get(step, step.words) for step in steps]

    def to_json(self) -> list[Any]:
        """What `from_json` takes."""
        return [[step.action, step.object, step.receptacle, text] for step, text in self._phrases.items()]

    @classmethod
    def from_json(cls, rows: Any) -> "StepWords":
        try:
            return cls({Step(*row[:3]): str(row[3]) for row in rows})
        except (TypeError, IndexError) as error:
            raise InputError(f"phrases of steps should be rows of action, thing, place and text: {error}") from error


def most_typical(texts: Sequence[str]) -> str:
    """The text whose word counts have the largest cosine with the mean of all unit vectors; the first of equals."""
    counts = [Counter(words_of(text)) for text in texts]
    column = {word: k for k, word in enumerate(sorted({word for count in counts for word in count}))}
    rows = np.zeros((len(texts), len(column)))
    for row, count in enumerate(counts):
        for word, number in count.items():
            rows[row, column[word]] = number
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return texts[int(np.argmax((rows @ rows.mean(0)).round(12)))]


def word_f1(said: str, reference: str) -> float:
    """F1 of the words of two texts, each counted as often as it occurs."""
    a, b = Counter(words_of(said)), Counter(words_of(reference))
    total = sum(a.values()) + sum(b.values())
    return 2 * sum((a & b).values()) / total if total else 1.0
