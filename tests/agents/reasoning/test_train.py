import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import agents.reasoning.train as job
from agents.reasoning.rewards import RewardConfig
from agents.reasoning.train_config import KLConfig, TrainReasonerConfig
from agents.reasoning.vgpo import VGPOConfig
from agents.reasoning.vlm import VLM
from core.errors import InputError
from core.job import load_config
from core.run import read_metrics
from tests.agents.reasoning.colour_questions import config, write_questions

ROOT = Path(__file__).parents[3]
WARM = {"algorithm": "sft", "steps": 40, "prompts": 8, "lr": 1e-2, "schedule": "cosine", "eval_every": 20}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_questions(tmp_path_factory.mktemp("questions"))


@pytest.fixture(scope="module")
def warm(data, tmp_path_factory) -> Path:
    """A run of imitation whose model answers in the asked form and is sometimes right."""
    folder = tmp_path_factory.mktemp("warm") / "run"
    job.run(config(data, folder, **WARM))
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return VLM.from_pretrained(folder / "model").model.state_dict()


def same(one: Path, two: Path) -> bool:
    a, b = weights(one), weights(two)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if "second" not in k} for row in read_metrics(folder)]


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in ("seconds", "peak_memory_gb")}


def no_number(answer: str, sample: object) -> float:
    """A reward that is no reward."""
    return float("nan")


def pays_all(answer: str, sample: object) -> float:
    """A reward for anything."""
    return 1.0


def paid_by(data: Path, folder: Path, function: str) -> Path:
    """The same questions under a user's reward function."""
    shutil.copytree(data, folder)
    for split in ("train", "val"):
        lines = [json.loads(line) for line in (data / f"{split}.jsonl").read_text().splitlines()]
        paid = [json.dumps({**line, "reward": f"{__name__}:{function}"}) for line in lines]
        (folder / f"{split}.jsonl").write_text("\n".join(paid))
    return folder


def test_imitation_learns_the_form_and_leaves_a_model_and_a_curve(data, warm):
    logged, result = rows(warm), json.loads((warm / "result.json").read_text())
    assert [row["step"] for row in logged] == list(range(41)) and logged[0]["epoch"] == 0
    assert logged[-1]["loss"] < 0.5 * logged[1]["loss"]
    assert result["val_format"] == 1.0 and result["val_accuracy"] == logged[-1]["val_accuracy"]
    assert result["epochs"] == pytest.approx(40 * 8 / 24) and result["answers"] == 320 and result["idle_steps"] == 0
    assert [row["step"] for row in logged if "val_accuracy" in row] == [0, 20, 40]
    assert job.run(config(data, warm, resume="auto", **WARM)) == result  # a finished run is not run again


