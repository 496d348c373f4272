"""A window on the screen for render_mode="human", by pygame."""

import os
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from core.errors import InputError, MissingLibraryError

UNSEEN = ("dummy", "offscreen")  # SDL's drivers that draw into memory; it takes them by itself where nothing else works


class Window:
    """Shows pictures one after the other, no faster than `fps`; opens with the first one."""

    def __init__(self, title: str, fps: float) -> None:
        """Raises MissingLibraryError where pygame is not installed."""
        try:
            import pygame
        except ImportError as error:
            raise MissingLibraryError(
                "render_mode='human' opens a window with pygame, which is not installed; "
                "pip install \"gymnasium[classic-control]\", or take render_mode='rgb_array'"
            ) from error
        self._pygame, self.title, self.fps = pygame, title, fps
        self._screen: Any = None

    def show(self, picture: UInt8[ndarray, "H W 3"]) -> None:
        """Draws a picture, waiting for its turn. Raises InputError where there is no screen to open a window on."""
        pygame = self._pygame
        size = (picture.shape[1], picture.shape[0])
        if self._screen is None or self._screen.get_size() != size:
            try:
                pygame.display.init()
                self._screen = pygame.display.set_mode(size)
            except pygame.error as error:
                raise InputError(
                    f"no window can be opened here ({error}); take render_mode='rgb_array', or set "
                    "SDL_VIDEODRIVER=dummy to draw into nothing"
                ) from error
            driver = pygame.display.get_driver()
            if driver in UNSEEN and not os.environ.get("SDL_VIDEODRIVER"):
                self.close()
                raise InputError(
                    f"there is no screen here: a window would be drawn into nothing (SDL's driver {driver!r}); take "
                    f"render_mode='rgb_array', or set SDL_VIDEODRIVER={driver} if that is what you want"
                )
            pygame.display.set_caption(self.title)
            self._clock = pygame.time.Clock()
        self._screen.blit(pygame.surfarray.make_surface(np.ascontiguousarray(picture.swapaxes(0, 1))), (0, 0))
        pygame.event.pump()
        pygame.display.flip()
        self._clock.tick(self.fps)

    def close(self) -> None:
        """Shuts the window; may be called again."""
        if self._screen is not None:
            self._pygame.display.quit()
            self._screen = None


def tiled(pictures: UInt8[ndarray, "B H W 3"]) -> UInt8[ndarray, "R C 3"]:
    """Pictures side by side in a nearly square sheet, row by row; black where there are none left."""
    count, height, width = pictures.shape[:3]
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, height, width, 3), np.uint8)
    sheet[:count] = pictures
    return sheet.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
