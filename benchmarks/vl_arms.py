"""The tables of vision-language arms: python -m benchmarks.vl_arms RUNS [--out TABLE.md]

Reads what benchmarks/vl_arms.sh left in RUNS: which towers may stay frozen in pretraining, what a one-tower model
should start from, and what each objective and bridges add. Two intervals stand beside each mean: over training seeds
(Student's t on the seeds' means), and over homes or sentences (bootstrap of whole groups, the seeds' mean of each
query). Arms are compared query by query, over groups again.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as parquet
from jaxtyping import Float
from numpy import ndarray

from benchmarks.agents import show
from benchmarks.arms import facts, spread
from core.errors import InputError
from core.files import read_json
from core.intervals import grouped_mean

FREEZING: Final = {
    "none": "nothing frozen",
    "text": "text tower frozen",
    "vision": "image tower frozen",
    "both": "both towers frozen",
    "scratch": "random start, nothing frozen",
}
ONE_TOWER: Final = {
    "one-text": "one tower from the text encoder",
    "one-vision": "one tower from the image encoder",
    "one-random": "one tower at random",
}
LADDER: Final = {
    "itc": "ITC",
    "itc-itm": "ITC + ITM",
    "none": "ITC + ITM + MLM",
    "bridges": "ITC + ITM + MLM, bridges",
}
BLIND: Final = {"blind": "blind: grey pictures in training and test"}
PAIRS: Final = {
    "freezing": (("text", "none"), ("vision", "none"), ("both", "none"), ("none", "scratch")),
    "one tower": (("one-text", "one-random"), ("one-vision", "one-random"), ("one-random", "none")),
    "objectives": (("itc-itm", "itc"), ("none", "itc-itm"), ("bridges", "none")),
    "seeing": (("none", "blind"),),
}
BATCH: Final = 64
"""Pairs of an update, as benchmarks/vl_arms.sh sets it."""


@dataclass
class Arm:
    """One arm, all its seeds on the same queries."""

    hits: Float[ndarray, "S n"]
    """Seeds, queries: whether each was answered right."""
    groups: list[str]
    """The home or sentence of each query."""
    results: list[dict[str, Any]]  # of the evaluation, one a seed
    reranked: list[dict[str, Any]]  # of the evaluation with a shortlist ranked again, where there is a fusion
    training: list[list[dict[str, Any]]]  # of the jobs before it, a list a seed
    versions: list[dict[str, Any]]
    timed: dict[str, Any] | None = None  # of a few updates with nothing beside them on the machine


def beside(folder: Path, stage: str) -> Path:
    """The result of another run of the same arm and seed."""
    return folder.with_name(f"{folder.name}-{stage}") / "result.json"


def read_arm(root: Path, part: str, name: str, stages: Sequence[str]) -> Arm:
    """All seeds of an arm.

    Raises:
        InputError: none is finished, or the seeds met different queries.
    """
    folders = [root / f"{part}-{name}-{seed}" for seed in range(100)]
    folders = [folder for folder in folders if (folder / "result.json").is_file()]
    if not folders:
        raise InputError(f"no finished evaluation of {name} on {part} in {root}; run benchmarks/vl_arms.sh")
    hits, keys, groups = [], [], []
    for folder in folders:
        if part == "views":
            table = parquet.read_table(folder / "retrieval.parquet").to_pydict()
            hits.append(np.array(table["rank"]) == 1)
            keys.append(list(zip(table["query"], table["view"])))
            groups.append(table["scene_id"])
        else:
            table = parquet.read_table(folder / "predictions.parquet").to_pydict()
            hits.append(np.array([said == label for said, label in zip(table["prediction"], table["label"])]))
            keys.append(table["id"])
            groups.append(table["group"])
    if any(key != keys[0] for key in keys):
        raise InputError(f"the seeds of {name} on {part} met different queries; run benchmarks/vl_arms.sh anew")
    before = [[beside(folder, stage).parent for stage in stages] for folder in folders]
    return Arm(
        np.array(hits, dtype=float),
        groups[0],
        [read_json(folder / "result.json", "evaluation") for folder in folders],
        [read_json(file, "evaluation") for folder in folders if (file := beside(folder, "reranked")).is_file()],
        [[read_json(stage / "result.json", "training") for stage in row] for row in before],
        [
            read_json(folder / "version.json", "version")
            for row, last in zip(before, folders)
            for folder in (*row, last)
        ],
        read_json(timing, "timing") if (timing := root / f"{part}-{name}-timing" / "result.json").is_file() else None,
    )


def read_arms(root: Path, part: str, names: Iterable[str], stages: Sequence[str]) -> dict[str, Arm]:
    """The finished arms of one part; what is not finished is named on stderr.

    Raises:
        InputError: arms met different queries.
    """
    arms = {}
    for name in names:
        try:
            arms[name] = read_arm(root, part, name, stages)
        except InputError as error:
            print(f"left out: {error}", file=sys.stderr)
    if any(arm.groups != next(iter(arms.values())).groups for arm in arms.values()):
        raise InputError(f"the arms on {part} met different queries; run benchmarks/vl_arms.sh anew")
    return arms


def over_groups(arm: Arm) -> str:
    low, high = grouped_mean(arm.hits.mean(0), arm.groups)
    return f"{100 * low:.1f} to {100 * high:.1f}"


def cost(arm: Arm) -> list[str]:
    """Trained parameters, GFLOP a pair, milliseconds a pair and memory of pretraining."""
    first = [row[0] for row in arm.training]
    alone = "" if arm.timed is None else f"{1000 * arm.timed['updating_seconds'] / arm.timed['steps'] / BATCH:.1f}"
    return [
        f"{first[0]['trainable_parameters'] / 1000:,.0f} k",
        f"{np.mean([stage['flops_per_step'] for stage in first]) / BATCH / 1e9:.2f}",
        alone,
        f"{np.mean([stage['peak_memory_gb'] for stage in first]):.2f}",
    ]


def recall(results: Sequence[Mapping[str, Any]], model: str, direction: str) -> list[float]:
    """R@1 of each seed for one way of ranking."""
    key = (model, direction, "all")
    rows = [row for result in results for row in result["table"]]
    return [row["R@1"] for row in rows if (row["model"], row["direction"], row["subset"]) == key]


COSTS: Final = ["trained parameters", "GFLOP a pair", "ms a pair", "GB"]


def views_table(arms: Mapping[str, Arm], names: Mapping[str, str]) -> list[str]:
    """Retrieval, one line an arm."""
    head = ["arm", "text to view R@1 %", "over homes", "view to text R@1 %", "text to view, ranked again by the fusion"]
    head += COSTS
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for key, title in names.items():
        if key not in arms:
            continue
        arm = arms[key]
        back = recall(arm.results, "model", "view to text")
        again = recall(arm.reranked, "reranked", "text to view") if arm.reranked else None
        cells = [
            spread(list(arm.hits.mean(1))),
            over_groups(arm),
            spread(back),
            "" if again is None else spread(again),
        ]
        lines.append(f"| {title} | " + " | ".join([*cells, *cost(arm)]) + " |")
    return lines


def nlvr_table(arms: Mapping[str, Arm], names: Mapping[str, str]) -> list[str]:
    """NLVR1, one line an arm."""
    head = [
        "arm",
        "accuracy % on hidden",
        "over sentences",
        "consistency %",
        "grey pictures in test, %",
        "val accuracy %",
        *COSTS,
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for key, title in names.items():
        if key not in arms:
            continue
        arm = arms[key]
        grey = [[r["accuracy"] for r in result["table"] if r["model"] == "blind"] for result in arm.results]
        cells = [
            spread(list(arm.hits.mean(1))),
            over_groups(arm),
            spread([result["consistency"] for result in arm.results]),
            spread([row[0] for row in grey]),
            spread([row[-1]["val_accuracy"] for row in arm.training]),
        ]
        lines.append(f"| {title} | " + " | ".join([*cells, *cost(arm)]) + " |")
    return lines


def comparisons(arms: Mapping[str, Arm], names: Mapping[str, str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Differences, query by query over groups, and seed by seed."""
    lines = []
    for one, other in pairs:
        if one not in arms or other not in arms:
            continue
        difference = arms[one].hits.mean(0) - arms[other].hits.mean(0)
        low, high = grouped_mean(difference, arms[one].groups)
        count = min(len(arms[one].hits), len(arms[other].hits))
        seeds = arms[one].hits[:count].mean(1) - arms[other].hits[:count].mean(1)
        apart = "higher" if low > 0 else "lower" if high < 0 else "not apart"
        lines.append(
            f"    {names[one]} - {names[other]}: {100 * difference.mean():+.1f} "
            f"({100 * low:+.1f} to {100 * high:+.1f}) {apart}; over seeds {spread(list(seeds))}"
        )
    return lines


