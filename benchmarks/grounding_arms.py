"""The table of grounding arms: python -m benchmarks.grounding_arms RUNS [--out TABLE.md]

Reads what benchmarks/grounding_arms.sh left in RUNS: every arm trained from several seeds and evaluated once on the
test homes and once, without ever having seen such a home, on the ProcTHOR houses (the arm `houses` the other way
round). The intervals are Student's t over training seeds; that of one model over homes is in its own report. What an
arm costs is a difference to the full model of the same training, seed by seed. The facts above the tables are read from
the runs' own records.
"""

import argparse
import io
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from benchmarks.arms import facts
from core.errors import InputError
from core.files import atomic_write, read_json
from core.intervals import t_interval

LONGER: Final = {
    "long": "full model",
    "multi": "full, then several or none (multi)",
    "turned": "with quarter turns (rotate=sentences)",
    "houses": "trained on ProcTHOR houses instead",
    "both": "trained on both",
}
SHORT: Final = {
    "full": "full model",
    "share-50": "50 % of the sentences",
    "share-25": "25 % of the sentences",
    "share-12": "12.5 % of the sentences",
    "no-spatial": "no spatial attention",
    "no-scene": "no scene loss",
    "no-object": "no object pretraining",
    "graph": "with scene-graph encoder",
    "gps-form": "GPS's own parts alone, this size",
}
SHARES: Final = {"share-12": 12.5, "share-25": 25.0, "share-50": 50.0, "full": 100.0}
NOT_RUN: Final = ("gps-paper", "gps-code")
SOURCES: Final = {"homes": "generated homes", "houses": "ProcTHOR houses"}
OVERALL, ONE, SEVERAL = "overall", "Acc", "F1"  # names in result.json
GROUPS: Final = (
    "unique", "easy", "hard", "view-dependent", "view-independent", "nothing held out", "held out: pattern",
    "held out: synonym", "held out: relation-class", "held out: color-class",
)  # fmt: skip
MAY_DIFFER: Final = ("seed", "out", "resume", "threads", "init")  # between the seeds of one arm

Groups = Mapping[str, Mapping[str, Mapping[str, Any]]]  # group -> metric -> value, interval


@dataclass(frozen=True)
class Arm:
    """One arm, its seeds in order."""

    training: Sequence[Mapping[str, Any]]  # results of pretrain-grounding
    settings: Mapping[str, Any]  # the first seed's
    versions: Sequence[Mapping[str, Any]]
    tests: Mapping[str, Sequence[Mapping[str, Any]]]  # results of evaluate-grounding, by source

    def values(self, source: str, group: str, metric: str) -> list[float]:
        """One value a seed, in percent; empty where nothing counts in this group."""
        rows = [ours(result) for result in self.tests.get(source, ())]
        return [row[group][metric]["value"] for row in rows if metric in row.get(group, {})]


def ours(result: Mapping[str, Any]) -> Groups:
    """The measured model's row of an evaluation."""
    return next(row["groups"] for row in result["table"] if row["kind"] == "ours")


