"""The table of subgoals: python -m benchmarks.subgoal_arms RUNS [--grid doorkey-8x8] [--command TEXT] [--out TABLE.md]

Reads what benchmarks/subgoal_arms.sh left in RUNS. Of each arm: success at the end, and the environment steps, those of
the demonstrations included, after which the mean success of training episodes over a window first reached one half; a
seed that never got there counts as the whole budget, and how many did is said. Failures last to the time limit and
successes do not, so the first steps show successes alone: nothing counts before every environment has had time to fail
once. Homes are measured on the same test episodes as in benchmarks/agents.py. The claim under test: at most half the
steps of PPO on the goal alone. Curves are drawn beside the table.
"""

import argparse
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from omegaconf import OmegaConf

from benchmarks.agents import read_arms, section, show
from benchmarks.arms import facts, spread
from core.errors import InputError
from core.files import read_json
from core.intervals import t_interval
from core.run import read_metrics

ARMS: Final = {
    "ppo": "PPO on the goal",
    "ppo-divergence": "PPO on the goal, divergence to the reference",
    "ppo-bonus": "PPO on the goal, subgoal bonus",
    "ppo-replay": "PPO on the goal, demonstrations replayed",
    "ppo-told": "PPO told its subgoals, nothing else of them",
    "digirl": "DigiRL's filtered advantage",
    "vsc": "VSC-RL, exact KL, oracle subgoals",
    "vsc-replay": "VSC-RL, demonstrations replayed",
    "vsc-language": "VSC-RL, a language model as reference",
    "vsc-sentence": "VSC-RL, subgoals read from the sentence",
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
    ("vsc", "ppo-told"), ("vsc", "vsc-released"), ("vsc", "vsc-shuffled"), ("vsc", "vsc-sentence"),
    ("vsc", "vsc-wrong-10"), ("vsc", "vsc-wrong-30"), ("ppo-replay", "ppo"), ("vsc-replay", "vsc"),
    ("vsc-language", "vsc"),
)  # fmt: skip
READ_FIRST: Final = (
    "In MiniGrid the goal never changes and the view is 7 x 7 cells; the subgoals are key, door, goal. In homes "
    "an agent sees object tokens of a grounder, which scores them for the whole sentence; one with subgoals also "
    "sees where the thing of the step under way stands. Subgoals come from the scene graph and the task, and the "
    "simulator says when one is done, in training and in test: agents on the goal have neither. `PPO told its "
    "subgoals` tells the objective from being told. Every arm first clones the same demonstrations of the oracle; "
    "these steps are counted. A judge that is wrong errs at each judging: a subgoal that takes ten steps has ten "
    "chances of a false alarm.",
)
SEEDS: Final = 3
OTHER: Final = (50, 30)
WINDOW: Final = 100  # training episodes at least that a mean success is taken over


@dataclass
class Learned:
    """Runs of one arm, a number a seed."""

    success: list[float] = field(default_factory=list)  # at the end; empty where it is measured elsewhere
    steps: list[int] = field(default_factory=list)  # to one half, else all that were taken
    arrived: list[bool] = field(default_factory=list)  # whether one half was reached
    spl: list[float] = field(default_factory=list)
    other: dict[int, list[int]] = field(default_factory=dict)  # steps to half by smaller windows
    curves: list[list[tuple[int, float]]] = field(default_factory=list)  # environment steps, running success
    versions: list[dict[str, Any]] = field(default_factory=list)


def running_success(rows: Sequence[Mapping[str, Any]], window: int = WINDOW, after: int = 0) -> list[tuple[int, float]]:
    """Environment steps and the mean success of the latest episodes, `window` of them at least.

    Args:
        rows: of metrics.jsonl; those in which an oracle acted have no success and do not count.
        after: environment steps before which nothing is given.
    """
    tail: list[tuple[float, float]] = []  # episodes and successes of each row
    found: list[tuple[int, float]] = []
    for row in rows:
        if "success" not in row or not row["episodes"]:
            continue
        tail.append((row["episodes"], row["episodes"] * row["success"]))
        while len(tail) > 1 and sum(count for count, _ in tail[1:]) >= window:
            tail.pop(0)
        count, won = np.array(tail).sum(0)
        if count >= window and row["env_steps"] > after:
            found.append((int(row["env_steps"]), float(won / count)))
    return found


