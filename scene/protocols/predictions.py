"""Predictions of any model: read and checked, written, matched with a benchmark's examples, and turned into boxes.

One record per example: {"id": ..., "objects": [...]} or {"id": ..., "boxes": [[7 numbers], ...]}, best first (of set
protocols: the whole set), with "scores" of the same length if there are any; questions have "answers", best first, and
a localised asker a "pose": x, y, z, yaw. ScanQA's own {"question_id": ..., "answer_top10": [...]} is read, too.
.jsonl holds one a line, .json a list of them, .parquet one a row.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64
from numpy import ndarray

from core.errors import InputError, check_choice, existing_file, nearest
from core.files import atomic_file, atomic_write
from scene.protocols.annotations import Loaded
from scene.protocols.records import Example, Prediction
from scene.types import SceneObject

KEYS: Final = ("id", "objects", "boxes", "scores", "answers", "pose")
FORMATS: Final = (".jsonl", ".json", ".parquet")
NO_OBJECT: Final = -1
"""The object of a prediction that was never made: it is none of the scene's, so it is wrong everywhere."""
SCHEMA: Final = pa.schema(
    [
        ("id", pa.string()),
        ("objects", pa.list_(pa.int64())),
        ("boxes", pa.list_(pa.list_(pa.float64()))),
        ("scores", pa.list_(pa.float64())),
        ("answers", pa.list_(pa.string())),
        ("pose", pa.list_(pa.float64())),
    ]
)


def read_predictions(path: str | Path) -> dict[str, Prediction]:
    """Predictions by id, in the file's order.

    Raises:
        MissingFileError: not there. InputError: damaged, an unknown key, an id that is empty or stands twice, neither
            objects nor boxes nor answers or both objects and boxes, boxes that are not 7 finite numbers with sizes
            from 0, an object named twice, or scores that are not as many finite numbers.
    """
    file = existing_file(path, "predictions")
    found: dict[str, Prediction] = {}
    for where, item in _items(file):
        prediction = _prediction(where, item)
        if prediction.id in found:
            raise InputError(f"{where}: the id {prediction.id} stands twice; keep one prediction of each")
        found[prediction.id] = prediction
    if not found:
        raise InputError(f"predictions hold no rows: {file}")
    return found


def write_predictions(path: str | Path, predictions: Iterable[Prediction]) -> Path:
    """Writes predictions in the format the name ends in; the file appears whole or not at all.

    Those that were never made (see `complete`) are left out.

    Raises:
        InputError: the name ends in none of FORMATS.
    """
    path = Path(path)
    check_choice("the predictions' file format", path.suffix, FORMATS)
    rows = [
        {
            "id": item.id,
            "objects": [int(k) for k in item.objects],
            "boxes": [[float(v) for v in box] for box in item.boxes],
            "scores": [float(v) for v in item.scores],
            "answers": list(item.answers),
            "pose": [float(v) for v in item.pose],
        }
        for item in predictions
        if NO_OBJECT not in item.objects
    ]
    if path.suffix == ".parquet":
        with atomic_file(path) as out:
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), out)
        return path
    # an empty set of objects is an answer ("nothing fits"): what to leave out must not make the record empty
    short = [
        {k: v for k, v in row.items() if v or k == "objects" and not (row["boxes"] or row["answers"] or row["pose"])}
        for row in rows
    ]
    if path.suffix == ".json":
        return atomic_write(path, json.dumps(short, indent=1) + "\n")
    return atomic_write(path, "".join(json.dumps(row) + "\n" for row in short))


def _items(file: Path) -> Iterator[tuple[str, Any]]:
    """(where, record)."""
    if file.suffix not in FORMATS:
        raise InputError(f"predictions are {file.name!r}, expected a file that ends in {', '.join(FORMATS)}")
    if file.suffix == ".parquet":
        try:
            table = pq.read_table(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"predictions are truncated or no Parquet: {file} ({error})") from error
        for number, row in enumerate(table.to_pylist(), start=1):
            yield f"{file}, row {number}", {key: value for key, value in row.items() if value is not None}
        return
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"predictions are no UTF-8 text: {file} ({error})") from error
    if file.suffix == ".json":
        try:
            content = json.loads(text)
        except ValueError as error:
            raise InputError(f"predictions are truncated or not JSON: {file} ({error})") from error
        if not isinstance(content, list):
            raise InputError(f"{file} holds a {type(content).__name__}, expected a list of records with an id")
        yield from ((f"{file}, record {number}", item) for number, item in enumerate(content, start=1))
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"{file}, line {number}", json.loads(line)
            except ValueError as error:
                raise InputError(f"{file}, line {number} is truncated or not JSON ({error})") from error


