"""Job build-scenes: homes, their graphs and sentences that each mean one object.

The run folder itself is what the other jobs take as `scenes=`: `<id>.npz` and `<id>.json` per home (scene/io.py),
`referrals/{train,val,test}.parquet` (scene/language.py), and `manifest.json`, which is written last: a folder that has
one is whole. A home that cannot be read or has nothing to say is left out, named and counted in result.json. The same
source and seed give the same files; a killed run is built anew by resume=auto.
"""

import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.errors import InputError
from core.job import JobConfig, job_main
from core.progress import track
from core.run import RunFolder
from scene.corpus import SOURCES, HomeSource, Skipped, SourceConfig, Wanted
from scene.graph import SceneGraph, build_graph
from scene.io import MANIFEST, save_manifest, save_scene
from scene.language import Referral, generate_referrals, save_referrals
from scene.palette import GOAL_COLORS, GOAL_LABELS, HELD_OUT_PAIRS, PALETTE
from scene.types import Scene

SPLITS = ("train", "val", "test")


@dataclass
class BuildScenesConfig(JobConfig):
    """Homes with sentences: sightline build-scenes out=runs/scenes"""

    source: SourceConfig = field(default_factory=SourceConfig)  # where homes come from
    train_homes: int = 200  # homes of the train split; procthor: at most, of those in the file
    val_homes: int = 40  # homes to tune on; procthor: at most, the last five of the file's train split
    test_homes: int = 60  # homes to report on; procthor: at most, the file's val split
    train_referrals: int = 60  # sentences per train home, at most
    eval_referrals: int = 20  # sentences per val and test home, at most
    rooms_min: int = 1  # rooms per procedural home, from
    rooms_max: int = 2  # rooms per procedural home, to

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = {name: getattr(self, name) for name in ("train_homes", "val_homes", "test_homes")}
        counts |= {name: getattr(self, name) for name in ("train_referrals", "eval_referrals")}
        low = [f"{name}={count}" for name, count in counts.items() if count < 1]
        if low:
            raise InputError(f"{', '.join(low)}: give at least 1")

    @property
    def homes(self) -> dict[str, int]:
        return {"train": self.train_homes, "val": self.val_homes, "test": self.test_homes}


CONFIG = BuildScenesConfig


def run(cfg: BuildScenesConfig) -> dict[str, Any]:
    """Builds the splits one after the other."""
    source = _source(cfg)  # a file that does not read leaves no run folder behind
    with RunFolder.open(cfg, "build-scenes") as folder:
        done = folder.result()
        return done if done is not None else folder.finish(_build(cfg, source, folder))


def _build(cfg: BuildScenesConfig, source: HomeSource, folder: RunFolder) -> dict[str, Any]:
    """Fills the folder and returns the statistics."""
    folder.rewind(0)
    (folder.path / MANIFEST).unlink(missing_ok=True)
    start = time.perf_counter()
    splits: dict[str, list[str]] = {}
    statistics: dict[str, Statistics] = {}
    for step, split in enumerate(SPLITS, start=1):
        per_home = cfg.train_referrals if split == "train" else cfg.eval_referrals
        numbers = Statistics()
        referrals: list[Referral] = []
        with track(source.count(split), f"homes of {split}") as progress:
            for scene in source.homes(split):
                made = scene if isinstance(scene, Skipped) else _describe(scene, per_home, cfg.seed)
                if isinstance(made, Skipped):
                    numbers.skipped.append(made)
                else:
                    graph, sentences = made
                    assert isinstance(scene, Scene)
                    save_scene(scene, folder.path)
                    referrals += sentences
                    numbers.add(scene, graph, sentences)
                progress.advance(sentences=len(referrals))
        if not numbers.ids:
            reasons = "; ".join(f"{item.name}: {item.reason}" for item in numbers.skipped[:3]) or "it offers none"
            raise InputError(f"no home left for the split {split!r}: {reasons}")
        save_referrals(folder.file(f"referrals/{split}.parquet"), referrals)
        splits[split], statistics[split] = numbers.ids, numbers
        folder.log(step, split=split, homes=len(numbers.ids), referrals=len(referrals))

    procedural = cfg.source.name == "procedural"
    goal_labels = [label for label in GOAL_LABELS if statistics["train"].labels[label]]
    if not goal_labels:
        raise InputError(f"no train home has anything an agent can be sent to: {', '.join(GOAL_LABELS)}")
    save_manifest(
        folder.path,
        {
            "source": cfg.source.name,
            "seed": cfg.seed,
            "splits": splits,
            "palette": {name: list(rgb) for name, rgb in PALETTE.items()},
            "goal_labels": goal_labels,
            "goal_colors": list(GOAL_COLORS),
            "heldout_pairs": [list(pair) for pair in HELD_OUT_PAIRS] if procedural else [],
        },
    )
    result: dict[str, Any] = {split: numbers.summary() for split, numbers in statistics.items()}
    result["seconds"] = round(time.perf_counter() - start, 2)
    for split, numbers in result.items():
        if isinstance(numbers, dict):
            skipped = f", {numbers['skipped']} left out" if numbers["skipped"] else ""
            print(f"{split}: {numbers['homes']} homes, {numbers['referrals']} sentences{skipped}")
    print(f"scenes are in {folder.path}")
    return result


