"""A vision-language reward for any Gymnasium task that can render: in three lines.

embedder = load_embedder("runs/my-towers/model")            # or a CLIP / SigLIP directory or hub id
env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
env = VLMRewardWrapper(env, embedder, goal="pole vertically upright on top of the cart", baseline="pole and cart")
"""

from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
import torch

from core.errors import InputError
from vl.embedder import Embedder
from vl.rewards import RewardModel, StepBatch, VLMReward


class VLMRewardWrapper(gymnasium.Wrapper):
    """Replaces a task's reward by a reward model's score of the frame the step led to.

    The frame is rendered inside `step`, before anything can reset the task, so the last frame of an episode is paid to
    the action that reached it. The task's own reward stays readable in `info["task_reward"]`. Rollout workers of
    vector environments each hold their own copy of the model; for many environments score batches instead.

    Args:
        env: made with `render_mode="rgb_array"`.
        model: an embedder (image and text towers), or a ready reward model that needs frames only.
        goal: what the agent should bring about, as a sentence or several; for a ready reward model leave it out.
        baseline: the same scene without the goal reached; what `alpha` projects away.
        alpha: 0 = plain similarity to the goal, 1 = only the direction from baseline to goal.
        goal_index: which of a ready reward model's goals is meant.
        scale: multiplies the score.

    Raises:
        InputError: the task does not render arrays, or goal and model do not fit together.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        model: Embedder | RewardModel,
        *,
        goal: str | Sequence[str] | None = None,
        baseline: str | Sequence[str] = (),
        alpha: float = 0.5,
        goal_index: int = 0,
        scale: float = 1.0,
    ) -> None:
        super().__init__(env)
        if env.render_mode != "rgb_array":
            raise InputError(
                f"a VLM reward looks at frames, but render_mode is {env.render_mode!r}; "
                'make the task with render_mode="rgb_array"'
            )
        if hasattr(model, "score"):
            if goal is not None:
                raise InputError("a ready reward model has its goals already; give goal only with an embedder")
            self.reward_model: RewardModel = model  # type: ignore[assignment]
            if self.reward_model.needs - {"frame"}:
                raise InputError(
                    f"this reward model needs {sorted(self.reward_model.needs)}; a wrapper has frames only"
                )
        else:
            if goal is None:
                raise InputError('an embedder needs a goal sentence, e.g. goal="a red armchair close by"')
            goals = [goal] if isinstance(goal, str) else list(goal)
            baselines = [baseline] if isinstance(baseline, str) else list(baseline)
            self.reward_model = VLMReward(model, [goals], baselines, alpha=alpha)
        self.goal_index = torch.tensor([goal_index])
        self.scale = scale

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step of the task, paid by what it looks like."""
        observation, task_reward, terminated, truncated, info = self.env.step(action)
        reward = self.scale * float(self.reward_model.score(StepBatch(frame=self._frame()), self.goal_index)[0])
        return observation, reward, terminated, truncated, {**info, "task_reward": float(task_reward)}

    def _frame(self) -> torch.Tensor:
        frame = self.env.render()
        if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[-1] != 3 or frame.dtype != np.uint8:
            if isinstance(frame, np.ndarray):
                got = f"{frame.dtype} {frame.shape}"
            else:
                got = "None" if frame is None else type(frame).__name__
            raise InputError(f"env.render() gave {got}, expected a uint8 picture (H, W, 3)")
        return torch.from_numpy(np.ascontiguousarray(frame))[None]