def _prediction(where: str, item: Any) -> Prediction:
    if not isinstance(item, dict):
        raise InputError(f"{where} is a {type(item).__name__}, expected a record with the keys {', '.join(KEYS)}")
    if "answer_top10" in item:  # as the ScanQA server takes them; the box beside is not looked at
        item = {"id": item.get("question_id"), "answers": item["answer_top10"]}
    for key in item:
        if key not in KEYS:
            raise InputError(f"{where}: unknown key {key!r}; {nearest(key, KEYS)}")
    name = item.get("id")
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}: id is {name!r}, expected the example's id as text")
    where = f"{where}, id {name}"
    for key in KEYS[1:]:
        if not isinstance(item.get(key, []), list):
            raise InputError(f"{where}: {key} is {item[key]!r}, expected a list")
    objects, boxes = item.get("objects", []), item.get("boxes", [])
    if not item.keys() & {"objects", "boxes", "answers", "pose"}:
        raise InputError(
            f"{where} predicts nothing: expected objects, boxes, answers or a pose (an empty list = none fits)"
        )
    if objects and boxes:
        raise InputError(f"{where} has both objects and boxes; give one of them")
    for index in objects:
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise InputError(f"{where}: object {index!r} is no index (a whole number from 0)")
    if len(set(objects)) < len(objects):
        raise InputError(f"{where}: objects {objects} name one of them twice")
    for box in boxes:
        _check_box(where, box)
    scores = item.get("scores", [])
    if scores and len(scores) != len(objects or boxes):
        raise InputError(f"{where}: {len(scores)} scores for {len(objects or boxes)} objects or boxes")
    if not all(_finite(value) for value in scores):
        raise InputError(f"{where}: scores {scores} are not all finite numbers")
    answers = item.get("answers", [])
    if not all(isinstance(text, str) for text in answers):
        raise InputError(f"{where}: answers {answers!r} are not all text")
    pose = item.get("pose", [])
    if len(pose) not in (0, 4) or not all(_finite(value) for value in pose):
        raise InputError(f"{where}: the pose {pose!r} is not x, y, z in metres and yaw in radians, four finite numbers")
    return Prediction(
        id=name,
        objects=tuple(objects),
        boxes=tuple(tuple(map(float, box)) for box in boxes),
        scores=tuple(map(float, scores)),
        answers=tuple(answers),
        pose=tuple(map(float, pose)),
    )


def _check_box(where: str, box: Any) -> None:
    if not isinstance(box, list) or len(box) != 7:
        found = f"{len(box)} numbers" if isinstance(box, list) else f"a {type(box).__name__}"
        raise InputError(
            f"{where}: a box has {found}, expected 7: centre xyz, size xyz, yaw (metres, radians; 0 for boxes along "
            "the axes)"
        )
    if not all(_finite(value) for value in box) or min(box[3:6]) < 0:
        raise InputError(f"{where}: box {box} needs finite numbers, and sizes that are not negative")


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def complete(
    examples: Sequence[Example], predictions: Mapping[str, Prediction], missing: str = "error"
) -> dict[str, Prediction]:
    """A prediction for every example, in their order.

    Predictions for rows of the annotation file that are no examples (`Loaded.left_out`) are let go.

    Args:
        missing: what an example without prediction is: an "error", or counted as "wrong".

    Raises:
        InputError: ids that are none of the examples', or examples without prediction and missing="error"; each with
            its count and the first few.
    """
    check_choice("missing", missing, ("error", "wrong"))
    ids = {example.id for example in examples}
    left_out = examples.left_out.keys() if isinstance(examples, Loaded) else set()
    unknown = [name for name in predictions if name not in ids and name not in left_out]
    if unknown:
        raise InputError(
            f"{len(unknown)} of {len(predictions)} predictions have an id that no example has ({_few(unknown)}); "
            f"ids of this benchmark look like {_few(list(ids))}"
        )
    absent = [example.id for example in examples if example.id not in predictions]
    if absent and missing == "error":
        raise InputError(
            f"{len(absent)} of {len(ids)} examples have no prediction ({_few(absent)}); predict them, or count them as "
            "wrong with missing=wrong"
        )
    return {e.id: predictions.get(e.id, Prediction(e.id, objects=(NO_OBJECT,))) for e in examples}


def _few(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")


def boxes_of(prediction: Prediction, proposals: Sequence[SceneObject]) -> Float64[ndarray, "K 7"]:
    """The predicted boxes: its own, or those of the proposals its objects index.

    Args:
        proposals: what the model chose from, in its order: a scene's objects, or what masks or `scene.proposals` gave.

    Raises:
        InputError: an index beyond the proposals.
    """
    if prediction.boxes:
        return np.array(prediction.boxes, dtype=np.float64)
    wrong = [index for index in prediction.objects if not NO_OBJECT <= index < len(proposals)]
    if wrong:
        raise InputError(
            f"prediction {prediction.id}: object {wrong[0]} is none of the {len(proposals)} objects of its scene, "
            f"counted from 0 to {len(proposals) - 1}; was another list of proposals predicted on?"
        )
    nowhere = np.zeros(7)  # a box without volume meets no other
    found = [nowhere if index == NO_OBJECT else proposals[index].box for index in prediction.objects]
    return np.array(found, dtype=np.float64).reshape(-1, 7)


def check_best_first(prediction: Prediction) -> None:
    """Raises InputError when the scores say that the first object or box is not the best."""
    if prediction.scores and prediction.scores[0] < max(prediction.scores):
        raise InputError(
            f"prediction {prediction.id}: the first score is {prediction.scores[0]:g}, the best "
            f"{max(prediction.scores):g}; objects and boxes come best first"
        )
