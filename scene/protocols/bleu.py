"""BLEU of a whole split: clipped n-gram precision times a penalty for answers that are too short.

Papineni et al., ACL 2002, section 2, with the choices of the COCO caption code: counts are summed over the split
before anything is divided, each answer's length is held against the closest right one (the shorter of two), and the
precisions carry that code's constants, so that a split in which no n-gram fits has a small value and not zero.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from scene.protocols.metric import Metric
from scene.protocols.ptb_tokens import Words, ngram_counts

TINY: Final = 1e-15  # on the matches; these two are the COCO caption code's
SMALL: Final = 1e-9  # on the n-grams of the candidate


def bleu(candidates: Sequence[Words], references: Sequence[Sequence[Words]], longest: int = 4) -> list[Metric]:
    """BLEU-1 to BLEU-`longest` as metrics over the examples.

    Args:
        candidates: what was said, one per example.
        references: what is right, at least one per example.
    """
    rows = np.array([_counts(said, right, longest) for said, right in zip(candidates, references)], dtype=np.float64)
    rows = rows.reshape(-1, 2 * longest + 2)
    return [Metric(f"BLEU-{order}", rows, _combine(order, longest)) for order in range(1, longest + 1)]


def _counts(said: Words, right: Sequence[Words], longest: int) -> list[int]:
    """Clipped matches per length, n-grams per length, the candidate's words, the closest reference's words."""
    allowed = ngram_counts(right[0], longest)
    for other in right[1:]:
        allowed |= ngram_counts(other, longest)  # per n-gram the most any reference has
    matches = [0] * longest
    for ngram, count in (ngram_counts(said, longest) & allowed).items():
        matches[len(ngram) - 1] += count
    guesses = [max(0, len(said) - length + 1) for length in range(1, longest + 1)]
    _, closest = min((abs(len(other) - len(said)), len(other)) for other in right)
    return [*matches, *guesses, len(said), closest]


def _combine(order: int, longest: int) -> Callable[[Float[ndarray, "*r K"]], Float[ndarray, "*r"]]:
    def value(total: Float[ndarray, "*r K"]) -> Float[ndarray, "*r"]:
        precision = (total[..., :order] + TINY) / (total[..., longest : longest + order] + SMALL)
        ratio = (total[..., -2] + TINY) / (total[..., -1] + SMALL)
        penalty = np.exp(np.minimum(0.0, 1.0 - 1.0 / ratio))
        return penalty * np.exp(np.log(precision).mean(-1))

    return value
