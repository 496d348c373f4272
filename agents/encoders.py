"""What turns one named observation into features: pictures, object tokens, and words that condition both.

A policy picks an encoder per observation by its shape (`kind_of`) and, for pictures, by name (`IMAGE_ENCODERS`).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from core import distributed
from core.errors import InputError

DEPTH_RANGE_M = 10.0  # depths are cut here and divided by it
CLIP = 5.0  # standardised observations beyond this many standard deviations are cut off
KINDS = ("vector", "image", "depth", "text", "tokens", "token_mask")


@dataclass(frozen=True)
class ObservationSpec:
    """Shape of one observation of one environment, and its type: "float32", "uint8", "bool" or "int64"."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type as torch names it."""
        return getattr(torch, self.dtype)


def kind_of(name: str, spec: ObservationSpec) -> str:
    """How an observation is read: one of KINDS.

    The names "depth", "text", "subgoal" (read as text), "tokens" and "token_mask" are taken; apart from them, floats of
    shape (F,) are vectors and uint8 of shape (H, W, C) are images.

    Raises:
        InputError: nothing here reads such an observation.
    """
    fits = {
        "depth": (2, "float32"),
        "text": (1, "float32"),
        "subgoal": (1, "float32"),
        "tokens": (2, "float32"),
        "token_mask": (1, "bool"),
    }
    if name in fits:
        if (len(spec.shape), spec.dtype) == fits[name]:
            return "text" if name == "subgoal" else name
    elif spec.dtype == "float32" and len(spec.shape) == 1:
        return "vector"
    elif spec.dtype == "uint8" and len(spec.shape) == 3:
        return "image"
    raise InputError(
        f"no encoder reads the observation {name!r} of shape {spec.shape} and type {spec.dtype}; known: vectors (F,) "
        "float32, images (H, W, C) uint8, depth (H, W) float32, text and subgoal (D,) float32, tokens (K, D) float32, "
        "token_mask (K,) bool"
    )


class RunningNorm(nn.Module):
    """Mean and variance of all observations seen so far, merged batch by batch."""

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("var", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, batch: Float[Tensor, "*b F"]) -> None:
        """Merge a batch; under torchrun the batches of all processes, so that every process holds the same numbers.

        Source: Chan, Golub, LeVeque (1979), pairwise update of mean and variance.
        """
        rows = batch.reshape(-1, batch.shape[-1]).double()
        count = torch.tensor(float(len(rows)), dtype=torch.float64, device=rows.device)
        mean, square = rows.mean(0), rows.var(0, unbiased=False)
        if distributed.world_size() > 1:
            own = mean
            moments = distributed.sum_over_ranks(torch.cat([mean * count, count[None]]))
            mean = moments[:-1] / moments[-1]
            square = distributed.sum_over_ranks((square + (own - mean) ** 2) * count) / moments[-1]
            count = moments[-1]
        total = self.count + count
        delta = mean - self.mean
        self.var.copy_((self.var * self.count + square * count + delta**2 * self.count * count / total) / total)
        self.mean.add_(delta * count / total)
        self.count.copy_(total)

    def forward(self, observation: Float[Tensor, "*b F"]) -> Float[Tensor, "*b F"]:
        scale = (self.var + 1e-6).rsqrt()
        return ((observation - self.mean.to(observation)) * scale.to(observation)).clamp(-CLIP, CLIP)


