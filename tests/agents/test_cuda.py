"""PPO and imitation on CUDA: what a policy learns there is what it learns on the processor."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from agents.networks import make_policy
from agents.ppo import update
from agents.rollout import EnvStep, EpisodeLog, Progress, collect
from tests.agents.test_ppo import SETTINGS
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
