"""The table of agents on unseen homes: python -m benchmarks.agents RUNS [--out TABLE.md]

Reads what benchmarks/agents.sh left in RUNS. Every policy meets the same test episodes. Two intervals: over training
seeds (Student's t on the seeds' means), and over homes (bootstrap of whole homes, the seeds' mean of each episode).
What one policy does better than another is compared episode by episode, over homes again. The facts above the table
are read from the runs' own configs and version records; what no run records, --note adds.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import yaml
from jaxtyping import Float
from numpy import ndarray

from core.errors import InputError
from core.files import atomic_write, read_json
from core.intervals import grouped_mean, t_interval

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
    episodes: list[tuple[str, str, float]]  # home, sentence, metres of the shortest way
    training: list[dict[str, Any]]  # results of training, one a seed; none for random and oracle
    settings: dict[str, Any]  # of training: the first seed's config; empty where there was none
    evaluations: list[dict[str, Any]]  # configs, one a seed
    versions: list[dict[str, Any]]  # of every run, training and evaluation

    @property
    def homes(self) -> list[str]:
        """The home of each episode."""
        return [home for home, _, _ in self.episodes]

    @property
    def steps(self) -> int:
        """Environment steps of training, 0 where there was none."""
        return int(self.training[0]["env_steps"]) if self.training else 0


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
    configs = [config_of(folder) for folder in trained]
    for folder, config in zip(trained, configs):
        differing = [key for key in config if key not in MAY_DIFFER and config[key] != configs[0].get(key)]
        if differing:
            raise InputError(f"{folder} differs from {trained[0]} in {', '.join(differing)}: not seeds of one arm")
    results = [read_json(folder / "result.json", "training result") for folder in trained]
    return Arm(
        np.array([table["success"] for table in tables], dtype=float),
        np.array([table["spl"] for table in tables], dtype=float),
        keys[0],
        results,
        configs[0] if configs else {},
        [config_of(folder) for folder in folders],
        [read_json(folder / "version.json", "version record") for folder in [*trained, *folders]],
    )


def config_of(folder: Path) -> dict[str, Any]:
    """The settings a run wrote down."""
    return yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))


def cell(values: Float[ndarray, "S n"], homes: list[str]) -> list[str]:
    """Mean in percent, its interval over seeds, its interval over homes."""
    low, high = grouped_mean(values.mean(0), homes)
    seeds = t_interval(list(values.mean(1)))
    over_seeds = "" if len(values) < 2 else "{:.1f} to {:.1f}".format(*(100 * x for x in seeds))
    return [f"{100 * values.mean():.1f}", over_seeds, f"{100 * low:.1f} to {100 * high:.1f}"]


def table_of(arms: dict[str, Arm], names: dict[str, str]) -> list[str]:
    """One line an arm, under the name it is shown by."""
    head = "| policy | success % | over seeds | over homes | SPL % | over seeds | over homes | steps | minutes a seed |"
    lines = [head, "|" + "---|" * 9]
    for name, arm in arms.items():
        minutes = [result["seconds"] / 60 for result in arm.training]
        spent = f"{np.mean(minutes):.1f}" if minutes else ""
        steps = f"{arm.steps:,}" if arm.steps else ""
        cells = [*cell(arm.success, arm.homes), *cell(arm.spl, arm.homes), steps, spent]
        lines.append(f"| {names[name]} | " + " | ".join(cells) + " |")
    return lines


def comparisons(arms: dict[str, Arm], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Differences in success, episode by episode."""
    lines = []
    for better, other in pairs:
        if better not in arms or other not in arms:
            continue
        difference = arms[better].success.mean(0) - arms[other].success.mean(0)
        low, high = grouped_mean(difference, arms[better].homes)
        apart = "ok" if low > 0 else "not apart" if high >= 0 else "the other way round"
        lines.append(
            f"    {better} - {other}: {100 * difference.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) {apart}"
        )
    return lines


