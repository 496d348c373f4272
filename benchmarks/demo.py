"""The demo's targets over several training seeds: python -m benchmarks.demo RUN... [--out TABLE.md]

Reads the result.json of finished `sightline demo` runs that differ in their seed alone, writes mean and 95 % interval
over seeds (Student's t), and ends with one line per target; exit 1 when one is short. The runs come from
benchmarks/demo.sh.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.verdict import judged
from core.files import atomic_write, read_json
from core.intervals import t_interval

Result = dict[str, Any]
STRICT = ("_above_right_class", "_above_random")  # touching intervals are not apart
SOURCES = {"procedural": "generated homes", "procthor": "ProcTHOR houses"}
HOUSES = [
    "",
    "The target of 50 homes for retrieval cannot be met: the file holds 9 houses to test on. ProcTHOR assets carry no "
    "colour, so each is given one by its name; the same asset has the same colour in training and test houses, and no "
    "pair of colour and class is held out.",
]
MAY_DIFFER = ("seed", "out", "stages", "resume", "wandb")


@dataclass(frozen=True)
class Quantity:
    """One line of the table, read from a run's results by stage."""

    name: str
    read: Callable[[Result], float]
    digits: int = 3


def _success(stage: str) -> Callable[[Result], float]:
    return lambda r: r[stage]["metrics"]["success"]["mean"]


def _spl(stage: str) -> Callable[[Result], float]:
    return lambda r: r[stage]["metrics"]["spl"]["mean"]


def _auc(reward: str, goals: str, other: str) -> Callable[[Result], float]:
    return lambda r: r["reward-test"]["table"][reward][goals][other]["auc"]


def _headline(r: Result) -> str:
    return f"alpha {r['reward-test']['alpha']:g}"


def _retrieval(model: str, measure: str, subset: str = "all") -> Callable[[Result], float]:
    def read(r: Result) -> float:
        rows = r["retrieval-test"]["table"]
        wanted = (model, "text to view", subset)
        return next(row[measure] for row in rows if (row["model"], row["direction"], row["subset"]) == wanted)

    return read


QUANTITIES = [
    Quantity("grounding accuracy", lambda r: r["grounding-test"]["accuracy"]),
    Quantity("grounding: chance", lambda r: r["grounding-test"]["chance"]),
    Quantity("grounding: right class, random among them", lambda r: r["grounding-test"]["label"]),
    Quantity("grounding: right class and colour, random among them", lambda r: r["grounding-test"]["label_color"]),
    Quantity("grounding: same model, no sentence", lambda r: r["grounding-test"]["no_text"]),
    Quantity("text-to-view R@1", _retrieval("model", "R@1")),
    Quantity("text-to-view R@5", _retrieval("model", "R@5")),
    Quantity("text-to-view R@1: random weights", _retrieval("random weights", "R@1")),
    Quantity("text-to-view R@1: chance", lambda r: 1 / r["retrieval-test"]["queries"]),
    Quantity("reward AUC, goal near / not in view", lambda r: _auc(_headline(r), "all pairs", "absent")(r)),
    Quantity("reward AUC, goal near / in view but farther", lambda r: _auc(_headline(r), "all pairs", "far")(r)),
    Quantity("reward AUC, near / not in view: random weights", _auc("random weights", "all pairs", "absent")),
    Quantity("success: random actions", _success("random-test")),
    Quantity("success: PPO, reward from the two towers", _success("agent-vlm-test")),
    Quantity("success: PPO, task reward", _success("agent-task-test")),
    Quantity("success: shortest path (knows the map)", _success("oracle-test")),
    Quantity("SPL: random actions", _spl("random-test")),
    Quantity("SPL: PPO, reward from the two towers", _spl("agent-vlm-test")),
    Quantity("SPL: PPO, task reward", _spl("agent-task-test")),
    Quantity("SPL: shortest path", _spl("oracle-test")),
]
SEEN_APART = [
    Quantity("reward AUC, near / not in view, pairs seen in training",
             lambda r: _auc(_headline(r), "seen pairs", "absent")(r)),
    Quantity("reward AUC, near / not in view, held-out colour x class pairs",
             lambda r: _auc(_headline(r), "held-out pairs", "absent")(r)),
]  # fmt: skip


