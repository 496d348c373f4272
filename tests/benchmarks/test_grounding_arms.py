"""The tables of grounding arms from what runs left behind."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks import grounding_arms
from benchmarks.grounding_arms import arm_table, read_arm, said_verdict
from benchmarks.turned_scenes import ANGLES_DEG, FREE, VIEWED, table
from core.errors import InputError
from scene.provenance import Provenance, unseen


def leave_runs(root: Path, arm: str, accuracies: list[float], **changed: object) -> None:
    """Run folders of an arm as the jobs leave them, one seed an accuracy."""
    for seed, accuracy in enumerate(accuracies):
        rows = [
            {"name": "ours", "kind": "ours", "groups": {"overall": {"Acc": {"value": accuracy}, "F1": {"value": 10.0}}}}
        ]
        tests = {
            "table": rows,
            "scenes": 2,
            "examples": 9,
            "counts": {"overall": 9},
            "conformal": None,
            "zero_shot": {"text": "unknown"},
        }
        trained = {"seconds": 120, "train_sentences": 40, "train_rooms": 3}
        settings = {"seed": seed, "steps": 5, "batch_scenes": 2, "batch_sentences": 4, **changed}
        for name, result in {"": trained, "-on-homes": tests, "-on-houses": tests}.items():
            folder = root / f"{arm}-{seed}{name}"
            folder.mkdir()
            (folder / "result.json").write_text(json.dumps(result))
            (folder / "config.yaml").write_text(yaml.safe_dump(settings))
            version = {"platform": "test", "threads": 1, "torch": "2", "python": "3", "code": "abc"}
            (folder / "version.json").write_text(json.dumps(version))


def test_differences_are_taken_seed_by_seed(tmp_path: Path):
    leave_runs(tmp_path, "full", [60.0, 70.0, 80.0])
    leave_runs(tmp_path, "graph", [62.0, 72.0, 82.0])
    arms = {name: read_arm(tmp_path, name) for name in ("full", "graph")}
    rows = arm_table(arms, {"full": "full model", "graph": "graph", "no-scene": "no scene loss"}, "full")[2:]
    # the seeds differ by 10 points, the arms by exactly 2 in each
    assert rows[1].split(" | ")[3] == "2.0 (2.0 to 2.0)"
    assert rows[0].split(" | ")[2] == "70.0 (45.2 to 94.8)"  # t of 2 degrees of freedom: 4.303 * 10 / sqrt(3)
    assert rows[2] == "| no scene loss | not run | | | | | | |"


def test_seeds_with_other_settings_are_no_arm(tmp_path: Path):
    leave_runs(tmp_path, "full", [60.0, 61.0])
    (tmp_path / "full-1" / "config.yaml").write_text(yaml.safe_dump({"seed": 1, "steps": 6}))
    with pytest.raises(InputError, match="steps"):
        read_arm(tmp_path, "full")


def test_an_arm_that_was_not_tested_is_left_out(tmp_path: Path):
    leave_runs(tmp_path, "full", [60.0])
    (tmp_path / "full-0-on-houses" / "result.json").unlink()
    with pytest.raises(InputError, match="no finished runs of full"):
        read_arm(tmp_path, "full")


def test_the_page_and_the_curve_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for arm in ("long", "full", "share-12"):
        leave_runs(tmp_path, arm, [50.0, 52.0])
    out = tmp_path / "table.md"
    monkeypatch.setattr(sys, "argv", ["grounding_arms", str(tmp_path), "--out", str(out)])
    grounding_arms.main()
    assert "| 12.5 % of the sentences | 2 | 51.0" in out.read_text()
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_turned_scenes_are_counted_by_angle():
    found = {(group, angle): [(True, True), (angle != 90, False)] for group in (FREE, VIEWED) for angle in ANGLES_DEG}
    rows = dict(line.split(" | ", 1) for line in table([found])[2:])
    assert rows["| 90 degrees"] == "50.0 | 50.0 | 50.0 |"
    assert rows["| 180 degrees"] == "100.0 | 50.0 | 100.0 |"


def test_the_verdict_is_said_in_the_evaluators_words():
    verdict = unseen(Provenance(), "procthor", [("house", "the bed")])
    assert said_verdict({"zero_shot": verdict.to_json()}) == str(verdict)
