"""Retrieval between views and captions of unseen homes, by embeddings and by a shortlist ranked again.

The gallery is exactly `queries` views, no two of which share a full caption, spread over as many homes as there are.
Beside the model stand chance and the same model with random weights. Captions with a pair of words that no training
caption holds (such as a colour held out of a class) are reported apart.
"""

import re
import time
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray

from core.errors import InputError
from core.files import atomic_file
from core.progress import track
from vl.data import CaptionedViews
from vl.embed_folder import has_fusion, picture_size
from vl.embedder import Embedder
from vl.model import VLModel, embedding_of
from vl.picture_cache import PictureCache
from vl.retrieval import Reranked, match_scores, read_all, rerank, see_all, summary, target_ranks
from vl.tasks import TaskData
from vl.tasks.captions import gallery as gallery_of
from vl.tasks.captions import recalls as recalls_both_ways

NAME_WORDS = 5  # "an orange ceiling lamp" has four
TOP = 3  # best views kept per query

Rows = list[dict[str, Any]]


@dataclass
class Gallery:
    """What is retrieved from: caption i belongs to view i."""

    images: ndarray  # uint8 (M, H, W, 3)
    captions: list[str]
    view: ndarray  # row of each view in its split
    homes: list[str]
    unseen: ndarray  # which captions hold a name that no training caption has
    unseen_names: list[str]


def open_gallery(folder: str, split: str, queries: int, seed: int) -> Gallery:
    """The gallery of a split of a views folder.

    Raises:
        InputError: see `CaptionedViews.open`; or the split has fewer than `queries` views of distinct captions.
    """
    views, train = CaptionedViews.open(folder, split), CaptionedViews.open(folder, "train")
    chosen, captions = views.distinct(queries, seed=seed)
    order = np.argsort(chosen)
    images = np.empty((len(chosen), *views.images.shape[1:]), dtype=np.uint8)
    images[order] = views.images[chosen[order]]
    pairs, known = unseen_names(train, views), names(train) | names(views)
    unseen = np.array([any(mentions(caption, name, known) for name in pairs) for caption in captions])
    return Gallery(images, captions, chosen, [views.scene_id[v] for v in chosen], unseen, sorted(pairs))


def retrieve(
    model: Embedder, images: UInt8[ndarray, "I H W 3"], texts: list[str], k: int
) -> tuple[Float[ndarray, "T I"], Reranked | None]:
    """Similarities by embedding, and where k > 0 both directions with the best `k` ranked again by the fusion.

    Raises:
        InputError: `k` is asked of a model without a fusion.
    """
    if not k:
        image = model.encode_images(torch.from_numpy(images))
        return (model.encode_texts(texts) @ image.T).float().cpu().numpy(), None
    fusing = check_fusion(model, k)
    seen, read = see_all(fusing, images), read_all(fusing, texts)
    similarity = (embedding_of(read) @ embedding_of(seen).T).float().cpu().numpy()
    with track(None, "pairs fused") as progress:
        found = rerank(
            similarity,
            k,
            lambda text, image: match_scores(fusing, read, seen, text, image, progress=progress.advance),
        )
    return similarity, found


def check_fusion(model: Embedder, k: int) -> VLModel:
    """The model as one that sees image and text together.

    Raises:
        InputError: it does not.
    """
    if not isinstance(model, VLModel) or not has_fusion(model):
        raise InputError(
            f"rerank={k} needs a model that sees image and text together, and this one has no fusion; leave rerank=0, "
            "or pretrain one with model.fusion.layers=2 or more and objectives.itm=1"
        )
    return model


def evaluate_retrieval(
    model: Embedder, gallery: Gallery, k: int, seed: int, queries_file: Path
) -> tuple[Rows, dict[str, Any]]:
    """The table of recalls, and what else belongs into the result; writes one row per query to `queries_file`."""
    model_rows: Rows = []
    began = time.perf_counter()
    similarity, again = retrieve(model, gallery.images, gallery.captions, k)
    seconds = time.perf_counter() - began
    kinds = {"dual encoder" if again else "model": (similarity, similarity.T)}
    if again:
        kinds["reranked"] = (again.text_to_image, again.image_to_text)
    for name, both in kinds.items():
        model_rows += recalls(name, both, gallery, seed, apart=True)
    if isinstance(model, VLModel):
        untrained = model.untrained(seed).eval().to(model.device)
        random, _ = retrieve(untrained, gallery.images, gallery.captions, 0)
        model_rows += recalls("random weights", (random, random.T), gallery, seed, apart=False)
    count = len(gallery.captions)
    chance = {f"R@{k}": min(1.0, k / count) for k in (1, 5, 10)}
    model_rows.append({"model": "chance", "direction": "both", "subset": "all", "queries": count, **chance})

    best = again.text_to_image if again else similarity
    write_queries(queries_file, best, gallery)
    first = next(row for row in model_rows if row["model"] == list(kinds)[-1])
    return model_rows, {
        "queries": count,
        "homes": len(set(gallery.homes)),
        "text_to_view_R@1": first["R@1"],
        "text_to_view_R@1_interval": first["R@1_interval"],
        "unseen_names": gallery.unseen_names,
        "pairs_fused": again.pairs if again else 0,
        "pairs_of_the_grid": count * count,
        "seconds": round(seconds, 2),
    }


