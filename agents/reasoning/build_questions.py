"""Job build-questions: questions about pictures of homes, with exact answers, for reasoning models.

`out` becomes a folder that `open_samples` reads: for each split SPLIT.jsonl (agents/reasoning/task_files.py) and its
pictures in SPLIT_images.zip, and questions.json, which counts them and says how far their words alone give the answers
away. Splits are those of the scenes: val homes are like train homes; test homes are not, where the scenes hold things
back for them (procedural homes do: pairs of colour and class). Homes of another kind, such as larger ones, are another
folder of scenes.
"""

import io
import json
import time
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from omegaconf import MISSING

from agents.reasoning.action_questions import next_actions
from agents.reasoning.question_balance import Asked, balanced, blind_guess, words_only
from agents.reasoning.question_views import View, look, png_bytes
from agents.reasoning.questions import (
    asked_labels,
    asked_nouns,
    box,
    color,
    count,
    describe,
    existence,
    left_or_right,
    nearer,
    on_top,
    turned,
    two_views,
)
from agents.reasoning.task_files import open_samples, write_samples
from agents.reasoning.types import Sample
from agents.reasoning.word_questions import word_questions
from core.errors import InputError, check_choice
from core.files import atomic_write
from core.job import JobConfig, job_main
from core.progress import track
from core.run import RunFolder
from scene.graph import build_graph
from scene.store import SceneStore
from scene.types import Scene

KINDS: Final[dict[str, int]] = {  # kind: how many different answers a round of its questions has at least
    "existence": 2,
    "count": 3,
    "color": 3,
    "relation": 2,
    "nearer": 2,
    "two-views": 2,
    "camera-turn": 2,
    "box": 1,
    "next-action": 4,
    "arithmetic": 2,
    "deduction": 2,
    "describe": 1,
}
SPLITS: Final = ("train", "val", "test")
SUMMARY: Final = "questions.json"
BLIND: Final = ("guess", "words")  # what is measured without looking
FEW: Final = "too few to ask each answer equally often; more homes or views give some"
EPISODES: Final = 8  # of the oracle in each home
PNG_DATE: Final = (1980, 1, 1, 0, 0, 0)  # in archives: the same pictures give the same bytes


@dataclass
class BuildQuestionsConfig(JobConfig):
    """Questions about homes: sightline build-questions scenes=runs/scenes out=runs/questions"""

    scenes: str = MISSING  # folder made by build-scenes
    kinds: list[str] = field(default_factory=lambda: [kind for kind in KINDS if kind != "describe"])  # of questions
    splits: list[str] = field(default_factory=lambda: list(SPLITS))  # of the scenes
    per_home: int = 6  # questions of each kind for each home, on average and at most
    views: int = 16  # pictures looked at in each home
    size: int = 64  # of pictures, pixels
    fov_deg: float = 90.0  # field of view, degrees

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, given, known in (("kinds", self.kinds, KINDS), ("splits", self.splits, SPLITS)):
            if not given or len(set(given)) < len(given):
                raise InputError(f"{name}={given}: name at least one, none twice")
            for value in given:
                check_choice(name, value, known)
        if self.per_home < 1 or self.views < 2:
            raise InputError(f"per_home={self.per_home} and views={self.views}: give at least 1 and 2")
        if self.size < 32 or not 0 < self.fov_deg < 180:
            raise InputError(f"size={self.size} and fov_deg={self.fov_deg}: give at least 32, and an angle below 180")


CONFIG = BuildQuestionsConfig


def run(cfg: BuildQuestionsConfig) -> dict[str, Any]:
    """Writes one split after the other; a continued run keeps those that are whole."""
    store = SceneStore(cfg.scenes, points=False)
    homes = {split: store.split(split) for split in cfg.splits}
    empty = [split for split, ids in homes.items() if not ids]
    if empty:
        raise InputError(f"the scenes in {cfg.scenes} have no homes of {', '.join(empty)}; leave it out of splits=")
    with RunFolder.open(cfg, "build-questions") as folder:
        if (done := folder.result()) is not None:
            return done
        start = time.perf_counter()
        summary: dict[str, Any] = {"scenes": store.manifest["source"], "size": cfg.size, "seed": cfg.seed}
        train: list[Sample] | None = None
        for step, split in enumerate(cfg.splits, start=1):
            file = folder.file(f"{split}.jsonl")
            if not file.exists():  # written after its pictures
                _write_split(cfg, store, split, file)
            samples = open_samples(file).samples
            summary[split] = {"homes": len(homes[split])} | counts(samples, train, cfg.kinds)
            train = samples if split == "train" else train
            folder.log(step, **{f"{split}_questions": len(samples)})
            print(f"{split}: {len(samples)} questions about {len(homes[split])} homes")
            for kind, row in summary[split]["kinds"].items():
                told = "  ".join(f"{name} {row[name]:.2f}" for name in BLIND if name in row)
                print(f"  {kind:<12}{row['questions']:>6}  {told if row['questions'] else FEW}")
        print("guess: the commonest answer is right so often; words: what training questions' words alone get right")
        atomic_write(folder.file(SUMMARY), json.dumps(summary, indent=1) + "\n")
        folder.finish(summary | {"seconds": round(time.perf_counter() - start, 2)})
    print(f"questions are in {folder.path}")
    return summary


