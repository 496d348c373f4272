"""The vision-language model: two towers with a joint space and fusion on top, or one tower for both.

    image -> tower -> states --+-> head -> mean or pooled -> / its length = image embedding
                               +-> fusion <-> text's states = match, masked words, captions, answers
    text  -> tower -> states --+-> mean or pooled -> head -> / its length = text embedding

An image pooled by mean goes through the head cell by cell before the mean, so its similarity to a text is exactly the
mean of its cells' similarities: the map says where in the image the sentence is true.
"""

import dataclasses
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from numpy import ndarray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from core.errors import InputError
from vl import fused_pairs
from vl.encoded import Encoded, Fused
from vl.encoders import load_encoder
from vl.fusion import Fusion, check_bridges
from vl.heads import AnswerHead, PixelHead, WordHead, projection_head
from vl.image_towers import build_image_tower
from vl.layers import masked_mean
from vl.model_config import VLConfig
from vl.one_tower import OneTower
from vl.parameter_groups import parameter_groups, tower_fingerprint
from vl.pixels import checked_images, prepare_pixels
from vl.stack_weights import Taken, start_from
from vl.text_towers import build_text_tower, tokenize
from vl.tokenizer import knows_a_word

CHUNK = 32
"""Images encoded at once: their activations stay in a processor's cache, a quarter faster than 256 at once."""


