"""The table of subgoals: python -m benchmarks.subgoal_arms RUNS [--grid doorkey-6x6] [--out TABLE.md]

Reads what benchmarks/subgoal_arms.sh left in RUNS. Of each arm: success at the end, and the environment steps, those of
the demonstrations included, after which the mean success of training episodes over a window first reached one half; a
seed that never got there counts as the whole budget, and how many did is said. Homes are measured on the same test
episodes as in benchmarks/agents.py. The claim under test: at most half the steps of PPO on the goal alone.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.agents import read_arms, section, show
from benchmarks.arms import facts, spread
from core.errors import InputError
from core.files import read_json
from core.run import read_metrics

ARMS: Final = {
    "ppo": "PPO on the goal",
    "ppo-divergence": "PPO on the goal, divergence to the reference",
    "ppo-bonus": "PPO on the goal, subgoal bonus",
    "digirl": "DigiRL's filtered advantage",
    "vsc": "VSC-RL, exact KL",
    "vsc-imitation": "VSC-RL, imitation form",
    "vsc-released": "VSC-RL as its code has it",
    "vsc-shuffled": "VSC-RL, subgoals in another order",
    "vsc-wrong-10": "VSC-RL, judge wrong 10 % of the time",
    "vsc-wrong-30": "VSC-RL, judge wrong 30 % of the time",
    "random": "random actions",
    "oracle": "oracle (knows the map)",
}
PAIRS: Final = (
    ("vsc", "ppo"), ("vsc", "ppo-divergence"), ("vsc", "ppo-bonus"), ("vsc", "digirl"), ("vsc", "vsc-imitation"),
    ("vsc", "vsc-released"), ("vsc", "vsc-shuffled"), ("vsc", "vsc-wrong-10"), ("vsc", "vsc-wrong-30"),
)  # fmt: skip
WINDOW: Final = 100  # training episodes at least that a mean success is taken over


@dataclass
class Learned:
    """Runs of one arm, a number a seed."""

    success: list[float] = field(default_factory=list)  # at the end; empty where it is measured elsewhere
    steps: list[int] = field(default_factory=list)  # to one half, else all that were taken
    arrived: list[bool] = field(default_factory=list)  # whether one half was reached
    versions: list[dict[str, Any]] = field(default_factory=list)


def steps_to_half(rows: Sequence[Mapping[str, Any]], window: int = WINDOW) -> int | None:
    """Environment steps when the latest episodes, `window` of them at least, first succeeded half the time.

    Args:
        rows: of metrics.jsonl; those in which an oracle acted have no success and do not count.
    """
    tail: list[tuple[float, float]] = []  # episodes and successes of each row
    for row in rows:
        if "success" not in row or not row["episodes"]:
            continue
        tail.append((row["episodes"], row["episodes"] * row["success"]))
        while len(tail) > 1 and sum(count for count, _ in tail[1:]) >= window:
            tail.pop(0)
        count, won = np.array(tail).sum(0)
        if count >= window and won >= count / 2:
            return int(row["env_steps"])
    return None


def read_learned(runs: Path, prefix: str, suffix: str) -> dict[str, Learned]:
    """Finished training runs named PREFIX-ARM-SEED SUFFIX, by arm.

    Raises:
        InputError: there are none.
    """
    found: dict[str, Learned] = {}
    for arm in ARMS:
        for folder in sorted(runs.glob(f"{prefix}-{arm}-[0-9]*{suffix}")):
            seed = folder.name.removeprefix(f"{prefix}-{arm}-").removesuffix(suffix)
            if not seed.isdigit() or not (folder / "result.json").is_file():
                continue
            result, rows = read_json(folder / "result.json", "result"), read_metrics(folder)
            half = steps_to_half(rows)
            one = found.setdefault(arm, Learned())
            one.steps.append(int(result["env_steps"]) if half is None else half)
            one.arrived.append(half is not None)
            one.versions.append(read_json(folder / "version.json", "version"))
            if "eval_success" in result:
                one.success.append(float(result["eval_success"]))
    if not found:
        raise InputError(f"no finished run of {prefix} in {runs}; start benchmarks/subgoal_arms.sh first")
    return found


def learning(title: str, arms: Mapping[str, Learned]) -> list[str]:
    """A section on how fast the arms learn."""
    lines = [f"## {title}", "", "| | seeds | success at the end, % | steps to half, thousands | seeds that got there |"]
    lines.append("|---|---|---|---|---|")
    for name, arm in arms.items():
        success = spread(arm.success) if arm.success else "see below"
        steps = spread(arm.steps, scale=1e-3)
        lines.append(f"| {ARMS[name]} | {len(arm.steps)} | {success} | {steps} | {sum(arm.arrived)} |")
    if "ppo" in arms and "vsc" in arms:
        ratio = float(np.mean(arms["vsc"].steps) / np.mean(arms["ppo"].steps))
        lines += [
            "",
            f"VSC-RL took {ratio:.2f} times the steps of PPO on the goal; the claim under test is at most 0.5.",
        ]
    return [*lines, ""]


def page(runs: Path, grid: str) -> str:
    """The whole table, of the parts that ran."""
    lines, seen = ["# Learning with subgoals", ""], []
    for title, prefix, suffix in (
        (f"MiniGrid, {grid}", grid, ""),
        ("FollowInstruction in homes, learning", "follow_instruction", "-training"),
    ):
        try:
            arms = read_learned(runs, prefix, suffix)
        except InputError as error:
            lines += [f"## {title}", "", f"Not run: {error}", ""]
            continue
        seen += list(arms.values())
        lines += learning(title, arms)
    measured = read_arms(runs, "follow_instruction", ARMS, "benchmarks/subgoal_arms.sh")
    if measured:
        lines += section("FollowInstruction in unseen homes", measured, ARMS, PAIRS)
    if seen:
        lines += [f"{time.strftime('%Y-%m-%d')}. {facts(seen)}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--grid", default="doorkey-6x6")
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    show(page(words.runs, words.grid), words.out)
