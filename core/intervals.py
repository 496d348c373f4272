"""95 % intervals of the tables: over homes wherever homes hold several of what is counted; over training seeds."""

import math
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.special import stdtrit

Z_95 = 1.959963984540054  # two-sided 95 % point of the standard normal


def wilson(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """The Wilson score interval of a rate over independent trials; right also for 0 and for all successes.

    Raises:
        ValueError: no trials, or more successes than trials.

    Source: Wilson, JASA 22 (1927) 209-212.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            f"wilson() got {successes} successes of {trials} trials; expected 0 <= successes <= trials, >= 1"
        )
    rate = successes / trials
    middle = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a mean by Student's t, e.g. over training seeds; nan and nan for fewer than two values."""
    if len(values) < 2:
        return math.nan, math.nan
    half = float(stdtrit(len(values) - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    middle = float(np.mean(values))
    return middle - half, middle + half


def grouped_mean(
    values: Float[ndarray, " M"],
    groups: Sequence[Hashable] | ndarray,
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of the mean of `values` when whole groups are drawn again with replacement.

    Sentences, views and episodes of one home are alike; homes are what was drawn, so homes are resampled.

    Args:
        groups: the group of each value, e.g. its home; `range(M)` where values are independent.

    Raises:
        ValueError: no values, or not one group for each.

    Source: cluster bootstrap, Field and Welsh, J. R. Statist. Soc. B 69 (2007), section 3.
    """
    values = np.asarray(values, dtype=np.float64)
    names, index = np.unique(np.asarray([str(group) for group in groups]), return_inverse=True)
    if not len(values) or len(index) != len(values):
        raise ValueError(f"grouped_mean() got {len(values)} values and {len(index)} groups; expected as many, >= 1")
    total = np.bincount(index, weights=values, minlength=len(names))
    count = np.bincount(index, minlength=len(names))
    drawn = np.random.default_rng(seed).integers(0, len(names), (resamples, len(names)))
    means = total[drawn].sum(1) / count[drawn].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def grouped_rate(hits: Float[ndarray, " M"], groups: Sequence[Hashable] | ndarray) -> tuple[float, float]:
    """Interval of a rate over groups; where all or none hit, no resample differs, and Wilson's interval stands in."""
    hits = np.asarray(hits, dtype=np.float64)
    if len(hits) and hits.min() == hits.max():
        return wilson(int(hits.sum()), len(hits))
    return grouped_mean(hits, groups)