def section(
    arms: Mapping[str, Arm], table: Any, parts: Sequence[tuple[str, Mapping[str, str], Sequence[tuple[str, str]]]]
) -> list[str]:
    """The experiments on one kind of data."""
    lines: list[str] = []
    for title, names, pairs in parts:
        if any(name in arms for name in names):
            lines += [f"### {title}", "", *table(arms, names), "", *comparisons(arms, names, pairs), ""]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder that benchmarks/vl_arms.sh filled")
    parser.add_argument("--out", type=Path, help="write the tables there")
    args = parser.parse_args()
    try:
        views = read_arms(args.runs, "views", FREEZING | ONE_TOWER | LADDER, ["training"])
        nlvr = read_arms(args.runs, "nlvr", FREEZING | ONE_TOWER | BLIND, ["pairs", "style", "training"])
        if not views and not nlvr:
            sys.exit(f"nothing to show in {args.runs}; run benchmarks/vl_arms.sh")
        text = page(views, nlvr)
    except InputError as error:
        sys.exit(f"benchmarks.vl_arms: {error}")
    show(text, args.out)


def page(views: Mapping[str, Arm], nlvr: Mapping[str, Arm]) -> str:
    """Both parts as one page."""
    lines = [
        "# Which parts to train, what to start from, what each objective adds",
        "",
        f"Command: `benchmarks/vl_arms.sh`. Table of {time.strftime('%Y-%m-%d')}. "
        + facts([*views.values(), *nlvr.values()]),
        "",
        "Pretrained towers are pretrained here, first, on the single modalities of the same data: pictures by masked "
        "image modelling, words by masked words (3 layers, 96 wide; one of each a seed). No tower knows other data. "
        "GFLOP, milliseconds a pair and memory are of vision-language pretraining, with the optimiser; the "
        "milliseconds are those of a few updates on one core with nothing beside them (PARTS=times).",
        "",
    ]
    if views:
        first = next(iter(views.values()))
        chance = 100 / first.hits.shape[1]
        random = recall(first.results, "random weights", "text to view")
        lines += [
            f"## Rendered views of homes: retrieval among {first.hits.shape[1]} test views of "
            f"{len(set(first.groups))} homes",
            "",
            f"Chance, which is also what a blind model reaches: R@1 {chance:.1f} %; random weights "
            f"{spread(random)} %; an oracle 100 %, as no two views share a caption. "
            f"{first.training[0][0]['steps']} updates of 64 pairs for every arm. R@1 is by embeddings; beside it that "
            "of the best 32 ranked again by the fusion.",
            "",
            *section(
                views,
                views_table,
                [
                    ("Freezing towers in pretraining", FREEZING, PAIRS["freezing"]),
                    ("One tower", ONE_TOWER | {"none": "two towers, pretrained, for comparison"}, PAIRS["one tower"]),
                    ("What each objective adds (pretrained towers, nothing frozen)", LADDER, PAIRS["objectives"]),
                ],
            ),
        ]
    if nlvr:
        first = next(iter(nlvr.values()))
        majority = first.results[0].get("majority")
        lines += [
            f"## NLVR1: {first.hits.shape[1]:,} pictures of {len(set(first.groups))} people's sentences (hidden file)",
            "",
            (f"Majority {100 * majority:.1f} %. " if majority is not None else "")
            + "Pretraining is on self-made pictures of NLVR's style with generated sentences "
            "(`benchmarks/nlvr_style.py`): matching of true sentences, then true or false; towers are frozen in both. "
            "Then everything is fine-tuned on a part of people's `test` file, the rest of which chose the checkpoint; "
            "`hidden` was evaluated once. Some wordings and drawings of `test` recur in `hidden`.",
            "",
            *section(
                nlvr,
                nlvr_table,
                [
                    ("Freezing towers in pretraining", FREEZING | BLIND, (*PAIRS["freezing"], *PAIRS["seeing"])),
                    ("One tower", ONE_TOWER | {"none": "two towers, pretrained, for comparison"}, PAIRS["one tower"]),
                ],
            ),
        ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    main()