def read_arm(root: Path, name: str) -> Arm:
    """All seeds of one arm that are finished.

    Raises:
        InputError: none is, or they differ in more than their seed.
    """
    folders = [root / f"{name}-{seed}" for seed in range(100)]
    folders = [f for f in folders if all((root / f"{f.name}-on-{s}" / "result.json").is_file() for s in SOURCES)]
    if not folders:
        raise InputError(f"no finished runs of {name} in {root}")
    configs = [yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")) for folder in folders]
    for folder, config in zip(folders, configs):
        differing = [key for key in config if key not in MAY_DIFFER and config[key] != configs[0].get(key)]
        if differing:
            raise InputError(f"{folder} differs from {folders[0]} in {', '.join(differing)}: not seeds of one arm")
    tests = {
        source: [read_json(root / f"{f.name}-on-{source}" / "result.json", "evaluation") for f in folders]
        for source in SOURCES
    }
    places = [folder for f in folders for folder in (f, *(root / f"{f.name}-on-{source}" for source in SOURCES))]
    return Arm(
        [read_json(folder / "result.json", "training result") for folder in folders],
        configs[0],
        [read_json(folder / "version.json", "version record") for folder in places],
        tests,
    )


def said(values: Sequence[float]) -> str:
    """Mean and interval over seeds."""
    if not values:
        return ""
    low, high = t_interval(values)
    return f"{np.mean(values):.1f}" + ("" if math.isnan(low) else f" ({low:.1f} to {high:.1f})")


def arm_table(arms: Mapping[str, Arm], names: Mapping[str, str], baseline: str) -> list[str]:
    """One line an arm: what it reaches, and how long it took; arms that were not run are named.

    Args:
        baseline: the arm whose seeds the others are compared with.
    """
    lines = [
        "| arm | seeds | generated homes, Acc % | difference | ProcTHOR houses, Acc % | difference | "
        "generated homes, F1 % of several or none | minutes a seed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, title in names.items():
        if name not in arms:
            lines.append(f"| {title} | not run | | | | | | |")
            continue
        arm, cells = arms[name], [title, str(len(arms[name].training))]
        for source in SOURCES:
            values = arm.values(source, OVERALL, ONE)
            pairs = zip(values, arms[baseline].values(source, OVERALL, ONE))
            cells += [said(values), "" if name == baseline else said([a - b for a, b in pairs])]
        minutes = np.mean([result["seconds"] for result in arm.training]) / 60
        lines.append("| " + " | ".join([*cells, said(arm.values("homes", OVERALL, SEVERAL)), f"{minutes:.1f}"]) + " |")
    return lines


def group_table(arm: Arm, first: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The full model by group of sentences, beside what reads less of them or nothing.

    Args:
        first: by source, the evaluation that measured the baselines.
    """
    lines = []
    for source, title in SOURCES.items():
        result = first[source]
        baselines = [row for row in result["table"] if row["kind"] == "baseline"]
        lines += [
            f"### {title}: {result['scenes']} scenes, {result['examples']:,} sentences",
            "",
            "| group | sentences, of either metric | full model | "
            + " | ".join(row["name"] for row in baselines)
            + " |",
            "|---" * (3 + len(baselines)) + "|",
        ]
        kinds = [group for group in ours(result) if group.startswith("kind ")]
        for group in (OVERALL, *GROUPS, *kinds):
            for metric in (ONE, SEVERAL):
                if values := arm.values(source, group, metric):
                    others = [row["groups"].get(group, {}).get(metric, {}).get("value") for row in baselines]
                    shown = [group if metric == ONE else f"{group} (F1)", f"{result['counts'][group]:,}", said(values)]
                    shown += ["" if value is None else f"{value:.1f}" for value in others]
                    lines.append("| " + " | ".join(shown) + " |")
        lines += ["", f"Zero-shot check: {said_verdict(result)}", "", said_coverage(arm, source), ""]
    return lines


def said_verdict(result: Mapping[str, Any]) -> str:
    """What the evaluator found in the manifests."""
    return str(result["zero_shot"]["text"])


def said_coverage(arm: Arm, source: str) -> str:
    """Conformal sets over the seeds."""
    found = [result["conformal"] for result in arm.tests[source] if result.get("conformal")]
    if not found:
        return "No conformal threshold was calibrated."
    empty = [100 * f["empty_of_none"] for f in found if f["empty_of_none"] is not None]
    return (
        f"Conformal sets: stated coverage {100 * found[0]['level']:.0f} %, measured "
        f"{said([100 * f['covered'] for f in found])} %, {np.mean([f['size'] for f in found]):.1f} objects each; of "
        f"sentences that mean nothing {said(empty)} % get an empty set."
    )


def turned_tables(root: Path) -> list[str]:
    """What benchmarks/turned_scenes.py found, where it was run."""
    lines = []
    for name, title in LONGER.items():
        file = root / f"{name}.turned.md"
        if file.is_file():
            lines += [f"## Homes turned under the viewer: {title}", "", file.read_text(encoding="utf-8")]
    return lines


def curve(arms: Mapping[str, Arm]) -> bytes:
    """Accuracy against the share of the training sentences, every seed a point, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    for (source, title), color in zip(SOURCES.items(), ("#1b6ca8", "#c8553d")):
        points = [(SHARES[name], arms[name].values(source, OVERALL, ONE)) for name in SHARES if name in arms]
        ax.plot([x for x, _ in points], [np.mean(y) for _, y in points], color=color, label=f"{title}, unseen")
        for x, values in points:
            ax.scatter([x] * len(values), values, s=16, color=color, alpha=0.6, zorder=3)
    ax.set_xscale("log", base=2)
    ticks = sorted(SHARES.values())
    ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
    ax.set_xlabel("share of the training sentences (%)", fontsize=12)
    ax.set_ylabel("accuracy (%)", fontsize=12)
    ax.tick_params(labelsize=11)
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize=11)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def trained_on(arm: Arm) -> str:
    """How much an arm learned from."""
    result, settings = arm.training[0], arm.settings
    rows = settings["batch_scenes"] * settings["batch_sentences"]
    return (
        f"{result['train_sentences']:,} sentences about {result['train_rooms']:,} rooms, {settings['steps']} updates "
        f"of {rows} sentences"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder that benchmarks/grounding_arms.sh filled")
    parser.add_argument("--out", type=Path, help="write the table there, and the curve beside it")
    parser.add_argument("--note", default="", help="a sentence put above the tables")
    args = parser.parse_args()
    arms: dict[str, Arm] = {}
    for name in (*LONGER, *SHORT):
        try:
            arms[name] = read_arm(args.runs, name)
        except InputError as error:
            print(f"left out: {error}", file=sys.stderr)
    if absent := [name for name in ("long", "full") if name not in arms]:
        sys.exit(f"{' and '.join(absent)} not in {args.runs}; run benchmarks/grounding_arms.sh")
    first = {source: arms["long"].tests[source][0] for source in SOURCES}
    text = "\n".join(
        [
            "# Grounding in unseen homes: the parts of the model, less language, another simulator",
            "",
            *([args.note, ""] if args.note else []),
            f"Command: `benchmarks/grounding_arms.sh`. Table of {time.strftime('%Y-%m-%d')}. {facts(arms.values())}",
            "",
            "Acc: the target scores highest among all things of its home (ProcTHOR: of its room). F1: of the predicted "
            "set, for sentences that mean several things or none. Weights were chosen on val homes of the training "
            "source; test homes were evaluated once. Intervals: 95 %, Student's t over training seeds; differences are "
            "seed by seed.",
            "",
            "## One simulator asked about another",
            "",
            f"Full model: {trained_on(arms['long'])}.",
            *([f"ProcTHOR: {trained_on(arms['houses'])}."] if "houses" in arms else []),
            "",
            *arm_table(arms, LONGER, "long"),
            "",
            "## Parts left out, and less language",
            "",
            f"A shorter training, so that there can be many: {trained_on(arms['full'])}, for every arm alike.",
            "",
            *arm_table(arms, SHORT, "full"),
            *(f"| {name} (configured) | not run | | | | | | |" for name in NOT_RUN),
            "",
            "![accuracy against the share of the training sentences](grounding_arms.png)",
            "",
            "## The full model by group of sentences",
            "",
            *group_table(arms["long"], first),
            *turned_tables(args.runs),
        ]
    )
    if args.out:
        atomic_write(args.out, text)
        atomic_write(args.out.with_suffix(".png"), curve(arms))
        print(f"table: {args.out}")
    else:
        print(text)


if __name__ == "__main__":
    main()
