"""Two towers and one joint space: images and sentences become unit vectors whose dot product says how well they fit.

    image -> tower -> local map (h, w, D) -> mean -> / its length     = image embedding
    text  -> tower -> mean over tokens -> projection -> / its length  = text embedding

Pooling is a plain mean and the projection comes before it, so an image's similarity to a text is exactly the mean of
its cells' similarities: the map says where in the image the sentence is true.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from numpy import ndarray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, PreTrainedTokenizerFast

from core.checkpoint import load_weights
from core.errors import InputError, MissingFileError
from core.files import read_json
from vl.tokenizer import knows_a_word, load_tokenizer
from vl.towers import (
    ImageTower,
    ImageTowerConfig,
    TextTowerConfig,
    build_text_tower,
    pretrained_text_tower,
    scale_pixels,
    text_encoder_config,
)

FORMAT = "sightline-two-tower/1"
"""Value of `format` in config.json: how `load_embedder` tells this model's directories from others."""

MAX_LOGIT_SCALE = 100.0
"""Upper clamp of exp(theta), as in CLIP (Radford et al., arXiv:2103.00020, section 2.5)."""


TEXT_GROUPS = 4
"""Groups of similar length that a batch of texts is read in: captions differ by a factor of five in length."""


CHUNK = 32
"""Images encoded at once: their activations stay in a processor's cache, a quarter faster than 256 at once."""


@dataclass
class TwoTowerConfig:
    """Shape of a two-tower model."""

    dim: int = 96  # width of the joint space
    head_width: int = 192  # hidden channels of the image head
    max_tokens: int = 64  # longest text, special tokens included
    image: ImageTowerConfig = field(default_factory=ImageTowerConfig)
    text: TextTowerConfig = field(default_factory=TextTowerConfig)
    logit_scale: float = 10.0  # start of exp(theta)
    logit_bias: float = 0.0  # start of the sigmoid loss's bias; unused by the softmax loss

    def __post_init__(self) -> None:
        if self.dim < 1 or self.max_tokens < 3:
            raise InputError(f"dim={self.dim} should be positive and max_tokens={self.max_tokens} at least 3")
        if not 0 < self.logit_scale <= MAX_LOGIT_SCALE:
            raise InputError(f"logit_scale={self.logit_scale} should be in (0, {MAX_LOGIT_SCALE}]")


