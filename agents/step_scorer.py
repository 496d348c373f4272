"""A reward model asked about the steps of B environments: which goals, embeddings kept small, time taken."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from numpy import ndarray
from torch import Tensor

from agents.paid import Payment
from core.errors import InputError
from vl.rewards import RewardModel, StepBatch
from vl.scoring import Stopwatch

Info = Mapping[str, Any]
Goals = int | Sequence[int] | Callable[[Info], int]
"""One goal for all environments, one for each, or what a step's info says: `lambda info: info["goal"]`."""

ASKED_AGAIN = 3
"""Times that a model which has never answered is asked once more about the same steps."""


Watch = Callable[[Any], tuple[Any, Int64[Tensor, " B"]]]
"""For models that read states: from the unwrapped environment to the state its last step led to, and the row's goals.

    watcher = GroundedWatcher(env.sim, grounder)

    def watch(env):
        seen = watcher.look(env.step_frame, env.step_state)
        return seen, seen.text
"""


class StepScorer:
    """Scores steps with one call of the model for all environments.

    Attributes:
        embeds: the model scores from embeddings (`embed`), so those can be kept instead of frames.
        timing: seconds spent in the model.

    Raises:
        InputError: goals that are not one per environment; a model that needs clips.
    """

    def __init__(self, model: RewardModel, num_envs: int, goals: Goals = 0) -> None:
        check_reads_steps(model)
        self.model, self.num_envs = model, num_envs
        self.needs_frames = "frame" in model.needs
        self.embeds = self.needs_frames and callable(getattr(model, "embed", None)) and "state" not in model.needs
        self.timing = Stopwatch()
        self._goal_of = goals if callable(goals) else None
        if self._goal_of is None:
            numbers = [goals] * num_envs if isinstance(goals, int) else [int(goal) for goal in goals]  # type: ignore
            if len(numbers) != num_envs:
                raise InputError(f"{len(numbers)} goals for {num_envs} environments; give one each, or a single one")
            self._goals = torch.tensor(numbers, dtype=torch.int64)
        self._has_answered = False

    def goals(self, infos: Sequence[Info], stepped: Bool[ndarray, " B"] | None = None) -> Int64[Tensor, " B"]:
        """The goal of each environment's step; any number where none was taken.

        Args:
            stepped: environments that took a step, whose infos are asked; None: all.

        Raises:
            InputError: the function of info fails on a step.
        """
        if self._goal_of is None:
            return self._goals
        try:
            asked = [stepped is None or bool(stepped[index]) for index in range(len(infos))]
            numbers = [int(self._goal_of(info)) if ask else 0 for info, ask in zip(infos, asked)]
            return torch.tensor(numbers, dtype=torch.int64)
        except (KeyError, TypeError, IndexError) as error:
            raise InputError(
                f"goals(info) failed with {type(error).__name__}: {error}; "
                f"a step's info has {sorted(map(str, infos[0]))}"
            ) from error

    @torch.no_grad()
    def embed(self, frames: UInt8[ndarray, "B H W 3"] | UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B D"]:
        """Embeddings of frames in half precision, on the CPU."""
        with self.timing:
            return self.model.embed(torch.as_tensor(frames)).half().cpu()  # type: ignore[attr-defined]

    @torch.no_grad()
    def score(self, steps: StepBatch, goals: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Scores on the CPU; NaN where the model gave no answer.

        A model that has never answered is asked a few times: there is nothing yet that could be held instead.

        Raises:
            InputError: scores of another shape, or infinite.
        """
        for _ in range(1 if self._has_answered else 1 + ASKED_AGAIN):
            with self.timing:
                score = torch.as_tensor(self.model.score(steps, goals)).float().cpu()
            if score.shape != goals.shape:
                raise InputError(f"the reward model gave scores of shape {tuple(score.shape)} for {len(goals)} steps")
            if not bool(score.isnan().all()):
                self._has_answered = True
                break
        if bool(score.isinf().any()):
            raise InputError(f"the reward model gave infinite scores for {int(score.isinf().sum())} steps")
        return score

    def score_frames(
        self,
        frames: UInt8[ndarray, "B H W 3"] | UInt8[Tensor, "B H W 3"] | None,
        goals: Int64[Tensor, " B"],
        state: Any = None,
    ) -> Float[Tensor, " B"]:
        """Scores of frames (and the states they show); through half-precision embeddings where there are any."""
        if self.embeds and frames is not None:
            return self.score(StepBatch(embedding=self.embed(frames)), goals)
        return self.score(StepBatch(frame=None if frames is None else torch.as_tensor(frames), state=state), goals)


def check_reads_steps(model: RewardModel) -> None:
    """Raises InputError for a model that cannot score single steps."""
    if "clip" in model.needs:
        raise InputError(
            "this reward model reads clips, and a step has one frame; score recorded episodes with it instead "
            "(sightline score-rewards)"
        )


def check_watched(watch: Watch | None, payment: Payment) -> None:
    """Raises InputError where a model that reads states cannot be served."""
    if watch is None:
        raise InputError(
            "this reward model reads states; give watch=, which makes one of the environment after each step"
        )
    if payment.shaping:
        raise InputError(
            "shaping needs the score of what an episode began with, and states are seen after steps only; "
            "train-agent shapes such rewards"
        )


class FrameQueue:
    """Frames on their way to the model: encoded in batches of a fixed size as they come.

    At most `batch_size` frames wait, and of the others only rows of numbers are kept: half-precision embeddings,
    or scores where the model makes no embeddings.
    """

    def __init__(self, scorer: StepScorer, batch_size: int) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} should be at least 1")
        self.scorer, self.batch_size = scorer, batch_size
        self._frames: list[UInt8[ndarray, "H W 3"]] = []
        self._goals: list[int] = []
        self._rows: list[Tensor] = []

    def put(self, frames: UInt8[ndarray, "B H W 3"], goals: Int64[Tensor, " B"]) -> None:
        """Takes frames in; encodes what fills batches."""
        self._frames.extend(frames)
        self._goals.extend(goals.tolist())
        while len(self._frames) >= self.batch_size:
            self._encode(self.batch_size)

    def take(self) -> Float[Tensor, "N D"] | Float[Tensor, " N"]:
        """The rows of all frames put in since the last call, in their order."""
        if self._frames:
            self._encode(len(self._frames))
        rows, self._rows = torch.cat(self._rows), []
        return rows

    def clear(self) -> None:
        """Forgets what waits."""
        self._frames, self._goals, self._rows = [], [], []

    def _encode(self, count: int) -> None:
        frames = np.stack(self._frames[:count])
        goals = torch.tensor(self._goals[:count])
        self._rows.append(self.scorer.embed(frames) if self.scorer.embeds else self.scorer.score_frames(frames, goals))
        del self._frames[:count], self._goals[:count]
