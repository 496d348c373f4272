"""Facts about vl/retrieval.py."""

import numpy as np
import pytest

from core.errors import InputError
from vl.retrieval import recall_at, summary, target_ranks


def test_ranks_are_counted_from_one_and_ties_count_against():
    similarity = np.array([[0.9, 0.1, 0.5], [0.9, 0.1, 0.5], [0.2, 0.2, 0.2]])
    assert target_ranks(similarity, np.array([0, 2, 1])).tolist() == [1, 2, 3]


def test_recall_is_the_share_within_the_best_k():
    ranks = np.array([1, 2, 6, 11])
    assert [recall_at(ranks, k) for k in (1, 5, 10)] == [0.25, 0.5, 0.75]
    assert summary(ranks, [0, 1, 2, 3])["median_rank"] == 4.0


def test_broken_similarities_are_named():
    with pytest.raises(InputError, match="NaN"):
        target_ranks(np.array([[np.nan]]), np.array([0]))
    with pytest.raises(InputError, match="one target per row"):
        target_ranks(np.zeros((2, 2)), np.array([0]))
