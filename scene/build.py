"""Job build-scenes: a corpus of homes, their scene graphs and texts.

`out` becomes the folder that the other jobs take as `scenes=`: shards of Parquet tables (texts, objects, relations) and
stores of surfaces and points, laid out in scene/shards.py, and `manifest.json`, written last: a folder that has one is
whole. Nothing else is in it, and every file is the same to the byte whatever `workers` and `engine` are. The run itself
(configuration, progress, statistics.html, result.json) is kept beside it in `<out>.run`.

A home that cannot be read or has nothing to say is left out, named and counted in result.json. A killed build goes on
with resume=auto: shards that were finished are checked and kept, the others written again.
"""

import json
import os
import time
import zlib
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.errors import InputError, check_choice
from core.files import atomic_write, read_json
from core.job import JobConfig, job_main
from core.memory import peak_memory_gb
from core.parallel import ENGINES, run_tasks
from core.progress import track
from core.run import RunFolder, describe_version
from core.threads import available_cores
from scene.corpus import HomeSource, Skipped, SourceConfig, Wanted, open_source
from scene.graph import SceneGraph, build_graph
from scene.heldout import HELD_OUT_SYNONYMS
from scene.io import MANIFEST
from scene.language import TextPlan, write_texts
from scene.palette import GOAL_COLORS, GOAL_LABELS, HELD_OUT_PAIRS, PALETTE
from scene.query import Query
from scene.shards import ShardWriter, remove_temporaries, shard_fault, shard_name, with_points
from scene.statistics import Statistics, overlaps
from scene.statistics_page import statistics_page
from scene.store import save_manifest
from scene.texts import Referral, Text, texts_to_table
from scene.types import Scene
from vl.generator import Generator, GeneratorConfig, load_generator

SPLITS: Final = ("train", "val", "test")
RECORDS: Final = "shards"  # folder of the run folder: what each finished shard holds


@dataclass
class BuildScenesConfig(JobConfig):
    """Homes with texts: sightline build-scenes out=runs/scenes workers=2"""

    source: SourceConfig = field(default_factory=SourceConfig)  # where homes come from
    train_homes: int = 200  # homes of the train split; of a file of homes: at most
    val_homes: int = 40  # homes to tune on; of a file of homes: at most
    test_homes: int = 60  # homes to report on; of a file of homes: at most
    train_referrals: int = 60  # sentences per train home that mean one object, at most
    eval_referrals: int = 20  # the same for val and test homes
    multi: int = 4  # sentences per home that mean several objects, at most
    zero: int = 4  # sentences per home about things that are not there, at most
    captions: bool = True  # captions of objects, rooms and the home
    questions: int = 10  # questions with answers per home, at most
    points: int = 512  # sampled points stored per object where the source has surfaces; 0 = none; scans keep their own
    rooms_min: int = 1  # rooms per procedural home, from
    rooms_max: int = 2  # rooms per procedural home, to
    rephrase: GeneratorConfig = field(default_factory=GeneratorConfig)  # language model that rewords sentences
    shard_homes: int = 64  # homes in a shard: what is lost at most when a worker is killed
    workers: int = 1  # processes at work; 0 = one per core
    engine: str = "processes"  # who runs them: processes (of this machine) or ray (the cluster RAY_ADDRESS names)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("engine", self.engine, ENGINES)
        atleast = {"train_homes": 0, "val_homes": 0, "test_homes": 0, "train_referrals": 1, "eval_referrals": 1}
        atleast |= {"multi": 0, "zero": 0, "questions": 0, "points": 0, "shard_homes": 1, "workers": 0}
        low = [f"{name}={getattr(self, name)} (at least {least})" for name, least in atleast.items()
               if getattr(self, name) < least]  # fmt: skip
        if low:
            raise InputError(f"too small: {', '.join(low)}")

    @property
    def homes(self) -> dict[str, int]:
        return {"train": self.train_homes, "val": self.val_homes, "test": self.test_homes}

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.homes, self.source, self.seed, self.rooms_min, self.rooms_max)

    @property
    def run_folder(self) -> str:
        return f"{Path(self.out)}.run"

    def plan(self, split: str) -> TextPlan:
        """What is written about a home of a split."""
        train = split == "train"
        return TextPlan(
            referrals=self.train_referrals if train else self.eval_referrals,
            multi=self.multi,
            zero=self.zero,
            captions=self.captions,
            questions=self.questions,
            held_out=not train,
        )


CONFIG = BuildScenesConfig


@dataclass(frozen=True)
class ShardTask:
    """A stretch of a split's homes."""

    name: str
    split: str
    homes: range
    out: Path
    run_folder: Path
    cfg: BuildScenesConfig


