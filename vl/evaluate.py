"""Measure a vision-language model.

sightline evaluate-vl views=FOLDER model=FOLDER                      retrieval on unseen homes; rerank=K as well
sightline evaluate-vl data=FOLDER model=FOLDER                       retrieval on COCO or Flickr30k captions
sightline evaluate-vl task=nlvr1 data=FOLDER model=FOLDER            a task with answers, by its official metrics
sightline evaluate-vl task=zero-shot data=FOLDER model=FOLDER        classes by name; task=linear-probe by a classifier
sightline evaluate-vl images=FOLDER texts=FILE model=FOLDER          one's own pictures: features and scores

result.json holds the table. Beside it lie retrieval.parquet (one row per query), predictions.parquet (one row per
example; with predictions.csv or vqa_results.json for official servers), or features.npy, names.json and scores.parquet.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import InputError, check_choice, existing_file
from core.files import atomic_file, atomic_write
from core.job import JobConfig, job_main
from core.progress import track
from core.run import RunFolder
from vl.answering import check_blind, check_examples, check_head
from vl.embed_folder import FolderFeatures, folder_features, similarities
from vl.embedder import load_embedder
from vl.evaluate_answers import evaluate_answers
from vl.evaluate_classes import TEMPLATES, linear_probe, zero_shot
from vl.evaluate_retrieval import check_fusion, evaluate_retrieval, open_gallery, retrieve_captions
from vl.model import VLModel
from vl.tasks import TASKS, Task, task_named

Rows = list[dict[str, Any]]


@dataclass
class EvaluateVLConfig(JobConfig):
    """Measure a model: sightline evaluate-vl views=FOLDER model=FOLDER"""

    CUDA = True

    task: str = "retrieval"  # retrieval, nlvr1, nlvr2, snli-ve, vqa, refcoco, zero-shot or linear-probe
    model: str = ""  # model folder, or for what needs no fusion a CLIP or SigLIP directory or hub id
    views: str = ""  # retrieval: folder of rendered views
    data: str = ""  # folder with a task's official files, or with a folder per class
    split: str = "test"  # split to measure on, or a part of one (test:val)
    queries: int = 500  # retrieval: views with distinct captions; fewer in the split is an error
    rerank: int = 0  # retrieval: candidates of each query that the fusion ranks again; 0 = embeddings alone
    train_split: str = "train"  # linear-probe: where the classifier is fitted
    val_split: str = "val"  # linear-probe: where its penalty is chosen
    templates: list[str] = field(default_factory=lambda: list(TEMPLATES))  # zero-shot: {} is the name of the class
    blind: bool = False  # tasks with answers: grey pictures only, for a model trained blind
    images: str = ""  # one's own pictures, a folder or .zip; takes the place of a task
    texts: str = ""  # one sentence a line, scored against each of `images`
    batch_size: int = 64  # questions answered at once
    cache_gb: float = 1.0  # memory for decoded pictures

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("task", self.task, tasks())
        if self.queries < 1 or self.batch_size < 1:
            raise InputError(f"queries={self.queries} and batch_size={self.batch_size} should be positive")
        if self.rerank < 0 or self.cache_gb < 0:
            raise InputError(f"rerank={self.rerank} and cache_gb={self.cache_gb} should not be negative")
        if self.texts and not self.images:
            raise InputError("texts= goes with images=FOLDER, the pictures they are scored against")


CONFIG = EvaluateVLConfig
CLASS_TASKS = ("zero-shot", "linear-probe")


Measure = Callable[[RunFolder], dict[str, Any]]


def tasks() -> list[str]:
    """Names that task= takes."""
    return ["retrieval", *(name for name, task in TASKS.items() if answers(task)), *CLASS_TASKS]


def answers(task: Task) -> bool:
    """Whether a task is one of answering."""
    return task.predicts in ("label", "answer", "box")


def run(cfg: EvaluateVLConfig) -> dict[str, Any]:
    """Measures what is asked for, prints the table and writes the result."""
    if not (cfg.images or cfg.data or (cfg.views and cfg.task == "retrieval")):
        if cfg.task != "retrieval":
            raise InputError(f"data is required: data=FOLDER, the files of task={cfg.task} (docs/vl_tasks.md)")
        raise InputError(
            "views is required: views=FOLDER of rendered views; or data=FOLDER of captioned photographs, task=... "
            "data=FOLDER for another task, images=FOLDER for your own pictures"
        )
    if not cfg.model:
        raise InputError("model is required: model=FOLDER")
    if cfg.images:
        opened = of_images
    elif cfg.task == "retrieval":
        opened = of_views if cfg.views else of_captions
    else:
        opened = of_classes if cfg.task in CLASS_TASKS else of_answers
    measure = opened(cfg)  # what is wrong with the input is found before there is a run folder
    folder = RunFolder.open(cfg, "evaluate-vl")
    finished = folder.result()
    if finished is not None:
        folder.close()
        return finished
    began = time.perf_counter()
    result = measure(folder)
    return folder.finish({**result, "seconds": round(time.perf_counter() - began, 2)})


def of_views(cfg: EvaluateVLConfig) -> Measure:
    """Retrieval between views and captions of homes, both ways."""
    gallery = open_gallery(cfg.views, cfg.split, cfg.queries, cfg.seed)
    model = load_embedder(cfg.model, cfg.device)
    if cfg.rerank:
        check_fusion(model, cfg.rerank)

    def measure(folder: RunFolder) -> dict[str, Any]:
        table, result = evaluate_retrieval(model, gallery, cfg.rerank, cfg.seed, folder.file("retrieval.parquet"))
        show_recalls(table, f"retrieval among {result['queries']} {cfg.split} views of {result['homes']} homes")
        return {"split": cfg.split, **result, "table": table}

    return measure


def of_captions(cfg: EvaluateVLConfig) -> Measure:
    """Retrieval between photographs and captions, files of COCO's and Flickr30k's form."""
    data = task_named("retrieval").load(cfg.data, cfg.split)
    model = load_embedder(cfg.model, cfg.device)
    if cfg.rerank:
        check_fusion(model, cfg.rerank)

    def measure(folder: RunFolder) -> dict[str, Any]:
        table, result = retrieve_captions(model, data, cfg.rerank)
        show_metrics(table, f"retrieval among {result['images']} photographs and {result['captions']} captions")
        return {"split": cfg.split, **result, "table": table}

    return measure


def of_classes(cfg: EvaluateVLConfig) -> Measure:
    """Zero-shot classification, or a linear probe."""
    task = task_named("classification")
    data = task.load(cfg.data, cfg.split)
    probing = cfg.task == "linear-probe"
    others = [task.load(cfg.data, split) for split in (cfg.train_split, cfg.val_split)] if probing else []
    model = load_embedder(cfg.model, cfg.device)

    def measure(folder: RunFolder) -> dict[str, Any]:
        if probing:
            found = linear_probe(model, others[0], others[1], data)
        else:
            found = zero_shot(model, data, cfg.templates)
        table = [{"model": cfg.task, **found}]
        show_metrics(table, f"{cfg.task} on {len(data.examples)} pictures of {cfg.split}")
        return {"task": cfg.task, "split": cfg.split, **found, "table": table}

    return measure


def of_answers(cfg: EvaluateVLConfig) -> Measure:
    """A task with answers, by its official metrics."""
    task = task_named(cfg.task)
    if cfg.blind:
        check_blind(task)
    data = task.load(cfg.data, cfg.split)
    model = VLModel.from_pretrained(cfg.model).to(cfg.device)
    check_head(model, task, cfg.model)
    check_examples(model, task, data.examples, labels=False)

    def measure(folder: RunFolder) -> dict[str, Any]:
        table, result = evaluate_answers(
            model, task, data, blind=cfg.blind, batch_size=cfg.batch_size, cache_gb=cfg.cache_gb, out=folder.path
        )
        show_metrics(table, f"{cfg.task} on {len(data.examples)} examples of {cfg.split}")
        return {"task": cfg.task, "split": cfg.split, **result, "table": table}

    return measure


def of_images(cfg: EvaluateVLConfig) -> Measure:
    """Features of one's own pictures, and how well each of one's own sentences fits each of them."""
    texts = read_lines(cfg.texts) if cfg.texts else []
    model = load_embedder(cfg.model, cfg.device)
    if texts:
        model.encode_texts(texts)  # a sentence that cannot be read stops the job before the pictures are

    def measure(folder: RunFolder) -> dict[str, Any]:
        with track(None, "pictures") as progress:
            found = folder_features(model, cfg.images, texts, progress.advance)
        with atomic_file(folder.file("features.npy")) as file:
            np.save(file, found.features)
        atomic_write(folder.file("names.json"), json.dumps(found.names, indent=1) + "\n")
        if texts:
            write_scores(folder.file("scores.parquet"), found, texts, similarities(model, found, texts))
        print(f"{len(found.names)} pictures, {len(found.unreadable)} unreadable {found.causes() or ''}".rstrip())
        return {
            "pictures": len(found.names),
            "texts": len(texts),
            "features": list(found.features.shape),
            "match": found.match is not None,
            "unreadable": found.causes(),
            "unreadable_pictures": found.unreadable,
        }

    return measure


def read_lines(path: str) -> list[str]:
    """The sentences of a text file, one a line; blank lines pass.

    Raises:
        MissingFileError: not there. InputError: empty, or not UTF-8 text.
    """
    file = existing_file(path, "texts")
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(f"texts={path} is not UTF-8 text ({error}); save it as UTF-8") from error
    if not any(lines):
        raise InputError(f"texts={path} holds no sentence; write one a line")
    return [line for line in lines if line]


def write_scores(path: Path, found: FolderFeatures, texts: list[str], similarity: np.ndarray) -> None:
    """One row per picture and text: similarity, and match probability where the model has a fusion."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    columns: dict[str, Any] = {
        "picture": [name for name in found.names for _ in texts],
        "text": texts * len(found.names),
        "similarity": similarity.astype(np.float64).ravel(),
    }
    if found.match is not None:
        columns["match"] = found.match.astype(np.float64).ravel()
    with atomic_file(path) as file:
        parquet.write_table(pa.table(columns), file)


