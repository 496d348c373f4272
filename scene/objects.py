"""The object encoder: a small PointNet++ from an object's coloured points to one feature vector.

Follows Qi et al., PointNet++ (arXiv:1706.02413) in single-scale grouping, as GPS uses it (arXiv:2401.09340,
supplement A), with two set-abstraction stages instead of three and layer norm instead of batch norm, so that an
object's feature depends on that object alone. The radius that normalisation removes is handed to the last layer: a mug
and a bin differ in little else.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.errors import InputError
from scene.pointops import ball_query, farthest_points, gather

CENTRES, RADIUS, NEIGHBOURS = 32, 0.35, 16  # after normalisation an object has radius 1


def normalise_points(points: Float[Tensor, "N P 6"]) -> tuple[Float[Tensor, "N P 6"], Float[Tensor, " N"]]:
    """Points centred on their mean and scaled to radius 1, colours 0..255 to [-1, 1]; and the radius in metres.

    An object of one point (or many at one place) has radius 0 and stays at the origin.
    """
    offset = points[..., :3] - points[..., :3].mean(1, keepdim=True)
    radius = offset.norm(dim=-1).amax(1)
    shape = offset / radius.clamp(min=1e-6)[:, None, None]
    return torch.cat([shape, points[..., 3:] / 127.5 - 1], -1), radius


def location_tokens(points: Float[Tensor, "N P 6"]) -> Float[Tensor, "N 6"]:
    """Where an object is: mean of its points (not the box centre) and its axis-aligned extents, in metres."""
    xyz = points[..., :3]
    return torch.cat([xyz.mean(1), xyz.amax(1) - xyz.amin(1)], -1)


def rotate_points(points: Float[Tensor, "N P 6"], yaw_rad: Float[Tensor, " N"] | float) -> Float[Tensor, "N P 6"]:
    """Points turned counter-clockwise about the world's z axis; each object by its own angle, or all by one."""
    yaw = torch.as_tensor(yaw_rad, dtype=points.dtype).expand(len(points))[:, None]
    x, y = points[..., 0], points[..., 1]
    turned = torch.stack([yaw.cos() * x - yaw.sin() * y, yaw.sin() * x + yaw.cos() * y], -1)
    return torch.cat([turned, points[..., 2:]], -1)


def subsample(points: Float[Tensor, "N Q 6"], count: int, rng: np.random.Generator) -> Float[Tensor, "N P 6"]:
    """`count` different points of each object's Q >= count, drawn per object."""
    if count > points.shape[1]:
        raise InputError(f"subsample() cannot draw {count} of {points.shape[1]} points per object")
    order = rng.random(points.shape[:2]).argpartition(count - 1, axis=1)[:, :count]
    return gather(points, torch.from_numpy(np.ascontiguousarray(order)))


class SetAbstraction(nn.Module):
    """Samples centres, gathers each one's neighbourhood, and max-pools a small network over it."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        sizes = (inputs + 3, *widths)
        layers: list[nn.Module] = []
        for before, after in zip(sizes[:-1], sizes[1:]):
            layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU()]
        self.net = nn.Sequential(*layers)

    def forward(
        self, xyz: Float[Tensor, "N P 3"], features: Float[Tensor, "N P C"], *, everything: bool = False
    ) -> tuple[Float[Tensor, "N M 3"], Float[Tensor, "N M D"]]:
        """Centres and their features; with `everything` one neighbourhood of all points around the origin."""
        if everything:
            origin = torch.zeros_like(xyz[:, :1])
            return origin, self.net(torch.cat([xyz, features], -1)).amax(1, keepdim=True)
        with torch.no_grad():
            centres = gather(xyz, farthest_points(xyz, min(CENTRES, xyz.shape[1])))
            index = ball_query(xyz, centres, RADIUS, NEIGHBOURS)
        around = gather(torch.cat([xyz, features], -1), index)  # (N, M, K, 3 + C)
        around = torch.cat([around[..., :3] - centres[:, :, None], around[..., 3:]], -1)
        return centres, self.net(around).amax(2)


class ObjectEncoder(nn.Module):
    """Object points to a feature vector per object."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        # the first stage also sees where a point lies in its object: "seat below back" is a matter of place
        self.first = SetAbstraction(6, (32, 64))
        self.second = SetAbstraction(64, (128, dim))
        self.out = nn.Linear(dim + 1, dim)

    def forward(self, points: Float[Tensor, "N P 6"]) -> Float[Tensor, "N D"]:
        """Features of N objects of P points each: xyz in metres in any frame that keeps z up, rgb 0..255.

        Raises:
            InputError: the array is not (N, P, 6) with at least one point per object.
        """
        if points.ndim != 3 or points.shape[-1] != 6 or points.shape[1] == 0:
            raise InputError(
                f"object points have shape {tuple(points.shape)}, expected (N, P, 6): xyz in metres and rgb 0..255; "
                "scene.geometry.object_points() makes them"
            )
        shape, radius = normalise_points(points)
        xyz = shape[..., :3].contiguous()
        centres, features = self.first(xyz, shape)
        _, pooled = self.second(centres, features, everything=True)
        return self.out(torch.cat([pooled[:, 0], radius.clamp(min=1e-3).log()[:, None]], -1))

    @torch.no_grad()
    def encode(self, points: Float[Tensor, "N P 6"], chunk: int = 256) -> Float[Tensor, "N D"]:
        """Features in evaluation mode without gradients, `chunk` objects at a time (bounded memory)."""
        was_training, _ = self.training, self.eval()
        parts = [self(part) for part in points.split(chunk)] if len(points) else []
        self.train(was_training)
        return torch.cat(parts) if parts else torch.zeros(0, self.out.out_features)
