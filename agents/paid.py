"""What a learner is paid for a reward model's scores, beside the task's own reward.

`Payment` says how (pure); an `Account` keeps what that needs from step to step for B environments: the score each
episode stands at, scores held where the model gave no answer, and the returns of both rewards.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agents.shaping import shaped_progress
from core.errors import InputError


@dataclass(frozen=True)
class Payment:
    """How scores become a reward.

    With m = scale * score + offset, a step is paid

        m + task_weight * task reward                                  or, with shaping,
        gamma * m' - m + task_weight * task reward,    m' = 0 where the task ended (agents/shaping.py)

    A score of 0, as a model gives it where it abstains, is paid like any other score.
    """

    scale: float = 1.0
    offset: float = 0.0
    task_weight: float = 0.0  # of the task's own reward; 0 leaves it out
    shaping: bool = False  # pay the score's change: with task_weight=1 the best policy stays the task's own
    gamma: float = 0.99  # the learner's discount; only shaping reads it
    patience: int = 50  # unanswered scores in a row, in one environment, until the run stops

    def __post_init__(self) -> None:
        for name in ("scale", "offset", "task_weight"):
            if not abs(getattr(self, name)) < float("inf"):
                raise InputError(f"{name}={getattr(self, name)} should be a finite number")
        if not 0.0 <= self.gamma <= 1.0:
            raise InputError(f"gamma={self.gamma} should be the learner's discount, in [0, 1]")
        if self.patience < 1:
            raise InputError(f"patience={self.patience} should be at least 1")

    def worth(self, score: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """scale * score + offset."""
        return score if (self.scale, self.offset) == (1.0, 0.0) else self.scale * score + self.offset

    def __call__(
        self,
        score: Float[Tensor, "*s"],
        previous: Float[Tensor, "*s"],
        task_reward: Float[Tensor, "*s"],
        terminated: Bool[Tensor, "*s"],
    ) -> Float[Tensor, "*s"]:
        """The reward of steps.

        Args:
            score: of what the step led to.
            previous: of what the action was taken in; only shaping reads it.
            terminated: the task ended here; a time limit, where the learner bootstraps, does not count.
        """
        paid = self.worth(score)
        if self.shaping:
            paid = shaped_progress(self.worth(previous), paid, terminated, gamma=self.gamma)
        return paid + self.task_weight * task_reward if self.task_weight else paid


class Account:
    """Pays B environments step by step.

    A score that is NaN was not answered. It is never paid as 0: the last answered score of the episode is held, and
    before an episode's first answer the mean of all scores answered so far.

    Attributes:
        previous: (B,) score of what the next action is taken in; NaN at an episode's start.
        returns: (2, B) of the model (shaping left out) and of the task, in the episodes under way.
        sums: (2, B) the same after the last step, with the episodes that ended in it.
        answered, unanswered: scores so far.
    """

    def __init__(self, payment: Payment, num_envs: int, device: torch.device | str = "cpu") -> None:
        self.payment, self.num_envs = payment, num_envs
        self.previous = torch.full((num_envs,), float("nan"), device=device)
        self.returns = torch.zeros(2, num_envs, device=device)
        self.sums = self.returns.clone()
        self.answered, self.unanswered, self.total = 0, 0, 0.0
        self.in_a_row = torch.zeros(num_envs, dtype=torch.int64, device=device)  # unanswered
        self._ended, self._ended_sums = 0, [0.0, 0.0]

    def begin(self, rows: list[int]) -> None:
        """Episodes begin in these environments; what was under way there is forgotten."""
        if rows:
            self.returns, self.previous = self.returns.clone(), self.previous.clone()  # handed out before
            self.previous[rows] = float("nan")
            self.returns[:, rows] = 0.0

    def pay(
        self,
        score: Float[Tensor, " B"],
        task_reward: Float[Tensor, " B"],
        terminated: Bool[Tensor, " B"],
        done: Bool[Tensor, " B"],
        *,
        begun: list[int] | None = None,
        first: Float[Tensor, " K"] | None = None,
        stepped: Bool[Tensor, " B"] | None = None,
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """One step of every environment.

        Args:
            score: of what the step led to, NaN where unanswered.
            done: the episode ended here, by the task or by time.
            begun: environments whose episode began with this step.
            first: scores of the frames that those episodes began with; only shaping reads them.
            stepped: environments that took a step; the others are paid 0. None: all.

        Returns:
            What is paid, and the scores with held ones filled in.

        Raises:
            InputError: a model that never answered; shaping without the score of what an episode began with.
        """
        if begun:
            self.begin(begun)
            if first is not None:
                self.previous[begun] = self._filled(first, self.previous[begun])
        previous = self.previous
        self._count(score.isnan(), stepped)
        if stepped is None:
            filled = self._filled(score, previous)
        else:
            filled = previous.clone()
            filled[stepped] = self._filled(score[stepped], previous[stepped])
        if self.payment.shaping and bool((previous if stepped is None else previous[stepped]).isnan().any()):
            raise InputError(
                "shaping pays the change of the score, and the frame an episode began with is missing: put StepFrame "
                "around each environment, inside the vector environment"
            )
        paid = self.payment(filled, previous, task_reward, terminated)
        worth = self.payment.worth(filled)
        if stepped is not None:
            paid, worth = paid.masked_fill(~stepped, 0.0), worth.masked_fill(~stepped, 0.0)
        self.returns = self.sums = self.returns + torch.stack([worth, task_reward])
        self.previous = filled
        if bool(done.any()):
            self._ended += int(done.sum())
            for row in (0, 1):
                self._ended_sums[row] += float(self.sums[row, done].double().sum())
            self.begin(done.nonzero()[:, 0].tolist())
        return paid, filled

    def _count(self, missing: Bool[Tensor, " B"], stepped: Bool[Tensor, " B"] | None) -> None:
        """Keeps score of answers missing in a row."""
        if stepped is not None:
            missing = missing & stepped
        if not bool(missing.any()):
            self.in_a_row[slice(None) if stepped is None else stepped] = 0
            return
        kept = torch.zeros_like(self.in_a_row) if stepped is None else self.in_a_row.masked_fill(stepped, 0)
        self.in_a_row = torch.where(missing, self.in_a_row + 1, kept)

    def check(self) -> None:
        """Raises InputError when patience has ended. Call it when what was paid is written down."""
        longest = int(self.in_a_row.max())
        if longest >= self.payment.patience:
            raise InputError(
                f"the reward model left {longest} steps in a row of one environment unanswered ({self.unanswered} of "
                f"{self.answered + self.unanswered} in all). They were paid by held scores and what was learned is "
                "kept: mend the model and go on, or raise Payment.patience"
            )

    def _filled(self, score: Float[Tensor, " K"], held: Float[Tensor, " K"]) -> Float[Tensor, " K"]:
        """The scores, with held ones in the place of NaN, and the mean of all answers where none is held."""
        total = float(score.double().sum())
        if total == total:  # no NaN in it
            self.answered, self.total = self.answered + len(score), self.total + total
            return score
        missing = score.isnan()
        lost = int(missing.sum())
        self.unanswered += lost
        self.answered += len(score) - lost
        self.total += float(score.double().nansum())
        if not self.answered:
            raise InputError("the reward model has not answered once, so nothing can be held in an answer's place")
        return torch.where(missing, torch.where(held.isnan(), self.total / self.answered, held), score)

    def flush(self) -> dict[str, float]:
        """Mean returns of the episodes ended since the last call, and their number; model returns leave shaping out."""
        ended, (model, task) = self._ended, self._ended_sums
        self._ended, self._ended_sums = 0, [0.0, 0.0]
        if not ended:
            return {"episodes": 0.0}
        return {"episodes": float(ended), "model_return": model / ended, "task_return": task / ended}

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs."""
        return {
            "previous": self.previous.clone(),
            "in_a_row": self.in_a_row.clone(),
            "returns": self.returns.clone(),
            "answered": self.answered,
            "unanswered": self.unanswered,
            "total": self.total,
            "ended": self._ended,
            "ended_sums": list(self._ended_sums),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            InputError: it is of another number of environments.
        """
        if len(saved["previous"]) != self.num_envs:
            raise InputError(f"the state is of {len(saved['previous'])} environments, there are {self.num_envs}")
        device = self.previous.device
        self.previous, self.in_a_row = saved["previous"].to(device).clone(), saved["in_a_row"].to(device).clone()
        self.returns = saved["returns"].to(device).clone()
        self.answered, self.unanswered, self.total = saved["answered"], saved["unanswered"], saved["total"]
        self._ended, self._ended_sums = saved["ended"], list(saved["ended_sums"])
