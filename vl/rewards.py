"""Vision-language models as reward models.

`VLMReward` is VLM-RM (Rocamonde et al., "Vision-Language Models are Zero-Shot Reward Models", arXiv:2310.12921): how
well the frame fits the goal sentence, after removing part of what lies off the line from a baseline sentence to it.
It differs from the released code in form (two dot products instead of a D x D projection), in scoring many goals in
one batch, and in taking frames from the step itself.

A score is a number or NaN. NaN says that the model could not answer for this row (a generative model whose reply was
nonsense or late): callers hold or leave such a row out, and never take it for 0. Every other fault is an InputError,
and a dual encoder always answers: `VLMReward` gives no NaN and refuses embeddings that hold one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from core.errors import InputError
from vl.embedder import Embedder
from vl.pixels import checked_images

SAME_TEXT = 1e-4
"""Goal and baseline closer than this count as the same text: their distance is rounding, its direction is noise."""


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


@runtime_checkable
class RewardModel(Protocol):
    """Scores steps against prepared goals."""

    @property
    def needs(self) -> frozenset[str]:
        """The fields of StepBatch it reads: a subset of {"frame", "clip", "state"}."""
        ...

    def score(self, steps: StepBatch, goals: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
        """One reward per step; `goals` indexes the goals the model was prepared with, one per row.

        NaN where the model gave no answer for a row; all other faults are an InputError.
        """
        ...


@runtime_checkable
class EmbeddingReward(RewardModel, Protocol):
    """A reward model that reads a frame through an embedding: whoever has `StepBatch.embedding` saves the encoder."""

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        ...

    def embed(self, frames: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B D"]:
        """Unit embeddings of frames, to be stored instead of the frames and scored as often as needed."""
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
    """VLM-RM for a set of goals; each goal's text is embedded once, here. An `EmbeddingReward`.

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
            InputError: alpha outside [0, 1], a goal without prompts, a prompt that is empty or longer than the text
                tower reads, or (alpha > 0) no baseline or a goal equal to it.
        """
        _check_alpha(alpha, bool(baseline))
        if not goals:
            raise InputError("a reward model needs at least one goal")
        if isinstance(goals, str):
            raise InputError(f"goals should be a list of lists of prompts, got the single text {goals!r}")
        for index, prompts in enumerate(goals):
            if isinstance(prompts, str) or not prompts:
                raise InputError(f"goal {index} should be a non-empty list of prompts, got {prompts!r}")
            _check_prompts(f"goal {index}", prompts)
        if isinstance(baseline, str):
            raise InputError(f"baseline should be a list of prompts, got the single text {baseline!r}")
        _check_prompts("the baseline", baseline)

        texts = sorted({prompt for prompts in (*goals, baseline) for prompt in prompts})
        row = {text: index for index, text in enumerate(texts)}
        vectors = embedder.encode_texts(texts).float()
        if vectors.shape[-1] != embedder.dim:
            raise InputError(f"text embeddings have {vectors.shape[-1]} numbers, the embedder says {embedder.dim}")
        goal_vectors = torch.stack([vectors[[row[p] for p in prompts]].mean(0) for prompts in goals])
        baseline_vector = vectors[[row[p] for p in baseline]].mean(0) if baseline else None
        unknown = ", perhaps because the text tower was not trained on the words that differ"
        said = [
            f"{list(prompts)} has the embedding of the baseline {list(baseline)}"
            + (unknown if set(prompts) != set(baseline) else "")
            for prompts in goals
        ]
        self._prepare(embedder, goal_vectors, baseline_vector, alpha, said)

    @classmethod
    def from_vectors(
        cls,
        embedder: Embedder,
        goal_vectors: Float[Tensor, "G D"],
        baseline_vector: Float[Tensor, " D"] | None = None,
        alpha: float = 0.0,
    ) -> "VLMReward":
        """The reward of goals that are vectors already: means of prompts, or tuned ones (vl/goal_tuning.py).

        Raises:
            InputError: as for texts; also vectors of another width than the embedder's, or not finite.
        """
        _check_alpha(alpha, baseline_vector is not None)
        width = embedder.dim
        if goal_vectors.ndim != 2 or not len(goal_vectors) or goal_vectors.shape[1] != width:
            raise InputError(f"goal vectors have shape {tuple(goal_vectors.shape)}, expected (G, {width}) with G >= 1")
        goal_vectors = goal_vectors.detach().float()
        if baseline_vector is not None:
            if baseline_vector.shape != (width,):
                raise InputError(f"the baseline vector has shape {tuple(baseline_vector.shape)}, expected ({width},)")
            baseline_vector = baseline_vector.detach().to(goal_vectors)
        model = cls.__new__(cls)
        said = ["is the baseline vector"] * len(goal_vectors)
        model._prepare(embedder, goal_vectors, baseline_vector, alpha, said)
        return model

    def _prepare(
        self,
        embedder: Embedder,
        goal_vectors: Float[Tensor, "G D"],
        baseline_vector: Float[Tensor, " D"] | None,
        alpha: float,
        said: Sequence[str],
    ) -> None:
        """Directions from baseline to goals; `said` says for each goal what is wrong where they coincide."""
        self.embedder, self.alpha, self.goal_vectors = embedder, alpha, goal_vectors
        baseline = torch.zeros_like(goal_vectors[0]) if baseline_vector is None else baseline_vector
        if not bool(torch.isfinite(goal_vectors).all() & torch.isfinite(baseline).all()):
            raise InputError("goal or baseline vectors hold NaN or infinite numbers; are the text tower's weights?")
        self.baseline_vector = baseline
        self.directions = torch.zeros_like(goal_vectors)
        if baseline_vector is None:
            return
        difference = goal_vectors - baseline
        length = difference.norm(dim=-1, keepdim=True)
        if alpha > 0 and bool((length < SAME_TEXT).any()):
            same = int((length[:, 0] < SAME_TEXT).nonzero()[0, 0])
            raise InputError(
                f"goal {same} {said[same]}: the direction between them is undefined; change one of the two or use "
                "alpha=0"
            )
        self.directions = difference / length.clamp(min=SAME_TEXT)

    @property
    def dim(self) -> int:
        """Width of the joint space."""
        return self.embedder.dim

    def embed(self, frames: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B D"]:
        """Unit image embeddings, for callers that also use them elsewhere; pass them as `StepBatch.embedding`.

        Frames of any height and width are resized to the tower's square, the aspect squashed as in VLM-RM.

        Raises:
            InputError: not uint8 of shape (B, H, W, 3).
        """
        return self.embedder.encode_images(checked_images(frames))

    def score(self, steps: StepBatch, goals: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Rewards of steps, one goal per row; at most 1, reached where the image lies on the goal.

        Uses `steps.embedding` when it is there, else encodes `steps.frame`. On CUDA the host waits once, at the end.

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
        count = len(self.goal_vectors)
        known = (goals >= 0) & (goals < count)
        row = goals.clamp(0, count - 1)  # an index out of range would end a CUDA process before it could be reported
        reward = vlm_rm_reward(image, self.goal_vectors[row], self.directions[row], self.alpha)
        finite = torch.isfinite(reward)
        if not bool((known & finite).all()):
            if not bool(known.all()):
                raise InputError(f"goal indices run {int(goals.min())}..{int(goals.max())}, expected 0..{count - 1}")
            raise InputError(
                f"{int((~finite).sum())} of {len(reward)} image embeddings hold NaN or infinite numbers "
                f"({name_rows(~finite)}); look at these frames and at the image tower's weights"
            )
        return reward


def name_rows(wrong: Bool[Tensor, " B"]) -> str:
    """The first few rows where `wrong` is true, for errors: "rows 3, 17, 20 and 5 more"."""
    rows = wrong.nonzero()[:, 0].tolist()
    shown = ", ".join(str(row) for row in rows[:5])
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"


def _check_alpha(alpha: float, has_baseline: bool) -> None:
    if not 0.0 <= alpha <= 1.0:
        raise InputError(f"alpha={alpha} should be in [0, 1] (0 = similarity to the goal, 1 = direction only)")
    if alpha > 0 and not has_baseline:
        raise InputError(f"alpha={alpha} needs baseline prompts (a sentence without the goal); or use alpha=0")


def _check_prompts(whose: str, prompts: Sequence[str]) -> None:
    for prompt in prompts:
        if not isinstance(prompt, str) or not prompt.strip():
            raise InputError(f"{whose} has the prompt {prompt!r}; a prompt is a sentence of at least one word")