def steps_to_half(curve: Sequence[tuple[int, float]]) -> int | None:
    """Environment steps at which a curve first reaches one half."""
    return next((steps for steps, success in curve if success >= 0.5), None)


def time_to_fail(folder: Path) -> int:
    """Environment steps after which every environment has had time to fail once without the oracle."""
    cfg: Any = OmegaConf.load(folder / "config.yaml")
    grid = re.fullmatch(r"doorkey-(\d+)x\d+", cfg.task)
    rooms = re.match(r"multiroom-n(\d+)", cfg.task)
    limit = 10 * int(grid[1]) ** 2 if grid else 20 * int(rooms[1]) if rooms else cfg.max_steps  # MiniGrid's own
    batch = cfg.num_envs * cfg.rollout
    return batch * math.ceil(cfg.vsc.demonstration_steps / batch) + cfg.num_envs * limit


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
            one = found.setdefault(arm, Learned())
            result = read_json(folder / "result.json", "result")
            curve = running_success(read_metrics(folder), after=time_to_fail(folder))
            half = steps_to_half(curve)
            for window in OTHER:
                smaller = running_success(read_metrics(folder), window, time_to_fail(folder))
                one.other.setdefault(window, []).append(steps_to_half(smaller) or int(result["env_steps"]))
            one.steps.append(int(result["env_steps"]) if half is None else half)
            one.arrived.append(half is not None)
            one.curves.append(curve)
            one.versions.append(read_json(folder / "version.json", "version"))
            if "eval_success" in result:
                one.success.append(float(result["eval_success"]))
                one.spl.append(float(result["eval_spl"]))
    if not found:
        raise InputError(f"no finished run of {prefix} in {runs}; start benchmarks/subgoal_arms.sh first")
    return found


def learning(title: str, arms: Mapping[str, Learned]) -> list[str]:
    """A section on how fast the arms learn."""
    lines = [f"## {title}", "", "| | seeds | success at the end, % | SPL, % | steps to half, thousands | got there |"]
    lines.append("|---|---|---|---|---|---|")
    for name, arm in arms.items():
        success, spl = (spread(values) if values else "see below" for values in (arm.success, arm.spl))
        steps, count = spread(arm.steps, scale=1e-3), len(arm.steps)
        lines.append(f"| {ARMS[name]} | {count} | {success} | {spl} | {steps} | {sum(arm.arrived)} of {count} |")
    if "ppo" in arms:
        goal = arms["ppo"]
        ratios = [
            f"{ARMS[name]} {np.mean(arm.steps) / np.mean(goal.steps):.2f} ("
            + ", ".join(f"{np.mean(arm.other[w]) / np.mean(goal.other[w]):.2f}" for w in OTHER)
            + ")"
            for name, arm in arms.items()
            if name != "ppo"
        ]
        lines += [
            "",
            f"Steps to half over those of PPO on the goal, by windows of {WINDOW} episodes (of "
            f"{' and '.join(map(str, OTHER))}: longer ones hold failures of long ago, shorter ones chance): "
            f"{'; '.join(ratios)}. The claim is at most 0.5 for VSC-RL. Where PPO did not get there its whole budget "
            "counts, and the ratio can be smaller than it seems.",
        ]
    if "vsc" in arms and "vsc-sentence" in arms and arms["vsc"].curves == arms["vsc-sentence"].curves:
        lines += ["", "Subgoals read from the sentence are the oracle's here, word for word: the runs are the same."]
    return [*lines, ""]


