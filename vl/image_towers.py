"""Image towers: a small convolutional one, and any image encoder of transformers, with one way to call them.

A tower turns pixels into states, one per patch or cell (after class tokens, where it has them), and one pooled vector
where its rule is not the mean. The states are the encoder's last ones after its final norm; with bridges the layers
below come with them, after the same norm. (CLIP and ConvNeXt norm their pooled vector only; here all their states are.)
"""

import dataclasses
import inspect
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from transformers import CONFIG_MAPPING
from transformers.utils import cached_file

from core.errors import InputError, check_choice
from vl.encoded import Encoded
from vl.encoders import (
    NORM_OF_POOLED_ONLY,
    add_lora,
    drop_pooler,
    encoder_config,
    final_norm,
    load_encoder,
    new_encoder,
)
from vl.pixels import prepare_pixels

STRIDE = 8
"""Pixels of the image per cell of the convolutional tower's map, along each side."""

GROUPS = 8

IMAGE_ENCODERS = (
    "clip_vision_model", "conv", "convnext", "deit", "dinov2", "resnet", "siglip_vision_model", "swin", "vit",
)  # fmt: skip
"""Some model types to suggest; transformers knows more."""

NOT_SQUARE = ("vit", "deit", "swin")
"""Transformers that learn positions of any aspect; the others learn a square and interpolate it."""

CLASS_TOKENS = 5
"""Most tokens that stand before the patches (class token and DINOv2's registers)."""


@dataclass
class ImageTowerConfig:
    """Which image tower: weights from `pretrained`, or a random start of `model_type` with `options`."""

    model_type: str = "conv"  # conv = a small one of this project; else any image encoder of transformers
    pretrained: str = ""  # transformers hub id or directory, wins over model_type; empty = random start
    options: dict[str, Any] = field(default_factory=dict)  # fields of that transformers config (random start only)
    image_size: int = 64  # height in pixels; 0 = what the pretrained encoder was trained at
    image_width: int = 0  # width in pixels; 0 = the height
    pool: str = "mean"  # mean over patches, cls = first token, pooler = the encoder's own pooled vector
    freeze: bool = False  # no gradient, eval mode also in training
    lora: int = 0  # rank of adapters on every linear layer (extra `peft`); 0 = none
    stem_width: int = 64  # conv only: channels at a quarter of the resolution
    width: int = 96  # conv only: channels at an eighth of the resolution
    stem_blocks: int = 0  # conv only: residual blocks at a quarter of the resolution
    blocks: int = 1  # conv only: residual blocks at an eighth of the resolution

    def __post_init__(self) -> None:
        check_choice("image pool", self.pool, ("mean", "cls", "pooler"))
        if self.image_size < 0 or self.image_width < 0 or self.lora < 0:
            raise InputError(
                f"image_size={self.image_size}, image_width={self.image_width} and lora={self.lora} should not be "
                "negative"
            )
        if self.freeze and self.lora:
            raise InputError(f"image freeze=true with lora={self.lora}: adapters keep the weights; leave freeze out")
        if self.pretrained:
            if self.options:
                raise InputError(f"image options={self.options} shape a random start; {self.pretrained} has its shape")
            return
        if self.image_size < 1:
            raise InputError("image_size=0 (the encoder's own) needs image pretrained=FOLDER; give a size")
        if self.model_type != "conv":
            return
        if any(side % STRIDE for side in self.size):
            raise InputError(f"image_size={self.image_size} should be a positive multiple of {STRIDE}, the width too")
        if self.pool != "mean" or self.lora or self.options:
            raise InputError(
                f"image model_type=conv with pool={self.pool}, lora={self.lora}, options={self.options}: it pools by "
                "mean and has no linear layers or options; take model_type=vit or another encoder of transformers"
            )
        for name in ("stem_width", "width"):
            value = getattr(self, name)
            if value < GROUPS or value % GROUPS:
                raise InputError(f"{name}={value} should be a positive multiple of {GROUPS} (GroupNorm groups)")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image_size, self.image_width or self.image_size


