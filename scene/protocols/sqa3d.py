"""SQA3D: questions of somebody who stands in a scan, and where that is (Ma et al., ICLR 2023, arXiv:2210.07474).

Two files a split, as released, `v1_balanced_questions_{split}_scannetv2.json` and
`v1_balanced_sqa_annotations_{split}_scannetv2.json`:

    {"questions": [{"question_id", "scene_id", "situation", "alternative_situation": [...], "question"}]}
    {"annotations": [{"question_id", "scene_id", "answers": [{"answer"}], "position": {x, y, z},
                      "rotation": {_x, _y, _z, _w}}]}

The text of an example is situation and question. Accuracy counts answers that are right letter by letter, by the
question's first word. Poses are in the frame of the raw scan, moved so that its bounding box is centred in x and y; the
yaw is the file's rotation about z. The release's own viewer draws the asker as an arrow that points to -x at rotation
0, so somebody with yaw a looks in the direction a + pi of core/conventions.py.

Localisation (assets/localization.md of the release): the share of situations whose predicted position is closer than
0.5 or 1 m in x and y, and whose yaw is closer than 15 or 30 degrees. The released script takes the nearest of any
number of guesses; here a prediction is one guess.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from core.errors import InputError, MissingFileError
from scene.protocols.exact_match import answers_given, exact_match, refined_match
from scene.protocols.metric import Metric
from scene.protocols.question_files import Row, checked, objects_of, rows_of
from scene.protocols.records import Example, Prediction
from scene.types import SceneObject

GROUPS: Final = ("what", "is", "how", "can", "which", "other")
WITHIN_M: Final = (0.5, 1.0)
WITHIN_DEGREES: Final = (15, 30)

_QUESTIONS, _ANNOTATIONS = "_questions_", "_sqa_annotations_"
_FOLDERS: Final = ("", "balanced", "sqa_task/balanced")  # of the release, as unpacked


def question_type(question: str) -> str:
    """Which of GROUPS a question belongs to: its first word, "What's" being "what"."""
    first = question.lower().replace("’", "'").split()[0].split("'")[0]
    return first if first in GROUPS else "other"


def load(
    path: str | Path, scenes: Mapping[str, Sequence[SceneObject]] | None = None, split: str = "test"
) -> list[Example]:
    """The questions of a split with answers and poses.

    Args:
        path: the questions' file, beside which its annotations are, or the folder of the release.
        scenes: the scans at hand; every question must be about one of them. Left out: not checked.
        split: of a folder: train, val or test.

    Raises:
        MissingFileError: a file is not there. InputError: truncated, other columns, a question without annotation or
            an annotation without question, an empty answer, two questions of one id, or a scan that is not at hand.
    """
    questions, annotations = _files(path, split)
    notes: dict[int, Row] = {}
    for row in rows_of(annotations, "SQA3D annotations", "annotations"):
        notes[row.get("question_id", int)] = row
    examples = [_example(row, notes, annotations, scenes) for row in rows_of(questions, "SQA3D questions", "questions")]
    if len(notes) > len(examples):
        raise InputError(f"{annotations} has {len(notes)} annotations for {len(examples)} questions of {questions}")
    return checked(examples, questions)


def _files(path: str | Path, split: str) -> tuple[Path, Path]:
    path = Path(path).expanduser()
    if path.is_dir():
        name = f"v1_balanced{_QUESTIONS}{split}_scannetv2.json"
        found = [path / folder / name for folder in _FOLDERS if (path / folder / name).is_file()]
        if not found:
            raise MissingFileError(f"no SQA3D questions of the split {split!r} in {path}: expected {name}")
        path = found[0]
    if _QUESTIONS not in path.name:
        raise InputError(f"SQA3D questions are in a file *{_QUESTIONS}*.json, but {path} is given")
    return path, path.with_name(path.name.replace(_QUESTIONS, _ANNOTATIONS))


def _example(
    row: Row, notes: Mapping[int, Row], annotations: Path, scenes: Mapping[str, Sequence[SceneObject]] | None
) -> Example:
    number, scene_id, question = row.get("question_id", int), row.get("scene_id", str), row.get("question", str)
    objects_of(scene_id, scenes, row.where)
    if number not in notes:
        raise InputError(f"{row.where}: the question {number} has no annotation in {annotations}")
    note = notes[number]
    if note.get("scene_id", str) != scene_id:
        raise InputError(f"{row.where} asks about {scene_id!r}, {note.where} about {note.values['scene_id']!r}")
    answers = [note.row("an answer", item).get("answer", str) for item in note.get("answers", list)]
    if not answers:
        raise InputError(f"{note.where} has no answers")
    return Example(
        id=str(number),
        scene_id=scene_id,
        text=f"{row.get('situation', str).strip()} {question.strip()}",
        answers=tuple(dict.fromkeys(answers)),
        groups=(question_type(question),),
        pose=_pose(note),
    )


def _pose(note: Row) -> tuple[float, ...]:
    """(x, y, z, yaw) of a position and a quaternion; the yaw is the z part of the rotation vector, as released."""
    x, y, z, w = (note.number("rotation", part) for part in ("_x", "_y", "_z", "_w"))
    length = math.hypot(x, y, z)
    if not 0.99 < math.hypot(length, w) < 1.01:
        raise InputError(f"{note.where}: the rotation ({x}, {y}, {z}, {w}) is no unit quaternion")
    if w < 0:
        z, w = -z, -w  # the same rotation, by the shorter way
    yaw = 2 * math.atan2(length, w) * z / length if length else 0.0
    return (*(note.number("position", part) for part in "xyz"), yaw)


def load_situations(path: str | Path, split: str = "test") -> list[Example]:
    """The situations of a split for localisation, each once; ids count them in the order of the questions.

    Args:
        path, split: as `load`, or the file of the localisation task, `v1_balanced_localization_*.json`.

    Raises:
        MissingFileError, InputError: as `load`.
    """
    if "_localization_" in Path(path).name:
        found = list(rows_of(path, "SQA3D situations", "annotations"))
        texts = [(row.get("scene_id", str), row.get("situation", str).strip(), _pose(row)) for row in found]
    else:
        questions, annotations = _files(path, split)
        examples = load(questions)
        rows = rows_of(questions, "SQA3D questions", "questions")
        texts = [
            (example.scene_id, row.get("situation", str).strip(), example.pose) for example, row in zip(examples, rows)
        ]
    return [
        Example(id=f"situation-{k}", scene_id=scene_id, text=text, pose=pose)
        for k, (scene_id, text, pose) in enumerate(dict.fromkeys(texts))
    ]


def measure(
    examples: Sequence[Example],
    predictions: Mapping[str, Prediction],
    objects: Mapping[str, Sequence[SceneObject]] | None = None,
) -> list[Metric]:
    """Accuracy (EM@1) and the lenient match; the localisation metrics, too, where predictions bring poses.

    Args:
        objects: not looked at: answers are texts.

    Raises:
        InputError: an example without a prediction, or poses in some predictions only.
    """
    said, right = answers_given(examples, predictions), [example.answers for example in examples]
    located = any(predictions[example.id].pose for example in examples)
    found = [exact_match(said, right, 1), refined_match(said, right)]
    return found + (measure_poses(examples, predictions) if located else [])


def measure_poses(examples: Sequence[Example], predictions: Mapping[str, Prediction]) -> list[Metric]:
    """Acc@0.5m, Acc@1.0m, Acc@15° and Acc@30°.

    Raises:
        InputError: an example or a prediction without a pose of 4 finite numbers.
    """
    truth = _poses([(example.id, example.pose) for example in examples], "the example")
    given = [(e.id, predictions[e.id].pose if e.id in predictions else ()) for e in examples]
    guess = _poses(given, "the prediction for")
    metres = np.linalg.norm(truth[:, :2] - guess[:, :2], axis=1)
    turn = np.abs((truth[:, 3] - guess[:, 3] + math.pi) % (2 * math.pi) - math.pi)
    return [
        *(Metric.mean(f"Acc@{limit}m", metres < limit) for limit in WITHIN_M),
        *(Metric.mean(f"Acc@{limit}°", np.degrees(turn) < limit) for limit in WITHIN_DEGREES),
    ]


def _poses(rows: Sequence[tuple[str, tuple[float, ...]]], what: str) -> Float[ndarray, "E 4"]:
    for name, pose in rows:
        if len(pose) != 4 or not all(map(math.isfinite, pose)):
            raise InputError(f"{what} {name!r} has the pose {pose!r}, expected x, y, z in metres and yaw in radians")
    return np.array([pose for _, pose in rows], dtype=np.float64).reshape(-1, 4)
