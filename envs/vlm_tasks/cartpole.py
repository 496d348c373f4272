"""CartPole as VLM-RM has it: the pole may fall and swing round, the episode goes on.

Against Gymnasium's CartPole-v1: no failure ends the episode, the angle is wrapped to [-pi, pi) and the cart stops at
the rail's end. Two choices are ours, the paper is silent: speed into the rail's end is lost, and the state is
integrated by the semi-implicit Euler rule, because the explicit one feeds energy to a pole that swings freely. The
drawing is Gymnasium's, of a wider world than the rail, so that the pole stays in the picture wherever it points.
"""

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from jaxtyping import Float, UInt8
from numpy import ndarray

from envs.vlm_tasks.picture import check_render, import_pygame, square

UPRIGHT_RAD = 12 * math.pi / 180  # as far as CartPole-v1 lets the pole lean
RAIL_M, DRAWN_M = 2.4, 3.6  # from the middle: where the cart stops, and what the picture shows
ANGLE = 2  # place of the pole's angle in the state


def truth(state: Float[ndarray, "... 4"]) -> Float[ndarray, "..."]:
    """Progress of states (cart position m, speed, pole angle rad, speed): 1 = upright, 0 = hanging straight down."""
    return (1 + np.cos(np.asarray(state, dtype=np.float64)[..., ANGLE])) / 2


class VLMCartPole(CartPoleEnv):
    """The edited CartPole, two actions: push left, push right.

    The task's own reward is 1 in each step with the pole within 12 degrees of upright and 0 in others; `info` has
    `progress` (see `truth`) and `success`, whether the pole is within 12 degrees now.

    Args:
        render_mode: None, or "rgb_array".
        render_size: pixels of the square picture.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012  Gymnasium's own form

    def __init__(self, render_mode: str | None = None, render_size: int = 224) -> None:
        check_render(render_mode, render_size)
        super().__init__(render_mode=render_mode)
        self.render_size = render_size
        self.kinematics_integrator = "semi-implicit euler"
        self.x_threshold = DRAWN_M  # sets the scale of CartPoleEnv's drawing; its failure is not heeded
        high = np.array([RAIL_M, np.inf, math.pi, np.inf], dtype=np.float32)
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ndarray, dict[str, Any]]:
        """Near upright at the middle, as in CartPole-v1; `options` may hold other bounds `low` and `high`."""
        super().reset(seed=seed, options=options)
        return self._observation(), self._info()

    def step(self, action: int) -> tuple[ndarray, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """A push of 0.02 s; never ends by itself."""
        self.steps_beyond_terminated = None  # CartPoleEnv would warn that the pole fell long ago
        super().step(action)
        assert self.state is not None
        x, x_speed, angle, angle_speed = self.state.tolist()
        if abs(x) > RAIL_M:
            x = math.copysign(RAIL_M, x)
            x_speed = 0.0 if x_speed * x > 0 else x_speed
        angle = (angle + math.pi) % (2 * math.pi) - math.pi
        self.state = np.array([x, x_speed, angle, angle_speed])
        info = self._info()
        return self._observation(), float(info["success"]), False, False, info

    def render(self) -> UInt8[ndarray, "H W 3"] | None:  # type: ignore[override]
        """Gymnasium's drawing of the present state, squashed to a square."""
        import_pygame()
        if self.render_mode is None or super().render() is None:
            return None
        return square(self.screen, self.render_size)

    def _observation(self) -> ndarray:
        return np.asarray(self.state, dtype=np.float32)

    def _info(self) -> dict[str, Any]:
        assert self.state is not None
        return {"progress": float(truth(self.state)), "success": bool(abs(self.state[ANGLE]) <= UPRIGHT_RAD)}
