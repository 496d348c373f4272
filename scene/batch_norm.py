"""Batch norm and ReLU over weighted rows, in training over the rows of all processes.

On the CPU the work is memory traffic, so compiled loops go over the rows twice forward and twice backward and keep no
result but the last; elsewhere tensor operations do the same.

Source: Ioffe and Szegedy, arXiv:1502.03167, algorithm 1; row e counts as often as `repeats[e]` says.
"""

import numba
import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from numpy import ndarray
from torch import Tensor, nn

from core.distributed import sum_over_ranks
from core.threads import spread

BLOCK = 512  # rows summed in float32 before float64 takes over; fixed, so that sums do not depend on threads


class BatchNormRelu(nn.BatchNorm1d):
    """Batch norm over weighted rows, then ReLU; in training statistics span all processes."""

    def folded(self, weight: Float[Tensor, "O I"]) -> tuple[Float[Tensor, "O I"], Float[Tensor, " O"]]:
        """Weight and bias of the linear map that `weight` and this norm in evaluation mode are together."""
        assert self.running_mean is not None and self.running_var is not None
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return weight * scale[:, None], self.bias - self.running_mean * scale

    def rows(self, x: Float[Tensor, "E D"], repeats: Float[Tensor, " E"] | None) -> Float[Tensor, "E D"]:
        """Rows normalised by batch statistics, in which row e counts `repeats[e]` times (None: once)."""
        y, mean, variance, count = _NormRelu.apply(x, repeats, self.weight, self.bias, self.eps)
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None
            assert self.num_batches_tracked is not None and self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), self.momentum)
            self.num_batches_tracked += 1
        return y


