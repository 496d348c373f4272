"""NLVR2: is the sentence true of two photographs, left and right?

Files of the release, for split NAME (train, dev, test1, test2): NAME.json below the folder, below data/ or nlvr2/data/,
one JSON object a line; pictures split-set-pair-img0.png (left) and -img1.png (right) in images/NAME/ or NAME/ (the
training pictures one folder deeper, named by the field `directory`), or in the archives NAME_img.zip.

Source: Suhr, Zhou, Zhang, Zhang, Bai and Artzi, arXiv:1811.00491; the release's eval/metrics.py.
"""

import re
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
from vl.tasks.label_metrics import accuracy, consistency, hits
from vl.tasks.task import Example, Scores, Task, TaskData

LABELS = ("false", "true")
IDENTIFIER = re.compile(r"([\w]+)-(\d+)-(\d+)-(\d+)")  # split-set-pair-sentence
PLACES = ("", "data", "nlvr2/data")


def annotation_file(folder: Path, split: str) -> Path:
    """Where a split's sentences are.

    Raises:
        MissingFileError: no folder. InputError: no such split; those there are listed.
    """
    check_folder(folder, "nlvr2")
    for place in PLACES:
        if (folder / place / f"{split}.json").is_file():
            return folder / place / f"{split}.json"
    there = sorted({file.stem for place in PLACES for file in (folder / place).glob("*.json")})
    raise InputError(f"nlvr2: {folder} has no split {split!r} (no {split}.json); there: {', '.join(there) or 'none'}")


def read(folder: Path, split: str) -> TaskData:
    """The examples of a split; group = the set of eight images the sentence was written for.

    Raises:
        MissingFileError: pictures. InputError: no such split, a broken line, another label than True or False, an
            identifier that is not split-set-pair-sentence or comes twice.
    """
    file = annotation_file(folder, split)
    examples: list[Example] = []
    seen: set[str] = set()
    places = [folder / "images" / split, folder / split, folder / f"{split}_img.zip"]
    place = first_there(places, f"nlvr2: the pictures of split {split!r}")
    for where, record in json_lines(file, "NLVR2 sentences"):
        identifier = text_field(record, "identifier", where)
        match = IDENTIFIER.fullmatch(identifier)
        if match is None or identifier in seen:
            fault = "comes a second time" if match else "is not of the form split-set-pair-sentence"
            raise InputError(f"{where}: identifier {identifier!r} {fault}")
        seen.add(identifier)
        label = one_label(record.get("label"), LABELS, where)
        stem = "-".join(match.group(1, 2, 3))
        directory = f"{record['directory']}/" if "directory" in record else ""
        names = (f"{directory}{stem}-img0.png", f"{directory}{stem}-img1.png")
        group = "-".join(match.group(1, 2))
        examples.append(Example(identifier, names, text_field(record, "sentence", where), label, group=group))

    wanted = [name for example in examples for name in example.pictures]
    pictures, prefix = open_pictures(place, wanted, f"nlvr2 split {split!r}", ("", f"{split}/", f"images/{split}/"))
    return TaskData(with_prefix(examples, prefix), pictures)


def sentence_of(identifier: str) -> str:
    """What examples of one sentence share: the identifier without its pair of images."""
    split, images, _, sentence = identifier.split("-")
    return f"{split}-{images}-{sentence}"


def measure(examples: Sequence[Example], predictions: Sequence[str] | Float[ndarray, "M N"]) -> Scores:
    """Accuracy; consistency over sentences, each shown with up to four pairs of images."""
    right = hits(examples, predictions, LABELS)
    return accuracy(examples, right) | consistency(examples, right, [sentence_of(example.id) for example in examples])


NLVR2 = Task("nlvr2", "label", LABELS, images=2, main="accuracy", read=read, measure=measure)
