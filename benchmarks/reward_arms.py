"""The table of rewards: python -m benchmarks.reward_arms RUNS [--out TABLE.md]

Reads what benchmarks/reward_arms.sh left in RUNS: one policy trained by PPO on several rewards, every seed evaluated on
the same test episodes (intervals as in benchmarks/agents.py), and the same rewards measured on frames of val homes by
score-rewards. Whether that measure foretells which reward trains the better agent is a rank correlation over the arms,
within each task, with the exact p-value of all orders of so few arms.
"""

import argparse
import itertools
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from agents.agreement import ranks, spearman
from benchmarks.agents import TASKS, Arm, facts, read_arms, section, show
from core.errors import InputError
from core.files import read_json
from core.intervals import t_interval

ARMS: Final = {
    "random": "random actions",
    "task": "task reward",
    "vlm-0": "VLM-RM, no baseline (alpha 0)",
    "vlm-50": "VLM-RM, alpha 0.5",
    "vlm-100": "VLM-RM, alpha 1",
    "small-50": "VLM-RM, alpha 0.5, smaller tower",
    "grounded": "grounded",
    "mixture": "half task, half VLM-RM (alpha 0.5)",
    "oracle": "oracle (knows the map)",
}
PAIRS: Final = (
    ("vlm-50", "random"), ("vlm-50", "vlm-0"), ("vlm-100", "vlm-50"), ("vlm-50", "small-50"), ("grounded", "vlm-50"),
    ("task", "grounded"), ("mixture", "task"), ("mixture", "vlm-50"),
)  # fmt: skip
SCORED: Final = {
    "task": ("two-tower", "oracle"),
    "vlm-0": ("two-tower", "alpha 0, standardised"),
    "vlm-50": ("two-tower", "alpha 0.5, standardised"),
    "vlm-100": ("two-tower", "alpha 1, standardised"),
    "small-50": ("small-tower", "alpha 0.5, standardised"),
    "grounded": ("two-tower", "grounded"),
}
"""Arm -> the score-rewards run that measured its reward, and the reward's name there."""
MEASURES: Final = {
    "epic": ("EPIC distance", -1),
    "pearson": ("Pearson", 1),
    "spearman": ("Spearman", 1),
    "auc": ("AUC of success", 1),
    "voc_expert": ("value order on the oracle's walks", 1),
    "false_positives_adversarial": ("fooled by adversarial walks", -1),
}
"""Measure -> its title, and the sign by which more is better."""
TOWERS: Final = {"two-tower": "larger tower", "small-tower": "smaller tower"}

Scores = Mapping[str, Mapping[str, Mapping[str, Any]]]  # arm -> measure -> value, interval


def read_scores(root: Path, task: str) -> Scores:
    """What score-rewards found about each arm's reward; arms whose run is missing are left out."""
    found = {}
    for arm, (tower, name) in SCORED.items():
        file = root / f"{task}-score-{tower}" / "result.json"
        if file.is_file():
            rewards = read_json(file, "result of score-rewards")["rewards"]
            if name not in rewards:
                raise InputError(
                    f"{file} measures {', '.join(rewards)} and not {name!r}; run benchmarks/reward_arms.sh"
                )
            found[arm] = rewards[name]
    return found


def rank_correlation(measure: Sequence[float], success: Sequence[float]) -> tuple[float, float]:
    """Spearman's correlation over arms and its exact two-sided p-value: the share of all orders that correlate as far.

    NaN and NaN for fewer than 3 arms or where one side is constant.
    """
    x, y = np.asarray(measure, float), np.asarray(success, float)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan, math.nan
    found = spearman(x, y)
    x, y = ranks(x), ranks(y)
    orders = np.array(list(itertools.permutations(y)))
    every = _correlations(x, orders)
    return found, float(np.mean(np.abs(every) >= abs(found) - 1e-12))


def _correlations(x: Float[ndarray, " n"], rows: Float[ndarray, "p n"]) -> Float[ndarray, " p"]:
    centred, others = x - x.mean(), rows - rows.mean(1, keepdims=True)
    return others @ centred / np.sqrt((centred @ centred) * (others * others).sum(1))


