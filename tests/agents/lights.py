"""A task whose last frame alone pays, whose pictures tell every step apart, and a model that reads their colours."""

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

TASK_REWARD = 7.0


def length_of(episode: int) -> int:
    """Steps of an episode: 2, 3, 4, 2, ..."""
    return 2 + episode % 3


def picture(time: int, episode: int, number: int) -> np.ndarray:
    """What environment `number` shows after `time` steps: one colour, whose red is 255 at an episode's end only."""
    color = (255 if time == length_of(episode) else 10 * time, 40 + 11 * (episode % 7), 90 + 60 * number)
    return np.full((4, 6, 3), color, np.uint8)


class Lights(gymnasium.Env):
    """Observes (time, episode, number) in tenths; episodes end by the task, or by a time limit if `truncates`."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = spaces.Box(0.0, 1e6, (3,), np.float32)

    def __init__(self, number=0, truncates=False, continuous=False, render_mode="rgb_array"):
        self.number, self.truncates, self.render_mode = number, truncates, render_mode
        self.action_space = spaces.Box(-1, 1, (1,), np.float32) if continuous else spaces.Discrete(2)
        self.time, self.episode = 0, -1

    def _observe(self):
        return np.array([self.time, self.episode, self.number], np.float32) / 10

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.episode = 0, self.episode + 1
        return self._observe(), {}

    def step(self, action):
        self.time += 1
        over = self.time == length_of(self.episode)
        info = {"goal": self.episode % 3}
        return self._observe(), TASK_REWARD, over and not self.truncates, over and self.truncates, info

    def render(self):
        return picture(self.time, self.episode, self.number) if self.render_mode == "rgb_array" else None


class ColorReward:
    """Embeds a picture as its mean colour's direction; goal g is worth `gain` times coordinate g."""

    dim = 3
    needs = frozenset({"frame"})

    def __init__(self, gain=1.0):
        self.gain, self.batches = gain, []

    def embed(self, frames):
        self.batches.append(len(frames))
        return torch.nn.functional.normalize(torch.as_tensor(frames).float().mean((1, 2)), dim=-1)

    def score(self, steps, goals):
        embedding = self.embed(steps.frame) if steps.embedding is None else steps.embedding
        return self.gain * embedding.float().gather(1, goals[:, None])[:, 0]


def true_score(time: int, episode: int, number: int, goal: int = 0) -> float:
    """What ColorReward gives that picture, by half-precision embedding."""
    color = picture(time, episode, number)[0, 0].astype(np.float64)
    return float(np.float16(color[goal] / np.linalg.norm(color)))
