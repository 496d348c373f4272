"""Measures a grounding model on a split of built scenes: sightline evaluate-grounding scenes=SCENES model=MODEL

Accuracy: the share of sentences whose target scores highest among the candidates, in groups. Beside it stand what can
be had without understanding the sentence: chance (1 / candidates), right label (a random object of the target's class;
its exact expectation, not a draw), right label and colour, and the same model reading an empty sentence. Intervals are
95 % bootstrap intervals over homes, since sentences of one home are not independent.

Easy, hard, view-dependent: ReferIt3D's definitions (Achlioptas et al., ECCV 2020).
"""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from omegaconf import MISSING

from core.errors import InputError
from core.files import atomic_file
from core.intervals import grouped_mean
from core.job import JobConfig, job_main
from core.progress import track
from core.run import RunFolder
from scene.batch import GroundingRoom, grounding_rooms
from scene.grounder import Grounder, predict
from scene.model_folder import model_folder
from scene.store import SceneStore

VIEW_WORDS = frozenset(
    ("front", "behind", "back", "right", "left", "facing", "leftmost", "rightmost", "looking", "across")
)
EASY_MAX = 2  # objects of the target's class, itself included
BASELINES = ("chance", "label", "label_color", "no_text")


@dataclass
class EvaluateGroundingConfig(JobConfig):
    """Accuracy of a grounder on scenes it has not seen, beside its baselines."""

    scenes: str = MISSING  # folder made by build-scenes
    model: str = MISSING  # folder written by pretrain-grounding (the run or its model/)
    split: str = "test"  # train, val or test
    resamples: int = 1000  # bootstrap draws over homes


CONFIG = EvaluateGroundingConfig


def run(cfg: EvaluateGroundingConfig) -> dict[str, Any]:
    """Evaluates, writes predictions.parquet and result.json, prints the table and returns the result."""
    folder = RunFolder.open(cfg, "evaluate-grounding")
    if (finished := folder.result()) is not None:
        folder.close()
        return finished
    started = time.monotonic()
    store = SceneStore(cfg.scenes)
    grounder = Grounder.from_pretrained(model_folder(cfg.model))
    rooms = encoded_rooms(grounder, store, cfg.split, cfg.seed)
    pad_id = grounder.tokenizer.pad_token_id
    predicted = np.concatenate([p.numpy() for p in predict(grounder.model, rooms, pad_id)])
    tokens = [room.tokens for room in rooms]
    empty = grounder.tokenizer("")["input_ids"]
    for room in rooms:
        room.tokens = [empty] * len(room.sentences)
    blind = np.concatenate([p.numpy() for p in predict(grounder.model, rooms, pad_id)])
    for room, words in zip(rooms, tokens):
        room.tokens = words

    target = np.concatenate([room.targets.numpy() for room in rooms])
    scores = {"accuracy": (predicted == target).astype(float), **baselines(rooms), "no_text": (blind == target) * 1.0}
    homes = [room.objects.scene_id for room in rooms for _ in room.sentences]
    table = {
        name: summary(scores, np.array(homes), members, cfg.resamples, cfg.seed)
        for name, members in groups(rooms).items()
        if members.any()
    }
    save_predictions(folder.file("predictions.parquet"), rooms, predicted)
    show(table, f"grounding on {cfg.split}: {len(set(homes))} homes")
    return folder.finish(
        {
            "split": cfg.split,
            "accuracy": table["all"]["accuracy"],
            "interval": table["all"]["interval"],
            **{name: table["all"][name] for name in BASELINES},
            "homes": len(set(homes)),
            "sentences": len(target),
            "groups": table,
            "seconds": round(time.monotonic() - started, 1),
        }
    )


def encoded_rooms(grounder: Grounder, store: SceneStore, split: str, seed: int) -> list[GroundingRoom]:
    """Rooms of a split with tokens and features; points are drawn as `Grounder.locate` draws them and let go.

    Raises:
        InputError: the split has no sentences.
    """
    referrals = store.referrals(split)
    ids = store.split(split)
    model = grounder.model
    rooms = []
    with track(len(ids), f"encoding {split} objects") as progress:

        def scenes() -> Iterable[Any]:
            for scene_id in ids:
                yield store.load(scene_id)
                progress.advance()

        for room in grounding_rooms(scenes(), referrals, model.config.points, seed):
            room.features = model.object_encoder.encode(room.objects.points)[None]
            room.objects.points = room.objects.points[:, :0]
            encoded = grounder.tokenizer(room.sentences, truncation=True, max_length=model.config.max_tokens)
            room.tokens = encoded["input_ids"]
            rooms.append(room)
    if not rooms:
        raise InputError(f"{store.folder} has no {split} sentences; build it again with more scenes")
    return rooms


