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
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from core.errors import InputError, MissingFileError
from core.files import read_json
from scene.protocols.annotations import Loaded, Placing, Row, Scenes
from scene.protocols.exact_match import answers_given, exact_match, refined_match
from scene.protocols.metric import Metric
from scene.protocols.records import Example, Prediction

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
    path: str | Path, scenes: Scenes | None = None, *, split: str = "test", unknown_scenes: str = "error"
) -> Loaded:
    """The questions of a split with answers and poses; ids are the question_id.

    Args:
        path: the questions' file, beside which its annotations are, or the folder of the release.
        scenes: the scans that are loaded. None: no scan is at hand, and none is needed to measure answers.
        split: of a folder: train, val or test.
        unknown_scenes: "error", or "skip" questions about scans that are not loaded.

    Raises:
        MissingFileError, InputError: a file is absent, truncated or of another kind; a question without annotation or
            an annotation without question; an empty answer; an id stands twice; a scan is unknown; or no question is
            left.
    """
    out = Loaded()
    placing = None if scenes is None else Placing(scenes, out, unknown_scenes, "error")
    pairs = _pairs(path, split)
    for row, note in pairs:
        scene_id, name, question = row.text("scene_id"), row.id("question_id"), row.text("question")
        if placing and placing.find(row, name, scene_id, []) is None:
            continue
        example = Example(
            name,
            scene_id,
            f"{row.text('situation')} {question}",
            answers=_answers(note),
            groups=(question_type(question),),
            pose=_pose(note),
        )
        out.take(row, example)
    return out.checked(path)


def load_situations(path: str | Path, *, split: str = "test") -> Loaded:
    """The situations of a split for localisation, each once; ids count them in the order of the file.

    Args:
        path, split: as `load`, or the file of the localisation task, `v1_balanced_localization_*.json`.

    Raises:
        MissingFileError, InputError: as `load`.
    """
    if "_localization_" in Path(path).name:
        needed = ("scene_id", "situation", "position", "rotation")
        pairs = [(row, row) for row in _rows(Path(path), "SQA3D situations", "annotations", needed)]
    else:
        pairs = _pairs(path, split)
    out, seen = Loaded(), set()
    for row, note in pairs:
        situation = row.text("scene_id"), row.text("situation"), _pose(note)
        if situation not in seen:
            seen.add(situation)
            scene_id, text, pose = situation
            out.take(row, Example(f"situation-{len(seen) - 1}", scene_id, text, pose=pose))
    return out.checked(path)


def _pairs(path: str | Path, split: str) -> list[tuple[Row, Row]]:
    """Each question and its annotation."""
    questions, annotations = _files(path, split)
    rows = _rows(questions, "SQA3D questions", "questions", ("scene_id", "question_id", "situation", "question"))
    needed = ("scene_id", "question_id", "answers", "position", "rotation")
    notes = {row.id("question_id"): row for row in _rows(annotations, "SQA3D annotations", "annotations", needed)}
    pairs = []
    for row in rows:
        name = row.id("question_id")
        if name not in notes:
            raise InputError(f"{row.where}: the question {name} has no annotation in {annotations}")
        note = notes[name]
        if note.text("scene_id") != row.text("scene_id"):
            raise InputError(f"{row.where} is about {row.text('scene_id')}, {note.where} about {note.text('scene_id')}")
        pairs.append((row, note))
    alone = notes.keys() - {row.id("question_id") for row in rows}
    if alone:
        raise InputError(f"{len(alone)} annotations in {annotations} are of no question in {questions}: {min(alone)}")
    return pairs


def _files(path: str | Path, split: str) -> tuple[Path, Path]:
    path = Path(path).expanduser()
    if path.is_dir():
        name = f"v1_balanced{_QUESTIONS}{split}_scannetv2.json"
        found = [path / folder / name for folder in _FOLDERS if (path / folder / name).is_file()]
        if not found:
            raise MissingFileError(f"no SQA3D questions of the split {split!r} in {path}: expected {name}")
        path = found[0]
    if not path.exists():
        raise MissingFileError(f"SQA3D questions not found: {path} (working folder: {Path.cwd()})")
    if _QUESTIONS not in path.name:
        raise InputError(f"SQA3D questions are in a file *{_QUESTIONS}*.json, but {path} is given")
    return path, path.with_name(path.name.replace(_QUESTIONS, _ANNOTATIONS))


def _rows(path: Path, what: str, key: str, needed: Sequence[str]) -> list[Row]:
    """The list under `key` of a JSON file."""
    content = read_json(path, what)
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        found = ", ".join(list(content)[:8]) if isinstance(content, dict) else f"a {type(content).__name__}"
        raise InputError(f"{what} {path} hold {found or 'nothing'}, expected a dictionary with the list {key!r}")
    rows = [Row(path, number, item if isinstance(item, dict) else {}) for number, item in enumerate(content[key])]
    for row in rows:
        lacking = [name for name in needed if name not in row.values]
        if lacking:
            has = ", ".join(map(str, row.values)) or "nothing"
            raise InputError(f"{row.where} lacks {', '.join(lacking)}; it has {has}")
    return rows


def _answers(note: Row) -> tuple[str, ...]:
    listed = note.values["answers"]
    found = listed if isinstance(listed, list) else []
    texts: list[Any] = [item.get("answer") if isinstance(item, dict) else None for item in found]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise InputError(f'{note.where}: answers are {listed!r}, expected [{{"answer": a text that is not empty}}]')
    return tuple(dict.fromkeys(texts))


def _pose(note: Row) -> tuple[float, ...]:
    """(x, y, z, yaw) of a position and a quaternion; the yaw is the z part of the rotation vector, as released."""
    position = [_number(note, "position", part) for part in ("x", "y", "z")]
    x, y, z, w = (_number(note, "rotation", part) for part in ("_x", "_y", "_z", "_w"))
    length = math.hypot(x, y, z)
    if not 0.99 < math.hypot(length, w) < 1.01:
        raise InputError(f"{note.where}: the rotation ({x}, {y}, {z}, {w}) is no unit quaternion")
    if w < 0:
        z, w = -z, -w  # the same rotation, by the shorter way
    yaw = 2 * math.atan2(length, w) * z / length if length else 0.0
    return (*position, yaw)


def _number(note: Row, name: str, part: str) -> float:
    held: Any = note.values[name]
    value = held.get(part) if isinstance(held, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise InputError(f"{note.where}: {part} of the {name} is {value!r}, expected a number")
    return float(value)


def measure(
    examples: Sequence[Example], predictions: Mapping[str, Prediction], objects: Scenes | None = None
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