def show_recalls(table: Rows, title: str) -> None:
    """Print recall in both directions."""
    from rich.console import Console
    from rich.table import Table

    printed = Table(title=title, title_justify="left")
    for column in ("model", "direction", "captions", "queries", "R@1", "R@5", "R@10"):
        printed.add_column(column, justify="left" if column in ("model", "direction", "captions") else "right")
    for row in table:
        found = [f"{row[f'R@{k}']:.3f}" for k in (1, 5, 10)]
        printed.add_row(row["model"], row["direction"], row["subset"], str(row["queries"]), *found)
    Console().print(printed)


def show_metrics(table: Rows, title: str) -> None:
    """Print a table of metrics with their intervals."""
    from rich.console import Console
    from rich.table import Table

    if not table:
        print(f"{title}: predictions written; the labels are kept back, so nothing is measured")
        return
    printed = Table(title=title, title_justify="left")
    names = [name for name, value in table[0].items() if isinstance(value, float)]
    for column in ("model", *names):
        printed.add_column(column, justify="left" if column == "model" else "right")
    for row in table:
        cells = []
        for name in names:
            interval = row.get(f"{name}_interval")
            around = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if isinstance(interval, list) else ""
            cells.append(f"{row[name]:.3f}{around}")
        printed.add_row(row["model"], *cells)
    Console().print(printed)


if __name__ == "__main__":
    job_main("evaluate-vl")
