"""What a vision-language task is to the jobs: examples from files of the official form, and the official metrics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from core.errors import InputError, nearest
from vl.tasks.parts import PARTS, part_of_groups

if TYPE_CHECKING:
    from vl.pictures import Pictures

Scores = dict[str, float | list[float]]
"""Metrics in [0, 1] by name; beside a metric NAME stands `NAME_interval` = [low, high], its 95 % interval."""


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to predict."""

    id: str
    pictures: tuple[str, ...]
    """Names in the data's Pictures, in the order the text speaks of them (NLVR2: left, right)."""
    text: str
    label: str | None = None
    """The right answer; RefCOCO: the row of `boxes`, as a number; None where the release keeps it back."""
    targets: dict[str, float] = field(default_factory=dict)
    """VQA: what each answer is worth, in (0, 1]; empty elsewhere."""
    boxes: Float[ndarray, "N 4"] | None = None
    """RefCOCO: candidates as x0, y0, x1, y1 in pixels of the picture as it is on disk."""
    kind: str = ""
    """VQA: the answer's type, by which the official table is split; empty elsewhere."""
    group: str = ""
    """What intervals draw again, and what parts of a split keep together: a sentence's identifier, an image."""


@dataclass
class TaskData:
    """One split of a task."""

    examples: list[Example]
    pictures: "Pictures"
    dropped: dict[str, int] = field(default_factory=dict)
    """How many records of the files were left out, by reason."""
    links: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By group: what it has in common with other groups (a sentence, a scene); such groups land in one part."""


@dataclass(frozen=True)
class Task:
    """A task by name. `predicts` says what a model must give for each example:

    "label": one of `labels`; "answer": a free answer, trained on `targets`; "box": a score for each of `boxes`;
    "image": rows are captions, columns the images of `vl.tasks.captions.gallery`; "class": a class, told from the
    picture alone.
    """

    name: str
    predicts: Literal["label", "answer", "box", "image", "class"]
    labels: tuple[str, ...] | None
    """Answers of a closed task; None where the training data give them (`label_set`), or where there are none."""
    images: int
    """Pictures of an example."""
    main: str
    """The metric that says which of two models is better."""
    read: Callable[[Path, str], TaskData]
    """Reads one split of the official files below a folder."""
    measure: Callable[[Sequence[Example], Sequence[str] | Float[ndarray, "M N"]], Scores]
    collect: Callable[[Sequence[Example], int], tuple[str, ...]] | None = None
    """Answers that training examples give at least so often; None where `labels` are fixed or nothing is answered."""

    def load(self, folder: str | Path, split: str) -> TaskData:
        """The examples of a split: `test`, or `test:train` and `test:val`, the two parts of it (see vl/tasks/parts.py).

        Raises:
            MissingFileError: the folder, its files, or pictures that they name. InputError: no such split or part, a
                file cut short or not of the official form, a label out of range.
        """
        base, colon, part = split.partition(":")
        if colon and part not in PARTS:
            raise InputError(f"split={split!r}: a split has the parts {', '.join(PARTS)}; {nearest(part, PARTS)}")
        data = self.read(Path(folder).expanduser(), base)
        if not data.examples:
            raise InputError(f"{self.name}: split {base!r} of {folder} holds no examples (dropped: {data.dropped})")
        if colon:
            groups = [example.group for example in data.examples]
            inside = part_of_groups(groups, [example.label for example in data.examples], data.links, part)
            data.examples = [example for example in data.examples if example.group in inside]
        return data

    def label_set(self, train: Sequence[Example], least: int = 9) -> tuple[str, ...]:
        """The answers a model chooses from; empty for tasks that answer nothing (boxes, images).

        Args:
            least: VQA: of how many questions an answer must be the most common one.
        """
        if self.labels is not None:
            return self.labels
        return self.collect(train, least) if self.collect is not None else ()

    def score(self, examples: Sequence[Example], predictions: Sequence[str] | Float[ndarray, "M N"]) -> Scores:
        """The official metrics with 95 % intervals over groups.

        Args:
            predictions: one text per example; boxes and images: one row of scores per example, higher is better.

        Raises:
            InputError: not one prediction per example, a label that is none of the task's, scores that are not finite,
                or examples whose labels the release keeps back.
        """
        if len(predictions) != len(examples) or not len(examples):
            raise InputError(f"{self.name}: {len(predictions)} predictions for {len(examples)} examples; one for each")
        hidden = sum(example.label is None for example in examples)
        if hidden:
            raise InputError(
                f"{self.name}: {hidden} of {len(examples)} examples have no label (kept back by the release); "
                "score a split that has its labels"
            )
        if self.predicts in ("label", "answer", "class"):
            if isinstance(predictions, np.ndarray) and predictions.ndim != 1:
                raise InputError(f"{self.name} is scored on one answer per example, not on {predictions.shape} numbers")
        elif not isinstance(predictions, np.ndarray) or predictions.ndim != 2:
            raise InputError(f"{self.name} is scored on an array (examples, candidates) of numbers")
        return self.measure(examples, predictions)