def score_table(scores: Scores, arms: Mapping[str, Arm]) -> list[str]:
    """Each reward as measured before training, and the success of the agents it trained."""
    titles = [title + (" (less is better)" if sign < 0 else "") for title, sign in MEASURES.values()]
    lines = [
        "| reward | " + " | ".join(titles) + " | success of its agents, % (95 % over seeds) |",
        "|---" * (len(titles) + 2) + "|",
    ]
    for name, measured in scores.items():
        cells = [shown(measured.get(key)) for key in MEASURES]
        reached = ""
        if name in arms:
            values = [100 * float(value) for value in arms[name].success.mean(1)]
            low, high = t_interval(values)
            reached = f"{np.mean(values):.1f}" + ("" if math.isnan(low) else f" ({low:.1f} to {high:.1f})")
        lines.append(f"| {ARMS[name]} | " + " | ".join(cells) + f" | {reached} |")
    return lines


def shown(cell: Mapping[str, Any] | None) -> str:
    """A value with its interval, where it is defined."""
    if cell is None or cell.get("value") is None or math.isnan(cell["value"]):
        return "undefined"
    interval = cell.get("interval")
    spread = "" if not interval or any(end is None for end in interval) else " ({:.2f} to {:.2f})".format(*interval)
    return f"{cell['value']:.2f}{spread}"


def foretelling(scores: Scores, arms: Mapping[str, Arm]) -> list[str]:
    """Rank correlations between each measure and success over the arms."""
    both = [name for name in scores if name in arms]
    models = [name for name in both if name != "task"]
    lines = [
        f"| measure | rank correlation with success, {len(both)} rewards | p | "
        f"without the task's own, {len(models)} | p |",
        "|---|---|---|---|---|",
    ]
    for key, (title, sign) in MEASURES.items():
        cells = []
        for names in (both, models):
            used = [n for n in names if (scores[n].get(key) or {}).get("value") is not None]
            rho, p = rank_correlation(
                [sign * scores[n][key]["value"] for n in used], [float(arms[n].success.mean()) for n in used]
            )
            cells += ["undefined" if math.isnan(rho) else f"{rho:+.2f}", "" if math.isnan(p) else f"{p:.3f}"]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def sizes(root: Path) -> str:
    """The two towers: parameters and what they reach at retrieval."""
    parts = []
    for name, title in TOWERS.items():
        result = read_json(root / name / "result.json", "result of pretrain-vl")
        parts.append(f"{title}: {result['parameters']:,} parameters")
    return "; ".join(parts) + "."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder that benchmarks/reward_arms.sh filled")
    parser.add_argument("--out", type=Path, help="write the table there")
    args = parser.parse_args()
    parts: list[str] = []
    read: list[Arm] = []
    try:
        for task, title in TASKS.items():
            arms = read_arms(args.runs, task, ARMS, "benchmarks/reward_arms.sh")
            if not arms:
                continue
            read += arms.values()
            parts += section(title, arms, ARMS, PAIRS)
            if scores := read_scores(args.runs, task):
                parts += [
                    f"### {title}: the rewards measured first, on frames of val homes",
                    "",
                    *score_table(scores, arms),
                    "",
                    *foretelling(scores, arms),
                    "",
                ]
        if not read:
            sys.exit(f"nothing to show in {args.runs}; run benchmarks/reward_arms.sh")
        known, towers = facts(read), sizes(args.runs)
    except InputError as error:
        sys.exit(f"benchmarks.reward_arms: {error}")
    text = "\n".join(
        [
            "# Which reward trains the better agent",
            "",
            f"Command: `benchmarks/reward_arms.sh`. Table of {time.strftime('%Y-%m-%d')}. {known}",
            "",
            "One policy (PPO on grounder features), only its reward changes. The towers are an in-domain VLM, trained "
            "on views of the training homes alone, without the held-out pairs of colour and class; they score the head "
            f"of the sentence (thing and colour), whose captions they know. Towers: {towers} The grounded reward reads "
            "the same grounder as the policy's features. The settings that turn scores into rewards are the same for "
            "all rewards of one kind and were chosen on val homes.",
            "",
            *parts,
        ]
    )
    show(text, args.out)


if __name__ == "__main__":
    main()
