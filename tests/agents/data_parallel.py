"""Three updates of PPO on 8 CartPoles, alone or as one process of several: -m tests.agents.data_parallel OUT."""

import sys

import torch

from agents.gym_tensor_env import GymTensorEnv
from agents.networks import make_policy
from agents.ppo import update
from agents.rollout import EpisodeLog, Progress, collect
from core import distributed

SETTINGS = {"gamma": 0.98, "lam": 0.9, "epochs": 2, "minibatches": 3, "clip": 0.2, "entropy_coef": 0.01}
SETTINGS |= {"value_coef": 0.5, "max_grad_norm": 0.5, "max_kl": 1.0}


def train(memory: int) -> dict[str, torch.Tensor]:
    """Weights and running statistics after the updates, and the numbers that each update reported."""
    own = distributed.share(8)
    env = GymTensorEnv.make("CartPole-v1", len(own), seed=4, first=own.start)
    policy = make_policy("recurrent", env.observation_spec, num_actions=2, width=16, memory=memory, seed=7)
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(1)
    progress, log = Progress.begin(env, policy), EpisodeLog(len(own))
    found = {}
    for index in range(3):
        rollout = collect(env, policy, progress, 20, generator, log)
        stats = update(policy, optimizer, rollout, generator=generator, **SETTINGS)
        policy.update_norms(rollout.observation)
        found[f"stats.{index}"] = torch.tensor(list(stats.values()))
    return {**found, **policy.state_dict()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with distributed.processes():
        for memory in (0, 8):
            torch.save(train(memory), f"{sys.argv[1]}/{memory}-{distributed.rank()}.pt")
    distributed.leave()
