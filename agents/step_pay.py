"""One step of B environments: scored by one call of the model, and paid. What all step-by-step plugs share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agents.paid import Account, Payment
from agents.step_frames import StepFrames, step_frames
from agents.step_scorer import Goals, StepScorer, Watch, check_watched
from vl.rewards import RewardModel


class StepPay:
    """Scores a step of B environments and pays it.

    Args:
        reward_model, goals, payment, watch: as for VectorRewardWrapper (agents/reward_wrappers.py).

    Attributes:
        scorer: the model and the seconds spent in it.
        account: what was paid so far.
    """

    def __init__(
        self,
        reward_model: RewardModel,
        num_envs: int,
        goals: Goals = 0,
        payment: Payment | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.payment, self.watch = payment or Payment(), watch
        self.reads_states = "state" in reward_model.needs
        if self.reads_states:
            check_watched(watch, self.payment)
        self.scorer = StepScorer(reward_model, num_envs, goals)
        self.account = Account(self.payment, num_envs)

    def __call__(
        self,
        env: Any,
        infos: Sequence[Mapping[str, Any]],
        task_reward: Float[Tensor, " B"],
        terminated: Bool[Tensor, " B"],
        done: Bool[Tensor, " B"],
        *,
        stepped: Bool[Tensor, " B"] | None = None,
        seen: StepFrames | None = None,
    ) -> dict[str, Float[Tensor, " B"]]:
        """What a step is paid, and what there is to say of it.

        Args:
            env: the unwrapped environments, for simulators that keep their last step, and for `watch`.
            infos: of the steps themselves.
            stepped: environments that took a step; None: all.
            seen: the frames, where neither env nor infos have them.

        Returns:
            reward; score; task_reward; model_return and task_return of the episodes up to here.
        """
        mask = None if stepped is None else stepped.numpy()
        if seen is None and self.scorer.needs_frames:
            seen = step_frames(env, infos, mask)
        begun = [] if seen is None else seen.begun
        first = None
        if self.reads_states and self.watch is not None:
            state, goals = self.watch(env)
            score = self.scorer.score_frames(None if seen is None else seen.frame, goals, state)
        else:
            assert seen is not None
            goals, frames = self.scorer.goals(infos, mask), seen.frame
            asked = goals
            if mask is not None:
                frames, asked = frames[mask], asked[mask]
            lead = 0
            if self.payment.shaping and seen.first is not None:
                lead = len(begun)
                frames, asked = np.concatenate([seen.first, frames]), torch.cat([goals[begun], asked])
            answer = self.scorer.score_frames(frames, asked) if len(frames) else torch.zeros(0)
            score = answer[lead:]
            first = answer[:lead] if lead else None
            if stepped is not None:
                score = torch.full((len(done),), torch.nan).masked_scatter(stepped, score)
        reward, score = self.account.pay(
            score, task_reward, terminated, done, begun=begun, first=first, stepped=stepped
        )
        self.account.check()
        model_return, task_return = self.account.sums
        return {
            "reward": reward,
            "score": score,
            "task_reward": task_reward,
            "model_return": model_return,
            "task_return": task_return,
        }