def counts(samples: Sequence[Sample], train: Sequence[Sample] | None, asked: Sequence[str]) -> dict[str, Any]:
    """By kind: how many, what a blind guess gets right, and what is learnt from the words of training questions."""
    by_kind: dict[str, list[Sample]] = {kind: [] for kind in asked}  # 0 where homes give too few to be even
    for sample in samples:
        by_kind[sample.kind].append(sample)
    kinds: dict[str, dict[str, float]] = {}
    for kind, rows in by_kind.items():
        kinds[kind] = {"questions": len(rows), "answers": len({sample.answer for sample in rows})}
        kinds[kind]["guess"] = round(blind_guess(rows), 4)
        if train is not None:
            kinds[kind]["words"] = round(words_only([sample for sample in train if sample.kind == kind], rows), 4)
    return {"questions": len(samples), "kinds": kinds}


def _write_split(cfg: BuildQuestionsConfig, store: SceneStore, split: str, file: Path) -> None:
    """Asks about every home of a split, chooses evenly, and writes the pictures that are needed, then the questions."""
    ids = store.split(split)
    asked: defaultdict[str, list[Asked]] = defaultdict(list)
    png: dict[str, bytes] = {}
    with track(len(ids), f"questions of {split}") as progress:
        for scene_id in ids:
            found, views = ask(store.load(scene_id), store.manifest, cfg)
            for one in found:
                asked[one.sample.kind].append(one)
            needed = {name for one in found for name in one.sample.pictures}
            png |= {f"{view.name}.png": png_bytes(view.rgb) for view in views if f"{view.name}.png" in needed}
            progress.advance()
    rng = np.random.default_rng([cfg.seed, SPLITS.index(split)])
    samples: list[Sample] = []
    for kind in cfg.kinds:
        samples += balanced(asked[kind], cfg.per_home * len(ids), KINDS[kind], rng)
    if not samples:
        raise InputError(
            f"the {len(ids)} homes of {split} give no questions of {', '.join(cfg.kinds)} that their words do not give "
            "away; give more homes, views or kinds"
        )
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:  # stored: PNG files are packed already
        for name in sorted({name for sample in samples for name in sample.pictures}):
            archive.writestr(zipfile.ZipInfo(name, PNG_DATE), png[name])
    atomic_write(file.with_name(f"{split}_images.zip"), content.getvalue())
    write_samples(file, samples)


def ask(scene: Scene, manifest: dict[str, Any], cfg: BuildQuestionsConfig) -> tuple[list[Asked], list[View]]:
    """All that may be asked about drawn pictures of a home, and those pictures.

    Raises:
        InputError: the home has no rooms, no free floor or no mesh.
    """
    views, after = look(scene, cfg.views, cfg.seed, cfg.size, cfg.fov_deg)
    nouns, labels = asked_nouns(views), asked_labels(views)
    support = build_graph(scene).support_parent.tolist() if "relation" in cfg.kinds else []
    found: list[Asked] = []
    for k, view in enumerate(views):
        if "existence" in cfg.kinds:
            found += existence(view, nouns)
        if "count" in cfg.kinds:
            found += count(view, labels)
        if "color" in cfg.kinds:
            found += color(view)
        if "relation" in cfg.kinds:
            found += [*left_or_right(view), *on_top(view, support)]
        if "nearer" in cfg.kinds:
            found += nearer(view)
        if "box" in cfg.kinds:
            found += box(view)
        if "describe" in cfg.kinds:
            found += describe(view)
        if "camera-turn" in cfg.kinds:
            found += turned(view, after[k], left=k % 2 == 0)
        if "two-views" in cfg.kinds:
            for other in views[k + 1 :]:
                found += two_views(view, other)
    if {"arithmetic", "deduction"} & set(cfg.kinds):
        rng = np.random.default_rng([cfg.seed, zlib.crc32(f"words of {scene.id}".encode())])
        labels = sorted(set(scene.labels))
        found += [one for one in word_questions(views, labels, 2 * cfg.per_home, rng) if one.sample.kind in cfg.kinds]
    seen = [*views, *after]
    if "next-action" in cfg.kinds:
        more, on_way = next_actions(scene, manifest, EPISODES, cfg.seed, cfg.size, cfg.fov_deg)
        found, seen = found + more, seen + on_way
    return found, seen


if __name__ == "__main__":
    job_main("build-questions")
