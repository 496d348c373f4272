"""Preparing raw scans: a turn that lays most boxes along the axes, and instance ids carried to another surface.

Both as SceneVerse prepares its scans (Jia et al., arXiv:2401.09340, supplement): 3RScan and ARKitScenes are turned so,
and 3RScan's ids come from its labelled mesh by the nearest vertex. Different here: among angles that lay the same
number of boxes along the axes the one is taken that lays them closest, and 0 is among them: an aligned scan stays.
"""

from typing import Final

import numpy as np
from jaxtyping import Float, Float64, Int, Int64
from numpy import ndarray

from core.errors import InputError
from scene.geometry import footprint

FIRST_TRY: Final = (45.0, 90, 0.05)
"""Angles tried first: up to so many degrees to either side, how many, and how far (metres) an edge may stray."""
SECOND_TRY: Final = (90.0, 180, 0.15)
"""Angles tried where none of the first lays any box along the axes."""
TRANSFER_RADIUS_M: Final = 0.1


def aligning_yaw(boxes: Float[ndarray, "N 7"]) -> float:
    """The turn about +z, in radians, after which most boxes lie along the axes.

    A box does when the two bottom edges at a corner run along x and y: neither end strays from the other by the
    tolerance, in metres, so that small boxes are forgiven more. Angles are those of FIRST_TRY (1.01 degrees
    apart), else of SECOND_TRY; 0 is tried, too.

    Raises:
        InputError: no boxes, or none that any angle lays along the axes.
    """
    corners = footprint(boxes)  # (N, 4, 2), counter-clockwise
    if not len(corners):
        raise InputError("cannot align a scan without boxes; leave it as it is")
    edges = corners[:, [1, 3]] - corners[:, [0]]  # (N, 2, 2): both edges at the first corner
    for reach_deg, count, tolerance_m in (FIRST_TRY, SECOND_TRY):
        angles = np.deg2rad(np.append(np.linspace(-reach_deg, reach_deg, count), 0.0))
        angles = angles[np.argsort(np.abs(angles), kind="stable")]
        stray = _stray(edges, angles)
        lying = stray < tolerance_m
        count = lying.sum(axis=1)
        if count.max() > 0:
            total = np.where(count == count.max(), np.where(lying, stray, 0.0).sum(axis=1), np.inf)
            return float(angles[int(np.argmin(total.round(9)))])  # of equals the smallest turn
    raise InputError(f"no angle lays any of the {len(corners)} boxes along the axes; leave the scan as it is")


def _stray(edges: Float[ndarray, "N 2 2"], angles: Float[ndarray, " A"]) -> Float64[ndarray, "A N"]:
    """How far each box's edges stray from the axes after each turn, metres; either edge may be the one along x."""
    cos, sin = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    x = np.abs(cos * edges[..., 0] - sin * edges[..., 1])  # (A, N, 2)
    y = np.abs(sin * edges[..., 0] + cos * edges[..., 1])
    return np.minimum(np.maximum(y[..., 0], x[..., 1]), np.maximum(x[..., 0], y[..., 1]))


def nearest_instances(
    points: Float[ndarray, "P 3"],
    labelled: Float[ndarray, "Q 3"],
    instance: Int[ndarray, " Q"],
    radius_m: float = TRANSFER_RADIUS_M,
) -> Int64[ndarray, " P"]:
    """The instance id of the nearest labelled point of each point, -1 where none is within `radius_m`.

    Raises:
        InputError: tables that do not fit, or NaN or infinite points.
    """
    from scipy.spatial import cKDTree

    points, labelled = np.asarray(points, dtype=np.float64), np.asarray(labelled, dtype=np.float64)
    instance = np.asarray(instance)
    if points.ndim != 2 or labelled.ndim != 2 or points.shape[1] != 3 or labelled.shape[1:] != (3,):
        raise InputError(f"points have shapes {points.shape} and {labelled.shape}, expected (P, 3) and (Q, 3)")
    if instance.shape != (len(labelled),):
        raise InputError(f"{len(labelled)} labelled points have {instance.shape} instance ids; expected one each")
    for name, table in (("points", points), ("labelled points", labelled)):
        if not np.isfinite(table).all():
            raise InputError(f"some {name} are NaN or infinite; remove them")
    if not len(points) or not len(labelled):
        return np.full(len(points), -1, dtype=np.int64)
    distance, nearest = cKDTree(labelled).query(points, distance_upper_bound=np.nextafter(radius_m, np.inf))
    found = np.isfinite(distance)
    out = np.full(len(points), -1, dtype=np.int64)
    out[found] = instance[nearest[found]]
    return out


def centred(points: Float[ndarray, "P 3"]) -> tuple[Float64[ndarray, "P 3"], Float64[ndarray, "3"]]:
    """Points with the mean of x and y and the least z taken off, and what was taken off.

    Raises:
        InputError: no points.
    """
    points = np.asarray(points, dtype=np.float64)
    if not len(points):
        raise InputError("cannot centre a scan without points")
    offset = np.append(points[:, :2].mean(axis=0), points[:, 2].min())
    return points - offset, offset
