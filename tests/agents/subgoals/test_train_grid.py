"""train-grid-agent: a run that was stopped goes on to the same weights, and settings are checked."""

import pytest
import torch

pytest.importorskip("minigrid")

import agents.subgoals.train_grid as train_grid  # noqa: E402
from agents.networks import Policy  # noqa: E402
from agents.subgoals.minigrid_tasks import make_minigrid, oracle  # noqa: E402
from agents.subgoals.subgoal_env import SubgoalEnv  # noqa: E402
from agents.subgoals.vsc_config import ObjectiveConfig  # noqa: E402
from core.errors import InputError  # noqa: E402
from core.run import read_metrics  # noqa: E402

TINY = {"task": "doorkey-5x5", "total_steps": 4 * 32, "num_envs": 4, "rollout": 8, "epochs": 1, "minibatches": 2}
TINY |= {"width": 8, "memory": 4, "eval_episodes": 3, "checkpoint_every": 2, "threads": 1}


def config(out, **changes):
    return train_grid.TrainGridConfig(
        out=str(out), vsc=ObjectiveConfig(objective="vsc", demonstration_steps=32), **{**TINY, **changes}
    )


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    whole = train_grid.run(config(tmp_path / "whole"))
    original = train_grid.SubgoalLearner.update

    def stopped(self, index, *rest):
        if index == 3:  # one update after the checkpoint of update 2
            raise KeyboardInterrupt
        return original(self, index, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_grid.SubgoalLearner, "update", stopped)
        train_grid.run(config(tmp_path / "broken"))
    assert train_grid.run(config(tmp_path / "broken", resume="auto")) == whole
    one, two = (Policy.from_pretrained(tmp_path / run / "policy")[0].state_dict() for run in ("whole", "broken"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    rows = read_metrics(tmp_path / "broken")
    assert rows == read_metrics(tmp_path / "whole") and "reference_loss" in rows[0]


def test_settings_that_do_not_go_together_are_refused():
    with pytest.raises(InputError, match="demonstration_steps"):
        train_grid.TrainGridConfig(vsc=ObjectiveConfig())
    with pytest.raises(InputError, match="minibatches"):
        train_grid.TrainGridConfig(num_envs=2, vsc=ObjectiveConfig(objective="ppo"))


def test_every_fresh_episode_counts_once_and_the_oracle_is_measured_right():
    env = SubgoalEnv(make_minigrid("doorkey-5x5", 6, seed=3))
    found = train_grid.first_episodes(env, lambda observation, start: oracle(env.env))
    assert found["success"].tolist() == [1.0] * 6 and (found["length"] > 5).all()
    # MiniGrid pays 1 - 0.9 * steps / limit
    torch.testing.assert_close(found["return"], 1 - 0.9 * found["length"] / 250)
    still = train_grid.first_episodes(env, lambda observation, start: torch.zeros(6, dtype=torch.int64))
    assert still["success"].tolist() == [0.0] * 6 and still["length"].tolist() == [250.0] * 6
