"""The reward of frames for sentences: a two-tower model's score, on the scale of unlabelled frames of train homes.

`FrameReward` (agents/shaping.py) says how scores become a reward; this file prepares it for every sentence that a
simulator offers, once per distinct one.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from agents.senses import SentenceTable, asked_for, head_of
from agents.shaping import Calibration, FrameReward
from core.errors import InputError
from envs.simulator import Simulator
from scene.captions import BASELINE_PROMPTS, goal_prompts
from scene.render import Frame
from vl.embedder import Embedder
from vl.rewards import StepBatch, VLMReward, vlm_rm_reward


def sentence_reward(embedder: Embedder, texts: Sequence[str], alpha: float) -> VLMReward:
    """The reward model of sentences; prompts are captions of the thing asked for, within reach."""
    return VLMReward(
        embedder, [goal_prompts(head_of(asked_for(text))) for text in texts], BASELINE_PROMPTS, alpha=alpha
    )


def score_every_goal(model: VLMReward, embedding: Float[Tensor, "M D"]) -> Float[Tensor, "M G"]:
    """Scores of M frames for each of the model's goals."""
    columns = [
        model.score(StepBatch(embedding=embedding), torch.full((len(embedding),), goal))
        for goal in range(len(model.goal_vectors))
    ]
    return torch.stack(columns, dim=1)


class SentenceReward:
    """The reward of frames for whatever sentences come.

    Args:
        embedder: two towers of one joint space.
        frames: embeddings of unlabelled frames, which set the scale of every sentence's scores.
        alpha: strength of the goal-baseline projection (vl/rewards.py).
        quantile: stopping pays half where a frame scores like this quantile of those frames.
        shaping: its `calibration` is replaced by one row per sentence.
    """

    def __init__(
        self, embedder: Embedder, frames: Float[Tensor, "M D"], alpha: float, quantile: float, shaping: FrameReward
    ) -> None:
        if not 0 <= alpha <= 1:
            raise InputError(f"alpha={alpha} should be between 0 and 1")
        self.embedder, self.frames, self.alpha, self.quantile = embedder, frames, alpha, quantile
        self.shaping = shaping
        self.table = SentenceTable(self._prepare)

    def _prepare(self, texts: list[str]) -> dict[str, Tensor]:
        model = sentence_reward(self.embedder, texts, self.alpha)
        scale = Calibration.fit(score_every_goal(model, self.frames), self.quantile)
        return {
            "goal": model.goal_vectors,
            "direction": model.directions,
            "mean": scale.mean,
            "std": scale.std,
            "threshold": scale.threshold,
        }

    def attach(self, simulator: Simulator) -> None:
        """Prepares the sentences that the simulator's homes offer."""
        self.table.attach(simulator)

    def embed(self, frame: Frame) -> Float[Tensor, "B D"]:
        """Embeddings of frames, where nobody has them yet."""
        return self.embedder.encode_images(frame.rgb)

    def potential(self, embedding: Float[Tensor, "B D"], text: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Standardised scores of frames for their sentences (numbers of Simulator.texts)."""
        row = self.table.rows(text)
        column = self.table.columns
        score = vlm_rm_reward(embedding, column["goal"][row], column["direction"][row], self.alpha)
        return self._shaping(row).potential(score, torch.arange(len(row)))

    def __call__(
        self,
        potential: Float[Tensor, " B"],
        next_potential: Float[Tensor, " B"],
        text: Int64[Tensor, " B"],
        stopped: Bool[Tensor, " B"],
    ) -> Float[Tensor, " B"]:
        """Reward of a step; see FrameReward."""
        row = self.table.rows(text)
        return self._shaping(row)(potential, next_potential, torch.arange(len(row)), stopped)

    def _shaping(self, row: Int64[Tensor, " B"]) -> FrameReward:
        column = self.table.columns
        return replace(
            self.shaping, calibration=Calibration(column["mean"][row], column["std"][row], column["threshold"][row])
        )
