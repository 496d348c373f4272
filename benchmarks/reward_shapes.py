"""Dual encoders of published shapes with random weights, and what one frame costs them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

from vl.embedder import DualEncoder
from vl.image_towers import ImageTowerConfig
from vl.model import VLConfig, VLModel
from vl.rewards import VLMReward
from vl.tokenizer import train_tokenizer


@dataclass(frozen=True)
class Shape:
    """The image tower of a published dual encoder."""

    family: str  # transformers model type: clip or siglip
    patch: int  # pixels
    width: int
    layers: int
    heads: int
    hidden: int  # of the feed-forward part
    dim: int  # of the joint space
    side: int = 224  # pixels, height = width


VIT_B32: Final = Shape("clip", 32, 768, 12, 12, 3072, 512)
VIT_L14: Final = Shape("clip", 14, 1024, 24, 16, 4096, 768)
SO400M: Final = Shape("siglip", 14, 1152, 27, 16, 4304, 1152)
SMALL: Final = Shape("clip", 8, 32, 2, 2, 64, 16, side=32)
SMALL_SIGLIP: Final = Shape("siglip", 8, 32, 2, 2, 64, 32, side=32)


def encoder(shape: Shape, device: torch.device, dtype: torch.dtype = torch.float32) -> DualEncoder:
    """Both towers with random weights; the text tower is tiny, for no text is read here."""
    vision = {
        "image_size": shape.side, "patch_size": shape.patch, "hidden_size": shape.width,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads, "intermediate_size": shape.hidden,
    }  # fmt: skip
    text: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 32,
        "bos_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    own: dict[str, Any] = {"projection_dim": shape.dim}
    if shape.family == "siglip":
        own, text = {}, text | {"projection_size": shape.dim}
    config = AutoConfig.for_model(shape.family, vision_config=vision, text_config=text, **own)
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        return DualEncoder(AutoModel.from_config(config), None, {}, dtype)


def two_tower(image: ImageTowerConfig) -> VLModel:
    """The project's own towers with random weights."""
    return VLModel.create(VLConfig(image=image), train_tokenizer(["a chair"]), seed=0).eval()


def reward_of(embedder: DualEncoder | VLModel, seed: int = 0) -> VLMReward:
    """VLM-RM for eight goals at alpha 0.5; its vectors are random, which costs as much as any others."""
    vectors = torch.randn(9, embedder.dim, generator=torch.Generator().manual_seed(seed))
    vectors = torch.nn.functional.normalize(vectors, dim=-1).to(embedder.device)
    return VLMReward.from_vectors(embedder, vectors[:8], vectors[8], alpha=0.5)


def pictures(count: int, side: int, device: torch.device, seed: int = 0) -> UInt8[Tensor, "B S S 3"]:
    """Random frames."""
    drawn = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return torch.from_numpy(drawn).to(device)


def normalised(embedder: DualEncoder, frames: UInt8[Tensor, "B S S 3"]) -> Float[Tensor, "B 3 S S"]:
    """What the image tower reads, as transformers would hand it over."""
    pixels = frames.permute(0, 3, 1, 2).float() * embedder.scale + embedder.shift
    return pixels.contiguous().to(embedder.image_dtype)


@torch.no_grad()
def bare(embedder: DualEncoder, pixels: Float[Tensor, "B 3 S S"]) -> Any:
    """The encoder and nothing else: transformers' own forward pass on pixels that are ready."""
    return embedder.model.get_image_features(pixel_values=pixels)


def products_per_frame(embed: Callable[[UInt8[Tensor, "1 S S 3"]], object], side: int, device: torch.device) -> int:
    """Floating-point operations of the matrix products and convolutions of one frame."""
    # fused attention on a processor is not counted, its parts are
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        embed(pictures(1, side, device))
    return int(counter.get_total_flops())
