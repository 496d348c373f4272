"""Any Gymnasium vector environment as a `TensorEnv`: CartPole for the trainer that was made for homes.

    env = GymTensorEnv.make("CartPole-v1", num_envs=8, seed=0)

An episode that ends is followed by the next one in the same step, and the observation it ended with is kept apart
(Gymnasium's "same step" autoreset and its `final_obs`). In the mode "disabled", which `make` chooses, this adapter
does the resetting and seeds each episode by (seed, environment, episode); so its state is the seed, the episodes'
numbers and the actions since their starts, and a resume replays those actions. That is exact for every environment
whose episodes are a function of their seed.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool
from numpy import ndarray
from torch import Tensor

from agents.encoders import ObservationSpec
from agents.networks import Observation
from agents.rollout import EnvStep
from core.errors import InputError
from envs.counter_random import episode_key


class GymTensorEnv:
    """A Gymnasium vector environment that speaks tensors.

    Observations: a Box of floats (F,) is "vector", one of bytes (H, W, C) "image", a Dict gives its names. Actions: a
    Discrete space, or a Box of numbers (A,), onto which [-1, 1] is stretched.

    Args:
        envs: in the autoreset mode "disabled" or "same step".
        seed: of the episodes.
        device: where tensors are handed out.
        first: number of the first environment, where a process holds a share of many.

    Raises:
        InputError: another autoreset mode, or spaces that no policy here reads.
    """

    def __init__(self, envs: VectorEnv, seed: int = 0, device: str | torch.device = "cpu", first: int = 0) -> None:
        self.envs, self.seed, self.device = envs, seed, torch.device(device)
        self.num_envs = envs.num_envs
        self.mode = envs.metadata.get("autoreset_mode")
        if self.mode not in (AutoresetMode.DISABLED, AutoresetMode.SAME_STEP):
            raise InputError(
                f"the vector environment resets itself in mode {getattr(self.mode, 'name', self.mode)}; make it with "
                "vector_kwargs={'autoreset_mode': AutoresetMode.DISABLED}, or use GymTensorEnv.make()"
            )
        space = envs.single_observation_space
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {_name(space): space}
        self._dict = isinstance(space, spaces.Dict)
        self._spec = {name: _spec(name, part) for name, part in parts.items()}
        actions = envs.single_action_space
        self.num_actions = self.action_size = 0
        if isinstance(actions, spaces.Discrete):
            self.num_actions, self._first_action = int(actions.n), int(actions.start)
        elif isinstance(actions, spaces.Box) and len(actions.shape) == 1 and actions.is_bounded():
            self.action_size = actions.shape[0]
            self._low, self._high = actions.low, actions.high
        else:
            raise InputError(f"actions are {actions}; expected Discrete, or a bounded Box of one axis")
        self._env = np.arange(first, first + self.num_envs)
        self._episode = np.zeros(self.num_envs, dtype=np.int64)
        self._age = np.zeros(self.num_envs, dtype=np.int64)
        self.info: dict[str, Any] = {}  # of the last step, before any reset here
        self._actions: list[ndarray] = []  # of the last max(age) steps, all environments

    @classmethod
    def make(
        cls,
        name: str,
        num_envs: int,
        seed: int = 0,
        *,
        device: str | torch.device = "cpu",
        first: int = 0,
        vectorization: str = "sync",
        **options: Any,
    ) -> "GymTensorEnv":
        """`gymnasium.make_vec(name, num_envs, vectorization, **options)` behind this adapter."""
        envs = gymnasium.make_vec(
            name,
            num_envs,
            vectorization_mode=vectorization,
            vector_kwargs={"autoreset_mode": AutoresetMode.DISABLED},
            **options,
        )
        return cls(envs, seed, device, first)

    @property
    def observation_spec(self) -> Mapping[str, ObservationSpec]:
        """Names, shapes and types of what is observed."""
        return self._spec

    def reset(self) -> Observation:
        """First episodes of the seed everywhere."""
        self._episode[:], self._age[:], self._actions = 0, 0, []
        return self._tensors(self._restart())

    def step(self, action: Tensor) -> EnvStep:
        """One action everywhere; environments whose episode ended go on with their next one."""
        numbers = self._numbers(action)
        observation, reward, terminated, truncated, info = self.envs.step(numbers)
        self.info = info
        done = terminated | truncated
        final = self._tensors(observation)
        self._age += 1
        self._actions.append(numbers)
        metrics = {"length": torch.from_numpy(self._age.astype(np.float32)).to(self.device)}
        following = final
        if done.any():
            if self.mode == AutoresetMode.SAME_STEP:
                following, final = final, self._tensors(self._last(observation, info["final_obs"], done))
            self._episode += done
            self._age[done] = 0
            self._actions = self._actions[len(self._actions) - int(self._age.max()) :]
            if self.mode == AutoresetMode.DISABLED:
                following = self._tensors(self._restart(done))
        return EnvStep(
            following,
            final,
            torch.from_numpy(reward).to(self.device, torch.float32),
            torch.from_numpy(terminated).to(self.device),
            torch.from_numpy(truncated).to(self.device),
            metrics,
        )

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs.

        Raises:
            InputError: the environment resets itself, with seeds nobody sees.
        """
        self._check_resumable()
        rows = np.stack(self._actions) if self._actions else np.zeros((0, self.num_envs), np.int64)
        return {"seed": self.seed, "episode": self._episode.copy(), "age": self._age.copy(), "actions": rows}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, by replaying the episodes under way.

        Raises:
            InputError: the environment resets itself, or the state is of another number of environments.
        """
        self._check_resumable()
        if len(saved["episode"]) != self.num_envs:
            raise InputError(f"the state is of {len(saved['episode'])} environments, there are {self.num_envs}")
        self.seed = int(saved["seed"])
        self._episode, self._age = saved["episode"].copy(), saved["age"].copy()
        self._actions = list(saved["actions"])
        longest = len(self._actions)
        self._restart()
        for t, row in enumerate(self._actions):
            *_, terminated, truncated, _ = self.envs.step(row)
            # those whose episode is younger start (again) when its first action comes
            begin = (self._age == longest - (t + 1)) | terminated | truncated
            if begin.any():
                self._restart(begin)

    def _check_resumable(self) -> None:
        if self.mode != AutoresetMode.DISABLED:
            raise InputError(
                "a vector environment that resets itself cannot be resumed exactly; make it with autoreset mode "
                "DISABLED, or use GymTensorEnv.make()"
            )

    def _restart(self, mask: Bool[ndarray, " B"] | None = None) -> Any:
        """Begins each environment's present episode, in `mask` or everywhere; observations of all."""
        seeds: Any = [int(key) & 0x7FFFFFFF for key in episode_key(self.seed, self._env, self._episode)]
        return self.envs.reset(seed=seeds, options=None if mask is None else {"reset_mask": mask})[0]

    def _numbers(self, action: Tensor) -> ndarray:
        if self.num_actions:
            return action.cpu().numpy() + self._first_action
        share = (action.detach().cpu().numpy().clip(-1, 1) + 1) / 2
        return (self._low + share * (self._high - self._low)).astype(self.envs.single_action_space.dtype)

    def _tensors(self, observation: Any) -> Observation:
        parts = observation if self._dict else {next(iter(self._spec)): observation}
        return {
            name: torch.from_numpy(np.array(parts[name])).to(self.device, spec.torch_dtype)
            for name, spec in self._spec.items()
        }

    def _last(self, observation: Any, final: Any, done: Bool[ndarray, " B"]) -> Any:
        """The batch of observations with the rows in `done` replaced by what their episodes ended with."""
        if self._dict:
            parts = {name: np.array(part) for name, part in observation.items()}
            for i in done.nonzero()[0]:
                for name, part in parts.items():
                    part[i] = final[i][name]
            return parts
        merged = np.array(observation)
        for i in done.nonzero()[0]:
            merged[i] = final[i]
        return merged


def _name(space: spaces.Space) -> str:
    return "image" if len(getattr(space, "shape", None) or ()) == 3 else "vector"


def _spec(name: str, space: spaces.Space) -> ObservationSpec:
    if not isinstance(space, spaces.Box):
        raise InputError(f"the observation {name!r} is {space}; expected a Box, wrap the environment to make it one")
    kind = "uint8" if space.dtype == np.uint8 else "float32"
    return ObservationSpec(tuple(space.shape), kind)
