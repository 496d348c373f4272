"""Rollouts cut into segments: from where a subgoal is taken up to where it is done, or the episode ends.

What is counted within a segment never mixes with the next one: sums, discounted returns, the 0.5^steps of the code that
came with VSC-RL, advantages. Everything is vectorised over the rollout but the one backward pass over T of
agents/advantages.py, which all returns and advantages go through. Segments of whole episodes (DigiRL) are cut the same
way, with `done` where the goal itself is reached.

Source: VSC-RL, arXiv:2502.07949; its code (vscrl/algorithms/offpolicy_train_loop.py) cuts at every reward.
"""

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from agents.advantages import gae

HALF: Final = 0.5  # what a step more to the subgoal's end leaves of its return, in VSC-RL's code


@dataclass(frozen=True, eq=False)
class Segments:
    """The S segments of a rollout, numbered environment by environment and in the order of time; made by `cut`."""

    number: Int64[Tensor, "T B"]  # which segment a step belongs to, 0 .. S - 1
    first: Bool[Tensor, "T B"]  # first step of a segment, or of the rollout
    last: Bool[Tensor, "T B"]  # last step of a segment, or of the rollout
    to_end: Int64[Tensor, "T B"]  # steps until the segment's last, 0 there
    reached: Bool[Tensor, " S"]  # ended because its subgoal was done
    closed: Bool[Tensor, " S"]  # ended within the rollout; of the others nobody knows yet what they come to
    whole: Bool[Tensor, " S"]  # began within the rollout and ended there

    def __len__(self) -> int:
        return len(self.reached)

    def total(self, x: Float[Tensor, "T B"]) -> Float[Tensor, " S"]:
        """Sum over each segment's steps; keeps gradients."""
        return x.new_zeros(len(self)).index_add(0, self.number.reshape(-1), x.reshape(-1))

    def at_first(self, x: Float[Tensor, "T B"]) -> Float[Tensor, " S"]:
        """What x holds at each segment's first step."""
        return x.T[self.first.T]

    def spread(self, x: Tensor) -> Tensor:
        """(S,) to (T, B): what x says of a segment, at each of its steps."""
        return x[self.number]


def cut(done: Bool[Tensor, "T B"], ended: Bool[Tensor, "T B"], begins: Bool[Tensor, " B"]) -> Segments:
    """Where the segments of a rollout lie.

    Args:
        done: with this step the subgoal under way was done; the next step is about the next one.
        ended: with this step the episode ended, either way. Where both hold, the subgoal counts as done.
        begins: the rollout's first step takes up a subgoal; elsewhere it goes on with what an earlier rollout began.

    Raises:
        ValueError: shapes that do not go together, or a rollout of no steps.
    """
    if done.shape != ended.shape or done.shape[1:] != begins.shape or not done.numel():
        raise ValueError(
            f"cut() needs done and ended of one shape (T, B) and begins (B,), got {tuple(done.shape)}, "
            f"{tuple(ended.shape)} and {tuple(begins.shape)}"
        )
    steps, batch = done.shape
    over = done | ended
    last = over.clone()
    last[-1] = True
    first = torch.cat([torch.ones_like(last[:1]), last[:-1]])
    number = first.T.reshape(-1).cumsum(0).view(batch, steps).T - 1
    time = torch.arange(steps, device=done.device)[:, None]
    end = torch.where(last, time, steps).flip(0).cummin(0).values.flip(0)
    began = first.clone()
    began[0] = begins
    order = last.T  # a mask of (B, T) picks in the order of `number`
    closed = over.T[order]
    return Segments(number, first, last, end - time, done.T[order], closed, closed & began.T[first.T])


def segment_returns(reward: Float[Tensor, "T B"], segments: Segments, *, gamma: float) -> Float[Tensor, "T B"]:
    """Discounted reward from each step to its segment's end; what an unclosed segment has yet to earn is missing."""
    nothing = torch.zeros_like(reward)
    return gae(reward, nothing, nothing, segments.last, segments.last, gamma=gamma, lam=1.0)[0]


def halving_returns(segments: Segments, dtype: torch.dtype = torch.float32) -> Float[Tensor, "T B"]:
    """0.5^(steps to the end) in a segment whose subgoal was done, so 1 at its last step; 0 in all others.

    Source: split_trajecotry in the code of VSC-RL, which ignores both the reward's size and its own gamma.
    """
    return HALF ** segments.to_end.to(dtype) * segments.spread(segments.reached)


def subgoal_advantages(
    reward: Float[Tensor, "T B"],
    value: Float[Tensor, "T B"],
    next_value: Float[Tensor, "T B"],
    done: Bool[Tensor, "T B"],
    terminated: Bool[Tensor, "T B"],
    truncated: Bool[Tensor, "T B"],
    *,
    gamma: float,
    lam: float,
    bootstrap: bool,
) -> tuple[Float[Tensor, "T B"], Float[Tensor, "T B"]]:
    """Generalised advantage estimates that stop where a subgoal is done, and their value targets.

    Args:
        value: V(s, subgoal) of what the action was taken in and for.
        next_value: V of what the step led to, before any reset. Where the step did the subgoal: under the *next*
            subgoal, as it stands in the rollout's next row.
        done: the subgoal under way was done with this step.
        bootstrap: how a subgoal's end counts. False: as a terminal state, each subgoal earns its own return only and
            does not care where it leaves the next. True: as a time limit, what follows is worth V under the next
            subgoal, so the sum over subgoals is maximised, its dependence on where segments begin included.

    Raises:
        ValueError: tensors of different shapes.
    """
    if done.shape != terminated.shape:
        raise ValueError(f"done {tuple(done.shape)} and terminated {tuple(terminated.shape)} should share (T, B)")
    if not bootstrap:
        terminated = terminated | done
    return gae(reward, value, next_value, terminated, truncated | done, gamma=gamma, lam=lam)