class VLModel(nn.Module):
    """The two-tower vision-language model.

    Satisfies `vl.embedder.Embedder`. Embeddings come back in float32 on the model's device, without gradient; training
    uses `image_features` and `text_features`.
    """

    def __init__(self, config: TwoTowerConfig, tokenizer: PreTrainedTokenizerFast, encoder_config: Any = None) -> None:
        """Builds the towers; `encoder_config` (a transformers config) overrides config.text (used when loading)."""
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        if encoder_config is not None:
            self.text_tower = build_text_tower(encoder_config, config.text.pool)
        elif config.text.pretrained:
            self.text_tower = pretrained_text_tower(config.text.pretrained, config.text.pool)
        else:
            pad = int(tokenizer.pad_token_id)
            shape = text_encoder_config(config.text, len(tokenizer), config.max_tokens, pad)
            self.text_tower = build_text_tower(shape, config.text.pool)
        self.text_head = nn.Linear(self.text_tower.width, config.dim, bias=False)
        self.image_tower = ImageTower(config.image)
        self.image_head = nn.Sequential(
            nn.Conv2d(config.image.width, config.head_width, 1), nn.ReLU(), nn.Conv2d(config.head_width, config.dim, 1)
        )
        self.theta = nn.Parameter(torch.tensor(math.log(config.logit_scale)))
        self.logit_bias = nn.Parameter(torch.tensor(float(config.logit_bias)))
        self.image_tower.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.image_head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def create(cls, config: TwoTowerConfig, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> "VLModel":
        """A model with random weights that depend on the seed alone; the global random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config, tokenizer)

    @property
    def dim(self) -> int:
        """Width of the joint space."""
        return self.config.dim

    @property
    def device(self) -> torch.device:
        return self.theta.device

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """exp(theta), clamped to at most MAX_LOGIT_SCALE."""
        return self.theta.exp().clamp(max=MAX_LOGIT_SCALE)

    def image_map(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """Local features in the joint space, not normalised; with gradient."""
        return self.image_head(self.image_tower(pixels))

    def image_features(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Unit image embeddings; with gradient. `pixels` from `vl.towers.scale_pixels`."""
        return F.normalize(self.image_map(pixels).float().mean((2, 3)), dim=-1)

    def text_features(
        self, input_ids: Int64[Tensor, "B L"], attention_mask: Int64[Tensor, "B L"]
    ) -> Float[Tensor, "B D"]:
        """Unit text embeddings; with gradient. Rows are read in groups of similar length, each without its padding."""
        lengths = attention_mask.sum(1)
        order = lengths.argsort(stable=True)
        pooled = []
        for group in order.tensor_split(min(TEXT_GROUPS, len(order))):
            longest = int(lengths[group[-1]])
            pooled.append(self.text_tower(input_ids[group, :longest], attention_mask[group, :longest]))
        rows = torch.cat(pooled)[order.argsort()]
        return F.normalize(self.text_head(rows).float(), dim=-1)

    @torch.no_grad()
    def encode_images(
        self, images: UInt8[Tensor, "B H W 3"] | UInt8[ndarray, "B H W 3"], batch_size: int = CHUNK
    ) -> Float[Tensor, "B D"]:
        """Unit embeddings of images; frames of another size are resized to the model's square (aspect squashed).

        Raises:
            InputError: not uint8 of shape (B, H, W, 3).
        """
        chunks = [self.image_features(self._pixels(part)) for part in checked_images(images).split(batch_size)]
        return torch.cat(chunks) if chunks else torch.zeros(0, self.dim, device=self.device)

    @torch.no_grad()
    def encode_image_map(
        self, images: UInt8[Tensor, "B H W 3"] | UInt8[ndarray, "B H W 3"], batch_size: int = CHUNK
    ) -> Float[Tensor, "B h w D"]:
        """Local features in the space of the text embeddings; row 0 is the image's top.

        Scaled so that the mean over an image's cells is its unit embedding: `encode_image_map(x).mean((1, 2))` equals
        `encode_images(x)`, and the dot products of a text with the cells average to its similarity with the image.
        """
        chunks = []
        for part in checked_images(images).split(batch_size):
            cells = self.image_map(self._pixels(part)).float().permute(0, 2, 3, 1)
            length = cells.mean((1, 2), keepdim=True).norm(dim=-1, keepdim=True).clamp(min=1e-12)
            chunks.append(cells / length)
        side = self.config.image.image_size // 8
        return torch.cat(chunks) if chunks else torch.zeros(0, side, side, self.dim, device=self.device)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], batch_size: int = 256) -> Float[Tensor, "B D"]:
        """Unit embeddings of sentences.

        Raises:
            InputError: a text is empty, has no known word, or is longer than the model reads.
        """
        if isinstance(texts, str):
            raise InputError(f"encode_texts() takes a list of sentences, got the single text {texts!r}; pass [text]")
        for text in texts:
            if not text.strip():
                raise InputError("an empty text has no embedding; give at least one word")
            if not knows_a_word(self.tokenizer, text):
                raise InputError(f"no word of {text!r} is in the model's vocabulary; use the words it was trained on")
        chunks = []
        for start in range(0, len(texts), batch_size):
            ids, mask = tokenize(self.tokenizer, list(texts[start : start + batch_size]), self.config.max_tokens)
            chunks.append(self.text_features(ids.to(self.device), mask.to(self.device)))
        return torch.cat(chunks) if chunks else torch.zeros(0, self.dim, device=self.device)

    def _pixels(self, images: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B 3 S S"]:
        pixels = scale_pixels(images.to(self.device))
        size = self.config.image.image_size
        if pixels.shape[2:] == (size, size):
            return pixels
        return F.interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes config.json, model.safetensors and the tokenizer into `folder` (made if missing)."""
        from safetensors.torch import save_file

        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        save_file(tensors, str(path / "model.safetensors"), metadata={"format": "pt"})
        self.tokenizer.save_pretrained(str(path))
        encoder = self.text_tower.encoder.config.to_dict()  # type: ignore[union-attr, operator]
        content = {"format": FORMAT, "model": dataclasses.asdict(self.config), "text_encoder": encoder}
        (path / "config.json").write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "VLModel":
        """Reads what `save_pretrained` wrote, on CPU, in eval mode; never looks on the network.

        Raises:
            InputError: files are missing or cut short, or the weights have other shapes than config.json says.
        """
        path = Path(folder).expanduser()
        content = read_model_config(path)
        config = config_from_dict(content["model"], path)
        encoder = dict(content["text_encoder"])
        encoder_config = AutoConfig.for_model(encoder.pop("model_type"), **encoder)
        with torch.random.fork_rng(devices=[]):
            model = cls(config, load_tokenizer(path), encoder_config)
        load_weights(model, read_weights(path / "model.safetensors"), str(path))
        return model.eval()


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


def tokenize(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], max_tokens: int
) -> tuple[Int64[Tensor, "B L"], Int64[Tensor, "B L"]]:
    """Ids and attention mask, padded to the longest text.

    Raises:
        InputError: a text has more than `max_tokens` tokens.
    """
    rows = tokenizer(texts, padding=True, truncation=False, return_tensors="pt", verbose=False)
    ids, mask = rows["input_ids"], rows["attention_mask"]
    if ids.shape[1] > max_tokens:
        longest = int(mask.sum(1).argmax())
        raise InputError(
            f"a text has {int(mask[longest].sum())} tokens, the model reads at most {max_tokens}: "
            f"{texts[longest][:80]!r}; shorten it"
        )
    return ids, mask


def read_model_config(path: Path) -> dict[str, Any]:
    """config.json of a model folder, checked to be this module's format."""
    file = path / "config.json"
    if not path.is_dir() or not file.is_file():
        raise MissingFileError(f"no model in {path}: expected a folder with config.json and model.safetensors")
    content = read_json(file, "model config")
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise InputError(f"{file} has format {found!r}, expected {FORMAT!r}; other models: vl.embedder.load_embedder")
    return content


def config_from_dict(values: dict[str, Any], path: Path) -> TwoTowerConfig:
    """The typed config of a saved model."""
    try:
        parts = dict(values)
        image = ImageTowerConfig(**parts.pop("image"))
        text = TextTowerConfig(**parts.pop("text"))
        return TwoTowerConfig(image=image, text=text, **parts)
    except (TypeError, KeyError) as error:
        raise InputError(f"config.json in {path} does not describe a two-tower model: {error}") from error


def read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises:
        InputError: missing, cut short, or of another format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        raise MissingFileError(f"model weights not found: {file}")
    try:
        return load_file(str(file))
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{file} is cut short or not a safetensors file ({error}); copy or train it again") from error