class ImageTower(nn.Module):
    """What all image towers share. `width`: of states; `depth`: layers it can hand on; `grid`: rows and columns."""

    width: int
    depth: int = 1
    grid: tuple[int, int]
    class_tokens: int = 0
    """Tokens before the patches."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    filter: str = "bilinear"
    """How pictures of another size are resized."""

    def __init__(self, config: ImageTowerConfig) -> None:
        super().__init__()
        self.config = config
        self.frozen = config.freeze

    def train(self, mode: bool = True) -> "ImageTower":
        """A frozen tower stays in eval mode."""
        return super().train(mode and not self.frozen)

    def pixels(
        self, images: UInt8[Tensor, "B H W 3"], gain: Float[Tensor, "B 3 1 1"] | None = None
    ) -> Float[Tensor, "B 3 h w"]:
        """Pictures as the tower reads them: resized (aspect squashed), colours scaled by `gain`, normalised."""
        return prepare_pixels(images, self.config.size, gain, mean=self.mean, std=self.std, filter=self.filter)

    def forward(
        self,
        pixels: Float[Tensor, "B 3 H W"],
        keep: int = 1,
        *,
        drop: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Encoded:
        """States without embedding.

        Args:
            pixels: from `pixels`.
            keep: layers to hand on.
            drop: share of patches left out of each image at random (FLIP, Li et al., arXiv:2212.00794).
            generator: where that choice is drawn from.

        Raises:
            InputError: drop with a tower that reads a whole grid.
        """
        raise NotImplementedError

    def mean_states(self, states: Float[Tensor, "B N C"]) -> Float[Tensor, "B C"]:
        """Mean over the patches, class tokens left out."""
        return states[:, self.class_tokens :].mean(1)

    def as_map(self, states: Float[Tensor, "B N C"]) -> Float[Tensor, "B C h w"]:
        """The patches' states where they lie in the image; row 0 is its top."""
        patches = states[:, self.class_tokens :]
        return patches.transpose(1, 2).unflatten(2, self.grid)


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


