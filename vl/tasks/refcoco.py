"""RefCOCO, RefCOCO+, RefCOCOg: which of the annotated boxes of a photograph does the phrase mean?

Files: refs.json or refs(NAME).json, the list of references, and instances.json, COCO's images and annotations; pictures
in train2014/, images/ or train2014.zip. The release stores the list of references as a Python pickle, refs(NAME).p.
Opening one runs whatever code is in it, so it is not opened here; write the same list as JSON where you trust it.

Every annotation of the photograph is a candidate, however many there are: none is drawn, and none twice.

Source: Yu et al., arXiv:1608.00272 (RefCOCO, RefCOCO+); Mao et al., arXiv:1511.02283 (RefCOCOg).
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from core.errors import InputError, MissingFileError
from core.intervals import grouped_rate
from vl.tasks.annotation_files import (
    check_folder,
    first_there,
    json_content,
    open_pictures,
    text_field,
    with_prefix,
)
from vl.tasks.task import Example, Scores, Task, TaskData

NO_AREA = "a candidate box without area"


def references_file(folder: Path) -> Path:
    """Where the list of references is.

    Raises:
        MissingFileError: absent, or there as a pickle only. InputError: several lists.
    """
    found = sorted([*folder.glob("refs.json"), *folder.glob("refs(*).json")])
    if len(found) > 1:
        raise InputError(f"refcoco: {folder} holds several lists: {', '.join(f.name for f in found)}; keep one")
    if found:
        return found[0]
    pickles = sorted([*folder.glob("refs*.p"), *folder.glob("refs*.pkl"), *folder.glob("refs*.pickle")])
    if pickles:
        raise MissingFileError(
            f"refcoco: {pickles[0]} is a pickle; opening it would run the code in it. Where you trust it, write the "
            "list it holds as refs.json beside it (json.dump), and start again"
        )
    raise MissingFileError(f"refcoco: {folder} has no refs.json")


def whole(record: dict[str, Any], name: str, where: str) -> int:
    """A field that must be a whole number.

    Raises:
        InputError: it is not.
    """
    value = record.get(name)
    if not isinstance(value, int):
        raise InputError(f"{where}: field {name!r} should be a whole number, got {value!r}")
    return value


def corners(box: object, where: str) -> tuple[float, float, float, float]:
    """COCO's x, y, width, height as x0, y0, x1, y1.

    Raises:
        InputError: not four finite numbers, or a negative size.
    """
    values = box if isinstance(box, list) else []
    finite = all(isinstance(value, int | float) and math.isfinite(value) for value in values)
    if len(values) != 4 or not finite or min(values[2:]) < 0:
        raise InputError(f"{where}: bbox {box!r} should be x, y, width, height in pixels")
    x, y, width, height = map(float, values)
    return x, y, x + width, y + height


def read(folder: Path, split: str) -> TaskData:
    """One example per sentence of a reference; group = the photograph; label = the row of the box that is meant.

    Raises:
        MissingFileError: the lists, or pictures. InputError: no such split, a file that is not of COCO's form, a
            reference to an image or annotation that is not there, a box without area that a sentence means.
    """
    check_folder(folder, "refcoco")
    file = references_file(folder)
    instances = folder / "instances.json"
    references, scenes = json_content(file, "references"), json_content(instances, "COCO's instances")
    if not isinstance(references, list) or not all(isinstance(record, dict) for record in references):
        raise InputError(f"references: {file} should hold a list of objects")
    for key in ("images", "annotations"):
        listed = scenes.get(key) if isinstance(scenes, dict) else None
        if not isinstance(listed, list) or not all(isinstance(record, dict) for record in listed):
            raise InputError(f"COCO's instances: {instances} should hold an object with a list {key!r} of objects")
    chosen = [record for record in references if record.get("split") == split]
    if not chosen:
        there = sorted({str(record.get("split")) for record in references})
        raise InputError(f"refcoco: {file} has no split {split!r}; there: {', '.join(there) or 'none'}")

    needed = {record.get("image_id") for record in chosen}
    names: dict[int, str] = {}
    for number, image in enumerate(scenes["images"]):
        if image.get("id") in needed:
            names[image["id"]] = text_field(image, "file_name", f"{instances}, image {number}")
    candidates: defaultdict[int, dict[int, tuple[float, float, float, float]]] = defaultdict(dict)
    empty: set[int] = set()
    for number, annotation in enumerate(scenes["annotations"]):
        if annotation.get("image_id") not in needed:
            continue
        where = f"{instances}, annotation {number}"
        box = corners(annotation.get("bbox"), where)
        if box[2] > box[0] and box[3] > box[1]:
            candidates[annotation["image_id"]][whole(annotation, "id", where)] = box
        else:
            empty.add(whole(annotation, "id", where))

    examples: list[Example] = []
    arrays = {image: np.array(list(found.values()), dtype=np.float32) for image, found in candidates.items()}
    rows = {image: {key: row for row, key in enumerate(found)} for image, found in candidates.items()}
    for record in chosen:
        where = f"{file}, reference {record.get('ref_id')!r}"
        image, meant = whole(record, "image_id", where), whole(record, "ann_id", where)
        if image not in names:
            raise InputError(f"{where}: image_id {image} is not in {instances}")
        if meant not in rows.get(image, {}):
            fault = "has a box without area" if meant in empty else f"is no annotation of image {image}"
            raise InputError(f"{where}: ann_id {meant} {fault}")
        sentences = record.get("sentences")
        if not isinstance(sentences, list) or not sentences or not all(isinstance(s, dict) for s in sentences):
            raise InputError(f"{where}: field 'sentences' should be a list of objects")
        for sentence in sentences:
            examples.append(
                Example(
                    f"{whole(record, 'ref_id', where)}-{whole(sentence, 'sent_id', where)}",
                    (names[image],),
                    text_field(sentence, "sent", where),
                    str(rows[image][meant]),
                    boxes=arrays[image],
                    group=str(image),
                )
            )
    place = first_there(
        [folder / "train2014", folder / "images", folder / "train2014.zip"], "refcoco: COCO's pictures train2014"
    )
    wanted = [example.pictures[0] for example in examples]
    pictures, prefix = open_pictures(place, wanted, f"refcoco split {split!r}", ("", "train2014/"))
    return TaskData(with_prefix(examples, prefix), pictures, {NO_AREA: len(empty)} if empty else {})


def padded_boxes(examples: Sequence[Example]) -> tuple[Float[ndarray, "M N 4"], Bool[ndarray, "M N"]]:
    """Candidates of several examples as one array, and which rows are real; padding is all zeros."""
    most = max(len(boxes_of(example)) for example in examples)
    boxes = np.zeros((len(examples), most, 4), dtype=np.float32)
    real = np.zeros((len(examples), most), dtype=bool)
    for row, example in enumerate(examples):
        own = boxes_of(example)
        boxes[row, : len(own)], real[row, : len(own)] = own, True
    return boxes, real


def boxes_of(example: Example) -> Float[ndarray, "N 4"]:
    """The candidates of an example that has some."""
    assert example.boxes is not None, f"{example.id} has no boxes; it is no RefCOCO example"
    return example.boxes


def measure(examples: Sequence[Example], predictions: Sequence[str] | Float[ndarray, "M N"]) -> Scores:
    """Share of phrases whose box scores higher than every other candidate; ties are wrong; padding never counts.

    `chance` is the mean of one over the number of candidates.

    Raises:
        InputError: fewer columns than an example has candidates, or a candidate's score that is not finite.
    """
    scores = np.asarray(predictions, dtype=np.float64)
    _, real = padded_boxes(examples)
    if scores.shape[1] < real.shape[1]:
        raise InputError(f"refcoco: {scores.shape[1]} scores per phrase, but a photograph has {real.shape[1]} boxes")
    scores = scores[:, : real.shape[1]]
    if not np.isfinite(scores[real]).all():
        raise InputError("refcoco: scores of boxes hold NaN or infinite numbers")
    index = np.arange(len(examples))
    right = np.array([int(str(example.label)) for example in examples])
    others = np.where(real, scores, -np.inf)
    others[index, right] = -np.inf
    hit = (scores[index, right] > others.max(1)).astype(np.float64)
    return {
        "accuracy": float(hit.mean()),
        "accuracy_interval": list(grouped_rate(hit, [example.group for example in examples])),
        "chance": float((1 / real.sum(1)).mean()),
    }


REFCOCO = Task("refcoco", "box", None, images=1, main="accuracy", read=read, measure=measure)
