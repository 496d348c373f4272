"""Learning curves over seeds, from runs small enough to check by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from agents.reasoning.curves import Curve, arms_of, curve, over_epochs, read_run, read_runs
from core.errors import InputError


def write_run(folder: Path, rows: list[dict], job: str = "train-reasoner", **config) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({"job": job, "seed": 0, "algorithm": "grpo", **config}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def points(*pairs: tuple[float, float]) -> list[dict]:
    return [{"step": k, "epoch": x, "val_accuracy": y} for k, (x, y) in enumerate(pairs)]


def test_a_curve_is_the_mean_of_its_seeds_with_one_standard_deviation_to_each_side(tmp_path):
    for seed, (start, end) in enumerate(((0.2, 0.4), (0.4, 0.8))):
        write_run(tmp_path / f"run-{seed}", points((0, start), (1, end)), seed=seed)
    found = curve(read_runs([str(tmp_path / "run-*")]), "val_accuracy")
    assert found.x.tolist() == [0, 1]
    np.testing.assert_allclose(found.mean, [0.3, 0.6])
    low, high = found.band
    np.testing.assert_allclose(high - found.mean, [0.02**0.5, 0.08**0.5])  # (0.4 - 0.2) / sqrt(2), twice that
    np.testing.assert_allclose(found.mean - low, high - found.mean)


def test_seeds_that_log_at_other_places_meet_on_the_stretch_that_all_have_reached(tmp_path):
    one = read_run(write_run(tmp_path / "one", points((0, 0.0), (1, 0.4), (2, 0.6))))
    other = read_run(write_run(tmp_path / "other", points((0, 0.2), (1.5, 0.5)), seed=1))
    found = curve([one, other], "val_accuracy")
    assert found.x.tolist() == [0, 1, 1.5]  # nothing is said of epoch 2, which one seed has not reached
    np.testing.assert_allclose(found.values, [[0.0, 0.4, 0.5], [0.2, 0.4, 0.5]])


def test_a_metric_that_one_seed_lacks_has_no_curve_and_a_later_row_replaces_an_earlier(tmp_path):
    run = read_run(write_run(tmp_path / "run", points((0, 0.1), (0, 0.3), (1, float("nan")))))
    found = curve([run], "val_accuracy")
    assert (found.x.tolist(), found.values.tolist()) == ([0], [[0.3]])
    assert found.band[0].tolist() == found.band[1].tolist() == [0.3]  # one seed has no band
    assert curve([run], "kl") is None


def test_mean_best_and_last_are_taken_of_each_seed_before_seeds_are_averaged(tmp_path):
    for seed, values in enumerate(((0.0, 0.6, 0.3), (0.2, 0.2, 0.5))):
        write_run(tmp_path / f"run-{seed}", points(*enumerate(values)), seed=seed)
    found = over_epochs(curve(read_runs([str(tmp_path / "run-*")]), "val_accuracy"))
    assert (found["seeds"], found["points"]) == (2, 3)
    assert [round(found[name]["value"], 6) for name in ("mean", "max", "last")] == [0.3, 0.55, 0.4]
    low, high = found["max"]["interval"]
    assert low < 0.5 and high > 0.6  # of two seeds, 12.7 times 0.05 to each side
    val = Curve(np.arange(3.0), np.array([[0.5, 0.1, 0.5], [0.1, 0.2, 0.3]]))  # best at epochs 0 and 2
    line = Curve(np.arange(3.0), np.array([[0.0, 0.6, 0.3], [0.2, 0.2, 0.5]]))
    assert over_epochs(line, by=val)["chosen"]["value"] == pytest.approx((0.0 + 0.5) / 2)


def test_runs_that_differ_in_the_seed_alone_are_one_arm_and_arms_bear_what_sets_them_apart(tmp_path):
    for seed in (1, 0):
        for kind, kl in (("grpo", 0.0), ("grpo", 0.1), ("dapo", 0.0)):
            write_run(tmp_path / f"{kind}-{kl}-{seed}", points((0, 0.1)), seed=seed, algorithm=kind, kl={"coef": kl},
                      model=f"warm-{seed}", threads=seed)  # fmt: skip
    arms = arms_of(read_runs([str(tmp_path / "*")]))
    assert {name: [run.seed for run in runs] for name, runs in arms.items()} == {
        "algorithm=dapo, kl.coef=0.0": [0, 1],
        "algorithm=grpo, kl.coef=0.0": [0, 1],
        "algorithm=grpo, kl.coef=0.1": [0, 1],
    }
    assert list(arms_of(read_runs([str(tmp_path / "dapo-*")]))) == ["dapo"]


def test_what_cannot_be_a_curve_is_refused_by_name(tmp_path):
    write_run(tmp_path / "run", points((0, 0.1)))
    write_run(tmp_path / "again", points((0, 0.1)))
    write_run(tmp_path / "agent", points((0, 0.1)), job="train-agent")
    write_run(tmp_path / "fresh", [])
    with pytest.raises(InputError, match="one configuration with one seed"):
        arms_of(read_runs([str(tmp_path / "run"), str(tmp_path / "again")]))
    with pytest.raises(InputError, match="a run of train-agent, not of train-reasoner"):
        read_run(tmp_path / "agent")
    with pytest.raises(InputError, match="logged nothing yet"):
        read_run(tmp_path / "fresh")
    with pytest.raises(InputError, match="no run folder fits .*none-"):
        read_runs([str(tmp_path / "none-*")])
    assert len(read_runs([str(tmp_path / "run"), str(tmp_path / "r*n")])) == 1  # named twice, read once
