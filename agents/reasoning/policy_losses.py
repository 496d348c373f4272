"""Policy-gradient losses of language models as pure functions: which ratio, which clip, divided by what.

All share one core. Token t of response i has the ratio r_{i,t} of new to old probability, the advantage A_{i,t} and

    l_{i,t} = -min(r A, clip(r, 1 - low, 1 + high) A),  at most -dual * A where A < 0,

plus a penalty such as beta * KL. They differ in the ratio and in what the sum of l over i and t is divided by (T_i:
tokens of response i that count):

| loss              | ratio                   | divisor             | source                                        |
|-------------------|-------------------------|---------------------|-----------------------------------------------|
| `token_mean`      | of the token            | tokens of the batch | DAPO, arXiv:2503.14476, equation 8;           |
|                   |                         |                     | Reinforce++, arXiv:2501.03262                 |
| `sequence_mean`   | of the token            | rows * T_i          | GRPO, arXiv:2402.03300, equation 3            |
| `constant_length` | of the token            | rows * longest      | Dr.GRPO, arXiv:2503.20783                     |
| `sequence_ratio`  | exp(mean over t, log r) | rows * T_i          | GSPO, arXiv:2507.18071, equations 5, 7 and 13 |
| `whole_answer`    | exp(sum over t, log r)  | rows * T_i          | RLOO, arXiv:2402.14740, with the clip of TRL  |

What a loss is divided by counts the whole minibatch over all microbatches and processes (`Totals`), so that the losses
of the parts add up to the loss of the whole, exactly. BNPO is `token_mean` with the totals of one process's minibatch.
Left out: losses without a clipped ratio (CISPO, SAPO), masks for stale samples.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from core import distributed
from core.errors import InputError

LOG_RATIO_LIMIT: Final = 20.0  # e^20 is far outside any clip, and A * e^20 still finite; beyond it no gradient


@dataclass(frozen=True)
class Clip:
    """How far a ratio may lead."""

    low: float = 0.2  # ratios count down to 1 - low
    high: float = 0.2  # and up to 1 + high
    dual: float = 0.0  # loss of a token with negative advantage is at most -dual * advantage; 0 = no such limit

    def __post_init__(self) -> None:
        if not 0 < self.low <= 1 or self.high <= 0:
            raise InputError(f"clip.low={self.low}, clip.high={self.high}; expected 0 < low <= 1 and high > 0")
        if self.dual and self.dual <= 1 + self.high:
            raise InputError(f"clip.dual={self.dual} should lie above 1 + clip.high = {1 + self.high:g}, or be 0 (off)")


@dataclass(frozen=True)
class Totals:
    """What the loss of a whole minibatch is divided by."""

    tokens: int  # response tokens that count
    rows: int  # responses
    longest: int  # tokens a response may have at most


@dataclass(frozen=True, eq=False)
class Loss:
    """A loss and what its ratios looked like. Each field is this part's share: parts of a minibatch add up."""

    value: Float[Tensor, ""]  # to minimise; carries the gradient
    clipped_low: Float[Tensor, ""]  # share of tokens with A < 0 and a ratio below 1 - low: no gradient any more
    clipped_high: Float[Tensor, ""]  # share of tokens with A > 0 and a ratio above 1 + high
    clipped_dual: Float[Tensor, ""]  # share of tokens with A < 0 and a ratio above `dual`
    ratio: Float[Tensor, ""]  # mean ratio
    moved: Float[Tensor, ""]  # estimated KL from the old to the new policy per token (k3), nats

    @property
    def statistics(self) -> dict[str, Tensor]:
        """All but the value, by name, without gradient."""
        return {name: part for name, part in vars(self).items() if name != "value"}


def totals_of(mask: Bool[Tensor, "B T"], longest: int) -> Totals:
    """Totals of a minibatch of which every process holds its own rows. Every process has to call this."""
    counts = torch.tensor([int(mask.sum()), len(mask)], dtype=torch.int64, device=mask.device)
    tokens, rows = distributed.sum_over_ranks(counts).tolist()
    return Totals(tokens, rows, longest)


