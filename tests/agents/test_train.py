import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

import agents.train as train
from agents.agent import Agent
from agents.networks import Policy
from agents.subgoals.vsc_config import VscConfig
from core.errors import InputError
from core.run import read_metrics
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.tasks import TASKS
from scene.store import SceneStore
from tests.agents.tiny import make_grounder, make_scenes, make_towers
from tests.vl.test_embedder import save_dual_encoder
from vl.model import VLModel

TINY = {"total_steps": 5 * 64, "num_envs": 8, "rollout": 8, "calibration_frames": 32, "val_episodes": 6}
TINY |= {"max_steps": 12, "width": 16, "memory": 8, "checkpoint_every": 2, "threads": 1}
ROOT = Path(__file__).parents[2]
# runs a job and kills its own process without warning the n-th time that something is called
KILLED = """
import importlib, json, os, signal, sys
import agents.train as train
place, name, count, config = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
owner = importlib.import_module(place.split(":")[0])
for part in filter(None, place.partition(":")[2].split(".")):
    owner = getattr(owner, part)
original, calls = getattr(owner, name), []
def fatal(*args, **kwargs):
    calls.append(1)
    if len(calls) == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)
setattr(owner, name, fatal)
train.run(train.TrainAgentConfig(**config))
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("inputs")
    return {
        "scenes": str(make_scenes(root / "scenes")),
        "vl": str(make_towers(root / "vl")),
        "grounder": str(make_grounder(root / "grounder")),
    }


def config(inputs: dict, out: Path, **changes) -> train.TrainAgentConfig:
    return train.TrainAgentConfig(out=str(out), **{**inputs, **TINY, **changes})


def losses(folder) -> list[dict]:
    return [{k: v for k, v in row.items() if "second" not in k} for row in read_metrics(folder)]


def same_policies(one: Path, two: Path) -> bool:
    a, b = (Policy.from_pretrained(folder / "policy")[0].state_dict() for folder in (one, two))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def without_times(result: dict) -> dict:
    return {name: value for name, value in result.items() if "second" not in name}


POINTS = {
    "rollout": ("agents.task_env:TaskEnv", "step", 3 * 8 + 5),
    "update": ("agents.ppo:nn.utils", "clip_grad_norm_", 3 * 16 + 7),
    "evaluation": ("agents.agent:Agent", "__call__", 3),
}


@pytest.mark.parametrize(
    ("point", "features"),
    [
        ("update", "grounder"),
        pytest.param("rollout", "vl", marks=pytest.mark.slow),
        pytest.param("rollout", "pixels", marks=pytest.mark.slow),
        pytest.param("rollout", "grounder", marks=pytest.mark.slow),
        pytest.param("evaluation", "vl", marks=pytest.mark.slow),
    ],
)
def test_a_process_killed_in_the_middle_resumes_to_the_same_weights(inputs, tmp_path, point, features):
    changes = {"features": features, "epochs": 4, "minibatches": 4, "max_kl": 10.0}
    whole = train.run(config(inputs, tmp_path / "whole", **changes))
    broken = config(inputs, tmp_path / "broken", **changes)
    place, name, count = POINTS[point]
    command = [sys.executable, "-c", KILLED, place, name, str(count), json.dumps(asdict(broken))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-2000:]
    assert not (tmp_path / "broken" / "result.json").exists()
    resumed = train.run(config(inputs, tmp_path / "broken", resume="auto", **changes))
    assert same_policies(tmp_path / "whole", tmp_path / "broken")
    assert losses(tmp_path / "whole") == losses(tmp_path / "broken")
    assert without_times(whole) == without_times(resumed)


def test_an_interrupted_run_on_the_vlm_reward_continues_with_the_same_rows(inputs, tmp_path, monkeypatch):
    train.run(config(inputs, tmp_path / "whole", reward="vlm"))
    calls = []

    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:  # after the checkpoint of update 2 and one more update
            raise KeyboardInterrupt
        return update(*args, **kwargs)

    update = train.update
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train, "update", killed)
        train.run(config(inputs, tmp_path / "broken", reward="vlm"))
    assert [row["step"] for row in losses(tmp_path / "broken")] == [1, 2, 3]
    train.run(config(inputs, tmp_path / "broken", reward="vlm", resume="auto"))
    assert losses(tmp_path / "whole") == losses(tmp_path / "broken")
    ended = [row for row in losses(tmp_path / "whole") if row["episodes"]]
    assert all(
        row["return"] == row["model_return"] != row["task_return"] for row in ended
    )  # learned: vlm; logged: both


@pytest.mark.parametrize("features", ["vl", "grounder", "pixels"])
def test_the_saved_policy_acts_as_the_trained_one_did(inputs, tmp_path, features):
    result = train.run(config(inputs, tmp_path / "run", features=features, total_steps=64, image_size=48))
    store = SceneStore(inputs["scenes"])
    homes = HomePool.from_store(store, store.split("val"))
    task = TASKS["find_object"].from_manifest(store.manifest)
    simulator = Simulator(homes, task, num_envs=4, seed=0, max_steps=12)
    agent = Agent.from_pretrained(tmp_path / "run" / "policy", simulator)
    simulator.sensors = agent.sensors
    assert agent.sensors.width == 48
    found = train.evaluate(agent, simulator, 6, seed=0)
    assert found.summary()["path_length_m"] == pytest.approx(result["val_path_length_m"])
    assert found.summary()["steps"] == result["val_steps"]


def test_a_tuned_tower_learns_with_the_policy_and_comes_back_from_its_folder(inputs, tmp_path):
    changes = {"tune": True, "image_size": 32, "total_steps": 2 * 64, "lr": 1e-2}
    result = train.run(config(inputs, tmp_path / "run", **changes))
    store = SceneStore(inputs["scenes"])
    homes = HomePool.from_store(store, store.split("val"))
    simulator = Simulator(homes, TASKS["find_object"].from_manifest(store.manifest), num_envs=6, max_steps=12)
    agent = Agent.from_pretrained(tmp_path / "run" / "policy", simulator)
    simulator.sensors = agent.sensors
    assert train.evaluate(agent, simulator, 6, seed=0).summary()["steps"] == result["val_steps"]
    frozen = VLModel.from_pretrained(inputs["vl"]).image_tower.state_dict()
    tuned = agent.senses.model.image_tower.state_dict()
    assert any(not torch.equal(frozen[name], tuned[name]) for name in frozen)
    with pytest.raises(InputError, match="image_size=32"):
        train.run(config(inputs, tmp_path / "other", tune=True, total_steps=64))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"task": "point_goal", "features": "pixels"},
        {"task": "find_referral", "features": "grounder", "val_episodes": 0},  # the val home has no such sentence
        {"features": "grounder", "control": "continuous"},
        {"features": "pixels", "tilt": True, "algorithm": "bc", "beta": 0.5},
        {"features": "pixels", "control": "continuous", "tilt": True, "algorithm": "bc"},
        {"features": "pixels", "reward": "grounded"},
        {"features": "vl", "reward": "mixture", "mixture_of": "grounded"},
    ],
)
def test_every_kind_of_task_action_and_teacher_trains(inputs, tmp_path, changes):
    result = train.run(config(inputs, tmp_path / "run", total_steps=64, **changes))
    assert 0 <= result.get("val_success", 0) <= 1 and result["env_steps"] == 64
    assert all(torch.isfinite(torch.tensor(v)) for row in losses(tmp_path / "run") for v in row.values())


def test_towers_that_only_pay_may_be_of_another_kind_and_their_time_is_told(inputs, tmp_path):
    save_dual_encoder("clip", tmp_path / "clip", None)
    changes = {"features": "grounder", "reward": "vlm", "reward_vl": str(tmp_path / "clip"), "alpha": 0.0}
    result = train.run(config({**inputs, "vl": ""}, tmp_path / "run", total_steps=128, val_episodes=0, **changes))
    row = read_metrics(tmp_path / "run")[-1]
    assert row["seconds_score"] > 0 and 0 < result["share_of_seconds_scoring"] < 1
    assert row["model_return"] == pytest.approx(row["return"]) and row["model_return"] != row["task_return"]


def test_a_mixture_pays_the_weighted_sum(inputs, tmp_path):
    changes = {"reward": "mixture", "mixture_of": "grounded", "features": "grounder", "val_episodes": 0}
    train.run(config(inputs, tmp_path / "run", task_weight=2.0, model_weight=0.5, **changes))
    rows = [row for row in read_metrics(tmp_path / "run") if row["episodes"]]
    for row in rows:
        assert row["return"] == pytest.approx(2 * row["task_return"] + 0.5 * row["model_return"], abs=1e-4)


def test_cloning_agrees_with_the_oracle_more_and_more_and_can_start_a_later_run(inputs, tmp_path):
    changes = {"features": "grounder", "algorithm": "bc", "total_steps": 8 * 64, "lr": 1e-2, "val_episodes": 0}
    train.run(config(inputs, tmp_path / "bc", **changes))
    agreement = [row["agreement"] for row in losses(tmp_path / "bc")]
    assert agreement[-1] > agreement[0] + 0.1
    ended = [row for row in losses(tmp_path / "bc") if row.get("episodes")]
    assert ended and all("success" not in row and row["teacher_success"] >= 0 for row in ended)  # the oracle drove
    warm = {"features": "grounder", "total_steps": 64, "val_episodes": 0, "warm_start": str(tmp_path / "bc/policy")}
    train.run(config(inputs, tmp_path / "warm", lr=1e-9, **warm))
    weights = [Policy.from_pretrained(tmp_path / name / "policy")[0].state_dict() for name in ("bc", "warm")]
    torch.testing.assert_close(weights[0]["action_head.weight"], weights[1]["action_head.weight"], atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="another kind of policy"):
        train.run(config(inputs, tmp_path / "other", **{**warm, "features": "pixels"}))


def test_time_limits_noise_and_doors_are_the_tasks_and_the_configs(inputs, tmp_path):
    assert train.TrainAgentConfig(task="rearrange").max_steps == 300
    assert train.TrainAgentConfig(task="find_object").max_steps == 100
    changes = {"features": "pixels", "total_steps": 64, "val_episodes": 4, "noise": 0.5, "shut_doors": 0.5}
    train.run(config(inputs, tmp_path / "run", **changes))
    document = json.loads((tmp_path / "run" / "policy" / "policy.json").read_text())
    assert document["actions"][-1] == "open"
    with pytest.raises(InputError, match="noise"):
        train.TrainAgentConfig(noise=-1.0)


def test_a_policy_of_another_model_or_for_other_actions_is_refused(inputs, tmp_path):
    train.run(config(inputs, tmp_path / "run", total_steps=64, val_episodes=0))
    folder = tmp_path / "run" / "policy"
    store = SceneStore(inputs["scenes"])
    homes = HomePool.from_store(store, store.split("val"))
    with pytest.raises(InputError, match="contents differ"):
        Agent.from_pretrained(folder, Simulator(homes), vl=make_towers(tmp_path / "other", seed=1))
    with pytest.raises(InputError, match="look up"):
        Agent.from_pretrained(folder, Simulator(homes, tilt=True))
    document = json.loads((folder / "policy.json").read_text())
    del document["features"]
    (folder / "policy.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="lacks 'features'"):
        Agent.from_pretrained(folder, Simulator(homes))


def test_impossible_settings_stop_before_anything_is_written(inputs, tmp_path):
    with pytest.raises(InputError, match="more than num_envs"):
        train.TrainAgentConfig(num_envs=2, minibatches=4)
    for settings in ({}, {"features": "grounder"}, {"features": "pixels", "reward": "vlm"}):
        with pytest.raises(InputError, match="goes with features=pixels and reward=task"):
            train.TrainAgentConfig(device="cuda", **settings)
    assert train.TrainAgentConfig(device="cuda", features="pixels").device == "cuda"
    with pytest.raises(InputError, match="window=-1"):
        train.TrainAgentConfig(window=-1)
    with pytest.raises(InputError, match="from no reward"):
        train.TrainAgentConfig(algorithm="bc", reward="vlm")
    with pytest.raises(InputError, match="from no reward"):
        train.TrainAgentConfig(algorithm="bc", reward="grounded")
    with pytest.raises(InputError, match="pays nothing under this reward"):
        train.TrainAgentConfig(reward="grounded", reward_vl="towers")
    with pytest.raises(InputError, match="mixture_of"):
        train.TrainAgentConfig(reward="mixture", mixture_of="task")
    with pytest.raises(InputError, match="grounder is required"):
        train.run(config({**inputs, "grounder": ""}, tmp_path / "run", features="vl", reward="grounded"))
    with pytest.raises(InputError, match="scenes is required"):
        train.run(config({**inputs, "scenes": ""}, tmp_path / "run"))
    with pytest.raises(InputError, match="grounder is required"):
        train.run(config({**inputs, "grounder": ""}, tmp_path / "run", features="grounder"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("subgoals", [{}, {"demonstration_steps": 64, "replay": 0.2, "judge_miss": 0.1}])
def test_two_processes_make_the_same_policy_as_one_to_rounding_and_resume(inputs, subgoals, tmp_path):
    changes = {"features": "pixels", "image_size": 40, "total_steps": 4 * 64, "val_episodes": 4, "precision": "float32"}
    changes |= {"algorithm": "vsc"} if subgoals else {}
    train.run(config(inputs, tmp_path / "one", vsc=VscConfig(**subgoals), **changes))
    arguments = [f"{key}={value}" for key, value in {**inputs, **TINY, **changes}.items()]
    arguments += [f"vsc.{key}={value}" for key, value in subgoals.items()]
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "agents.train"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def launch(*more: str) -> subprocess.CompletedProcess:
        command = [*start, f"out={tmp_path / 'two'}", *arguments, *more]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    ended = launch()
    assert ended.returncode == 0, ended.stderr[-3000:]
    one, two = (Policy.from_pretrained(tmp_path / name / "policy")[0].state_dict() for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-4)

    for name in ("result.json", "policy", "checkpoints/step-0000000004.ckpt"):  # as if killed after update 3
        path = tmp_path / "two" / name
        path.rename(tmp_path / Path(name).name)
    ended = launch("resume=auto")
    assert ended.returncode == 0, ended.stderr[-3000:]
    again = Policy.from_pretrained(tmp_path / "two" / "policy")[0].state_dict()
    assert all(torch.equal(two[name], again[name]) for name in two)
