"""One way to use any dual encoder: the project's own two towers, or CLIP and SigLIP behind transformers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int64, UInt8
from numpy import ndarray
from torch import Tensor
from torch.nn import functional as F

from core.errors import InputError, MissingFileError, check_choice
from core.files import read_json
from core.precision import uses_bfloat16
from vl.encoders import looks_like_path, quiet
from vl.model import VLModel
from vl.model_files import FORMAT, OLDER
from vl.pixels import CLIP_MEAN, CLIP_STD, checked_images

DUAL_ENCODERS = ("clip", "siglip", "align", "altclip", "chinese_clip", "metaclip_2")
"""transformers model types that offer get_image_features and get_text_features of one width.

SigLIP 2 of one resolution is of type "siglip"; its "siglip2" (NaFlex) reads patches of any aspect instead of a square.
"""

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
IMAGE_SIDE = ("vision_model", "visual_projection")
"""Parts of these models that see images only; the text side always computes in float32."""


class Embedder(Protocol):
    """Images and sentences as unit vectors of one joint space."""

    @property
    def dim(self) -> int:
        """Width of the joint space."""
        ...

    def encode_images(self, images: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B D"]:
        """L2-normalised image embeddings."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "B D"]:
        """L2-normalised text embeddings."""
        ...


class DualEncoder:
    """A transformers CLIP-like model as an `Embedder`.

    Frames are resized straight to the model's square, aspect squashed as in VLM-RM (a 600x400 frame loses its shape
    but none of its content), with antialiased bicubic filtering; mean and deviation are the checkpoint's own.

    The image tower may compute in half precision; embeddings and everything after them are float32.
    """

    def __init__(
        self, model: Any, tokenizer: Any, preprocessing: dict[str, Any], image_dtype: torch.dtype = torch.float32
    ) -> None:
        """Wraps a loaded model.

        Args:
            model: on its device already, in float32.
            preprocessing: the content of preprocessor_config.json (image_mean, image_std), or {} for CLIP's.
            image_dtype: what the image tower's weights become and computes in.
        """
        self.model = model.eval()
        self.image_dtype = image_dtype
        for name, part in model.named_children():
            if name in IMAGE_SIDE:
                part.to(image_dtype)
        self.tokenizer = tokenizer
        vision = model.config.vision_config
        self.image_size = int(vision.image_size)
        text = model.config.text_config
        self.max_tokens = int(getattr(text, "max_position_embeddings", 77))
        # SigLIP was trained on texts padded to the full length; CLIP reads the end token, padding is masked out.
        self.pad_to_full = str(model.config.model_type).startswith("siglip")
        mean = torch.tensor(preprocessing.get("image_mean", CLIP_MEAN), dtype=torch.float32)
        std = torch.tensor(preprocessing.get("image_std", CLIP_STD), dtype=torch.float32)
        self.scale = (1 / (255 * std)).view(1, 3, 1, 1).to(self.device)  # of bytes
        self.shift = (-mean / std).view(1, 3, 1, 1).to(self.device)
        width = getattr(model.config, "projection_dim", None)
        if width is None or str(model.config.model_type).startswith("siglip"):
            width = getattr(text, "projection_size", None) or text.hidden_size
        self._dim = int(width)

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @torch.no_grad()
    def encode_images(
        self, images: UInt8[Tensor, "B H W 3"] | UInt8[ndarray, "B H W 3"], batch_size: int = 64
    ) -> Float[Tensor, "B D"]:
        """Unit image embeddings in float32.

        Raises:
            InputError: not uint8 of shape (B, H, W, 3).
        """
        chunks = []
        for part in checked_images(images).split(batch_size):
            # planes, while they are bytes: the patch embedding takes a third longer on interleaved colours
            pixels = part.to(self.device).permute(0, 3, 1, 2).contiguous().float()
            size = (self.image_size, self.image_size)
            if pixels.shape[2:] != size:
                pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False).clamp_(0, 255)
            pixels = pixels.mul_(self.scale).add_(self.shift).to(self.image_dtype)
            features = _pooled(self.model.get_image_features(pixel_values=pixels))
            chunks.append(F.normalize(features.float(), dim=-1))
        return torch.cat(chunks) if chunks else torch.zeros(0, self.dim, device=self.device)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> Float[Tensor, "B D"]:
        """Unit text embeddings in float32.

        Raises:
            InputError: a text is empty or longer than the model reads.
        """
        if isinstance(texts, str):
            raise InputError(f"encode_texts() takes a list of sentences, got the single text {texts!r}; pass [text]")
        if any(not text.strip() for text in texts):
            raise InputError("an empty text has no embedding; give at least one word")
        chunks = []
        for start in range(0, len(texts), batch_size):
            part = list(texts[start : start + batch_size])
            chunks.append(self.text_features(**self.tokenize(part)))
        return torch.cat(chunks) if chunks else torch.zeros(0, self.dim, device=self.device)

    def text_features(
        self, input_ids: Int64[Tensor, "B L"], attention_mask: Int64[Tensor, "B L"] | None = None
    ) -> Float[Tensor, "B D"]:
        """Unit text embeddings of token ids in float32; with gradient."""
        mask = {} if attention_mask is None else {"attention_mask": attention_mask}
        return F.normalize(_pooled(self.model.get_text_features(input_ids=input_ids, **mask)).float(), dim=-1)

    def tokenize(self, texts: list[str]) -> dict[str, Int64[Tensor, "B L"]]:
        """Arguments of `text_features`, padded as the model was trained.

        Raises:
            InputError: a text is longer than the model reads.
        """
        lengths = [len(ids) for ids in self.tokenizer(texts, verbose=False)["input_ids"]]
        longest = max(range(len(texts)), key=lengths.__getitem__)
        if lengths[longest] > self.max_tokens:
            raise InputError(
                f"a text has {lengths[longest]} tokens, longer than the model's {self.max_tokens} tokens: "
                f"{texts[longest][:80]!r}; shorten it"
            )
        if self.pad_to_full:
            rows = self.tokenizer(texts, padding="max_length", max_length=self.max_tokens, return_tensors="pt")
            return {"input_ids": rows["input_ids"].to(self.device)}
        rows = self.tokenizer(texts, padding=True, return_tensors="pt")
        return {name: rows[name].to(self.device) for name in ("input_ids", "attention_mask")}


