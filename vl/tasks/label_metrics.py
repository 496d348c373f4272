"""Accuracy and consistency of labels, with intervals over groups."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from core.errors import InputError, nearest
from core.intervals import grouped_rate
from vl.tasks.task import Example, Scores


def hits(
    examples: Sequence[Example], predictions: Sequence[str] | Float[ndarray, "M N"], labels: Sequence[str]
) -> Float[ndarray, " M"]:
    """1 where the label was said, in any case of letters, else 0.

    Raises:
        InputError: a prediction that is none of `labels`.
    """
    known = {label.lower() for label in labels}
    said = [str(prediction).strip().lower() for prediction in predictions]
    for word in said:
        if word not in known:
            raise InputError(f"prediction {word!r} is none of the task's labels; {nearest(word, labels)}")
    return np.array([word == str(example.label).lower() for word, example in zip(said, examples)], dtype=np.float64)


def majority_share(examples: Sequence[Example]) -> float:
    """Share of the most frequent label: what a model reaches that has seen nothing."""
    counts = Counter(example.label for example in examples)
    return max(counts.values()) / len(examples)


def accuracy(examples: Sequence[Example], right: Float[ndarray, " M"]) -> Scores:
    """Share of examples that are right, its interval over groups, and the share of the most frequent label."""
    return {
        "accuracy": float(right.mean()),
        "accuracy_interval": list(grouped_rate(right, [example.group for example in examples])),
        "majority": majority_share(examples),
    }


def consistency(examples: Sequence[Example], right: Float[ndarray, " M"], groups: Sequence[str]) -> Scores:
    """Share of sentences of which every example is right.

    Args:
        groups: the sentence of each example; examples of one sentence need not stand together.

    Source: Suhr et al., ACL 2017, section 6, and the released metrics_images.py.
    """
    whole: dict[str, bool] = {}
    cluster: dict[str, str] = {}
    for example, group, hit in zip(examples, groups, right):
        whole[group] = whole.get(group, True) and bool(hit)
        cluster.setdefault(group, example.group)
    rates = np.array([float(every) for every in whole.values()])
    return {
        "consistency": float(rates.mean()),
        "consistency_interval": list(grouped_rate(rates, list(cluster.values()))),
    }
