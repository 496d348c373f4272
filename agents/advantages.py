"""Advantage estimates for policy gradients: the one GAE of the project, and rewards brought to one scale."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agents.encoders import RunningNorm

REWARD_LIMIT = 10.0  # scaled rewards are cut to +- this


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


class ReturnScale:
    """Divides rewards by the running deviation of discounted returns, so that one value loss fits tasks of any scale.

    Call it between `collect` and `update`: `rollout.reward.copy_(scale(rollout.reward, ended))`. Under torchrun the
    deviation is that of all processes.

    Source: VecNormalize of stable-baselines3, which moves its statistics with every step, not with every rollout.
    """

    def __init__(self, num_envs: int, gamma: float, device: torch.device | str = "cpu") -> None:
        self.gamma = gamma
        self.running = torch.zeros(num_envs, device=device)
        self.norm = RunningNorm(1).to(device)

    def __call__(self, reward: Float[Tensor, "T B"], ended: Bool[Tensor, "T B"]) -> Float[Tensor, "T B"]:
        """Scaled rewards, after these have been counted; the mean is left as it is.

        Args:
            ended: the episode ended with this step, either way.
        """
        returns = torch.empty_like(reward)
        for t in range(len(reward)):
            self.running = self.running * self.gamma + reward[t]
            returns[t] = self.running
            self.running = self.running * ~ended[t]
        self.norm.update(returns[..., None])
        scale = (self.norm.var + 1e-8).rsqrt().to(reward.dtype)
        return (reward * scale).clamp(-REWARD_LIMIT, REWARD_LIMIT)

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs."""
        return {"running": self.running, "norm": self.norm.state_dict()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.running = saved["running"].clone()
        self.norm.load_state_dict(saved["norm"])