@pytest.mark.parametrize(
    ("algorithm", "changes"),
    [
        ("grpo", {"kl": KLConfig(0.1)}),
        ("reinforce++", {"samples": 1, "prompts": 16, "freeze_vision": True}),
        ("best-of", {}),
        pytest.param("dr-grpo", {}, marks=pytest.mark.slow),
        pytest.param("dapo", {"overlong_buffer": 4, "mask_cut_off": True, "most_rounds": 2}, marks=pytest.mark.slow),
        pytest.param("gspo", {"passes": 2}, marks=pytest.mark.slow),
        pytest.param("rloo", {"kl": KLConfig(0.1, "k1", "reward")}, marks=pytest.mark.slow),
        pytest.param(
            "reinforce++-baseline",
            {"vgpo": VGPOConfig(enabled=True, preset="paper-code")},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_algorithm_takes_its_steps(data, warm, tmp_path, algorithm, changes):
    cfg = config(data, tmp_path / "run", model=str(warm / "model"), algorithm=algorithm, steps=1, **changes)
    result = job.run(cfg)
    row = rows(tmp_path / "run")[-1]
    assert all(isinstance(value, int | float) for value in row.values())
    assert row["answers"] == row["groups"] * cfg.samples and result["forward_tokens"] > 0
    assert row["updates"] >= 1 and row["grad_norm"] > 0 and not same(warm, tmp_path / "run")
    assert ("kl" in row) == (algorithm == "grpo") and ("vgpo_alpha_mean" in row) == cfg.vgpo.enabled


def test_dynamic_sampling_asks_on_until_enough_answers_were_collected(data, warm, tmp_path):
    options = {"algorithm": "dapo", "most_rounds": 3, "prompts": 6, "samples": 2, "steps": 0, "answers": 40}
    cfg = config(data, tmp_path / "run", model=str(warm / "model"), **options)
    result, steps = job.run(cfg), rows(tmp_path / "run")[1:]
    assert cfg.steps_over(24) == 4 > result["steps"] and 40 <= result["answers"] < 40 + 3 * 12
    assert all(1 <= row["rounds"] <= 3 and row["groups"] == 6 * row["rounds"] for row in steps)
    assert any(row["rounds"] > 1 for row in steps)
    assert steps[-1]["epoch"] == sum(row["groups"] for row in steps) / 24


def test_a_curriculum_asks_each_form_in_turn(data, warm, tmp_path, monkeypatch):
    asked = []
    flow = job.data_flow

    def noted(order, first, count):
        questions = flow(order, first, count)
        asked.append((first, {sample.reward for sample in questions.samples}))
        return questions

    monkeypatch.setattr(job, "data_flow", noted)
    stages = ["yes-no", "choice", "open", "best-of"]
    result = job.run(config(data, tmp_path / "run", model=str(warm / "model"), stages=stages, steps=1))
    assert [first for first, _ in asked] == [0, 0, 0, 0] and result["steps"] == 4
    assert asked[0][1] == {"yes-no"} and asked[1][1] == {"choice"} and asked[2][1] <= {"exact", "number"}
    assert "imitated" in rows(tmp_path / "run")[-1] and "imitated" not in rows(tmp_path / "run")[-2]


class Killed(Exception):
    pass


@pytest.mark.parametrize("algorithm", ["dapo", pytest.param("sft", marks=pytest.mark.slow)])
def test_an_interrupted_run_continues_to_the_same_weights_and_rows(data, warm, tmp_path, monkeypatch, algorithm):
    options: dict[str, Any] = {"algorithm": algorithm, "steps": 3, "checkpoint_every": 1, "eval_every": 2}
    options |= {"model": str(warm / "model"), "minibatches": 2, "most_rounds": 2, "vgpo": VGPOConfig(enabled=True)}
    options["val_ood"] = [str(paid_by(data, tmp_path / "far", "pays_all") / "val.jsonl")]
    whole = job.run(config(data, tmp_path / "whole", **options))
    real, calls = job.set_rates, []

    def fails_at_the_third(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return real(*arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(job, "set_rates", fails_at_the_third)
        job.run(config(data, tmp_path / "broken", **options))
    continued = job.run(config(data, tmp_path / "broken", resume="auto", **options))
    assert without_times(whole) == without_times(continued)
    assert rows(tmp_path / "whole") == rows(tmp_path / "broken")
    assert same(tmp_path / "whole", tmp_path / "broken")


def test_sets_out_of_distribution_are_measured_at_every_look_and_change_nothing_that_is_learned(data, warm, tmp_path):
    far = paid_by(data, tmp_path / "far", "pays_all") / "val.jsonl"
    options: dict[str, Any] = {"model": str(warm / "model"), "eval_every": 1, "val_passes": 2}
    near = job.run(config(data, tmp_path / "near", **options))
    result = job.run(config(data, tmp_path / "both", val_ood=[str(far)], **options))
    logged = rows(tmp_path / "both")
    for row in logged:
        told = {name.removeprefix("ood/far/val/") for name in row if name.startswith("ood/")}
        assert told == {name.removeprefix("val_") for name in row if name.startswith("val_")}
        assert row["ood/far/val/accuracy"] >= row["val_accuracy"] and row["ood/far/val/pass@2"] >= row["val_pass@2"]
    assert len(logged) == 3 and result["ood/far/val/accuracy"] == logged[-1]["ood/far/val/accuracy"]
    assert [{name: row[name] for name in row if "ood" not in name} for row in logged] == rows(tmp_path / "near")
    assert same(tmp_path / "near", tmp_path / "both") and near["best_step"] == result["best_step"]


def test_a_reward_that_tells_nothing_apart_changes_nothing_and_is_counted(data, warm, tmp_path):
    flat = RewardConfig(accuracy=0.0, language=0.0, not_ended=None)
    result = job.run(config(data, tmp_path / "run", model=str(warm / "model"), reward=flat))
    assert result["idle_steps"] == 2 and same(warm, tmp_path / "run")
    assert rows(tmp_path / "run")[-1]["informative"] == 0 and rows(tmp_path / "run")[-1]["updates"] == 0


def test_what_cannot_be_learned_from_stops_with_a_reason(data, warm, tmp_path):
    nan = paid_by(data, tmp_path / "nan", "no_number")
    with pytest.raises(InputError, match="gave nan for sample 'val-"):
        job.run(config(nan, tmp_path / "run", model=str(warm / "model")))
    long = tmp_path / "long"
    shutil.copytree(data, long)
    with open(long / "train.jsonl", "a") as file:
        file.write(json.dumps({"id": "endless", "prompt": "and " * 200 + "?", "answer": "3"}))
    with pytest.raises(InputError, match="question 'endless': prompt 0 takes"):
        job.run(config(long, tmp_path / "run4", model=str(warm / "model"), steps=7))
    with pytest.raises(InputError, match="data is required"):
        job.run(TrainReasonerConfig())
    other = tmp_path / "clip"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(InputError, match="clip model"):
        job.run(config(data, tmp_path / "run2", model=str(other)))
    with pytest.raises(InputError, match="max_new_tokens=4"):
        job.run(config(data, tmp_path / "run3", model=str(warm / "model"), **{**WARM, "max_new_tokens": 4}))


def test_impossible_settings_are_refused_at_once():
    for match, changes in {
        "compares answers to one question": {"samples": 1},
        "adapts a trained model": {"lora": 4},
        "some would be empty": {"minibatches": 17},
        "without chance": {"temperature": 0.0},
        "shorter than max_new_tokens": {"overlong_buffer": 64},
        "counts what one way": {"algorithm": "sft", "answers": 100},
        "did you mean 'grpo'": {"algorithm": "gprpo"},
        "stages": {"stages": ["hard"]},
        "clip.dual": {"dual_clip": 1.0},
    }.items():
        with pytest.raises(InputError, match=match):
            TrainReasonerConfig(**changes)
    assert TrainReasonerConfig(algorithm="dapo").asks_on and TrainReasonerConfig(algorithm="dapo").clip.high == 0.28
    assert not TrainReasonerConfig(algorithm="dapo", dynamic_sampling=False).asks_on


@pytest.mark.slow
def test_adapters_learn_against_a_reference_without_them_and_are_merged(data, warm, tmp_path):
    cfg = config(data, tmp_path / "run", model=str(warm / "model"), lora=2, lr=1e-2, kl=KLConfig(0.1), steps=2)
    result = job.run(cfg)
    assert result["trainable_parameters"] < 0.5 * result["parameters"]
    assert rows(tmp_path / "run")[1]["kl"] == pytest.approx(0, abs=1e-6) and rows(tmp_path / "run")[2]["kl"] > 0
    before, after = weights(warm), weights(tmp_path / "run")
    assert before.keys() == after.keys() and any(not torch.equal(before[name], after[name]) for name in before)


# kills its own process without warning while the fourth step answers
KILLED = """
import json, os, signal, sys
import agents.reasoning.train as job
from tests.agents.reasoning.colour_questions import config
original, calls = job.generate, []
def fatal(*args, **kwargs):
    calls.append(1)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)
job.generate = fatal
job.run(config(sys.argv[1], sys.argv[2], **json.loads(sys.argv[3])))
"""


@pytest.mark.slow
def test_a_process_killed_in_the_middle_resumes_to_the_same_weights(data, warm, tmp_path):
    options = {"model": str(warm / "model"), "steps": 5, "checkpoint_every": 2, "minibatches": 2, "threads": 1}
    whole = job.run(config(data, tmp_path / "whole", **options))
    command = [sys.executable, "-c", KILLED, str(data), str(tmp_path / "broken"), json.dumps(options)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-2000:]
    assert not (tmp_path / "broken" / "result.json").exists()
    resumed = job.run(config(data, tmp_path / "broken", resume="auto", **options))
    assert same(tmp_path / "whole", tmp_path / "broken") and rows(tmp_path / "whole") == rows(tmp_path / "broken")
    assert without_times(whole) == without_times(resumed)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["dapo", "reinforce++", "sft", "best-of"])
def test_two_processes_train_to_the_weights_of_one(data, warm, tmp_path, algorithm):
    options = {"algorithm": algorithm, "steps": 3, "minibatches": 2, "most_rounds": 2, "checkpoint_every": 2}
    options["val_ood"] = [str(shutil.copytree(data, tmp_path / "far") / "val.jsonl")]
    cfg = config(data, tmp_path / "one", model=str(warm / "model"), lr=1e-4, **options)
    one = job.run(cfg)
    keys = ("prompts", "samples", "max_new_tokens", "eval_every", "val_questions", "lr", "model", *options)
    words = [f"{key}={getattr(cfg, key)}" for key in keys]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "agents.reasoning.train", f"data={data}", f"out={tmp_path / 'two'}", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    first, second = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=1e-3, atol=1e-5, msg=name)
    two = json.loads((tmp_path / "two" / "result.json").read_text())
    for name in ("answers", "asked", "forward_tokens", "idle_steps", "val_accuracy", "ood/far/val/accuracy"):
        assert one[name] == two[name], name
    for mine, theirs in zip(rows(tmp_path / "one"), rows(tmp_path / "two")):
        assert mine.keys() == theirs.keys()
        for name in ("reward", "accuracy", "length", "informative", "entropy", "loss"):
            assert mine.get(name, 0) == pytest.approx(theirs.get(name, 0), abs=1e-4), (mine["step"], name)


def test_recipes_hold_known_keys_and_the_one_that_builds_on_another_changes_only_the_preset():
    schema = OmegaConf.structured(TrainReasonerConfig)
    found = {}
    for path in (ROOT / "configs" / "reasoner_recipe").glob("*.yaml"):
        recipe = OmegaConf.load(path)
        recipe.pop("defaults", None)
        found[path.stem] = OmegaConf.to_object(OmegaConf.merge(schema, recipe))
    assert found["laptop"] == TrainReasonerConfig()
    assert found["dapo"].asks_on and found["maye"].algorithm == "reinforce++" and found["maye"].samples == 1
    assert found["curr-reft"].stages == ["yes-no", "choice", "open", "best-of"]
    released = load_config("train-reasoner", TrainReasonerConfig, ["reasoner_recipe=vgpo-paper-code"])
    assert released == dataclasses.replace(found["vgpo"], vgpo=VGPOConfig(enabled=True, preset="paper-code"))
