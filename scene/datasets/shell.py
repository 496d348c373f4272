"""Walls, floors and ceilings: everything of a home's mesh that is no object (instance -1)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Float64, Int32
from numpy import ndarray

from core.conventions import NO_INSTANCE
from core.errors import InputError
from scene.geometry import boxes_mesh
from scene.palette import RGB
from scene.types import SceneMesh

Opening = tuple[float, float, float, float]
"""A hole in a wall: from and to along the wall, from and to in height above the floor, metres."""


def wall_boxes(
    start: Float[ndarray, "2"],
    end: Float[ndarray, "2"],
    height_m: float,
    thickness: tuple[float, float],
    openings: Sequence[Opening] = (),
    base_z: float = 0.0,
) -> Float64[ndarray, "K 7"]:
    """A straight wall as boxes that leave its openings free.

    Args:
        start, end: the wall's line on the floor; openings are measured from `start`.
        thickness: how far the wall reaches to the left and to the right of the line from start to end, metres.
        base_z: height of the floor.

    Raises:
        InputError: start and end coincide.
    """
    start, end = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    length = float(np.linalg.norm(end - start))
    if length < 1e-6:
        raise InputError(f"a wall from {start.tolist()} to {end.tolist()} has no length")
    along = (end - start) / length
    left = np.array([-along[1], along[0]])
    cuts = sorted({0.0, length, *(min(max(s, 0.0), length) for o in openings for s in o[:2])})
    pieces: list[tuple[float, float, float, float]] = []
    for low, high in zip(cuts[:-1], cuts[1:], strict=True):
        if high - low < 1e-6:
            continue
        middle = 0.5 * (low + high)
        solid = [(0.0, height_m)]
        for s0, s1, z0, z1 in openings:
            if s0 < middle < s1:
                solid = [
                    part for a, b in solid for part in ((a, min(b, z0)), (max(a, z1), b)) if part[1] - part[0] > 1e-6
                ]
        pieces += [(low, high, a, b) for a, b in solid]
    if not pieces:
        return np.zeros((0, 7))
    cut = np.array(pieces)
    side = 0.5 * (thickness[0] - thickness[1])
    center = start + 0.5 * (cut[:, :1] + cut[:, 1:2]) * along + side * left
    return np.column_stack(
        [
            center,
            base_z + 0.5 * (cut[:, 2] + cut[:, 3]),
            cut[:, 1] - cut[:, 0],
            np.full(len(cut), sum(thickness)),
            cut[:, 3] - cut[:, 2],
            np.full(len(cut), np.arctan2(along[1], along[0])),
        ]
    )


def triangulate(polygon: Float[ndarray, "K 2"]) -> Int32[ndarray, "F 3"]:
    """Triangles of a simple polygon, convex or not, counter-clockwise, by cutting off ears.

    Raises:
        InputError: fewer than three corners, or edges that cross.
    """
    points = np.asarray(polygon, dtype=np.float64)
    count = len(points)
    if count < 3:
        raise InputError(f"a polygon has {count} corners, expected at least 3")
    area = 0.5 * float(np.sum(points[:, 0] * np.roll(points[:, 1], -1) - points[:, 1] * np.roll(points[:, 0], -1)))
    ring = list(range(count)) if area > 0 else list(range(count))[::-1]

    def turn(a: int, b: int, c: int) -> float:
        u, v = points[b] - points[a], points[c] - points[b]
        return float(u[0] * v[1] - u[1] * v[0])

    def inside(p: int, a: int, b: int, c: int) -> bool:
        return turn(a, b, p) > 1e-12 and turn(b, c, p) > 1e-12 and turn(c, a, p) > 1e-12

    crossed = InputError(f"a room's polygon crosses itself: {points.round(3).tolist()}")
    for a in range(count):
        for c in range(a + 2, count - (a == 0)):  # edges that share no corner
            b, d = (a + 1) % count, (c + 1) % count
            if turn(a, b, c) * turn(a, b, d) < -1e-12 and turn(c, d, a) * turn(c, d, b) < -1e-12:
                raise crossed

    faces: list[tuple[int, int, int]] = []
    while len(ring) > 3:
        size = len(ring)
        for k in range(size):
            a, b, c = ring[k - 1], ring[k], ring[(k + 1) % size]
            bend = turn(a, b, c)
            if abs(bend) <= 1e-12:  # a corner on a straight edge
                ring.pop(k)
                break
            if bend > 0 and not any(inside(p, a, b, c) for p in ring if p not in (a, b, c)):
                faces.append((a, b, c))
                ring.pop(k)
                break
        else:
            raise crossed
    if abs(turn(*ring)) > 1e-12:
        faces.append((ring[0], ring[1], ring[2]))
    return np.array(faces, dtype=np.int32).reshape(-1, 3)


@dataclass
class MeshParts:
    """Collects triangles of a home and joins them into one SceneMesh."""

    _vertices: list[ndarray] = field(default_factory=list)
    _faces: list[ndarray] = field(default_factory=list)
    _colors: list[ndarray] = field(default_factory=list)
    _instance: list[ndarray] = field(default_factory=list)
    _count: int = 0

    def add(
        self,
        vertices: Float[ndarray, "V 3"],
        faces: Int32[ndarray, "F 3"],
        colors: Float[ndarray, "F 3"] | RGB,
        instance: int = NO_INSTANCE,
    ) -> None:
        """Triangles in one colour, or one colour per face, of one object or of none."""
        self._vertices.append(np.asarray(vertices, dtype=np.float32))
        self._faces.append(np.asarray(faces, dtype=np.int32) + self._count)
        self._colors.append(np.broadcast_to(np.asarray(colors, dtype=np.uint8), (len(faces), 3)))
        self._instance.append(np.full(len(faces), instance, dtype=np.int32))
        self._count += len(vertices)

    def boxes(self, boxes: Float[ndarray, "K 7"], color: RGB) -> None:
        """Plain boxes in one colour."""
        if len(boxes):
            self.add(*boxes_mesh(boxes), color)

    def floor(
        self,
        low: Float[ndarray, "2"],
        high: Float[ndarray, "2"],
        tile: tuple[float, float],
        color: RGB,
        rng: np.random.Generator,
        z: float = 0.0,
        spread: float = 0.05,
    ) -> None:
        """A rectangle of planks or tiles, each a little lighter or darker."""
        nx, ny = (max(1, round(float(high[k] - low[k]) / tile[k])) for k in range(2))
        x, y = np.linspace(low[0], high[0], nx + 1), np.linspace(low[1], high[1], ny + 1)
        vertices = np.stack([*np.meshgrid(x, y, indexing="ij"), np.full((nx + 1, ny + 1), z)], axis=-1).reshape(-1, 3)
        i, j = (k.reshape(-1) for k in np.meshgrid(np.arange(nx), np.arange(ny), indexing="ij"))
        a = i * (ny + 1) + j
        b, c, d = a + ny + 1, a + ny + 2, a + 1
        faces = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
        shade = np.tile(rng.uniform(1 - spread, 1 + spread, nx * ny), 2)[:, None]
        self.add(vertices, faces, (np.asarray(color) * shade).clip(0, 255))

    def polygon(self, polygon: Float[ndarray, "K 2"], z: float, color: RGB, up: bool = True) -> None:
        """A flat polygon seen from above (`up`) or from below."""
        faces = triangulate(polygon)
        vertices = np.column_stack([polygon, np.full(len(polygon), z)])
        self.add(vertices, faces if up else faces[:, ::-1], color)

    def mesh(self) -> SceneMesh:
        """Everything collected so far."""
        return SceneMesh(
            np.concatenate(self._vertices),
            np.concatenate(self._faces),
            np.concatenate(self._colors),
            np.concatenate(self._instance),
        )
