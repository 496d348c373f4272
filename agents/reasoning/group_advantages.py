"""Advantages of sampled answers: each against the others that answered the same prompt, or against the whole batch.

| name                 | advantage                                                      | source           |
|----------------------|----------------------------------------------------------------|------------------|
| grpo, dapo, gspo     | (R_i - mean of its group) / (deviation of its group + 1e-4)    | arXiv:2402.03300 |
| dr-grpo              | R_i - mean of its group                                        | arXiv:2503.20783 |
| rloo                 | R_i - mean of the others in its group                          | arXiv:2402.14740 |
| reinforce++-baseline | R_i - mean of its group, / deviation of these over the batch   | arXiv:2501.03262 |
| reinforce++          | return of each token, whitened over all tokens of the batch    | arXiv:2501.03262 |

All but the last give every token of a row the same and compare within groups. A group is what its number says, wherever
its rows stand, and lies on one process whole; the two kinds of Reinforce++ take their statistics over all processes.
Deviations are unbiased. In a group of equal rewards, so in one of a single row, every row has the advantage 0 exactly.
MAYE's released code whitens per process and adds the mean back; here the mean is taken out and the batch is whole.
"""

from collections.abc import Callable
from typing import Final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from core import distributed
from core.errors import InputError, check_choice

GROUP_EPS: Final = 1e-4  # as in TRL
WHITEN_EPS: Final = 1e-8


def advantages(
    name: str,
    reward: Float[Tensor, " B"],
    group: Int64[Tensor, " B"],
    mask: Bool[Tensor, "B T"],
    *,
    cost: Float[Tensor, "B T"] | None = None,
    gamma: float = 1.0,
) -> Float[Tensor, "B T"]:
    """The advantage of every token, 0 where the mask is off. Under torchrun every process has to call this.

    Args:
        name: one of ADVANTAGES, or "reinforce++".
        group: number of the prompt each row answers.
        mask: tokens that count; a row without any gets no advantage, but its reward counts in its group.
        cost: taken off the reward, e.g. beta * kl_divergence(): at its token for "reinforce++", else summed over the
            response before rewards are compared.
        gamma: discount per token, of "reinforce++" alone.

    Raises:
        InputError: unknown name, a reward that is not finite, or a discount other than 1 where there is none.
    """
    check_choice("algorithm", name, [*ADVANTAGES, "reinforce++"])
    if not torch.isfinite(reward).all():
        row = int((~torch.isfinite(reward)).nonzero()[0])
        raise InputError(f"the reward of row {row} is {float(reward[row])}; every answer needs a finite reward")
    if name == "reinforce++":
        return whitened(token_returns(reward, mask, cost=cost, gamma=gamma), mask)
    if gamma != 1.0:
        raise InputError(f"gamma={gamma} has no meaning for {name}, which has one advantage per answer; use 1")
    if cost is not None:
        reward = reward - torch.where(mask, cost, 0.0).sum(1)
    return ADVANTAGES[name](reward, group)[:, None] * mask


