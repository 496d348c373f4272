"""The table of decomposers on ALFRED: python -m benchmarks.decomposer RUNS [--out FILE]

Reads what benchmarks/decomposer.sh left in RUNS. A baseline's interval is over tasks, 95 %; the decomposer's figures
are means over seeds with Student's t, its intervals over tasks stand beside them for the first seed.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agents.subgoals.evaluate_decomposer import MODEL
from agents.subgoals.step_metrics import METRICS
from benchmarks.arms import facts, spread
from core.errors import InputError
from core.files import atomic_write, read_json

ARMS: Final = {
    "beam": "decomposer, beam of 4",
    "greedy": "decomposer, greedy",
    "free": "decomposer, greedy, without the grammar",
}

SEEDS: Final = 3
"""Of a finished table."""


@dataclass
class Measured:
    """Evaluations of one way of writing, a seed each."""

    seeds: list[int] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)


def measured(runs: Path, arm: str) -> Measured:
    """The finished evaluations of an arm."""
    found = Measured()
    for file in sorted(runs.glob(f"{arm}-*/result.json")):
        found.seeds.append(int(file.parent.name.rpartition("-")[2]))
        found.results.append(read_json(file, "result"))
        found.versions.append(read_json(file.parent / "version.json", "version"))
    return found


def cell(figure: dict[str, float], digits: int = 1) -> str:
    """A share in percent with its interval."""
    value, low, high = (100 * figure[name] for name in ("value", "low", "high"))
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def rows(arms: dict[str, Measured], part: str, metrics: Sequence[str] = METRICS) -> str:
    """Methods by figures over one part of the goals."""
    lines = [f"| method | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
    baselines = arms["beam"].results[0]["methods"]
    for name, parts in baselines.items():
        if name != MODEL:
            lines.append(f"| {name} | {' | '.join(cell(parts[part][m]) for m in metrics)} |")
    for arm, found in arms.items():
        if found.results:
            cells = [spread([r["methods"][MODEL][part][m]["value"] for r in found.results]) for m in metrics]
            lines.append(f"| {ARMS[arm]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def kinds(found: Measured) -> str:
    """Exact plans and edit similarity by kind of task."""
    first = found.results[0]
    names = [name for name in first["methods"] if name != MODEL] + [MODEL]
    lines = [f"| kind (goals) | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for part, count in first["parts"].items():
        if part not in ("all", "new tasks"):
            cells = []
            for name in names:
                pairs = [[r["methods"][name][part][m]["value"] for r in found.results] for m in ("exact", "edit")]
                cells.append(" / ".join(f"{100 * sum(values) / len(values):.1f}" for values in pairs))
            lines.append(f"| {part.replace('_', ' ')} ({count}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def page(runs: Path) -> str:
    """The whole page."""
    arms = {arm: measured(runs, arm) for arm in ARMS}
    beam, trained = arms["beam"], measured(runs, "train")
    if not beam.results or not trained.results:
        raise InputError(f"{runs} holds no finished evaluation; run benchmarks/decomposer.sh first")
    first, training = beam.results[0], trained.results[0]
    over = "; ".join(f"seed {seed} {cell(r['over_retrieval']['exact'])} exact, {cell(r['over_retrieval']['edit'])} edit"
                     for seed, r in zip(beam.seeds, beam.results))  # fmt: skip
    alone = first["methods"][MODEL]["all"]
    short = f"**Unfinished: {len(beam.seeds)} of {SEEDS} seeds.**\n\n" if len(beam.seeds) < SEEDS else ""
    ran, seconds = facts([*arms.values(), trained]), [r["seconds"] for r in trained.results]
    words = first["words"]
    return f"""# Steps of household tasks from people's goals

{short}`benchmarks/decomposer.sh`, {time.strftime("%Y-%m-%d")}, seed(s) {", ".join(map(str, beam.seeds))}. {ran}
Training: {training["steps"]} updates, {sum(seconds) / len(seconds):.0f} seconds a seed, on a machine that did other
things as well.

ALFRED's `{first["file"]}`: {first["goals"]} goals that people wrote for {first["demonstrations"]} demonstrations of
{first["tasks"]} tasks ({len(first["dropped"])} left out: a step about a thing without a name). Learned from
{training["train_goals"]} goals and {training["train_instructions"]} step instructions of the training sample;
{training["val_goals"]} goals of held-out tasks of that sample chose the weights. The baselines learn from the
same goals. {first["goals_known_word_for_word"]} of the goals asked stand word for word in training.
{training["parameters"]:,} parameters, {training["words"]} words, {training["tokens"]} tokens of steps.

Percent. Baselines: 95 % intervals over tasks. Decomposer: mean over seeds, Student's t. exact: all steps alike;
interactions: alike without the walks, whose places goals seldom say; actions: kinds of steps alike; prefix: share right
from the start on; edit: 1 - normalised edit distance; f1: of steps in any order.

## All goals

{rows(arms, "all")}

Over tasks, the decomposer of seed {beam.seeds[0]}: {cell(alone["exact"])} exact, {cell(alone["edit"])} edit. Over the
nearest goal, on the same goals, intervals over tasks: {over}.

## Goals of tasks that training has not ({first["parts"]["new tasks"]})

{rows(arms, "new tasks")}

## By kind of task: exact / edit

{kinds(beam)}

## Words of steps

F1 of words with each of {words["instructions"]} instructions that people wrote, for the true steps: phrases chosen from
training {cell(words["phrases"])}, plain words {cell(words["plain"])}. Walks are said in plain words by both.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    text = page(words.runs)
    if words.out:
        atomic_write(words.out, text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
