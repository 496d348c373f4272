"""Distributions over actions, from what a policy's action head puts out.

Both draw by noise that is handed in, one row per environment, so that an environment acts the same in whatever batch,
and on whatever process, it is.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass
class Categorical:
    """One of A actions."""

    log_probs: Float[Tensor, "*b A"]

    @staticmethod
    def noise(shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "*b"]:
        """What `sample` needs for a batch of `shape`: uniform numbers in [0, 1)."""
        return torch.rand(shape, generator=generator, device=generator.device)

    def sample(self, noise: Float[Tensor, "*b"]) -> Int64[Tensor, "*b"]:
        """Actions by their probabilities: where the summed probability passes the uniform number."""
        below = self.log_probs.exp().cumsum(-1) <= noise[..., None]
        return below.sum(-1).clamp_(max=self.log_probs.shape[-1] - 1)

    def mode(self) -> Int64[Tensor, "*b"]:
        """The most probable action."""
        return self.log_probs.argmax(-1)

    def log_prob(self, action: Int64[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Log-probability of each action."""
        return self.log_probs.gather(-1, action[..., None]).squeeze(-1)

    def entropy(self) -> Float[Tensor, "*b"]:
        """In nats."""
        return -(self.log_probs.exp() * self.log_probs).sum(-1)


@dataclass
class Gaussian:
    """A vector of independent normal numbers; an environment cuts what it is given to [-1, 1].

    `log_prob` is of the number as drawn, before that cut, as in stable-baselines3.
    """

    mean: Float[Tensor, "*b A"]
    log_std: Float[Tensor, " A"]

    @staticmethod
    def noise(shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "*b A"]:
        """What `sample` needs: standard normal numbers; `shape` ends in A."""
        return torch.randn(shape, generator=generator, device=generator.device)

    def sample(self, noise: Float[Tensor, "*b A"]) -> Float[Tensor, "*b A"]:
        """Mean plus noise times standard deviation."""
        return self.mean + self.log_std.exp() * noise

    def mode(self) -> Float[Tensor, "*b A"]:
        """The mean."""
        return self.mean

    def log_prob(self, action: Float[Tensor, "*b A"]) -> Float[Tensor, "*b"]:
        """Log-density of each action, summed over its numbers."""
        z = (action - self.mean) * (-self.log_std).exp()
        return -0.5 * (z * z).sum(-1) - self.log_std.sum() - 0.5 * math.log(2 * math.pi) * self.mean.shape[-1]

    def entropy(self) -> Float[Tensor, "*b"]:
        """In nats; the same for every row."""
        one = self.log_std.sum() + 0.5 * self.mean.shape[-1] * (1 + math.log(2 * math.pi))
        return one.expand(self.mean.shape[:-1])
