"""How well a score agrees with the truth: correlations, EPIC distance and AUC, with intervals over groups.

Plain functions of two columns. EPIC is taken for rewards of the state alone: over a fixed set of states it is
sqrt((1 - rho) / 2), rho the Pearson correlation; it differs from the paper's in that no actions or next states are
averaged over, which such rewards do not depend on.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from vl.reward_sweep import auc


def ranks(values: Float[ndarray, " M"]) -> Float[ndarray, " M"]:
    """Ranks from 1; ties share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def pearson(score: ndarray, truth: ndarray) -> float:
    """Pearson correlation; NaN for fewer than two rows or where one side is constant."""
    score, truth = np.asarray(score, dtype=float), np.asarray(truth, dtype=float)
    if len(score) < 2 or score.std() < 1e-12 or truth.std() < 1e-12:
        return math.nan
    return float(np.clip(np.corrcoef(score, truth)[0, 1], -1, 1))


def spearman(score: ndarray, truth: ndarray) -> float:
    """Pearson correlation of ranks, ties sharing the mean of theirs; NaN where `pearson` is."""
    if len(score) < 2:
        return math.nan
    return pearson(ranks(np.asarray(score)), ranks(np.asarray(truth)))


def epic_distance(score: ndarray, truth: ndarray) -> float:
    """EPIC pseudo-distance of two state-only rewards over one set of states: sqrt((1 - Pearson) / 2).

    0 = equal up to scale and offset, 1 = opposite, 0.707 = unrelated; a constant reward counts as unrelated. NaN for
    fewer than two states.

    Source: Gleave et al., arXiv:2006.13900; its reduction for goal labels as used for VLM rewards, arXiv:2310.12921.
    """
    return epic_of(pearson(score, truth)) if len(score) > 1 else math.nan


def epic_of(rho: float) -> float:
    """EPIC distance at a Pearson correlation; NaN (a constant side) counts as 0."""
    return math.sqrt(0.5) if math.isnan(rho) else math.sqrt(max(0.0, 1 - rho) / 2)


def roc_auc(score: ndarray, positive: ndarray) -> float:
    """Probability that a positive scores above a negative, ties counting half; NaN when one side is empty."""
    return auc(np.asarray(score, dtype=float), np.asarray(positive, dtype=bool))


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
    draws = draws_of(count, seed, resamples)
    pairs = (draws @ high) * (draws @ low)
    values = np.einsum("ra,ab,rb->r", draws, wins, draws)[pairs > 0] / pairs[pairs > 0]
    return float(wins.sum() / (high.sum() * low.sum())), ends_of(values)


def grouped_pearson(
    score: ndarray, truth: ndarray, groups: Sequence | ndarray, *, seed: int = 0, resamples: int = 1000
) -> tuple[float, tuple[float, float]]:
    """Pearson correlation and its bootstrap interval over groups; exact, from each group's sums."""
    value = pearson(score, truth)
    if math.isnan(value) or not resamples:
        return value, (math.nan, math.nan)
    x, y = np.asarray(score, dtype=float), np.asarray(truth, dtype=float)
    x, y = x - x.mean(), y - y.mean()
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.stack([np.bincount(group, column) for column in (np.ones(len(x)), x, y, x * x, y * y, x * y)], 1)
    n, sx, sy, sxx, syy, sxy = (draws_of(len(sums), seed, resamples) @ sums).T
    return value, ends_of(_rho(n, sx, sy, sxx, syy, sxy))


def grouped_spearman(
    score: ndarray, truth: ndarray, groups: Sequence | ndarray, *, seed: int = 0, resamples: int = 1000
) -> tuple[float, tuple[float, float]]:
    """Spearman correlation and its bootstrap interval over groups; every resample is ranked anew."""
    value = spearman(score, truth)
    if math.isnan(value) or not resamples:
        return value, (math.nan, math.nan)
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    levels = [np.unique(np.asarray(side), return_inverse=True)[1] for side in (score, truth)]
    values = []
    for draw in draws_of(int(group.max()) + 1, seed, resamples):
        weight = draw[group]
        x, y = (_weighted_ranks(level, weight) for level in levels)
        n = weight.sum()
        x, y = x - n / 2, y - n / 2
        wx, wy = weight * x, weight * y
        values.append(_rho(n, wx.sum(), wy.sum(), wx @ x, wy @ y, wx @ y))
    return value, ends_of(np.array(values))


def _weighted_ranks(level: ndarray, weight: ndarray) -> ndarray:
    """Mean ranks of values that come `weight` times each; `level` numbers the distinct values in rising order."""
    count = np.bincount(level, weight)
    return (np.cumsum(count) - (count - 1) / 2)[level]


def _rho(n: Any, sx: Any, sy: Any, sxx: Any, syy: Any, sxy: Any) -> Any:
    """Pearson correlation from sums; NaN where a side is constant."""
    with np.errstate(divide="ignore", invalid="ignore"):
        spread_x, spread_y = sxx - sx * sx / n, syy - sy * sy / n
        rho = (sxy - sx * sy / n) / np.sqrt(spread_x * spread_y)
        return np.where((spread_x > 1e-12) & (spread_y > 1e-12), rho, np.nan)


def draws_of(count: int, seed: int, resamples: int) -> Float[ndarray, "R G"]:
    """How often each of `count` groups comes in each resample."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples).astype(float)


def ends_of(values: ndarray) -> tuple[float, float]:
    """The middle 95 % of what a bootstrap gave; NaN where it gave nothing."""
    values = values[~np.isnan(values)]
    if not len(values):
        return math.nan, math.nan
    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))
