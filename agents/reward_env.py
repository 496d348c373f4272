"""Any `TensorEnv` paid by a reward model, for the trainer that speaks tensors.

env = GymTensorEnv.make("CartPole-v1", 8, render_mode="rgb_array", wrappers=[StepFrame])
env = RewardEnv(env, reward_model)
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from agents.encoders import ObservationSpec
from agents.networks import Observation
from agents.paid import Payment
from agents.rollout import EnvStep, TensorEnv
from agents.step_frames import StepFrames, info_rows
from agents.step_pay import StepPay
from agents.step_scorer import Goals, Watch
from core.errors import InputError
from vl.rewards import RewardModel
from vl.scoring import Stopwatch

PICTURE = "image"
"""The observation that is taken for the frame where no StepFrame gives one."""


class RewardEnv:
    """B environments that reset themselves, paid by a reward model.

    Frames come from StepFrame inside a GymTensorEnv, else from the observation "image" of uint8 (H, W, 3): the one the
    step led to, before any reset. Metrics gain `model_return` and `task_return`.

    Args:
        env: any TensorEnv.
        reward_model: prepared with its goals; needs frames or states.
        goals: one number, one per environment, or a function of a step's info (of a GymTensorEnv).
        payment: how scores become a reward.
        watch: for models that read states; called with `env`.

    Attributes:
        pay: the model and what was paid (agents/step_pay.py).

    Raises:
        InputError: a model that reads clips, or states without `watch`; at a step: no frames.
    """

    def __init__(
        self,
        env: TensorEnv,
        reward_model: RewardModel,
        goals: Goals = 0,
        payment: Payment | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.env = env
        self.num_envs, self.num_actions, self.action_size = env.num_envs, env.num_actions, env.action_size
        self.pay = StepPay(reward_model, env.num_envs, goals, payment, watch)
        self._shown: Observation = {}
        self._began = torch.ones(env.num_envs, dtype=torch.bool)

    @property
    def observation_spec(self) -> Mapping[str, ObservationSpec]:
        """Names, shapes and types of what is observed."""
        return self.env.observation_spec

    @property
    def timing(self) -> Stopwatch:
        """Seconds spent in the model."""
        return self.pay.scorer.timing

    def reset(self) -> Observation:
        """New episodes everywhere."""
        self._shown = self.env.reset()
        self._began = torch.ones(self.num_envs, dtype=torch.bool)
        self.pay.account.begin(list(range(self.num_envs)))
        return self._shown

    def step(self, action: Tensor) -> EnvStep:
        """One action everywhere, paid by what it led to."""
        step = self.env.step(action)
        infos = info_rows(getattr(self.env, "info", {}), self.num_envs)
        done = (step.terminated | step.truncated).cpu()
        seen = None if "frame" in infos[0] or not self.pay.scorer.needs_frames else self._observed(step)
        paid = self.pay(self.env, infos, step.reward.cpu().float(), step.terminated.cpu(), done, seen=seen)
        self._shown, self._began = step.observation, done
        device = step.reward.device
        metrics = {name: paid[name].to(device) for name in ("model_return", "task_return")}
        return EnvStep(
            step.observation,
            step.final_observation,
            paid["reward"].to(device),
            step.terminated,
            step.truncated,
            {**step.metrics, **metrics},
        )

    def _observed(self, step: EnvStep) -> StepFrames:
        """The frames in the observations."""
        spec = self.observation_spec.get(PICTURE)
        if spec is None or spec.dtype != "uint8" or len(spec.shape) != 3 or spec.shape[-1] != 3:
            raise InputError(
                "a reward model looks at frames, and the environments give none: add them inside, "
                'GymTensorEnv.make(NAME, B, render_mode="rgb_array", wrappers=[StepFrame]), or observe an "image"'
            )
        begun = self._began.nonzero()[:, 0].tolist()
        first = self._shown[PICTURE][begun].cpu().numpy() if begun else None
        return StepFrames(step.final_observation[PICTURE].cpu().numpy(), first, begun)

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs."""
        return {
            "env": self.env.state_dict(),  # type: ignore[attr-defined]
            "account": self.pay.account.state_dict(),
            "shown": dict(self._shown),
            "began": self._began.clone(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            InputError: the environments cannot, or are of another number.
        """
        self.env.load_state_dict(saved["env"])  # type: ignore[attr-defined]
        self.pay.account.load_state_dict(saved["account"])
        self._shown, self._began = dict(saved["shown"]), saved["began"].clone()
