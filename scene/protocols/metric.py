"""Metrics as sums over examples, so that every one of them has an interval.

A mean is the sum of its values over their count; corpus BLEU is a function of summed n-gram counts. Both are
`combine(sum of rows)`, and a bootstrap over scenes resamples the rows of whole scenes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from core.errors import InputError


def ratio(total: Float[ndarray, "*r K"]) -> Float[ndarray, "*r"]:
    """First column over second: a mean when the second counts the examples."""
    return total[..., 0] / total[..., 1]


@dataclass(frozen=True)
class Metric:
    """One column of a table.

    Attributes:
        name: as the paper writes it, variant included: "Acc@0.25", "EM@1", "METEOR (exact)".
        statistics: what each example adds; NaN nowhere.
        combine: summed statistics to the metric's value; must accept leading dimensions.
        scale: what the table multiplies by: 100 for percentages.
    """

    name: str
    statistics: Float[ndarray, "E K"]
    combine: Callable[[Float[ndarray, "*r K"]], Float[ndarray, "*r"]] = ratio
    scale: float = 100.0

    @classmethod
    def mean(cls, name: str, values: Float[ndarray, " E"] | Bool[ndarray, " E"], scale: float = 100.0) -> "Metric":
        """The mean of one value per example."""
        values = np.asarray(values, dtype=np.float64)
        return cls(name, np.stack([values, np.ones_like(values)], 1), scale=scale)

    def value(self, members: Bool[ndarray, " E"] | None = None) -> float:
        """The metric over the members of a group, times `scale`; NaN for an empty group."""
        rows = self.statistics if members is None else self.statistics[members]
        return float(self.scale * self.combine(rows.sum(0))) if len(rows) else float("nan")

    def interval(
        self, scenes: ndarray, members: Bool[ndarray, " E"] | None = None, *, seed: int = 0, resamples: int = 1000
    ) -> tuple[float, float]:
        """95 % bootstrap interval over scenes, times `scale`: sentences of one scene are not independent.

        Draws of scenes in which nothing counts have no value and are left out; NaN where no draw has
        one, and for fewer than two scenes.

        Args:
            scenes: id of each example's scene, (E,).

        Raises:
            InputError: `scenes` has another length than the statistics.

        Source: the cluster bootstrap, Cameron et al., 2008, section III.A; percentile interval.
        """
        if len(scenes) != len(self.statistics):
            raise InputError(f"{self.name}: {len(scenes)} scene ids for {len(self.statistics)} examples")
        chosen = np.ones(len(scenes), dtype=bool) if members is None else np.asarray(members, dtype=bool)
        names, cluster = np.unique(scenes[chosen], return_inverse=True)
        if len(names) < 2:  # one scene says nothing about how scenes differ
            return float("nan"), float("nan")
        sums = np.zeros((int(cluster.max()) + 1, self.statistics.shape[1]))
        np.add.at(sums, cluster, self.statistics[chosen])
        draws = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=resamples)
        values = self.combine(draws @ sums)
        values = values[np.isfinite(values)]
        if not len(values):
            return float("nan"), float("nan")
        low, high = np.quantile(values, (0.025, 0.975))
        return float(self.scale * low), float(self.scale * high)
