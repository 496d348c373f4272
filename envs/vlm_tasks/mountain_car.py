"""MountainCarContinuous as VLM-RM has it: drawn with a landscape, and reaching the flag does not end the episode.

Against Gymnasium's MountainCarContinuous-v0: no goal ends the episode; a car that has reached the flag stays there
until the reset. The landscape and the car are drawn here; the paper's pictures are not used.
"""

import math
from typing import Any

import numpy as np
from gymnasium.envs.classic_control.continuous_mountain_car import Continuous_MountainCarEnv
from jaxtyping import Float, UInt8
from numpy import ndarray

from envs.vlm_tasks.picture import check_render, import_pygame, square

FLAG, LEFT_END = 0.45, -1.2  # positions on the track
EFFORT = 0.1  # reward lost per squared action, as in MountainCarContinuous-v0
WIDTH, HEIGHT, FINE = 600, 400, 2  # pixels of the drawing; drawn FINE times larger and averaged
SQUAT = 0.77  # the track is drawn lower than it is long, so that car and flag fit above it
SKY_TOP, SKY_LOW = (96, 156, 222), (216, 234, 248)
GRASS, DRY, ROCK, FAR = (92, 148, 70), (112, 128, 78), (126, 108, 88), (158, 178, 198)
BODY, GLASS, TYRE, HUB = (206, 44, 40), (190, 222, 240), (38, 38, 42), (176, 176, 182)
CAR = 1.4  # size of the car; its points are given for 1
YELLOW, POLE = (250, 208, 22), (60, 50, 40)


def truth(state: Float[ndarray, "... 2"]) -> Float[ndarray, "..."]:
    """Progress of states (position, speed): the share of the track from its left end to the flag."""
    position = np.asarray(state, dtype=np.float64)[..., 0]
    return np.clip((position - LEFT_END) / (FLAG - LEFT_END), 0, 1)


class VLMMountainCar(Continuous_MountainCarEnv):
    """The edited MountainCarContinuous, one action: force in [-1, 1].

    The task's own reward is 1 in each step at the flag and 0 in others, less 0.1 per squared action; `info` has
    `progress` (see `truth`) and `success`, whether the car is at the flag now.

    Args:
        render_mode: None, or "rgb_array".
        render_size: pixels of the square picture.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012  Gymnasium's own form

    def __init__(self, render_mode: str | None = None, render_size: int = 224) -> None:
        check_render(render_mode, render_size)
        super().__init__(render_mode=render_mode)
        self.render_size = render_size
        self.reached = False
        self._landscape: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ndarray, dict[str, Any]]:
        """In the valley, at rest; `options` may hold other bounds `low` and `high` of the position."""
        self.reached = False
        observation, _ = super().reset(seed=seed, options=options)
        return observation, self._info()

    def step(self, action: ndarray) -> tuple[ndarray, float, bool, bool, dict[str, Any]]:
        """One push; never ends by itself."""
        super().step(action)
        self.reached = self.reached or bool(self.state[0] >= FLAG)
        if self.reached:
            self.state = np.array([FLAG, 0.0], dtype=np.float32)
        force = float(np.clip(action[0], self.min_action, self.max_action))
        return self.state.copy(), float(self.reached) - EFFORT * force * force, False, False, self._info()

    def render(self) -> UInt8[ndarray, "H W 3"] | None:  # type: ignore[override]
        """A red car on a mountain with a yellow flag, squashed to a square."""
        if self.render_mode is None:
            return None
        pygame = import_pygame()
        if self._landscape is None:
            self._landscape = self._draw_landscape(pygame)
        surface = self._landscape.copy()
        self._draw_car(pygame, surface)
        return square(surface, self.render_size)

    def _info(self) -> dict[str, Any]:
        progress = 1.0 if self.reached else float(truth(self.state))  # 0.45 is a little less in float32
        return {"progress": progress, "success": self.reached}

    def _place(self, position: float | ndarray) -> tuple[Any, Any]:
        """Pixel of a point of the track on the fine drawing."""
        scale = FINE * WIDTH / (self.max_position - self.min_position)
        return (position - self.min_position) * scale, FINE * HEIGHT - self._height(position) * SQUAT * scale

    def _draw_landscape(self, pygame: Any) -> Any:
        width, height = FINE * WIDTH, FINE * HEIGHT
        surface = pygame.Surface((width, height), depth=32)
        for row in range(height):
            share = row / height
            shade = [round(a + (b - a) * share) for a, b in zip(SKY_TOP, SKY_LOW)]
            pygame.draw.line(surface, shade, (0, row), (width, row))
        far = [(x, height * (0.55 - 0.12 * math.sin(x / width * 9) - 0.05 * math.sin(x / width * 23)))
               for x in range(0, width + 1, 8)]  # fmt: skip
        pygame.draw.polygon(surface, FAR, [(0, height), *far, (width, height)])
        x, y = self._place(np.linspace(self.min_position, self.max_position, 200))
        track = list(zip(x.tolist(), y.tolist()))
        pygame.draw.polygon(surface, ROCK, [(0, height), *track, (width, height)])
        for shift, color in ((0, GRASS), (26, DRY)):
            strip = [(a, b + shift) for a, b in track] + [(a, b + shift + 26) for a, b in reversed(track)]
            pygame.draw.polygon(surface, color, strip)
        x, y = self._place(FLAG)
        pygame.draw.line(surface, POLE, (x, y), (x, y - 130), 7)
        pygame.draw.polygon(surface, YELLOW, [(x, y - 130), (x, y - 76), (x + 84, y - 103)])
        return surface

    def _draw_car(self, pygame: Any, surface: Any) -> None:
        x, y = self._place(float(self.state[0]))
        before, after = (self._place(float(self.state[0]) + step) for step in (-0.01, 0.01))
        slope = math.atan2(after[1] - before[1], after[0] - before[0])

        def turned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
            cos, sin = math.cos(slope), math.sin(slope)
            return [(x + CAR * (a * cos - b * sin), y + CAR * (a * sin + b * cos)) for a, b in points]

        pygame.draw.polygon(surface, BODY, turned([(-54, -14), (-54, -38), (-34, -42), (-22, -64), (20, -64), (34, -42),
                                                   (54, -36), (54, -14)]))  # fmt: skip
        pygame.draw.polygon(surface, GLASS, turned([(-25, -43), (-17, -58), (-3, -58), (-3, -43)]))
        pygame.draw.polygon(surface, GLASS, turned([(3, -43), (3, -58), (16, -58), (25, -43)]))
        for wheel in turned([(-30, -14), (30, -14)]):
            pygame.draw.circle(surface, TYRE, wheel, 15 * CAR)
            pygame.draw.circle(surface, HUB, wheel, 6 * CAR)
