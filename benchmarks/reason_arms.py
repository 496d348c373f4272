"""The tables and curves of reasoning arms: python -m benchmarks.reason_arms RUNS [--out TABLE.md]

Reads what benchmarks/reason_arms.sh left in RUNS: after a supervised warm start, reward against more imitation at equal
compute; and five ways to learn from reward at equal numbers of sampled answers. Two intervals stand beside each mean:
over training seeds (Student's t on the seeds' means), and over homes (bootstrap of whole homes, the seeds' mean of each
question). Arms are compared question by question, over homes again.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as parquet
from jaxtyping import Bool, Float
from numpy import ndarray

from agents.reasoning.answer_figures import CHANCE, MAJORITY, ORACLE
from agents.reasoning.curves import curve, read_run
from agents.reasoning.reasoner_plots import curves_figure
from benchmarks.agents import show
from benchmarks.arms import facts, spread
from core.errors import InputError
from core.files import atomic_file, read_json
from core.intervals import grouped_mean

WARM: Final = {"warm": "supervised warm start"}
START: Final = {"grpo": "then reward (GRPO)", "imitation": "then more supervised learning"}
LOSSES: Final = {
    "grpo": "GRPO",
    "dapo": "DAPO",
    "reinforce++": "Reinforce++",
    "vgpo": "VGPO (on DAPO)",
    "vgpo-uncompensated": "VGPO without visual compensation",
}
NAMES: Final = WARM | {"imitation": START["imitation"]} | LOSSES
PAIRS: Final = {
    "start": (("grpo", "warm"), ("imitation", "warm"), ("grpo", "imitation")),
    "losses": (
        ("dapo", "grpo"),
        ("reinforce++", "grpo"),
        ("vgpo", "dapo"),
        ("vgpo-uncompensated", "dapo"),
        ("vgpo", "vgpo-uncompensated"),
    ),
}
SETS: Final = {
    "test": "unseen homes, with colours of things that training never showed",
    "larger-homes/test": "unseen homes of three or four rooms; training homes have one or two",
    "val": "unseen homes like those of training",
}
WAYS: Final = ("cold", "blind", "exchanged", "sampled")
SCRIPT: Final = "benchmarks/reason_arms.sh"


@dataclass(frozen=True, eq=False)
class Arm:
    """One arm on one set of questions, all its seeds on the same questions."""

    hits: dict[str, Float[ndarray, "S Q"]]  # way of asking -> share of a question's answers that are right
    reached: Float[ndarray, "S Q"]  # one of the answers drawn at T = 1 is right
    tokens: Float[ndarray, " S"]  # mean length of an answer at T = 0.01
    homes: list[str]
    needs: Bool[ndarray, " Q"]
    evaluations: list[dict[str, Any]]  # result.json of a seed's evaluation
    training: list[dict[str, Any]]  # and of its training
    versions: list[dict[str, Any]]


def read_arm(root: Path, name: str, questions: str) -> Arm:
    """All seeds of an arm on one set.

    Raises:
        InputError: no seed is finished, or seeds met different questions.
    """
    folders = [root / f"{name}-{seed}" for seed in range(100)]
    folders = [folder for folder in folders if (root / f"{folder.name}-test" / "result.json").is_file()]
    if not folders:
        raise InputError(f"no finished evaluation of {name} in {root}; run {SCRIPT}")
    tables = [read_answers(root / f"{folder.name}-test" / "answers.parquet", questions) for folder in folders]
    first = tables[0]["cold"]
    if any(table["cold"]["question"] != first["question"] for table in tables):
        raise InputError(f"the seeds of {name} met different questions of {questions}; run {SCRIPT} anew")
    count = len(first["question"])
    right = {  # each (S, Q, draws)
        way: np.array([table[way]["correct"] for table in tables], dtype=float).reshape(len(tables), count, -1)
        for way in WAYS
    }
    return Arm(
        {way: values.mean(-1) for way, values in right.items()},
        right["sampled"].max(-1),
        np.array([np.mean(table["cold"]["tokens"]) for table in tables]),
        first["group"],
        np.array(first["needs_picture"], dtype=bool),
        [read_json(root / f"{folder.name}-test" / "result.json", "evaluation") for folder in folders],
        [read_json(folder / "result.json", "training") for folder in folders],
        [
            read_json(place / "version.json", "version")
            for folder in folders
            for place in (folder, root / f"{folder.name}-test")
        ],
    )


def read_answers(file: Path, questions: str) -> dict[str, dict[str, list[Any]]]:
    """The answers to one set: way of asking -> column -> values, a question's draws beside each other.

    Raises:
        InputError: the set was not measured.
    """
    columns = ["way", "question", "group", "needs_picture", "correct", "tokens"]
    whole = parquet.read_table(file, columns=columns, filters=[("set", "=", questions)]).to_pydict()
    if not whole["way"]:
        raise InputError(f"{file} holds no answers to {questions}; run {SCRIPT}")
    rows: dict[str, list[int]] = {}
    for number, way in enumerate(whole["way"]):
        rows.setdefault(way, []).append(number)
    return {way: {name: [whole[name][i] for i in chosen] for name in columns} for way, chosen in rows.items()}


def read_arms(root: Path, names: Iterable[str], questions: str) -> dict[str, Arm]:
    """The finished arms on one set; what is not finished is named on stderr.

    Raises:
        InputError: arms met different questions.
    """
    arms: dict[str, Arm] = {}
    for name in names:
        try:
            arms[name] = read_arm(root, name, questions)
        except InputError as error:
            print(f"left out: {error}", file=sys.stderr)
    if any(arm.homes != next(iter(arms.values())).homes for arm in arms.values()):
        raise InputError(f"the arms met different questions of {questions}; run {SCRIPT} anew")
    return arms


def over_homes(values: Float[ndarray, "S Q"], homes: Sequence[str]) -> str:
    low, high = grouped_mean(values.mean(0), homes)
    return f"{100 * low:.1f} to {100 * high:.1f}"


def table(arms: Mapping[str, Arm], names: Mapping[str, str], questions: str) -> list[str]:
    """One line an arm, and what stands beside: chance, the most frequent answers, the exact answers."""
    head = ["arm", "right %", "over homes", "needs the picture %", "words suffice %", "grey pictures %",
            "other pictures %", "pass@k %", "tokens", "answers", "million tokens", "minutes"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for key, title in names.items():
        if key not in arms:
            continue
        arm = arms[key]
        once, seen = arm.hits["cold"], arm.needs
        cells = [
            spread(once.mean(1)),
            over_homes(once, arm.homes),
            *(spread(once[:, part].mean(1)) if part.any() else "" for part in (seen, ~seen)),
            *(spread(arm.hits[way][:, seen].mean(1)) if seen.any() else "" for way in ("blind", "exchanged")),
            spread(arm.reached.mean(1)),
            spread(arm.tokens, 1),
            f"{np.mean([run['answers'] for run in arm.training]):,.0f}",
            f"{np.mean([run['forward_tokens'] for run in arm.training]) / 1e6:.2f}",
            f"{np.mean([run['seconds'] for run in arm.training]) / 60:.1f}",
        ]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    accuracy = next(iter(arms.values())).evaluations[0]["sets"][questions]["accuracy"]
    for row in (CHANCE, MAJORITY, ORACLE):
        parts = [accuracy[row].get(part) for part in ("needs the picture", "words suffice")]
        beside = [f"{100 * part['value']:.1f}" if part else "" for part in parts]
        lines.append(f"| {row} | {100 * accuracy[row]['all']['value']:.1f} | | {' | '.join(beside)} |" + " |" * 7)
    return lines


def comparisons(arms: Mapping[str, Arm], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Differences, question by question over homes, and seed by seed; of all, and of those that need the picture."""
    lines = []
    for one, other in pairs:
        if one not in arms or other not in arms:
            continue
        first, second = arms[one], arms[other]
        count = min(len(first.hits["cold"]), len(second.hits["cold"]))
        apart = first.hits["cold"][:count] - second.hits["cold"][:count]
        needs, homes = first.needs, np.array(first.homes)
        for part, which in ((np.ones_like(needs), "all"), (needs, "needs the picture"), (~needs, "words suffice")):
            if not part.any() or (which != "all" and part.all()):
                continue
            low, high = grouped_mean(apart[:, part].mean(0), homes[part])
            said = "higher" if low > 0 else "lower" if high < 0 else "not apart"
            lines.append(
                f"    {NAMES[one]} - {NAMES[other]}, {which}: {100 * apart[:, part].mean():+.1f} "
                f"({100 * low:+.1f} to {100 * high:+.1f}) {said}; over seeds {spread(apart[:, part].mean(1))}"
            )
    return lines


