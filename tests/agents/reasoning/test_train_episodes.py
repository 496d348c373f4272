"""The job train-reasoner where it learns from episodes in the simulator."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

import agents.reasoning.train as job
from agents.evaluate import EvaluateAgentConfig
from agents.evaluate import run as evaluate
from agents.reasoning.small_vlm import SmallVLMConfig
from agents.reasoning.train_config import TrainReasonerConfig
from agents.reasoning.turn_config import EnvironmentConfig, TurnStyle, read_style
from agents.reasoning.vlm import VLM
from core.errors import InputError
from core.run import read_metrics
from tests.agents.tiny import make_scenes

ROOT = Path(__file__).parents[3]
TINY = SmallVLMConfig(
    width=32,
    layers=2,
    heads=2,
    vision_width=16,
    vision_layers=1,
    vision_heads=2,
    patch=8,
    image_size=16,
    vocabulary=320,
)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> str:
    return str(make_scenes(tmp_path_factory.mktemp("scenes")))


def config(scenes: str, out: Path, turns: int = 3, credit: str = "gigpo", **changes: Any) -> TrainReasonerConfig:
    environment = EnvironmentConfig(scenes=scenes, max_turns=turns, image_size=16, history=1, credit=credit)
    small = {"small": TINY, "prompts": 2, "samples": 2, "max_new_tokens": 20, "val_episodes": 2, "eval_every": 100}
    return TrainReasonerConfig(environment=environment, out=str(out), **{**small, "micro_rows": 8, **changes})


@pytest.fixture(scope="module")
def warm(scenes, tmp_path_factory) -> Path:
    """A run that imitated the oracle until it answered in the asked form."""
    folder = tmp_path_factory.mktemp("warm") / "run"
    options = {"algorithm": "sft", "oracle_episodes": 4, "prompts": 8, "steps": 40, "lr": 1e-2, "schedule": "cosine"}
    job.run(config(scenes, folder, 8, **options))
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return VLM.from_pretrained(folder / "model").model.state_dict()


def test_a_step_of_each_kind_leaves_a_policy_that_says_how_it_is_asked(scenes, tmp_path, monkeypatch):
    original, half = job.play, []

    def noted(*arguments):
        half.append(torch.is_autocast_enabled("cpu"))
        return original(*arguments)

    monkeypatch.setattr(job, "play", noted)
    first = job.run(config(scenes, tmp_path / "first", algorithm="sft", oracle_episodes=2, steps=1))
    assert first["algorithm"] == "sft" and first["answers"] == 2
    options = {"model": str(tmp_path / "first" / "model"), "steps": 1, "precision": "bfloat16"}
    job.run(config(scenes, tmp_path / "second", **options))
    assert half == [True]  # turns are answered as they are scored
    played = list(read_metrics(tmp_path / "second"))[-1]
    assert all(0 <= played[name] <= 1 for name in ("success", "named_share", "well_formed_share", "met_share"))
    assert played["turns"] <= 3 and played["distance_to_goal_m"] > 0 and "val_success" in played
    assert read_style(tmp_path / "second" / "model") == TurnStyle("find_object", 1, 20, 16, 3)


@pytest.mark.slow
def test_imitating_the_oracle_leaves_a_policy_that_answers_in_the_asked_form(scenes, warm, tmp_path):
    result = json.loads((warm / "result.json").read_text())
    assert result["val_unreadable_share"] == 0.0 and result["algorithm"] == "sft"
    assert read_style(warm / "model") == TurnStyle("find_object", 1, 20, 16, 8)
    options = {"scenes": scenes, "policy": str(warm / "model"), "episodes": 4, "max_steps": 3}
    found = evaluate(EvaluateAgentConfig(out=str(tmp_path / "run"), greedy=True, **options))
    assert found["unreadable_share"] == 0.0 and found["episodes"] == 4


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "credit"), [("grpo", "gigpo"), ("reinforce++", "gae")])
def test_episodes_are_learned_from_and_a_broken_run_goes_on_as_if_nothing_had_happened(
    scenes, warm, tmp_path, monkeypatch, algorithm, credit
):
    options = {"algorithm": algorithm, "model": str(warm / "model"), "steps": 2, "checkpoint_every": 1, "lr": 1e-3}
    options |= {"samples": 3, "minibatches": 2, "credit": credit}
    whole = job.run(config(scenes, tmp_path / "whole", **options))
    logged = list(read_metrics(tmp_path / "whole"))
    assert all(0 <= logged[-1][name] <= 1 for name in ("success", "named_share", "well_formed_share"))
    assert logged[1]["named_share"] > 0 and whole["answers"] > 0
    assert max(row.get("updates", 0) for row in logged) > 0
    before, after = weights(warm), weights(tmp_path / "whole")
    assert any(not torch.equal(before[name], after[name]) for name in before)

    original = job.play

    def broken(vlm, episodes, step, generator):
        if step == 1:
            raise KeyboardInterrupt
        return original(vlm, episodes, step, generator)

    monkeypatch.setattr(job, "play", broken)
    with pytest.raises(KeyboardInterrupt):
        job.run(config(scenes, tmp_path / "broken", **options))
    monkeypatch.setattr(job, "play", original)
    job.run(config(scenes, tmp_path / "broken", resume="auto", **options))
    resumed = weights(tmp_path / "broken")
    assert all(torch.equal(after[name], resumed[name]) for name in after)


@pytest.mark.slow
@pytest.mark.parametrize("credit", ["gigpo", "gae"])
def test_two_processes_learn_from_episodes_as_one_does(scenes, warm, tmp_path, credit):
    options = {"model": str(warm / "model"), "steps": 2, "lr": 1e-3, "threads": 1}
    cfg = config(scenes, tmp_path / "one", credit=credit, **options)
    one = job.run(cfg)
    keys = ("prompts", "samples", "max_new_tokens", "val_episodes", "eval_every", "micro_rows", *options)
    words = [f"{key}={getattr(cfg, key)}" for key in keys]
    words += [f"environment.{key}={value}" for key, value in asdict(cfg.environment).items()]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "agents.reasoning.train", f"out={tmp_path / 'two'}", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    first, second = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=1e-3, atol=1e-5, msg=name)
    two = json.loads((tmp_path / "two" / "result.json").read_text())
    assert (one["answers"], one["forward_tokens"]) == (two["answers"], two["forward_tokens"])
    for mine, theirs in zip(read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")):
        for name in ("success", "return", "turns", "named_share", "met_share", "critic_error", "loss"):
            assert mine.get(name, 0) == pytest.approx(theirs.get(name, 0), abs=1e-4), (mine["step"], name)


def test_what_only_questions_have_is_refused_for_episodes(scenes, tmp_path):
    with pytest.raises(InputError, match="leave out data"):
        config(scenes, tmp_path, data="questions")
    with pytest.raises(InputError, match="environment.homes=200"):
        config("procedural", tmp_path)
    with pytest.raises(InputError, match="environment.credit='ppo'"):
        config(scenes, tmp_path, credit="ppo")