def token_mean(
    log_prob: Float[Tensor, "B T"],
    old_log_prob: Float[Tensor, "B T"],
    advantage: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    totals: Totals,
    clip: Clip,
    penalty: Float[Tensor, "B T"] | None = None,
) -> Loss:
    """Every token of the minibatch weighs the same: DAPO, Reinforce++, PPO on tokens.

    Args:
        log_prob: of the response's tokens under the policy that learns; with gradient.
        old_log_prob: under the policy that answered, without gradient.
        advantage: without gradient, may differ from token to token.
        mask: tokens that count. What the other tensors hold elsewhere has no effect, be it NaN.
        totals: of the whole minibatch, of which these rows may be a part.
        penalty: added to each token's loss before the mean, e.g. beta * kl_divergence() or -c * entropy.

    Raises:
        ValueError: tensors of different shapes.
    """
    log_ratio = _log_ratio(log_prob, old_log_prob, mask)
    weight = log_ratio.new_full((len(mask), 1), 1 / max(totals.tokens, 1))
    return _loss(log_ratio, log_ratio, advantage, mask, weight, totals, clip, penalty)


def sequence_mean(
    log_prob: Float[Tensor, "B T"],
    old_log_prob: Float[Tensor, "B T"],
    advantage: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    totals: Totals,
    clip: Clip,
    penalty: Float[Tensor, "B T"] | None = None,
) -> Loss:
    """Every response weighs the same, so a token of a long one weighs less: GRPO. Arguments as for `token_mean`."""
    log_ratio = _log_ratio(log_prob, old_log_prob, mask)
    return _loss(log_ratio, log_ratio, advantage, mask, _per_response(mask, log_ratio, totals), totals, clip, penalty)


def constant_length(
    log_prob: Float[Tensor, "B T"],
    old_log_prob: Float[Tensor, "B T"],
    advantage: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    totals: Totals,
    clip: Clip,
    penalty: Float[Tensor, "B T"] | None = None,
) -> Loss:
    """Divided by a constant, whatever the lengths: Dr.GRPO. Arguments as for `token_mean`."""
    log_ratio = _log_ratio(log_prob, old_log_prob, mask)
    weight = log_ratio.new_full((len(mask), 1), 1 / max(totals.rows * totals.longest, 1))
    return _loss(log_ratio, log_ratio, advantage, mask, weight, totals, clip, penalty)


def sequence_ratio(
    log_prob: Float[Tensor, "B T"],
    old_log_prob: Float[Tensor, "B T"],
    advantage: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    totals: Totals,
    clip: Clip,
    penalty: Float[Tensor, "B T"] | None = None,
) -> Loss:
    """One ratio per response, the geometric mean of its tokens' ratios: GSPO. Arguments as for `token_mean`.

    Written in the token form (GSPO-token, equation 13): value and gradient are those of the sequence form where a
    response has one advantage, and weights on single tokens keep their meaning.
    """
    log_ratio = _log_ratio(log_prob, old_log_prob, mask)
    mean = log_ratio.detach().sum(1, keepdim=True) / _lengths(mask, log_ratio)
    shared = mean + (log_ratio - log_ratio.detach())
    return _loss(log_ratio, shared, advantage, mask, _per_response(mask, log_ratio, totals), totals, clip, penalty)


def whole_answer(
    log_prob: Float[Tensor, "B T"],
    old_log_prob: Float[Tensor, "B T"],
    advantage: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    totals: Totals,
    clip: Clip,
    penalty: Float[Tensor, "B T"] | None = None,
) -> Loss:
    """A response is one action with one ratio, the product of its tokens' ratios: RLOO. Arguments as for `token_mean`.

    Written per token: a factor T_i on the gradient of log r undoes the mean over the tokens, so that the value is that
    of the sequence form and a token's gradient is r_i A_{i,t} / rows.
    """
    log_ratio = _log_ratio(log_prob, old_log_prob, mask)
    total = log_ratio.detach().sum(1, keepdim=True)
    shared = total + (log_ratio - log_ratio.detach()) * _lengths(mask, log_ratio)
    return _loss(log_ratio, shared, advantage, mask, _per_response(mask, log_ratio, totals), totals, clip, penalty)


