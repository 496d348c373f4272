"""How far a policy's choice of action is from a reference's: a number per step, in nats, with the policy's gradient.

| kind        | at a state                  | needs of the reference | note                                |
|-------------|-----------------------------|------------------------|-------------------------------------|
| `none`      | 0                           | nothing                |                                     |
| `reverse`   | sum_a pi (log pi - log ref) | its logits             | the KL of the SGC-ELBO, exact       |
| `forward`   | sum_a ref (log ref - log pi)| its logits             | exact; what `imitation` estimates   |
| `imitation` | -log pi(a_ref)              | an action of its own   | VSC-RL's practical term, equation 7 |

Over a_ref drawn from the reference, `imitation` is `forward` plus the reference's entropy, so both have one gradient.
Forward and reverse differ: forward asks the policy to put probability wherever the reference does, reverse only to stay
where the reference does. Reviewers of VSC-RL held the one against the other, hence both.

Under a policy and a reference that act in one world the dynamics cancel, so that the divergence of trajectories is the
expected sum of `reverse` over the states which the *policy* visits. Discrete actions only: a normal distribution has a
closed form too, which nothing here needs.

Source: VSC-RL, arXiv:2502.07949.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from core.errors import InputError, check_choice


@dataclass(frozen=True, eq=False)
class Reference:
    """What a reference policy says of the states at hand; without gradient."""

    logits: Float[Tensor, "*s A"] | None = None  # of its actions, need not be normalised
    action: Int64[Tensor, "*s"] | None = None  # one that it took, or would take, there


def none(logits: Float[Tensor, "*s A"], reference: Reference) -> Float[Tensor, "*s"]:
    """0 at each state."""
    return logits.new_zeros(logits.shape[:-1])


def reverse(logits: Float[Tensor, "*s A"], reference: Reference) -> Float[Tensor, "*s"]:
    """KL(pi, reference), exact. Infinite where the reference rules out an action that the policy does not."""
    own, other = logits.log_softmax(-1), _log_probs(logits, reference)
    return (own.exp() * (own - other)).sum(-1)


def forward(logits: Float[Tensor, "*s A"], reference: Reference) -> Float[Tensor, "*s"]:
    """KL(reference, pi), exact."""
    own, other = logits.log_softmax(-1), _log_probs(logits, reference)
    return (other.exp() * (other - own)).sum(-1)


def imitation(logits: Float[Tensor, "*s A"], reference: Reference) -> Float[Tensor, "*s"]:
    """-log pi of the reference's action."""
    if reference.action is None:
        raise InputError("the divergence 'imitation' needs an action of the reference at every step; got none")
    if reference.action.shape != logits.shape[:-1]:
        raise ValueError(f"actions {tuple(reference.action.shape)} do not fit logits {tuple(logits.shape)}")
    return -logits.log_softmax(-1).gather(-1, reference.action[..., None]).squeeze(-1)


Divergence = Callable[[Tensor, Reference], Tensor]

DIVERGENCES: Final[dict[str, Divergence]] = {
    "none": none,
    "reverse": reverse,
    "forward": forward,
    "imitation": imitation,
}


def divergence(kind: str, logits: Float[Tensor, "*s A"], reference: Reference) -> Float[Tensor, "*s"]:
    """The divergence of a kind, one of DIVERGENCES, at each state.

    Raises:
        InputError: unknown kind, or the reference does not give what the kind needs.
        ValueError: shapes that do not go together.
    """
    check_choice("divergence", kind, DIVERGENCES)
    return DIVERGENCES[kind](logits, reference)


def _log_probs(logits: Tensor, reference: Reference) -> Float[Tensor, "*s A"]:
    if reference.logits is None:
        raise InputError(
            "an exact divergence needs the logits of the reference; got none. A reference that only acts, such as "
            "demonstrations, can be had by divergence=imitation"
        )
    if reference.logits.shape != logits.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and reference {tuple(reference.logits.shape)} differ in shape")
    with torch.no_grad():
        return reference.logits.log_softmax(-1)
