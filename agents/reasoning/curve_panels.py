"""Which learning curves `evaluate-reasoner` shows of training runs, and what result.json says of them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agents.reasoning.curves import Curve, TrainingRun, curve, over_epochs
from agents.reasoning.question_sets import set_name
from agents.reasoning.validation import VAL, of_set
from core.errors import InputError

Lines = dict[str, Curve]  # arm -> curve

MAIN: Final = "val_accuracy"
"""What a step of a run is chosen by, if one is."""
PANELS: Final = {  # metric of train-reasoner -> what its panel is called
    MAIN: "accuracy on val, likeliest answers",
    "val_warm": "accuracy on val, T = 0.6",
    "accuracy": "accuracy of sampled answers",
    "reward": "reward",
    "length": "tokens of an answer",
    "reflection_ratio": "answers that reflect",
    "entropy": "entropy, nats a token",
    "kl": "divergence from the start",
    "informative": "questions with unlike rewards",
    "loss": "loss",
}
RISING: Final = (MAIN, "val_warm", "accuracy", "reward")
"""Of these the highest is the best."""
PASS: Final = re.compile(r"val_(pass@\d+)")
"""What the metrics of train-reasoner's `val_passes` are called."""


def curves_of(
    arms: Mapping[str, Sequence[TrainingRun]],
) -> tuple[dict[str, Lines], dict[str, dict[str, Lines]], dict[str, Any]]:
    """Learning curves over epochs, and what stands of them in result.json.

    Returns:
        Panels, by title: the arms that have its metric. By the titles of those on val, what the same is on sets out of
        distribution (set -> arm -> curve, of the seeds that were looked at with it). And for result.json: arms, sets,
        and mean, best and last of what rises.

    Raises:
        InputError: one arm's runs have different files by the name of one set.
    """
    for arm, runs in arms.items():
        check_one_file(arm, runs)
    rows = [row for runs in arms.values() for run in runs for row in run.rows]
    drawn = {found[0]: found[1] for row in rows for name in row if (found := PASS.fullmatch(name))}
    passes = {name: f"{drawn[name]} on val, T = 1" for name in sorted(drawn, key=lambda n: (len(n), n))}
    far = list(dict.fromkeys(name for runs in arms.values() for run in runs for name in ood_sets(run)))
    panels: dict[str, Lines] = {}
    beside: dict[str, dict[str, Lines]] = {}
    over: dict[str, dict[str, Any]] = {}
    for metric, title in (PANELS | passes).items():
        lines = {arm: line for arm, runs in arms.items() if (line := curve(runs, metric)) is not None}
        if not lines:
            continue
        if metric in RISING or metric in passes:
            over[title] = {arm: over_epochs(line) for arm, line in lines.items()}
        others: dict[str, Lines] = {}
        for name in far if metric.startswith(VAL) else ():
            others[name], told = {}, {}
            for arm, runs in arms.items():
                own = [run for run in runs if name in ood_sets(run)]
                line = curve(own, of_set(name) + metric.removeprefix(VAL)) if own else None
                if line is not None:
                    others[name][arm], told[arm] = line, over_epochs(line, by=curve(own, MAIN))
            if told:
                over[title.replace("on val", f"on {name} (out of distribution)")] = told
        others = {name: found for name, found in others.items() if found}
        shown = title.replace(" on val", "") if others else title
        panels[shown] = lines
        if others:
            beside[shown] = others
    described = {
        name: {"runs": [str(run.folder) for run in runs], "seeds": [run.seed for run in runs]}
        for name, runs in arms.items()
    }
    return panels, beside, {"x": "epoch", "arms": described, "ood": far, "over": over}


def check_one_file(arm: str, runs: Sequence[TrainingRun]) -> None:
    """Raises InputError where seeds of an arm were looked at with different files that are called the same."""
    files: dict[str, str] = {}
    for run in runs:
        for item in run.config.get("val_ood", ()):
            other = files.setdefault(set_name(item), item)
            if other != item:
                raise InputError(
                    f"runs of {arm} have two files by the name {set_name(item)}, val_ood={other} and {item} (in "
                    f"{run.folder}); their mean would mean nothing, so compare runs that name one"
                )


def ood_sets(run: TrainingRun) -> list[str]:
    """Sets out of distribution that a run was looked at with; of runs older than `val_ood` none."""
    return [set_name(item) for item in run.config.get("val_ood", ())]
