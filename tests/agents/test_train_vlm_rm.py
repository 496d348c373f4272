import json

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN

from agents import train_vlm_rm
from agents.train_vlm_rm import ConstantReward, TrainVlmRmConfig, calibrated, frame_pixels, make_env, run
from core.errors import InputError
from core.job import load_config
from tests.agents.tiny import make_towers
from vl.embedder import load_embedder
from vl.rewards import VLMReward

DQN_OPTIONS = {
    "learning_starts": 32, "buffer_size": 100, "batch_size": 8, "train_freq": 16, "gradient_steps": 1,
    "policy_kwargs": {"net_arch": [8]},
}  # fmt: skip
PAPER = {  # prompts of arXiv:2310.12921
    "cartpole": "pole vertically upright on top of the cart",
    "mountain-car": "a car at the peak of the mountain, next to the yellow flag",
    "humanoid-kneeling": "a humanoid robot kneeling",
    "humanoid-lotus": "a humanoid robot seated down, meditating in the lotus position",
    "humanoid-standing": "a humanoid robot standing up",
    "humanoid-arms-raised": "a humanoid robot standing up, with both arms raised",
    "humanoid-splits": "a humanoid robot practicing gymnastics, doing the side splits",
    "humanoid-hands-on-hips": "a humanoid robot standing up with hands on hips",
    "humanoid-arms-crossed": "a humanoid robot standing up, with its arms crossed",
    "humanoid-one-leg": "a humanoid robot standing up on one leg",
}


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    return str(make_towers(tmp_path_factory.mktemp("towers") / "model"))


def config(out, towers="", **changed) -> TrainVlmRmConfig:
    options = {
        "env": "Sightline/VLMCartPole-v0", "goal": ["the red armchair"], "baseline": ["a room"], "vl": towers,
        "algorithm": "dqn", "dqn": DQN_OPTIONS, "total_steps": 240, "eval_episodes": 2, "calibration_frames": 20,
        "log_every": 48, "checkpoint_every": 80, "video": False, "out": str(out), "resume": "auto",
    }  # fmt: skip
    return TrainVlmRmConfig(**{**options, **changed})


@pytest.mark.parametrize("name", PAPER)
def test_each_task_of_the_paper_has_its_prompt_and_a_learner_that_fits(name):
    cfg = load_config("train-vlm-rm", TrainVlmRmConfig, [f"reward_task={name}"])
    assert cfg.goal == [PAPER[name]] and len(cfg.baseline) == 1
    assert cfg.algorithm == ("dqn" if name == "cartpole" else "sac") and cfg.learner
    if name.startswith("humanoid"):
        assert cfg.env_options == {"pose": name.removeprefix("humanoid-")}
        assert (cfg.num_envs, cfg.sac["gamma"], cfg.sac["train_freq"], cfg.alpha) == (32, 0.95, 100, 0.0)


def test_a_run_is_paid_by_pictures_and_reports_the_truth_of_its_policy(towers, tmp_path):
    result = run(config(tmp_path, towers, video=True, reward="mixture"))
    assert result["steps"] == 240 and result["length"] == 200.0 and 0 <= result["held"] <= 1
    assert result["scale"] > 0 and result["unanswered"] == 0
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 240 and sum(row["episodes"] for row in rows) == 1
    assert any("reward_model_return" in row and "task_return" in row for row in rows)
    assert (tmp_path / "episode.mp4").stat().st_size > 1000
    assert DQN.load(tmp_path / "policy.zip", device="cpu").predict(np.zeros(4, np.float32))[0] in (0, 1)
    assert run(config(tmp_path, towers, video=True, reward="mixture")) == result  # finished runs are not run again


