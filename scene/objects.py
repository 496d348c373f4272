"""Object encoders: PointNet++ from an object's coloured points to one feature vector.

Both follow Qi et al., PointNet++ (arXiv:1706.02413) in single-scale grouping. `gps` is that of GPS (arXiv:2401.09340,
supplement A; sizes of its released configuration): three stages with batch norm. `small` has two stages and layer norm
instead, so that an object's feature depends on that object alone in training, too; and it hands the radius that
normalisation removes to its last layer: a mug and a bin differ in little else.
"""

from abc import ABC, abstractmethod
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.errors import InputError, check_choice
from scene.pointnet import SetAbstraction
from scene.pointops import ball_query, farthest_points, gather, grouped, neighbourhoods, segment_max

CHUNK, CPU_CHUNK = 1024, 64
"""Objects encoded at once; few on a CPU, whose caches more of their intermediate features would not fit."""
CENTRES, RADIUS, NEIGHBOURS = 32, 0.35, 16  # after normalisation an object has radius 1


def normalise_points(points: Float[Tensor, "N P 6"]) -> tuple[Float[Tensor, "N P 6"], Float[Tensor, " N"]]:
    """Points centred on their mean and scaled to radius 1, colours 0..255 to [-1, 1]; and the radius in metres.

    An object of one point (or many at one place) has radius 0 and stays at the origin.
    """
    # first from point 0, which is exact: else the mean's rounding would become the shape of many points at one place
    offset = points[..., :3] - points[:, :1, :3]
    offset = offset - offset.mean(1, keepdim=True)
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


class ObjectEncoder(nn.Module, ABC):
    """Object points to a feature vector per object; leaves compute `features`.

    `train()` leaves a frozen encoder in evaluation mode, so its norms keep their statistics inside a training model.
    """

    out: nn.Linear

    def __init__(self) -> None:
        super().__init__()
        self.frozen = False

    @abstractmethod
    def features(self, points: Float[Tensor, "N P 6"]) -> Float[Tensor, "N D"]:
        """Features of points that are known to be good."""

    def forward(self, points: Float[Tensor, "N P 6"]) -> Float[Tensor, "N D"]:
        """Features of N objects of P points each: xyz in metres in any frame that keeps z up, rgb 0..255.

        Raises:
            InputError: the array is not (N, P, 6) with at least one point per object, or holds NaN or infinity.
        """
        check_points(points)
        return self.features(points) if len(points) else points.new_zeros(0, self.out.out_features)

    @torch.no_grad()
    def encode(self, points: Float[Tensor, "N P 6"], chunk: int = 0) -> Float[Tensor, "N D"]:
        """Features in evaluation mode without gradients, `chunk` objects at a time (bounded memory).

        Args:
            chunk: 0 = as many as suit the device.

        Raises:
            InputError: as `forward`.
        """
        check_points(points)
        was_training, _ = self.training, self.eval()
        chunk = chunk or (CPU_CHUNK if points.device.type == "cpu" else CHUNK)
        parts = [self.features(part) for part in points.split(chunk)] if len(points) else []
        self.train(was_training)
        return torch.cat(parts) if parts else points.new_zeros(0, self.out.out_features)

    def freeze(self) -> "ObjectEncoder":
        """No gradients and no change of norm statistics from here on."""
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> "ObjectEncoder":
        """As in torch; a frozen encoder stays in evaluation mode."""
        return super().train(mode and not self.frozen)


def check_points(points: Float[Tensor, "N P 6"]) -> None:
    """Raises InputError unless these are (N, P, 6), P at least 1, and finite; it names the objects that are not."""
    if points.ndim != 3 or points.shape[-1] != 6 or points.shape[1] == 0:
        raise InputError(
            f"object points have shape {tuple(points.shape)}, expected (N, P, 6): xyz in metres and rgb 0..255; "
            "scene.geometry.object_points() makes them"
        )
    if not torch.isfinite(points.sum()):  # one pass; which object it is matters only then
        finite = torch.isfinite(points).flatten(1).all(1)
        if not finite.all():
            bad = (~finite).nonzero()[:, 0].tolist()
            more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
            raise InputError(
                f"points of object {', '.join(map(str, bad[:5]))}{more} (of {len(points)}) hold NaN or infinity; "
                "mend or leave out these objects where they are loaded"
            )


class SmallStage(nn.Module):
    """A set-abstraction stage with layer norm."""

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
            around = neighbourhoods(ball_query(xyz, centres, RADIUS, NEIGHBOURS), xyz.shape[1])
        rows = grouped(torch.cat([xyz, features], -1), centres, around)
        return centres, segment_max(self.net(rows), around.start).unflatten(0, centres.shape[:2])


class SmallEncoder(ObjectEncoder):
    """Two stages, layer norm; the default."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        # the first stage also sees where a point lies in its object: "seat below back" is a matter of place
        self.first = SmallStage(6, (32, 64))
        self.second = SmallStage(64, (128, dim))
        self.out = nn.Linear(dim + 1, dim)

    def features(self, points: Float[Tensor, "N P 6"]) -> Float[Tensor, "N D"]:
        """See `ObjectEncoder.features`."""
        shape, radius = normalise_points(points)
        xyz = shape[..., :3].contiguous()
        centres, features = self.first(xyz, shape)
        _, pooled = self.second(centres, features, everything=True)
        return self.out(torch.cat([pooled[:, 0], radius.clamp(min=1e-3).log()[:, None]], -1))


class GpsEncoder(ObjectEncoder):
    """Three stages with batch norm, as in GPS.

    Parameters, and what they are called in a released SceneVerse checkpoint (below `point_feature_extractor.`):

    | here | there |
    |---|---|
    | `stages.<i>.layers.<k>.weight` (out, in) | `encoder.<i>.mlps.0.layer<k>.conv.weight` (out, in, 1, 1) |
    | `stages.<i>.norms.<k>.<name>` | `encoder.<i>.mlps.0.layer<k>.bn.bn.<name>` |
    | `out.<weight, bias>` | `fc.<weight, bias>` |

    Differs from there in what a bad point does: the released sampling skips points within 3 cm of the origin (of a unit
    sphere) as farthest points, this one takes every point alike. The dropout of 0.1 on the features is the model's.
    """

    STAGES: Final = (  # widths, centres, radius (objects have radius 1), slots of a ball
        ((64, 64, 128), 32, 0.2, 32),
        ((128, 128, 256), 16, 0.4, 32),
        ((256, 512, 768), 0, 0.0, 0),
    )

    def __init__(self, dim: int) -> None:
        super().__init__()
        inputs = (3, *(widths[-1] for widths, *_ in self.STAGES))  # of the points: their colours
        self.stages = nn.ModuleList(SetAbstraction(width, *stage) for width, stage in zip(inputs, self.STAGES))
        self.out = nn.Linear(inputs[-1], dim)

    def features(self, points: Float[Tensor, "N P 6"]) -> Float[Tensor, "N D"]:
        """See `ObjectEncoder.features`."""
        shape, _ = normalise_points(points)
        xyz, features = shape[..., :3].contiguous(), shape[..., 3:]
        for stage in self.stages:
            xyz, features = stage(xyz, features)
        return self.out(features[:, 0])


ENCODERS: Final[dict[str, type[SmallEncoder] | type[GpsEncoder]]] = {"small": SmallEncoder, "gps": GpsEncoder}


def object_encoder(name: str, dim: int) -> ObjectEncoder:
    """A new encoder with features of width `dim`.

    Raises:
        InputError: no encoder has this name.
    """
    check_choice("object_encoder", name, ENCODERS)
    return ENCODERS[name](dim)
