"""Who earned what in an episode of several turns: one advantage for each turn, spread over its tokens by the caller.

A row is one turn: a prompt with what is seen now, and the answer to it. Rows come in any order; `episode` says which of
them belong together, `turn` in which order they happened, `group` which episodes set out from the same start. Pure
functions of such columns: nothing here knows a model or a simulator.

Left out: VAGEN's second, token-level GAE inside each turn (arXiv:2510.16907); every token of a turn has the advantage
of the turn.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from agents.advantages import gae


class TurnTable(NamedTuple):
    """Where rows of turns stand in a table of turns by episodes."""

    turns: int  # of the longest episode
    episodes: int
    place: tuple[Int64[Tensor, " B"], Int64[Tensor, " B"]]  # of each row: its turn, and its episode's column
    last: Bool[Tensor, " B"]  # rows that end their episode

    def of(self, rows: Tensor) -> Tensor:
        """A column of rows as a table (turns, episodes); 0 where an episode is over."""
        table = rows.new_zeros(self.turns, self.episodes)
        table[self.place] = rows
        return table


def turn_table(episode: Int64[Tensor, " B"], turn: Int64[Tensor, " B"]) -> TurnTable:
    """The table that rows fill.

    Raises:
        ValueError: the turns of an episode are not 0, 1, 2, ... once each.
    """
    _, column, count = torch.unique(episode, return_inverse=True, return_counts=True)
    turns, episodes = int(count.max()), len(count)
    seen = torch.zeros(turns, episodes, dtype=torch.int64, device=turn.device)
    if bool((turn < 0).any()) or bool((turn >= count[column]).any()):
        raise ValueError(f"turns {turn.tolist()} of episodes {episode.tolist()} should count 0, 1, 2, ... in each")
    seen.index_put_((turn, column), torch.ones_like(turn), accumulate=True)
    if int(seen.max()) > 1:
        raise ValueError(f"episodes {episode.tolist()} have one turn twice: {turn.tolist()}")
    return TurnTable(turns, episodes, (turn, column), turn == count[column] - 1)


def discounted_returns(
    reward: Float[Tensor, " B"], episode: Int64[Tensor, " B"], turn: Int64[Tensor, " B"], *, gamma: float
) -> Float[Tensor, " B"]:
    """What each turn and those after it were paid: sum over k >= t of gamma^(k - t) r_k.

    Raises:
        ValueError: see `turn_table`.
    """
    table = turn_table(episode, turn)
    paid = table.of(reward)
    carry = torch.zeros_like(paid[0])
    for t in reversed(range(table.turns)):
        carry = paid[t] + gamma * carry
        paid[t] = carry
    return paid[table.place]


def centred(
    value: Float[Tensor, " K"], group: Int64[Tensor, " K"], *, std: bool, eps: float = 1e-6
) -> Float[Tensor, " K"]:
    """Values less the mean of their group, over its (unbiased) deviation + eps where `std`; 0 for one that is alone."""
    _, column, count = torch.unique(group, return_inverse=True, return_counts=True)
    size = count.to(value.dtype)
    mean = torch.zeros_like(size).index_add_(0, column, value) / size
    away = torch.where(count[column] > 1, value - mean[column], 0.0)
    if not std:
        return away
    spread = torch.zeros_like(size).index_add_(0, column, away.square()) / (size - 1).clamp(min=1)
    return away / (spread.sqrt()[column] + eps)


def gigpo(
    reward: Float[Tensor, " B"],
    episode: Int64[Tensor, " B"],
    turn: Int64[Tensor, " B"],
    group: Int64[Tensor, " B"],
    anchor: Int64[Tensor, " B"],
    *,
    gamma: float = 0.95,
    omega: float = 1.0,
    std: bool = False,
) -> Float[Tensor, " B"]:
    """Group-in-group advantages: A = A_episode + omega A_step.

    A_episode compares whole episodes of one group: the sum of rewards less the mean over episodes, each counted once
    however many turns it took. A_step compares the turns of one group that met the same observation: the discounted
    return from there on less the mean over those turns. A turn that nobody else met, and an episode alone in its group,
    have nothing to be compared with: 0.

    Args:
        anchor: number of the observation each turn answered, e.g. a hash; only turns of one group are compared.
        gamma: discount per turn of A_step; A_episode does not discount.
        omega: weight of A_step; 0 is GRPO over episodes.
        std: divide both parts by the deviation within their groups. The released code leaves it out by default.

    Raises:
        ValueError: see `turn_table`.

    Source: Feng et al., arXiv:2505.10978, equations 3, 6, 7 and 8. The released code lets an episode that is alone keep
    its raw return; here it is 0.
    """
    table = turn_table(episode, turn)
    column = table.place[1]
    total = table.of(reward).sum(0)
    owner = torch.zeros(table.episodes, dtype=group.dtype, device=group.device)
    owner[column] = group
    whole = centred(total, owner, std=std)[column]
    met = torch.unique(torch.stack([group, anchor], 1), dim=0, return_inverse=True)[1]
    step = centred(discounted_returns(reward, episode, turn, gamma=gamma), met, std=std)
    return whole + omega * step


def turn_gae(
    reward: Float[Tensor, " B"],
    value: Float[Tensor, " B"],
    next_value: Float[Tensor, " B"],
    terminated: Bool[Tensor, " B"],
    episode: Int64[Tensor, " B"],
    turn: Int64[Tensor, " B"],
    *,
    gamma: float = 1.0,
    lam: float = 1.0,
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Generalised advantage estimates where a step is a whole turn (agents/advantages.py over a table of turns).

    Args:
        value: V of the prompt of each turn.
        next_value: V of what the turn led to; of a turn that ended its episode as terminated it is not read.
        terminated: the task ended with this turn. An episode whose last turn is not terminated was cut off: bootstrap.

    Returns:
        Advantage, and the value target.

    Raises:
        ValueError: see `turn_table`.

    Source: VAGEN's advantage without concatenation of turns; Schulman et al., arXiv:1506.02438.
    """
    table = turn_table(episode, turn)
    columns = (table.of(part) for part in (reward, value, next_value, terminated, table.last & ~terminated))
    advantage, target = gae(*columns, gamma=gamma, lam=lam)
    return advantage[table.place], target[table.place]


def token_weights(
    mask: Bool[Tensor, "B T"], on_action: Bool[Tensor, "B T"], *, thought_weight: float
) -> Float[Tensor, "B T"]:
    """Weight of each token's log-probability: 1 where the answer names the action, `thought_weight` on the thought.

    The long thought would otherwise drown the few tokens that act. The sum of weight times log_prob is RL4VLM's
    log pi = lambda log p(thought) + log p(action); with a ratio of 1, weighting the tokens' advantages gives the
    gradient of that sum times the turn's advantage. 0 where the mask is off.

    Source: Zhai et al., arXiv:2405.10292, section 4.3; lambda .5 (cards), .2 (ALFWorld).
    """
    return torch.where(on_action, 1.0, thought_weight) * mask
