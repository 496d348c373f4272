import json

import pytest
import torch

from agents.distributions import Categorical
from agents.encoders import ObservationSpec, RunningNorm
from agents.networks import Policy, make_policy
from core.errors import InputError

VECTOR = {"vector": ObservationSpec((5,))}


def make(memory: int = 8) -> Policy:
    return make_policy("recurrent", VECTOR, num_actions=3, width=16, memory=memory)


@pytest.mark.parametrize("memory", [0, 8])
def test_unrolling_equals_stepping_with_the_memory_emptied_at_episode_starts(memory):
    policy = make(memory)
    generator = torch.Generator().manual_seed(1)
    observation = torch.randn(6, 4, 5, generator=generator)
    start = torch.rand(6, 4, generator=generator) < 0.3
    state = torch.randn(4, memory, generator=generator)
    logits, value = policy.unroll({"vector": observation}, start, state)
    for t in range(6):
        step_logits, step_value, state = policy({"vector": observation[t]}, state.masked_fill(start[t][:, None], 0.0))
        torch.testing.assert_close(logits[t], step_logits, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(value[t], step_value, atol=1e-5, rtol=1e-4)


def test_running_statistics_equal_those_of_all_rows_together():
    rows = torch.randn(70, 3, generator=torch.Generator().manual_seed(0)) * 4 + 2
    norm = RunningNorm(3)
    for part in rows.split([10, 25, 35]):
        norm.update(part.reshape(5, -1, 3))
    torch.testing.assert_close(norm.mean, rows.double().mean(0))
    torch.testing.assert_close(norm.var, rows.double().var(0, unbiased=False))


def test_actions_follow_their_probabilities_and_come_with_them():
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1]])).expand(20_000, 3)
    actions = Categorical(torch.log_softmax(logits, -1))
    action = actions.sample(Categorical.noise((20_000,), torch.Generator().manual_seed(0)))
    share = torch.bincount(action, minlength=3) / 20_000
    assert share.tolist() == pytest.approx([0.7, 0.2, 0.1], abs=0.015)
    torch.testing.assert_close(actions.log_prob(action), logits.gather(1, action[:, None]).squeeze(1))


def test_a_saved_policy_comes_back_the_same(tmp_path):
    policy = make()
    policy.norms["vector"].update(torch.randn(50, 5, generator=torch.Generator().manual_seed(2)))
    policy.save_pretrained(tmp_path, goals=["red armchair"])
    loaded, document = Policy.from_pretrained(tmp_path)
    assert document["goals"] == ["red armchair"]
    x, memory = {"vector": torch.ones(2, 5)}, policy.initial_memory(2)
    assert torch.equal(policy(policy.normalise(x), memory)[0], loaded(loaded.normalise(x), memory)[0])


def test_weights_of_another_shape_are_a_clear_error(tmp_path):
    make().save_pretrained(tmp_path)
    document = json.loads((tmp_path / "policy.json").read_text())
    document["config"]["width"] = 32
    (tmp_path / "policy.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="do not fit this model"):
        Policy.from_pretrained(tmp_path)


def test_a_truncated_weight_file_is_a_clear_error(tmp_path):
    make().save_pretrained(tmp_path)
    path = tmp_path / "policy.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="readable policy"):
        Policy.from_pretrained(tmp_path)