def run(cfg: BuildScenesConfig) -> dict[str, Any]:
    """Builds the shards that are not there yet, then the manifest."""
    source = open_source(cfg.wanted, fresh=True)  # a file that does not read leaves no run folder behind
    if not sum(source.count(split) for split in SPLITS):
        raise InputError(f"source {cfg.source.name} offers no homes; see its page in docs/sources")
    out = Path(cfg.out).expanduser() if cfg.out else None
    if out and out.is_dir() and any(out.iterdir()) and not Path(cfg.run_folder).expanduser().is_dir():
        raise InputError(f"out={cfg.out} is not empty and no build of this job ({cfg.run_folder} is not there)")
    with RunFolder.open(cfg, "build-scenes") as folder:
        if (done := folder.result()) is not None:
            return done
        folder.out = cfg.out or str(folder.path / "scenes")
        return folder.finish(_build(cfg, source, folder))


def _build(cfg: BuildScenesConfig, source: HomeSource, folder: RunFolder) -> dict[str, Any]:
    out = Path(folder.out).expanduser()
    (out / MANIFEST).unlink(missing_ok=True)
    remove_temporaries(out)
    start = time.perf_counter()
    tasks = [
        ShardTask(shard_name(split, k), split, range(first, min(first + cfg.shard_homes, count)), out, folder.path, cfg)
        for split in SPLITS
        for count in [source.count(split)]
        for k, first in enumerate(range(0, count, cfg.shard_homes))
    ]
    records = {task.name: record for task in tasks if (record := _finished(task, folder)) is not None}
    missing = [task for task in tasks if task.name not in records]
    kept = sum(len(task.homes) for task in tasks) - sum(len(task.homes) for task in missing)
    folder.rewind(len(records))
    written = sum(record["texts"] for record in records.values())
    with track(sum(len(task.homes) for task in tasks), "homes") as progress:
        progress.advance(kept)
        with closing(run_tasks(build_shard, missing, cfg.workers or available_cores(), cfg.engine)) as results:
            for index, record in results:
                task = missing[index]
                atomic_write(folder.file(f"{RECORDS}/{task.name}.json"), json.dumps(record))
                records[task.name] = record
                written += record["texts"]
                spent = {name: record[name] for name in ("homes", "texts", "seconds", "cpu_seconds", "peak_memory_gb")}
                folder.log(len(records), shard=task.name, **spent)
                progress.advance(len(task.homes), texts=written)
    return _conclude(cfg, [(task, records[task.name]) for task in tasks], folder, time.perf_counter() - start)


def _finished(task: ShardTask, folder: RunFolder) -> dict[str, Any] | None:
    """The record of a shard that an earlier part of this run finished; None where it has to be written again."""
    path = folder.path / RECORDS / f"{task.name}.json"
    if not path.is_file():
        return None
    record = read_json(path, "shard record")
    fault = shard_fault(task.out, task.name, record["files"])
    if fault:
        print(f"note: {fault}; this shard is written again")
    return None if fault else record


def build_shard(task: ShardTask) -> dict[str, Any]:
    """Writes one shard and returns its record: homes, checksums, statistics. Runs in any process."""
    source = open_source(task.cfg.wanted)
    wall, processor = time.perf_counter(), time.process_time()
    numbers = Statistics()
    texts: list[Text] = []
    with ShardWriter(task.out, task.name) as shard:
        for scene in source.homes(task.split, task.homes):
            made = scene if isinstance(scene, Skipped) else _describe(scene, task)
            if isinstance(made, Skipped):
                numbers.skip(made)
                continue
            assert isinstance(scene, Scene)
            graph, points, own = made
            try:
                shard.add(scene, graph, points)
            except InputError as error:  # a name that cannot be a file's
                numbers.skip(Skipped(scene.id, str(error)))
                continue
            numbers.add(scene, graph, ())
            texts += own
        texts, rewrites = _reworded(texts, task)
        for text in texts:
            numbers.add_text(text)
        shard.tables(texts_to_table(texts))
    return {
        "homes": len(numbers.ids),
        "texts": len(texts),
        "files": shard.files,
        "statistics": numbers.to_json(),
        "rewrites": rewrites,
        "seconds": round(time.perf_counter() - wall, 3),
        "cpu_seconds": round(time.process_time() - processor, 3),
        "process": os.getpid(),
        "peak_memory_gb": peak_memory_gb(),
    }


def _describe(scene: Scene, task: ShardTask) -> tuple[SceneGraph, dict[str, np.ndarray], list[Text]] | Skipped:
    """Graph, points and texts of a home, drawn from a stream of its own: other homes do not change them."""
    own = zlib.crc32(scene.id.encode())
    try:
        graph = build_graph(scene)
        points = with_points(scene, task.cfg.points, own)
        texts = write_texts(scene, graph, task.cfg.plan(task.split), np.random.default_rng([task.cfg.seed, own]))
    except InputError as error:
        return Skipped(scene.id, str(error))
    if not texts:
        return Skipped(scene.id, f"none of its {len(scene.objects)} objects can be told apart by a sentence")
    return graph, points, texts


