"""One environment for Gymnasium: a batch of one.

import gymnasium, envs
env = gymnasium.make("Sightline/FindObject-v0", max_steps=200)
observation, info = env.reset(seed=0)        # info["goal_text"] == "find the red armchair"
"""

from typing import Any

import gymnasium
import numpy as np
import torch
from numpy import ndarray

from core.errors import InputError
from envs.goals import Task
from envs.observation import Observer, make_simulator, row_of
from envs.state import Sensors, SimState
from envs.window import Window


class GymEnv(gymnasium.Env):
    """A task of envs/tasks as a Gymnasium environment.

    Args:
        depth, instance, pose: add these to the observation (envs/observation.py).
        render_mode: None, "rgb_array" (render() gives the agent's view, `render_size` pixels square) or "human" (the
            same in a window, after every reset and step).
        options: see envs.observation.make_simulator (homes, scenes, split, width, height, max_steps, control, ...).

    Raises:
        InputError: an unknown render mode, options that do not go together.
        MissingLibraryError: "human" without pygame.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 4}  # noqa: RUF012  Gymnasium's own form

    def __init__(
        self,
        task: str | Task = "find_object",
        *,
        depth: bool = False,
        instance: bool = False,
        pose: bool = False,
        render_mode: str | None = None,
        render_size: int = 256,
        **options: Any,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise InputError(f"render_mode={render_mode!r} is not known; use 'rgb_array', 'human' or None")
        self._window = Window("Sightline", self.metadata["render_fps"]) if render_mode == "human" else None
        self.sim = make_simulator(task, 1, **options)
        self.observer = Observer(self.sim, depth=depth, instance=instance, pose=pose)
        self.observation_space, self.action_space = self.observer.space, self.observer.actions
        self.render_mode = render_mode
        self._camera = Sensors(render_size, render_size, self.sim.sensors.fov_deg if self.sim.sensors else 90.0)
        self._seeded = False
        self._state: SimState | None = None

    @property
    def state(self) -> SimState:
        """The simulator's state, B = 1. Raises InputError before the first reset."""
        if self._state is None:
            raise InputError("the environment has no episode yet; call reset() first")
        return self._state

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, ndarray], dict[str, Any]]:
        """The next episode; with a seed, the first episode of that seed (unseeded at first: a random one)."""
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            seed = int(self.np_random.integers(2**31)) if seed is None else int(seed)
            self.sim, self._state, self._seeded = self.sim.seeded(seed), None, True
        self._state = self.sim.reset(self._state)
        observation = row_of(self.observer.observation(self._state, self.sim.observe(self._state)), 0)
        if self._window is not None:
            self.render()
        return observation, row_of(self.observer.info(self._state), 0)

    def step(self, action: int | ndarray) -> tuple[dict[str, ndarray], float, bool, bool, dict[str, Any]]:
        """Carries out action number `action` of `sim.action_names` (0 stop, 1 forward, ...), or an array of speeds."""
        if bool(self.state.done):
            raise InputError("the episode is over; call reset() before the next step")
        self._state, step = self.sim.step(self.state, torch.from_numpy(np.asarray(action)[None]))
        assert step.frame is not None
        info = row_of(self.observer.info(self._state) | self.observer.metrics(step), 0)
        if bool(step.done):
            info["is_success"] = bool(info["success"])
        observation = row_of(self.observer.observation(self._state, step.frame), 0)
        if self._window is not None:
            self.render()
        return observation, float(step.reward), bool(step.terminated), bool(step.truncated), info

    def render(self) -> ndarray | None:  # type: ignore[override]
        """The agent's view, (render_size, render_size, 3) uint8; None without a render mode, and in a window."""
        if self.render_mode is None:
            return None
        picture = self.sim.observe(self.state, sensors=self._camera).rgb[0].cpu().numpy()
        if self._window is None:
            return picture
        self._window.show(picture)
        return None

    def close(self) -> None:
        """Shuts the window, if there is one."""
        if self._window is not None:
            self._window.close()