def facts(arms: list[Arm]) -> str:
    """Where and how the runs ran, read from what they wrote down; several values where they differ.

    Raises:
        InputError: the runs did not all use one folder of homes.
    """
    versions = [version for arm in arms for version in arm.versions]
    tests = [config for arm in arms for config in arm.evaluations]
    trained = [arm for arm in arms if arm.settings]
    scenes = {config["scenes"] for config in [*tests, *(arm.settings for arm in trained)]}
    if len(scenes) > 1:
        raise InputError(f"the runs used several folders of homes, {sorted(scenes)}: not comparable")

    def seen(values: Iterable[Any]) -> str:
        return " and ".join(sorted({str(value) for value in values}))

    sides = {(arm.settings["features"], arm.settings["image_size"]) for arm in trained}
    said = [
        seen(version["platform"] for version in versions),
        f"{seen(version['threads'] for version in versions)} thread(s) a run",
        *(f"{name} {seen(version[name] for version in versions)}" for name in ("torch", "python", "code")),
    ]
    lines = [
        ", ".join(said) + ".",
        f"Evaluated on the {seen(c['split'] for c in tests)} homes of one folder, episodes cut off after "
        f"{seen(c['max_steps'] or 'as many actions as the task sets' for c in tests)}; "
        + " and ".join(
            sorted({"the likeliest action" if c["greedy"] else "actions drawn from the policy" for c in tests})
        )
        + ".",
        "All policies of a task met the same episodes (home, sentence and shortest way compared).",
    ]
    if trained:
        homes = seen(result["train_homes"] for arm in trained for result in arm.training)
        lines.append(
            f"Trained on {homes} homes of the same folder; "
            f"total_steps {seen(arm.settings['total_steps'] for arm in trained)}; pixels a side: "
            + ", ".join(f"{size} ({features})" for features, size in sorted(sides))
            + "."
        )
    return " ".join(lines)


def read_arms(root: Path, task: str, names: Iterable[str], script: str) -> dict[str, Arm]:
    """The arms of one task that are finished; what is not is named on stderr.

    Args:
        script: what makes them, for messages.

    Raises:
        InputError: they met different episodes or learned for different numbers of steps.
    """
    arms = {}
    for name in names:
        try:
            arms[name] = read_arm(root, task, name)
        except InputError as error:
            print(f"left out: {error}", file=sys.stderr)
    if any(arm.episodes != next(iter(arms.values())).episodes for arm in arms.values()):
        raise InputError(f"the policies at {task} met different episodes; run {script} on an empty folder")
    steps = {arm.steps for arm in arms.values() if arm.steps}
    if len(steps) > 1:
        raise InputError(f"the policies at {task} learned for different numbers of steps, {sorted(steps)}")
    return arms


def section(title: str, arms: dict[str, Arm], names: dict[str, str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """One task: its table, and what is better than what."""
    first = next(iter(arms.values()))
    counts = {len(arm.success) for name, arm in arms.items() if name != "oracle"} or {1}
    seeds = f"{min(counts)}" + (f" to {max(counts)}" if len(counts) > 1 else "")
    return [
        f"## {title}: {len(first.homes)} episodes in {len(set(first.homes))} test homes, {seeds} seeds",
        "",
        *table_of(arms, names),
        "",
        "Success, difference in points (95 % interval over homes):",
        "",
        *comparisons(arms, pairs),
        "",
    ]


def show(text: str, out: Path | None) -> None:
    """Writes a page where the user wants it, else prints it."""
    if out:
        atomic_write(out, text)
        print(f"table: {out}")
    else:
        print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder that benchmarks/agents.sh filled")
    parser.add_argument("--out", type=Path, help="write the table there")
    parser.add_argument("--note", default="", help="a sentence put above the tables")
    args = parser.parse_args()
    parts: list[str] = []
    read: list[Arm] = []
    try:
        for task, title in TASKS.items():
            if arms := read_arms(args.runs, task, ARMS, "benchmarks/agents.sh"):
                read += arms.values()
                parts += section(title, arms, ARMS, PAIRS)
        if not read:
            sys.exit(f"nothing to show in {args.runs}; run benchmarks/agents.sh")
        known = facts(read)
    except InputError as error:
        sys.exit(f"benchmarks.agents: {error}")
    text = "\n".join(
        [
            "# Agents on unseen homes at equal environment steps",
            "",
            *([args.note, ""] if args.note else []),
            f"Command: `benchmarks/agents.sh`. Table of {time.strftime('%Y-%m-%d')}. {known}",
            "",
            "The grounder's features assume a home whose objects are known as points in space, as after mapping, and a "
            "camera that tells which object a pixel belongs to; an object's place and score are shown from the moment "
            "it was seen (agents/object_features.py). The two towers see the picture alone.",
            "",
            *parts,
        ]
    )
    show(text, args.out)


if __name__ == "__main__":
    main()
