"""Baselines that read no scene: the answers that were right most often, over all questions or over those of a type.

What they score is what a benchmark gives away without looking; a model is measured from there.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.errors import InputError
from scene.protocols.records import Example, Prediction


def question_type(example: Example) -> str:
    """The first of an example's groups, by which every benchmark of questions splits its table."""
    return example.groups[0] if example.groups else ""


def one_type(example: Example) -> str:
    """All questions alike: the most frequent answer."""
    return ""


@dataclass(frozen=True)
class AnswerPrior:
    """Answers by how often they were right, per type of question.

    Attributes:
        by: the type of a question.
        ranked: type -> answers, best first; "" -> those of all questions, for types that training lacks.
    """

    by: Callable[[Example], str]
    ranked: Mapping[str, tuple[str, ...]]

    @classmethod
    def fit(cls, examples: Sequence[Example], by: Callable[[Example], str] = question_type) -> "AnswerPrior":
        """Counts the right answers of training questions; ties in alphabetical order.

        Raises:
            InputError: no question has an answer.
        """
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for example in examples:
            for name in {by(example), ""}:
                counts[name].update(dict.fromkeys(example.answers, 1))
        if not counts[""]:
            raise InputError(f"none of the {len(examples)} questions to learn from has an answer")
        ranked = {
            name: tuple(sorted(count, key=lambda answer: (-count[answer], answer))) for name, count in counts.items()
        }
        return cls(by, ranked)

    def predict(self, examples: Sequence[Example], top: int = 10) -> dict[str, Prediction]:
        """The `top` answers to each question, by its id."""
        return {
            example.id: Prediction(example.id, answers=self.ranked.get(self.by(example), self.ranked[""])[:top])
            for example in examples
        }


def cross_validated(
    examples: Sequence[Example], by: Callable[[Example], str] = question_type, *, folds: int = 2, seed: int = 0
) -> dict[str, Prediction]:
    """Predictions for a benchmark of which one split is at hand: fitted on the other scenes of that split.

    Scenes, not questions, are dealt into `folds`: questions of one scene share answers.

    Raises:
        InputError: fewer scenes than folds.
    """
    scenes = np.array(sorted({example.scene_id for example in examples}))
    if len(scenes) < folds:
        raise InputError(f"{len(scenes)} scenes do not make {folds} folds")
    fold = dict(zip(np.random.default_rng(seed).permutation(scenes).tolist(), np.arange(len(scenes)) % folds))
    found: dict[str, Prediction] = {}
    for number in range(folds):
        others = [example for example in examples if fold[example.scene_id] != number]
        mine = [example for example in examples if fold[example.scene_id] == number]
        found |= AnswerPrior.fit(others, by).predict(mine)
    return found
