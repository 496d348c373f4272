"""Critics of outcomes, and the best segments by them: DigiRL's pair as VSC-RL's code has it.

Both critics are classifiers of 1[return > 0], trained by cross-entropy on what came of it; no temporal difference. The
step critic judges a state on the way (two heads, the lesser chance counts), the instruction critic a segment by what
its agent saw and was told at its beginning. Both read features and pass their gradient on: what encodes pictures and
words, frozen (VSC-RL's step critic) or learning (its instruction critic), is the caller's.

Source: DigiRL, arXiv:2406.11896; vscrl/models/critic.py and vscrl/algorithms/vscrl/trainer.py of VSC-RL,
arXiv:2502.07949.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from core import distributed
from core.errors import InputError


class StepCritic(nn.Module):
    """Chance that the subgoal under way will be done, from features of the step: two heads of three layers."""

    def __init__(self, size: int, width: int = 128) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
            for _ in range(2)
        )

    def forward(self, features: Float[Tensor, "*b D"]) -> Float[Tensor, "*b K 2"]:
        """Logits of (not done, done) by each of the K = 2 heads."""
        return torch.stack([head(features) for head in self.heads], -2)


class InstructionCritic(nn.Module):
    """Chance that a segment will end well, from features of its first step: one linear layer."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.head = nn.Linear(size, 2)

    def forward(self, features: Float[Tensor, "*b D"]) -> Float[Tensor, "*b K 2"]:
        """Logits of (not done, done), K = 1."""
        return self.head(features)[..., None, :]


def chance(logits: Float[Tensor, "*b K 2"]) -> Float[Tensor, "*b"]:
    """Probability of success, the least that any head gives."""
    return logits.softmax(-1)[..., 1].amin(-1)


def outcome_loss(logits: Float[Tensor, "*b K 2"], returns: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Cross-entropy on 1[return > 0] of each item, summed over the heads.

    The code of VSC-RL adds that of the state a step led to, with the return of the step.

    Raises:
        ValueError: shapes that do not go together.
    """
    if logits.shape[:-2] != returns.shape or logits.shape[-1] != 2:
        raise ValueError(f"logits {tuple(logits.shape)} should be (*b, K, 2) of returns (*b), {tuple(returns.shape)}")
    wanted = (returns > 0).long()[..., None].expand(logits.shape[:-1])
    return F.cross_entropy(logits.reshape(-1, 2), wanted.reshape(-1), reduction="none").view(wanted.shape).sum(-1)


def top_share(score: Float[Tensor, " S"], known: Bool[Tensor, " S"], share: float) -> Bool[Tensor, " S"]:
    """The segments of the best scores.

    The bar is the quantile 1 - share of what is known, over all processes, between two scores by linear interpolation;
    who is at the bar passes, so ties can make more than `share`. With a score of two values, as success alone is, that
    is a trap: where fewer than `share` succeed, the bar falls to the failures' score and everyone passes.

    Args:
        score: e.g. success less its chance at the segment's beginning.
        known: segments whose score means something (`whole` of `Segments`, where the beginning counts); the others
            neither set the bar nor pass.
        share: in (0, 1]; 1 keeps all that are known.

    Raises:
        InputError: a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise InputError(f"share={share} of the segments should lie in (0, 1]; 1 keeps them all")
    everyone = _of_all_processes(score[known].detach())
    if not len(everyone):
        return torch.zeros_like(known)
    return known & (score >= torch.quantile(everyone, 1 - share))


def _of_all_processes(score: Float[Tensor, " S"]) -> Float[Tensor, " R"]:
    """The scores of all processes, each of which may hold another number of them."""
    sizes = torch.zeros(distributed.world_size(), dtype=torch.int64, device=score.device)
    sizes[distributed.rank()] = len(score)
    sizes = distributed.sum_over_ranks(sizes)
    most = int(sizes.max())
    rows = distributed.gather_rows(F.pad(score, (0, most - len(score))))
    return rows.view(len(sizes), most)[torch.arange(most, device=score.device) < sizes[:, None]]
