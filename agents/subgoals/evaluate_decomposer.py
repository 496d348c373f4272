"""Measure how near proposed steps are to those of ALFRED's plans: a trained decomposer beside baselines.

sightline evaluate-decomposer model=FOLDER data=FOLDER      the decomposer and all baselines on valid_seen
sightline evaluate-decomposer data=FOLDER                   the baselines alone

Baselines learn from what the decomposer learned from: the training file without the tasks held out. Every goal sentence
is one example; intervals are over tasks, because sentences about one task are alike. Leaves result.json and
proposals.jsonl, a line for each goal with what every method proposed.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from agents.subgoals.alfred import FILES, Demonstration, Split, data_folder, held_out, read
from agents.subgoals.retrieval_plans import MostFrequent, NearestGoal
from agents.subgoals.sequence_model import LearnedSteps
from agents.subgoals.step_metrics import METRICS, compare
from agents.subgoals.step_sequences import StepPlanner, Steps
from agents.subgoals.step_words import StepWords, word_f1
from agents.subgoals.template_plans import Template
from core.errors import InputError, check_choice
from core.files import atomic_write
from core.intervals import grouped_mean, grouped_rate
from core.job import JobConfig, job_main
from core.progress import track
from core.run import CONFIG as RUN_CONFIG
from core.run import RunFolder, read_config

MODEL, RETRIEVED = "decomposer", "nearest goal"
RATES: Final = ("exact", "interactions", "actions")


@dataclass
class EvaluateDecomposerConfig(JobConfig):
    """Steps proposed for ALFRED's goals: sightline evaluate-decomposer model=FOLDER data=FOLDER"""

    model: str = ""  # model folder of train-decomposer; empty = baselines alone
    data: str = ""  # folder with ALFRED's files; empty = alfred/ in the folder that SIGHTLINE_DATA names
    split: str = "valid_seen"  # valid_seen, or val: the tasks of the training file that are held out
    val_share: float = 0.1  # share of the training file's tasks held out; as the model was trained
    beam: int = 4  # rows the decomposer keeps while it writes; 1 takes the likeliest next token
    constrained: bool = True  # whether the decomposer may write only what the grammar allows

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("split", self.split, ("val", "valid_seen"))
        if self.beam < 1:
            raise InputError(f"beam={self.beam} should be positive")
        if not 0 < self.val_share < 1:
            raise InputError(f"val_share={self.val_share} should be between 0 and 1")


CONFIG = EvaluateDecomposerConfig


def run(cfg: EvaluateDecomposerConfig) -> dict[str, Any]:
    """Proposes, compares, and writes figures and proposals."""
    check_share(cfg)
    place = data_folder(cfg.data)
    kept, val = held_out(read(place, "train"), cfg.val_share)
    asked = val if cfg.split == "val" else read(place, cfg.split)
    learned = LearnedSteps.from_pretrained(cfg.model, cfg.beam, cfg.constrained) if cfg.model else None
    methods = planners(kept) | ({MODEL: learned} if learned else {})
    folder = RunFolder.open(cfg, "evaluate-decomposer")
    finished = folder.result()
    if finished is not None:
        folder.close()
        return finished
    began = time.perf_counter()
    with folder:
        goals = [goal for goal, _ in asked.goals]
        said = {}
        with track(len(methods), f"goals of {cfg.split}") as progress:
            for name, method in methods.items():
                said[name] = method.plans(goals)
                progress.advance()
        write_proposals(folder.file("proposals.jsonl"), asked, said)
        result = figures(kept, asked, said)
        phrases = learned.phrases if learned else StepWords.of(kept.instructions)
        show(result)
        return folder.finish(
            {
                "model": cfg.model, "split": cfg.split, "file": FILES["train" if cfg.split == "val" else cfg.split],
                "dropped": list(asked.dropped), **result, "words": word_figures(asked, phrases),
                "seconds": round(time.perf_counter() - began, 2),
            }
        )  # fmt: skip


def check_share(cfg: EvaluateDecomposerConfig) -> None:
    """Raises InputError where the model's own training run held out another share of tasks."""
    parent = Path(cfg.model).expanduser().parent
    if cfg.model and (parent / RUN_CONFIG).is_file():
        before = read_config(parent).get("val_share", cfg.val_share)
        if before != cfg.val_share:
            raise InputError(f"the model was trained with val_share={before}, this is val_share={cfg.val_share}")


def planners(kept: Split) -> dict[str, StepPlanner]:
    """The baselines, fitted."""
    plans = [demo.steps for demo in kept.demonstrations]
    return {
        "most frequent plan": MostFrequent(plans),
        "template": Template(plans),
        RETRIEVED: NearestGoal([goal for goal, _ in kept.goals], [demo.steps for _, demo in kept.goals]),
    }


