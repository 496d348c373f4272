"""The parts furniture is made of, collected into one small mesh.

Own frame of a piece: x forward (the way it faces), y to its left, z up, floor at z = 0, centred in x and y; metres.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Float32, Int32, UInt8
from numpy import ndarray

from scene.geometry import boxes_mesh

Point = tuple[float, float, float]
Color = Float[ndarray, "3"] | tuple[int, int, int]


@dataclass
class PartMesh:
    """Triangles of one piece of furniture in its own frame."""

    vertices: Float32[ndarray, "V 3"]
    faces: Int32[ndarray, "F 3"]
    face_colors: UInt8[ndarray, "F 3"]


def tone(color: Color, factor: float) -> Float[ndarray, "3"]:
    """The colour darkened (factor < 1) or moved towards white (factor > 1; 2 is white)."""
    rgb = np.asarray(color, dtype=np.float64)
    return rgb * factor if factor <= 1.0 else rgb + (255.0 - rgb) * (factor - 1.0)


@cache
def _unit_box() -> tuple[ndarray, ndarray]:
    vertices, faces = boxes_mesh(np.array([[0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 0.0]]))
    return vertices.astype(np.float64), faces


@cache
def _chamfer_pattern() -> tuple[ndarray, ndarray, ndarray]:
    """A box whose edges and corners are cut: corner signs (24, 3), inset mask (24, 3) and triangles (44, 3)."""
    signs: list[tuple[int, int, int]] = []
    inset: list[list[bool]] = []
    index: dict[tuple[int, int, int, int], int] = {}
    for axis in range(3):
        for x in (-1, 1):
            for y in (-1, 1):
                for z in (-1, 1):
                    index[axis, x, y, z] = len(signs)
                    signs.append((x, y, z))
                    inset.append([k != axis for k in range(3)])
    triangles: list[tuple[int, int, int]] = []

    def at(axis: int, corner: list[int]) -> int:
        return index[axis, corner[0], corner[1], corner[2]]

    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        for s in (-1, 1):  # the six faces
            ring = []
            for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                corner = [0, 0, 0]
                corner[axis], corner[u], corner[v] = s, a, b
                ring.append(at(axis, corner))
            ring = ring if s > 0 else ring[::-1]
            triangles += [(ring[0], ring[1], ring[2]), (ring[0], ring[2], ring[3])]
        for a in (-1, 1):  # the four edges along `axis`, between the faces of u and v
            for b in (-1, 1):
                low, high = [0, 0, 0], [0, 0, 0]
                for corner, s in ((low, -1), (high, 1)):
                    corner[axis], corner[u], corner[v] = s, a, b
                ring = [at(u, low), at(u, high), at(v, high), at(v, low)]
                ring = ring if a * b < 0 else ring[::-1]
                triangles += [(ring[0], ring[1], ring[2]), (ring[0], ring[2], ring[3])]
    for x in (-1, 1):
        for y in (-1, 1):
            for z in (-1, 1):
                ring = [at(axis, [x, y, z]) for axis in range(3)]
                ring = ring if x * y * z > 0 else ring[::-1]
                triangles.append((ring[0], ring[1], ring[2]))
    return np.array(signs, dtype=np.float64), np.array(inset), np.array(triangles, dtype=np.int32)


@cache
def _tube_pattern(sides: int) -> tuple[ndarray, ndarray]:
    """Unit circle (sides, 2) and triangles of a closed tube: bottom ring, top ring, two centres."""
    angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    i = np.arange(sides, dtype=np.int32)
    j = (i + 1) % sides
    bottom, top = np.full(sides, 2 * sides, np.int32), np.full(sides, 2 * sides + 1, np.int32)
    faces = np.concatenate(
        [
            np.stack([i, j, j + sides], axis=1),
            np.stack([i, j + sides, i + sides], axis=1),
            np.stack([bottom, j, i], axis=1),
            np.stack([top, i + sides, j + sides], axis=1),
        ]
    )
    return circle, faces.astype(np.int32)


@cache
def _ball_pattern(sides: int, rings: int) -> tuple[ndarray, ndarray]:
    """Unit sphere: poles and `rings` circles between them."""
    polar = np.pi * np.arange(1, rings + 1) / (rings + 1)
    angle = 2 * np.pi * np.arange(sides) / sides
    ring = np.stack(
        [
            np.sin(polar)[:, None] * np.cos(angle),
            np.sin(polar)[:, None] * np.sin(angle),
            np.broadcast_to(np.cos(polar)[:, None], (rings, sides)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    vertices = np.concatenate([ring, [[0, 0, 1], [0, 0, -1]]])
    i = np.arange(sides)
    j = (i + 1) % sides
    faces = [np.stack([np.full(sides, rings * sides), i, j], axis=1)]
    for r in range(rings - 1):
        a, b = r * sides, (r + 1) * sides
        faces += [np.stack([a + i, b + i, b + j], axis=1), np.stack([a + i, b + j, a + j], axis=1)]
    last = (rings - 1) * sides
    faces.append(np.stack([np.full(sides, rings * sides + 1), last + j, last + i], axis=1))
    return vertices, np.concatenate(faces).astype(np.int32)


class Parts:
    """Collects parts; each gets a slightly different shade of its colour, so that no surface shows a palette value."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.cast = rng.normal(0.0, 4.0, 3)  # colour cast of this one piece
        self._vertices: list[ndarray] = []
        self._faces: list[ndarray] = []
        self._colors: list[ndarray] = []
        self._count = 0

    def add(self, vertices: Float[ndarray, "V 3"], faces: Int32[ndarray, "F 3"], color: Color) -> None:
        """Any triangles, in one colour."""
        rgb = np.asarray(color, dtype=np.float64) * self.rng.uniform(0.93, 1.05) + self.cast
        self._vertices.append(vertices)
        self._faces.append(faces + self._count)
        self._colors.append(np.broadcast_to(rgb.clip(4, 252), (len(faces), 3)))
        self._count += len(vertices)

    def box(self, low: Point, high: Point, color: Color) -> None:
        """A plain box between two corners."""
        vertices, faces = _unit_box()
        corner = np.asarray(low)
        self.add(vertices * (np.asarray(high) - corner) + corner, faces, color)

    def cushion(self, low: Point, high: Point, color: Color, cut: float = 0.04) -> None:
        """A box with its edges cut by `cut` metres (at most 0.3 of the thinnest side)."""
        signs, inset, faces = _chamfer_pattern()
        low_, high_ = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
        half = 0.5 * (high_ - low_)
        cut = min(cut, 0.6 * float(half.min()))
        self.add(0.5 * (low_ + high_) + signs * (half - cut * inset), faces, color)

    def tube(
        self,
        center: tuple[float, float],
        z: tuple[float, float],
        radius: tuple[float, float],
        color: Color,
        *,
        sides: int = 10,
        squash: tuple[float, float] = (1.0, 1.0),
        top: tuple[float, float] | None = None,
        lid: bool = True,
    ) -> None:
        """An upright cylinder, cone or tapered leg.

        Args:
            center: x, y of the bottom; `top` is that of the upper end (the same when None).
            radius: at the bottom and at the top.
            squash: stretches x and y, for oval ones.
            lid: False leaves the upper end open and shows the inside.
        """
        circle, faces = _tube_pattern(sides)
        circle = circle * np.asarray(squash)
        c0, c1 = np.asarray(center), np.asarray(center if top is None else top)
        vertices = np.empty((2 * sides + 2, 3))
        vertices[:sides, :2], vertices[:sides, 2] = c0 + circle * radius[0], z[0]
        vertices[sides : 2 * sides, :2], vertices[sides : 2 * sides, 2] = c1 + circle * radius[1], z[1]
        vertices[2 * sides], vertices[2 * sides + 1] = (*c0, z[0]), (*c1, z[1])
        if not lid:
            self.add(vertices[:-1], faces[: 3 * sides], color)
            inside = vertices[:-2].copy()  # a thin wall: two faces in one place would flicker
            inside[:sides, :2] = c0 + 0.94 * circle * radius[0]
            inside[sides:, :2] = c1 + 0.94 * circle * radius[1]
            self.add(inside, faces[: 2 * sides, ::-1], tone(color, 0.75))
            return
        self.add(vertices, faces, color)

    def ball(self, center: Point, radii: Point, color: Color, *, sides: int = 10, rings: int = 5) -> None:
        """An ellipsoid."""
        vertices, faces = _ball_pattern(sides, rings)
        self.add(vertices * np.asarray(radii) + np.asarray(center), faces, color)

    def leaf(self, base: Point, tip: Point, width: float, color: Color) -> None:
        """A pointed leaf, folded along its middle, seen from both sides."""
        a, b = np.asarray(base, dtype=np.float64), np.asarray(tip, dtype=np.float64)
        along = b - a
        side = np.cross(along, [0.0, 0.0, 1.0])
        length = float(np.linalg.norm(side))
        side = np.array([1.0, 0.0, 0.0]) if length < 1e-9 else side / length
        middle = a + 0.45 * along
        up = np.array([0.0, 0.0, 0.15 * width])
        vertices = np.stack([a, middle + width * side + up, b, middle - width * side + up, middle])
        one = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]], dtype=np.int32)
        self.add(vertices, np.concatenate([one, one[:, ::-1]]), color)

    def legs(
        self,
        half: tuple[float, float],
        height: float,
        radius: float,
        color: Color,
        *,
        sides: int = 6,
        splay: float = 0.0,
    ) -> None:
        """Four tapered legs at the corners (+-half x, +-half y), leaning outward by `splay` metres at the floor."""
        for sx in (-1, 1):
            for sy in (-1, 1):
                foot = (sx * (half[0] + splay), sy * (half[1] + splay))
                self.tube(
                    foot, (0, height), (0.7 * radius, radius), color, sides=sides, top=(sx * half[0], sy * half[1])
                )

    def mesh(self, size: Float[ndarray, "3"]) -> PartMesh:
        """All parts, stretched so that their bounds are exactly the box of `size` standing on the floor."""
        vertices = np.concatenate(self._vertices)
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        size = np.asarray(size, dtype=np.float64)
        vertices = (vertices - low) / (high - low) * size - size * (0.5, 0.5, 0.0)
        return PartMesh(
            vertices.astype(np.float32),
            np.concatenate(self._faces).astype(np.int32),
            np.concatenate(self._colors).astype(np.uint8),
        )