def check_alike(runs: Sequence[Path]) -> tuple[list[int], str]:
    """The runs' training seeds and their source, after making sure that they differ in their seeds alone."""
    configs = [yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")) for folder in runs]
    for folder, config in zip(runs, configs):
        differing = [k for k in config if k not in MAY_DIFFER and config[k] != configs[0].get(k)]
        if differing:
            sys.exit(f"{folder} differs from {runs[0]} in {', '.join(differing)}: not seeds of one experiment")
    return [config["seed"] for config in configs], configs[0]["source"]["name"]


def targets(results: Sequence[Result]) -> list[tuple[str, float, float]]:
    """(name, value, at least) of each target; every seed counts with its worst where intervals must not touch."""

    def mean(quantity: Callable[[Result], float]) -> float:
        return float(np.mean([quantity(r) for r in results]))

    def gap(stage: str) -> float:
        """Lower end of the agent's interval less the upper end of the random policy's, in the worst seed."""
        return min(
            r[stage]["metrics"]["success"]["interval"][0] - r["random-test"]["metrics"]["success"]["interval"][1]
            for r in results
        )

    return [
        ("grounding_over_chance", mean(lambda r: r["grounding-test"]["accuracy"] / r["grounding-test"]["chance"]), 3.0),
        (
            "grounding_interval_above_right_class",
            min(r["grounding-test"]["interval"][0] - r["grounding-test"]["label"] for r in results),
            0.0,
        ),
        ("retrieval_R@1", mean(_retrieval("model", "R@1")), 0.05),
        ("retrieval_views", min(r["retrieval-test"]["queries"] for r in results), 500),
        ("retrieval_homes", min(r["retrieval-test"]["homes"] for r in results), 50),
        ("reward_auc", mean(lambda r: _auc(_headline(r), "all pairs", "absent")(r)), 0.85),
        ("episodes", min(r["agent-vlm-test"]["episodes"] for r in results), 300),
        ("task_agent_interval_above_random", gap("agent-task-test"), 0.0),
        ("vlm_agent_interval_above_random", gap("agent-vlm-test"), 0.0),
        (
            "vlm_agent_over_task_agent",
            mean(_success("agent-vlm-test")) / max(mean(_success("agent-task-test")), 1e-9),
            0.5,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished demo runs")
    parser.add_argument("--out", type=Path, help="write the table there")
    parser.add_argument("--note", default="", help="a sentence put above the table")
    args = parser.parse_args()
    runs: list[Path] = args.runs
    unfinished = [str(folder) for folder in runs if not (folder / "result.json").is_file()]
    if unfinished:
        sys.exit(f"no finished demo run in {', '.join(unfinished)}")
    whole = [read_json(folder / "result.json", "demo result") for folder in runs]
    results = [item["results"] for item in whole]
    version = read_json(runs[0] / "version.json", "version record")
    seeds, source = check_alike(runs)
    codes = sorted({code for item in whole for code in item["code"].values()})
    minutes = [sum(item["seconds"].values()) / 60 for item in whole]
    memory = [item["peak_memory_gb"] for item in whole]

    apart = SEEN_APART if "held-out pairs" in results[0]["reward-test"]["table"][_headline(results[0])] else []
    lines = ["| on homes never seen | mean | 95 % interval over seeds | each seed |", "|---|---|---|---|"]
    for quantity in [*QUANTITIES, *apart]:
        values = [quantity.read(r) for r in results]
        low, high = t_interval(values)
        d = quantity.digits
        each = ", ".join(f"{value:.{d}f}" for value in values)
        lines.append(f"| {quantity.name} | {np.mean(values):.{d}f} | {low:.{d}f} to {high:.{d}f} | {each} |")
    verdicts = []
    for name, value, least in [("seeds", len(set(seeds)), 3), *targets(results)]:
        reached = value > least if name.endswith(STRICT) else value >= least
        sign = ">" if name.endswith(STRICT) else ">="
        verdicts.append(f"{name} {value:.4g} (target {sign} {least:g}) {'ok' if reached else 'SHORT'}")
    first = results[0]
    text = "\n".join(
        [
            f"# Demo, full preset, {SOURCES[source]}",
            "",
            *([args.note, ""] if args.note else []),
            f"Command: `benchmarks/demo.sh`, then `python -m benchmarks.demo {' '.join(map(str, runs))}`. "
            f"Training seeds {', '.join(map(str, seeds))}; homes, views and test episodes are the same for all. "
            f"{time.strftime('%Y-%m-%d')}, {version['platform']}, {version['threads']} thread(s) a run, "
            f"torch {version['torch']}, Python {version['python']}, code {' and '.join(codes)}.",
            f"Stages took {', '.join(f'{m:.1f}' for m in minutes)} minutes (benchmarks/demo.sh: two side by side) "
            f"and at most {max(memory):.1f} GB.",
            "",
            f"Test homes: {first['homes']['test']['homes']}, {first['grounding-test']['sentences']} sentences; "
            f"{first['retrieval-test']['queries']} views of {first['retrieval-test']['homes']} homes; "
            f"{first['reward-test']['frames']} frames; {first['random-test']['episodes']} episodes per policy. "
            "The two towers are an in-domain VLM: they are trained on rendered views of the training homes.",
            *(HOUSES if source == "procthor" else []),
            "",
            *lines,
            "",
            "Targets (`python -m benchmarks.demo`):",
            "",
            *(f"    {verdict}" for verdict in verdicts),
            "",
        ]
    )
    if args.out:
        atomic_write(args.out, text)
        print(f"table: {args.out}")
    print(text if not args.out else "\n".join(verdicts))
    if any(verdict.endswith("SHORT") for verdict in verdicts):
        sys.exit(1)


if __name__ == "__main__":
    judged(main)
