"""Facts about vl/retrieval.py."""

import numpy as np
import pytest
import torch

from core.errors import InputError
from vl.encoded import Encoded
from vl.retrieval import concatenated, ranked_again, recall_at, rerank, shortlist, summary, target_ranks


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


def test_a_shortlist_is_best_first_and_never_longer_than_the_candidates():
    similarity = np.array([[0.1, 0.9, 0.5, 0.5], [0.4, 0.3, 0.2, 0.1]])
    assert shortlist(similarity, 3).tolist() == [[1, 2, 3], [0, 1, 2]]
    assert shortlist(similarity, 9).shape == (2, 4)
    with pytest.raises(InputError, match="at least 1"):
        shortlist(similarity, 0)


def test_the_second_ranking_orders_the_shortlist_and_leaves_the_rest_behind_it():
    similarity = np.array([[0.4, 0.3, 0.2, 0.1]])
    again = ranked_again(similarity, np.array([[0, 1]]), np.array([[-7.0, -5.0]]))
    assert np.argsort(-again[0]).tolist() == [1, 0, 2, 3]


def test_each_pair_of_both_shortlists_is_fused_once_and_a_full_shortlist_is_the_grid():
    rng = np.random.default_rng(0)
    similarity, truth = rng.normal(size=(4, 6)), rng.normal(size=(4, 6))
    asked: list[tuple[int, int]] = []

    def scores(texts, images):
        asked.extend(zip(texts.tolist(), images.tolist()))
        return truth[texts, images]

    found = rerank(similarity, 2, scores)
    best_images, best_texts = np.argsort(-similarity, 1)[:, :2], np.argsort(-similarity, 0)[:2].T
    wanted = {(t, int(i)) for t in range(4) for i in best_images[t]}
    wanted |= {(int(t), i) for i in range(6) for t in best_texts[i]}
    assert len(asked) == found.pairs == len(wanted) and set(asked) == wanted
    for t in range(4):
        assert found.text_to_image[t].argmax() == max(best_images[t], key=lambda i: truth[t, i])
    for i in range(6):
        assert found.image_to_text[i].argmax() == max(best_texts[i], key=lambda t: truth[t, i])

    everything = rerank(similarity, 6, scores)
    assert (everything.text_to_image.argsort(1) == truth.argsort(1)).all()
    assert (everything.image_to_text.argsort(1) == truth.T.argsort(1)).all()


def test_batches_of_encodings_join_with_padding_masked():
    first = Encoded([torch.ones(1, 2, 3)], torch.tensor([[True, True]]), torch.zeros(1, 3), torch.zeros(1, 4))
    second = Encoded([torch.ones(2, 1, 3)], torch.tensor([[True], [True]]), torch.ones(2, 3), torch.ones(2, 4))
    joined = concatenated([first, second])
    assert joined.states.shape == (3, 2, 3) and joined.mask.tolist() == [[True, True], [True, False], [True, False]]
    assert joined.pooled[:, 0].tolist() == joined.embedding[:, 0].tolist() == [0, 1, 1]
    assert concatenated([Encoded([torch.ones(1, 2, 3)]), Encoded([torch.ones(1, 2, 3)])]).mask is None
