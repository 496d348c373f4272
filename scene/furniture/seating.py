"""Things to sit and lie on: armchair, sofa, chair, stool, bench, bed, pillow."""

import numpy as np

from scene.furniture.parts import Color, Parts, tone
from scene.palette import DARK_WOOD, WOOD

Size = tuple[float, float, float]


def armchair(p: Parts, size: Size, color: Color) -> None:
    """A lounge chair: a high back with wings, padded arm rests on posts, tall leaning legs, open below the arms."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    arm, seat = 0.15 * y, 0.44 * z
    p.legs((hx - 0.12, hy - 0.14), 0.26 * z, 0.03, DARK_WOOD, splay=0.06)
    p.box((-hx + 0.06, -hy + arm, 0.24 * z), (hx - 0.08, hy - arm, 0.34 * z), tone(color, 0.78))
    p.cushion(
        (-hx + 0.1 * x, -hy + 0.9 * arm, 0.32 * z), (hx - 0.02, hy - 0.9 * arm, seat + 0.03), tone(color, 1.14), 0.05
    )
    p.cushion((-hx, -hy + arm, 0.26 * z), (-hx + 0.2 * x, hy - arm, z), color, 0.06)
    for side in (-1, 1):
        low, high = sorted((side * (hy - 0.6 * arm), side * (hy - 1.2 * arm)))
        p.cushion((-hx + 0.02, low, 0.6 * z), (-hx + 0.34 * x, high, 0.97 * z), tone(color, 0.92), 0.03)
        low, high = sorted((side * hy, side * (hy - arm)))
        p.cushion((-hx + 0.06, low, 0.54 * z), (hx, high, 0.63 * z), tone(color, 0.9), 0.03)
        low, high = sorted((side * (hy - 0.25 * arm), side * (hy - 0.75 * arm)))
        p.box((hx - 0.2 * x, low, 0.28 * z), (hx - 0.1 * x, high, 0.54 * z), tone(color, 0.8))
        p.box((-hx + 0.08, low, 0.28 * z), (-hx + 0.16, high, 0.54 * z), tone(color, 0.8))
    p.box((hx - 0.2 * x, -hy + 0.3 * arm, 0.26 * z), (hx - 0.1 * x, hy - 0.3 * arm, 0.32 * z), tone(color, 0.75))


def sofa(p: Parts, size: Size, color: Color) -> None:
    """A low, long seat of two or three cushions between thick closed arms."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    foot, seat, arm, cushions = 0.12 * z, 0.38 * z, 0.16, 3 if size[1] > 1.9 else 2
    p.legs((hx - 0.08, hy - 0.08), foot, 0.035, DARK_WOOD)
    p.box((-hx + 0.02, -hy + 0.02, foot), (hx - 0.04, hy - 0.02, seat), tone(color, 0.82))
    p.cushion((-hx, -hy, foot), (-hx + 0.24 * x, hy, z), color, 0.06)
    for side in (-1, 1):
        low, high = sorted((side * hy, side * (hy - arm)))
        p.cushion((-hx + 0.05, low, foot), (hx - 0.03, high, 0.66 * z), tone(color, 0.92), 0.05)
    width = (y - 2 * arm) / cushions
    for k in range(cushions):
        low = -hy + arm + k * width
        high = low + width
        p.cushion((-hx + 0.22 * x, low + 0.01, seat), (hx, high - 0.01, 0.54 * z), tone(color, 1.14), 0.04)
        p.cushion(
            (-hx + 0.2 * x, low + 0.02, 0.54 * z), (-hx + 0.38 * x, high - 0.02, 0.93 * z), tone(color, 1.08), 0.05
        )


def chair(p: Parts, size: Size, color: Color) -> None:
    """A dining chair: thin legs, a flat seat, a slatted back."""
    x, y, z = size
    hx, hy, seat = 0.5 * x, 0.5 * y, 0.5 * z
    leg = tone(color, 0.68)
    p.legs((hx - 0.035, hy - 0.035), seat, 0.026, leg, splay=0.012)
    p.cushion((-hx, -hy, seat - 0.04), (hx, hy, seat + 0.02), color, 0.02)
    for side in (-1, 1):
        low, high = sorted((side * hy, side * (hy - 0.045)))
        p.box((-hx, low, seat), (-hx + 0.04, high, z), tone(color, 0.85))
    for low, high in ((0.62, 0.72), (0.78, 1.0)):
        p.box((-hx + 0.005, -hy + 0.04, low * z), (-hx + 0.035, hy - 0.04, high * z), color)


def stool(p: Parts, size: Size, color: Color) -> None:
    """A round seat on three leaning legs."""
    x, y, z = size
    p.tube((0, 0), (z - 0.07, z), (0.48, 0.5), color, sides=14, squash=(x, y))
    for k in range(3):
        angle = 2 * np.pi * k / 3 + 0.4
        foot = (0.46 * x * np.cos(angle), 0.46 * y * np.sin(angle))
        p.tube(foot, (0, z - 0.07), (0.015, 0.022), tone(color, 0.7), sides=6, top=(0.55 * foot[0], 0.55 * foot[1]))
    p.tube((0, 0), (0.35 * z, 0.4 * z), (0.36, 0.36), tone(color, 0.8), sides=10, squash=(x, y))


def bench(p: Parts, size: Size, color: Color) -> None:
    """A long padded seat on two slab legs."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    p.cushion((-hx, -hy, 0.72 * z), (hx, hy, z), color, 0.03)
    p.box((-0.9 * hx, -0.95 * hy, 0.6 * z), (0.9 * hx, 0.95 * hy, 0.72 * z), WOOD)
    for side in (-1, 1):
        low, high = sorted((side * 0.9 * hy, side * (0.9 * hy - 0.06)))
        p.box((-0.85 * hx, low, 0), (0.85 * hx, high, 0.6 * z), WOOD)


def bed(p: Parts, size: Size, color: Color) -> None:
    """A mattress under a coloured blanket, with a low headboard; pillows lie at the back."""
    x, y, z = size
    hx, hy, top = 0.5 * x, 0.5 * y, z - 0.1
    p.legs((hx - 0.08, hy - 0.08), 0.16, 0.04, DARK_WOOD)
    p.box((-hx, -hy, 0.14), (-hx + 0.07, hy, z), tone(color, 0.62))
    p.box((-hx + 0.05, -hy + 0.01, 0.14), (hx - 0.01, hy - 0.01, 0.28), tone(color, 0.7))
    p.cushion((-hx + 0.07, -hy + 0.03, 0.26), (hx - 0.03, hy - 0.03, top - 0.02), (236, 232, 224), 0.04)
    p.cushion((-hx + 0.3 * x, -hy, 0.2), (hx, hy, top - 0.008), color, 0.05)
    p.cushion((-hx + 0.3 * x, -hy + 0.005, top - 0.06), (-hx + 0.4 * x, hy - 0.005, top), tone(color, 1.25), 0.01)


def pillow(p: Parts, size: Size, color: Color) -> None:
    """A soft flat block."""
    x, y, z = (0.5 * s for s in size)
    p.cushion((-x, -y, 0), (x, y, 2 * z), color, 0.08)
    p.cushion((-0.75 * x, -0.75 * y, 0.2 * z), (0.75 * x, 0.75 * y, 2 * z), tone(color, 1.1), 0.03)
