"""What benchmarks/rewards.py lets take turns: a learner with and without a reward model, on tasks that show frames; and
how time and memory are read."""

import resource
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import UInt8
from numpy import ndarray
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.step_frames import StepFrame
from benchmarks.reward_shapes import pictures
from benchmarks.turns import Turn


class Noise(gymnasium.Env):
    """A task that costs next to nothing: its picture is one of a few, it ends by itself or by a limit of steps.

    So nearly all of the time and every byte belongs to what is measured around it.
    """

    action_space = spaces.Box(-1, 1, (1,), np.float32)
    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    metadata = {"render_modes": ["rgb_array"]}
    render_mode = "rgb_array"

    def __init__(self, side: int, length: int = 50) -> None:
        self.pictures = pictures(length, side, torch.device("cpu")).numpy()
        self.length, self.steps, self.episode = length, 0, 0
        self.seen = np.zeros(3, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[ndarray, dict]:
        super().reset(seed=seed)
        self.steps, self.episode = 0, self.episode + 1
        return self.seen, {}

    def step(self, action: ndarray) -> tuple[ndarray, float, bool, bool, dict]:
        self.steps += 1
        ended, odd = self.steps == self.length, bool(self.episode % 2)
        return self.seen, 0.0, ended and odd, ended and not odd, {}

    def render(self) -> UInt8[ndarray, "S S 3"]:  # type: ignore[override]
        return self.pictures[self.steps - 1]


def pendulum(side: int) -> DummyVecEnv:
    """Gymnasium's Pendulum with a frame in every step's info."""
    return DummyVecEnv([lambda: StepFrame(gymnasium.make("Pendulum-v1", render_mode="rgb_array"), size=side)])


def learner(env: Any, rollout: int, *, updates: int = -1, rows: int = 20_000) -> SAC:
    """SAC as stable-baselines3 sets it up, with rollouts of a number of steps.

    Args:
        updates: after each rollout; -1 = as many as it had steps, 0 = it only collects.
    """
    return SAC(
        "MlpPolicy", env, train_freq=(rollout, "step"), gradient_steps=updates, buffer_size=rows, seed=0, device="cpu",
        learning_starts=rollout if updates else 0,
    )  # fmt: skip


def continuing(model: SAC, steps: int, callback: BaseCallback | None = None) -> Turn:
    """A turn of learning that goes on where the last one ended."""

    def turn() -> SAC:
        return model.learn(steps, callback=callback, reset_num_timesteps=False)

    return turn


def resident() -> int:
    """Bytes of memory that this process holds now."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


class MemoryWatch(BaseCallback):
    """Reads the resident size at every hundredth of the way."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self.total, self.seen = total, [(0, resident())]

    def _on_step(self) -> bool:
        if self.num_timesteps - self.seen[-1][0] >= self.total / 100:
            self.seen.append((self.num_timesteps, resident()))
        return True