class _NormRelu(torch.autograd.Function):
    """ReLU of batch norm over rows that count `repeats` times each; statistics in float32 or better.

    With w the repeats, n their sum, m and v the weighted mean and variance, z = (x - m) / sqrt(v + eps) and g the
    gradient at the norm's output:  dx = weight / sqrt(v + eps) * (g - w / n * (sum g + z * sum g z)).
    Sums over g are not weighted: g already is the gradient of all the repeats of a row together.
    """

    @staticmethod
    def forward(ctx, x, repeats, weight, bias, eps):  # type: ignore[no-untyped-def]
        with torch.autocast(x.device.type, enabled=False):
            x = x.contiguous()
            repeats = x.new_ones(len(x), dtype=torch.float32) if repeats is None else repeats.float()
            sums = sum_over_ranks(_sums(x, repeats, torch.zeros_like(weight)))
            count = sums[0, -1].clamp(min=1)
            mean = (sums[0, :-1] / count).float()
            variance = (sum_over_ranks(_sums(x, repeats, mean))[1, :-1] / count).float()
            inverse = (variance + eps).rsqrt()
            scale = inverse * weight
            shift = bias - mean * scale
            y = _apply(x, scale, shift)
        ctx.save_for_backward(x, repeats, weight, mean, inverse, scale, shift, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return y, mean, variance, count

    @staticmethod
    def backward(ctx, grad, *_):  # type: ignore[no-untyped-def]
        x, repeats, weight, mean, inverse, scale, shift, count = ctx.saved_tensors
        with torch.autocast(x.device.type, enabled=False):
            grad = grad.contiguous()
            own = _gradient_sums(x, grad, mean, scale, shift)  # sum g, sum g (x - m)
            total, along = (sum_over_ranks(own) / count).float()
            slope = along * inverse.square()
            dx = _gradient(x, grad, repeats, scale, shift, total - mean * slope, slope)
        return dx, None, (own[1] * inverse).float(), own[0].float(), None


def _loops(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32


def _sums(x: Float[Tensor, "E D"], repeats: Float[Tensor, " E"], mean: Float[Tensor, " D"]) -> Float64[Tensor, "2 D+1"]:
    """Weighted sums over rows of x - mean (row 0) and of its square (row 1); behind them the sum of the weights."""
    if _loops(x):
        parts = np.zeros((-(-len(x) // BLOCK), 2, x.shape[1]), np.float32)
        spread(_sums_loop, len(parts), x.detach().numpy(), repeats.numpy(), mean.detach().numpy(), parts)
        sums = torch.from_numpy(parts.sum(0, dtype=np.float64))
    else:
        offset = x.float() - mean
        weighted = offset * repeats[:, None]
        sums = torch.stack([weighted.sum(0), (weighted * offset).sum(0)]).double()
    return torch.cat([sums, repeats.sum(dtype=torch.float64).expand(2, 1)], 1)


def _apply(x: Float[Tensor, "E D"], scale: Float[Tensor, " D"], shift: Float[Tensor, " D"]) -> Float[Tensor, "E D"]:
    """max(x * scale + shift, 0) in the type of x."""
    if not _loops(x):
        return torch.addcmul(shift, x.float(), scale).relu_().to(x.dtype)
    y = torch.empty_like(x)
    blocks = -(-len(x) // BLOCK)
    spread(_apply_loop, blocks, x.detach().numpy(), scale.detach().numpy(), shift.detach().numpy(), y.numpy())
    return y


def _gradient_sums(
    x: Float[Tensor, "E D"],
    grad: Float[Tensor, "E D"],
    mean: Float[Tensor, " D"],
    scale: Float[Tensor, " D"],
    shift: Float[Tensor, " D"],
) -> Float64[Tensor, "2 D"]:
    """Sums of g and of g (x - mean), where g is `grad` at the rows and columns that the ReLU let through."""
    if _loops(x):
        parts = np.zeros((-(-len(x) // BLOCK), 2, x.shape[1]), np.float32)
        arrays = (array.detach().numpy() for array in (x, grad, mean, scale, shift))
        spread(_gradient_sums_loop, len(parts), *arrays, parts)
        return torch.from_numpy(parts.sum(0, dtype=np.float64))
    wide = x.float()
    passed = torch.where(torch.addcmul(shift, wide, scale) > 0, grad.float(), 0)
    return torch.stack([passed.sum(0), ((wide - mean) * passed).sum(0)]).double()


def _gradient(
    x: Float[Tensor, "E D"],
    grad: Float[Tensor, "E D"],
    repeats: Float[Tensor, " E"],
    scale: Float[Tensor, " D"],
    shift: Float[Tensor, " D"],
    level: Float[Tensor, " D"],
    slope: Float[Tensor, " D"],
) -> Float[Tensor, "E D"]:
    """scale * (g - repeats * (level + slope * x)), g as in `_gradient_sums`."""
    if not _loops(x):
        wide = x.float()
        passed = torch.where(torch.addcmul(shift, wide, scale) > 0, grad.float(), 0)
        inner = torch.addcmul(level, wide, slope)
        return (scale * torch.addcmul(passed, inner, repeats[:, None], value=-1)).to(x.dtype)
    dx = torch.empty_like(x)
    arrays = (array.detach().numpy() for array in (x, grad, repeats, scale, shift, level, slope, dx))
    spread(_gradient_loop, -(-len(x) // BLOCK), *arrays)
    return dx


@numba.njit(cache=True, nogil=True)
def _sums_loop(
    first: int,
    stop: int,
    x: Float32[ndarray, "E D"],
    repeats: Float32[ndarray, " E"],
    mean: Float32[ndarray, " D"],
    parts: Float32[ndarray, "K 2 D"],
) -> None:
    for block in range(first, stop):
        total, square = parts[block, 0], parts[block, 1]
        for e in range(block * BLOCK, min((block + 1) * BLOCK, len(x))):
            weight = repeats[e]
            for d in range(x.shape[1]):
                offset = x[e, d] - mean[d]
                total[d] += weight * offset
                square[d] += weight * offset * offset


@numba.njit(cache=True, nogil=True)
def _apply_loop(
    first: int,
    stop: int,
    x: Float32[ndarray, "E D"],
    scale: Float32[ndarray, " D"],
    shift: Float32[ndarray, " D"],
    y: Float32[ndarray, "E D"],
) -> None:
    for e in range(first * BLOCK, min(stop * BLOCK, len(x))):
        for d in range(x.shape[1]):
            value = x[e, d] * scale[d] + shift[d]
            y[e, d] = value if value > 0 else np.float32(0)


@numba.njit(cache=True, nogil=True)
def _gradient_sums_loop(
    first: int,
    stop: int,
    x: Float32[ndarray, "E D"],
    grad: Float32[ndarray, "E D"],
    mean: Float32[ndarray, " D"],
    scale: Float32[ndarray, " D"],
    shift: Float32[ndarray, " D"],
    parts: Float32[ndarray, "K 2 D"],
) -> None:
    for block in range(first, stop):
        total, along = parts[block, 0], parts[block, 1]
        for e in range(block * BLOCK, min((block + 1) * BLOCK, len(x))):
            for d in range(x.shape[1]):
                passed = grad[e, d] if x[e, d] * scale[d] + shift[d] > 0 else np.float32(0)
                total[d] += passed
                along[d] += passed * (x[e, d] - mean[d])


@numba.njit(cache=True, nogil=True)
def _gradient_loop(
    first: int,
    stop: int,
    x: Float32[ndarray, "E D"],
    grad: Float32[ndarray, "E D"],
    repeats: Float32[ndarray, " E"],
    scale: Float32[ndarray, " D"],
    shift: Float32[ndarray, " D"],
    level: Float32[ndarray, " D"],
    slope: Float32[ndarray, " D"],
    dx: Float32[ndarray, "E D"],
) -> None:
    for e in range(first * BLOCK, min(stop * BLOCK, len(x))):
        weight = repeats[e]
        for d in range(x.shape[1]):
            passed = grad[e, d] if x[e, d] * scale[d] + shift[d] > 0 else np.float32(0)
            dx[e, d] = scale[d] * (passed - weight * (level[d] + slope[d] * x[e, d]))
