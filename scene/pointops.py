"""Farthest point sampling, ball query, grouping: compiled loops on the CPU, tensor operations elsewhere, same indices.

Both implementations compute squared distances as dx*dx + dy*dy + dz*dz in float32, one rounding per operation, and
break ties by the lower index, so they agree exactly. Source of the operations: Qi et al., PointNet++, arXiv:1706.02413,
section 3.2 (sampling layer, grouping layer).
"""

from dataclasses import dataclass

import numba
import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from numpy import ndarray
from torch import Tensor

from core.errors import InputError


@dataclass(frozen=True)
class Neighbourhoods:
    """The different points of M balls in each of B clouds, as E rows, ball after ball."""

    point: Int64[Tensor, " E"]  # index into the B * P points
    centre: Int64[Tensor, " E"]  # index into the B * M balls
    start: Int64[Tensor, " BM+1"]  # the rows of ball i are start[i] : start[i + 1]
    repeats: Float[Tensor, " E"]  # how many of the ball's K slots this point fills


def farthest_points(points: Float[Tensor, "B P 3"], count: int) -> Int64[Tensor, "B M"]:
    """Indices of `count` points spread out greedily: each next one is the farthest from those already taken.

    Starts at point 0. When a cloud has fewer distinct points than `count`, index 0 repeats.

    Raises:
        InputError: the array is not (B, P, 3), or `count` is not in 1..P.
    """
    _check(points)
    if not 1 <= count <= points.shape[1]:
        raise InputError(f"farthest_points() cannot take {count} of {points.shape[1]} points; count goes from 1 to P")
    if points.device.type == "cpu":
        return torch.from_numpy(_farthest_points_loop(points.detach().float().contiguous().numpy(), count))
    return farthest_points_torch(points, count)


def ball_query(
    points: Float[Tensor, "B P 3"], centres: Float[Tensor, "B M 3"], radius: float, samples: int
) -> Int64[Tensor, "B M K"]:
    """For each centre the first `samples` point indices (in index order) within `radius`, ends included.

    A ball with fewer points repeats its first one; an empty ball gives index 0 throughout.

    Raises:
        InputError: arrays are not (B, P, 3) and (B, M, 3), or radius or samples are not positive.
    """
    _check(points)
    _check(centres)
    if radius <= 0 or samples < 1:
        raise InputError(f"ball_query() needs radius > 0 and samples >= 1, got radius={radius}, samples={samples}")
    if points.device.type == "cpu":
        cloud, middle = (x.detach().float().contiguous().numpy() for x in (points, centres))
        return torch.from_numpy(_ball_query_loop(cloud, middle, np.float32(radius * radius), samples))
    return ball_query_torch(points, centres, radius, samples)


def neighbourhoods(index: Int64[Tensor, "B M K"], points: int) -> Neighbourhoods:
    """The balls of `ball_query` without their repeats.

    Args:
        index: as it returns it: ascending, the first point repeated in the slots that stay free.
        points: P, of each cloud.
    """
    different = index != index[..., :1]
    different[..., 0] = True
    widths = different.sum(-1).flatten()
    free = index.shape[-1] - widths
    start = torch.cat([widths.new_zeros(1), widths.cumsum(0)])
    cloud = torch.arange(len(index), device=index.device)[:, None, None] * points
    repeats = torch.ones(int(start[-1]), device=index.device)
    repeats[start[:-1]] += free
    centre = torch.repeat_interleave(widths, output_size=len(repeats))
    return Neighbourhoods((index + cloud)[different], centre, start, repeats)


def segment_max(rows: Float[Tensor, "E D"], start: Int64[Tensor, " G+1"]) -> Float[Tensor, "G D"]:
    """The largest value of each column in each group start[g] : start[g + 1] of rows; no group is empty.

    The gradient goes to the first row that holds it.
    """
    return torch.segment_reduce(rows, "max", offsets=start, axis=0)


def gather(values: Float[Tensor, "B P D"], index: Int64[Tensor, "B *M"]) -> Float[Tensor, "B *M D"]:
    """Rows of each item's `values` at its own indices."""
    item = torch.arange(len(values), device=values.device).view(-1, *[1] * (index.ndim - 1))
    return values[item, index]


