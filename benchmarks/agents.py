"""The table of agents on unseen homes: python -m benchmarks.agents RUNS [--out TABLE.md]

Reads what benchmarks/agents.sh left in RUNS. Every policy meets the same test episodes. Two intervals: over training
seeds (Student's t on the seeds' means), and over homes (bootstrap of whole homes, the seeds' mean of each episode).
What one policy does better than another is compared episode by episode, over homes again.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import yaml
from jaxtyping import Float
from numpy import ndarray

from benchmarks.demo import spread
from core.errors import InputError
from core.files import atomic_write, read_json
from core.intervals import grouped_mean

TASKS = {"find_object": "FindObject", "find_referral": "FindReferral"}
ARMS = {
    "random": "random actions",
    "pixels": "PPO from scratch: pixels and words",
    "vl": "PPO on two-tower features",
    "grounder": "PPO on grounder features",
    "cloning": "behaviour cloning of the oracle, grounder features",
    "oracle": "oracle (knows the map)",
}
PAIRS = (("grounder", "pixels"), ("vl", "pixels"), ("grounder", "vl"), ("grounder", "cloning"), ("pixels", "random"))
MAY_DIFFER = ("seed", "out", "resume", "threads")  # between the seeds of one arm


@dataclass
class Arm:
    """One policy in one task, all its seeds on the same episodes."""

    success: Float[ndarray, "S n"]  # seeds, episodes
    spl: Float[ndarray, "S n"]
    homes: list[str]  # of the episodes
    training: list[dict[str, Any]]  # results of training, one a seed; none for random and oracle
    steps: int  # environment steps of training, 0 where there was none


def read_arm(root: Path, task: str, name: str) -> Arm:
    """All seeds of one arm.

    Raises:
        InputError: none is there, they met different episodes, or they differ in more than their seed.
    """
    exact = root / f"{task}-{name}"
    folders = [exact] if (exact / "result.json").is_file() else []
    folders += sorted(f for f in root.glob(f"{task}-{name}-[0-9]*") if f.name.removeprefix(f"{task}-{name}-").isdigit())
    folders = [folder for folder in folders if (folder / "result.json").is_file()]
    if not folders:
        raise InputError(f"no finished evaluation of {name} at {task} in {root}; run benchmarks/agents.sh")
    tables = [parquet.read_table(folder / "episodes.parquet").to_pydict() for folder in folders]
    keys = [list(zip(table["scene_id"], table["goal_text"], table["shortest_m"])) for table in tables]
    if any(key != keys[0] for key in keys):
        raise InputError(f"the seeds of {name} at {task} met different episodes; evaluate them on one episode_set")
    trained = [folder.with_name(folder.name + "-training") for folder in folders]
    trained = [folder for folder in trained if folder.is_dir()]
    configs = [yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")) for folder in trained]
    for folder, config in zip(trained, configs):
        differing = [key for key in config if key not in MAY_DIFFER and config[key] != configs[0].get(key)]
        if differing:
            raise InputError(f"{folder} differs from {trained[0]} in {', '.join(differing)}: not seeds of one arm")
    results = [read_json(folder / "result.json", "training result") for folder in trained]
    return Arm(
        np.array([table["success"] for table in tables], dtype=float),
        np.array([table["spl"] for table in tables], dtype=float),
        list(tables[0]["scene_id"]),
        results,
        int(results[0]["env_steps"]) if results else 0,
    )


def cell(values: Float[ndarray, "S n"], homes: list[str]) -> list[str]:
    """Mean in percent, its interval over seeds, its interval over homes."""
    low, high = grouped_mean(values.mean(0), homes)
    over_seeds = "" if len(values) < 2 else "{:.1f} to {:.1f}".format(*(100 * x for x in spread(list(values.mean(1)))))
    return [f"{100 * values.mean():.1f}", over_seeds, f"{100 * low:.1f} to {100 * high:.1f}"]


def table_of(arms: dict[str, Arm]) -> list[str]:
    """One line an arm."""
    head = "| policy | success % | over seeds | over homes | SPL % | over seeds | over homes | steps | minutes a seed |"
    lines = [head, "|" + "---|" * 9]
    for name, arm in arms.items():
        minutes = [result["seconds"] / 60 for result in arm.training]
        spent = f"{np.mean(minutes):.1f}" if minutes else ""
        steps = f"{arm.steps:,}" if arm.steps else ""
        cells = [*cell(arm.success, arm.homes), *cell(arm.spl, arm.homes), steps, spent]
        lines.append(f"| {ARMS[name]} | " + " | ".join(cells) + " |")
    return lines


def comparisons(arms: dict[str, Arm]) -> list[str]:
    """Differences in success, episode by episode."""
    lines = []
    for better, other in PAIRS:
        if better not in arms or other not in arms:
            continue
        difference = arms[better].success.mean(0) - arms[other].success.mean(0)
        low, high = grouped_mean(difference, arms[better].homes)
        apart = "ok" if low > 0 else "not apart" if high >= 0 else "the other way round"
        lines.append(
            f"    {better} - {other}: {100 * difference.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) {apart}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder that benchmarks/agents.sh filled")
    parser.add_argument("--out", type=Path, help="write the table there")
    args = parser.parse_args()
    parts, count = [], 0
    for task, title in TASKS.items():
        arms = {}
        for name in ARMS:
            try:
                arms[name] = read_arm(args.runs, task, name)
            except InputError as error:
                print(f"left out: {error}", file=sys.stderr)
        if not arms:
            continue
        first = next(iter(arms.values()))
        if any(arm.homes != first.homes for arm in arms.values()):
            sys.exit(f"the policies at {task} met different episodes; run benchmarks/agents.sh on an empty folder")
        steps = {arm.steps for arm in arms.values() if arm.steps}
        if len(steps) > 1:
            sys.exit(f"the policies at {task} learned for different numbers of steps, {sorted(steps)}: not comparable")
        count += 1
        seeds = max(len(arm.success) for arm in arms.values())
        parts += [
            f"## {title}: {len(first.homes)} episodes in {len(set(first.homes))} test homes, {seeds} training seeds",
            "",
            *table_of(arms),
            "",
            "Success, difference in points (95 % interval over homes):",
            "",
            *comparisons(arms),
            "",
        ]
    if not count:
        sys.exit(f"nothing to show in {args.runs}; run benchmarks/agents.sh")
    some = next(folder for folder in sorted(args.runs.glob("*-oracle")) if (folder / "version.json").is_file())
    version = read_json(some / "version.json", "version record")
    text = "\n".join(
        [
            "# Agents on unseen homes at equal environment steps",
            "",
            f"Command: `benchmarks/agents.sh`. {time.strftime('%Y-%m-%d')}, {version['platform']}, two runs side by "
            f"side, one thread each, torch {version['torch']}, Python {version['python']}, code {version['code']}. "
            "Actions are drawn from the policy. Settings were chosen on val homes; the test homes were used once, for "
            "this table. Training homes, models and test episodes are the same for all policies and seeds.",
            "",
            "The grounder's features assume a home whose objects are known as points in space, as after mapping, and a "
            "camera that tells which object a pixel belongs to; an object's place and score are shown from the moment "
            "it was seen (agents/object_features.py). The two towers see the picture alone. From scratch: pictures of "
            "48 pixels a side instead of 64, for speed.",
            "",
            *parts,
        ]
    )
    if args.out:
        atomic_write(args.out, text)
        print(f"table: {args.out}")
    else:
        print(text)


if __name__ == "__main__":
    main()
