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
from envs.observation import Observer, make_simulator, row_of
from envs.state import Sensors, SimState


class GymEnv(gymnasium.Env):
    """A task of envs/tasks as a Gymnasium environment.

    Args:
        depth: adds "depth" to the observation.
        render_mode: None or "rgb_array" (the agent's view at `render_size` pixels square).
        options: see envs.observation.make_simulator (homes, scenes, split, goals, width, height, max_steps, ...).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012  Gymnasium's own form

    def __init__(
        self,
        task: str = "find_object",
        *,
        depth: bool = False,
        render_mode: str | None = None,
        render_size: int = 256,
        **options: Any,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise InputError(f"render_mode={render_mode!r} is not known; use 'rgb_array' or None")
        self.sim = make_simulator(task, 1, **options)
        self.observer = Observer(self.sim, depth)
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
            seed = int(self.np_random.integers(2**31)) if seed is None else seed
            self.sim, self._state, self._seeded = self.sim.seeded(seed), None, True
        self._state = self.sim.reset(self._state)
        frame = self.sim.observe(self._state)
        return (
            row_of(self.observer.observation(self._state, frame), 0),
            row_of(self.observer.info(self._state), 0),
        )

    def step(self, action: int) -> tuple[dict[str, ndarray], float, bool, bool, dict[str, Any]]:
        """Carries out 0 stop, 1 forward, 2 turn left or 3 turn right."""
        if bool(self.state.done):
            raise InputError("the episode is over; call reset() before the next step")
        self._state, step = self.sim.step(self.state, torch.from_numpy(np.atleast_1d(np.asarray(action))))
        assert step.frame is not None
        info = row_of(self.observer.info(self._state, step), 0)
        if bool(step.done):
            info["is_success"] = bool(info["success"])
        observation = row_of(self.observer.observation(self._state, step.frame), 0)
        return observation, float(step.reward), bool(step.terminated), bool(step.truncated), info

    def render(self) -> ndarray | None:  # type: ignore[override]
        """The agent's view, (render_size, render_size, 3) uint8; None without a render mode."""
        if self.render_mode is None:
            return None
        return self.sim.observe(self.state, sensors=self._camera).rgb[0].cpu().numpy()
