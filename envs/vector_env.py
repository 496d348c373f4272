"""B environments for Gymnasium's vector interface, stepped as one batch: `gymnasium.make_vec("Sightline/...", 64)`.

Environment i of seed s plays the same episodes as the single environment (gym_env.py) of seed s + i.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float32, Float64, Int
from numpy import ndarray

from core.errors import InputError, check_choice
from envs.goals import Task
from envs.observation import Observer, make_simulator, masked_info, row_of
from envs.state import Sensors, SimState, choose_frame
from envs.window import Window, tiled
from scene.render import Frame

Observation = dict[str, ndarray]


class GymVectorEnv(gymnasium.vector.VectorEnv):
    """A task of envs/tasks as a Gymnasium vector environment.

    Args:
        autoreset_mode: NEXT_STEP (Gymnasium's default: the step after an end ignores its action and resets), SAME_STEP
            (the ending step returns the new episode's view; the last one is in infos["final_obs"]) or DISABLED.
        depth, instance, pose, render_mode, render_size, options: as for envs.gym_env.GymEnv; a window shows all views
            side by side.

    Attributes:
        step_state, step_frame: what the last step led to, before environments that ended were reset. In the mode
            NEXT_STEP a row that was reset instead of stepped stays as it ended.
        acted_on: the frame in which that step's actions were taken.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  Gymnasium's own form
        "render_modes": ["human", "rgb_array"],
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        task: str | Task = "find_object",
        *,
        depth: bool = False,
        instance: bool = False,
        pose: bool = False,
        render_mode: str | None = None,
        render_size: int = 256,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **options: Any,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise InputError(f"render_mode={render_mode!r} is not known; use 'rgb_array', 'human' or None")
        if not isinstance(autoreset_mode, AutoresetMode):
            check_choice("autoreset_mode", autoreset_mode, [mode.value for mode in AutoresetMode])
        self._window = Window("Sightline", self.metadata["render_fps"]) if render_mode == "human" else None
        self.num_envs = num_envs
        self.sim = make_simulator(task, num_envs, **options)
        self.sim.env_ids = np.zeros(num_envs, dtype=np.int64)  # seeds tell the environments apart
        self.observer = Observer(self.sim, depth=depth, instance=instance, pose=pose)
        self.single_observation_space, self.single_action_space = self.observer.space, self.observer.actions
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = type(self).metadata | {"autoreset_mode": self.autoreset_mode}
        self._camera = Sensors(render_size, render_size, self.sim.sensors.fov_deg if self.sim.sensors else 90.0)
        self._state: SimState | None = None
        self.step_state: SimState | None = None
        self.step_frame: Frame | None = None
        self.acted_on: Frame | None = None

    @property
    def state(self) -> SimState:
        """The simulator's state. Raises InputError before the first reset."""
        if self._state is None:
            raise InputError("the environments have no episodes yet; call reset() first")
        return self._state

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """New episodes everywhere, or where options["reset_mask"] (B,) bool says so.

        Args:
            seed: environment i gets seed + i; or one seed for each. Left out: goes on with the episodes in order.
        """
        mask = np.ones(self.num_envs, dtype=bool)
        if options and "reset_mask" in options:
            mask = np.asarray(options["reset_mask"])
            if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
                raise InputError(f"options['reset_mask'] is ({self.num_envs},) of bool with at least one True")
        if seed is not None:
            given: list[int | None] = (
                [int(seed) + index for index in range(self.num_envs)]
                if isinstance(seed, int | np.integer)
                else list(seed)
            )
            if len(given) != self.num_envs:
                raise InputError(f"{len(given)} seeds for {self.num_envs} environments; give one each")
        elif self._state is None:
            given = [None] * self.num_envs
        else:
            given = []
        super().reset(seed=given[0] if given and given[0] is not None else None)
        if given:
            drawn = [int(self.np_random.integers(2**31)) if one is None else int(one) for one in given]
            merged = drawn if self._state is None else np.where(mask, drawn, self.sim.seeds).tolist()
            self.sim = self.sim.seeded(merged)
            first = self.sim.reset()
            self._state = first if self._state is None else self._state.merged(torch.from_numpy(mask), first)
        else:
            self._state = self.sim.reset(self.state, torch.from_numpy(mask))
        self._shown = self.sim.observe(self._state)
        observation = self.observer.observation(self._state, self._shown)
        if self._window is not None:
            self.render()
        return observation, masked_info(self.observer.info(self._state), mask)

    def step(
        self, actions: Int[ndarray, " B"] | Float32[ndarray, "B A"]
    ) -> tuple[Observation, Float64[ndarray, " B"], Bool[ndarray, " B"], Bool[ndarray, " B"], dict[str, Any]]:
        """One action per environment; see the class for what happens at an episode's end."""
        waiting = self.state.done
        if self.autoreset_mode == AutoresetMode.DISABLED and bool(waiting.any()):
            raise InputError(
                f"environments {torch.nonzero(waiting).flatten().tolist()[:8]} have ended; reset them with "
                "reset(options={'reset_mask': ...}) before the next step (autoreset is disabled)"
            )
        state, step = self.sim.step(self.state, torch.as_tensor(np.asarray(actions)))
        frame = step.frame
        assert frame is not None
        self.step_state, self.step_frame, self.acted_on = state, frame, self._shown
        terminated, truncated = step.terminated & ~waiting, step.truncated & ~waiting
        ended, stepped = (terminated | truncated).cpu().numpy(), ~waiting.cpu().numpy()
        everywhere = np.ones(self.num_envs, dtype=bool)
        metrics = self.observer.metrics(step)
        won = {"is_success": metrics["success"] > 0}
        infos: dict[str, Any]
        if self.autoreset_mode == AutoresetMode.SAME_STEP and ended.any():
            last, last_info = self.observer.observation(state, frame), self.observer.info(state)
            final = np.full(self.num_envs, None, dtype=object)
            for index in np.flatnonzero(ended):
                final[index] = row_of(last, int(index))
            state = self.sim.reset(state, step.done)
            frame = choose_frame(step.done, self.sim.observe(state, step.done), frame)
            infos = masked_info(self.observer.info(state), everywhere) | masked_info(metrics, ~ended)
            infos |= {"final_obs": final, "_final_obs": ended.copy()}
            infos |= {"final_info": masked_info(last_info | metrics | won, ended), "_final_info": ended.copy()}
        else:
            if not stepped.all():  # NEXT_STEP: these rows are reset instead of stepped
                state = self.sim.reset(state, waiting)
                frame = choose_frame(waiting, self.sim.observe(state, waiting), frame)
            infos = masked_info(self.observer.info(state), everywhere) | masked_info(metrics, stepped)
            infos |= masked_info(won, ended)
        self._state, self._shown = state, frame
        if self._window is not None:
            self.render()
        return (
            self.observer.observation(state, frame),
            step.reward.cpu().numpy().astype(np.float64),
            terminated.cpu().numpy(),
            truncated.cpu().numpy(),
            infos,
        )

    def render(self) -> tuple[ndarray, ...] | None:
        """Each agent's view, (render_size, render_size, 3) uint8; None without a render mode, and in a window."""
        if self.render_mode is None:
            return None
        pictures = self.sim.observe(self.state, sensors=self._camera).rgb.cpu().numpy()
        if self._window is None:
            return tuple(pictures)
        self._window.show(tiled(pictures))
        return None

    def close_extras(self, **options: Any) -> None:
        """Shuts the window, if there is one."""
        if self._window is not None:
            self._window.close()
