"""Vision-language models as reward models.

`VLMReward` is VLM-RM (Rocamonde et al., "Vision-Language Models are Zero-Shot Reward Models", arXiv:2310.12921): how
well the frame fits the goal sentence, after removing part of what lies off the line from a baseline sentence to it.
It differs from the released code in form (two dot products instead of a D x D projection), in scoring many goals in
one batch, and in taking frames from the step itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from core.errors import InputError
from vl.embedder import Embedder


@dataclass
class StepBatch:
    """What reward models may look at, one row per step. A field is None where nobody asked for it (see `needs`)."""

    frame: UInt8[Tensor, "B H W 3"] | None = None  # image of the step itself, before any auto-reset
    embedding: Float[Tensor, "B D"] | None = None  # unit image embedding of that frame, when the caller has it already
    clip: UInt8[Tensor, "B T H W 3"] | None = None  # the last T frames, oldest first
    state: Any = None  # simulator state, for rewards that read the scene

    def __len__(self) -> int:
        for part in (self.embedding, self.frame, self.clip, self.state):
            if part is not None:
                return len(part)
        return 0


class RewardModel(Protocol):
    """Scores steps against prepared goals."""

    @property
    def needs(self) -> frozenset[str]:
        """The fields of StepBatch it reads: a subset of {"frame", "clip", "state"}."""
        ...

    def score(self, steps: StepBatch, goals: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
        """One reward per step; `goals` indexes the goals the model was prepared with, one per row."""
        ...


def vlm_rm_reward(
    image: Float[Tensor, "B D"],
    goal: Float[Tensor, "B D"],
    direction: Float[Tensor, "B D"],
    alpha: float,
) -> Float[Tensor, " B"]:
    """Goal-baseline regularised similarity, without the D x D projection matrix.

        r = 1 - 1/2 [ (1 - a)^2 |s - g|^2 + (1 - (1 - a)^2) (d . (s - g))^2 ],   |s - g|^2 = 1 + |g|^2 - 2 s.g

    which equals 1 - 1/2 |P (s - g)|^2 with P = a d d^T + (1 - a) I: along d nothing is scaled, across it 1 - a.

    Args:
        image: s, unit length (a stored half-precision embedding is fine).
        goal: g, mean of unit text embeddings, not normalised again.
        direction: d, unit vector from baseline to goal; anything finite when alpha is 0.
        alpha: a in [0, 1]; 0 with a single prompt is the cosine, 1 keeps only the direction's coordinate.

    Source: arXiv:2310.12921, section 3.2 (equations 2 and 3) and the released reward_model.py.
    """
    image = image.to(goal.dtype)
    across = (1.0 - alpha) ** 2
    squared = 1.0 + (goal * goal).sum(-1) - 2.0 * (image * goal).sum(-1)
    along = (direction * image).sum(-1) - (direction * goal).sum(-1)
    return 1.0 - 0.5 * (across * squared + (1.0 - across) * along * along)


class VLMReward:
    """VLM-RM for a set of goals; each goal's text is embedded once, here.

    Attributes:
        goal_vectors: (G, D) mean of the unit embeddings of each goal's prompts.
        baseline_vector: (D,) the same for the baseline prompts; zeros when there are none.
        directions: (G, D) unit vectors from baseline to goal; zeros when alpha is 0 and there is no baseline.
    """

    needs: frozenset[str] = frozenset({"frame"})

    def __init__(
        self, embedder: Embedder, goals: Sequence[Sequence[str]], baseline: Sequence[str] = (), alpha: float = 0.5
    ) -> None:
        """Prepares the text side.

        Args:
            embedder: two towers of one joint space.
            goals: the prompts of each goal, at least one per goal.
            baseline: prompts for "nothing special"; may be empty when alpha is 0.
            alpha: strength of the projection, in [0, 1].

        Raises:
            InputError: alpha outside [0, 1], a goal without prompts, or (alpha > 0) no baseline or a goal equal to it.
        """
        if not 0.0 <= alpha <= 1.0:
            raise InputError(f"alpha={alpha} should be in [0, 1] (0 = similarity to the goal, 1 = direction only)")
        if not goals:
            raise InputError("a reward model needs at least one goal")
        for index, prompts in enumerate(goals):
            if isinstance(prompts, str) or not prompts:
                raise InputError(f"goal {index} should be a non-empty list of prompts, got {prompts!r}")
        if isinstance(baseline, str):
            raise InputError(f"baseline should be a list of prompts, got the single text {baseline!r}")
        if alpha > 0 and not baseline:
            raise InputError(f"alpha={alpha} needs baseline prompts (a sentence without the goal); or use alpha=0")
        self.embedder = embedder
        self.alpha = alpha

        texts = sorted({prompt for prompts in (*goals, baseline) for prompt in prompts})
        row = {text: index for index, text in enumerate(texts)}
        vectors = embedder.encode_texts(texts).float()
        if vectors.shape[-1] != embedder.dim:
            raise InputError(f"text embeddings have {vectors.shape[-1]} numbers, the embedder says {embedder.dim}")
        self.goal_vectors = torch.stack([vectors[[row[p] for p in prompts]].mean(0) for prompts in goals])
        if baseline:
            self.baseline_vector = vectors[[row[p] for p in baseline]].mean(0)
            difference = self.goal_vectors - self.baseline_vector
            length = difference.norm(dim=-1, keepdim=True)
            if alpha > 0 and bool((length < 1e-6).any()):
                same = int((length[:, 0] < 1e-6).nonzero()[0, 0])
                raise InputError(
                    f"goal {same} {list(goals[same])} has the embedding of the baseline {list(baseline)}: the "
                    "direction between them is undefined; change one of the two or use alpha=0"
                )
            self.directions = difference / length.clamp(min=1e-6)
        else:
            self.baseline_vector = torch.zeros_like(vectors[0])
            self.directions = torch.zeros_like(self.goal_vectors)

    @property
    def dim(self) -> int:
        """Width of the joint space."""
        return self.embedder.dim

    def embed(self, frames: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B D"]:
        """Unit image embeddings, for callers that also use them elsewhere; pass them as `StepBatch.embedding`."""
        return self.embedder.encode_images(frames)

    def score(self, steps: StepBatch, goals: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Rewards of steps, one goal per row; at most 1, reached where the image lies on the goal.

        Uses `steps.embedding` when it is there, else encodes `steps.frame`.

        Raises:
            InputError: neither is there, widths or row counts differ, an embedding is not finite, or a goal index is
                out of range. A frame that cannot be scored never counts as 0.
        """
        if steps.embedding is not None:
            image = steps.embedding
        elif steps.frame is not None:
            image = self.embed(steps.frame)
        else:
            raise InputError("a VLM reward needs steps.frame or steps.embedding, both are None: does the task render?")
        image = image.to(self.goal_vectors.device)
        if image.ndim != 2 or image.shape[1] != self.dim:
            raise InputError(
                f"image embeddings have shape {tuple(image.shape)}, expected (B, {self.dim}): were they made by "
                "another model?"
            )
        if goals.shape != image.shape[:1]:
            raise InputError(f"{image.shape[0]} steps but goals of shape {tuple(goals.shape)}; give one goal per step")
        goals = goals.to(image.device)
        if len(goals) and not 0 <= int(goals.min()) <= int(goals.max()) < len(self.goal_vectors):
            raise InputError(
                f"goal indices run {int(goals.min())}..{int(goals.max())}, expected 0..{len(self.goal_vectors) - 1}"
            )
        reward = vlm_rm_reward(image, self.goal_vectors[goals], self.directions[goals], self.alpha)
        if not bool(torch.isfinite(reward).all()):
            bad = int((~torch.isfinite(reward)).sum())
            raise InputError(
                f"{bad} of {len(reward)} image embeddings hold NaN or infinite numbers; look at the frames"
            )
        return reward
