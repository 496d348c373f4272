"""Thresholds that hold with a stated probability in groups not seen before: conformal prediction for grouped data.

A threshold on one number (how well something fits what it is called) is calibrated on held-out values so that a new
value reaches it with probability `level`: split conformal prediction (Vovk et al., 2005; Angelopoulos and Bates,
arXiv:2107.07511, section 1).

Sentences of one home and frames of one episode are alike, so calibration does not count them as independent: homes or
episodes are. Every group has the same weight, shared evenly by its values, and the group to come takes one share of
K + 1 (HCP of Lee, Barber and Willett, arXiv:2306.06342, section 3). If calibration groups and a new group are
exchangeable, and so are the values within a group, a value of the new group reaches the threshold with probability at
least `level`, on average over groups. Groups of another kind than the calibration's carry no such promise: measure
coverage there.

The set of labels of something new is every label whose threshold its number reaches; that is the set of those labels
whose conformal p-value exceeds 1 - level, as a test checks.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float, Shaped
from numpy import ndarray

from core.errors import InputError

Groups = Shaped[ndarray, " S"] | Sequence[Hashable]
ROUNDING = 1e-9  # sums of weights such as 1 / 3 + 1 / 3 + 1 / 3


def threshold(values: Float[ndarray, " S"] | Sequence[float], groups: Groups, level: float) -> float:
    """The largest number that a value of a new group reaches with probability `level`.

    With groups k = 1..K of N_k values, value i of group k has weight 1 / ((K + 1) N_k); the threshold is the largest
    value t such that values of at least t weigh `level` together. With one value per group that is the
    ceil((K + 1) level)-th largest of K.

    Args:
        values: how well each calibration example fits what it truly is; larger fits better.
        groups: the group of each value; `range(S)` where values are independent.
        level: in (0, 1).

    Returns:
        A calibration value, or -inf (everything reaches it) where K / (K + 1) is less than `level`: too few groups.

    Raises:
        InputError: no value, a value that is not a finite number, not one group for each, or no such level.

    Source: Lee, Barber and Willett, arXiv:2306.06342, equation for HCP prediction sets; see the head of this file.
    """
    values, index, count = _grouped(values, groups)
    if not 0 < level < 1:
        raise InputError(f"conformal level={level}: expected a probability between 0 and 1, e.g. 0.9")
    weight = 1 / ((len(count) + 1) * count[index])
    order = np.argsort(-values, kind="stable")
    enough = np.flatnonzero(np.cumsum(weight[order]) >= level - ROUNDING)
    return float(values[order][enough[0]]) if len(enough) else -np.inf


def group_means(values: Float[ndarray, " S"] | Sequence[float], groups: Groups) -> Float[ndarray, " K"]:
    """The mean of each group's values, groups sorted by name; a level is promised for the mean of these.

    Raises:
        InputError: no value, a value that is not a finite number, or not one group for each.
    """
    values, index, count = _grouped(values, groups)
    return np.bincount(index, values) / count


def _grouped(values: Float[ndarray, " S"] | Sequence[float], groups: Groups) -> tuple[ndarray, ndarray, ndarray]:
    """The values, the number of each one's group, and how many values each group has."""
    numbers = np.asarray(values, dtype=np.float64)
    names = np.asarray([str(group) for group in groups])
    if not len(numbers) or numbers.shape != names.shape or not np.isfinite(numbers).all():
        raise InputError(
            f"got values of shape {numbers.shape} for {len(names)} groups; expected one finite number per group entry, "
            "and at least one"
        )
    _, index, count = np.unique(names, return_inverse=True, return_counts=True)
    return numbers, index, count
