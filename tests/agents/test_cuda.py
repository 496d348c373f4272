"""Learning on CUDA: a policy learns what it learns on the processor, and train-agent runs whole."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from agents import train
from agents.networks import Policy, make_policy
from agents.ppo import update
from agents.rollout import EnvStep, EpisodeLog, Progress, collect
from agents.subgoals.vsc_config import VscConfig
from tests.agents.test_ppo import SETTINGS
from tests.agents.test_train import TINY
from tests.agents.tiny import make_scenes
from tests.agents.toy import Recall

pytestmark = pytest.mark.gpu


class Carried:
    """An environment whose tensors lie on another device."""

    def __init__(self, env: Recall, device: str) -> None:
        self.env, self.device = env, device
        self.num_envs, self.num_actions, self.action_size = env.num_envs, 2, 0
        self.observation_spec = env.observation_spec

    def reset(self) -> dict[str, torch.Tensor]:
        return {name: x.to(self.device) for name, x in self.env.reset().items()}

    def step(self, action: torch.Tensor) -> EnvStep:
        step = self.env.step(action.cpu())
        moved = {name: self._there(value) for name, value in vars(step).items()}
        return replace(step, **moved)

    def _there(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._there(part) for name, part in value.items()}
        return value.to(self.device)


@pytest.mark.parametrize("memory", [0, 16])
def test_a_policy_learns_on_cuda(memory: int):
    curves = {}
    for device in ("cpu", "cuda"):
        env, generator = Carried(Recall(32, length=1 if memory == 0 else 3), device), torch.Generator().manual_seed(0)
        policy = make_policy("recurrent", env.observation_spec, num_actions=2, width=32, memory=memory, seed=0)
        policy.to(device)
        optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
        progress, log, curve = Progress.begin(env, policy), EpisodeLog(32, device), []
        for _ in range(15 if memory == 0 else 30):
            rollout = collect(env, policy, progress, 12, generator, log)
            update(policy, optimizer, rollout, generator=generator, **SETTINGS, max_kl=1.0)
            curve.append(log.flush()["success"])
        curves[device] = curve
    assert curves["cuda"][0] == pytest.approx(curves["cpu"][0], abs=0.05)
    assert curves["cuda"][-1] > 0.95


@pytest.mark.parametrize("algorithm", ["ppo", "bc", "vsc"])
def test_train_agent_walks_draws_and_learns_on_cuda_and_goes_on_when_stopped(algorithm: str, tmp_path: Path):
    scenes = str(make_scenes(tmp_path / "scenes"))
    told = {"vsc": VscConfig(demonstration_steps=64, judge_miss=0.1)} if algorithm == "vsc" else {}
    changes = {**TINY, "features": "pixels", "image_size": 36, "val_episodes": 2, "algorithm": algorithm, **told}

    def config(out: Path, steps: int) -> train.TrainAgentConfig:
        settings = {**changes, "total_steps": steps, "checkpoint_every": 1, "device": "cuda", "resume": "auto"}
        return train.TrainAgentConfig(out=str(out), scenes=scenes, **settings)

    whole = train.run(config(tmp_path / "run", 256))
    assert whole["env_steps"] == 256 and 0 <= whole["val_success"] <= 1
    (tmp_path / "run" / "result.json").unlink()  # as if it had been killed before the end
    for path in sorted((tmp_path / "run" / "checkpoints").iterdir())[2:]:
        path.unlink()
    assert train.run(config(tmp_path / "run", 256))["env_steps"] == 256
    policy, _ = Policy.from_pretrained(tmp_path / "run" / "policy")  # on the processor again
    assert all(parameter.isfinite().all() for parameter in policy.parameters())
