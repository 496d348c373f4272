"""ROUGE-L: how much of an answer and of the right one is their longest common subsequence.

Lin, ACL workshop 2004, section 3, with the COCO caption code's beta of 1.2, and its choice where several answers are
right: the best precision and the best recall are taken each by itself.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from scene.protocols.metric import Metric
from scene.protocols.ptb_tokens import Words

BETA: Final = 1.2  # weight of recall against precision


def rouge_l(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> Metric:
    """The mean over examples; an answer without words has 0."""
    return Metric.mean("ROUGE-L", np.array([_f_value(said, right) for said, right in zip(candidates, references)]))


def _f_value(said: Words, right: Sequence[Words]) -> float:
    common = [common_subsequence(said, other) for other in right]
    precision = max(length / max(len(said), 1) for length in common)
    recall = max(length / max(len(other), 1) for length, other in zip(common, right))
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest sequence of words that both contain in this order, other words between them or not."""
    row = [0] * (len(b) + 1)  # lengths for the words of `a` so far and every start of `b`
    for word in a:
        diagonal = 0
        for k, other in enumerate(b, 1):
            diagonal, row[k] = row[k], diagonal + 1 if word == other else max(row[k], row[k - 1])
    return row[-1]
