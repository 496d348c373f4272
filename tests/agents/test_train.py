import json

import pytest
import torch

import agents.train as train
from agents.agent import Agent
from agents.networks import Policy
from core.errors import InputError
from core.run import read_metrics
from envs.tasks import TASKS
from scene.io import SceneStore
from tests.agents.tiny import make_scenes, make_towers

TINY = {"total_steps": 5 * 64, "num_envs": 8, "rollout": 8, "calibration_frames": 32, "val_episodes": 6}
TINY |= {"max_steps": 12, "width": 16, "memory": 8, "checkpoint_every": 2, "threads": 1}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("inputs")
    return {"scenes": str(make_scenes(root / "scenes")), "vl": str(make_towers(root / "vl"))}


def losses(folder) -> list[dict]:
    clock = ("seconds", "steps_per_second")
    return [{k: v for k, v in row.items() if not k.startswith(clock)} for row in read_metrics(folder)]


def test_a_killed_run_resumes_to_the_same_weights_and_rows(inputs, tmp_path, monkeypatch):
    whole = train.run(train.TrainAgentConfig(out=str(tmp_path / "whole"), reward="vlm", **inputs, **TINY))
    calls = []

    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:  # after the checkpoint of update 2 and one more update
            raise KeyboardInterrupt
        return update(*args, **kwargs)

    update = train.update
    broken = {"out": str(tmp_path / "broken"), "reward": "vlm", **inputs, **TINY}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train, "update", killed)
        train.run(train.TrainAgentConfig(**broken))
    assert not (tmp_path / "broken" / "policy").exists()
    assert [row["step"] for row in losses(tmp_path / "broken")] == [1, 2, 3]
    resumed = train.run(train.TrainAgentConfig(resume="auto", **broken))

    assert losses(tmp_path / "whole") == losses(tmp_path / "broken")
    ended = [row for row in losses(tmp_path / "whole") if row["episodes"]]
    assert all(row["return"] == row["vlm_return"] != row["task_return"] for row in ended)  # learned: vlm; logged: both
    one, two = (Policy.from_pretrained(tmp_path / name / "policy")[0].state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert {k: v for k, v in whole.items() if "second" not in k} == {
        k: v for k, v in resumed.items() if "second" not in k
    }


def test_the_saved_policy_acts_as_the_trained_one_did(inputs, tmp_path):
    result = train.run(train.TrainAgentConfig(out=str(tmp_path / "run"), **inputs, **TINY))
    store = SceneStore(inputs["scenes"])
    task = TASKS["find_object"].from_manifest(store.manifest)
    agent = Agent.from_pretrained(tmp_path / "run" / "policy", None, task.goals)
    homes = train.HomePool.from_store(store, store.split("val"))
    found = train.evaluate(agent, homes, task, 6, 12, seed=0)
    assert found.summary()["path_length_m"] == pytest.approx(result["val_path_length_m"])
    assert found.summary()["steps"] == result["val_steps"]


def test_a_policy_of_another_tower_is_refused(inputs, tmp_path):
    train.run(train.TrainAgentConfig(out=str(tmp_path / "run"), **inputs, **{**TINY, "total_steps": 64}))
    folder = tmp_path / "run" / "policy"
    with pytest.raises(InputError, match="contents differ"):
        Agent.from_pretrained(folder, make_towers(tmp_path / "other", seed=1), [])
    document = json.loads((folder / "policy.json").read_text())
    del document["alpha"]
    (folder / "policy.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="lacks 'alpha'"):
        Agent.from_pretrained(folder, inputs["vl"], [])


def test_impossible_settings_stop_before_anything_is_written(inputs, tmp_path):
    with pytest.raises(InputError, match="more than num_envs"):
        train.TrainAgentConfig(num_envs=2, minibatches=4)
    with pytest.raises(InputError, match="scenes is required"):
        train.run(train.TrainAgentConfig(out=str(tmp_path / "run"), vl=inputs["vl"]))
    assert not (tmp_path / "run").exists()