def baselines(rooms: Sequence[GroundingRoom]) -> dict[str, Float[ndarray, " S"]]:
    """Expected accuracy per sentence of choosing blindly: among all, the target's class, its class and colour."""
    chance, label, both = [], [], []
    for room in rooms:
        labels, captions = room.objects.labels, room.objects.captions
        for target in room.targets.tolist():
            chance.append(1 / len(labels))
            label.append(1 / labels.count(labels[target]))
            both.append(1 / captions.count(captions[target]))
    return {"chance": np.array(chance), "label": np.array(label), "label_color": np.array(both)}


def groups(rooms: Sequence[GroundingRoom]) -> dict[str, Bool[ndarray, " S"]]:
    """Which sentences belong to which row of the table; "all" comes first."""
    sentences = [sentence for room in rooms for sentence in room.sentences]
    kinds = np.array([kind for room in rooms for kind in room.kinds])
    alike = np.array(
        [room.objects.labels.count(room.objects.labels[t]) for room in rooms for t in room.targets.tolist()]
    )
    viewed = np.array([is_view_dependent(sentence) for sentence in sentences])
    table = {
        "all": np.ones(len(sentences), dtype=bool),
        "unique": alike == 1,
        "easy": (alike > 1) & (alike <= EASY_MAX),
        "hard": alike > EASY_MAX,
        "view-dependent": viewed,
        "view-independent": ~viewed,
    }
    return table | {f"kind {kind}": kinds == kind for kind in sorted(set(kinds.tolist()))}


def is_view_dependent(sentence: str) -> bool:
    """Whether a word of the sentence means nothing without a viewer (ReferIt3D's list)."""
    return not VIEW_WORDS.isdisjoint(re.findall(r"[a-z]+", sentence.lower()))


def summary(
    scores: dict[str, Float[ndarray, " S"]], homes: ndarray, members: Bool[ndarray, " S"], resamples: int, seed: int
) -> dict[str, Any]:
    """Means over the members of a group, and the interval of the accuracy."""
    row: dict[str, Any] = {name: round(float(value[members].mean()), 4) for name, value in scores.items()}
    low, high = grouped_mean(scores["accuracy"][members], homes[members], seed=seed, resamples=resamples)
    return row | {"interval": [round(low, 4), round(high, 4)], "sentences": int(members.sum())}


def save_predictions(path: Path, rooms: Sequence[GroundingRoom], predicted: Int[ndarray, " S"]) -> None:
    """One row per sentence: scene_id, room, utterance, kind, and object ids of target and prediction."""
    rows: dict[str, list[Any]] = {k: [] for k in ("scene_id", "room", "utterance", "kind", "target", "predicted")}
    position = 0
    for room in rooms:
        ids = room.objects.ids.tolist()
        for sentence, kind, target in zip(room.sentences, room.kinds, room.targets.tolist()):
            values = (room.objects.scene_id, room.objects.room, sentence, kind, ids[target], ids[predicted[position]])
            for column, value in zip(rows.values(), values):
                column.append(value)
            position += 1
    with atomic_file(path) as file:
        pq.write_table(pa.table(rows), file)


def show(table: dict[str, dict[str, Any]], title: str) -> None:
    """Prints the table."""
    from rich.console import Console
    from rich.table import Table

    view = Table(title=title)
    for name in ("group", "sentences", "accuracy", "95 %", "chance", "label only", "label + colour", "no text"):
        view.add_column(name, justify="left" if name == "group" else "right")
    for name, row in table.items():
        low, high = row["interval"]
        numbers = [f"{row[key]:.3f}" for key in BASELINES]
        view.add_row(name, str(row["sentences"]), f"{row['accuracy']:.3f}", f"{low:.3f}-{high:.3f}", *numbers)
    console = Console()
    console.width = max(console.width, 110)  # a log file has no width of its own
    console.print(view)


if __name__ == "__main__":
    job_main("evaluate-grounding")
