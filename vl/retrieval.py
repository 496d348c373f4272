"""Retrieval: ranks and recall with intervals; a shortlist by embeddings, ranked again by the model that sees pairs.

Comparing every text with every image through the fusion costs texts x images passes. Embeddings cost texts + images;
so each query keeps its `k` nearest candidates by embedding, and only those pairs go through the fusion. The towers'
states are computed once per image and once per text and taken from there for every pair.

The shortlist and its second ranking are ALBEF's (Li et al., arXiv:2107.07651, section 5).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from numpy import ndarray
from torch import Tensor
from torch.nn import functional as F

from core.errors import InputError
from core.intervals import grouped_mean
from vl.encoded import Encoded

PAIRS = 128
"""Pairs fused at once."""


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


def shortlist(similarity: Float[ndarray, "Q C"], k: int) -> Int64[ndarray, "Q K"]:
    """The `k` best candidates of each query, best first (all of them where there are fewer); ties by their number.

    Raises:
        InputError: `k` is not positive.
    """
    if k < 1:
        raise InputError(f"a shortlist of {k} candidates holds none; ask for at least 1")
    return np.argsort(-similarity, axis=1, kind="stable")[:, :k].astype(np.int64)


def ranked_again(
    similarity: Float[ndarray, "Q C"], chosen: Int64[ndarray, "Q K"], score: Float[ndarray, "Q K"]
) -> Float[ndarray, "Q C"]:
    """Scores under which the shortlist comes first, ordered by `score`, and the rest follows in its old order.

    Scores of different queries are not comparable: only the order within a row has a meaning.
    """
    result = similarity.astype(np.float64)
    shifted = score.astype(np.float64) - score.min(1, keepdims=True) + result.max(1, keepdims=True) + 1.0
    np.put_along_axis(result, chosen, shifted, axis=1)
    return result


@dataclass
class Reranked:
    """Both directions of retrieval after the shortlists went through the fusion."""

    text_to_image: Float[ndarray, "T I"]
    """Scores whose order within a row is the answer, see `ranked_again`."""
    image_to_text: Float[ndarray, "I T"]
    pairs: int
    """Pairs that were fused; a pair on both shortlists is fused once."""


PairScores = Callable[[Int64[ndarray, " P"], Int64[ndarray, " P"]], Float[ndarray, " P"]]
"""Rows of texts and rows of images, one pair each, to how well they fit."""


def rerank(similarity: Float[ndarray, "T I"], k: int, pair_scores: PairScores) -> Reranked:
    """Shortlists of `k` by `similarity` in both directions, ranked again by `pair_scores`."""
    images, texts = shortlist(similarity, k), shortlist(similarity.T, k)  # (T, K), (I, K)
    count = similarity.shape[1]
    of_texts = np.arange(len(images))[:, None] * count + images  # number of each pair in the grid
    of_images = texts * count + np.arange(len(texts))[:, None]
    pairs, where = np.unique(np.concatenate([of_texts.ravel(), of_images.ravel()]), return_inverse=True)
    scores = pair_scores(pairs // count, pairs % count)[where.reshape(-1)]
    to_image = scores[: of_texts.size].reshape(of_texts.shape)
    to_text = scores[of_texts.size :].reshape(of_images.shape)
    return Reranked(ranked_again(similarity, images, to_image), ranked_again(similarity.T, texts, to_text), len(pairs))


# --- encoded once, compared often ---


def concatenated(parts: Sequence[Encoded]) -> Encoded:
    """Encodings of successive batches as one, shorter sequences padded at the end (and masked)."""
    longest = max(part.states.shape[1] for part in parts)
    padded = any(part.states.shape[1] < longest or part.mask is not None for part in parts)

    def joined(values: list[Tensor | None]) -> Tensor | None:
        return None if values[0] is None else torch.cat([value for value in values if value is not None])

    return Encoded(
        [
            torch.cat([F.pad(part.layers[n], (0, 0, 0, longest - part.layers[n].shape[1])) for part in parts])
            for n in range(len(parts[0].layers))
        ],
        torch.cat([F.pad(part.real, (0, longest - part.states.shape[1])) for part in parts]) if padded else None,
        joined([part.pooled for part in parts]),
        joined([part.embedding for part in parts]),
    )


@torch.no_grad()
def see_all(model: Any, images: UInt8[ndarray, "M H W 3"], batch_size: int = 32) -> Encoded:
    """States and embeddings of all images (a `VLModel`'s `see`), kept on the model's device."""
    parts = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    return concatenated([model.see(model.pixels(torch.from_numpy(np.array(part)))) for part in parts])


@torch.no_grad()
def read_all(model: Any, texts: Sequence[str], batch_size: int = 256) -> Encoded:
    """States and embeddings of all texts (a `VLModel`'s `read`), kept on the model's device."""
    parts = []
    for start in range(0, len(texts), batch_size):
        ids, mask = model.tokens(list(texts[start : start + batch_size]))
        parts.append(model.read(ids, mask))
    return concatenated(parts)


@torch.no_grad()
def match_scores(
    model: Any,
    text: Encoded,
    image: Encoded,
    text_rows: Int64[ndarray, " P"],
    image_rows: Int64[ndarray, " P"],
    batch_size: int = PAIRS,
    progress: Callable[[int], None] | None = None,
) -> Float[ndarray, " P"]:
    """Log odds that text `text_rows[p]` fits image `image_rows[p]`, by the model's fusion.

    Pairs are taken in order of their text's length, so that a batch of short texts carries no padding.

    Args:
        progress: told the number of pairs after every batch.
    """
    length = text.real.sum(1).cpu().numpy()
    order = np.lexsort((image_rows, text_rows, length[text_rows]))
    scores = np.empty(len(order), dtype=np.float64)
    for start in range(0, len(order), batch_size):
        pairs = order[start : start + batch_size]
        rows = torch.from_numpy(text_rows[pairs]).to(text.states.device)
        fused = model.fuse(
            image.rows(torch.from_numpy(image_rows[pairs]).to(image.states.device)),
            shortened(text.rows(rows), int(length[text_rows[pairs[-1]]])),
        )
        logits = model.match_logits(fused).double()
        scores[pairs] = (logits[:, 1] - logits[:, 0]).cpu().numpy()
        if progress is not None:
            progress(len(pairs))
    return scores


def shortened(encoded: Encoded, length: int) -> Encoded:
    """The first `length` positions: the rest is padding in every row."""
    return Encoded(
        [layer[:, :length] for layer in encoded.layers],
        None if encoded.mask is None else encoded.mask[:, :length],
        encoded.pooled,
        encoded.embedding,
    )
