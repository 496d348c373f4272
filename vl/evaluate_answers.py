"""Tasks with answers (NLVR1, NLVR2, SNLI-VE, VQA, RefCOCO) measured by their official metrics.

Beside the model stand the same model with every picture grey, which shows how much the text alone gives away, and the
most frequent label (for boxes: chance). predictions.parquet has one row per example; the files that official servers
take are beside it.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.files import atomic_file, atomic_write
from core.progress import track
from vl.answering import Answers, predict
from vl.embed_folder import picture_size
from vl.model import VLModel
from vl.picture_cache import PictureCache
from vl.tasks import Example, Task, TaskData

Rows = list[dict[str, Any]]


def evaluate_answers(
    model: VLModel, task: Task, data: TaskData, *, blind: bool, batch_size: int, cache_gb: float, out: Path
) -> tuple[Rows, dict[str, Any]]:
    """The table of official metrics, and what else belongs into the result; writes the predictions into `out`.

    Where the release keeps labels back, predictions are written and nothing is measured.

    Args:
        blind: only the grey pictures: for a model that was trained on them.
    """
    height, width = picture_size(model)
    cache = PictureCache(data.pictures, height, width, gigabytes=cache_gb)
    said: dict[str, Answers] = {}
    for name, grey in (("model", False), ("blind", True)):
        if (blind and not grey) or (grey and task.predicts == "box"):  # grey boxes are all alike
            continue
        with track(None, f"{task.name}, {name}") as progress:
            said[name] = predict(
                model, task, data.examples, cache, blind=grey, batch_size=batch_size, progress=progress.advance
            )
    measured = all(example.label is not None for example in data.examples)
    rows: Rows = []
    for name, answers in said.items():
        if measured:
            rows.append({"model": name, **task.score(data.examples, answers.for_metric(task))})
    main = said["blind" if blind else "model"]
    write_predictions(out / "predictions.parquet", data.examples, main)
    write_for_server(out, task, data.examples, main)
    result: dict[str, Any] = {
        "examples": len(data.examples),
        "dropped": data.dropped,
        "unreadable": cache.causes(),
    }
    if rows:
        result |= {name: value for name, value in rows[0].items() if name != "model"}
    return rows, result


def write_predictions(path: Path, examples: Sequence[Example], answers: Answers) -> None:
    """One row per example: what was said, how sure, and what is right."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    columns = {
        "id": [example.id for example in examples],
        "pictures": [list(example.pictures) for example in examples],
        "text": [example.text for example in examples],
        "group": [example.group for example in examples],
        "label": pa.array([example.label for example in examples], pa.string()),
        "prediction": answers.said,
        "probability": answers.probability.astype(float).tolist(),
    }
    with atomic_file(path) as file:
        parquet.write_table(pa.table(columns), file)


def write_for_server(folder: Path, task: Task, examples: Sequence[Example], answers: Answers) -> Path | None:
    """The file of the official form, where a task has one: NLVR's CSV, VQA's results."""
    if task.name in ("nlvr1", "nlvr2"):
        # the released scripts know NLVR1's predictions by the name of the PNG, NLVR2's by the identifier
        ids = [e.pictures[0].rpartition("/")[2] if task.name == "nlvr1" else e.id for e in examples]
        return write_nlvr(folder / "predictions.csv", ids, answers.said)
    if task.name == "vqa":
        return write_vqa(folder / "vqa_results.json", [e.id for e in examples], answers.said)
    return None


def write_nlvr(path: Path, identifiers: Sequence[str], said: Sequence[str]) -> Path:
    """`identifier,prediction` lines without a heading, as metrics_images.py (NLVR) and metrics.py (NLVR2) read them."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(zip(identifiers, said))
    return atomic_write(path, text.getvalue())


def write_vqa(path: Path, question_ids: Sequence[str], said: Sequence[str]) -> Path:
    """The list of {"question_id", "answer"} that the VQA server and its evaluation script take."""
    rows = [{"question_id": int(name), "answer": answer} for name, answer in zip(question_ids, said)]
    return atomic_write(path, json.dumps(rows) + "\n")
