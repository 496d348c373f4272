"""Pictures at the boundary of a model: what comes in is checked, and bytes become numbers around zero."""

import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor
from torch.nn import functional as F

from core.errors import InputError


def checked_images(images: UInt8[Tensor, "B H W 3"] | UInt8[ndarray, "B H W 3"]) -> UInt8[Tensor, "B H W 3"]:
    """The images as a tensor, or an InputError that says how they differ from uint8 (B, H, W, 3)."""
    if isinstance(images, ndarray):  # torch takes neither read-only arrays (memory maps) nor negative strides
        tensor = torch.from_numpy(images if images.flags.writeable and images.flags.c_contiguous else images.copy())
    else:
        tensor = images
    if tensor.dtype != torch.uint8 or tensor.ndim != 4 or tensor.shape[-1] != 3 or 0 in tensor.shape[1:]:
        raise InputError(
            f"images are {tensor.dtype} of shape {tuple(tensor.shape)}, expected uint8 (B, H, W, 3) "
            f"(see core/conventions.py); {_advice(tensor)}"
        )
    return tensor


def _advice(images: Tensor) -> str:
    """How to turn what came into uint8 (B, H, W, 3)."""
    shape = images.shape
    if images.ndim == 4 and shape[1] == 3 and shape[-1] != 3:
        return "channels come first: use images.permute(0, 2, 3, 1)"
    if images.ndim == 4 and shape[-1] == 4:
        return "leave the fourth channel out: images[..., :3]"
    if images.ndim == 4 and shape[-1] == 1:
        return "grey pictures need their channel three times: images.expand(-1, -1, -1, 3)"
    if images.ndim == 3 and shape[-1] == 3:
        return "a single image needs images[None]"
    if images.ndim == 3:
        return "grey pictures need their channel three times: images[..., None].expand(-1, -1, -1, 3)"
    if images.ndim == 4 and 0 in shape[1:]:
        return "these pictures hold no pixel"
    if images.ndim == 4 and images.is_floating_point():
        return "values of 0..1 become bytes by (255 * images).round().to(torch.uint8)"
    return "pictures are bytes, 0..255, in three channels"


def scale_pixels(images: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B 3 H W"]:
    """0..255 to -1..1, channels first in shape and last in memory (no copy of the layout)."""
    return images.permute(0, 3, 1, 2).float().mul_(1 / 127.5).sub_(1.0)


CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Pixel statistics of OpenAI's CLIP."""

NEUTRAL = (0.5, 0.5, 0.5)
"""Mean and deviation that leave -1..1 as it is."""


def prepare_pixels(
    images: UInt8[Tensor, "B H W 3"],
    size: tuple[int, int],
    gain: Float[Tensor, "B 3 1 1"] | None = None,
    *,
    mean: tuple[float, ...] = NEUTRAL,
    std: tuple[float, ...] = NEUTRAL,
    filter: str = "bilinear",
) -> Float[Tensor, "B 3 h w"]:
    """Pictures as a tower reads them: resized (aspect squashed), colours scaled by `gain`, normalised.

    Args:
        size: height and width.
        gain: factors for 0..255, as in colour jitter; what exceeds white becomes white.
        mean, std: of 0..1 values.
        filter: bilinear or bicubic.
    """
    pixels = scale_pixels(images)
    if pixels.shape[2:] != size:
        pixels = F.interpolate(pixels, size, mode=filter, antialias=True, align_corners=False)
        if filter == "bicubic":
            pixels = pixels.clamp_(-1, 1)
    if gain is not None:
        pixels = ((pixels + 1) * gain).clamp_(max=2) - 1  # the gain acts on 0..255, not on -1..1
    if (tuple(mean), tuple(std)) != (NEUTRAL, NEUTRAL):
        centre, spread = (torch.tensor(values, device=pixels.device).view(3, 1, 1) for values in (mean, std))
        pixels = (pixels - (2 * centre - 1)) / (2 * spread)
    return pixels
