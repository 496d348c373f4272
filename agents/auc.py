"""How well a score tells frames apart: AUC with intervals over homes, and the EPIC distance."""

import math
from collections.abc import Sequence

import numpy as np
from numpy import ndarray


def roc_auc(score: ndarray, positive: ndarray) -> float:
    """Probability that a positive scores above a negative, ties counting half; NaN when one side is empty."""
    score, positive = np.asarray(score, dtype=float), np.asarray(positive, dtype=bool)
    wins, losses = int(positive.sum()), int((~positive).sum())
    if not wins or not losses:
        return math.nan
    values, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2  # tied scores share the mean of their ranks (from 1)
    return float((mean_rank[inverse][positive].sum() - wins * (wins + 1) / 2) / (wins * losses))


def grouped_auc(
    score: ndarray, positive: ndarray, groups: Sequence | ndarray, *, seed: int = 0, resamples: int = 1000
) -> tuple[float, tuple[float, float]]:
    """AUC over all rows, and its 95 % bootstrap interval with whole groups (homes) drawn with replacement.

    Pairs won between the positives of one group and the negatives of another are counted once; a resample is then a
    quadratic form in how often each group was drawn, which is the resampled rows' AUC exactly.
    """
    score, positive = np.asarray(score, dtype=float), np.asarray(positive, dtype=bool)
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    count = int(group.max()) + 1 if len(group) else 0
    wins = np.zeros((count, count))
    lows = [np.sort(score[(group == g) & ~positive]) for g in range(count)]
    highs = [score[(group == g) & positive] for g in range(count)]
    for a in range(count):
        for b in range(count):
            below = np.searchsorted(lows[b], highs[a], "left") + np.searchsorted(lows[b], highs[a], "right")
            wins[a, b] = below.sum() / 2  # a tie counts half
    high, low = np.array([len(x) for x in highs]), np.array([len(x) for x in lows])
    if not high.sum() or not low.sum():
        return math.nan, (math.nan, math.nan)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(float)
    pairs = (draws @ high) * (draws @ low)
    values = np.einsum("ra,ab,rb->r", draws, wins, draws)[pairs > 0] / pairs[pairs > 0]
    ends = (
        (float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))) if len(values) else (math.nan, math.nan)
    )
    return float(wins.sum() / (high.sum() * low.sum())), ends


def epic_distance(score: ndarray, truth: ndarray) -> float:
    """EPIC pseudo-distance of two state-only rewards over one set of frames: (1/sqrt 2) sqrt(1 - Pearson).

    0 = equal up to scale and offset, 1 = opposite, 0.707 = unrelated; a constant reward counts as unrelated.

    Source: Gleave et al., arXiv:2006.13900; its reduction for goal labels as used for VLM rewards, arXiv:2310.12921.
    """
    score, truth = np.asarray(score, dtype=float), np.asarray(truth, dtype=float)
    if score.std() < 1e-12 or truth.std() < 1e-12:
        return math.sqrt(0.5)
    rho = float(np.corrcoef(score, truth)[0, 1])
    return math.sqrt(max(0.0, 1 - rho) / 2)