def draw(parts: Mapping[str, Mapping[str, Learned]], path: Path) -> None:
    """Running success over environment steps, a panel for each part: means over seeds, bands of two of the arms."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(parts), figsize=(6.4 * len(parts), 5.4), layout="constrained", squeeze=False)
    colours = {name: f"C{number % 10}" for number, name in enumerate(ARMS)}
    for panel, (title, arms) in zip(panels[0], parts.items()):
        for name, arm in arms.items():
            at = sorted({steps for curve in arm.curves for steps, _ in curve})
            if not at:
                continue
            rows = [np.interp(at, *zip(*curve), left=np.nan) for curve in arm.curves if curve]
            known = ~np.isnan(rows).any(0)
            steps, values = np.array(at)[known] / 1000, np.array(rows)[:, known]
            dashed = name.startswith(("ppo", "digirl"))
            mean = 100 * values.mean(0)
            panel.plot(steps, mean, "--" if dashed else "-", color=colours[name], label=ARMS[name], lw=1.6)
            if name in ("ppo", "vsc") and len(values) > 1:
                low, high = np.array([t_interval(100 * column) for column in values.T]).T
                panel.fill_between(steps, low.clip(0), high.clip(max=100), color=colours[name], alpha=0.15, lw=0)
        panel.axhline(50, color="0.6", lw=0.8)
        panel.set(title=title, xlabel="environment steps, thousands", ylabel="success of training episodes, %")
        panel.set_ylim(0, 102)  # lines at the top stay whole
    named = {label: line for panel in panels[0] for line, label in zip(*panel.get_legend_handles_labels())}
    figure.legend(list(named.values()), list(named), loc="outside lower center", ncol=3, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def page(runs: Path, grid: str, picture: Path | None = None, command: str = "benchmarks/subgoal_arms.sh") -> str:
    """The whole table, of the parts that ran, and where a path is given their curves."""
    lines, parts = [f"Command: `{command}`.", "", *READ_FIRST, ""], {}
    for title, prefix, suffix in (
        (f"MiniGrid, {grid}", grid, ""),
        ("FollowInstruction in homes, learning", "follow_instruction", "-training"),
    ):
        try:
            arms = read_learned(runs, prefix, suffix)
        except InputError as error:
            lines += [f"## {title}", "", f"Not run: {error}", ""]
            continue
        parts[title] = arms
        lines += learning(title, arms)
        cfg: Any = OmegaConf.load(next(runs.glob(f"{prefix}-*-[0-9]*{suffix}")) / "config.yaml")
        lines += [
            f"{cfg.total_steps:,} environment steps, of them {cfg.vsc.demonstration_steps:,} demonstrations; "
            f"{cfg.num_envs} environments.",
            "",
        ]
    measured = read_arms(runs, "follow_instruction", ARMS, "benchmarks/subgoal_arms.sh")
    if measured:
        lines += section("FollowInstruction in unseen homes", measured, ARMS, PAIRS)
    if parts and picture is not None:
        draw(parts, picture)
        lines += [f"![success over steps]({picture.name})", ""]
    if parts:
        seen = [arm for arms in parts.values() for arm in arms.values()]
        lines += [f"{time.strftime('%Y-%m-%d')}. {facts(seen)}", ""]
    return "\n".join(["# Learning with subgoals", "", *unfinished(parts), *lines])


def unfinished(parts: Mapping[str, Mapping[str, Learned]]) -> list[str]:
    """What a reader has to know first where seeds are missing."""
    short = [
        f"{ARMS[name]} {len(arm.steps)}"
        for arms in parts.values()
        for name, arm in arms.items()
        if len(arm.steps) < SEEDS
    ]
    return [f"**Unfinished, seeds of {SEEDS}: {'; '.join(short)}.**", ""] if short else []


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--grid", default="doorkey-8x8")
    parser.add_argument("--command", default="benchmarks/subgoal_arms.sh")
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    show(page(words.runs, words.grid, words.out and words.out.with_suffix(".png"), words.command), words.out)
