"""SNLI-VE: does the photograph entail the sentence, contradict it, or leave it open?

Files of the release: snli_ve_NAME.jsonl for split NAME (train, dev, test), one JSON object a line, and Flickr30k's
pictures ID.jpg in flickr30k_images/, flickr30k-images/ or flickr30k_images.zip. Lines whose annotators did not agree
(gold_label "-") are left out, as in the paper, and counted.

Source: Xie, Lai, Doran and Kadav, arXiv:1901.06706.
"""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from numpy import ndarray

from core.errors import InputError
from vl.tasks.annotation_files import (
    check_folder,
    first_there,
    json_lines,
    one_label,
    open_pictures,
    text_field,
    with_prefix,
)
from vl.tasks.label_metrics import accuracy, hits
from vl.tasks.task import Example, Scores, Task, TaskData

LABELS = ("entailment", "neutral", "contradiction")
UNDECIDED = "-"
PLACES = ("flickr30k_images", "flickr30k-images", "flickr30k_images.zip", "flickr30k-images.zip")


def read(folder: Path, split: str) -> TaskData:
    """The sentences of a split; group = the photograph.

    Raises:
        MissingFileError: pictures. InputError: no such split, a broken line, another label.
    """
    check_folder(folder, "snli-ve")
    file = folder / f"snli_ve_{split}.jsonl"
    if not file.is_file():
        there = sorted(path.stem.removeprefix("snli_ve_") for path in folder.glob("snli_ve_*.jsonl"))
        raise InputError(
            f"snli-ve: {folder} has no split {split!r} (no {file.name}); there: {', '.join(there) or 'none'}"
        )
    examples: list[Example] = []
    undecided = 0
    for where, record in json_lines(file, "SNLI-VE sentences"):
        if record.get("gold_label") == UNDECIDED:
            undecided += 1
            continue
        label = one_label(record.get("gold_label"), LABELS, where)
        image = str(record.get("Flickr30K_ID", "")).removesuffix(".jpg")
        if not image:
            raise InputError(f"{where}: field 'Flickr30K_ID' is missing")
        sentence = text_field(record, "sentence2", where)
        pair = text_field(record, "pairID", where)
        examples.append(Example(pair, (f"{image}.jpg",), sentence, label, group=image))

    place = first_there([folder / name for name in PLACES], "snli-ve: Flickr30k's pictures")
    names = [example.pictures[0] for example in examples]
    pictures, prefix = open_pictures(place, names, f"snli-ve split {split!r}", ("", *(f"{p}/" for p in PLACES[:2])))
    dropped = {"annotators did not agree": undecided} if undecided else {}
    return TaskData(with_prefix(examples, prefix), pictures, dropped)


def measure(examples: Sequence[Example], predictions: Sequence[str] | Float[ndarray, "M N"]) -> Scores:
    """Accuracy over sentences."""
    return accuracy(examples, hits(examples, predictions, LABELS))


SNLI_VE = Task("snli-ve", "label", LABELS, images=1, main="accuracy", read=read, measure=measure)