def page(arms: Mapping[str, Mapping[str, Arm]], picture: str = "") -> str:
    """Both parts on every set as one page.

    Args:
        arms: set -> arm.
        picture: file name of the curves, beside the page.
    """
    first = next(iter(next(iter(arms.values())).values()))
    ways = first.evaluations[0]
    lines = [
        "# Reasoning models: reward or imitation, and which reward",
        "",
        f"Command: `{SCRIPT}`. Table of {time.strftime('%Y-%m-%d')}. Seeds: {len(first.training)}. "
        + facts([arm for by_arm in arms.values() for arm in by_arm.values()]),
        "",
        f"A model of {first.training[0]['parameters'] / 1e6:.1f} M parameters, made from a configuration, whose vision "
        "tower first learned by contrast of views of training homes and captions, then trained on worked answers and "
        "descriptions of pictures, is the warm start of its seed; every other arm goes on from there. Right: one "
        "answer at temperature 0.01, by the exact check of its question. Grey and other pictures: the same for "
        f"questions that need the picture, shown a grey picture or another question's. pass@k: one of {ways['k']} "
        "answers at temperature 1. Answers, tokens through the model (a token learned from counts three times) and "
        "minutes are of the arm's own training, after the warm start. In brackets 95 % intervals over "
        "seeds, beside them over homes.",
        "",
    ]
    if picture:
        lines += [f"![learning curves]({picture})", ""]
    parts = (
        ("After the warm start: reward against imitation at equal compute", WARM | START, PAIRS["start"]),
        ("Reward: five ways at equal numbers of answers", WARM | LOSSES, PAIRS["losses"]),
    )
    for title, names, pairs in parts:
        lines += [f"## {title}", ""]
        for questions, by_arm in arms.items():
            one = next(iter(by_arm.values()))
            lines += [
                f"### {questions}: {len(one.homes):,} questions about {len(set(one.homes))} {SETS[questions]}",
                "",
                *table(by_arm, names, questions),
                "",
                *comparisons(by_arm, pairs),
                "",
            ]
    return "\n".join(lines).rstrip() + "\n"