def test_an_interrupted_run_ends_with_the_numbers_of_an_uncut_one(towers, tmp_path, monkeypatch):
    whole = run(config(tmp_path / "whole", towers))
    monkeypatch.setattr(train_vlm_rm.RunCallback, "_on_step", interrupted_at(150))
    with pytest.raises(KeyboardInterrupt):
        run(config(tmp_path / "cut", towers))
    monkeypatch.undo()
    rest = run(config(tmp_path / "cut", towers))
    timed = {"seconds", "reward_share_of_time"}
    assert {k: v for k, v in rest.items() if k not in timed} == {k: v for k, v in whole.items() if k not in timed}
    ours, theirs = (
        DQN.load(tmp_path / name / "policy.zip", device="cpu").policy.state_dict() for name in ("cut", "whole")
    )
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)

    def rows(name):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k != "reward_seconds_share"} for line in lines]

    assert rows("cut") == rows("whole")


def interrupted_at(steps):
    original = train_vlm_rm.RunCallback._on_step

    def step(self):
        if self.num_timesteps == steps:
            raise KeyboardInterrupt
        return original(self)

    return step


def test_scores_of_random_steps_get_mean_zero_and_deviation_one(towers, tmp_path):
    cfg = config(tmp_path, towers)
    model = VLMReward(load_embedder(towers), [cfg.goal], cfg.baseline, cfg.alpha)
    pay = calibrated(cfg, model, frame_pixels(model.embedder))
    scores = [float(score) for score in scores_of_random_steps(cfg, model)]
    paid = pay.worth(torch.tensor(scores))
    assert abs(float(paid.mean())) < 1e-3 and abs(float(paid.std()) - 1) < 1e-3
    assert calibrated(config(tmp_path, towers, calibration_frames=0), model, 32).scale == 1.0


def scores_of_random_steps(cfg, model):
    from vl.rewards import StepBatch

    env = make_env(cfg, cfg.num_envs, 32)
    env.action_space.seed(cfg.seed)
    env.reset()
    for _ in range(cfg.calibration_frames):
        frame = env.step(env.action_space.sample())[4]["frame"]
        yield model.score(StepBatch(frame=torch.from_numpy(frame)[None]), torch.zeros(1, dtype=torch.int64))[0]


def test_a_model_that_sees_no_difference_is_refused(tmp_path):
    class Blind:
        def score(self, steps, goals):
            return torch.full((len(goals),), 0.25)

    with pytest.raises(InputError, match="all score 0.2500"):
        calibrated(config(tmp_path), Blind(), 16)


def test_a_constant_reward_says_nothing_and_leaves_the_tasks_own_readable():
    env = ConstantReward(gymnasium.make("Sightline/VLMCartPole-v0"))
    env.reset(seed=0)
    steps = [env.step(1) for _ in range(40)]
    assert {step[1] for step in steps} == {1.0}
    assert {step[4]["task_reward"] for step in steps} == {0.0, 1.0}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"env": ""}, "name a task"),
        ({"vl": ""}, "vl is required"),
        ({"goal": []}, "goal is required"),
        ({"env": "NoSuchTask-v0", "reward": "task"}, "env=NoSuchTask-v0"),
        ({"env_options": {"poze": 1}, "reward": "task"}, "poze"),
        ({"algorithm": "sac", "reward": "task"}, "does not fit Sightline/VLMCartPole-v0"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_trained(changed, message, towers, tmp_path):
    with pytest.raises(InputError, match=message):
        run(config(tmp_path / "run", **{"vl": towers, **changed}))


def test_an_argument_that_the_learner_does_not_have_is_refused_by_name():
    with pytest.raises(InputError, match="dqn.learning_rat.*learning_rate"):
        TrainVlmRmConfig(algorithm="dqn", dqn={"learning_rat": 1e-3})
    with pytest.raises(InputError, match="algorithm='a2c'"):
        TrainVlmRmConfig(algorithm="a2c")


def test_keys_of_an_algorithm_that_was_not_chosen_are_named():
    assert TrainVlmRmConfig(algorithm="dqn", dqn={"gamma": 0.9}).unread == []
    found = load_config("train-vlm-rm", TrainVlmRmConfig, ["reward_task=mountain-car", "algorithm=ppo", "dqn.gamma=1"])
    assert found.unread[0] == "dqn.gamma" and "sac.gamma" in found.unread
