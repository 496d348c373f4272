"""A reward model that pays nothing where it is unsure whether the goal is reached, and says how often it is right.

Class-conditional (Mondrian) split conformal prediction for two labels, goal reached and not reached (Vovk et al.,
"Algorithmic Learning in a Random World", 2005, section 4.5): each label has a threshold of its own, from labelled
frames of that label. A frame's set holds `reached` if its score is at least that of nearly all reached frames, and
`not reached` if its score is at most that of nearly all others. One label: sure, and the score is paid. Both (the
labels' scores overlap there) or none (between them, where few frames of either were seen): unsure, and 0 is paid.

Promise: a frame of a new home or episode has its true label in its set with probability at least `level`, for either
label by itself, if that group and the calibration's are exchangeable (core/conformal.py). States that a policy seeks
out because they pay are not exchangeable with any that were labelled before: `measure` coverage on labelled frames of
the policy's own.

Scores of different goals live on different scales. So either each goal has an `Abstention` of its own, or one is
fitted on all goals together from scores in units of their own goal's spread over ordinary frames,
(score - mean) / std, and `AbstainingReward` is given the same means and deviations.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from numpy import ndarray
from torch import Tensor

from core.conformal import Groups, group_means, threshold
from core.errors import InputError
from core.files import atomic_write, read_json
from core.intervals import grouped_rate
from vl.rewards import EmbeddingReward, RewardModel, StepBatch

LABELS = ("reached", "not_reached")
Scores = Float[ndarray, " M"] | Float[Tensor, " M"]
Reached = Bool[ndarray, " M"] | Bool[Tensor, " M"]


@dataclass(frozen=True)
class Abstention:
    """Which scores say for sure that the goal is reached, or that it is not."""

    level: float  # stated coverage of either label, in (0, 1)
    reached: float | None  # `reached` is in the set of scores of at least this; None: of every score, too few groups
    not_reached: float | None  # `not reached` is in the set of scores of at most this; None: of every score
    frames: tuple[int, int]  # labelled reached, not reached
    groups: tuple[int, int]  # homes or episodes they came from

    @classmethod
    def fit(cls, scores: Scores, reached: Reached, groups: Groups, level: float) -> "Abstention":
        """From labelled frames that the reward model was not made with.

        Args:
            scores: of one goal, or of several in units of each one's spread (see the head of this file).
            groups: home or episode of each frame; `range(M)` where frames are independent.

        Raises:
            InputError: lengths differ, a score is NaN, one of the labels has no frame, or a level outside (0, 1).
        """
        numbers, labels, names = _labelled(scores, reached, groups)
        if labels.all() or not labels.any():
            raise InputError(
                f"all {len(labels)} labelled frames are {'reached' if labels.all() else 'not reached'}: the other "
                "label has no threshold; label frames of both"
            )
        limit = threshold(numbers[labels], names[labels], level), -threshold(-numbers[~labels], names[~labels], level)
        of = labels, ~labels
        return cls(
            level=level,
            reached=limit[0] if np.isfinite(limit[0]) else None,
            not_reached=limit[1] if np.isfinite(limit[1]) else None,
            frames=(int(of[0].sum()), int(of[1].sum())),
            groups=(len(set(names[of[0]])), len(set(names[of[1]]))),
        )

    def __post_init__(self) -> None:
        limits = [limit for limit in (self.reached, self.not_reached) if limit is not None]
        if not 0 < self.level < 1 or not all(np.isfinite(limits)) or len(self.frames) != 2 or len(self.groups) != 2:
            raise InputError(f"{self} is no abstention: expected a level in (0, 1), finite limits and two counts each")

    def sets(self, scores: Float[Tensor, "*s"]) -> tuple[Bool[Tensor, "*s"], Bool[Tensor, "*s"]]:
        """Whether `reached` and whether `not reached` is in the set of each score; neither for NaN."""
        known = ~torch.isnan(scores)
        reached = known if self.reached is None else scores >= self.reached
        return reached, known if self.not_reached is None else scores <= self.not_reached

    def sure(self, scores: Float[Tensor, "*s"]) -> Bool[Tensor, "*s"]:
        """Whether a score's set is one label; false for NaN."""
        reached, not_reached = self.sets(scores)
        return reached ^ not_reached

    def save(self, path: str | Path) -> Path:
        """Writes a JSON file."""
        return atomic_write(path, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Abstention":
        """Reads what `save` wrote.

        Raises:
            InputError: the file is missing, no JSON, or holds something else.
        """
        content = read_json(Path(path), "abstention")
        names = {field.name for field in fields(cls)}
        if not isinstance(content, dict) or set(content) != names:
            raise InputError(f"{path} is no abstention: expected the entries {', '.join(sorted(names))}; fit it again")
        try:
            counts = {name: tuple(int(count) for count in content[name]) for name in ("frames", "groups")}
            limits = {name: None if content[name] is None else float(content[name]) for name in LABELS}
            return cls(level=float(content["level"]), **limits, **counts)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise InputError(f"{path} is no abstention ({error}); fit it again") from error


@dataclass(frozen=True)
class Share:
    """A share of frames: the mean over groups, as a level promises it."""

    value: float
    interval: tuple[float, float]  # 95 %, over groups
    frames: int
    groups: int


@dataclass(frozen=True)
class Measured:
    """What an abstention does on labelled frames that it was not fitted to."""

    level: float  # stated coverage
    reached: Share | None  # share of reached frames with `reached` in their set; None: there is none
    not_reached: Share | None
    abstained: Share  # of all frames: both labels in the set, or none
    both: float  # share of frames with both labels
    none: float  # share of frames with none


def measure(abstention: Abstention, scores: Scores, reached: Reached, groups: Groups) -> Measured:
    """Coverage of either label beside the stated one, and how often the reward would be withheld.

    Args:
        scores: on the scale that the abstention was fitted to; unanswered (NaN) frames left out.

    Raises:
        InputError: no frame, lengths differ, or a score is NaN.
    """
    numbers, labels, names = _labelled(scores, reached, groups)
    in_set = [part.numpy() for part in abstention.sets(torch.from_numpy(numbers))]
    covered = [_share(inside[of], names[of]) if of.any() else None for inside, of in zip(in_set, (labels, ~labels))]
    both, none = in_set[0] & in_set[1], ~(in_set[0] | in_set[1])
    return Measured(
        level=abstention.level,
        reached=covered[0],
        not_reached=covered[1],
        abstained=_share(both | none, names),
        both=float(group_means(both, names).mean()),
        none=float(group_means(none, names).mean()),
    )


class AbstainingReward:
    """A reward model that pays another's scores where they are sure, and 0 elsewhere; itself a RewardModel.

    Rows that the model could not answer stay NaN and count neither as answered nor as abstained. 0 is neutral only if
    it means "nothing special", as it does of scores in units of their goal's spread; so where `mean` and `std` are
    given, what is paid is the score in these units.

    Attributes:
        answered: rows scored so far.
        abstained: those of them that were paid 0 because the model was unsure.
    """

    def __init__(
        self,
        model: RewardModel,
        abstention: Abstention | Sequence[Abstention],
        mean: Float[Tensor, " G"] | None = None,
        std: Float[Tensor, " G"] | None = None,
    ) -> None:
        """Wraps a model.

        Args:
            abstention: one for all goals, or one for each goal.
            mean, std: of each goal's scores over ordinary frames; give both where the abstention was fitted on
                (score - mean) / std.

        Raises:
            InputError: only one of mean and std, shapes that differ, or a deviation that is not positive.
        """
        self.model = model
        self.abstentions = [abstention] if isinstance(abstention, Abstention) else list(abstention)
        self.per_goal = not isinstance(abstention, Abstention)
        if not self.abstentions:
            raise InputError("an abstaining reward needs an abstention for all goals, or one for each; got none")
        if (mean is None) != (std is None) or (mean is not None and std is not None and mean.shape != std.shape):
            raise InputError("give the mean and the deviation of every goal's scores, or neither")
        if std is not None and not bool((std > 0).all()):
            raise InputError(f"deviations of goals' scores should be positive, the least is {float(std.min())}")
        self.mean, self.std = mean, std
        self.answered = self.abstained = 0

    @property
    def needs(self) -> frozenset[str]:
        return self.model.needs

    @property
    def share(self) -> float:
        """Share of the answered rows that were paid 0; NaN before the first."""
        return self.abstained / self.answered if self.answered else float("nan")

    def score(self, steps: StepBatch, goals: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
        """The model's scores, 0 where unsure, NaN where it had no answer.

        Raises:
            InputError: what the model raises, or a goal without an abstention.
        """
        scores = self.model.score(steps, goals)
        goals = goals.to(scores.device)
        known = len(self.abstentions) if self.per_goal else len(self.mean) if self.mean is not None else None
        if known is not None and len(goals) and not 0 <= int(goals.min()) <= int(goals.max()) < known:
            raise InputError(
                f"goal indices run {int(goals.min())}..{int(goals.max())}, but what it takes to abstain is known of "
                f"{known} goals; give an entry for each goal"
            )
        if self.mean is not None and self.std is not None:
            scores = (scores - self.mean.to(scores)[goals]) / self.std.to(scores)[goals]
        sure = self._sure(scores, goals)
        unsure = ~sure & ~torch.isnan(scores)
        self.answered += int((~torch.isnan(scores)).sum())
        self.abstained += int(unsure.sum())
        return scores.masked_fill(unsure, 0.0)

    def _sure(self, scores: Float[Tensor, " B"], goals: Int64[Tensor, " B"]) -> Bool[Tensor, " B"]:
        if not self.per_goal:
            return self.abstentions[0].sure(scores)
        sure = torch.zeros_like(scores, dtype=torch.bool)
        for goal in goals.unique().tolist():
            sure |= (goals == goal) & self.abstentions[goal].sure(scores)
        return sure


class AbstainingEmbeddingReward(AbstainingReward):
    """The same around an EmbeddingReward, and one itself: callers may store embeddings and score them again."""

    model: EmbeddingReward

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self.model.dim

    def embed(self, frames: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B D"]:
        """Unit embeddings of frames."""
        return self.model.embed(frames)


def abstaining(
    model: RewardModel,
    abstention: Abstention | Sequence[Abstention],
    mean: Float[Tensor, " G"] | None = None,
    std: Float[Tensor, " G"] | None = None,
) -> AbstainingReward:
    """An abstaining reward that embeds frames if `model` does; arguments as of AbstainingReward."""
    kind = AbstainingEmbeddingReward if isinstance(model, EmbeddingReward) else AbstainingReward
    return kind(model, abstention, mean, std)


def _labelled(scores: Scores, reached: Reached, groups: Groups) -> tuple[ndarray, ndarray, ndarray]:
    """Scores as float64, labels, names of groups; checked."""
    numbers, labels = (np.asarray(part.cpu() if isinstance(part, Tensor) else part) for part in (scores, reached))
    numbers, names = numbers.astype(np.float64), np.asarray([str(group) for group in groups])
    if labels.dtype != bool or numbers.ndim != 1 or not len(numbers) == len(labels) == len(names) > 0:
        raise InputError(
            f"labelled frames: scores of shape {numbers.shape}, labels {labels.dtype} of shape {labels.shape}, "
            f"{len(names)} groups; expected one score, one bool and one group per frame, and at least one frame"
        )
    if not np.isfinite(numbers).all():
        raise InputError(
            f"{int((~np.isfinite(numbers)).sum())} of {len(numbers)} scores are NaN or infinite; leave out frames that "
            "the model did not answer, and say how many"
        )
    return numbers, labels, names


def _share(hits: Bool[ndarray, " M"], names: ndarray) -> Share:
    by_group = group_means(hits, names)
    return Share(float(by_group.mean()), grouped_rate(by_group, range(len(by_group))), len(hits), len(by_group))
