"""Pictures at the boundary of a model: what comes in is checked, and bytes become numbers around zero."""

from typing import Any

import numpy as np
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


def shown_frame(frame: Any, max_side: int | None = None) -> UInt8[ndarray, "H W 3"]:
    """A picture as a generative model is shown it: checked, and reduced where its longer side is over `max_side`.

    Args:
        frame: uint8 (H, W, 3), an array or a tensor of any device.

    Raises:
        InputError: it is something else.
    """
    picture = frame.cpu().numpy() if isinstance(frame, Tensor) else np.asarray(frame)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise InputError(f"a frame is {picture.dtype} {picture.shape}, expected uint8 (H, W, 3)")
    height, width, _ = picture.shape
    scale = 1 if max_side is None else max_side / max(height, width)
    if scale >= 1:
        return picture
    from PIL import Image

    size = max(1, round(width * scale)), max(1, round(height * scale))
    # in whole numbers, so that every machine finds the answers in the cache
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


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
