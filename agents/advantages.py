"""Advantage estimates for policy gradients: the one GAE of the project."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def gae(
    reward: Float[Tensor, "T B"],
    value: Float[Tensor, "T B"],
    next_value: Float[Tensor, "T B"],
    terminated: Bool[Tensor, "T B"],
    truncated: Bool[Tensor, "T B"],
    *,
    gamma: float,
    lam: float,
) -> tuple[Float[Tensor, "T B"], Float[Tensor, "T B"]]:
    """Generalised advantage estimates for a rollout that may cross episode ends.

    Args:
        value: V of the observation the action was taken in.
        next_value: V of the observation the step led to, read before any auto-reset.
        terminated: the task ended here; nothing to bootstrap.
        truncated: time ran out here; bootstrap, but do not mix in the next episode.
        gamma: discount per step, in [0, 1].
        lam: 0 gives one-step errors, 1 gives full returns minus value.

    Returns:
        Advantage, and the value target (advantage + value).

    Raises:
        ValueError: the five tensors differ in shape.

    Source: Schulman et al., arXiv:1506.02438, section 3.
    """
    shapes = {tuple(x.shape) for x in (reward, value, next_value, terminated, truncated)}
    if len(shapes) != 1:
        raise ValueError(f"gae() needs five tensors of one shape (T, B), got {sorted(shapes)}")

    advantage = torch.empty_like(reward)
    carry = torch.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        delta = reward[t] + gamma * next_value[t] * ~terminated[t] - value[t]
        carry = delta + gamma * lam * carry * ~(terminated[t] | truncated[t])
        advantage[t] = carry
    return advantage, advantage + value
