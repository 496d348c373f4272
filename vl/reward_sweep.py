"""Every prompt with every alpha over stored embeddings, without the encoder: two dot products per frame and prompt.

VLM-RM's reward is a blend of two numbers per frame and prompt, whatever alpha (vl/rewards.py vlm_rm_reward):

    r = 1 - 1/2 [ c X + (1 - c) Y ],   c = (1 - alpha)^2,   X = |s - g|^2,   Y = (d . (s - g))^2

so alpha costs nothing: `sweep` writes the blend out block by block, and `sweep_table` gets the mean and the correlation
with the truth for all alphas from the moments of X, Y and the truth alone.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from core.errors import InputError
from vl.embedding_store import EmbeddingStore
from vl.rewards import SAME_TEXT, name_rows

BLOCK = 4096
"""Rows whose scores exist at one time."""


@dataclass
class SweepTable:
    """What each prompt and alpha is worth; all (P, A)."""

    mean: Float[Tensor, "P A"]  # mean score over all rows
    pearson: Float[Tensor, "P A"]  # correlation with the known truths; 0 where a side is constant, NaN below 2 rows
    epic: Float[Tensor, "P A"]  # EPIC distance to the truth, sqrt((1 - pearson) / 2): 0 equal, 0.707 unrelated
    auc: Float[Tensor, "P A"]  # a success scores above a failure; NaN without success labels of both kinds
    rows: int  # that were scored
    known: int  # of these, with a known truth


def sweep(
    embeddings: Float[Tensor, "M D"] | EmbeddingStore,
    goal_vectors: Float[Tensor, "P D"],
    baseline_vector: Float[Tensor, " D"] | None,
    alphas: Sequence[float],
    block: int = BLOCK,
) -> Iterator[Float[Tensor, "P A K"]]:
    """Scores of all rows for every prompt and alpha, `block` rows at a time, in order.

    Memory is P A `block` numbers, whatever M.

    Args:
        embeddings: unit image embeddings, in half precision too; of a store all kept rows, oldest first.
        goal_vectors: one row per prompt, as `VLMReward.goal_vectors`; scores are computed on their device.
        baseline_vector: as `VLMReward.baseline_vector`; None where every alpha is 0.
        alphas: strengths of the projection, each in [0, 1].

    Raises:
        InputError: another width, no prompt or alpha, an alpha outside [0, 1] or without a baseline, a prompt equal to
            the baseline where an alpha is positive, or embeddings that are not finite.
    """
    across = _across(alphas, goal_vectors)
    for squared, along in _terms(embeddings, goal_vectors, baseline_vector, alphas, block):
        blend = across[:, None] * squared[:, None] + (1 - across[:, None]) * along[:, None]
        yield blend.mul_(-0.5).add_(1.0)


def sweep_table(
    embeddings: Float[Tensor, "M D"] | EmbeddingStore,
    goal_vectors: Float[Tensor, "P D"],
    baseline_vector: Float[Tensor, " D"] | None,
    alphas: Sequence[float],
    truth: Float[Tensor, " M"],
    success: Bool[Tensor, " M"] | None = None,
    block: int = BLOCK,
) -> SweepTable:
    """Mean, correlation with the truth and AUC of success of every prompt and alpha, over the same rows.

    Args:
        truth: true progress of each row, NaN where unknown (left out of the correlation).
        success: whether the task is solved in each row. The AUC sorts the rows once for each prompt and alpha; for it
            2 P M numbers are kept, and nothing of that size without it.

    Raises:
        InputError: as `sweep`; or truth and success that do not have one entry per row.

    Source of the EPIC distance of rewards that look at states only: Gleave et al., arXiv:2006.13900.
    """
    rows = len(embeddings)
    for name, column in (("truth", truth), ("success", success)):
        if column is not None and column.shape != (rows,):
            raise InputError(f"{name} has shape {tuple(column.shape)}, expected one entry for each of {rows} rows")
    truth = truth.double().to(goal_vectors.device)
    prompts = len(goal_vectors)
    total = torch.zeros(2, prompts, dtype=torch.float64, device=goal_vectors.device)
    moments = _Moments(prompts, goal_vectors.device)
    kept: list[Tensor] = []
    start = 0
    for squared, along in _terms(embeddings, goal_vectors, baseline_vector, alphas, block):
        part = torch.stack([squared, along])
        total += part.double().sum(-1)
        value = truth[start : start + part.shape[-1]]
        known = ~torch.isnan(value)
        columns = torch.cat([part[:, :, known].double(), value[known].expand(1, prompts, -1)])
        moments.add(columns)
        if success is not None:
            kept.append(part.cpu())
        start += part.shape[-1]

    across = _across(alphas, goal_vectors).double()
    blend = torch.stack([across, 1 - across])  # (2, A): weights of X and Y
    mean = 1 - 0.5 * (total / (rows or math.nan)).T @ blend
    pearson = moments.pearson(-0.5 * blend)
    auc = torch.full_like(pearson, math.nan)
    if success is not None and rows:
        auc = _auc_table(torch.cat(kept, -1).numpy(), success.cpu().numpy(), blend.cpu().float().numpy())
    epic = ((1 - pearson).clamp(min=0) / 2).sqrt()
    return SweepTable(mean.cpu(), pearson.cpu(), epic.cpu(), auc.cpu(), rows, int((~torch.isnan(truth)).sum()))


def auc(score: Float[ndarray, " M"], positive: Bool[ndarray, " M"]) -> float:
    """Probability that a positive scores above a negative, ties counting half; NaN when one side is empty."""
    high, low = np.sort(score[positive]), np.sort(score[~positive])
    if not len(high) or not len(low):
        return math.nan
    wins = np.searchsorted(low, high, "left").sum() + np.searchsorted(low, high, "right").sum()
    return float(wins) / (2 * len(high) * len(low))


class _Moments:
    """Mean and co-moments of three columns per prompt (X, Y, truth), joined over blocks without cancellation.

    Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """

    def __init__(self, prompts: int, device: torch.device) -> None:
        self.count = 0
        self.mean = torch.zeros(prompts, 3, dtype=torch.float64, device=device)
        self.product = torch.zeros(prompts, 3, 3, dtype=torch.float64, device=device)  # sums of centred products

    def add(self, columns: Float[Tensor, "3 P K"]) -> None:
        count = columns.shape[-1]
        if not count:
            return
        mean = columns.mean(-1).T
        centred = columns.transpose(0, 1) - mean[:, :, None]
        step = mean - self.mean
        both = self.count + count
        self.product += centred @ centred.mT
        self.product += step[:, :, None] * step[:, None] * (self.count * count / both)
        self.mean += step * (count / both)
        self.count = both

    def pearson(self, weight: Float[Tensor, "2 A"]) -> Float[Tensor, "P A"]:
        """Correlation of the weighted sum of the first two columns with the third; see SweepTable."""
        if self.count < 2:
            return torch.full((len(self.mean), weight.shape[1]), math.nan, dtype=torch.float64, device=self.mean.device)
        spread = self.product[:, :2, :2] @ weight  # (P, 2, A)
        variance = (weight * spread).sum(1)
        truth = self.product[:, 2, 2, None]
        covariance = self.product[:, 2, :2] @ weight
        scale = (variance.clamp(min=0) * truth).sqrt()
        # deviations of float32 rounding alone, 1e-7 each, are no variation
        constant = (variance <= 1e-14 * self.count) | (truth <= 1e-24 * self.count)
        return torch.where(constant, 0.0, covariance / scale.clamp(min=1e-300)).clamp(-1, 1)


def _terms(
    embeddings: Float[Tensor, "M D"] | EmbeddingStore,
    goal_vectors: Float[Tensor, "P D"],
    baseline_vector: Float[Tensor, " D"] | None,
    alphas: Sequence[float],
    block: int,
) -> Iterator[tuple[Float[Tensor, "P K"], Float[Tensor, "P K"]]]:
    """X and Y of every prompt, a block of rows at a time."""
    goal = goal_vectors.float()
    if goal.ndim != 2 or not len(goal):
        raise InputError(f"goal vectors have shape {tuple(goal.shape)}, expected (P, D) with P >= 1")
    width = embeddings.dim if isinstance(embeddings, EmbeddingStore) else embeddings.shape[-1]
    if width != goal.shape[1]:
        raise InputError(f"embeddings are {width} wide and goal vectors {goal.shape[1]}: were both made by one model?")
    direction = _directions(goal, baseline_vector, alphas)
    both = torch.cat([goal, direction]).T.contiguous()  # (D, 2P)
    length, offset = (goal * goal).sum(-1, keepdim=True), (direction * goal).sum(-1, keepdim=True)
    start = 0
    for part in _blocks(embeddings, block):
        dots = (part.to(goal.device).float() @ both).T
        if not bool(torch.isfinite(dots).all()):
            wrong = ~torch.isfinite(dots).all(0)
            raise InputError(f"embeddings hold NaN or infinite numbers ({name_rows(wrong)}, counted from row {start})")
        yield 1.0 + length - 2.0 * dots[: len(goal)], (dots[len(goal) :] - offset) ** 2
        start += len(part)


def _blocks(embeddings: Float[Tensor, "M D"] | EmbeddingStore, size: int) -> Iterator[Float[Tensor, "K D"]]:
    """At most `size` rows at a time."""
    if isinstance(embeddings, EmbeddingStore):
        for part, _ in embeddings.blocks():
            yield from part.split(size)
    elif len(embeddings):
        yield from embeddings.split(size)


def _directions(
    goal: Float[Tensor, "P D"], baseline: Float[Tensor, " D"] | None, alphas: Sequence[float]
) -> Float[Tensor, "P D"]:
    positive = max(alphas) > 0
    if baseline is None:
        if positive:
            raise InputError(f"alpha={max(alphas)} needs a baseline vector; or sweep alpha 0 alone")
        return torch.zeros_like(goal)
    difference = goal - baseline.to(goal)
    length = difference.norm(dim=-1, keepdim=True)
    if positive and bool((length < SAME_TEXT).any()):
        same = int((length[:, 0] < SAME_TEXT).nonzero()[0, 0])
        raise InputError(f"prompt {same} is the baseline: the direction between them is undefined; leave it out")
    return difference / length.clamp(min=SAME_TEXT)


def _across(alphas: Sequence[float], like: Tensor) -> Float[Tensor, " A"]:
    """c of every alpha."""
    if not len(alphas) or min(alphas) < 0 or max(alphas) > 1:
        raise InputError(f"alphas are {list(alphas)}; expected at least one, each in [0, 1]")
    return (1.0 - torch.tensor(alphas, dtype=torch.float64, device=like.device)).square().float()


def _auc_table(
    terms: Float[ndarray, "2 P M"], success: Bool[ndarray, " M"], blend: Float[ndarray, "2 A"]
) -> Float[Tensor, "P A"]:
    table = [
        [auc(-(weight[0] * squared + weight[1] * along), success) for weight in blend.T]
        for squared, along in zip(*terms)
    ]
    return torch.tensor(table, dtype=torch.float64)
