"""A reward model in the place of the task's reward: around a Gymnasium Env or VectorEnv.

    towers = load_embedder("towers/model")
    reward = VLMReward(towers, [["pole vertically upright on top of the cart"]], ["pole and cart"])
    env = RewardWrapper(gymnasium.make("CartPole-v1", render_mode="rgb_array"), reward)

Every step is one call of the model, for all environments together; stable-baselines3 is served by
agents/sb3_rewards.py. Each info has `task_reward` and `score`; where an episode ended, `task_return` and
`model_return` too (the sums of both rewards, shaping left out).
"""

from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from jaxtyping import Bool, Float64
from numpy import ndarray

from agents.paid import Payment
from agents.step_frames import StepFrame, StepFrames, checked_frame, info_rows, stacked
from agents.step_pay import StepPay
from agents.step_scorer import Goals, Watch
from core.errors import InputError
from vl.rewards import RewardModel
from vl.scoring import Stopwatch

STEP_SAYS, EPISODE_SAYS = ("score", "task_reward"), ("model_return", "task_return")
"""Names in the infos of steps, and of steps that end an episode."""


class RewardWrapper(gymnasium.Wrapper):
    """A task paid by a reward model for the frame each step led to.

    The frame is rendered inside `step`, so the last frame of an episode is paid to the action that reached it. For many
    environments wrap the vector environment instead: there the model is asked about all of them at once.

    Args:
        env: made with `render_mode="rgb_array"`; wrapped in StepFrame unless it is already.
        reward_model: prepared with its goals; needs frames or states.
        goals: which of its goals is meant: a number, or a function of a step's info.
        payment: how scores become a reward.
        watch: for models that read states.

    Raises:
        InputError: the task does not render arrays; a model that reads clips, or states without `watch`.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        reward_model: RewardModel,
        goals: Goals = 0,
        payment: Payment | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.pay = StepPay(reward_model, 1, goals, payment, watch)
        super().__init__(StepFrame(env) if self.pay.scorer.needs_frames and not _has_step_frame(env) else env)

    @property
    def timing(self) -> Stopwatch:
        """Seconds spent in the model."""
        return self.pay.scorer.timing

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """A new episode; what was under way is forgotten."""
        self.pay.account.begin([0])
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step of the task, paid by what it led to."""
        observation, task_reward, terminated, truncated, info = self.env.step(action)
        done = bool(terminated or truncated)
        paid = self.pay(
            self.env.unwrapped,
            [info],
            torch.tensor([float(task_reward)]),
            torch.tensor([bool(terminated)]),
            torch.tensor([done]),
        )
        says = {name: float(paid[name]) for name in (*STEP_SAYS, *(EPISODE_SAYS if done else ()))}
        return observation, float(paid["reward"]), terminated, truncated, {**info, **says}


def _has_step_frame(env: gymnasium.Env) -> bool:
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, StepFrame):
            return True
        env = env.env
    return False


class VectorRewardWrapper(VectorWrapper):
    """A Gymnasium vector environment paid by a reward model, whichever way it resets.

    Frames come from StepFrame inside the environments, from Sightline's own vector environments, or, where nothing is
    reset within a step (modes NEXT_STEP and DISABLED), from `render()`. A row that NEXT_STEP resets instead of
    stepping is paid 0.

    Args:
        env: of the autoreset mode NEXT_STEP, SAME_STEP or DISABLED.
        reward_model, payment, watch: as for RewardWrapper.
        goals: one number, one per environment, or a function of a step's info.

    Raises:
        InputError: as for RewardWrapper; another autoreset mode. At a step: no frames.
    """

    def __init__(
        self,
        env: VectorEnv,
        reward_model: RewardModel,
        goals: Goals = 0,
        payment: Payment | None = None,
        watch: Watch | None = None,
    ) -> None:
        super().__init__(env)
        self.mode = env.metadata.get("autoreset_mode")
        if not isinstance(self.mode, AutoresetMode):
            raise InputError(
                f"the vector environment does not say how it resets: metadata['autoreset_mode'] is {self.mode!r}, "
                "expected a gymnasium.vector.AutoresetMode"
            )
        self.pay = StepPay(reward_model, env.num_envs, goals, payment, watch)
        self._waiting = np.zeros(env.num_envs, dtype=bool)

    @property
    def timing(self) -> Stopwatch:
        """Seconds spent in the model."""
        return self.pay.scorer.timing

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """New episodes everywhere, or where options["reset_mask"] says so."""
        mask = np.ones(self.num_envs, dtype=bool)
        if options and "reset_mask" in options:
            mask = np.array(options["reset_mask"], dtype=bool)
        answer = self.env.reset(seed=seed, options=options)
        self._waiting &= ~mask
        self.pay.account.begin(mask.nonzero()[0].tolist())
        return answer

    def step(
        self, actions: Any
    ) -> tuple[Any, Float64[ndarray, " B"], Bool[ndarray, " B"], Bool[ndarray, " B"], dict[str, Any]]:
        """One action per environment, paid by what it led to."""
        observation, task_reward, terminated, truncated, infos = self.env.step(actions)
        stepped, ended = ~self._waiting, terminated | truncated
        rows, base, seen = info_rows(infos, self.num_envs), self.env.unwrapped, None
        given = getattr(base, "step_frame", None) is not None or any("frame" in row for row in rows)
        if self.pay.scorer.needs_frames and stepped.any() and not given:
            seen = self._rendered()
        paid = self.pay(
            base,
            rows,
            torch.from_numpy(task_reward).float(),
            torch.from_numpy(terminated),
            torch.from_numpy(ended),
            stepped=torch.from_numpy(stepped),
            seen=seen,
        )
        if self.mode == AutoresetMode.NEXT_STEP:
            self._waiting = ended
        for name in (*STEP_SAYS, *EPISODE_SAYS):
            infos[name], infos[f"_{name}"] = paid[name].numpy(), (stepped if name in STEP_SAYS else ended).copy()
        return observation, paid["reward"].double().numpy(), terminated, truncated, infos

    def _rendered(self) -> StepFrames | None:
        """Pictures taken from outside, where they are those of the step; None where they would be of a reset."""
        if self.mode == AutoresetMode.SAME_STEP:
            return None
        if self.env.render_mode != "rgb_array":
            raise InputError(
                f"a reward model looks at frames, but render_mode is {self.env.render_mode!r}; "
                'make the vector environment with render_mode="rgb_array"'
            )
        pictures = self.env.render()
        if not isinstance(pictures, Sequence | ndarray) or len(pictures) != self.num_envs:
            got = "None" if pictures is None else f"{type(pictures).__name__} of {len(pictures)}"
            raise InputError(f"render() gave {got}, expected a picture of each of the {self.num_envs} environments")
        return StepFrames(stacked([checked_frame(picture, "render()") for picture in pictures]), None, [])
