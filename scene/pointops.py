"""Farthest point sampling, ball query, grouping: compiled loops on the CPU, tensor operations elsewhere, same indices.

The loops share clouds out among threads.

Both implementations compute squared distances as dx*dx + dy*dy + dz*dz in float32, one rounding per operation, and
break ties by the lower index, so they agree exactly. Source of the operations: Qi et al., PointNet++, arXiv:1706.02413,
section 3.2 (sampling layer, grouping layer).
"""

from dataclasses import dataclass

import numba
import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64
from numpy import ndarray
from torch import Tensor

from core.errors import InputError
from core.threads import spread


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
        cloud = points.detach().float().transpose(1, 2).contiguous().numpy()
        chosen = np.zeros((len(cloud), count), dtype=np.int64)
        spread(_farthest_points_loop, len(cloud), cloud, chosen)
        return torch.from_numpy(chosen)
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
        cloud = points.detach().float().transpose(1, 2).contiguous().numpy()
        middle = centres.detach().float().contiguous().numpy()
        index = np.zeros((*middle.shape[:2], samples), dtype=np.int64)
        spread(_ball_query_loop, len(cloud), cloud, middle, np.float32(radius * radius), index)
        return torch.from_numpy(index)
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


def grouped(
    points: Float[Tensor, "B P D"], centres: Float[Tensor, "B M 3"], around: Neighbourhoods
) -> Float[Tensor, "E D"]:
    """The rows of `neighbourhoods`: a point's place seen from its ball's centre, then its other numbers as they are."""
    flat, middle = points.flatten(0, 1), centres.flatten(0, 1)
    if points.device.type == "cpu" and points.dtype == torch.float32 and not points.requires_grad:
        rows = torch.empty(len(around.point), points.shape[-1])
        arrays = (flat, middle.detach().float().contiguous(), around.point, around.centre, rows)
        spread(_grouped_loop, len(rows), *(array.numpy() for array in arrays))
        return rows
    offset = torch.nn.functional.pad(middle, (0, points.shape[-1] - 3))
    return flat[around.point] - offset[around.centre]


def segment_max(rows: Float[Tensor, "E D"], start: Int64[Tensor, " G+1"]) -> Float[Tensor, "G D"]:
    """The largest value of each column in each group start[g] : start[g + 1] of rows; no group is empty.

    The gradient goes to the first row that holds it.
    """
    if rows.device.type == "cpu" and rows.dtype == torch.float32:
        return _SegmentMax.apply(rows, start)
    return torch.segment_reduce(rows, "max", offsets=start, axis=0)


class _SegmentMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows, start):  # type: ignore[no-untyped-def]
        groups, width = len(start) - 1, rows.shape[1]
        best, at = torch.empty(groups, width), torch.empty(groups, width, dtype=torch.int32)
        arrays = (rows.detach().contiguous(), start, best, at)
        spread(_segment_max_loop, groups, *(array.numpy() for array in arrays))
        ctx.save_for_backward(at)
        ctx.rows = len(rows)
        return best

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (at,) = ctx.saved_tensors
        return grad.new_zeros(ctx.rows, grad.shape[1]).scatter_(0, at.long(), grad), None


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
def _farthest_points_loop(
    first: int, stop: int, points: Float32[ndarray, "B 3 P"], chosen: Int64[ndarray, "B M"]
) -> None:
    total = points.shape[2]
    nearest = np.empty(total, dtype=np.float32)
    bits = nearest.view(np.int32)  # of numbers that are not negative: in the same order, and a maximum that vectorises
    for b in range(first, stop):
        nearest[:] = np.inf
        xs, ys, zs = points[b, 0], points[b, 1], points[b, 2]
        last = 0
        for m in range(1, chosen.shape[1]):
            x, y, z = xs[last], ys[last], zs[last]
            best = np.int32(-1)
            for p in range(total):
                dx, dy, dz = xs[p] - x, ys[p] - y, zs[p] - z
                nearest[p] = min(nearest[p], dx * dx + dy * dy + dz * dz)
            for p in range(total):
                best = max(best, bits[p])
            for p in range(total):
                if bits[p] == best:
                    last = p
                    break
            chosen[b, m] = last


@numba.njit(cache=True, nogil=True)
def _ball_query_loop(
    first: int,
    stop: int,
    points: Float32[ndarray, "B 3 P"],
    centres: Float32[ndarray, "B M 3"],
    radius_squared: np.float32,
    index: Int64[ndarray, "B M K"],
) -> None:
    total, samples = points.shape[2], index.shape[2]
    distance = np.empty(total, dtype=np.float32)
    for b in range(first, stop):
        xs, ys, zs = points[b, 0], points[b, 1], points[b, 2]
        for m in range(centres.shape[1]):
            x, y, z = centres[b, m, 0], centres[b, m, 1], centres[b, m, 2]
            for p in range(total):
                dx, dy, dz = xs[p] - x, ys[p] - y, zs[p] - z
                distance[p] = dx * dx + dy * dy + dz * dz
            found = 0
            for p in range(total):
                if distance[p] <= radius_squared:
                    index[b, m, found] = p
                    found += 1
                    if found == samples:
                        break
            for k in range(found, samples):
                index[b, m, k] = index[b, m, 0]


@numba.njit(cache=True, nogil=True)
def _grouped_loop(
    first: int,
    stop: int,
    points: Float32[ndarray, "BP D"],
    centres: Float32[ndarray, "BM 3"],
    point: Int64[ndarray, " E"],
    centre: Int64[ndarray, " E"],
    rows: Float32[ndarray, "E D"],
) -> None:
    for e in range(first, stop):
        source, middle = point[e], centre[e]
        for d in range(3):
            rows[e, d] = points[source, d] - centres[middle, d]
        for d in range(3, points.shape[1]):
            rows[e, d] = points[source, d]


@numba.njit(cache=True, nogil=True)
def _segment_max_loop(
    first: int,
    stop: int,
    rows: Float32[ndarray, "E D"],
    start: Int64[ndarray, " G+1"],
    best: Float32[ndarray, "G D"],
    at: Int32[ndarray, "G D"],
) -> None:
    width = rows.shape[1]
    for g in range(first, stop):
        best[g] = rows[start[g]]
        at[g] = start[g]
        for e in range(start[g] + 1, start[g + 1]):
            row = np.int32(e)
            for d in range(width):
                larger = rows[e, d] > best[g, d]
                best[g, d] = rows[e, d] if larger else best[g, d]
                at[g, d] = row if larger else at[g, d]