class ConvTower(ImageTower):
    """Image to a map of local features: patchify by 4, residual blocks, halve, residual blocks.

    A learned position map is added at both resolutions: captions say left or right and near or far, and where a thing
    stands in the image (its column, the row where it meets the floor) tells both.
    """

    def __init__(self, config: ImageTowerConfig) -> None:
        super().__init__(config)
        rows, columns = self.grid = (config.size[0] // STRIDE, config.size[1] // STRIDE)
        self.width = config.width
        self.patches = nn.Conv2d(3, config.stem_width, 4, stride=4)
        self.stem_position = nn.Parameter(0.02 * torch.randn(1, config.stem_width, 2 * rows, 2 * columns))
        self.stem = nn.Sequential(*(ResidualBlock(config.stem_width) for _ in range(config.stem_blocks)))
        self.halve = nn.Conv2d(config.stem_width, config.width, 3, stride=2, padding=1)
        self.position = nn.Parameter(0.02 * torch.randn(1, config.width, rows, columns))
        self.body = nn.Sequential(*(ResidualBlock(config.width) for _ in range(config.blocks)))
        self.norm = nn.GroupNorm(GROUPS, config.width)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.requires_grad_(not config.freeze)

    def forward(
        self,
        pixels: Float[Tensor, "B 3 H W"],
        keep: int = 1,
        *,
        drop: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Encoded:
        if drop:
            raise InputError("patch dropout needs an image tower that takes patches one by one (vit, ...), not conv")
        x = torch.relu(self.stem(self.patches(pixels) + self.stem_position))
        x = self.body(self.halve(x) + self.position)
        return Encoded([torch.relu(self.norm(x)).flatten(2).transpose(1, 2)])


class EncoderTower(ImageTower):
    """Any image encoder of transformers; a feature map (CNN) becomes one state per cell."""

    def __init__(self, config: ImageTowerConfig, encoder: Any, preprocessing: dict[str, Any]) -> None:
        """
        Args:
            preprocessing: content of the encoder's preprocessor_config.json, or {}: colours to -1..1, bilinear.

        Raises:
            InputError: the encoder does not read images of this size, or has no such pooled vector.
        """
        super().__init__(config)
        self.encoder, shape = encoder, encoder.config
        self.preprocessing = dict(preprocessing)
        mean, std = preprocessing.get("image_mean", self.mean), preprocessing.get("image_std", self.std)
        self.mean, self.std = (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
        self.filter = "bicubic" if preprocessing.get("resample") == 3 else "bilinear"
        staged = hasattr(shape, "depths") or hasattr(shape, "hidden_sizes")
        self.depth = 1 if staged else int(getattr(shape, "num_hidden_layers", 1))
        self.kind = str(shape.model_type)
        if config.pool != "pooler":
            drop_pooler(encoder)
        embeddings: Any = getattr(encoder, "embeddings", None)
        if getattr(embeddings, "mask_token", None) is not None:  # of a pretraining that is not run here
            embeddings.mask_token = None
            shape.use_mask_token = False
        self._interpolate = False
        self._kept: Int64[Tensor, "B K"] | None = None
        self._check_size(shape)
        self._probe()
        if embeddings is not None and self.drops_patches:
            embeddings.register_forward_hook(self._drop_hook)
        if config.freeze:
            encoder.requires_grad_(False)
        if config.lora:
            add_lora(encoder, config.lora)

    def _check_size(self, shape: Any) -> None:
        height, width = self.config.size
        patch = getattr(shape, "patch_size", None)
        sides = (patch, patch) if isinstance(patch, int) else tuple(patch or (1, 1))
        if height % sides[0] or width % sides[1]:
            raise InputError(
                f"image_size={height} x {width} does not divide into patches of {sides[0]} x {sides[1]} pixels "
                f"({self.kind}); choose multiples"
            )
        native = native_size(shape)
        asks = "interpolate_pos_encoding" in inspect.signature(self.encoder.forward).parameters
        self._interpolate = asks and native not in (None, (height, width))

    @property
    def drops_patches(self) -> bool:
        """Whether single patches can be left out: one layer width, attention over all patches."""
        return self.depth > 1 and self.kind != "swin" and hasattr(self.encoder, "embeddings")

    def _probe(self) -> None:
        """Runs one grey image through: what the encoder hands on is measured, not guessed from its config."""
        height, width = self.config.size
        with torch.no_grad():
            was = self.encoder.training
            self.encoder.eval()
            try:
                output = self._run(torch.zeros(1, 3, height, width))
            except Exception as error:  # whatever the encoder says about a size it does not read
                message = (str(error).splitlines() or [type(error).__name__])[0][:160]
                raise InputError(f"{self.kind} does not read images of {height} x {width}: {message}") from error
            finally:
                self.encoder.train(was)
        states = getattr(output, "last_hidden_state", None)
        if not isinstance(states, Tensor) or states.ndim not in (3, 4):
            raise InputError(f"{self.kind} hands on no sequence or map of states; choose an image encoder")
        if states.ndim == 4:
            self.depth = 1  # layers below have other widths and grids
            self.width, self.grid = states.shape[1], (states.shape[2], states.shape[3])
        else:
            self.width, tokens = states.shape[2], states.shape[1]
            stride = getattr(self.encoder.config, "patch_size", 1)
            stride = stride if isinstance(stride, int) else stride[0]
            for _ in range(8):
                self.grid = (height // stride, width // stride)
                self.class_tokens = tokens - self.grid[0] * self.grid[1]
                if self.class_tokens >= 0:
                    break
                stride *= 2
            if not 0 <= self.class_tokens <= CLASS_TOKENS:
                raise InputError(f"{self.kind} makes {tokens} states of {height} x {width} pixels: no grid of patches")
        if self.config.pool == "cls" and not self.class_tokens:
            raise InputError(f"image pool=cls: {self.kind} has no class token; take pool=mean or pooler")
        if self.config.pool == "pooler" and getattr(output, "pooler_output", None) is None:
            raise InputError(f"image pool=pooler: {self.kind} makes no pooled vector; take pool=mean or cls")

    def _run(self, pixels: Float[Tensor, "B 3 H W"], layers: bool = False) -> Any:
        arguments: dict[str, Any] = {"output_hidden_states": True} if layers else {}
        if self._interpolate:
            arguments["interpolate_pos_encoding"] = True
        return self.encoder(pixel_values=pixels, **arguments)

    def forward(
        self,
        pixels: Float[Tensor, "B 3 H W"],
        keep: int = 1,
        *,
        drop: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Encoded:
        if drop:
            self._kept = self._choose(len(pixels), drop, generator, pixels.device)
        try:
            output = self._run(pixels, layers=keep > 1)
        finally:
            self._kept = None
        last, norm = output.last_hidden_state, final_norm(self.encoder)
        if last.ndim == 4:
            last = last.flatten(2).transpose(1, 2)
        if norm is not None and self.kind in NORM_OF_POOLED_ONLY:
            last = norm(last)
        below = list(output.hidden_states[-keep:-1]) if keep > 1 else []
        pooled = None
        if self.config.pool == "cls":
            pooled = last[:, 0]
        elif self.config.pool == "pooler":
            pooled = output.pooler_output.flatten(1)
        return Encoded([*(layer if norm is None else norm(layer) for layer in below), last], None, pooled)

    def _choose(
        self, count: int, drop: float, generator: torch.Generator | None, device: torch.device
    ) -> Int64[Tensor, "B K"]:
        """Positions that stay, class tokens first and patches in order."""
        if not 0 <= drop < 1:
            raise InputError(f"patch dropout is {drop}, expected a share in [0, 1)")
        if not self.drops_patches:
            raise InputError(f"patch dropout needs a tower that takes patches one by one (vit, ...), not {self.kind}")
        patches = self.grid[0] * self.grid[1]
        kept = max(1, round(patches * (1 - drop)))
        where = device if generator is None else generator.device
        order = torch.rand(count, patches, generator=generator, device=where).argsort(1)[:, :kept].sort(1).values
        first = torch.arange(self.class_tokens, device=where).expand(count, -1)
        return torch.cat([first, order + self.class_tokens], 1).to(device)

    def _drop_hook(self, _: nn.Module, __: Any, output: Float[Tensor, "B N C"]) -> Float[Tensor, "B K C"] | None:
        if self._kept is None:
            return None
        return output.gather(1, self._kept[:, :, None].expand(-1, -1, output.shape[2]))


def native_size(shape: Any) -> tuple[int, int] | None:
    """Height and width a transformers config is made for; None where it takes any (CNNs)."""
    size = getattr(shape, "image_size", None)
    if size is None or not (hasattr(shape, "num_attention_heads")):
        return None
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def random_encoder(config: ImageTowerConfig) -> Any:
    """An encoder of random weights: ours for what is not in `options` (4 layers, 96 wide, patches of 8, no dropout)."""
    defaults: dict[str, Any] = {"image_size": config.image_size, "hidden_dropout_prob": 0.0}
    kind, square = config.model_type, config.size[0] == config.size[1]
    if not square:
        defaults["image_size"] = list(config.size)
    blank = CONFIG_MAPPING[kind]() if kind in CONFIG_MAPPING else None
    if blank is not None and not (hasattr(blank, "depths") or hasattr(blank, "hidden_sizes")):
        defaults |= {
            "hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 384,
            "patch_size": 8, "attention_probs_dropout_prob": 0.0,
        }  # fmt: skip
    if "image_size" in config.options:
        raise InputError("image options.image_size: give image_size (height) and image_width instead")
    shape = encoder_config(kind, config.options, defaults, what="image", suggested=IMAGE_ENCODERS)
    if not square and native_size(shape) is not None and kind not in NOT_SQUARE:
        raise InputError(
            f"image model_type={kind} learns positions of a square; for {config.size[0]} x {config.size[1]} take "
            f"{', '.join(NOT_SQUARE)} or a CNN"
        )
    return shape


def build_image_tower(config: ImageTowerConfig, saved: dict[str, Any] | None = None) -> ImageTower:
    """The tower of a config.

    Args:
        saved: what a saved model keeps of its encoder ("config" of transformers, "preprocessing"): random weights
            in that shape, to be overwritten; `config.pretrained` is not looked up.

    Raises:
        InputError: the encoder does not load or does not fit the config.
    """
    if saved is not None:
        return EncoderTower(config, new_encoder(saved["config"]), saved["preprocessing"])
    if config.pretrained:
        encoder = load_encoder(config.pretrained, "image encoder", pooled=config.pool == "pooler")
        encoder = getattr(encoder, "vision_model", encoder)  # the image side of CLIP, SigLIP, ...
        if config.image_size == 0:
            native = native_size(encoder.config)
            if native is None:
                raise InputError(f"image_size=0: {config.pretrained} was made for no one size; give image_size")
            config = dataclasses.replace(config, image_size=native[0], image_width=native[1])
        return EncoderTower(config, encoder, read_preprocessing(config.pretrained))
    if config.model_type == "conv":
        return ConvTower(config)
    return EncoderTower(config, new_encoder(random_encoder(config)), {})


def read_preprocessing(name: str) -> dict[str, Any]:
    """preprocessor_config.json of a directory or hub id; {} where it has none."""
    local = Path(name).expanduser().is_dir()
    path = str(Path(name).expanduser()) if local else name
    file = cached_file(
        path, "preprocessor_config.json", local_files_only=local, _raise_exceptions_for_missing_entries=False
    )
    return json.loads(Path(file).read_text(encoding="utf-8")) if file else {}