def draw(root: Path, file: Path) -> bool:
    """Accuracy on val over sampled answers and over compute, an arm a line, as a PNG; False: no run has logged any."""
    panels: dict[str, dict[str, Any]] = {}
    for title, x, unit, names in (
        ("share of val right, by answers drawn", "answers", 1, LOSSES),
        ("the same, by thousands of tokens", "forward_tokens", 1000, START),
    ):
        for name in names:
            folders = [folder for seed in range(100) if (folder := root / f"{name}-{seed}" / "result.json").is_file()]
            if folders and (line := curve([read_run(folder.parent) for folder in folders], "val_accuracy", x)):
                panels.setdefault(title, {})[NAMES[name]] = replace(line, x=line.x / unit)
    if panels:
        with atomic_file(file) as target:
            curves_figure(panels, "").savefig(target, format="png", dpi=130, facecolor="white")
    return bool(panels)


def steps_of_imitation(root: Path, seed: int) -> int:
    """Supervised steps that take as much compute as the seed's GRPO run, judged by the seed's warm start.

    Raises:
        InputError: one of the two is not finished.
    """
    warm, reward = (read_json(root / f"{name}-{seed}" / "result.json", "training") for name in ("warm", "grpo"))
    return max(1, round(reward["forward_tokens"] * warm["steps"] / warm["forward_tokens"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help=f"folder that {SCRIPT} filled")
    parser.add_argument("--out", type=Path, help="write the tables there, and the curves beside them")
    parser.add_argument(
        "--steps-of-imitation", type=int, metavar="SEED", help="say that number for a seed, and no more"
    )
    args = parser.parse_args()
    try:
        if args.steps_of_imitation is not None:
            print(steps_of_imitation(args.runs, args.steps_of_imitation))
            return
        found = {questions: read_arms(args.runs, NAMES, questions) for questions in SETS}
        arms = {questions: by_arm for questions, by_arm in found.items() if by_arm}
        if not arms:
            sys.exit(f"nothing to show in {args.runs}; run {SCRIPT}")
        picture = args.out.with_suffix(".png") if args.out else None
        drawn = picture is not None and draw(args.runs, picture)
        text = page(arms, picture.name if picture and drawn else "")
    except InputError as error:
        sys.exit(f"benchmarks.reason_arms: {error}")
    show(text, args.out)


if __name__ == "__main__":
    main()