def figures(kept: Split, asked: Split, said: dict[str, list[Steps]]) -> dict[str, Any]:
    """Every figure of every method: over all goals, over tasks that training has not, and by kind of task."""
    demos = [demo for _, demo in asked.goals]
    known_tasks = {demo.task for demo in kept.demonstrations}
    known_goals = {goal.lower() for goal, _ in kept.goals}
    parts: dict[str, list[int]] = {
        "all": list(range(len(demos))),
        "new tasks": [k for k, demo in enumerate(demos) if demo.task not in known_tasks],
    }
    for kind in sorted({demo.kind for demo in demos}):
        parts[kind] = [k for k, demo in enumerate(demos) if demo.kind == kind]
    rows = {name: [compare(s, demo.steps) for s, demo in zip(plans, demos)] for name, plans in said.items()}
    table = {
        name: {part: {m: _value(found, demos, index, m) for m in METRICS} for part, index in parts.items() if index}
        for name, found in rows.items()
    }
    result: dict[str, Any] = {
        "goals": len(demos),
        "tasks": len({demo.task for demo in demos}),
        "demonstrations": len(asked.demonstrations),
        "parts": {part: len(index) for part, index in parts.items()},
        "goals_known_word_for_word": sum(goal.lower() in known_goals for goal, _ in asked.goals),
        "methods": table,
    }
    if MODEL in rows:
        result["over_retrieval"] = {m: _gain(rows[MODEL], rows[RETRIEVED], demos, m) for m in METRICS}
    return result


def word_figures(asked: Split, phrases: StepWords) -> dict[str, Any]:
    """How near the words said for the true steps are to what people wrote for them: mean F1 of words.

    An instruction that a person wrote is compared with the phrase of its step and with the step's plain words.
    """
    rows = [(text, step, demo) for demo, told in _told(asked) for text, step in zip(told, demo.steps) if text]
    demos = [demo for _, _, demo in rows]
    found = {
        "phrases": [word_f1(phrases.say((step,))[0], text) for text, step, _ in rows],
        "plain": [word_f1(step.words, text) for text, step, _ in rows],
    }
    return {"instructions": len(rows), **{name: _mean(values, demos) for name, values in found.items() if values}}


def _told(split: Split) -> list[tuple[Demonstration, tuple[str, ...]]]:
    return [(demo, telling.instructions) for demo in split.demonstrations for telling in demo.tellings]


def _value(
    rows: Sequence[dict[str, float]], demos: Sequence[Demonstration], index: Sequence[int], metric: str
) -> dict[str, Any]:
    values, tasks = np.array([rows[k][metric] for k in index]), [demos[k].task for k in index]
    low, high = grouped_rate(values, tasks) if metric in RATES else grouped_mean(values, tasks)
    return {"value": float(values.mean()), "low": low, "high": high}


def _mean(values: Sequence[float], demos: Sequence[Demonstration]) -> dict[str, float]:
    low, high = grouped_mean(np.array(values), [demo.task for demo in demos])
    return {"value": float(np.mean(values)), "low": low, "high": high}


def _gain(
    rows: Sequence[dict[str, float]], others: Sequence[dict[str, float]], demos: Sequence[Demonstration], metric: str
) -> dict[str, float]:
    """How much higher a figure is on the same goals."""
    return _mean([row[metric] - other[metric] for row, other in zip(rows, others)], demos)


def write_proposals(path: Path, asked: Split, said: dict[str, list[Steps]]) -> None:
    """One line per goal: the sentence, the true steps, and every method's."""
    lines = []
    for number, (goal, demo) in enumerate(asked.goals):
        row = {"trial": demo.trial, "task": demo.task, "goal": goal, "truth": _plain(demo.steps)}
        row |= {name: _plain(plans[number]) for name, plans in said.items()}
        lines.append(json.dumps(row))
    atomic_write(path, "\n".join(lines) + "\n")


def _plain(steps: Steps) -> list[str]:
    return [step.words for step in steps]


def show(result: dict[str, Any]) -> None:
    """Prints the figures over all goals."""
    from rich.console import Console
    from rich.table import Table

    printed = Table(title=f"{result['goals']} goals of {result['tasks']} tasks", title_justify="left")
    for column in ("method", *METRICS):
        printed.add_column(column, justify="left" if column == "method" else "right")
    for name, parts in result["methods"].items():
        cells = (f"{100 * v['value']:.1f} ({100 * v['low']:.1f}-{100 * v['high']:.1f})" for v in parts["all"].values())
        printed.add_row(name, *cells)
    Console(width=140).print(printed)


if __name__ == "__main__":
    job_main("evaluate-decomposer")