class ImageEncoder(nn.Module):
    """Convolutions over colour, or colour and depth, to a feature vector.

    Pictures arrive as the simulator makes them, (H, W, C) bytes: read as a channels-last tensor they need no copy.

    Args:
        layers: (channels, kernel, stride) of each convolution.
        channels: of the picture, depth included.
        text: width of a sentence vector that scales and shifts the last feature maps (FiLM); 0 = none.

    Raises:
        InputError: the picture is smaller than the kernels need.

    Source: NatureCNN of Mnih et al., Nature 518 (2015); FiLM of Perez et al., arXiv:1709.07871.
    """

    def __init__(
        self,
        layers: tuple[tuple[int, int, int], ...],
        size: tuple[int, int],
        channels: int,
        has_depth: bool,
        width: int,
        text: int,
    ) -> None:
        super().__init__()
        self.has_depth = has_depth
        convolutions, (rows, columns) = [], size
        for out, kernel, stride in layers:
            rows, columns = (rows - kernel) // stride + 1, (columns - kernel) // stride + 1
            if rows < 1 or columns < 1:
                raise InputError(
                    f"pictures of {size[0]}x{size[1]} are too small for this image encoder; use 36 or more"
                )
            convolutions.append(nn.Conv2d(channels, out, kernel, stride))
            channels = out
        self.first, self.rest = (
            convolutions[0],
            nn.Sequential(*(x for c in convolutions[1:] for x in (c, nn.ReLU(True)))),
        )
        self.out = nn.Linear(channels * rows * columns, width)
        self.film = nn.Linear(text, 2 * channels) if text else None

    def forward(
        self,
        image: UInt8[Tensor, "B H W C"] | None,
        depth: Float[Tensor, "B H W"] | None,
        text: Float[Tensor, "B D"] | None,
        half: bool,
    ) -> Float[Tensor, "B E"]:
        """Features; `half` computes in bfloat16, weights stay float32."""
        device = self.out.weight.device
        dtype = torch.bfloat16 if half else torch.float32
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            weight, parts = self.first.weight, []
            if image is not None:
                parts.append(image.permute(0, 3, 1, 2).to(dtype))  # bytes are exact in bfloat16
                # 1/255 goes into the kernel, which is smaller than the pictures
                scale = torch.full((weight.shape[1], 1, 1), 1 / 255, device=device)
                if depth is not None:
                    scale[-1] = 1.0
                weight = weight * scale
            if depth is not None:
                parts.append((depth.clamp(0, DEPTH_RANGE_M) / DEPTH_RANGE_M).to(dtype)[:, None])
            picture = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
            x = self.rest(F.relu(F.conv2d(picture, weight, self.first.bias, self.first.stride), inplace=True))
            if self.film is not None and text is not None:
                scale, shift = self.film(text).chunk(2, -1)
                x = F.relu(x * (1 + scale[..., None, None]) + shift[..., None, None])
            # flattened as it lies in memory, (B, H, W, C): no transpose
            return F.relu(self.out(x.permute(0, 2, 3, 1).flatten(1))).float()


class TokenEncoder(nn.Module):
    """Objects as tokens, read by what the sentence asks for: each token is scored against the text, per head.

    The mean of the tokens weighted by the softmax of the scores goes on, beside the scores' maxima. Permuting the
    objects changes nothing; with no object at all the features are those of an empty room, zeros.

    Source: additive attention of Bahdanau et al., arXiv:1409.0473.
    """

    def __init__(self, token: int, text: int, width: int, heads: int = 4) -> None:
        super().__init__()
        self.token = nn.Linear(token, width)
        self.text = nn.Linear(text, width, bias=False) if text else None
        self.score = nn.Linear(width, heads)
        self.out = nn.Linear(heads * width + heads, width)

    def forward(
        self, tokens: Float[Tensor, "B K D"], mask: Bool[Tensor, "B K"] | None, text: Float[Tensor, "B D2"] | None
    ) -> Float[Tensor, "B E"]:
        hidden = self.token(tokens)
        if self.text is not None and text is not None:
            hidden = hidden + self.text(text)[:, None]
        hidden = torch.tanh(hidden)
        score = self.score(hidden)  # (B, K, heads)
        if mask is None:
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        low = score.masked_fill(~mask[..., None], -1e4)  # finite: a row without tokens must not become NaN
        attention = low.softmax(1) * mask[..., None]
        read = torch.einsum("bkh,bkw->bhw", attention, hidden).flatten(1)
        best = low.amax(1) * mask.any(1, keepdim=True)
        return torch.tanh(self.out(torch.cat([read, best], 1)))


class _Tanh(torch.autograd.Function):
    """tanh(x) = 2 sigmoid(2x) - 1: torch's sigmoid is ten times as fast on the CPU as its tanh, which took 40 % of a
    PPO update. Off by at most 1e-7."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[override]
        y = torch.sigmoid(x * 2).mul_(2).sub_(1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return torch.ops.aten.tanh_backward(gradient, ctx.saved_tensors[0])


class Tanh(nn.Module):
    """tanh, fast on the CPU; differentiable once there."""

    SMALL = 16_384  # numbers up to which torch's own is the faster, being called with less ado

    def forward(self, x: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        return torch.tanh(x) if x.is_cuda or x.numel() <= self.SMALL else _Tanh.apply(x)


class MLP(nn.Sequential):
    """Hidden layers with tanh; none at all passes its input on."""

    def __init__(self, size: int, width: int, layers: int) -> None:
        parts: list[nn.Module] = []
        for _ in range(layers):
            parts += [nn.Linear(size, width), Tanh()]
            size = width
        super().__init__(*parts)
        self.size = size


IMAGE_ENCODERS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "small": ((16, 8, 4), (32, 4, 2)),
    "nature": ((32, 8, 4), (64, 4, 2), (64, 3, 1)),
}


def initialise(module: nn.Module) -> None:
    """Orthogonal weights and zero biases, the gain of ReLU layers. Source: Saxe et al., arXiv:1312.6120."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(layer.weight, math.sqrt(2))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