LossFunction = Callable[..., Loss]  # with the arguments of `token_mean`

LOSSES: Final[dict[str, LossFunction]] = {
    "reinforce++": token_mean,
    "reinforce++-baseline": token_mean,
    "rloo": whole_answer,
    "grpo": sequence_mean,
    "dr-grpo": constant_length,
    "dapo": token_mean,
    "gspo": sequence_ratio,
}
"""The loss of each algorithm; its advantages are those of agents/reasoning/group_advantages.py under the same name."""

CLIPS: Final[dict[str, Clip]] = {
    "reinforce++": Clip(),
    "reinforce++-baseline": Clip(),
    "rloo": Clip(),
    "grpo": Clip(),
    "dr-grpo": Clip(),
    "dapo": Clip(0.2, 0.28),
    "gspo": Clip(3e-4, 4e-4),
}
"""The clip each was published with."""


def _log_ratio(log_prob: Tensor, old_log_prob: Tensor, mask: Tensor) -> Float[Tensor, "B T"]:
    """log r, 0 where the mask is off."""
    if not log_prob.shape == old_log_prob.shape == mask.shape:
        shapes = [tuple(x.shape) for x in (log_prob, old_log_prob, mask)]
        raise ValueError(f"log_prob, old_log_prob and mask should share one shape (B, T), got {shapes}")
    return torch.where(mask, log_prob - old_log_prob.detach(), 0.0)


def _lengths(mask: Tensor, like: Tensor) -> Float[Tensor, "B 1"]:
    return mask.sum(1, keepdim=True).clamp(min=1).to(like.dtype)


def _per_response(mask: Tensor, like: Tensor, totals: Totals) -> Float[Tensor, "B 1"]:
    return 1 / (_lengths(mask, like) * max(totals.rows, 1))


def _loss(
    log_ratio: Float[Tensor, "B T"],
    used: Float[Tensor, "B T"],
    advantage: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    weight: Float[Tensor, "B 1"],
    totals: Totals,
    clip: Clip,
    penalty: Float[Tensor, "B T"] | None,
) -> Loss:
    """The clipped surrogate of `used`, weighed by row and summed; the ratio statistics of both.

    Args:
        log_ratio: of single tokens. used: what the loss takes for it.
    """
    if advantage.shape != mask.shape or (penalty is not None and penalty.shape != mask.shape):
        shapes = [tuple(x.shape) for x in (mask, advantage, penalty) if x is not None]
        raise ValueError(f"mask, advantage and penalty should share one shape (B, T), got {shapes}")
    advantage = torch.where(mask, advantage.detach(), 0.0)
    ratio = used.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
    per_token = -torch.min(ratio * advantage, ratio.clamp(1 - clip.low, 1 + clip.high) * advantage)
    if clip.dual:
        per_token = torch.where(advantage < 0, torch.min(per_token, -clip.dual * advantage), per_token)
    if penalty is not None:
        per_token = per_token + penalty
    value = (torch.where(mask, per_token, 0.0) * weight).sum()

    with torch.no_grad():
        tokens = max(totals.tokens, 1)
        bad, good = mask & (advantage < 0), mask & (advantage > 0)
        above = bad & (ratio > clip.dual) if clip.dual else torch.zeros_like(mask)
        step = log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
        return Loss(
            value,
            (bad & (ratio < 1 - clip.low)).sum() / tokens,
            (good & (ratio > 1 + clip.high)).sum() / tokens,
            above.sum() / tokens,
            torch.where(mask, ratio, 0.0).sum() / tokens,
            torch.where(mask, step.exp() - step - 1, 0.0).sum() / tokens,
        )
