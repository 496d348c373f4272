import math

import pytest
import torch

from agents.subgoals.divergence import DIVERGENCES, Reference, divergence
from core.errors import InputError


def logits_of(*chances):
    return torch.tensor(chances, dtype=torch.float64).log()


def test_exact_divergences_by_hand():
    own, other = logits_of(0.5, 0.5), Reference(logits_of(0.75, 0.25))
    assert divergence("reverse", own, other).item() == pytest.approx(0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(2))
    assert divergence("forward", own, other).item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert divergence("none", own, Reference()).item() == 0.0


def test_logits_need_not_be_normalised():
    generator = torch.Generator().manual_seed(0)
    own, other = torch.randn(2, 3, 4, 5, generator=generator)
    for kind in ("reverse", "forward"):
        shifted = divergence(kind, own + 3, Reference(other - 2))
        torch.testing.assert_close(shifted, divergence(kind, own, Reference(other)))
        assert shifted.shape == (3, 4) and bool((shifted > 0).all())


def test_a_policy_does_not_diverge_from_itself():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    for kind in ("reverse", "forward"):
        torch.testing.assert_close(divergence(kind, logits, Reference(logits)), torch.zeros(6), atol=1e-6, rtol=0)


def test_the_gradient_of_reverse_pulls_down_what_the_reference_finds_less_likely():
    own = logits_of(0.5, 0.3, 0.2).requires_grad_()
    other = logits_of(0.2, 0.3, 0.5)
    kl = divergence("reverse", own, Reference(other))
    kl.backward()
    wanted = [p * (math.log(p / q) - kl.item()) for p, q in ((0.5, 0.2), (0.3, 0.3), (0.2, 0.5))]
    assert own.grad.tolist() == pytest.approx(wanted)


def test_imitation_of_the_references_own_actions_is_forward_plus_its_entropy_with_one_gradient():
    own, other = logits_of(0.5, 0.3, 0.2).requires_grad_(), logits_of(0.1, 0.6, 0.3)
    chance = other.exp()
    expected = sum(p * divergence("imitation", own, Reference(action=torch.tensor(a))) for a, p in enumerate(chance))
    forward = divergence("forward", own, Reference(other))
    assert expected.item() == pytest.approx((forward - (chance * other).sum()).item())
    (first,) = torch.autograd.grad(expected, own)
    (second,) = torch.autograd.grad(forward, own)
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(second, own.detach().exp() - chance)


def test_forward_and_reverse_have_unlike_gradients():
    own, other = logits_of(0.5, 0.3, 0.2).requires_grad_(), logits_of(0.1, 0.6, 0.3)
    grads = [torch.autograd.grad(divergence(k, own, Reference(other)), own)[0] for k in ("forward", "reverse")]
    assert not torch.allclose(*grads, atol=0.05)


def test_no_gradient_reaches_the_reference():
    own = torch.randn(4, 3, requires_grad=True)
    other = torch.randn(4, 3, requires_grad=True)
    for kind in DIVERGENCES:
        loss = divergence(kind, own, Reference(other, torch.zeros(4, dtype=torch.int64))).sum()
        if loss.requires_grad:
            loss.backward()
    assert other.grad is None and own.grad is not None


def test_a_reference_that_rules_an_action_out_is_infinitely_far_but_can_be_imitated():
    own, other = logits_of(0.5, 0.5), logits_of(1.0, 0.0)
    assert divergence("reverse", own, Reference(other)).item() == math.inf
    assert divergence("imitation", own, Reference(action=torch.tensor(0))).item() == pytest.approx(math.log(2))


def test_a_reference_that_lacks_what_a_kind_needs_is_refused():
    logits = torch.zeros(2, 3)
    with pytest.raises(InputError, match="divergence=imitation"):
        divergence("reverse", logits, Reference(action=torch.zeros(2, dtype=torch.int64)))
    with pytest.raises(InputError, match="needs an action"):
        divergence("imitation", logits, Reference(logits))
    with pytest.raises(InputError, match="did you mean 'reverse'"):
        divergence("revers", logits, Reference(logits))
    with pytest.raises(ValueError, match="differ in shape"):
        divergence("forward", logits, Reference(torch.zeros(2, 4)))
    with pytest.raises(ValueError, match="do not fit"):
        divergence("imitation", logits, Reference(action=torch.zeros(3, dtype=torch.int64)))