def farthest_points_torch(points: Float[Tensor, "B P 3"], count: int) -> Int64[Tensor, "B M"]:
    """`farthest_points` in tensor operations, for any device."""
    cloud = points.detach().float()
    chosen = torch.zeros(len(cloud), count, dtype=torch.int64, device=cloud.device)
    nearest = torch.full(cloud.shape[:2], torch.inf, device=cloud.device)
    for m in range(1, count):
        last = gather(cloud, chosen[:, m - 1 : m])  # (B, 1, 3)
        nearest = torch.minimum(nearest, _squared_distance(cloud, last))
        chosen[:, m] = nearest.argmax(dim=1)  # the first of equal maxima
    return chosen


def ball_query_torch(
    points: Float[Tensor, "B P 3"], centres: Float[Tensor, "B M 3"], radius: float, samples: int
) -> Int64[Tensor, "B M K"]:
    """`ball_query` in tensor operations, for any device."""
    count = points.shape[1]
    distance = _squared_distance(points.detach().float()[:, None], centres.detach().float()[:, :, None])  # (B, M, P)
    inside = distance <= np.float32(radius * radius).item()
    index = torch.where(inside, torch.arange(count, device=points.device), count).sort(dim=-1).values[..., :samples]
    if index.shape[-1] < samples:  # fewer points than slots
        index = torch.nn.functional.pad(index, (0, samples - index.shape[-1]), value=count)
    first = index[..., :1] % count  # an empty ball reads `count`, which becomes 0
    return torch.where(index == count, first, index)


def _squared_distance(a: Float[Tensor, "*s 3"], b: Float[Tensor, "*s 3"]) -> Float[Tensor, "*s"]:
    difference = a - b
    dx, dy, dz = difference.unbind(-1)
    return dx * dx + dy * dy + dz * dz


def _check(points: Tensor) -> None:
    if points.ndim != 3 or points.shape[-1] != 3 or points.shape[1] == 0:
        raise InputError(f"point clouds have shape {tuple(points.shape)}, expected (B, P, 3) with at least one point")


@numba.njit(cache=True, nogil=True)
def _farthest_points_loop(points: Float32[ndarray, "B P 3"], count: int) -> Int64[ndarray, "B M"]:
    batch, total, _ = points.shape
    chosen = np.zeros((batch, count), dtype=np.int64)
    nearest = np.empty(total, dtype=np.float32)
    for b in range(batch):
        nearest[:] = np.inf
        last = 0
        for m in range(1, count):
            x, y, z = points[b, last, 0], points[b, last, 1], points[b, last, 2]
            best, best_at = np.float32(-1.0), 0
            for p in range(total):
                dx, dy, dz = points[b, p, 0] - x, points[b, p, 1] - y, points[b, p, 2] - z
                distance = dx * dx + dy * dy + dz * dz
                if distance < nearest[p]:
                    nearest[p] = distance
                if nearest[p] > best:
                    best, best_at = nearest[p], p
            chosen[b, m] = best_at
            last = best_at
    return chosen


@numba.njit(cache=True, nogil=True)
def _ball_query_loop(
    points: Float32[ndarray, "B P 3"], centres: Float32[ndarray, "B M 3"], radius_squared: np.float32, samples: int
) -> Int64[ndarray, "B M K"]:
    batch, total, _ = points.shape
    middles = centres.shape[1]
    index = np.zeros((batch, middles, samples), dtype=np.int64)
    for b in range(batch):
        for m in range(middles):
            x, y, z = centres[b, m, 0], centres[b, m, 1], centres[b, m, 2]
            found = 0
            for p in range(total):
                dx, dy, dz = points[b, p, 0] - x, points[b, p, 1] - y, points[b, p, 2] - z
                if dx * dx + dy * dy + dz * dz <= radius_squared:
                    index[b, m, found] = p
                    found += 1
                    if found == samples:
                        break
            for k in range(found, samples):
                index[b, m, k] = index[b, m, 0]
    return index
