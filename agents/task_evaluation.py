"""What a policy reaches in a Gymnasium task, by the truth that steps tell (`info["progress"]`, `info["success"]`)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from agents.episode_video import write_mp4
from agents.seeded_episodes import EVALUATION, episode_seed
from agents.step_frames import checked_frame
from core.intervals import grouped_mean

Acts = Callable[[Any], Any]
"""From an observation to an action."""


@dataclass
class EpisodeTruth:
    """What the steps of running episodes told, one row per environment; hands out a summary where one ends."""

    num_envs: int
    task_return: ndarray = field(init=False)
    progress: ndarray = field(init=False)  # sum over steps
    held: ndarray = field(init=False)  # steps in which the goal held
    steps: ndarray = field(init=False)

    def __post_init__(self) -> None:
        for name in ("task_return", "progress", "held", "steps"):
            setattr(self, name, np.zeros(self.num_envs))

    def add(self, env: int, reward: float, info: dict[str, Any]) -> None:
        """Counts one step; a task that does not tell its progress has none (NaN)."""
        self.steps[env] += 1
        self.task_return[env] += info.get("task_reward", reward)
        self.progress[env] += info.get("progress", np.nan)
        self.held[env] += info.get("success", np.nan)

    def end(self, env: int, info: dict[str, Any]) -> dict[str, float]:
        """Figures of the episode that ended with this info."""
        steps = self.steps[env]
        found = {
            "task_return": float(self.task_return[env]),
            "progress": float(self.progress[env] / steps),
            "held": float(self.held[env] / steps),
            "success": float(info.get("success", np.nan)),
            "length": float(steps),
        }
        for name in ("task_return", "progress", "held", "steps"):
            getattr(self, name)[env] = 0.0
        return {name: value for name, value in found.items() if not np.isnan(value)}

    def state_dict(self) -> dict[str, ndarray]:
        """What a resume needs."""
        return {name: getattr(self, name).copy() for name in ("task_return", "progress", "held", "steps")}

    def load_state_dict(self, state: dict[str, ndarray]) -> None:
        """Go on where `state_dict` was taken."""
        for name, value in state.items():
            getattr(self, name)[:] = value


def evaluate_policy(env: gymnasium.Env, act: Acts, episodes: int, seed: int = 0) -> list[dict[str, float]]:
    """Figures of each episode: the task's return, mean progress, share of steps with success, success at the end.

    Args:
        seed: with the number of an episode it decides how it begins; policies are compared on the same ones.
    """
    truth, found = EpisodeTruth(1), []
    for episode in range(episodes):
        observation, _ = env.reset(seed=episode_seed(EVALUATION, seed, 0, episode))
        over = False
        while not over:
            observation, reward, terminated, truncated, info = env.step(act(observation))
            truth.add(0, float(reward), info)
            over = terminated or truncated
        found.append(truth.end(0, info))
    return found


def summary(episodes: list[dict[str, float]]) -> dict[str, Any]:
    """Means over episodes, each with its 95 % interval over them."""
    found: dict[str, Any] = {"episodes": len(episodes)}
    for name in episodes[0]:
        values = np.array([episode[name] for episode in episodes])
        found[name] = float(values.mean())
        found[f"{name}_interval"] = grouped_mean(values, range(len(values)))
    return found


def film_policy(path: Path, env: gymnasium.Env, act: Acts, seed: int = 0) -> dict[str, float]:
    """Writes a film (H.264) of the first episode of `evaluate_policy` and returns its figures.

    Args:
        env: made with `render_mode="rgb_array"`.
    """
    pictures: list[UInt8[ndarray, "H W 3"]] = []

    def watched(observation: Any) -> Any:
        pictures.append(_even(checked_frame(env.render(), "env.render()")))
        return act(observation)

    found = evaluate_policy(env, watched, 1, seed)[0]
    pictures.append(_even(checked_frame(env.render(), "env.render()")))
    write_mp4(path, pictures, int(env.metadata.get("render_fps") or 30))
    return found


def _even(picture: UInt8[ndarray, "H W 3"]) -> UInt8[ndarray, "H W 3"]:
    """Without its last row or column where their number is odd, as the encoder wants it."""
    height, width = picture.shape[:2]
    return np.array(picture[: height - height % 2, : width - width % 2])