def _source(cfg: BuildScenesConfig) -> HomeSource:
    wanted = Wanted(cfg.homes, cfg.source, cfg.seed, cfg.rooms_min, cfg.rooms_max)
    return SOURCES[cfg.source.name](wanted)


def _describe(scene: Scene, n: int, seed: int) -> tuple[SceneGraph, list[Referral]] | Skipped:
    """Graph and sentences of a home, from a random stream of its own: other homes do not change them."""
    try:
        graph = build_graph(scene)
        referrals = generate_referrals(scene, graph, n, np.random.default_rng([seed, zlib.crc32(scene.id.encode())]))
    except InputError as error:
        return Skipped(scene.id, str(error))
    if not referrals:
        return Skipped(scene.id, f"none of its {len(scene.objects)} objects can be told apart by a sentence")
    return graph, referrals


@dataclass
class Statistics:
    """Counts of one split."""

    ids: list[str] = field(default_factory=list)
    objects: list[int] = field(default_factory=list)  # per home
    labels: Counter[str] = field(default_factory=Counter)  # objects of each class
    kinds: Counter[str] = field(default_factory=Counter)  # sentences of each kind
    relations: Counter[str] = field(default_factory=Counter)  # graph edges of each relation
    view_dependent: int = 0
    hard: int = 0  # sentences whose target has a rival of its class in its room
    rivals: int = 0  # over all sentences: things of the target's class in its room, itself included
    skipped: list[Skipped] = field(default_factory=list)

    def add(self, scene: Scene, graph: SceneGraph, referrals: list[Referral]) -> None:
        self.ids.append(scene.id)
        self.objects.append(len(scene.objects))
        self.labels.update(scene.labels)
        self.kinds.update(referral.kind for referral in referrals)
        self.relations.update(edge.relation.value for edge in graph.edges)
        self.view_dependent += sum(referral.view_dependent for referral in referrals)
        self.hard += sum(referral.n_same_class > 1 for referral in referrals)
        self.rivals += sum(referral.n_same_class for referral in referrals)

    def summary(self) -> dict[str, Any]:
        """Plain numbers for result.json."""
        sentences = self.kinds.total()
        return {
            "homes": len(self.ids),
            "objects": sum(self.objects),
            "objects_per_home": {
                "mean": round(float(np.mean(self.objects)), 1),
                "min": min(self.objects),
                "max": max(self.objects),
            },
            "classes": len(self.labels),
            "referrals": sentences,
            "referrals_by_kind": dict(sorted(self.kinds.items())),
            "view_dependent": self.view_dependent,
            "with_distractors": round(self.hard / sentences, 3),
            "mean_same_class": round(self.rivals / sentences, 2),
            "relations": dict(sorted(self.relations.items())),
            "skipped": len(self.skipped),
            "skipped_reasons": {item.name: item.reason for item in self.skipped},
        }


if __name__ == "__main__":
    job_main("build-scenes")
