"""Classification: pictures in folders named after their classes, for zero-shot naming and for linear probes.

Folders: SPLIT/CLASS/PICTURE, e.g. test/golden_retriever/1.jpg; with split=. the classes lie in the data folder itself.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from core.errors import InputError, MissingFileError
from vl.tasks.annotation_files import check_folder
from vl.tasks.label_metrics import accuracy
from vl.tasks.task import Example, Scores, Task, TaskData


def read(folder: Path, split: str) -> TaskData:
    """All pictures of a split; label = the folder's name; each picture is its own group.

    Raises:
        MissingFileError: no such folder, no pictures. InputError: no such split.
    """
    from vl.pictures import SUFFIXES, Pictures

    check_folder(folder, "classification")
    root = folder / split
    if not root.is_dir():
        there = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())) or "none"
        raise InputError(f"classification: {folder} has no split {split!r}; folders there: {there}")
    classes = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    examples: list[Example] = []
    other = 0
    for place in classes:
        files = sorted(path for path in place.iterdir() if path.is_file())
        found = [path.name for path in files if path.suffix.lower() in SUFFIXES]
        other += len(files) - len(found)
        if not found:
            raise MissingFileError(f"classification: {place} holds no pictures ({', '.join(SUFFIXES)})")
        for name in found:
            key = f"{place.name}/{name}"
            examples.append(Example(key, (key,), "", place.name, group=key))
    if not examples:
        raise MissingFileError(f"classification: {root} holds no folders of classes")
    return TaskData(examples, Pictures(root), {"no picture by its ending": other} if other else {})


def collect(train: Sequence[Example], least: int) -> tuple[str, ...]:
    """The classes of the training pictures, by letter; `least` is VQA's and asks nothing here."""
    return tuple(sorted({example.label for example in train if example.label is not None}))


def measure(examples: Sequence[Example], predictions: Sequence[str] | Float[ndarray, "M N"]) -> Scores:
    """Share of pictures that are right, and the mean over classes of that share (the metric of Pets, Flowers, ...)."""
    right = np.array([float(said == example.label) for example, said in zip(examples, predictions)])
    counts = Counter(str(example.label) for example in examples)
    correct: defaultdict[str, float] = defaultdict(float)
    for example, hit in zip(examples, right):
        correct[str(example.label)] += float(hit)
    per_class = sum(correct[label] / count for label, count in counts.items()) / len(counts)
    return accuracy(examples, right) | {"class_mean": per_class}


CLASSIFICATION = Task(
    "classification", "class", None, images=1, main="accuracy", read=read, measure=measure, collect=collect
)
