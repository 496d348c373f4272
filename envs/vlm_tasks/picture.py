"""Pictures of pygame tasks as square arrays of the size that a reward model's encoder wants."""

from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from core.errors import InputError, MissingLibraryError


def import_pygame() -> ModuleType:
    """pygame, which draws the classic-control tasks. Raises MissingLibraryError where it is not installed."""
    try:
        import pygame
    except ImportError as error:
        raise MissingLibraryError('drawing this task needs pygame: pip install "gymnasium[classic-control]"') from error
    return pygame


def square(surface: Any, size: int) -> UInt8[ndarray, "H W 3"]:
    """A pygame surface as an array of (size, size, 3), aspect squashed, averaged where it shrinks.

    VLM-RM gives its encoders 600 x 400 frames squashed to a square in the same way.
    """
    pygame = import_pygame()
    scaled = surface if surface.get_size() == (size, size) else pygame.transform.smoothscale(surface, (size, size))
    return np.ascontiguousarray(pygame.surfarray.pixels3d(scaled).transpose(1, 0, 2))


def check_render(render_mode: str | None, render_size: int) -> None:
    """Raises InputError for a mode other than None and "rgb_array", or a size below 16 pixels."""
    if render_mode not in (None, "rgb_array"):
        raise InputError(f"render_mode={render_mode!r} is not known here; use 'rgb_array' or None")
    if render_size < 16:
        raise InputError(f"render_size={render_size}: give at least 16 pixels, e.g. the encoder's 224")
