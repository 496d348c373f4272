"""The two encoders below the joint space: a small convolutional image tower and any transformers text encoder."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel

from core.errors import InputError, MissingFileError, nearest

STRIDE = 8
"""Pixels of the image per cell of the local map, along each side."""

TEXT_ENCODERS = (
    "albert", "bert", "clip_text_model", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta",
    "siglip_text_model",
)  # fmt: skip
"""Some model types to suggest; transformers knows more."""


@dataclass
class ImageTowerConfig:
    """Shape of the image tower."""

    image_size: int = 64  # pixels, height = width; a multiple of STRIDE
    stem_width: int = 64  # channels at a quarter of the resolution
    width: int = 96  # channels at an eighth of the resolution
    stem_blocks: int = 0  # residual blocks at a quarter of the resolution
    blocks: int = 1  # residual blocks at an eighth of the resolution

    def __post_init__(self) -> None:
        if self.image_size < STRIDE or self.image_size % STRIDE:
            raise InputError(f"image_size={self.image_size} should be a positive multiple of {STRIDE}")
        for name in ("stem_width", "width"):
            value = getattr(self, name)
            if value < GROUPS or value % GROUPS:
                raise InputError(f"{name}={value} should be a positive multiple of {GROUPS} (GroupNorm groups)")


@dataclass
class TextTowerConfig:
    """Which text encoder: weights from `pretrained`, or a random start of `model_type` with `options`."""

    pretrained: str = ""  # transformers hub id or directory; empty = random start
    model_type: str = "bert"  # any encoder name that transformers.AutoConfig knows
    options: dict[str, Any] = field(default_factory=dict)  # fields of that transformers config
    pool: str = "mean"  # mean over tokens, or cls = first token

    def __post_init__(self) -> None:
        if self.pool not in ("mean", "cls"):
            raise InputError(f"text pool is {self.pool!r}, expected mean or cls")


GROUPS = 8


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(norm(x))))). GroupNorm, so that an image's features do not depend on its batch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)  # the block starts as the identity
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]  # bias is there: bias=True

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        inner = self.first(torch.relu(self.norm(x)))
        return x + self.second(torch.relu(inner))


class ImageTower(nn.Module):
    """Image to a map of local features: patchify by 4, residual blocks, halve, residual blocks.

    A learned position map is added at both resolutions: captions say left or right and near or far, and where a thing
    stands in the image (its column, the row where it meets the floor) tells both.
    """

    def __init__(self, config: ImageTowerConfig) -> None:
        super().__init__()
        cells = config.image_size // STRIDE
        self.width = config.width
        self.patches = nn.Conv2d(3, config.stem_width, 4, stride=4)
        self.stem_position = nn.Parameter(0.02 * torch.randn(1, config.stem_width, 2 * cells, 2 * cells))
        self.stem = nn.Sequential(*(ResidualBlock(config.stem_width) for _ in range(config.stem_blocks)))
        self.halve = nn.Conv2d(config.stem_width, config.width, 3, stride=2, padding=1)
        self.position = nn.Parameter(0.02 * torch.randn(1, config.width, cells, cells))
        self.body = nn.Sequential(*(ResidualBlock(config.width) for _ in range(config.blocks)))
        self.norm = nn.GroupNorm(GROUPS, config.width)

    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """Local features, one per 8x8 pixels; `pixels` in [-1, 1] (see `scale_pixels`)."""
        x = torch.relu(self.stem(self.patches(pixels) + self.stem_position))
        x = self.body(self.halve(x) + self.position)
        return torch.relu(self.norm(x))


def scale_pixels(images: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B 3 H W"]:
    """0..255 to -1..1, channels first in shape and last in memory (no copy of the layout)."""
    return images.permute(0, 3, 1, 2).float().mul_(1 / 127.5).sub_(1.0)


class TextTower(nn.Module):
    """Tokens to one vector: a transformers encoder, then mean over real tokens or the first token."""

    def __init__(self, encoder: nn.Module, pool: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.pool = pool
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None  # type: ignore[assignment]  # a head we would neither read nor train

    @property
    def width(self) -> int:
        return int(self.encoder.config.hidden_size)  # type: ignore[union-attr, arg-type]

    def forward(self, input_ids: Int64[Tensor, "B L"], attention_mask: Int64[Tensor, "B L"]) -> Float[Tensor, "B C"]:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pool == "cls":
            return hidden[:, 0]
        return masked_mean(hidden, attention_mask.bool())


def masked_mean(values: Float[Tensor, "B L C"], mask: Bool[Tensor, "B L"]) -> Float[Tensor, "B C"]:
    """Mean over the positions where `mask` is true; rows without one give zeros."""
    weight = mask.unsqueeze(-1).to(values.dtype)
    return (values * weight).sum(1) / weight.sum(1).clamp(min=1)


def text_encoder_config(config: TextTowerConfig, vocab_size: int, max_tokens: int, pad_token_id: int) -> Any:
    """The transformers config of a random start: ours for what is not in `options` (2 layers, 96 wide, no dropout).

    Raises:
        InputError: transformers does not know the model type, or its width does not split over its heads.
    """
    options: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 192,
        "hidden_act": "relu",  # a fifth cheaper than GELU on a processor
        "max_position_embeddings": max_tokens,
        "pad_token_id": pad_token_id,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    } | dict(config.options)
    if options["hidden_size"] % options["num_attention_heads"]:
        raise InputError(
            f"text hidden_size={options['hidden_size']} does not split over "
            f"num_attention_heads={options['num_attention_heads']}"
        )
    if config.model_type not in CONFIG_MAPPING:
        raise InputError(
            f"text model_type={config.model_type!r} is unknown to transformers; "
            f"{nearest(config.model_type, TEXT_ENCODERS)}"
        )
    try:
        return AutoConfig.for_model(config.model_type, **options)
    except (ValueError, TypeError) as error:
        message = str(error).splitlines()[0][:120]
        raise InputError(f"text model_type={config.model_type!r} with {options}: {message}") from error


def build_text_tower(encoder_config: Any, pool: str) -> TextTower:
    """A tower of random weights in the shape of a transformers config."""
    return TextTower(AutoModel.from_config(encoder_config), pool)


def pretrained_text_tower(name: str, pool: str) -> TextTower:
    """A tower with a published encoder's weights: a directory, or a hub id that the user named.

    Raises:
        MissingFileError: a path where no folder is. InputError: transformers finds no encoder under that name.
    """
    return TextTower(load_pretrained(AutoModel, name), pool)


def load_pretrained(auto_class: Any, name: str) -> Any:
    """What `auto_class` of transformers (AutoModel, AutoTokenizer) makes of a text encoder's directory or hub id.

    Raises:
        MissingFileError: a path where no folder is. InputError: it does not load.
    """
    path = Path(name).expanduser()
    if not path.is_dir() and looks_like_path(name):
        raise MissingFileError(f"text encoder folder not found: {path} (working folder: {Path.cwd()})")
    try:
        return auto_class.from_pretrained(str(path if path.is_dir() else name), local_files_only=path.is_dir())
    except Exception as error:  # safetensors, tokenizers and the hub client each raise their own kinds
        message = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise InputError(f"text encoder {name!r} does not load: {message}") from error


def looks_like_path(path_or_id: str | Path) -> bool:
    """Whether a name that is no folder was meant as one: a hub id is `name` or `org/name`, with no folder `org`."""
    text = str(path_or_id)
    if isinstance(path_or_id, Path) or text.startswith((".", "/", "~", "runs/")) or text.endswith("/"):
        return True
    parent, slash, _ = text.rpartition("/")
    return bool(slash) and ("/" in parent or Path(parent).is_dir())
