"""How far a policy is from its reference: estimates of the Kullback-Leibler divergence from sampled tokens.

With d = log pi - log reference at a token that pi sampled (Schulman, "Approximating KL Divergence", 2020):

| kind | estimate        | value                    | taken for                                                  |
|------|-----------------|--------------------------|------------------------------------------------------------|
| k1   | d               | unbiased, varies most    | the reward; as a loss its gradient averages to zero        |
| k2   | d^2 / 2         | biased, a little         | the loss: its gradient is that of KL(pi, reference)        |
| k3   | exp(-d) - 1 + d | unbiased, never negative | the loss of GRPO; the gradient is that of KL(reference, pi) |

(The gradients: Tang and Munos, arXiv:2506.09477, for tokens sampled from pi itself.) In the loss, beta * KL is a
`penalty` of agents/reasoning/policy_losses.py; in the reward, a `cost` of agents/reasoning/group_advantages.py.
"""

from collections.abc import Callable
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from core.errors import check_choice

KL_LIMIT: Final = 10.0  # nats at one token, as in verl: k3 grows like exp, one outlier would be the whole mean
LOG_LIMIT: Final = 20.0  # exp of it is finite in every float type


def k1(d: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """d, unbiased."""
    return d


def k2(d: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """d^2 / 2."""
    return d.square() / 2


def k3(d: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """exp(-d) - 1 + d, unbiased and never negative."""
    return torch.exp(-d) - 1 + d


KLS: Final[dict[str, Callable[[Tensor], Tensor]]] = {"k1": k1, "k2": k2, "k3": k3}


def kl_divergence(
    log_prob: Float[Tensor, "B T"],
    reference_log_prob: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    kind: str = "k3",
) -> Float[Tensor, "B T"]:
    """Estimated divergence at each token in nats, within +-KL_LIMIT; 0 where the mask is off.

    Every token is limited before any mean is taken; a token at the limit has no gradient.

    Args:
        log_prob: of tokens sampled by the policy. Its gradient is kept: detach it where the result goes into a reward.
        kind: one of KLS.

    Raises:
        InputError: unknown kind.
    """
    check_choice("kl.kind", kind, KLS)
    d = torch.where(mask, log_prob - reference_log_prob.detach(), 0.0)
    return KLS[kind](d.clamp(-LOG_LIMIT, LOG_LIMIT)).clamp(-KL_LIMIT, KL_LIMIT)
