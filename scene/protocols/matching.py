"""How well boxes agree: intersection over union, the best one-to-one matching, and F1 of sets."""

from typing import Final

import numpy as np
from jaxtyping import Float, Float64
from numpy import ndarray
from scipy.optimize import linear_sum_assignment

from scene.geometry import axis_aligned, box_iou_axis_aligned, footprint

IOU_THRESHOLDS: Final = (0.25, 0.5)
ROUNDING: Final = 1e-9  # an IoU this close to a threshold reaches it, however its corners were rounded


def box_iou(a: Float[ndarray, "N 7"], b: Float[ndarray, "M 7"]) -> Float64[ndarray, "N M"]:
    """Volume of the intersection over volume of the union, exact for any yaw; 0 where a box has no volume.

    Raises:
        InputError: the boxes are not (N, 7) and (M, 7).
    """
    iou = box_iou_axis_aligned(axis_aligned(a), axis_aligned(b))
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    turned_a, turned_b = (np.abs(np.sin(2 * boxes[:, 6])) > 1e-9 for boxes in (a, b))
    ground_a, ground_b = footprint(a), footprint(b)
    # the boxes lie in their axis-aligned hulls: where those are apart, so are they
    for i, j in np.argwhere((turned_a[:, None] | turned_b[None]) & (iou > 0)):
        low = max(a[i, 2] - 0.5 * a[i, 5], b[j, 2] - 0.5 * b[j, 5])
        high = min(a[i, 2] + 0.5 * a[i, 5], b[j, 2] + 0.5 * b[j, 5])
        shared = _shared_area(ground_a[i], ground_b[j]) * max(high - low, 0.0)
        union = a[i, 3:6].prod() + b[j, 3:6].prod() - shared
        iou[i, j] = shared / union if union > 0 else 0.0
    return iou


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


def matched_ious(predicted: Float[ndarray, "P 7"], truth: Float[ndarray, "G 7"]) -> Float64[ndarray, " m"]:
    """IoUs of the pairs of the one-to-one matching with the greatest sum of IoUs, m = min(P, G).

    Source: Kuhn, The Hungarian method, 1955; in this use: Multi3DRefer (Zhang et al., ICCV 2023), section 5.
    """
    iou = box_iou(predicted, truth)
    rows, columns = linear_sum_assignment(iou, maximize=True)
    return iou[rows, columns]


def f1(hits: int, predicted: int, truth: int) -> float:
    """2 hits / (predicted + truth), 0..1; of a sentence that means nothing: 1 if nothing was predicted, else 0.

    Source: Multi3DRefer (Zhang et al., ICCV 2023), section 5.
    """
    if truth == 0:
        return float(predicted == 0)
    return 2 * hits / (predicted + truth)
