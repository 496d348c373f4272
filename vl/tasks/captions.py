"""Retrieval between photographs and captions, several captions a photograph: COCO and Flickr30k in Karpathy's splits.

Files: one dataset_coco.json, dataset_flickr30k.json or dataset.json, {"images": [{"filename", "split", "sentences":
[{"raw", "sentid"}, ...]}]}; a field `filepath` names the picture's folder. Pictures lie in images/ or
flickr30k_images/, or below the data folder itself. Splits are joined by +: literature trains on train+restval of COCO.

Recall at k, image to text, counts a photograph whose best own caption is among the k best of all captions; text to
image, a caption whose photograph is among the k best.

Source: Karpathy and Fei-Fei, arXiv:1412.2306, section 4.1 and its released splits.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64
from numpy import ndarray

from core.errors import InputError, MissingFileError
from core.intervals import grouped_rate
from vl.retrieval import recall_at, target_ranks
from vl.tasks.annotation_files import check_folder, first_there, json_content, open_pictures, text_field, with_prefix
from vl.tasks.task import Example, Scores, Task, TaskData

CUTS = (1, 5, 10)
PLACES = ("images", "flickr30k_images", "flickr30k-images", "flickr30k_images.zip")


def captions_file(folder: Path) -> Path:
    """Where the captions are.

    Raises:
        MissingFileError: nowhere. InputError: several files.
    """
    found = sorted([*folder.glob("dataset.json"), *folder.glob("dataset_*.json")])
    if not found:
        raise MissingFileError(f"retrieval: {folder} has no dataset_coco.json, dataset_flickr30k.json or dataset.json")
    if len(found) > 1:
        raise InputError(f"retrieval: {folder} holds several files: {', '.join(f.name for f in found)}; keep one")
    return found[0]


def read(folder: Path, split: str) -> TaskData:
    """One example per caption, those of a photograph together; group = label = the photograph.

    Raises:
        MissingFileError: no captions file, pictures. InputError: no such split, a file that is not of that form, a
            photograph without captions or named twice.
    """
    check_folder(folder, "retrieval")
    file = captions_file(folder)
    content = json_content(file, "captions")
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        raise InputError(f"captions: {file} should hold an object with a list 'images'")
    there = sorted({str(image.get("split")) for image in images})
    chosen = split.split("+")
    for name in chosen:
        if name not in there:
            raise InputError(f"retrieval: {file} has no split {name!r}; there: {', '.join(there) or 'none'}")

    examples: list[Example] = []
    seen: set[str] = set()
    nested = False
    for number, image in enumerate(images):
        if image.get("split") not in chosen:
            continue
        where = f"{file}, image {number}"
        name = text_field(image, "filename", where)
        if "filepath" in image:
            nested, name = True, f"{text_field(image, 'filepath', where)}/{name}"
        sentences = image.get("sentences")
        if not isinstance(sentences, list) or not sentences or not all(isinstance(s, dict) for s in sentences):
            raise InputError(f"{where}: field 'sentences' should be a list of captions")
        if name in seen:
            raise InputError(f"{where}: {name} comes a second time")
        seen.add(name)
        for index, sentence in enumerate(sentences):
            text = text_field(sentence, "raw", f"{where}, caption {index}")
            key = str(sentence.get("sentid", f"{name}-{index}"))
            examples.append(Example(key, (name,), text, name, group=name))

    places = [folder / place for place in PLACES]
    place = first_there([folder] if nested and not places[0].exists() else places, "retrieval: the pictures")
    names = [example.pictures[0] for example in examples]
    pictures, prefix = open_pictures(place, names, f"retrieval split {split!r}", ("", "flickr30k_images/"))
    return TaskData(with_prefix(examples, prefix), pictures)


def gallery(examples: Sequence[Example]) -> tuple[list[str], Int64[ndarray, " M"]]:
    """The photographs, each once, in the order of their first caption; and which of them is each caption's own."""
    order: dict[str, int] = {}
    own = [order.setdefault(example.pictures[0], len(order)) for example in examples]
    return list(order), np.array(own, dtype=np.int64)


def caption_ranks(scores: Float[ndarray, "M I"], own: Int64[ndarray, " M"]) -> Int64[ndarray, " I"]:
    """Rank of each photograph's best caption among all captions, 1 = best; ties with wrong ones count against it."""
    best = np.full(scores.shape[1], -np.inf)
    np.maximum.at(best, own, scores[np.arange(len(own)), own])
    ahead = np.zeros(scores.shape[1], dtype=np.int64)
    for row, image in zip(
        scores, own.tolist()
    ):  # a row at a time: 25,000 x 5,000 comparisons at once would take 125 MB
        better = row >= best
        better[image] = False
        ahead += better
    return ahead + 1


def recalls(examples: Sequence[Example], to_image: Float[ndarray, "M I"], to_text: Float[ndarray, "M I"]) -> Scores:
    """Recall at 1, 5 and 10 both ways, intervals over photographs, and the mean of the six.

    Args:
        to_image, to_text: scores of captions (rows) with the photographs of `gallery` (columns), as each way of
            searching sees them; the same array twice, unless shortlists were ranked again.

    Raises:
        InputError: not one column per photograph, or scores that are not finite.
    """
    names, own = gallery(examples)
    for scores in (to_image, to_text):
        if scores.shape != (len(examples), len(names)):
            raise InputError(
                f"retrieval: scores of shape {scores.shape}; "
                f"expected {len(examples)} captions x {len(names)} photographs"
            )
        if not np.isfinite(scores).all():
            raise InputError("retrieval: scores hold NaN or infinite numbers")
    table: Scores = {}
    ways = (
        ("text_to_image", target_ranks(to_image, own), [names[image] for image in own]),
        ("image_to_text", caption_ranks(to_text, own), names),
    )
    for way, ranks, groups in ways:
        for k in CUTS:
            table[f"{way}_R@{k}"] = recall_at(ranks, k)
            table[f"{way}_R@{k}_interval"] = list(grouped_rate((ranks <= k).astype(np.float64), groups))
    table["mean_recall"] = float(np.mean([recall_at(ranks, k) for _, ranks, _ in ways for k in CUTS]))
    return table


def measure(examples: Sequence[Example], predictions: Sequence[str] | Float[ndarray, "M N"]) -> Scores:
    """`recalls` of one array of scores for both ways."""
    scores = np.asarray(predictions)
    return recalls(examples, scores, scores)


RETRIEVAL = Task("retrieval", "image", None, images=1, main="mean_recall", read=read, measure=measure)