class VLModel(nn.Module):
    """The vision-language model of a `VLConfig`.

    Satisfies `vl.embedder.Embedder`. What `encode_*`, `match` and `answer` return is float32 on the model's device,
    without gradient; the rest carries gradient.
    """

    image_tower: Any
    text_tower: Any
    started: Taken | None
    """What a one tower took from the encoder it was created from; None of others, and of a model read from a folder."""

    def __init__(
        self, config: VLConfig, tokenizer: PreTrainedTokenizerFast, encoders: dict[str, Any] | None = None
    ) -> None:
        """Builds the parts that the config asks for.

        Args:
            encoders: the shapes of transformers encoders that a saved model keeps (`vl.model_files`): nothing is looked
                up under `pretrained`.

        Raises:
            InputError: the parts do not fit together; the message says which.
        """
        super().__init__()
        saved = encoders or {}
        self.tokenizer = tokenizer
        self.started = None
        self.one: OneTower | None = None
        self.fusion: Fusion | None = None
        if config.kind == "one-tower":
            height, width = config.image.size
            self.one = OneTower(
                config.one,
                vocab_size=len(tokenizer),
                max_tokens=config.max_tokens,
                image_height=height,
                image_width=width,
            )
            if encoders is None and config.one.pretrained:
                self.started = start_from(self.one, load_encoder(config.one.pretrained, "encoder of the one tower"))
            text_width = image_width = config.one.width
            fused = config.one.width, self.one.pooled_width
            vocab_size = len(tokenizer)
            self.text_head = projection_head(config.text_head, text_width, config.head_width, config.dim)
        else:
            self.text_tower = build_text_tower(config.text, tokenizer, config.max_tokens, saved.get("text"))
            text_width, vocab_size = self.text_tower.width, self.text_tower.vocab_size
            self.text_head = projection_head(config.text_head, text_width, config.head_width, config.dim)
            self.image_tower = build_image_tower(config.image, saved.get("image"))
            config = dataclasses.replace(config, image=self.image_tower.config)  # image_size=0 is known by now
            image_width = self.image_tower.width
            fused = config.fusion.width, 2 * config.fusion.width
        self.config = config
        for name, kind, width in (
            ("image", config.image_head, image_width),
            ("text", config.text_head, text_width),
        ):
            if kind == "none" and width != config.dim:
                raise InputError(f"{name}_head=none with dim={config.dim}: the {name} tower is {width} wide")
        self.image_head = projection_head(config.image_head, image_width, config.head_width, config.dim)
        self.theta = nn.Parameter(torch.tensor(math.log(config.logit_scale)))
        self.logit_bias = nn.Parameter(torch.tensor(float(config.logit_bias)))
        if config.fusion.layers:
            check_bridges(config.fusion, self.image_tower.depth, self.text_tower.depth)
            first = bool(self.image_tower.class_tokens)
            self.fusion = Fusion(config.fusion, image_width, text_width, image_first=first)
        if self.fusion is not None or self.one is not None:
            self.match_head = nn.Linear(fused[1], 2)
            self.word_head = WordHead(fused[0], vocab_size)
        if config.answers:
            self.answer_head = AnswerHead(fused[1] * config.answer_images, len(config.answers))
        if config.text_mlm_head:
            self.text_word_head = WordHead(text_width, vocab_size)
        if config.mim_head:
            (height, width), (rows, columns) = config.image.size, self.image_tower.grid
            if height % rows or width % columns:
                raise InputError(
                    f"masked image modelling tells an image cell by cell, but {height} x {width} pixels do not divide "
                    f"into the image tower's {rows} x {columns} cells; choose multiples of its stride"
                )
            self.pixel_head = PixelHead(image_width, (height // rows, width // columns))

    @classmethod
    def create(cls, config: VLConfig, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> "VLModel":
        """A fresh model; random weights depend on the seed alone, and the global random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config, tokenizer)

    def untrained(self, seed: int) -> "VLModel":
        """A model of this shape with random weights, also where this one's towers were pretrained."""
        from vl.model_files import encoder_shapes

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return VLModel(self.config, self.tokenizer, encoder_shapes(self))

    @property
    def dim(self) -> int:
        """Width of the joint space."""
        return self.config.dim

    @property
    def device(self) -> torch.device:
        return self.theta.device

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """exp(theta), clamped to at most config.max_logit_scale."""
        return self.theta.clamp(max=math.log(self.config.max_logit_scale)).exp()

    @torch.no_grad()
    def clamp_theta(self) -> None:
        """Puts theta back to its clamp after an update: beyond it no gradient would ever bring it down again."""
        self.theta.clamp_(max=math.log(self.config.max_logit_scale))

    # ---- towers

    def pixels(
        self, images: UInt8[Tensor, "B H W 3"], gain: Float[Tensor, "B 3 1 1"] | None = None
    ) -> Float[Tensor, "B 3 h w"]:
        """Pictures as the towers read them: on the model's device, resized, colours scaled by `gain`, normalised."""
        gain = None if gain is None else gain.to(self.device)
        if self.one is not None:
            return prepare_pixels(images.to(self.device), self.config.image.size, gain)
        return self.image_tower.pixels(images.to(self.device), gain)

    def image_states(
        self, pixels: Float[Tensor, "B 3 H W"], *, drop: float = 0.0, generator: torch.Generator | None = None
    ) -> Encoded:
        """The image's states without embedding; of a one-tower model the patches before the stack.

        Args:
            drop: share of patches left out of each image, drawn from `generator` (FLIP, arXiv:2212.00794).

        Raises:
            InputError: drop with a tower that reads a whole grid.
        """
        if self.one is not None:
            return self.one.embed_image(pixels, drop=drop, generator=generator)
        return self.image_tower(pixels, self._layers, drop=drop, generator=generator)

    def text_states(
        self, input_ids: Int64[Tensor, "B L"], attention_mask: Int64[Tensor, "B L"], *, causal: bool = False
    ) -> Encoded:
        """The text's states without embedding; of a one-tower model the words before the stack.

        causal: a word sees no later ones (for captioning). Real tokens come first in each row.
        """
        if self.one is not None:
            return self.one.embed_text(input_ids, attention_mask)
        return self.text_tower(input_ids, attention_mask, self._layers, causal=causal)

    @property
    def _layers(self) -> int:
        """Layers that towers hand on."""
        return self.fusion.bridges if self.fusion is not None else 1

    def with_embedding(self, encoded: Encoded, modality: str) -> Encoded:
        """The same with its unit vector in the joint space. Where only `pooled` was kept, from that.

        Args:
            modality: "image" or "text".
        """
        head = self.image_head if modality == "image" else self.text_head
        if self.one is not None:
            vector = head(self.one.alone(encoded).pooled)
        elif self.needs_states(modality):  # cell by cell: the map averages to the embedding
            vector = self.image_tower.mean_states(head(encoded.states).float())
        else:
            vector = head(self._pooled(encoded, modality))
        return dataclasses.replace(encoded, embedding=F.normalize(vector.float(), dim=-1))

    def needs_states(self, modality: str) -> bool:
        """Whether an embedding needs all states: of a one-tower model, and of an image's mean under an mlp head."""
        mean = modality == "image" and self.config.image.pool == "mean"
        return self.one is not None or (mean and self.config.image_head == "mlp")

    def only_pooled(self, encoded: Encoded, modality: str) -> Encoded:
        """The part of an encoding that its embedding needs: one vector, unless it `needs_states`."""
        return encoded if self.needs_states(modality) else Encoded([], None, self._pooled(encoded, modality))

    def _pooled(self, encoded: Encoded, modality: str) -> Float[Tensor, "B C"]:
        """By the tower's own rule, or the mean."""
        if encoded.pooled is not None:
            return encoded.pooled
        if modality == "image":
            return self.image_tower.mean_states(encoded.states)
        return masked_mean(encoded.states, encoded.real)

    def see(
        self, pixels: Float[Tensor, "B 3 H W"], *, drop: float = 0.0, generator: torch.Generator | None = None
    ) -> Encoded:
        """Images with states and embedding."""
        return self.with_embedding(self.image_states(pixels, drop=drop, generator=generator), "image")

    def read(
        self, input_ids: Int64[Tensor, "B L"], attention_mask: Int64[Tensor, "B L"], *, causal: bool = False
    ) -> Encoded:
        """Texts with states and embedding."""
        return self.with_embedding(self.text_states(input_ids, attention_mask, causal=causal), "text")

    # ---- fusion and heads

    def fuse(self, image: Encoded, text: Encoded, *, causal: bool = False) -> Fused:
        """Image and text of each row after they have seen each other.

        causal (captioning): text position l sees the image and text up to l; image positions never see text. The text
        comes from `text_states(..., causal=True)` then.

        Raises:
            InputError: the model has no fusion, or rows do not pair up.
        """
        if self.one is not None:
            return self.one.fuse(image, text, causal=causal)
        if self.fusion is None:
            raise InputError("this model has no fusion (fusion.layers=0): it compares embeddings only")
        return self.fusion(image, text, causal=causal)

    def match_logits(self, fused: Fused) -> Float[Tensor, "B 2"]:
        """Whether image and text of a pair fit: column 1 = they do."""
        return self.match_head(fused.pooled)

    def word_logits(self, states: Float[Tensor, "M W"]) -> Float[Tensor, "M V"]:
        """Logits over the vocabulary from fused states of text positions."""
        return self.word_head(states)

    def word_logits_text(self, states: Float[Tensor, "M C"]) -> Float[Tensor, "M V"]:
        """Logits over the vocabulary from the text tower's own states (config.text_mlm_head)."""
        return self.text_word_head(states)

    def pixels_of(self, states: Float[Tensor, "B N C"]) -> Float[Tensor, "B 3 H W"]:
        """An image, normalised as `pixels` are, from the image tower's states (config.mim_head)."""
        return self.pixel_head(self.image_tower.as_map(states))

    def answer_logits(self, fused: Fused | Sequence[Fused]) -> Float[Tensor, "B A"]:
        """Logits over config.answers.

        Args:
            fused: the question fused with its image; with as many as config.answer_images where that is not 1.

        Raises:
            InputError: no answers in the config, or another number of images.
        """
        pairs = [fused] if isinstance(fused, Fused) else list(fused)
        if not self.config.answers:
            raise InputError("this model has no answer head: fine-tune it on a task with answers")
        if len(pairs) != self.config.answer_images:
            raise InputError(f"{len(pairs)} images per question, this model answers about {self.config.answer_images}")
        return self.answer_head(torch.cat([pair.pooled for pair in pairs], dim=-1))

    # ---- joint space

    def image_map(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """Local features in the joint space, not normalised; their mean is the image's direction.

        Raises:
            InputError: the image is not pooled by mean, or the model is a one-tower.
        """
        if self.one is not None or self.config.image.pool != "mean":
            raise InputError(
                f"a map of local features needs a two-tower model with image.pool=mean, and this one has "
                f"kind={self.config.kind}, image.pool={self.config.image.pool}; pretrain one so"
            )
        return self.image_tower.as_map(self.image_head(self.image_states(pixels).states))

    def image_features(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Unit image embeddings."""
        return embedding_of(self.see(pixels))

    def text_features(
        self, input_ids: Int64[Tensor, "B L"], attention_mask: Int64[Tensor, "B L"]
    ) -> Float[Tensor, "B D"]:
        """Unit text embeddings."""
        return embedding_of(self.read(input_ids, attention_mask))

    # ---- use, without gradient

    @torch.no_grad()
    def encode_images(
        self, images: UInt8[Tensor, "B H W 3"] | UInt8[ndarray, "B H W 3"], batch_size: int = CHUNK
    ) -> Float[Tensor, "B D"]:
        """Unit embeddings of images; frames of another size are resized to the model's (aspect squashed).

        Raises:
            InputError: not uint8 of shape (B, H, W, 3).
        """
        chunks = [self.image_features(self.pixels(part)) for part in checked_images(images).split(batch_size)]
        return torch.cat(chunks) if chunks else torch.zeros(0, self.dim, device=self.device)

    @torch.no_grad()
    def encode_image_map(
        self, images: UInt8[Tensor, "B H W 3"] | UInt8[ndarray, "B H W 3"], batch_size: int = CHUNK
    ) -> Float[Tensor, "B h w D"]:
        """Local features in the space of the text embeddings; row 0 is the image's top.

        Scaled so that the mean over an image's cells is its unit embedding: `encode_image_map(x).mean((1, 2))` equals
        `encode_images(x)`, and the dot products of a text with the cells average to its similarity with the image.

        Raises:
            InputError: see `image_map`.
        """
        chunks = []
        for part in checked_images(images).split(batch_size):
            cells = self.image_map(self.pixels(part)).float().permute(0, 2, 3, 1)
            length = cells.mean((1, 2), keepdim=True).norm(dim=-1, keepdim=True).clamp(min=1e-12)
            chunks.append(cells / length)
        return torch.cat(chunks) if chunks else torch.zeros(0, *self.image_tower.grid, self.dim, device=self.device)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], batch_size: int = 256) -> Float[Tensor, "B D"]:
        """Unit embeddings of sentences.

        Raises:
            InputError: a text is empty, has no known word, or is longer than the model reads.
        """
        if isinstance(texts, str):
            raise InputError(f"encode_texts() takes a list of sentences, got the single text {texts!r}; pass [text]")
        chunks = []
        for start in range(0, len(texts), batch_size):
            chunks.append(self.text_features(*self.tokens(list(texts[start : start + batch_size]))))
        return torch.cat(chunks) if chunks else torch.zeros(0, self.dim, device=self.device)

    def tokens(self, texts: list[str]) -> tuple[Int64[Tensor, "B L"], Int64[Tensor, "B L"]]:
        """Ids and attention mask of sentences, on the model's device.

        Raises:
            InputError: a text is empty, has no known word, or is longer than the model reads.
        """
        for text in texts:
            if not text.strip():
                raise InputError("an empty text has no embedding; give at least one word")
            if not knows_a_word(self.tokenizer, text):
                shown = textwrap.shorten(text, 80, placeholder=" ...")
                raise InputError(f"no word of {shown!r} is in the model's vocabulary; use the words it was trained on")
        ids, mask = tokenize(self.tokenizer, texts, self.config.max_tokens)
        return ids.to(self.device), mask.to(self.device)

    def match(
        self,
        images: UInt8[Tensor, "B H W 3"] | UInt8[ndarray, "B H W 3"],
        texts: Sequence[str],
        batch_size: int = CHUNK,
    ) -> Float[Tensor, " B"]:
        """Probability that image i and text i fit; see `vl.fused_pairs.match`."""
        return fused_pairs.match(self, images, texts, batch_size)

    def answer(
        self,
        images: UInt8[Tensor, "B ..."] | UInt8[ndarray, "B ..."],
        questions: Sequence[str],
        batch_size: int = CHUNK,
    ) -> list["fused_pairs.Answer"]:
        """The most probable of config.answers for each question; see `vl.fused_pairs.answer`."""
        return fused_pairs.answer(self, images, questions, batch_size)

    # ---- training

    def trainable_parameters(self) -> int:
        """How many numbers training changes."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def parameter_groups(
        self, lr: float, fusion_factor: float = 1.0, head_factor: float = 1.0, weight_decay: float = 0.0
    ) -> list[dict[str, Any]]:
        """Groups for an optimiser; see `vl.parameter_groups`."""
        return parameter_groups(self, lr, fusion_factor, head_factor, weight_decay)

    def cache_key(self, modality: str) -> str:
        """Fingerprint of what decides a frozen tower's states ("image" or "text"): weights, settings, preprocessing.

        Raises:
            InputError: that tower learns, or there is none.
        """
        if self.one is not None:
            raise InputError("a one-tower model has no tower whose states could be kept; its stack reads both")
        tower = self.image_tower if modality == "image" else self.text_tower
        if any(parameter.requires_grad for parameter in tower.parameters()):
            raise InputError(f"the {modality} tower learns, so its states change; set {modality}.freeze=true")
        return tower_fingerprint(tower, self._layers)

    # ---- files

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes config.json, model.safetensors and the tokenizer into `folder` (made if missing)."""
        from vl.model_files import save_model

        save_model(self, folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path, expected: VLConfig | None = None) -> "VLModel":
        """Reads what `save_pretrained` wrote, on CPU, in eval mode; never looks on the network.

        Raises:
            InputError: files are missing or cut short, the weights have other shapes than config.json says, or that is
                not the `expected` config.
        """
        from vl.model_files import load_model

        return load_model(folder, expected)

    @classmethod
    def from_transformers(
        cls, model: Any, tokenizer: PreTrainedTokenizerFast, preprocessing: dict[str, Any] | None = None
    ) -> "VLModel":
        """A CLIPModel or SiglipModel of transformers with its weights; see `vl.from_transformers`."""
        from vl.from_transformers import convert

        return convert(model, tokenizer, preprocessing)

    def export_towers(self, folder: str | Path) -> None:
        """Writes folder/text and, of a transformers image tower, folder/image: directories for text.pretrained and
        image.pretrained, adapters merged.

        Raises:
            InputError: a one-tower model.
        """
        from vl.model_files import export_towers

        export_towers(self, folder)


def embedding_of(encoded: Encoded) -> Float[Tensor, "B D"]:
    """The embedding of an encoding that has one."""
    assert encoded.embedding is not None
    return encoded.embedding
