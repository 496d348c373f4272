"""The occlusion score: how much of an object a view shows.

SceneVerse (arXiv:2401.09340, section 3.3) projects an object's points into each view and divides the visible ones by
all. How it tests a point is not published; the test here is `visible_shares`.
"""

import numpy as np
from jaxtyping import Float, Float32, Float64, Int32
from numba import njit
from numpy import ndarray

from core.errors import InputError
from scene.geometry import face_areas, sample_surface
from scene.types import Scene

SCORE_POINTS = 128  # points per object that stand for all of it


def score_points(scene: Scene) -> Float32[ndarray, "N P 3"]:
    """SCORE_POINTS points on the surface of every object, world metres; NaN for objects without a surface.

    They depend on the scene alone.

    Raises:
        InputError: the scene has no mesh.
    """
    mesh = scene.mesh
    if mesh is None:
        raise InputError(f"scene {scene.id} has no mesh: no surface to take points from")
    owned = mesh.face_instance >= 0
    area = np.bincount(
        mesh.face_instance[owned], face_areas(mesh.vertices, mesh.faces[owned]), minlength=len(scene.objects)
    )
    ids = np.flatnonzero(area > 0)
    points = np.full((len(scene.objects), SCORE_POINTS, 3), np.nan, np.float32)
    points[ids] = sample_surface(mesh, ids, SCORE_POINTS, np.random.default_rng(0))[..., :3]
    return points


def visible_shares(
    points: Float[ndarray, "N P 3"],
    extrinsics: Float[ndarray, "B 4 4"],
    intrinsics: Float[ndarray, "3 3"],
    instance: Int32[ndarray, "B H W"],
) -> Float64[ndarray, "B N"]:
    """The occlusion score of every object in every view: visible points over all its points, 0..1.

    A point is visible when it lies before the camera and the pixel it falls into shows its object. So 1 means that
    nothing stands before the object and the picture's edge cuts nothing off. The tolerance is therefore one pixel, at
    any distance; points on the side that the object itself hides count as visible where it is seen, or a solid thing
    in full view would score about one half.

    Args:
        points: the same number for each object, world metres; NaN = no such object (score 0).
        instance: object ids per pixel, -1 = none.
    """
    lens = np.array([intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]], np.float64)
    to_camera = np.linalg.inv(np.asarray(extrinsics, np.float64))
    hits = np.zeros((len(instance), len(points)), np.int64)
    _count_visible(np.asarray(points, np.float32), to_camera, lens, np.asarray(instance), hits)
    return hits / max(points.shape[1], 1)


@njit(cache=True, nogil=True)
def _count_visible(points, to_camera, lens, instance, hits):
    """Adds to `hits` (B, N) the points of each object whose pixel shows that object."""
    height, width = instance.shape[1:]
    shown = np.zeros(points.shape[0], np.bool_)
    for b in range(instance.shape[0]):
        shown[:] = False
        for v in range(height):
            for u in range(width):
                if instance[b, v, u] >= 0:
                    shown[instance[b, v, u]] = True
        m = to_camera[b]
        for k in range(points.shape[0]):
            if not shown[k]:
                continue
            for p in range(points.shape[1]):
                x, y, z = points[k, p]
                depth = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
                if not depth > 0.0:
                    continue
                u = lens[0] * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / depth + lens[2]
                v = lens[1] * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / depth + lens[3]
                if 0.0 <= u < width and 0.0 <= v < height and instance[b, int(v), int(u)] == k:
                    hits[b, k] += 1
