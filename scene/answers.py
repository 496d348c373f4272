"""Answers as classes: the vocabulary of a question head.

A question head scores a fixed list of answers (GPS and 3D-VisTA: 8,864 of ScanQA, 706 of SQA3D), so a question whose
right answer is not on the list cannot be answered; `AnswerVocabulary.unknown` counts these, and so does the result of a
training run (val_unanswerable).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from core.errors import InputError
from core.files import read_json


@dataclass(frozen=True)
class AnswerVocabulary:
    """The answers a head knows, in the order of its outputs.

    Raises:
        InputError: none, an empty one, or one twice.
    """

    answers: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.answers or not all(isinstance(answer, str) and answer.strip() for answer in self.answers):
            raise InputError("an answer vocabulary needs answers, none of them empty")
        twice = [answer for answer, count in Counter(self.answers).items() if count > 1]
        if twice:
            raise InputError(f"the answer vocabulary has {twice[0]!r} {self.answers.count(twice[0])} times")

    def __len__(self) -> int:
        return len(self.answers)

    @cached_property
    def index(self) -> dict[str, int]:
        """Answer -> output."""
        return {answer: k for k, answer in enumerate(self.answers)}

    @classmethod
    def of(cls, answers: Iterable[Sequence[str]], least: int = 1) -> "AnswerVocabulary":
        """The answers of training questions, most frequent first, ties in alphabetical order.

        Args:
            answers: the right answers of each question.
            least: how many questions an answer must be right for.

        Raises:
            InputError: nothing is left.
        """
        counts = Counter(answer for right in answers for answer in dict.fromkeys(right))
        kept = [answer for answer, count in counts.items() if count >= least]
        return cls(tuple(sorted(kept, key=lambda answer: (-counts[answer], answer))))

    @classmethod
    def from_answer_dict(cls, path: str | Path) -> "AnswerVocabulary":
        """SQA3D's `answer_dict.json`: [answer -> class, class -> answer], which must say the same.

        Raises:
            MissingFileError: not there. InputError: damaged, of another form, or classes that do not count from 0.
        """
        content = read_json(path, "answer dictionary")
        if not (isinstance(content, list) and len(content) == 2 and all(isinstance(half, dict) for half in content)):
            raise InputError(f"{path} should be a list of two dictionaries: answer to class, and class to answer")
        classes, answers = content
        order = [answers.get(str(k)) for k in range(len(answers))]
        if None in order or {answer: k for k, answer in enumerate(order)} != classes:
            raise InputError(f"{path}: the two dictionaries disagree, or classes do not count 0, 1, 2, ...")
        return cls(tuple(order))

    def unknown(self, answers: Iterable[Sequence[str]]) -> int:
        """How many questions have no right answer on the list: out of a head's reach whatever it learns."""
        return sum(not any(answer in self.index for answer in right) for right in answers)
