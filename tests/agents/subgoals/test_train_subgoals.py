"""train-agent algorithm=vsc in tiny homes: what it leaves acts again, and a run that was stopped goes on."""

import pytest

import agents.train as train
from agents.agent import Agent
from agents.subgoals.vsc_config import VscConfig
from core.errors import InputError
from core.job import load_config
from envs.episodes import make_episodes, run_episodes
from envs.pool import HomePool
from envs.simulator import Simulator
from scene.store import SceneStore
from tests.agents.test_train import TINY, losses, same_policies
from tests.agents.tiny import make_grounder, make_scenes

VSC = {"features": "pixels", "algorithm": "vsc", "image_size": 36, "total_steps": 4 * 64, "val_episodes": 2}
SHOWN = {"demonstration_steps": 64, "judge_miss": 0.1}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return str(make_scenes(tmp_path_factory.mktemp("scenes")))


@pytest.fixture(scope="module")
def grounder(tmp_path_factory):
    return str(make_grounder(tmp_path_factory.mktemp("grounder")))


def config(scenes, out, vsc, **changes):
    return train.TrainAgentConfig(out=str(out), scenes=scenes, vsc=VscConfig(**vsc), **{**TINY, **VSC, **changes})


def test_an_agent_that_is_told_subgoals_acts_from_its_folder_as_at_the_end_of_its_training(scenes, grounder, tmp_path):
    seen = {"features": "grounder", "grounder": grounder}
    found = train.run(config(scenes, tmp_path / "run", SHOWN, total_steps=2 * 64, **seen))
    shown, learned = losses(tmp_path / "run")
    assert "reference_loss" in shown and "teacher_success" in shown and "divergence" in learned
    store = SceneStore(scenes)
    pool = HomePool([store.load(name) for name in store.manifest["splits"]["val"]])
    simulator = Simulator(pool, "find_object", num_envs=2, max_steps=12)
    agent = Agent.from_pretrained(tmp_path / "run" / "policy", simulator)
    simulator.sensors = agent.sensors
    again = run_episodes(simulator, agent, make_episodes(pool, simulator.task, 2, 0, simulator.fields))
    assert again.summary()["success"] == found["val_success"]


@pytest.mark.slow
@pytest.mark.parametrize("features", ["pixels", "grounder"])
def test_a_stopped_run_goes_on_to_the_same_weights(scenes, grounder, features, tmp_path, monkeypatch):
    seen = {"features": features, "grounder": grounder if features == "grounder" else "", "window": 3}
    whole = train.run(config(scenes, tmp_path / "whole", SHOWN, **seen))
    original = train.SubgoalLearner.update

    def stopped(self, index, *rest):
        if index == 3:  # one update after the checkpoint of update 2
            raise KeyboardInterrupt
        return original(self, index, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train.SubgoalLearner, "update", stopped)
        train.run(config(scenes, tmp_path / "broken", SHOWN, **seen))
    resumed = train.run(config(scenes, tmp_path / "broken", SHOWN, resume="auto", **seen))
    assert losses(tmp_path / "whole") == losses(tmp_path / "broken")
    assert whole["val_success"] == resumed["val_success"]
    assert same_policies(tmp_path / "whole", tmp_path / "broken")


def test_settings_that_do_not_go_together_are_refused_before_anything_starts():
    for words, said in (
        (["vsc.objective=vsc"], "demonstration_steps"),
        (["vsc.objective=vsc", "vsc.reference=none"], "measures a divergence"),
        (["vsc.objective=digirl", "vsc.alpha=0.1"], "does not go with"),
        (["vsc.objective=best"], "vsc-released"),
        (["vsc.demonstration_steps=9", "vsc.judge_miss=2"], "judge_miss"),
        (["vsc.demonstration_steps=9", "scale_rewards=true"], "unscaled reward"),
    ):
        with pytest.raises(InputError, match=said):
            load_config("train-agent", train.TrainAgentConfig, ["scenes=x", "algorithm=vsc", *words])
    plain = load_config("train-agent", train.TrainAgentConfig, ["scenes=x"])
    assert plain.algorithm == "ppo" and plain.cloned_updates == 0
    told = load_config(
        "train-agent", train.TrainAgentConfig, ["scenes=x", "algorithm=vsc", "vsc.demonstration_steps=9"]
    )
    assert told.cloned_updates == 1 and told.reads_subgoal
