import pytest
import torch

from agents.reasoning.kl import KL_LIMIT, KLS, kl_divergence
from core.errors import InputError

POLICY, REFERENCE = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])  # over three tokens


def every_token(kind: str, log_prob: torch.Tensor) -> torch.Tensor:
    """The estimate at each token that could be sampled."""
    return kl_divergence(log_prob[None], REFERENCE.log()[None], torch.ones(1, 3, dtype=torch.bool), kind=kind)[0]


def test_estimates_at_one_token_by_hand():
    log_prob, reference = torch.tensor([[0.5]]).log(), torch.tensor([[0.25]]).log()  # d = log 2
    found = {
        kind: kl_divergence(log_prob, reference, torch.ones(1, 1, dtype=torch.bool), kind=kind).item() for kind in KLS
    }
    assert found == pytest.approx({"k1": 0.693147, "k2": 0.693147**2 / 2, "k3": 0.5 - 1 + 0.693147}, abs=1e-6)


def test_k1_and_k3_are_unbiased():
    true = (POLICY * (POLICY / REFERENCE).log()).sum().item()
    for kind in ("k1", "k3"):
        assert (POLICY * every_token(kind, POLICY.log())).sum().item() == pytest.approx(true, abs=1e-6)
    assert (every_token("k3", POLICY.log()) >= 0).all()


def test_as_a_loss_k2_follows_the_divergence_k3_the_reverse_one_and_k1_nothing():
    def gradient_of(loss):
        logits = POLICY.log().requires_grad_()
        loss(logits.log_softmax(0)).backward()
        return logits.grad

    def expected_over_samples(kind):
        return gradient_of(lambda log_prob: (POLICY * every_token(kind, log_prob)).sum())

    forward = gradient_of(lambda log_prob: (log_prob.exp() * (log_prob - REFERENCE.log())).sum())
    reverse = gradient_of(lambda log_prob: -(REFERENCE * log_prob).sum())
    assert torch.allclose(expected_over_samples("k1"), torch.zeros(3), atol=1e-6)
    assert torch.allclose(expected_over_samples("k2"), forward, atol=1e-6)
    assert torch.allclose(expected_over_samples("k3"), reverse, atol=1e-6)


@pytest.mark.parametrize("kind", KLS)
def test_each_token_is_limited_and_padding_counts_nothing(kind):
    log_prob = torch.tensor([[-60.0, -0.1, torch.nan]], requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    found = kl_divergence(log_prob, torch.tensor([[-0.1, -0.1, -0.1]]), mask, kind=kind)
    assert found.tolist() == [[-KL_LIMIT if kind == "k1" else KL_LIMIT, 0, 0]]
    found.sum().backward()
    assert torch.isfinite(log_prob.grad).all() and log_prob.grad[0, 2] == 0


def test_an_unknown_kind_is_named():
    with pytest.raises(InputError, match="kl.kind='k4' is unknown"):
        kl_divergence(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), kind="k4")
