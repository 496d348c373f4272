import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agents.distributions import Categorical, Gaussian
from agents.encoders import ObservationSpec, RunningNorm, Tanh
from agents.networks import Policy, make_policy
from core.errors import InputError

ROOT = Path(__file__).parents[2]
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


def observed(names: str, batch: int = 3) -> tuple[dict, dict]:
    """The specification of some observations, and random ones."""
    specs = {
        "vector": ObservationSpec((5,)),
        "image": ObservationSpec((36, 40, 3), "uint8"),
        "depth": ObservationSpec((36, 40)),
        "text": ObservationSpec((6,)),
        "tokens": ObservationSpec((4, 7)),
        "token_mask": ObservationSpec((4,), "bool"),
    }
    spec = {name: specs[name] for name in names.split()}
    generator = torch.Generator().manual_seed(0)
    draw = {
        "uint8": lambda shape: torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),
        "bool": lambda shape: torch.rand(shape, generator=generator) < 0.7,
        "float32": lambda shape: torch.rand(shape, generator=generator),
    }
    return spec, {name: draw[one.dtype]((batch, *one.shape)) for name, one in spec.items()}


@pytest.mark.parametrize(
    ("kind", "names", "changes"),
    [
        ("feedforward", "vector text", {}),
        ("feedforward", "image", {"image_encoder": "nature", "layers": 0}),
        ("recurrent", "vector image depth text", {"film": True}),
        ("feedforward", "depth", {}),
        ("objects", "tokens token_mask text", {}),
        ("recurrent_objects", "vector tokens text", {}),
    ],
)
def test_every_weight_of_every_kind_of_policy_learns(kind, names, changes):
    spec, seen = observed(names)
    changes = {"width": 8, "memory": 4 if kind.startswith("recurrent") else 0, "precision": "float32", **changes}
    policy = make_policy(kind, spec, action_size=2, **changes)
    with torch.no_grad():  # the untrained action head is nearly zero, which hides what lies below it
        policy.action_head.weight.mul_(100)
    outputs, value, memory = policy(policy.normalise(seen), policy.initial_memory(3) + 0.1)
    assert (outputs.shape, value.shape, memory.shape) == ((3, 2), (3,), (3, changes["memory"]))
    actions = policy.distribution(outputs)
    (actions.log_prob(torch.ones(3, 2)).sum() + value.sum()).backward()
    still = [name for name, p in policy.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still


def test_pictures_mean_the_same_in_bfloat16_and_as_a_plain_convolution():
    spec, seen = observed("image depth", batch=2)
    policy = make_policy("feedforward", spec, num_actions=3, layers=0, precision="float32")
    picture = torch.cat([seen["image"].permute(0, 3, 1, 2).float() / 255, seen["depth"][:, None] / 10], 1).contiguous()
    first, second = policy.image.first, policy.image.rest[0]
    plain = second(first(picture).relu()).relu().permute(0, 2, 3, 1).flatten(1)
    torch.testing.assert_close(policy.encode(seen), policy.image.out(plain).relu(), atol=1e-5, rtol=1e-4)
    half = make_policy("feedforward", spec, num_actions=3, layers=0, precision="bfloat16")
    assert (half.encode(seen) - policy.encode(seen)).norm() < 0.03 * policy.encode(seen).norm()
    assert half.image.out.weight.dtype == torch.float32


def test_objects_are_a_set_read_by_the_sentence():
    spec, seen = observed("tokens token_mask text")
    seen["token_mask"] = torch.tensor([[True, True, True, False], [True, False, False, False], [False] * 4])
    policy = make_policy("objects", spec, num_actions=3)
    features = policy.encode(seen)
    order = torch.tensor([2, 0, 3, 1])
    permuted = {**seen, "tokens": seen["tokens"][:, order], "token_mask": seen["token_mask"][:, order]}
    torch.testing.assert_close(policy.encode(permuted), features)
    hidden = {**seen, "tokens": torch.where(seen["token_mask"][..., None], seen["tokens"], torch.tensor(9.0))}
    assert torch.equal(policy.encode(hidden), features)  # what the mask hides is not read
    assert bool(features.isfinite().all())
    other = {**seen, "text": -seen["text"]}
    width = policy.config.token_width
    assert not torch.allclose(policy.encode(other)[0, :width], features[0, :width])


def test_gaussian_actions_have_the_density_and_entropy_of_torchs():
    mean, log_std = torch.tensor([[0.5, -1.0], [0.0, 2.0]]), torch.tensor([0.1, -0.7])
    ours, reference = Gaussian(mean, log_std), torch.distributions.Normal(mean, log_std.exp())
    action = ours.sample(Gaussian.noise((2, 2), torch.Generator().manual_seed(0)))
    torch.testing.assert_close(ours.log_prob(action), reference.log_prob(action).sum(-1))
    torch.testing.assert_close(ours.entropy(), reference.entropy().sum(-1))


def test_the_fast_tanh_is_tanh_and_has_its_gradient():
    x = torch.linspace(-9, 9, Tanh.SMALL + 1, requires_grad=True)
    y = Tanh()(x)
    torch.testing.assert_close(y, torch.tanh(x), atol=3e-7, rtol=0)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, 1 - torch.tanh(x.detach()) ** 2, atol=1e-6, rtol=0)


def test_what_no_policy_can_read_is_refused():
    with pytest.raises(InputError, match="no encoder reads the observation 'text'"):
        make_policy("feedforward", {"text": ObservationSpec((3, 4))}, num_actions=2)
    with pytest.raises(InputError, match="needs a vector, a picture or tokens"):
        make_policy("objects", observed("image text")[0], num_actions=2)
    with pytest.raises(InputError, match="exactly one"):
        make_policy("feedforward", VECTOR)
    with pytest.raises(InputError, match="too small"):
        make_policy("feedforward", {"image": ObservationSpec((10, 10, 3), "uint8")}, num_actions=2)
    with pytest.raises(InputError, match="did you mean 'recurrent'"):
        make_policy("recurent", VECTOR, num_actions=2)
    policy = make()
    with pytest.raises(InputError, match="reads vector, the environment shows only depth"):
        policy.normalise({"depth": torch.zeros(1, 4, 4)})


def test_policies_work_where_what_jobs_need_is_not_installed():
    script = (
        "import sys; sys.modules.update(hydra=None, omegaconf=None)\n"  # importing them fails
        "import torch, agents.networks as networks, agents.ppo, agents.rollout\n"
        "spec = {'image': networks.ObservationSpec((36, 36, 3), 'uint8')}\n"
        "policy = networks.make_policy('feedforward', spec, num_actions=2)\n"
        "print(policy({'image': torch.zeros(1, 36, 36, 3, dtype=torch.uint8)}, policy.initial_memory(1))[0].shape[1])"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.stdout.strip() == "2", ended.stderr[-2000:]
