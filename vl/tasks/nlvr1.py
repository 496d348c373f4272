"""NLVR1: is the sentence true of the drawn picture? Sentences by people, pictures of three boxes of coloured shapes.

Files of the release, for split NAME: NAME.json or NAME.json.gz (also in a folder NAME/), one JSON object a line, and
the pictures in NAME_images.zip, or in NAME/images/DIRECTORY/. A line of the release has six pictures, NAME-n-m-0.png
to NAME-n-m-5.png: the same three boxes in every order (pictures made in its style may have fewer, all lines as many).
Each picture is one example, as in the release's metrics_images.py, which takes one prediction per PNG.

Source: Suhr, Lewis, Yeh and Artzi, A Corpus of Natural Language for Visual Reasoning, ACL 2017.
"""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from numpy import ndarray

from core.errors import InputError
from vl.tasks.annotation_files import (
    check_folder,
    check_none_missing,
    first_there,
    json_lines,
    one_label,
    pictures_there,
    text_field,
    with_prefix,
)
from vl.tasks.label_metrics import accuracy, consistency, hits
from vl.tasks.task import Example, Scores, Task, TaskData

LABELS = ("false", "true")
ORDERS = 6  # orders of three boxes
IDENTIFIER = re.compile(r"(\d+)-(\d+)")


def annotation_file(folder: Path, split: str) -> Path:
    """Where a split's sentences are.

    Raises:
        MissingFileError: no folder. InputError: no such split; those there are listed.
    """
    check_folder(folder, "nlvr1")
    for place in (folder, folder / split):
        for ending in (".json", ".json.gz"):
            if (place / f"{split}{ending}").is_file():
                return place / f"{split}{ending}"
    files = [*folder.glob("*.json*"), *folder.glob("*/*.json*")]
    there = sorted({file.name.partition(".json")[0] for file in files})
    raise InputError(f"nlvr1: {folder} has no split {split!r} (no {split}.json); there: {', '.join(there) or 'none'}")


def scene_of(record: dict[str, Any]) -> str | None:
    """The drawn shapes whatever the order of boxes, as text that equal scenes share; None where a record has none."""
    boxes = record.get("structured_rep")
    if not isinstance(boxes, list):
        return None
    return json.dumps(sorted(sorted(json.dumps(shape, sort_keys=True) for shape in box) for box in boxes))


def read(folder: Path, split: str) -> TaskData:
    """All pictures of a split with their sentences; group = the identifier before the dash.

    Raises:
        MissingFileError: pictures. InputError: no such split, a broken line, a label that is not true or false, an
            identifier that is not n-m or comes twice.
    """
    file = annotation_file(folder, split)
    examples: list[Example] = []
    links: defaultdict[str, set[str]] = defaultdict(set)
    seen: set[str] = set()
    place = first_there(
        [folder / f"{split}_images.zip", folder / split / "images"], f"nlvr1: the pictures of split {split!r}"
    )
    for where, record in json_lines(file, "NLVR1 sentences"):
        identifier = text_field(record, "identifier", where)
        match = IDENTIFIER.fullmatch(identifier)
        if match is None or identifier in seen:
            fault = "comes a second time" if match else "is not of the form n-m"
            raise InputError(f"{where}: identifier {identifier!r} {fault}")
        seen.add(identifier)
        sentence = text_field(record, "sentence", where)
        label = one_label(record.get("label"), LABELS, where)
        inside = f"{record['directory']}/" if place.is_dir() and "directory" in record else ""
        for order in range(ORDERS):
            name = f"{split}-{identifier}-{order}"
            examples.append(Example(name, (f"{inside}{name}.png",), sentence, label, group=match.group(1)))
        links[match.group(1)].add("words: " + " ".join(sentence.lower().split()))
        scene = scene_of(record)
        if scene is not None:
            links[match.group(1)].add("scene: " + scene)

    names = [example.pictures[0] for example in examples]
    pictures, prefix, there = pictures_there(place, names, ("", f"{split}_images/"))
    orders = max((row % ORDERS + 1 for row, name in enumerate(names) if name in there), default=ORDERS)
    examples = [example for row, example in enumerate(examples) if row % ORDERS < orders]
    missing = [example.pictures[0] for example in examples if example.pictures[0] not in there]
    check_none_missing(missing, len(examples), place, f"nlvr1 split {split!r}")
    shared = {group: tuple(sorted(links[group])) for group in links}
    return TaskData(with_prefix(examples, prefix), pictures, links=shared)


def measure(examples: Sequence[Example], predictions: Sequence[str] | Float[ndarray, "M N"]) -> Scores:
    """Accuracy over pictures (the release calls it precision); consistency over sentences, known by their number."""
    right = hits(examples, predictions, LABELS)
    return accuracy(examples, right) | consistency(examples, right, [example.group for example in examples])


NLVR1 = Task("nlvr1", "label", LABELS, images=1, main="accuracy", read=read, measure=measure)
