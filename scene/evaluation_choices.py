"""What a model chose, example by example: as a table on file, and the worst of it as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from core.files import atomic_file
from scene.failures import Failure, failures_html, worst
from scene.protocols.records import Example, Prediction
from scene.protocols.registry import Protocol
from scene.store import SceneStore


def save_choices(path: Path, examples: Sequence[Example], said: Mapping[str, Prediction]) -> None:
    """One row per sentence with one target: ids, text, kind, and object ids of target and first choice (-1 = none)."""
    chosen = [e for e in examples if len(e.targets) == 1 and not said[e.id].boxes]
    columns = {
        "id": [e.id for e in chosen],
        "scene_id": [e.scene_id for e in chosen],
        "room": [e.room for e in chosen],
        "utterance": [e.text for e in chosen],
        "kind": [kind_of(e) for e in chosen],
        "target": [e.targets[0] for e in chosen],
        "predicted": [said[e.id].objects[0] if said[e.id].objects else -1 for e in chosen],
    }
    with atomic_file(path) as file:
        pq.write_table(pa.table(columns), file)


def kind_of(example: Example) -> str:
    """The kind of a corpus' sentence; empty elsewhere."""
    return next((group.removeprefix("kind ") for group in example.groups if group.startswith("kind ")), "")


def failure_blocks(
    protocol: Protocol, examples: Sequence[Example], said: Mapping[str, Prediction], store: SceneStore, count: int
) -> list[str]:
    """The worst wrong answers as pictures; none of questions, and none of boxes that are no objects."""
    if protocol.kind == "answers" or not count:
        return []
    wrong = [
        failure_of(e, said[e.id], protocol.asks_for_set(e))
        for e in examples
        if not said[e.id].boxes and not is_right(e, said[e.id], protocol.asks_for_set(e))
    ]
    return failures_html(worst(wrong, count), store.load)


def is_right(example: Example, said: Prediction, whole: bool) -> bool:
    """Whether the first object, or the whole set, is what is meant."""
    if whole:
        return set(said.objects) == set(example.targets)
    return bool(said.objects) and said.objects[0] in example.targets


def failure_of(example: Example, said: Prediction, whole: bool) -> Failure:
    chosen = tuple(i for i in (said.objects if whole else said.objects[:1]) if i >= 0)
    scores = dict(zip(said.objects, said.scores))
    margin = 0.0
    if scores and not whole:  # a target beyond the kept ranking scored less than its last
        margin = said.scores[0] - max(scores.get(target, min(said.scores)) for target in example.targets)
    return Failure(
        example.scene_id, example.text, example.targets, chosen, float(margin), kind_of(example), example.room
    )
