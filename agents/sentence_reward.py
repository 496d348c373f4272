"""The reward of frames for sentences: any embedder's score, on the scale of unlabelled frames of train homes.

`FrameReward` (agents/shaping.py) says how scores become a reward; this file prepares it for every sentence that a
simulator offers, once per distinct one.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from agents.senses import Note, SentenceTable, Sight, asked_for, head_of
from agents.shaping import Calibration, FrameReward
from core.errors import InputError
from envs.simulator import Simulator
from envs.state import SimState
from scene.captions import BASELINE_PROMPTS, goal_prompts
from scene.render import Frame
from vl.embedder import Embedder
from vl.rewards import StepBatch, VLMReward, vlm_rm_reward


def sentence_reward(embedder: Embedder, texts: Sequence[str], alpha: float) -> VLMReward:
    """The reward model of sentences; prompts are captions of the thing asked for, within reach.

    With alpha 0 there is no baseline prompt at all.
    """
    goals = [goal_prompts(head_of(asked_for(text))) for text in texts]
    return VLMReward(embedder, goals, BASELINE_PROMPTS if alpha > 0 else (), alpha=alpha)


def score_every_goal(model: VLMReward, embedding: Float[Tensor, "M D"]) -> Float[Tensor, "M G"]:
    """Scores of M frames for each of the model's goals."""
    columns = [
        model.score(StepBatch(embedding=embedding), torch.full((len(embedding),), goal))
        for goal in range(len(model.goal_vectors))
    ]
    return torch.stack(columns, dim=1)


def unlabelled_frames(simulator: Simulator, frames: int, seed: int) -> UInt8[Tensor, "M H W 3"]:
    """What agents see at the starts of M episodes; no labels, no goals."""
    other = Simulator(
        simulator.homes, simulator.task, num_envs=frames, seed=seed, sensors=simulator.sensors, fields=simulator.fields
    )
    return other.observe(other.reset()).rgb


class SentenceReward:
    """The reward of frames for whatever sentences come.

    Args:
        embedder: two towers of one joint space.
        frames: unlabelled frames, or their embeddings, which set the scale of every sentence's scores.
        alpha: strength of the goal-baseline projection (vl/rewards.py).
        quantile: stopping pays half where a frame scores like this quantile of those frames.
        shaping: its `calibration` is replaced by one row per sentence.
        shared: the senses look through this very embedder, and their image embeddings are taken.
        half: the image tower runs in bfloat16.

    Raises:
        InputError: alpha outside [0, 1].
    """

    def __init__(
        self,
        embedder: Embedder,
        frames: UInt8[Tensor, "M H W 3"] | Float[Tensor, "M D"],
        alpha: float,
        quantile: float,
        shaping: FrameReward,
        *,
        shared: bool = False,
        half: bool = False,
    ) -> None:
        if not 0 <= alpha <= 1:
            raise InputError(f"alpha={alpha} should be between 0 and 1")
        self.embedder, self.alpha, self.quantile = embedder, alpha, quantile
        self.shaping, self.shared, self.half = shaping, shared, half
        self.frames = self.embed(frames) if frames.ndim == 4 else frames
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

    def begin(self, state: SimState) -> Note:
        """A frame is scored for itself: nothing is remembered."""
        return {}

    def carried(self, note: Note) -> Note:
        """Nothing is remembered."""
        return {}

    def embed(self, pictures: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B D"]:
        """Unit embeddings of pictures."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            return self.embedder.encode_images(pictures)

    def potential(self, frame: Frame, state: SimState, sight: Sight, note: Note) -> tuple[Float[Tensor, " B"], Note]:
        """Standardised scores of frames for their sentences."""
        row, column = self.table.rows(state.text), self.table.columns
        embedding = sight.embedding if self.shared else self.embed(frame.rgb)
        assert embedding is not None, "senses that share an embedder hand on what it gave"
        score = vlm_rm_reward(embedding, column["goal"][row], column["direction"][row], self.alpha)
        if not bool(torch.isfinite(score).all()):
            raise InputError(
                f"{int((~torch.isfinite(score)).sum())} of {len(score)} frames have scores that are no numbers; look "
                "at the embedder's weights"
            )
        return self._shaping(row).potential(score, torch.arange(len(row))), note

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
