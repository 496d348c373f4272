"""How far sentences go without a trained grounder: python -m benchmarks.baselines [--embedder FOLDER] [--out FOLDER]

Sentences of all kinds are generated for unseen homes with held-out language allowed, as for val and test. Read: the
share whose resolution by the symbolic parser equals the targets, by kind, none and several included; then the expected
accuracy of each baseline of scene/baselines.py on those with one target; with an embedder, of its crops as well.
The parser asks the rules that made the sentences true, so its figure says how much of the language it inverts and
nothing about sentences of people.
"""

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.homes import procthor_houses
from benchmarks.scenes import machine
from core.files import atomic_write
from core.intervals import grouped_rate
from scene.baselines import BASELINES, Asked, baseline_scores, expected_accuracy, fitting
from scene.crops import CropScorer
from scene.datasets.procedural import load as procedural
from scene.datasets.procthor import load as procthor
from scene.graph import build_graph, candidates
from scene.language import TextPlan, write_texts
from scene.texts import Referral
from scene.types import Scene
from vl.embedder import load_embedder

FIRST_HOME: Final = 900_000  # far from the homes that corpora are built of
PLAN: Final = TextPlan(captions=False, questions=0, held_out=True)


def measure(scenes: Iterable[Scene], crops: CropScorer | None = None) -> str:
    """Both tables, as Markdown.

    Args:
        crops: a 2D embedder that is measured as well.
    """
    asked_of: Counter[str] = Counter()
    right_of: Counter[str] = Counter()
    hits: dict[str, list[float]] = defaultdict(list)
    homes: list[str] = []
    failed: list[str] = []
    seconds = 0.0
    for scene in scenes:
        graph = build_graph(scene)
        for said in write_texts(scene, graph, PLAN, np.random.default_rng(1)):
            assert isinstance(said, Referral), "the plan asks for nothing else"
            asked = Asked(scene, graph, said.utterance, tuple(candidates(scene, said.room)), said.targets)
            started = time.perf_counter()
            found = fitting(asked, baseline_scores("symbolic parser", asked))
            seconds += time.perf_counter() - started
            asked_of[said.kind] += 1
            right_of[said.kind] += found == set(said.targets)
            if found != set(said.targets):
                failed.append(f"- {scene.id}: {said.utterance}")
            if len(said.targets) == 1:
                homes.append(scene.id)
                right = np.array([i in said.targets for i in asked.ids])
                scores = {name: baseline_scores(name, asked) for name in BASELINES}
                if crops is not None:
                    scores["crops"] = crops.scores(scene, asked.ids, [said.utterance])[0].numpy()
                for name, values in scores.items():
                    hits[name].append(expected_accuracy(values, right))
    lines = [f"{asked_of.total()} sentences; {1e3 * seconds / asked_of.total():.2f} ms each.", ""]
    lines += ["| kind | sentences | resolved to exactly the targets |", "|---|---|---|"]
    lines += [f"| {kind} | {n} | {right_of[kind] / n:.1%} |" for kind, n in sorted(asked_of.items())]
    lines += [f"| all | {asked_of.total()} | {right_of.total() / asked_of.total():.1%} |", "", *failed[:20]]
    lines += [
        "",
        f"| baseline, {len(homes)} sentences with one target | expected accuracy | 95 % over homes |",
        "|---|---|---|",
    ]
    for name, shares in hits.items():
        low, high = grouped_rate(np.array(shares), homes)
        lines.append(f"| {name} | {np.mean(shares):.1%} | {low:.1%} - {high:.1%} |")
    if crops is not None:
        lines += ["", f"Crops: {crops.views} pictures an object, {crops.seconds_per_object:.3f} s an object, "
                  f"{len(crops.unread)} sentences not read."]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--homes", type=int, default=60, help="procedural homes")
    parser.add_argument("--embedder", default="", help="two-tower, CLIP or SigLIP folder for the crops")
    parser.add_argument("--out", default="", help="folder for baselines.md")
    args = parser.parse_args()
    command = f"python -m benchmarks.baselines{' --embedder FOLDER' if args.embedder else ''}"
    told = f"Command: `{command}`. Machine: {machine()}. Date: {date.today().isoformat()}."
    parts = ["# Baselines of grounding", told]
    for name, scenes in (
        ("Procedural homes", procedural(range(FIRST_HOME, FIRST_HOME + args.homes))),
        ("ProcTHOR houses", procthor(procthor_houses())),
    ):
        crops = CropScorer(load_embedder(args.embedder)) if args.embedder else None
        parts += [f"## {name}", measure(scenes, crops)]
    report = "\n\n".join(parts) + "\n"
    print(report)
    if args.out:
        atomic_write(Path(args.out) / "baselines.md", report)


if __name__ == "__main__":
    main()
