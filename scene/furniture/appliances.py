"""Lamps, screens, plants and what stands in a bathroom."""

import numpy as np

from scene.furniture.parts import Color, Parts, tone
from scene.palette import DARK_WOOD, METAL

Size = tuple[float, float, float]


def floor_lamp(p: Parts, size: Size, color: Color) -> None:
    """A coloured shade on a thin pole with a round foot."""
    x, y, z = size
    foot = tone(color, 0.55)
    p.tube((0, 0), (0, 0.035), (0.36, 0.34), foot, sides=14, squash=(x, y))
    p.tube((0, 0), (0.035, 0.75 * z), (0.018, 0.014), foot, sides=6)
    p.tube((0, 0), (0.7 * z, z), (0.5, 0.32), color, sides=16, squash=(x, y))
    p.tube((0, 0), (0.69 * z, 0.7 * z), (0.46, 0.46), (250, 240, 200), sides=12, squash=(x, y))


def table_lamp(p: Parts, size: Size, color: Color) -> None:
    """A round foot under a cone shade."""
    x, y, z = size
    p.ball((0, 0, 0.2 * z), (0.26 * x, 0.26 * y, 0.2 * z), tone(color, 0.6), sides=8, rings=4)
    p.tube((0, 0), (0.35 * z, 0.55 * z), (0.02, 0.02), METAL, sides=6)
    p.tube((0, 0), (0.5 * z, z), (0.5, 0.28), color, sides=12, squash=(x, y))


def ceiling_lamp(p: Parts, size: Size, color: Color) -> None:
    """A cord from the ceiling and a wide shade."""
    x, y, z = size
    p.tube((0, 0), (z - 0.03, z), (0.12, 0.12), METAL, sides=8, squash=(x, y))
    p.tube((0, 0), (0.4 * z, z - 0.03), (0.01, 0.01), (60, 60, 64), sides=4)
    p.tube((0, 0), (0.02, 0.45 * z), (0.5, 0.16), color, sides=14, squash=(x, y))
    p.ball((0, 0, 0.1 * z), (0.16 * x, 0.16 * y, 0.1 * z), (252, 246, 220), sides=8, rings=3)


def plant(p: Parts, size: Size, color: Color) -> None:
    """A clay pot and a fan of leaves; the colour is that of the leaves."""
    x, y, z = size
    pot = 0.3 * z
    p.tube((0, 0), (0, pot), (0.2, 0.3), (176, 104, 74), sides=12, squash=(x, y))
    p.tube((0, 0), (pot - 0.02, pot + 0.006), (0.26, 0.26), (70, 50, 40), sides=10, squash=(x, y))
    count = 16
    for k in range(count):
        angle = 2.4 * k + p.rng.uniform(-0.2, 0.2)
        reach, height = 0.5 * (0.45 + 0.55 * (k % 4) / 3), 0.98 - 0.4 * (k % 4) / 3
        tip = (reach * x * np.cos(angle), reach * y * np.sin(angle), height * z)
        base = (0.04 * x * np.cos(angle), 0.04 * y * np.sin(angle), pot - 0.01)
        p.leaf(base, tip, 0.12 * max(x, y), tone(color, 0.8 + 0.35 * (k % 3) / 2))
    p.leaf((0, 0, pot), (0.02, 0.01, z), 0.1 * max(x, y), color)


def tv(p: Parts, size: Size, color: Color) -> None:
    """A thin screen on a foot (or a bare panel when it is no deeper than 0.1 m)."""
    x, y, z = size
    hy = 0.5 * y
    panel, low = (x, 0.0) if x < 0.1 else (0.06, 0.1 * z)
    p.box((-0.5 * panel, -hy, low), (0.3 * panel, hy, z), color)
    p.box((0.3 * panel, -hy + 0.02, low + 0.02), (0.5 * panel, hy - 0.02, z - 0.02), (52, 62, 78))
    if low:
        p.box((-0.5 * x, -0.4 * hy, 0), (0.5 * x, 0.4 * hy, 0.02), tone(color, 0.9))
        p.box((-0.02, -0.08, 0.02), (0.02, 0.08, low), tone(color, 0.9))