def _pooled(output: Any) -> Float[Tensor, "B D"]:
    """transformers 5 returns an output object whose pooler_output is the projected feature; 4 returned the tensor."""
    return output if isinstance(output, Tensor) else output.pooler_output


def image_dtype(precision: str, device: str) -> torch.dtype:
    """The type a transformers image tower computes in.

    Args:
        precision: a key of PRECISIONS, or "auto" = bfloat16 on a CUDA device that has it, float32 elsewhere.

    Raises:
        InputError: another word.
    """
    if precision == "auto":
        half = device.startswith("cuda") and uses_bfloat16("auto", device)
        return torch.bfloat16 if half else torch.float32
    check_choice("precision", precision, ("auto", *PRECISIONS))
    return PRECISIONS[precision]


def load_embedder(path_or_id: str | Path, device: str = "cpu", precision: str = "auto") -> VLModel | DualEncoder:
    """Opens a dual encoder by what it is: a two-tower folder of ours, a transformers directory, or a hub id.

    Text that names no folder and does not look like a path is a hub id (the only case that may use the network).

    Args:
        precision: of the image tower of a transformers model, see `image_dtype`. The project's own
            two towers, which are small, compute in float32.

    Raises:
        MissingFileError: a path where no folder is. InputError: nothing loadable there, or a model without an image and
            a text side.
    """
    dtype = image_dtype(precision, device)
    path = Path(path_or_id).expanduser()
    if path.is_dir():
        file = path / "config.json"
        if not file.is_file():
            raise InputError(f"{path} has no config.json; expected a two-tower, CLIP or SigLIP model folder")
        content = read_json(file, "model config")
        if content.get("format") in (FORMAT, *OLDER):
            return VLModel.from_pretrained(path).to(device)
        if content.get("model_type") not in DUAL_ENCODERS:
            raise InputError(
                f"{file} describes {content.get('model_type') or content.get('format')!r}; "
                f"expected {FORMAT} or a transformers model type of {', '.join(DUAL_ENCODERS)}"
            )
    elif looks_like_path(path_or_id):
        raise MissingFileError(f"model folder not found: {path} (working folder: {Path.cwd()})")
    return _load_dual_encoder(
        str(path if path.is_dir() else path_or_id), local=path.is_dir(), device=device, dtype=dtype
    )


def _load_dual_encoder(name: str, *, local: bool, device: str, dtype: torch.dtype) -> DualEncoder:
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import cached_file

    try:
        with quiet():
            model = AutoModel.from_pretrained(name, local_files_only=local, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=local)
            statistics = cached_file(
                name, "preprocessor_config.json", local_files_only=local, _raise_exceptions_for_missing_entries=False
            )
    except Exception as error:  # safetensors, tokenizers and the hub client each raise their own kinds
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        where = "" if local else f"no folder {name!r} here, and as a hub id "
        raise InputError(f"{where}{name!r} does not load as a CLIP or SigLIP model: {first}") from error
    if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
        raise InputError(f"{name!r} is a {model.config.model_type}: it has no image and text features to compare")
    if not hasattr(model.config.vision_config, "image_size"):
        raise InputError(
            f"{name!r} is a {model.config.model_type} that reads images of any aspect as patches; use the variant of "
            "one resolution"
        )
    preprocessing = json.loads(Path(statistics).read_text(encoding="utf-8")) if statistics else {}
    return DualEncoder(model.to(device), tokenizer, preprocessing, dtype)
