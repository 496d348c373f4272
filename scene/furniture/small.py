"""Small things that rest on or in bigger ones."""

import numpy as np

from scene.furniture.parts import Color, Parts, tone
from scene.palette import METAL

Size = tuple[float, float, float]


def mug(p: Parts, size: Size, color: Color) -> None:
    """An open cylinder with a handle."""
    x, y, z = size
    p.tube((0, 0), (0, z), (0.46, 0.5), color, sides=12, squash=(x, 0.8 * y), lid=False)
    p.box((-0.06 * x, 0.38 * y, 0.25 * z), (0.06 * x, 0.6 * y, 0.38 * z), color)
    p.box((-0.06 * x, 0.38 * y, 0.65 * z), (0.06 * x, 0.6 * y, 0.78 * z), color)
    p.box((-0.06 * x, 0.55 * y, 0.25 * z), (0.06 * x, 0.64 * y, 0.78 * z), color)


def book(p: Parts, size: Size, color: Color) -> None:
    """Two covers and a spine around paper."""
    x, y, z = (0.5 * s for s in size)
    p.box((-x, -y, 0), (x, y, 0.36 * z), color)
    p.box((-x, -y, 1.64 * z), (x, y, 2 * z), color)
    p.box((-x, -y, 0), (-0.92 * x, y, 2 * z), tone(color, 0.8))
    p.box((-0.92 * x, -0.95 * y, 0.36 * z), (0.95 * x, 0.95 * y, 1.64 * z), (232, 226, 210))


def bowl(p: Parts, size: Size, color: Color) -> None:
    """A shallow open cone on a foot."""
    x, y, z = size
    p.tube((0, 0), (0, 0.12 * z), (0.24, 0.24), tone(color, 0.7), sides=12, squash=(x, y))
    p.tube((0, 0), (0.1 * z, z), (0.26, 0.5), color, sides=16, squash=(x, y), lid=False)


def bottle(p: Parts, size: Size, color: Color) -> None:
    """A body, shoulders, a neck and a cap."""
    x, y, z = size
    p.tube((0, 0), (0, 0.6 * z), (0.5, 0.5), color, sides=12, squash=(x, y))
    p.tube((0, 0), (0.6 * z, 0.78 * z), (0.5, 0.2), tone(color, 0.9), sides=12, squash=(x, y))
    p.tube((0, 0), (0.78 * z, 0.93 * z), (0.2, 0.2), tone(color, 0.9), sides=8, squash=(x, y))
    p.tube((0, 0), (0.93 * z, z), (0.24, 0.24), tone(color, 0.5), sides=8, squash=(x, y))


def can(p: Parts, size: Size, color: Color) -> None:
    """A cylinder with a rim: tins, rolls, candles."""
    x, y, z = size
    p.tube((0, 0), (0, z), (0.48, 0.48), color, sides=14, squash=(x, y))
    p.tube((0, 0), (0.92 * z, 0.98 * z), (0.5, 0.5), tone(color, 0.8), sides=14, squash=(x, y))


def vase(p: Parts, size: Size, color: Color) -> None:
    """A belly that narrows to a flared neck."""
    x, y, z = size
    steps = ((0.0, 0.28), (0.35, 0.5), (0.7, 0.26), (0.82, 0.2), (1.0, 0.36))
    for (low, a), (high, b) in zip(steps[:-1], steps[1:], strict=True):
        p.tube((0, 0), (low * z, high * z), (a, b), tone(color, 0.85 + 0.25 * low), sides=12, squash=(x, y))


def box(p: Parts, size: Size, color: Color) -> None:
    """An open container with thick walls."""
    x, y, z = size
    hx, hy, wall = 0.5 * x, 0.5 * y, 0.05 * min(x, y)
    p.box((-hx, -hy, 0), (hx, hy, 0.08 * z), tone(color, 0.6))
    for side in (-1, 1):
        low, high = sorted((side * hx, side * (hx - wall)))
        p.box((low, -hy, 0), (high, hy, z), color)
        low, high = sorted((side * hy, side * (hy - wall)))
        p.box((-hx + wall, low, 0), (hx - wall, high, z), tone(color, 0.9))


def ball(p: Parts, size: Size, color: Color) -> None:
    """A sphere with a pale belt."""
    x, y, z = (0.5 * s for s in size)
    p.ball((0, 0, z), (x, y, z), color, sides=12, rings=7)
    p.tube((0, 0), (0.9 * z, 1.1 * z), (1.0, 1.0), tone(color, 1.5), sides=12, squash=(x, y))


def apple(p: Parts, size: Size, color: Color) -> None:
    """A round fruit with a stalk."""
    x, y, z = size
    p.ball((0, 0, 0.43 * z), (0.5 * x, 0.5 * y, 0.43 * z), color, sides=10, rings=5)
    p.tube((0, 0), (0.8 * z, z), (0.01, 0.012), (86, 62, 40), sides=5)


def clock(p: Parts, size: Size, color: Color) -> None:
    """A table clock: a square case with a white face and hands."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    p.cushion((-hx, -hy, 0.06 * z), (0.8 * hx, hy, z), color, 0.015)
    p.box((0.75 * hx, -0.75 * hy, 0.2 * z), (0.9 * hx, 0.75 * hy, 0.86 * z), (244, 242, 236))
    p.box((0.9 * hx, -0.04 * y, 0.5 * z), (hx, 0.04 * y, 0.8 * z), (30, 30, 34))
    p.box((0.9 * hx, -0.04 * y, 0.48 * z), (hx, 0.28 * y, 0.56 * z), (30, 30, 34))
    for side in (-1, 1):
        p.box((-0.5 * hx, side * 0.6 * hy - 0.05 * y, 0), (0.5 * hx, side * 0.6 * hy + 0.05 * y, 0.08 * z), METAL)


def basket(p: Parts, size: Size, color: Color) -> None:
    """A round bin, wider at the top."""
    x, y, z = size
    p.tube((0, 0), (0, z), (0.38, 0.48), color, sides=14, squash=(x, y), lid=False)
    p.tube((0, 0), (0.88 * z, 0.95 * z), (0.5, 0.5), tone(color, 0.7), sides=14, squash=(x, y), lid=False)


def tray(p: Parts, size: Size, color: Color) -> None:
    """Any low flat thing: a slab with a raised rim."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    p.box((-hx, -hy, 0), (hx, hy, 0.5 * z), color)
    for side in (-1, 1):
        low, high = sorted((side * hy, side * 0.9 * hy))
        p.box((-hx, low, 0.5 * z), (hx, high, z), tone(color, 0.85))
        low, high = sorted((side * hx, side * 0.9 * hx))
        p.box((low, -0.9 * hy, 0.5 * z), (high, 0.9 * hy, z), tone(color, 0.85))


def plain(p: Parts, size: Size, color: Color) -> None:
    """A block with cut edges, for things without a shape of their own here."""
    half = 0.5 * np.asarray(size)
    p.cushion((-half[0], -half[1], 0), (half[0], half[1], size[2]), color, 0.12 * float(min(size)))