def _reworded(texts: list[Text], task: ShardTask) -> tuple[list[Text], dict[str, Any]]:
    """The texts with verified rewrites of a language model where one is named, and what became of the sentences."""
    cfg = task.cfg.rephrase
    if not cfg.model:
        return texts, {}
    from scene.rephrase import rephrase

    places = [place for place, text in enumerate(texts) if isinstance(text, Referral)]
    sentences = [text for text in texts if isinstance(text, Referral)]
    reworded, counts = rephrase(
        sentences,
        _generator(task),
        labels={noun.label for text in sentences for noun in Query.from_json(text.query).nouns()},
        held_out=HELD_OUT_SYNONYMS if task.split == "train" else (),
        seed=task.cfg.seed,
        max_tokens=cfg.max_tokens,
        temperature=cfg.temperature,
    )
    texts = list(texts)
    for place, text in zip(places, reworded):
        texts[place] = text
    return texts, counts.summary()


def _generator(task: ShardTask) -> Generator:
    """The language model of this process; answers are kept in the run folder unless another cache is named."""
    cfg = task.cfg.rephrase
    cfg = replace(cfg, cache=cfg.cache or str(task.run_folder / "answers"))
    key = repr(cfg)
    if key not in _generators:
        _generators.clear()
        _generators[key] = load_generator(cfg)
    return _generators[key]


_generators: dict[str, Generator] = {}


def _dataset(source: SourceConfig) -> str:
    """Which of its several datasets a source was read from; empty for a source that is one."""
    if source.name != "sceneverse":
        return ""
    from scene.datasets.sceneverse import dataset_of

    return dataset_of(source.path, source.dataset)


def _conclude(
    cfg: BuildScenesConfig, shards: list[tuple[ShardTask, dict[str, Any]]], folder: RunFolder, seconds: float
) -> dict[str, Any]:
    """Manifest, statistics page and the result."""
    out = Path(folder.out).expanduser()
    statistics = {split: Statistics() for split in SPLITS}
    index: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for task, record in shards:
        statistics[task.split].merge(Statistics.from_json(record["statistics"]))
        index[task.split].append({"name": task.name, "homes": record["homes"], "files": record["files"]})
    ids = [scene_id for numbers in statistics.values() for scene_id in numbers.ids]
    if not ids:
        reasons = [f"{name}: {why}" for numbers in statistics.values() for name, why in numbers.skipped]
        raise InputError(f"no home is left: {'; '.join(reasons[:3])}")
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise InputError(f"two homes are called {twice!r}; the source has to name each home once")
    filled = {split: numbers for split, numbers in statistics.items() if numbers.ids}
    goals = filled.get("train", next(iter(filled.values()))).labels
    procedural = cfg.source.name == "procedural"
    save_manifest(
        out,
        {
            "source": cfg.source.name,
            "dataset": _dataset(cfg.source),
            "seed": cfg.seed,
            "code": describe_version()["code"],
            "splits": {split: numbers.ids for split, numbers in statistics.items()},
            "shards": index,
            "counts": {
                split: {
                    "homes": len(numbers.ids),
                    "objects": numbers.total_objects,
                    "texts": numbers.texts,
                    "relations": numbers.relations.total(),
                }
                for split, numbers in statistics.items()
            },
            "palette": {name: list(rgb) for name, rgb in PALETTE.items()},
            "goal_labels": [label for label in GOAL_LABELS if goals[label]],
            "goal_colors": list(GOAL_COLORS),
            "heldout_pairs": [list(pair) for pair in HELD_OUT_PAIRS] if procedural else [],
        },
    )
    result: dict[str, Any] = {split: numbers.summary() for split, numbers in filled.items()}
    result["overlap"] = overlaps(filled)
    if cfg.rephrase.model:
        result["rewrites"] = _added([record["rewrites"] for _, record in shards])
    result["seconds"] = round(seconds, 2)
    result["cpu_seconds"] = round(sum(record["cpu_seconds"] for _, record in shards), 2)
    result["peak_memory_gb"] = round(_peak_memory_gb([record for _, record in shards]), 3)
    atomic_write(folder.file("statistics.html"), statistics_page(filled, f"Corpus {out.name}"))
    for split, numbers in filled.items():
        counted = ", ".join(f"{count} {name}s" for name, count in numbers.texts.items())
        skipped = f"; {numbers.reasons.total()} homes left out" if numbers.reasons else ""
        print(f"{split}: {len(numbers.ids)} homes, {counted}{skipped}")
    for split, shares in result["overlap"].items():
        shown = ", ".join(f"{share:.1%} of the {name}s" for name, share in shares.items())
        print(f"{split}: word for word in training, too: {shown}")
    print(f"scenes are in {out}; statistics: {folder.path / 'statistics.html'}")
    return result


def _added(counts: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts of several shards as one; counts by cause are dicts."""
    total: dict[str, Any] = {}
    for part in counts:
        for name, value in part.items():
            total[name] = (
                _added([total.get(name, {}), value]) if isinstance(value, dict) else total.get(name, 0) + value
            )
    return total


def _peak_memory_gb(records: list[dict[str, Any]]) -> float:
    """This process's largest resident size and those of its workers, added up as if they had come at one time."""
    by_process = {os.getpid(): peak_memory_gb()}
    for record in records:
        own = record["process"]
        by_process[own] = max(by_process.get(own, 0.0), record["peak_memory_gb"])
    return sum(by_process.values())


if __name__ == "__main__":
    job_main("build-scenes")
