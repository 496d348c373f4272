from dataclasses import replace

import pytest
import torch

from agents.networks import Policy, make_policy
from agents.ppo import clipped_surrogate, update
from agents.rollout import EnvStep, EpisodeLog, Progress, collect
from tests.agents import data_parallel
from tests.agents.toy import Recall
from tests.core.test_distributed import launch

SETTINGS = {"gamma": 0.95, "lam": 0.9, "epochs": 4, "minibatches": 4, "clip": 0.2}
SETTINGS |= {"entropy_coef": 0.01, "value_coef": 0.5, "max_grad_norm": 0.5}


def train(memory: int, updates: int, seed: int = 0, length: int = 3, **changes) -> tuple[Policy, list[float]]:
    env, generator = Recall(32, length=length, seed=seed), torch.Generator().manual_seed(seed)
    policy = make_policy("recurrent", env.observation_spec, num_actions=2, width=32, memory=memory, seed=seed)
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3, fused=True)
    progress, log, curve = Progress.begin(env, policy), EpisodeLog(32), []
    for _ in range(updates):
        rollout = collect(env, policy, progress, 12, generator, log)
        update(policy, optimizer, rollout, generator=generator, **{**SETTINGS, "max_kl": 1.0, **changes})
        curve.append(log.flush()["success"])
    return policy, curve


def test_a_policy_with_memory_learns_to_recall_and_one_without_cannot():
    _, with_memory = train(memory=16, updates=30)
    _, without = train(memory=0, updates=30)
    assert with_memory[-1] > 0.95
    assert without[-1] < 0.75


def test_a_feed_forward_policy_learns_what_needs_no_memory():
    _, curve = train(memory=0, updates=15, length=1)
    assert curve[-1] > 0.95


def test_equal_seeds_give_equal_weights_and_others_do_not():
    one, two, other = (train(memory=8, updates=3, seed=s)[0].action_head.weight for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_the_surrogate_stops_rewarding_beyond_the_clip():
    old = torch.zeros(1)
    for ratio, advantage, expected in [(1.5, 1.0, -1.2), (0.5, 1.0, -0.5), (1.5, -1.0, 1.5), (0.5, -1.0, 0.8)]:
        loss = clipped_surrogate(torch.tensor([ratio]).log(), old, torch.tensor([advantage]), 0.2)
        assert loss.item() == pytest.approx(expected)


def test_old_and_new_policy_coincide_on_the_first_minibatch():
    env, generator = Recall(8), torch.Generator().manual_seed(0)
    policy = make_policy("recurrent", env.observation_spec, num_actions=2, width=16, memory=4)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
    rollout = collect(env, policy, Progress.begin(env, policy), 7, generator, EpisodeLog(8))
    stats = update(policy, optimizer, rollout, generator=generator, **SETTINGS, max_kl=1.0)
    assert abs(stats["kl"]) < 1e-6 and stats["clip_fraction"] == 0.0


def test_a_large_policy_change_ends_the_update_early():
    env, generator = Recall(8), torch.Generator().manual_seed(0)
    policy = make_policy("recurrent", env.observation_spec, num_actions=2, width=16, memory=4)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.1)
    rollout = collect(env, policy, Progress.begin(env, policy), 12, generator, EpisodeLog(8))
    assert update(policy, optimizer, rollout, generator=generator, **SETTINGS, max_kl=1e-3)["epochs"] == 1.0


def test_two_processes_make_the_update_of_one(tmp_path):
    launch(["-m", "tests.agents.data_parallel", str(tmp_path)], 2)
    for memory in (0, 8):
        alone = data_parallel.train(memory)
        one, two = (torch.load(tmp_path / f"{memory}-{rank}.pt", weights_only=True) for rank in (0, 1))
        assert all(torch.equal(one[name], two[name]) for name in one)  # the processes do not drift apart
        for name, value in alone.items():
            torch.testing.assert_close(one[name], value, atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


class Aim(Recall):
    """Paid for a continuous action near 0.5 times the cue that is seen."""

    num_actions, action_size = 0, 1

    def step(self, action: torch.Tensor) -> EnvStep:
        wanted = 0.5 * self._observe()["vector"][:, :1]
        step = super().step(torch.zeros(self.num_envs, dtype=torch.long))
        return replace(step, reward=-(action.clamp(-1, 1) - wanted).abs()[:, 0])


def test_a_gaussian_policy_learns_where_to_aim():
    env, generator = Aim(64, length=1), torch.Generator().manual_seed(0)
    policy = make_policy("feedforward", env.observation_spec, action_size=1, width=16)
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    progress, log, curve = Progress.begin(env, policy), EpisodeLog(64), []
    for _ in range(25):
        rollout = collect(env, policy, progress, 8, generator, log)
        update(policy, optimizer, rollout, generator=generator, **{**SETTINGS, "entropy_coef": 0.0}, max_kl=1.0)
        curve.append(log.flush()["return"])
    mode = policy(policy.normalise({"vector": torch.tensor([[1.0, 0.0], [-1.0, 0.0]])}), policy.initial_memory(2))[0]
    assert mode[:, 0].tolist() == pytest.approx([0.5, -0.5], abs=0.2)
    assert curve[-1] > curve[0] + 0.2
