"""CIDEr: how alike an answer is to the right ones in n-grams that say something, those of few examples.

What the COCO caption code, and with it every paper on ScanQA, calls CIDEr is CIDEr-D of Vedantam et al., CVPR 2015
(arXiv:1411.5726): n-grams of 1 to 4 words, counts clipped, a Gaussian penalty of sigma 6 on the difference
in length, and times 10. An n-gram's document frequency is the number of examples of the evaluated split with it in a
right answer; groups and bootstrap draws keep that of the split. One example alone has no frequencies and gets 0.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from scene.protocols.metric import Metric
from scene.protocols.ptb_tokens import Words, ngram_counts

SIGMA: Final = 6.0  # words
LONGEST: Final = 4


def cider(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> Metric:
    """The mean over examples; the value of one lies in 0..10 before the table's factor of 100."""
    counted = [[ngram_counts(words, LONGEST) for words in right] for right in references]
    frequency = Counter(ngram for right in counted for ngram in set().union(*right))
    unseen = math.log(max(len(references), 1))  # of n-grams that no right answer has
    weight = {ngram: unseen - math.log(count) for ngram, count in frequency.items()}

    def vectors(counts: Counter[Words]) -> list[dict[Words, float]]:
        """Per length, each n-gram's count times its weight; equation 1 of the paper."""
        found: list[dict[Words, float]] = [{} for _ in range(LONGEST)]
        for ngram, count in counts.items():
            found[len(ngram) - 1][ngram] = count * weight.get(ngram, unseen)
        return found

    values = []
    for said, right, right_counts in zip(candidates, references, counted):
        mine = vectors(ngram_counts(said, LONGEST))
        likeness = [
            _likeness(mine, vectors(counts)) * math.exp(-((len(said) - len(words)) ** 2) / (2 * SIGMA**2))
            for words, counts in zip(right, right_counts)
        ]
        values.append(10 * float(np.mean(likeness)))
    return Metric.mean("CIDEr", np.array(values))


def _likeness(said: list[dict[Words, float]], right: list[dict[Words, float]]) -> float:
    """The clipped cosine of two vectors, mean over the lengths of n-grams."""
    total = 0.0
    for a, b in zip(said, right):
        norm = _norm(a) * _norm(b)
        if norm:
            total += sum(min(value, b[ngram]) * b[ngram] for ngram, value in a.items() if ngram in b) / norm
    return total / LONGEST


def _norm(vector: dict[Words, float]) -> float:
    return sum(value * value for value in vector.values()) ** 0.5
