"""Baselines that read no scene: what a benchmark of questions gives away without looking.

Three of them, each more than the one before: the answers that are right most often; those that are right most often
for the type of question; and the answers to the training questions that are worded most alike.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import numpy as np
import scipy.sparse as sparse

from core.errors import InputError
from scene.protocols.ptb_tokens import Words, ngram_counts, words_of
from scene.protocols.records import Example, Prediction

NEIGHBOURS: Final = 30
ROWS_AT_ONCE: Final = 256  # questions held against all of training together


class Answerer(Protocol):
    """Anything that answers questions."""

    def predict(self, examples: Sequence[Example], top: int = 10) -> dict[str, Prediction]:
        """The `top` answers to each question, best first, by its id."""


def question_type(example: Example) -> str:
    """The first of an example's groups, by which every benchmark of questions splits its table."""
    return example.groups[0] if example.groups else ""


def one_type(example: Example) -> str:
    """All questions alike: the most frequent answer."""
    return ""


def best_first(votes: Mapping[str, float]) -> tuple[str, ...]:
    """Answers by their votes, ties in alphabetical order."""
    return tuple(sorted(votes, key=lambda answer: (-votes[answer], answer)))


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
        """Counts the right answers of training questions.

        Raises:
            InputError: no question has an answer.
        """
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for example in _answered(examples):
            for name in {by(example), ""}:
                counts[name].update(dict.fromkeys(example.answers, 1))
        return cls(by, {name: best_first(count) for name, count in counts.items()})

    def predict(self, examples: Sequence[Example], top: int = 10) -> dict[str, Prediction]:
        """See Answerer."""
        return {
            example.id: Prediction(example.id, answers=self.ranked.get(self.by(example), self.ranked[""])[:top])
            for example in examples
        }


class NearestQuestions:
    """Answers of the training questions whose words and pairs of words are most like the question's.

    Likeness is the cosine of counts weighted by inverse document frequency; each of the NEIGHBOURS nearest votes for
    its right answers with the square of its likeness. Questions like no other get the most frequent answers.

    Args:
        examples: the training questions.

    Raises:
        InputError: no question has an answer.
    """

    def __init__(self, examples: Sequence[Example]) -> None:
        self._known = _answered(examples)
        self._prior = AnswerPrior.fit(self._known, one_type)
        counts = [_words(example) for example in self._known]
        self._column: dict[Words, int] = {}
        for words in counts:
            for ngram in words:
                self._column.setdefault(ngram, len(self._column))
        frequency = Counter(ngram for words in counts for ngram in words)
        order = np.array([frequency[ngram] for ngram in self._column])
        self._weight = np.log((len(counts) + 1) / (order + 1))
        self._vectors = self._unit(counts).T.tocsr()

    def predict(self, examples: Sequence[Example], top: int = 10) -> dict[str, Prediction]:
        """See Answerer."""
        found = {}
        for start in range(0, len(examples), ROWS_AT_ONCE):
            chunk = examples[start : start + ROWS_AT_ONCE]
            likeness = (self._unit([_words(example) for example in chunk]) @ self._vectors).toarray()
            nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :NEIGHBOURS]
            for row, example in enumerate(chunk):
                votes: dict[str, float] = defaultdict(float)
                for k in nearest[row]:
                    if likeness[row, k] > 0:
                        for answer in dict.fromkeys(self._known[k].answers):
                            votes[answer] += float(likeness[row, k]) ** 2
                ranked = dict.fromkeys(best_first(votes) + self._prior.ranked[""])
                found[example.id] = Prediction(example.id, answers=tuple(ranked)[:top])
        return found

    def _unit(self, counts: Sequence[Counter[Words]]) -> sparse.csr_matrix:
        """Weighted counts of known words as rows of length 1; a row of zeros stays one."""
        entries = [
            (row, self._column[n], c) for row, words in enumerate(counts) for n, c in words.items() if n in self._column
        ]
        rows, columns, values = (np.array(part) for part in zip(*entries)) if entries else (np.zeros(0, int),) * 3
        shape = (len(counts), len(self._column))
        matrix = sparse.csr_matrix((values * self._weight[columns], (rows, columns)), shape=shape)
        length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
        return sparse.diags(1 / np.where(length > 0, length, 1.0)) @ matrix


def _words(example: Example) -> Counter[Words]:
    return ngram_counts(words_of(example.text), 2)


def _answered(examples: Sequence[Example]) -> list[Example]:
    found = [example for example in examples if example.answers]
    if not found:
        raise InputError(f"none of the {len(examples)} questions to learn from has an answer")
    return found


BLIND: Final[dict[str, Callable[[Sequence[Example]], Answerer]]] = {
    "most frequent answer": partial(AnswerPrior.fit, by=one_type),
    "answer prior by question type": AnswerPrior.fit,
    "nearest questions": NearestQuestions,
}
"""Rows of a table: name -> what learns from training questions."""


def deal(examples: Sequence[Example], *, folds: int, seed: int) -> dict[str, int]:
    """Scene id -> fold. Scenes are dealt, not questions: those of one scene share answers.

    Raises:
        InputError: fewer scenes than folds.
    """
    scenes = np.array(sorted({example.scene_id for example in examples}))
    if len(scenes) < folds:
        raise InputError(f"{len(scenes)} scenes do not make {folds} folds")
    order = np.random.default_rng(seed).permutation(scenes).tolist()
    return {scene_id: place % folds for place, scene_id in enumerate(order)}


def cross_validated(
    examples: Sequence[Example], fit: Callable[[Sequence[Example]], Answerer], *, folds: int = 2, seed: int = 0
) -> dict[str, Prediction]:
    """Predictions for a benchmark of which one split is at hand: learnt from the other scenes of that split.

    Raises:
        InputError: fewer scenes than folds.
    """
    fold = deal(examples, folds=folds, seed=seed)
    found: dict[str, Prediction] = {}
    for number in range(folds):
        others = [example for example in examples if fold[example.scene_id] != number]
        mine = [example for example in examples if fold[example.scene_id] == number]
        found |= fit(others).predict(mine)
    return found
