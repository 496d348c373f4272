"""Memories of policies: one step after the other is the same as all at once, and nothing leaks where it must not."""

import pytest
import torch

from agents.networks import PolicyConfig, make_policy
from agents.ppo import update
from agents.recall import GRUMemory, TransformerMemory
from agents.rollout import EpisodeLog, Progress, collect
from core.errors import InputError
from tests.agents.test_ppo import SETTINGS
from tests.agents.toy import Recall

MADE = {
    "gru": lambda: GRUMemory(6, 8),
    "one layer": lambda: TransformerMemory(6, 8, window=3),
    "two layers": lambda: TransformerMemory(6, 8, window=3, layers=2),
    "wider than the rollout": lambda: TransformerMemory(6, 8, window=20, layers=2),
}


def one_by_one(memory, features, start, kept):
    """Summaries of a rollout, and the memory behind it."""
    rows = []
    for x, first in zip(features, start):
        summary, kept = memory.step(x, kept.masked_fill(first[:, None], 0.0))
        rows.append(summary)
    return torch.stack(rows), kept


@pytest.mark.parametrize("name", MADE)
def test_a_rollout_at_once_is_one_step_after_the_other(name):
    torch.manual_seed(0)
    memory = MADE[name]()
    features = torch.randn(17, 5, 6)
    start = torch.rand(17, 5) < 0.2
    first, kept = one_by_one(memory, features[:8], start[:8], torch.zeros(5, memory.size))
    torch.testing.assert_close(memory.unroll(features[:8], start[:8], torch.zeros(5, memory.size)), first)
    second, _ = one_by_one(memory, features[8:], start[8:], kept)
    torch.testing.assert_close(memory.unroll(features[8:], start[8:], kept), second)  # goes on from what was kept


@pytest.mark.parametrize("layers", [1, 2])
def test_a_transformer_sees_its_window_and_its_episode_and_nothing_else(layers):
    torch.manual_seed(0)
    memory = TransformerMemory(6, 8, window=3, layers=layers)
    features, start = torch.randn(12, 1, 6, requires_grad=True), torch.zeros(12, 1, dtype=torch.bool)

    def read(step):
        summary = memory.unroll(features, start, torch.zeros(1, memory.size))[step]
        (gradient,) = torch.autograd.grad(summary.square().sum(), features)
        return gradient.abs().sum((1, 2)).nonzero()[:, 0].tolist()

    assert read(10) == list(range(10 - 3 * layers, 11))
    start[8] = True
    assert read(10) == [8, 9, 10]


def test_a_policy_with_a_transformer_learns_what_only_memory_tells():
    env, generator = Recall(32, length=3), torch.Generator().manual_seed(0)
    policy = make_policy("recurrent", env.observation_spec, num_actions=2, width=32, memory=16, window=4, seed=0)
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    progress, log, curve = Progress.begin(env, policy), EpisodeLog(32), []
    for _ in range(30):
        rollout = collect(env, policy, progress, 12, generator, log)
        update(policy, optimizer, rollout, generator=generator, **SETTINGS, max_kl=1.0)
        curve.append(log.flush()["success"])
    assert curve[0] < 0.7 and curve[-1] > 0.95


def test_a_policy_with_a_transformer_comes_back_from_its_folder(tmp_path):
    env = Recall(2, length=3)
    policy = make_policy("recurrent", env.observation_spec, num_actions=2, width=8, memory=8, window=2, seed=0)
    policy.save_pretrained(tmp_path)
    again, _ = type(policy).from_pretrained(tmp_path)
    assert again.config == policy.config
    observation = policy.normalise(env.reset())
    for ours, theirs in zip(policy(observation, policy.initial_memory(2)), again(observation, again.initial_memory(2))):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("width, window, layers", [(6, 3, 1), (8, -1, 1), (8, 3, 0)])
def test_a_transformer_that_cannot_be_made_is_refused(width, window, layers):
    with pytest.raises(InputError, match="multiple of 4"):
        TransformerMemory(6, width, window, layers)


def test_a_window_without_a_width_is_refused():
    with pytest.raises(InputError, match="window=3"):
        PolicyConfig(Recall(2, length=1).observation_spec, num_actions=2, memory=0, window=3)
