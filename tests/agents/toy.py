"""A tiny tensor task for tests: remember which of two cues was shown first, then name it."""

import torch

from agents.encoders import ObservationSpec
from agents.rollout import EnvStep


class Recall:
    """The cue (+1 or -1) is visible in the first step only; two steps later action 0 or 1 should match it."""

    num_actions = 2
    action_size = 0
    observation_spec = {"vector": ObservationSpec((2,))}  # noqa: RUF012  # cue, time

    def __init__(self, num_envs: int, length: int = 3, truncates: bool = False, seed: int = 0) -> None:
        self.num_envs, self.length, self.truncates = num_envs, length, truncates
        self.generator = torch.Generator().manual_seed(seed)
        self.time = torch.zeros(num_envs, dtype=torch.long)
        self.cue = torch.zeros(num_envs)

    def _observe(self) -> dict[str, torch.Tensor]:
        return {"vector": torch.stack([self.cue * (self.time == 0), self.time / self.length], dim=1)}

    def _restart(self, mask: torch.Tensor) -> None:
        cue = torch.randint(0, 2, (self.num_envs,), generator=self.generator) * 2.0 - 1
        self.cue = torch.where(mask, cue, self.cue)
        self.time = torch.where(mask, 0, self.time)

    def reset(self) -> dict[str, torch.Tensor]:
        self._restart(torch.ones(self.num_envs, dtype=torch.bool))
        return self._observe()

    def step(self, action: torch.Tensor) -> EnvStep:
        last = self.time == self.length - 1
        right = (action == 1) == (self.cue > 0)
        reward = torch.where(last & right, 1.0, 0.0)
        self.time = self.time + 1
        final = self._observe()
        self._restart(last)
        none = torch.zeros_like(last)
        flags = (none, last) if self.truncates else (last, none)
        return EnvStep(self._observe(), final, reward, *flags, metrics={"success": reward})
