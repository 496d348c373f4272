"""Measure retrieval between views and captions of unseen homes.

sightline evaluate-vl views=FOLDER model=FOLDER

The gallery is exactly `queries` views, no two of which share a full caption, spread over as many homes as there are.
Beside the model stand chance and the same towers with random weights. Captions with a pair of words that no training
caption holds (such as a colour held out of a class) are reported apart. result.json holds the table,
retrieval.parquet one row per query with its rank and best views.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.errors import InputError
from core.files import atomic_file
from core.job import JobConfig, job_main
from core.run import RunFolder
from vl.data import CaptionedViews
from vl.embedder import Embedder, load_embedder
from vl.model import VLModel
from vl.retrieval import summary, target_ranks


@dataclass
class EvaluateVLConfig(JobConfig):
    """Retrieval on unseen homes: sightline evaluate-vl views=FOLDER model=FOLDER"""

    CUDA = True

    views: str = ""  # folder of rendered views
    model: str = ""  # two-tower folder, a CLIP or SigLIP directory, or a hub id
    split: str = "test"  # which homes: train, val or test
    queries: int = 500  # views with distinct captions to retrieve from; fewer in the split is an error

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queries < 1:
            raise InputError(f"queries={self.queries} should be positive")


CONFIG = EvaluateVLConfig
NAME_WORDS = 5  # "an orange ceiling lamp" has four
TOP = 3  # best views kept per query


def similarities(embedder: Embedder, images: np.ndarray, captions: list[str]) -> np.ndarray:
    """(captions, images) dot products of the embeddings."""
    image = embedder.encode_images(torch.from_numpy(images))
    return (embedder.encode_texts(captions) @ image.T).float().cpu().numpy()


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


def run(cfg: EvaluateVLConfig) -> dict[str, Any]:
    """Embed the gallery once per model, rank both ways, write the table."""
    for name in ("views", "model"):
        if not getattr(cfg, name):
            raise InputError(f"{name} is required: {name}=FOLDER")
    views = CaptionedViews.open(cfg.views, cfg.split)
    chosen, captions = views.distinct(cfg.queries, seed=cfg.seed)
    model = load_embedder(cfg.model, cfg.device)
    folder = RunFolder.open(cfg, "evaluate-vl")
    finished = folder.result()
    if finished is not None:
        folder.close()
        return finished

    order = np.argsort(chosen)
    images = np.empty((len(chosen), *views.images.shape[1:]), dtype=np.uint8)
    images[order] = views.images[chosen[order]]
    homes = [views.scene_id[v] for v in chosen]
    target = np.arange(len(chosen))

    began = time.perf_counter()
    scores = {"model": similarities(model, images, captions)}
    seconds = time.perf_counter() - began
    if isinstance(model, VLModel):
        untrained = model.untrained(cfg.seed).eval().to(cfg.device)
        scores["random weights"] = similarities(untrained, images, captions)

    train = CaptionedViews.open(cfg.views, "train")
    pairs, known = unseen_names(train, views), names(train) | names(views)
    unseen = np.array([any(mentions(caption, name, known) for name in pairs) for caption in captions])
    table: list[dict[str, Any]] = []
    for name, similarity in scores.items():
        for direction, matrix in (("text to view", similarity), ("view to text", similarity.T)):
            ranks = target_ranks(matrix, target)
            table.append({"model": name, "direction": direction, "subset": "all", "queries": len(ranks)})
            table[-1] |= summary(ranks, homes, cfg.seed)
            if name == "model" and unseen.any():
                part = [home for home, keep in zip(homes, unseen) if keep]
                table.append({"model": name, "direction": direction, "subset": "unseen name", "queries": len(part)})
                table[-1] |= summary(ranks[unseen], part, cfg.seed)
    chance = {f"R@{k}": min(1.0, k / len(chosen)) for k in (1, 5, 10)}
    table.append({"model": "chance", "direction": "both", "subset": "all", "queries": len(chosen), **chance})

    write_queries(folder.file("retrieval.parquet"), scores["model"], chosen, captions, homes)
    show(table, f"retrieval among {len(chosen)} {cfg.split} views of {len(set(homes))} homes")
    first = table[0]
    return folder.finish(
        {
            "split": cfg.split,
            "queries": len(chosen),
            "homes": len(set(homes)),
            "text_to_view_R@1": first["R@1"],
            "text_to_view_R@1_interval": first["R@1_interval"],
            "table": table,
            "unseen_names": sorted(pairs),
            "seconds": round(seconds, 2),
        }
    )


def show(table: list[dict[str, Any]], title: str) -> None:
    """Print recall in both directions."""
    from rich.console import Console
    from rich.table import Table

    printed = Table(title=title, title_justify="left")
    for column in ("model", "direction", "captions", "queries", "R@1", "R@5", "R@10"):
        printed.add_column(column, justify="left" if column in ("model", "direction", "captions") else "right")
    for row in table:
        recalls = [f"{row[f'R@{k}']:.3f}" for k in (1, 5, 10)]
        printed.add_row(row["model"], row["direction"], row["subset"], str(row["queries"]), *recalls)
    Console().print(printed)


def write_queries(
    path: Path, similarity: np.ndarray, chosen: np.ndarray, captions: list[str], homes: list[str]
) -> None:
    """One row per caption: its own view and home, its rank, and the TOP best views (row numbers of the split)."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    best = np.argsort(-similarity, axis=1, kind="stable")[:, :TOP]
    table = pa.table(
        {
            "query": captions,
            "view": chosen.tolist(),
            "scene_id": homes,
            "rank": target_ranks(similarity, np.arange(len(chosen))).tolist(),
            "top_views": chosen[best].tolist(),
            "top_scores": np.take_along_axis(similarity, best, axis=1).astype(np.float64).tolist(),
        }
    )
    with atomic_file(path) as file:
        parquet.write_table(table, file)


if __name__ == "__main__":
    job_main("evaluate-vl")
