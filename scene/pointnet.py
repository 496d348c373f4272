"""PointNet++ set abstraction with batch norm, computed on each neighbourhood's different points only.

A ball with fewer points than its slots repeats its first point (Qi et al., arXiv:1706.02413, section 3.2). Repeats
cannot change a maximum, so they are not computed; batch statistics count them by weight, so results and gradients are
those of the padded computation, at the cost of the points that are there.

The first linear map of a stage with wide features comes before grouping: W [x_j - c_i ; f_j] = (W_x x_j + W_f f_j)
- W_x c_i, computed once per point instead of once per neighbour. In evaluation mode batch norm is folded into the
linear map before it.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from core.distributed import sum_over_ranks
from scene.pointops import ball_query, farthest_points, gather, neighbourhoods, segment_max

EARLY = 16  # from this many input features on the first linear map comes before grouping


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


class SetAbstraction(nn.Module):
    """Samples centres, gathers each one's neighbourhood, and max-pools a shared network over it.

    Parameters: `layers.<k>.weight` (out, in), inputs in the order [x_j - c_i (3) ; f_j]; `norms.<k>` with the names of
    torch's batch norm.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], centres: int, radius: float, samples: int) -> None:
        """
        Args:
            inputs: width of the points' features, without coordinates.
            centres: how many; 0 = one neighbourhood of all points, in their own coordinates.
            radius, samples: of a ball and its slots; unused without centres.
        """
        super().__init__()
        self.centres, self.radius, self.samples, self.early = centres, radius, samples, inputs >= EARLY
        sizes = (inputs + 3, *widths)
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in zip(sizes[:-1], sizes[1:]))
        self.norms = nn.ModuleList(BatchNormRelu(width) for width in widths)

    def forward(
        self, xyz: Float[Tensor, "N P 3"], features: Float[Tensor, "N P C"]
    ) -> tuple[Float[Tensor, "N M 3"], Float[Tensor, "N M D"]]:
        """Centres and their features."""
        flat = torch.cat([xyz, features], -1).flatten(0, 1)
        weight, bias = self._map(0)
        if not self.centres:
            rows = self._network(F.linear(flat, weight, bias), None)
            return torch.zeros_like(xyz[:, :1]), rows.unflatten(0, xyz.shape[:2]).amax(1, keepdim=True)
        with torch.no_grad():
            centres = gather(xyz, farthest_points(xyz, min(self.centres, xyz.shape[1])))
            around = neighbourhoods(ball_query(xyz, centres, self.radius, self.samples), xyz.shape[1])
        middle = centres.flatten(0, 1)
        if self.early:
            rows = F.linear(flat, weight, bias)[around.point] - F.linear(middle, weight[:, :3])[around.centre]
        else:
            rows = flat[around.point] - F.pad(middle, (0, features.shape[-1]))[around.centre]
            rows = F.linear(rows, weight, bias)
        pooled = segment_max(self._network(rows, around.repeats), around.start)
        return centres, pooled.unflatten(0, centres.shape[:2])

    def _map(self, k: int) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the k-th linear map; in evaluation mode its norm is part of it."""
        weight = self.layers[k].weight
        return (weight, None) if self.training else self.norms[k].folded(weight)

    def _network(self, rows: Float[Tensor, "E C"], repeats: Float[Tensor, " E"] | None) -> Float[Tensor, "E D"]:
        """All that follows the first linear map."""
        for k, norm in enumerate(self.norms):
            if k:
                rows = F.linear(rows, *self._map(k))
            rows = norm.rows(rows, repeats) if self.training else rows.relu_()
        return rows


class _NormRelu(torch.autograd.Function):
    """ReLU of batch norm over rows that count `repeats` times each; sums run over all processes, in float32.

    With w the repeats, n their sum, m and v the weighted mean and variance, z = (x - m) / sqrt(v + eps) and g the
    gradient at the norm's output:  dx = weight / sqrt(v + eps) * (g - w / n * (sum g + z * sum g z)).
    A repeat's own gradient is 0 (only one of equal rows wins a maximum) or part of g, so sums over g are unweighted.
    """

    @staticmethod
    def forward(ctx, x, repeats, weight, bias, eps):  # type: ignore[no-untyped-def]
        with torch.autocast(x.device.type, enabled=False):
            wide = x.float()
            counts = wide.new_ones(len(x), 1) if repeats is None else repeats.float()[:, None]
            sums = sum_over_ranks(torch.cat([(wide * counts).sum(0), counts.sum(0)]))
            count = sums[-1].clamp(min=1)
            mean = sums[:-1] / count
            variance = sum_over_ranks(((wide - mean).square() * counts).sum(0)) / count
            inverse = (variance + eps).rsqrt()
            scale = inverse * weight
            y = torch.addcmul(bias - mean * scale, wide, scale).relu_().to(x.dtype)
        ctx.save_for_backward(x, y, counts, weight, mean, inverse, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return y, mean, variance, count

    @staticmethod
    def backward(ctx, grad, *_):  # type: ignore[no-untyped-def]
        x, y, counts, weight, mean, inverse, count = ctx.saved_tensors
        with torch.autocast(x.device.type, enabled=False):
            wide, passed = x.float(), torch.where(y > 0, grad, 0).float()
            own = torch.stack([passed.sum(0), ((wide - mean) * passed).sum(0) * inverse])
            total, along = sum_over_ranks(own)
            slope = along * inverse / count
            inner = torch.addcmul(total / count - mean * slope, wide, slope)
            dx = (passed - inner * counts) * (weight * inverse)
        return dx.to(x.dtype), None, own[1], own[0], None
