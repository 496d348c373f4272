"""The table of decomposers, from made-up results."""

import json
from pathlib import Path

import pytest

from agents.subgoals.step_metrics import METRICS
from benchmarks.decomposer import page
from core.errors import InputError

VERSION = {"platform": "Somewhere", "threads": 1, "torch": "2", "python": "3.12", "code": "abc"}


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def figures(value: float) -> dict[str, dict]:
    return {part: {metric: figure(value) for metric in METRICS} for part in ("all", "new tasks", "pick_two")}


def write(runs: Path, name: str, result: dict) -> None:
    (runs / name).mkdir(parents=True)
    (runs / name / "result.json").write_text(json.dumps(result))
    (runs / name / "version.json").write_text(json.dumps(VERSION))


def evaluation(exact: float) -> dict:
    return {
        "file": "valid_seen.jsonl.gz", "goals": 20, "tasks": 7, "demonstrations": 7, "dropped": ["t"],
        "goals_known_word_for_word": 3, "parts": {"all": 20, "new tasks": 12, "pick_two": 5},
        "methods": {"nearest goal": figures(0.2), "decomposer": figures(exact)},
        "over_retrieval": {metric: figure(exact - 0.2) for metric in METRICS},
        "words": {"instructions": 90, "phrases": figure(0.5), "plain": figure(0.4)},
    }  # fmt: skip


def test_baselines_have_intervals_over_tasks_and_the_decomposer_over_seeds(tmp_path):
    training = {"steps": 9, "seconds": 30, "train_goals": 50, "train_instructions": 200, "val_goals": 6,
                "parameters": 4000, "words": 80, "tokens": 40}  # fmt: skip
    for seed, exact in enumerate((0.3, 0.5)):
        write(tmp_path, f"train-{seed}", training)
        write(tmp_path, f"beam-{seed}", evaluation(exact))
    text = page(tmp_path)
    assert "| nearest goal | 20.0 (10.0 to 30.0) |" in text
    assert "| decomposer, beam of 4 | 40.0 (-87.1 to 167.1) |" in text  # Student's t with one degree of freedom
    assert "| pick two (5) | 20.0 / 20.0 | 40.0 / 40.0 |" in text
    assert "seed 1 30.0 (20.0 to 40.0) exact" in text
    assert "greedy, without" not in text
    assert "**Unfinished: 2 of 3 seeds.**" in text


def test_a_folder_without_runs_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match=r"run benchmarks/decomposer.sh first"):
        page(tmp_path)
