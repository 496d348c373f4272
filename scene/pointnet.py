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

from scene.batch_norm import BatchNormRelu
from scene.pointops import ball_query, farthest_points, gather, grouped, neighbourhoods, segment_max

EARLY = 16  # from this many input features on the first linear map comes before grouping


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
        points = torch.cat([xyz, features], -1)
        flat = points.flatten(0, 1)
        weight, bias = self._map(0)
        if not self.centres:
            rows = self._network(F.linear(flat, weight, bias), None)
            return torch.zeros_like(xyz[:, :1]), rows.unflatten(0, xyz.shape[:2]).amax(1, keepdim=True).relu()
        with torch.no_grad():
            centres = gather(xyz, farthest_points(xyz, min(self.centres, xyz.shape[1])))
            around = neighbourhoods(ball_query(xyz, centres, self.radius, self.samples), xyz.shape[1])
        middle = centres.flatten(0, 1)
        if self.early:
            rows = F.linear(flat, weight, bias)[around.point] - F.linear(middle, weight[:, :3])[around.centre]
        else:
            rows = F.linear(grouped(points, centres, around), weight, bias)
        pooled = segment_max(self._network(rows, around.repeats), around.start)
        return centres, pooled.unflatten(0, centres.shape[:2]).relu()  # which commutes with the maximum

    def _map(self, k: int) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the k-th linear map; in evaluation mode its norm is part of it."""
        layer, norm = self.layers[k], self.norms[k]
        assert isinstance(layer, nn.Linear) and isinstance(norm, BatchNormRelu)
        return (layer.weight, None) if self.training else norm.folded(layer.weight)

    def _network(self, rows: Float[Tensor, "E C"], repeats: Float[Tensor, " E"] | None) -> Float[Tensor, "E D"]:
        """All that follows the first linear map; in evaluation mode without the last ReLU."""
        for k, norm in enumerate(self.norms):
            if k:
                rows = F.linear(rows if self.training else rows.relu_(), *self._map(k))
            if self.training:
                assert isinstance(norm, BatchNormRelu)
                rows = norm.rows(rows, repeats)
        return rows
