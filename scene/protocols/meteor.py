"""METEOR on exact and stem matches: how many words of an answer are aligned with the right one, and in how few pieces.

Denkowski & Lavie, WMT 2014 (METEOR 1.5), with its parameters for English. Left out are the two matchers that need
tables of a language, WordNet synonyms and paraphrases, and the discount of function words, which needs a list of them:
every word weighs the same. The metric's name says so. Values are comparable with each other, not with those of METEOR
1.5: compared once by hand (pycocoevalcap 1.2; no command here repeats it), they lay 2.2 and 0.7 points above on answers
of SQA3D and OpenEQA, and 0.2 below on long descriptions of situations.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from scene.protocols.metric import Metric
from scene.protocols.ptb_tokens import Words
from scene.protocols.stemmer import stem

NAME: Final = "METEOR (exact, stem)"
ALPHA: Final = 0.85  # weight of recall in the harmonic mean
BETA: Final = 0.2  # power of the fragmentation
GAMMA: Final = 0.6  # weight of the fragmentation
STEM_WEIGHT: Final = 0.6  # of a match of stems; an exact one counts 1
BEAM: Final = 40  # partial alignments kept per word, as in METEOR; exact for answers of a few words


def meteor(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> Metric:
    """METEOR of the split: each example adds the counts of its best right answer, and the formula follows the sum."""
    rows = []
    for said, right in zip(candidates, references):
        counts = np.array([_counts(said, other) for other in right], dtype=np.float64)
        rows.append(counts[int(_combine(counts).argmax())])
    return Metric(NAME, np.array(rows).reshape(-1, 5), _combine)


def _combine(total: Float[ndarray, "*r K"]) -> Float[ndarray, "*r"]:
    """The formula of METEOR 1.5 on (weighted matches, words said, words right, chunks, matches)."""
    weighted, said, right, chunks, matches = np.moveaxis(total, -1, 0)
    precision, recall = weighted / np.maximum(said, 1), weighted / np.maximum(right, 1)
    mean = precision * recall / np.maximum(ALPHA * precision + (1 - ALPHA) * recall, 1e-12)
    return mean * (1 - GAMMA * (chunks / np.maximum(matches, 1)) ** BETA)


def _counts(said: Words, right: Words) -> tuple[float, int, int, int, int]:
    weighted, chunks, matches = align(said, right)
    if matches == len(said) == len(right) and chunks == 1:
        chunks = 0  # METEOR 1.5 holds one piece against no answer that is aligned as a whole, nor in the sum
    return weighted, len(said), len(right), chunks, matches


def align(said: Words, right: Words) -> tuple[float, int, int]:
    """The best alignment of two texts: (sum of the weights, chunks, matches).

    Each word is matched once at most. Best is what matches most words, then what has the fewest chunks (runs that stand
    in both texts in one piece), then the least sum of distances between the positions of matched words.
    """
    stems = [stem(word) for word in right]
    # (words of `right` that are taken, position that the last word of `said` took) -> (matches, -chunks, -distance,
    # weight), the best way there
    states: dict[tuple[int, int], tuple[int, int, int, float]] = {(0, -2): (0, 0, 0, 0.0)}
    for i, word in enumerate(said):
        root = stem(word)
        options = [
            (j, 1.0 if word == other else STEM_WEIGHT)
            for j, other in enumerate(right)
            if word == other or root == stems[j]
        ]
        grown: dict[tuple[int, int], tuple[int, int, int, float]] = {}
        for (taken, last), (matches, chunks, distance, weight) in states.items():
            ways = [((taken, -2), (matches, chunks, distance, weight))]
            for j, gain in options:
                if not taken >> j & 1:
                    value = (matches + 1, chunks - (j != last + 1), distance - abs(i - j), weight + gain)
                    ways.append(((taken | 1 << j, j), value))
            for key, value in ways:
                grown[key] = max(grown.get(key, value), value)
        kept = sorted(grown.items(), key=lambda item: item[1], reverse=True)[:BEAM]
        states = dict(kept)
    matches, chunks, _, weight = max(states.values())
    return weight, -chunks, matches
