"""B environments for stable-baselines3, stepped as one batch.

    from stable_baselines3 import PPO
    env = SB3VecEnv(num_envs=16, scenes="SCENES")
    PPO("MultiInputPolicy", env).learn(100_000)

An environment that ends is reset within the same step. Its last view is in info["terminal_observation"]; a time limit
is marked by info["TimeLimit.truncated"], so that stable-baselines3 bootstraps the value there and nowhere else.
info["episode"] has its return "r", its actions "l" and the seconds "t" since the environments were made, as
stable-baselines3's Monitor writes them: this is where ep_rew_mean comes from.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32
from numpy import ndarray
from stable_baselines3.common.vec_env import VecEnv

from core.errors import InputError
from envs.goals import Task
from envs.observation import Observer, make_simulator, row_of
from envs.state import Sensors, SimState, choose_frame
from scene.render import Frame


class SB3VecEnv(VecEnv):
    """A task of envs/tasks as a stable-baselines3 VecEnv.

    Args:
        seed: environment i plays the episodes of seed + i, as in the other adapters; `seed()` changes it.
        depth, instance, pose, options: as for envs.gym_env.GymEnv.

    Attributes:
        step_state, step_frame: what the last step led to, before environments that ended were reset.
        acted_on: the frame in which that step's actions were taken.
    """

    def __init__(
        self,
        num_envs: int = 8,
        task: str | Task = "find_object",
        *,
        seed: int = 0,
        depth: bool = False,
        instance: bool = False,
        pose: bool = False,
        **options: Any,
    ) -> None:
        self.sim = make_simulator(task, num_envs, **options).seeded([seed + index for index in range(num_envs)])
        self.sim.env_ids = np.zeros(num_envs, dtype=np.int64)
        self.observer = Observer(self.sim, depth=depth, instance=instance, pose=pose)
        self.render_mode = "rgb_array"
        self._camera = Sensors(256, 256, self.sim.sensors.fov_deg if self.sim.sensors else 90.0)
        self._state: SimState | None = None
        self.step_state: SimState | None = None
        self.step_frame: Frame | None = None
        self.acted_on: Frame | None = None
        self._action: ndarray | None = None
        self._returns, self._began = np.zeros(num_envs), time.perf_counter()
        super().__init__(num_envs, self.observer.space, self.observer.actions)

    @property
    def state(self) -> SimState:
        """The simulator's state. Raises InputError before the first reset."""
        if self._state is None:
            raise InputError("the environments have no episodes yet; call reset() first")
        return self._state

    def reset(self) -> dict[str, ndarray]:
        """New episodes everywhere; after seed(), the first ones of the seeds."""
        if any(seed is not None for seed in self._seeds):
            seeds = [int(old) if new is None else int(new) for new, old in zip(self._seeds, self.sim.seeds)]
            self.sim, self._state = self.sim.seeded(seeds), None
        self._returns[:] = 0.0
        self._reset_seeds()
        self._reset_options()
        self._state = self.sim.reset(self._state)
        info = self.observer.info(self._state)
        self.reset_infos = [row_of(info, index) for index in range(self.num_envs)]
        self._shown = self.sim.observe(self._state)
        return self.observer.observation(self._state, self._shown)

    def step_async(self, actions: ndarray) -> None:
        """Keeps the actions for step_wait; nothing runs in between."""
        self._action = np.asarray(actions)

    def step_wait(
        self,
    ) -> tuple[dict[str, ndarray], Float32[ndarray, " B"], Bool[ndarray, " B"], list[dict[str, Any]]]:
        """Carries out the actions; resets what ended."""
        if self._action is None:
            raise InputError("step_wait() without actions; call step_async(actions) or step(actions)")
        state, step = self.sim.step(self.state, torch.as_tensor(self._action))
        self._action = None
        frame = step.frame
        assert frame is not None
        self.step_state, self.step_frame, self.acted_on = state, frame, self._shown
        info = self.observer.info(state) | self.observer.metrics(step)
        infos = [row_of(info, index) for index in range(self.num_envs)]
        truncated, done = step.truncated.cpu().numpy(), step.done.cpu().numpy()
        reward, lengths = step.reward.cpu().numpy(), state.step.cpu().numpy()
        self._returns += reward
        for index in range(self.num_envs):
            infos[index]["TimeLimit.truncated"] = bool(truncated[index])
        if done.any():
            last = self.observer.observation(state, frame)
            state = self.sim.reset(state, step.done)
            frame = choose_frame(step.done, self.sim.observe(state, step.done), frame)
            fresh = self.observer.info(state)
            for index in np.flatnonzero(done).tolist():
                infos[index]["terminal_observation"] = row_of(last, index)
                infos[index]["is_success"] = bool(infos[index]["success"])
                infos[index]["episode"] = {
                    "r": round(float(self._returns[index]), 6),
                    "l": int(lengths[index]),
                    "t": round(time.perf_counter() - self._began, 6),
                }
                self._returns[index] = 0.0
                self.reset_infos[index] = row_of(fresh, index)
        self._state, self._shown = state, frame
        return self.observer.observation(state, frame), reward, done, infos

    def close(self) -> None:
        """Nothing to let go of."""

    def get_images(self) -> Sequence[ndarray | None]:
        """Each agent's view, (256, 256, 3) uint8."""
        return list(self.sim.observe(self.state, sensors=self._camera).rgb.cpu().numpy())

    def get_attr(self, attr_name: str, indices: None | int | Iterable[int] = None) -> list[Any]:
        """The batch's attribute, once for each environment asked: all share one simulator."""
        value = getattr(self, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: None | int | Iterable[int] = None) -> None:
        """Sets an attribute of the batch. Raises InputError for a part of it: all share one simulator."""
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise InputError(f"{attr_name} is one for the whole batch; set it without indices")
        setattr(self, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: None | int | Iterable[int] = None, **method_kwargs: Any
    ) -> list[Any]:
        """Calls a method of the batch once; its result comes once for each environment asked."""
        result = getattr(self, method_name)(*method_args, **method_kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: None | int | Iterable[int] = None) -> list[bool]:
        """No single environments, so no wrappers around them."""
        return [False for _ in self._get_indices(indices)]
