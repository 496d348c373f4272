"""Pictures of scans that have points and no surfaces: each point is a square, the nearest one shows.

The meaning of a picture is that of scene/render.py (same cameras, depth along the axis, -1 = no object), so that who
draws a home and who draws a scan can be the same code. A square is as wide as the points stand apart, at its depth.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int32, UInt8
from numba import njit
from numpy import ndarray
from scipy.spatial import cKDTree

from core.conventions import NO_INSTANCE
from core.errors import InputError
from scene.palette import SKY
from scene.types import Scene

SPREAD = 1.5  # width of a square in distances to a fourth neighbour: covers 95 % of a floor of points thrown at random
WIDEST_PX = 32
NEAR_M = 0.05  # nearer points are behind the lens
SPACING_M = (0.002, 0.1)  # least and most believable
GRAY = 160  # of a scan without colours


def spacing(points: Float[ndarray, "P 3"]) -> float:
    """Median distance to the fourth other point, metres, from up to 2,000 points; within SPACING_M.

    On a grid that is the grid's step; of points thrown at random it says how far they lie apart, where the nearest one
    would say how close two of them happen to fall.
    """
    if len(points) < 5:
        return SPACING_M[1]
    some = points[:: max(1, len(points) // 2_000)]
    return float(np.clip(np.median(cKDTree(points).query(some, k=5)[0][:, 4]), *SPACING_M))


class Splats:
    """The points of a scan, ready to be drawn.

    Args:
        at_most: of more points a fixed random part is drawn, as larger squares.

    Raises:
        InputError: the scene has no points, or none of them knows its object.
    """

    def __init__(self, scene: Scene, at_most: int | None = None) -> None:
        if scene.points is None or not len(scene.points) or scene.instance is None:
            raise InputError(
                f"scene {scene.id} has no points with object ids to draw; give a scan whose points know their objects, "
                "or a home with a mesh"
            )
        some: Any = slice(None)
        if at_most is not None and at_most < len(scene.points):  # drawn: every k-th of a grid would leave stripes
            some = np.sort(np.random.default_rng(0).permutation(len(scene.points))[:at_most])
        self.points = np.ascontiguousarray(scene.points[some], np.float32)
        gray = np.full((len(self.points), 3), GRAY, np.uint8)
        self.colors = gray if scene.colors is None else np.ascontiguousarray(scene.colors[some], np.uint8)
        self.instance = np.ascontiguousarray(scene.instance[some], np.int32)
        self.spacing_m = spacing(self.points)

    def draw(
        self, extrinsics: Float[ndarray, "B 4 4"], intrinsics: Float[ndarray, "3 3"], width: int, height: int
    ) -> tuple[UInt8[ndarray, "B H W 3"], Int32[ndarray, "B H W"]]:
        """Colours and object ids for B cameras; the sky's colour and -1 where no point is."""
        count = len(extrinsics)
        rgb = np.empty((count, height, width, 3), np.uint8)
        rgb[:] = SKY
        instance = np.full((count, height, width), NO_INSTANCE, np.int32)
        lens = np.array([intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]], np.float64)
        for b, to_camera in enumerate(np.linalg.inv(np.asarray(extrinsics, np.float64))):
            depth = np.full((height, width), np.inf, np.float32)
            half = 0.5 * SPREAD * self.spacing_m * lens[0]
            _splat(self.points, self.colors, self.instance, to_camera, lens, half, depth, rgb[b], instance[b])
        return rgb, instance


@njit(cache=True, nogil=True)
def _splat(
    points: Float32[ndarray, "P 3"],
    colors: UInt8[ndarray, "P 3"],
    ids: Int32[ndarray, " P"],
    m: Float64[ndarray, "4 4"],
    lens: Float64[ndarray, "4"],
    half: float,
    depth: Float32[ndarray, "H W"],
    rgb: UInt8[ndarray, "H W 3"],
    instance: Int32[ndarray, "H W"],
) -> None:
    """Writes every point into the pixels of its square that show nothing nearer; `half` is half its width at 1 m."""
    height, width = depth.shape
    for p in range(points.shape[0]):
        x, y, z = points[p, 0], points[p, 1], points[p, 2]
        away = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
        if away < NEAR_M:
            continue
        u = lens[0] * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / away + lens[2]
        v = lens[1] * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / away + lens[3]
        reach = min(max(half / away, 0.5), 0.5 * WIDEST_PX)
        first_u, last_u = max(int(np.ceil(u - reach - 0.5)), 0), min(int(np.floor(u + reach - 0.5)), width - 1)
        first_v, last_v = max(int(np.ceil(v - reach - 0.5)), 0), min(int(np.floor(v + reach - 0.5)), height - 1)
        for row in range(first_v, last_v + 1):
            for column in range(first_u, last_u + 1):
                if away < depth[row, column]:
                    depth[row, column] = away
                    instance[row, column] = ids[p]
                    for c in range(3):
                        rgb[row, column, c] = colors[p, c]