def retrieve_captions(model: Embedder, data: TaskData, k: int) -> tuple[Rows, dict[str, Any]]:
    """The table of recalls between photographs and captions, and what else belongs into the result."""
    names, own = gallery_of(data.examples)
    height, width = picture_size(model)
    cache = PictureCache(data.pictures, height, width, gigabytes=0.0)
    images = cache.stack((name, None) for name in names)
    similarity, again = retrieve(model, images, [example.text for example in data.examples], k)
    rows: Rows = [{"model": "dual encoder" if again else "model"}]
    rows[0] |= recalls_both_ways(data.examples, similarity, similarity)
    if again:
        to_text = np.ascontiguousarray(again.image_to_text.T)
        rows.append({"model": "reranked", **recalls_both_ways(data.examples, again.text_to_image, to_text)})
    return rows, {
        "images": len(names),
        "captions": len(own),
        "mean_recall": rows[-1]["mean_recall"],
        "pairs_fused": again.pairs if again else 0,
        "pairs_of_the_grid": len(names) * len(own),
        "unreadable": cache.causes(),
    }


def recalls(name: str, both: tuple[ndarray, ndarray], gallery: Gallery, seed: int, *, apart: bool) -> Rows:
    """Rows of the table for one way of scoring: (texts, views) and (views, texts).

    Args:
        apart: also report the captions that hold an unseen name.
    """
    rows: Rows = []
    for direction, matrix in zip(("text to view", "view to text"), both):
        ranks = target_ranks(matrix, np.arange(len(matrix)))
        rows.append({"model": name, "direction": direction, "subset": "all", "queries": len(ranks)})
        rows[-1] |= summary(ranks, gallery.homes, seed)
        if apart and gallery.unseen.any():
            part: list[Hashable] = [home for home, keep in zip(gallery.homes, gallery.unseen) if keep]
            rows.append({"model": name, "direction": direction, "subset": "unseen name", "queries": len(part)})
            rows[-1] |= summary(ranks[gallery.unseen], part, seed)
    return rows


def names(views: CaptionedViews) -> set[str]:
    """The things a split's object captions name barely, without article: "red armchair", "yellow table lamp".

    A bare name has at most NAME_WORDS words with its article; longer captions also say where the thing is.
    """
    texts = (text.lower().split() for text in views.object_texts())
    return {" ".join(words[1:]) for words in texts if 2 < len(words) <= NAME_WORDS and words[0] in ("a", "an")}


def unseen_names(train: CaptionedViews, test: CaptionedViews) -> set[str]:
    """Names in `test` that `train` lacks, though it has each of their words.

    Where colour x class pairs were held out of the training homes, these are the held-out pairs that came into view
    (and any pair the training homes happen to lack).
    """
    seen = names(train)
    words = {word for name in seen for word in name.split()}
    return {name for name in names(test) - seen if words.issuperset(name.split())}


def mentions(caption: str, name: str, known: set[str]) -> bool:
    """Whether a caption speaks of `name`, one or several, and not of a longer known name that begins alike."""
    longer = {other[len(name) :].split()[0] for other in known if other.startswith(name + " ")}
    plural = name[:-1] + "ves" if name.endswith("shelf") else name
    for match in re.finditer(rf"\b({re.escape(name)}|{re.escape(plural)})(?:e?s)?\b(?: (\w+))?", caption.lower()):
        if match.group(2) is None or match.group(2).rstrip("s") not in longer:
            return True
    return False


def write_queries(path: Path, scores: Float[ndarray, "T I"], gallery: Gallery) -> None:
    """One row per caption: its own view and home, its rank, and the TOP best views (row numbers of the split)."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    best = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    table = pa.table(
        {
            "query": gallery.captions,
            "view": gallery.view.tolist(),
            "scene_id": gallery.homes,
            "rank": target_ranks(scores, np.arange(len(scores))).tolist(),
            "top_views": gallery.view[best].tolist(),
            "top_scores": np.take_along_axis(scores, best, axis=1).astype(np.float64).tolist(),
        }
    )
    with atomic_file(path) as file:
        parquet.write_table(table, file)