def grpo(reward: Float[Tensor, " B"], group: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Distance from the group's mean in deviations of the group."""
    place, size = _places(group)
    centred = dr_grpo(reward.double(), group)
    square = torch.zeros_like(size).index_add_(0, place, centred.square())
    deviation = (square / (size - 1).clamp(min=1)).sqrt()
    return (centred / (deviation[place] + GROUP_EPS)).to(reward.dtype)


def dr_grpo(reward: Float[Tensor, " B"], group: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Distance from the group's mean."""
    place, size = _places(group)
    mean = torch.zeros_like(size).index_add_(0, place, reward.double()) / size
    return torch.where(informative(reward, group), reward.double() - mean[place], 0.0).to(reward.dtype)


def rloo(reward: Float[Tensor, " B"], group: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Distance from the mean of the others: G / (G - 1) times that from the group's mean."""
    place, size = _places(group)
    return dr_grpo(reward, group) * (size / (size - 1).clamp(min=1))[place].to(reward.dtype)


def reinforce_baseline(reward: Float[Tensor, " B"], group: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Distance from the group's mean in deviations of these distances over the whole batch."""
    centred = dr_grpo(reward, group)
    return whitened(centred[:, None], torch.ones_like(centred, dtype=torch.bool)[:, None])[:, 0]


ADVANTAGES: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "grpo": grpo,
    "dapo": grpo,
    "gspo": grpo,
    "dr-grpo": dr_grpo,
    "rloo": rloo,
    "reinforce++-baseline": reinforce_baseline,
}


def token_returns(
    reward: Float[Tensor, " B"],
    mask: Bool[Tensor, "B T"],
    *,
    cost: Float[Tensor, "B T"] | None = None,
    gamma: float = 1.0,
) -> Float[Tensor, "B T"]:
    """What each token has still to come: sum over k >= t of gamma^(k-t) * (reward at the last token - cost_k).

    k and t count the tokens whose mask is on; elsewhere the return is 0.
    """
    pay = torch.zeros_like(mask, dtype=reward.dtype) if cost is None else -torch.where(mask, cost, 0.0)
    count = mask.cumsum(1)
    last = mask & (count == count[:, -1:])
    pay = pay + last * reward[:, None]
    if gamma == 1.0:
        return pay.flip(1).cumsum(1).flip(1) * mask
    returns = torch.zeros_like(pay)
    carry = torch.zeros_like(reward)
    for t in reversed(range(mask.shape[1])):
        carry = torch.where(mask[:, t], pay[:, t] + gamma * carry, carry)
        returns[:, t] = carry
    return returns * mask


def whitened(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Mean 0 and deviation 1 over all that counts on all processes; 0 where the mask is off, or where all are equal."""
    chosen = values.double() * mask
    sums = distributed.sum_over_ranks(torch.stack([mask.sum().double(), chosen.sum()]))
    count, mean = sums[0].clamp(min=1), sums[1] / sums[0].clamp(min=1)
    centred = (values.double() - mean) * mask
    variance = distributed.sum_over_ranks(centred.square().sum()) / (count - 1).clamp(min=1)
    return (centred * (variance + WHITEN_EPS).rsqrt()).to(values.dtype)


def informative(reward: Float[Tensor, " B"], group: Int64[Tensor, " B"]) -> Bool[Tensor, " B"]:
    """Rows whose group has more than one reward: the others teach nothing, DAPO draws new prompts for them."""
    place, size = _places(group)
    low = torch.zeros_like(size, dtype=reward.dtype).scatter_reduce_(0, place, reward, "amin", include_self=False)
    high = torch.zeros_like(size, dtype=reward.dtype).scatter_reduce_(0, place, reward, "amax", include_self=False)
    return (low < high)[place]


def overlong_penalty(length: Int64[Tensor, " B"], *, longest: int, cache: int) -> Float[Tensor, " B"]:
    """Added to the reward: falls from 0 to -1 over the last `cache` tokens before `longest`.

    Source: DAPO, arXiv:2503.14476, equation 13.

    Raises:
        InputError: `cache` is not between 1 and `longest`.
    """
    if not 1 <= cache <= longest:
        raise InputError(f"overlong cache={cache}; expected 1 to the longest answer, {longest} tokens")
    return ((longest - cache - length) / cache).clamp(-1.0, 0.0)


def without_cut_off(mask: Bool[Tensor, "B T"], ended: Bool[Tensor, " B"]) -> Bool[Tensor, "B T"]:
    """The mask without answers that ran into the length limit: whether they were right is not known (DAPO 3.4)."""
    return mask & ended[:, None]


def _places(group: Int64[Tensor, " B"]) -> tuple[Int64[Tensor, " B"], Float[Tensor, " K"]]:
    """Each row's group numbered from 0, and how many rows each group has (float64)."""
    _, place, size = torch.unique(group, return_inverse=True, return_counts=True)
    return place, size.double()
