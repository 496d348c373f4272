"""How well boxes agree: intersection over union, the best one-to-one matching, and F1 of sets."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float, Float64
from numpy import ndarray
from scipy.optimize import linear_sum_assignment

from scene.geometry import axis_aligned, footprint

IOU_THRESHOLDS: Final = (0.25, 0.5)
ROUNDING: Final = 1e-9  # an IoU this close to a threshold reaches it, however its corners were rounded


def box_iou(a: Float[ndarray, "N 7"], b: Float[ndarray, "M 7"]) -> Float64[ndarray, "N M"]:
    """Volume of the intersection over volume of the union, exact for any yaw; 0 where a box has no volume.

    Raises:
        InputError: the boxes are not (N, 7) and (M, 7).
    """
    return box_ious([(a, b)])[0]


def box_ious(
    sets: Sequence[tuple[Float[ndarray, "N 7"], Float[ndarray, "M 7"]]],
) -> list[Float64[ndarray, "N M"]]:
    """`box_iou` of many pairs of sets, of any sizes, at the cost of one."""
    if not sets:
        return []
    first = np.concatenate([np.repeat(a, len(b), axis=0) for a, b in sets])
    second = np.concatenate([np.tile(b, (len(a), 1)) for a, b in sets])
    shapes = [(len(a), len(b)) for a, b in sets]
    ends = np.cumsum([rows * columns for rows, columns in shapes])
    parts = np.split(paired_iou(first, second), ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes)]


def paired_iou(a: Float[ndarray, "N 7"], b: Float[ndarray, "N 7"]) -> Float64[ndarray, " N"]:
    """`box_iou` of the first with the first, the second with the second, and so on."""
    hull_a, hull_b = axis_aligned(a), axis_aligned(b)
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    sides = np.minimum(hull_a[:, 3:], hull_b[:, 3:]) - np.maximum(hull_a[:, :3], hull_b[:, :3])
    shared = np.clip(sides, 0, None).prod(axis=1)
    turned = (np.abs(np.sin(2 * np.stack([a[:, 6], b[:, 6]]))) > 1e-9).any(axis=0)
    # boxes lie in their axis-aligned hulls: where those are apart, so are they
    for k in np.flatnonzero(turned & (shared > 0)):
        shared[k] = _shared_area(footprint(a[k : k + 1])[0], footprint(b[k : k + 1])[0]) * sides[k, 2]
    union = a[:, 3:6].prod(axis=1) + b[:, 3:6].prod(axis=1) - shared
    return np.divide(shared, union, out=np.zeros(len(a)), where=union > 0)


def _shared_area(a: Float64[ndarray, "K 2"], b: Float64[ndarray, "4 2"]) -> float:
    """Area of the intersection of two convex polygons, corners counter-clockwise.

    Source: Sutherland and Hodgman, Reentrant polygon clipping, CACM 17 (1974); area by the shoelace formula.
    """
    corners = list(a)
    for start, end in zip(b, np.roll(b, -1, axis=0)):
        inside = [_turn(start, end, point) for point in corners]
        kept = []
        for k, point in enumerate(corners):
            before, after = inside[k - 1], inside[k]
            if (before > 0) != (after > 0) and before != after:
                kept.append(corners[k - 1] + before / (before - after) * (point - corners[k - 1]))
            if after > 0:
                kept.append(point)
        corners = kept
    if len(corners) < 3:
        return 0.0
    x, y = np.array(corners).T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def _turn(start: ndarray, end: ndarray, point: ndarray) -> float:
    """Positive where `point` lies to the left of the way from `start` to `end`."""
    (dx, dy), (px, py) = end - start, point - start
    return float(dx * py - dy * px)


def matched(iou: Float[ndarray, "P G"]) -> Float64[ndarray, " m"]:
    """IoUs of the pairs of the one-to-one matching with the greatest sum of IoUs, m = min(P, G).

    Source: Kuhn, The Hungarian method, 1955; in this use: Multi3DRefer (Zhang et al., ICCV 2023), section 5.
    """
    rows, columns = linear_sum_assignment(iou, maximize=True)
    return iou[rows, columns]


def f1(hits: int, predicted: int, truth: int) -> float:
    """2 hits / (predicted + truth), 0..1; of a sentence that means nothing: 1 if nothing was predicted, else 0.

    Source: Multi3DRefer (Zhang et al., ICCV 2023), section 5.
    """
    if truth == 0:
        return float(predicted == 0)
    return 2 * hits / (predicted + truth)
