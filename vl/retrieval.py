"""Retrieval measures: ranks, recall at k, and intervals over homes."""

from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float, Int64
from numpy import ndarray

from core.errors import InputError
from core.intervals import grouped_mean


def target_ranks(similarity: Float[ndarray, "Q C"], target: Int64[ndarray, " Q"]) -> Int64[ndarray, " Q"]:
    """Rank of each query's candidate, 1 = best; ties count against it, so equal scores everywhere rank last.

    Raises:
        InputError: shapes differ or a score is not finite.
    """
    if similarity.ndim != 2 or target.shape != similarity.shape[:1]:
        raise InputError(f"similarity {similarity.shape} needs one target per row, got {target.shape}")
    if not np.isfinite(similarity).all():
        raise InputError("similarities hold NaN or infinite numbers; the embeddings are broken")
    own = similarity[np.arange(len(target)), target]
    return (similarity >= own[:, None]).sum(1).astype(np.int64)


def recall_at(ranks: Int64[ndarray, " Q"], k: int) -> float:
    """Share of queries whose candidate is among the best k."""
    return float((ranks <= k).mean())


def summary(ranks: Int64[ndarray, " Q"], groups: Sequence[Hashable], seed: int = 0) -> dict[str, float | list[float]]:
    """R@1, R@5, R@10 with 95 % intervals over groups, and the median rank."""
    result: dict[str, float | list[float]] = {}
    for k in (1, 5, 10):
        result[f"R@{k}"] = recall_at(ranks, k)
        result[f"R@{k}_interval"] = list(grouped_mean((ranks <= k).astype(np.float64), groups, seed=seed))
    result["median_rank"] = float(np.median(ranks))
    return result