def laptop(p: Parts, size: Size, color: Color) -> None:
    """A keyboard half and a leaning screen."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    p.box((-hx + 0.04, -hy, 0), (hx, hy, 0.018), color)
    p.box((-hx + 0.08, -hy + 0.03, 0.018), (hx - 0.1 * x, hy - 0.03, 0.021), (48, 48, 52))
    lean = np.array([[-hx + 0.05, 0.018], [-hx + 0.065, 0.018], [-hx + 0.015, z], [-hx, z]])
    for inset, shift, shade in ((0.0, 0.0, color), (0.015, 0.004, np.array((70, 96, 128)))):
        ring = [(u + shift, s * (hy - inset), v) for s in (-1, 1) for u, v in lean]
        faces = np.array(
            [[0, 1, 2], [0, 2, 3], [4, 6, 5], [4, 7, 6], [0, 4, 5], [0, 5, 1], [1, 5, 6], [1, 6, 2],
             [2, 6, 7], [2, 7, 3], [3, 7, 4], [3, 4, 0]], dtype=np.int32,
        )  # fmt: skip
        vertices = np.array(ring)
        if inset:  # the lit part of the screen stays inside its frame
            vertices[:, 2] = 0.03 + (vertices[:, 2] - 0.018) * (z - 0.05) / (z - 0.018)
        p.add(vertices, faces, shade)


def bathtub(p: Parts, size: Size, color: Color) -> None:
    """A rim around a deep basin."""
    x, y, z = size
    hx, hy, wall = 0.5 * x, 0.5 * y, 0.09
    for side in (-1, 1):
        low, high = sorted((side * hy, side * (hy - wall)))
        p.cushion((-hx, low, 0), (hx, high, z), color, 0.03)
        low, high = sorted((side * hx, side * (hx - wall)))
        p.cushion((low, -hy + 0.01, 0), (high, hy - 0.01, z - 0.005), color, 0.03)
    p.box((-hx + 0.05, -hy + 0.05, 0.02), (hx - 0.05, hy - 0.05, 0.25 * z), tone(color, 0.85))
    p.box((-hx + wall, -hy + wall, 0.25 * z), (hx - wall, hy - wall, 0.55 * z), (150, 200, 214))
    p.tube((-hx + 0.12, hy - 0.04), (z - 0.06, z - 0.001), (0.02, 0.02), METAL, sides=6)


def toilet(p: Parts, size: Size, color: Color) -> None:
    """A cistern behind an oval bowl."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    p.cushion((-hx, -hy, 0.45 * z), (-hx + 0.28 * x, hy, z), color, 0.03)
    p.tube((0.1 * x, 0), (0, 0.42 * z), (0.22, 0.4), tone(color, 0.95), sides=12, squash=(x, y))
    p.tube((0.12 * x, 0), (0.42 * z, 0.5 * z), (0.38, 0.38), color, sides=14, squash=(x, 1.2 * y))
    p.tube((0.12 * x, 0), (0.5 * z, 0.505 * z), (0.24, 0.24), tone(color, 0.55), sides=12, squash=(x, 1.1 * y))
    p.box((-hx + 0.05, -0.25 * y, 0), (0.0, 0.25 * y, 0.45 * z), tone(color, 0.92))


def sink(p: Parts, size: Size, color: Color) -> None:
    """A basin: on a pedestal when taller than 0.4 m, a bowl to set into a counter otherwise."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    if z <= 0.4:
        p.box((-0.9 * hx, -0.9 * hy, 0), (0.9 * hx, 0.9 * hy, 0.8 * z), tone(color, 0.8))
        p.cushion((-hx, -hy, 0.8 * z), (hx, hy, z - 0.002), color, 0.008)
        p.tube((0, 0), (z - 0.002, z), (0.4, 0.4), tone(color, 0.55), sides=14, squash=(x, y))
        return
    p.tube((-0.1 * x, 0), (0, 0.75 * z), (0.24, 0.18), tone(color, 0.92), sides=10, squash=(x, y))
    p.tube((0, 0), (0.72 * z, 0.86 * z), (0.24, 0.5), color, sides=14, squash=(x, y))
    p.box((-hx, -hy, 0.84 * z), (-hx + 0.3 * x, hy, 0.87 * z), color)
    p.tube((0.06 * x, 0), (0.86 * z, 0.865 * z), (0.36, 0.36), tone(color, 0.6), sides=12, squash=(x, y))
    p.tube((-hx + 0.07, 0), (0.87 * z, z), (0.015, 0.015), METAL, sides=6)
    p.box((-hx + 0.06, -0.015, z - 0.03), (-hx + 0.2, 0.015, z - 0.005), METAL)


def stove(p: Parts, size: Size, color: Color) -> None:
    """A cooker: an oven door under four plates."""
    x, y, z = size
    hx, hy = 0.5 * x, 0.5 * y
    p.box((-hx, -hy, 0), (hx - 0.03, hy, z - 0.02), color)
    p.box((hx - 0.03, -hy + 0.05, 0.15 * z), (hx - 0.015, hy - 0.05, 0.7 * z), (44, 46, 52))
    p.box((hx - 0.015, -hy + 0.08, 0.72 * z), (hx, hy - 0.08, 0.75 * z), METAL)
    p.box((-hx, -hy, z - 0.02), (hx - 0.02, hy, z - 0.01), (60, 60, 64))
    for sx in (-1, 1):
        for sy in (-1, 1):
            p.tube((sx * 0.45 * hx, sy * 0.5 * hy), (z - 0.01, z), (0.09, 0.09), DARK_WOOD, sides=10)
