"""VQA v2: a question about a photograph, answered in a few words; ten people's answers say what an answer is worth.

Files of the release, for split NAME = train, val (2014), test, test-dev (2015):
v2_OpenEnded_mscoco_NAMEYEAR_questions.json and, but for the tests, whose answers are kept back,
v2_mscoco_NAMEYEAR_annotations.json; COCO's pictures in NAMEYEAR/ or NAMEYEAR.zip, those of test-dev among test2015's.

Source: Goyal et al., arXiv:1612.00837.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from core.errors import InputError
from core.intervals import grouped_mean
from vl.tasks.annotation_files import (
    check_folder,
    first_there,
    json_content,
    open_pictures,
    text_field,
    with_prefix,
)
from vl.tasks.task import Example, Scores, Task, TaskData
from vl.tasks.vqa_metric import ANSWERS, answer_vocabulary, normalise, soft_scores

YEARS = {"train": "train2014", "val": "val2014", "test": "test2015", "test-dev": "test-dev2015"}
TYPES = ("yes/no", "number", "other")


def records(path: Path, key: str, what: str) -> list[dict[str, Any]]:
    """The list under `key` of a file of the release.

    Raises:
        InputError: cut short, or no such list.
    """
    content = json_content(path, what)
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        raise InputError(f"{what}: {path} should hold an object with a list {key!r}")
    return found


def answers_by_question(path: Path) -> dict[int, dict[str, Any]]:
    """Annotations by question.

    Raises:
        InputError: cut short, not ten answers, an answer type that is none of TYPES.
    """
    found: dict[int, dict[str, Any]] = {}
    for number, record in enumerate(records(path, "annotations", "VQA answers")):
        where = f"{path}, annotation {number}"
        answers = record.get("answers")
        texts = [item.get("answer") if isinstance(item, dict) else None for item in answers or ()]
        if len(texts) != ANSWERS or not all(isinstance(text, str) for text in texts):
            raise InputError(f"{where}: expected {ANSWERS} answers with a text each, got {len(texts)}: {texts[:3]}")
        if record.get("answer_type") not in TYPES:
            raise InputError(f"{where}: answer_type {record.get('answer_type')!r} is none of {', '.join(TYPES)}")
        text_field(record, "multiple_choice_answer", where)
        found[record.get("question_id", -1)] = record | {"texts": texts}
    return found


def read(folder: Path, split: str) -> TaskData:
    """The questions of a split; group = the photograph.

    Raises:
        MissingFileError: pictures, or the answers of a split that has some. InputError: no such split, a file cut
            short or not of the official form, a question without answers.
    """
    check_folder(folder, "vqa")
    questions = {name: folder / f"v2_OpenEnded_mscoco_{year}_questions.json" for name, year in YEARS.items()}
    if split not in YEARS or not questions[split].is_file():
        there = ", ".join(name for name, file in questions.items() if file.is_file()) or "none"
        raise InputError(f"vqa: {folder} has no split {split!r}; there: {there} ({questions['train'].name}, ...)")
    year = YEARS[split]
    released = split in ("train", "val")
    answers = answers_by_question(folder / f"v2_mscoco_{year}_annotations.json") if released else {}

    images = year.replace("test-dev", "test")
    examples: list[Example] = []
    for number, record in enumerate(records(questions[split], "questions", "VQA questions")):
        where = f"{questions[split]}, question {number}"
        question, image = record.get("question_id"), record.get("image_id")
        if not isinstance(question, int) or not isinstance(image, int):
            raise InputError(f"{where}: question_id and image_id should be numbers, got {question!r} and {image!r}")
        if released and question not in answers:
            raise InputError(f"{where}: question_id {question} has no answers in the annotations of {year}")
        given = answers.get(question)
        name = f"COCO_{images}_{image:012d}.jpg"
        examples.append(
            Example(
                str(question),
                (name,),
                text_field(record, "question", where),
                normalise(given["multiple_choice_answer"]) if given else None,
                targets=soft_scores(given["texts"]) if given else {},
                kind=given["answer_type"] if given else "",
                group=str(image),
            )
        )
    place = first_there([folder / images, folder / f"{images}.zip"], f"vqa: COCO's pictures {images}")
    names = [example.pictures[0] for example in examples]
    pictures, prefix = open_pictures(place, names, f"vqa split {split!r}", ("", f"{images}/"))
    return TaskData(with_prefix(examples, prefix), pictures)


def collect(train: Sequence[Example], least: int) -> tuple[str, ...]:
    """The answer vocabulary of training examples.

    Raises:
        InputError: no answer is that frequent.
    """
    found = answer_vocabulary([example.label for example in train if example.label is not None], least)
    if not found:
        raise InputError(
            f"vqa: none of {len(train)} questions has an answer that is the most common of {least} of them"
        )
    return found


def measure(examples: Sequence[Example], predictions: Sequence[str] | Float[ndarray, "M N"]) -> Scores:
    """Accuracy overall and by type of answer; `majority` is what the one best answer to everything gets."""
    points = np.array([e.targets.get(normalise(str(said)), 0.0) for e, said in zip(examples, predictions)])
    groups = [example.group for example in examples]
    scores: Scores = {"accuracy": float(points.mean()), "accuracy_interval": list(grouped_mean(points, groups))}
    for kind in TYPES:
        rows = [row for row, example in enumerate(examples) if example.kind == kind]
        if rows:
            scores[f"accuracy_{kind}"] = float(points[rows].mean())
    total: dict[str, float] = {}
    for example in examples:
        for answer, value in example.targets.items():
            total[answer] = total.get(answer, 0.0) + value
    return scores | {"majority": max(total.values(), default=0.0) / len(examples)}


VQA = Task("vqa", "answer", None, images=1, main="accuracy", read=read, measure=measure, collect=collect)
