"""One tower: words and patches in one stack of layers, each seeing all others from the first layer on (ViLT).

    words   -> embedding + position -> LN -> (width) -> + type 0  \\
                                                                    [text ; image] -> layers -> states, pooled
    patches -> linear, class token, position -> (width) -> + type 1 /

Kim et al., arXiv:2102.03334, section 3. Differences: an image keeps all its patches (ViLT draws up to 200 of them), its
size is fixed, and the pair is pooled at the first position of text and of image both, as in Renaissance (Fields and
Kennington, arXiv:2411.06657); pooler="single" is ViLT's. The layers may start from a text or a vision encoder: see
`vl.stack_weights`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from core.errors import InputError, check_choice
from vl.encoded import Encoded, Fused
from vl.layers import ACTIVATIONS, Block, causal_mask, check_heads, key_mask, prefix_mask, start_at_random

TEXT, IMAGE = 0, 1
"""Rows of the token-type embedding."""


@dataclass
class OneTowerConfig:
    """Shape of the one tower, and which encoder its layers start from."""

    init: str = "random"  # or text, vision: layers start as those of the encoder in `pretrained`
    pretrained: str = ""  # directory or hub id of that encoder
    layers: int = 6  # where `pretrained` is given: as many as it has
    width: int = 256  # likewise
    heads: int = 4  # of attention; they split `width`
    mlp: float = 4.0  # hidden width of the two-layer network over `width`
    embedding: int = 0  # width of words and patches before a projection to `width`; 0 = `width`, no projection
    dropout: float = 0.1  # share of values set to 0 in training
    norm: str = "pre"  # as in ViT, DeiT, DINOv2; or post, as in BERT, ELECTRA, RoBERTa, DistilBERT
    activation: str = "gelu"  # between the two linear maps; as `pretrained` has it
    eps: float = 1e-12  # of layer norms
    patch: int = 16  # pixels along each side of a patch
    pooler: str = "double"  # first positions of text and image; or single: of the text alone
    freeze: bool = False  # no gradient, no dropout

    def __post_init__(self) -> None:
        check_choice("one-tower init", self.init, ("random", "text", "vision"))
        check_choice("one-tower norm", self.norm, ("pre", "post"))
        check_choice("one-tower activation", self.activation, ACTIVATIONS)
        check_choice("one-tower pooler", self.pooler, ("double", "single"))
        check_heads(self.width, self.heads)
        if (self.init == "random") == bool(self.pretrained):
            raise InputError(
                f"one-tower init={self.init} with pretrained={self.pretrained!r}: init=text or vision names the "
                "encoder in pretrained, init=random names none"
            )
        if self.layers < 1 or self.mlp <= 0 or self.embedding < 0 or self.patch < 1:
            raise InputError(
                f"one-tower layers={self.layers}, mlp={self.mlp} and patch={self.patch} should be positive and "
                f"embedding={self.embedding} 0 or more"
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"one-tower dropout={self.dropout} should be in [0, 1)")

    @property
    def embedding_width(self) -> int:
        """Width of words and patches before the projection."""
        return self.embedding or self.width


class OneTower(nn.Module):
    """Words and patches in one stack."""

    def __init__(
        self, config: OneTowerConfig, *, vocab_size: int, max_tokens: int, image_height: int, image_width: int
    ) -> None:
        """Random weights, also where config.init names an encoder: `vl.stack_weights.start_from` copies those.

        Raises:
            InputError: the image does not split into patches.
        """
        super().__init__()
        if image_height % config.patch or image_width % config.patch or min(image_height, image_width) < config.patch:
            raise InputError(
                f"images of {image_height} x {image_width} pixels do not split into patches of {config.patch}: both "
                "sides should be multiples of it"
            )
        width, narrow = config.width, config.embedding_width
        self.config = config
        self.max_tokens = max_tokens
        self.grid = (image_height // config.patch, image_width // config.patch)

        self.words = nn.Embedding(vocab_size, narrow)
        self.word_position = nn.Embedding(max_tokens, narrow)
        self.word_norm = nn.LayerNorm(narrow, eps=config.eps)
        self.patches = nn.Conv2d(3, narrow, config.patch, stride=config.patch)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, narrow))
        self.patch_position = nn.Parameter(0.02 * torch.randn(1, 1 + self.grid[0] * self.grid[1], narrow))
        self.text_in = nn.Linear(narrow, width) if narrow != width else nn.Identity()
        self.image_in = nn.Linear(narrow, width) if narrow != width else nn.Identity()
        self.types = nn.Embedding(2, width)
        self.dropout = nn.Dropout(config.dropout)

        hidden = round(width * config.mlp)
        self.blocks = nn.ModuleList(
            Block(
                width,
                config.heads,
                hidden,
                norm=config.norm,
                activation=config.activation,
                dropout=config.dropout,
                eps=config.eps,
            )
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width, eps=config.eps) if config.norm == "pre" else nn.Identity()
        self.text_pooler = nn.Linear(width, width)
        self.image_pooler = nn.Linear(width, width) if config.pooler == "double" else None
        start_at_random(self)
        if config.freeze:
            self.requires_grad_(False)
            self.eval()

    @property
    def pooled_width(self) -> int:
        """Width of `Fused.pooled`."""
        return self.config.width * (2 if self.image_pooler is not None else 1)

    def train(self, mode: bool = True) -> "OneTower":
        """A frozen tower stays in eval mode."""
        return super().train(mode and not self.config.freeze)

    def embed_image(
        self, pixels: Float[Tensor, "B 3 H W"], *, drop: float = 0.0, generator: torch.Generator | None = None
    ) -> Encoded:
        """Class token and patches with position and type: what the stack reads of an image.

        Args:
            drop: share of patches left out, drawn anew for each image from `generator` (FLIP, arXiv:2212.00794).

        Raises:
            InputError: images of another size than the tower's.
        """
        height, width = (side * self.config.patch for side in self.grid)
        if pixels.shape[2:] != (height, width):
            raise InputError(f"images of {tuple(pixels.shape[2:])} pixels, but this tower reads {height} x {width}")
        x = self.patches(pixels).flatten(2).transpose(1, 2) + self.patch_position[:, 1:]
        if drop:
            kept = max(1, round(x.shape[1] * (1 - drop)))
            score = torch.rand(x.shape[:2], generator=generator, device=generator.device if generator else x.device)
            chosen = score.argsort(1)[:, :kept].sort(1).values.to(x.device)
            x = x.gather(1, chosen[..., None].expand(-1, -1, x.shape[2]))
        first = (self.class_token + self.patch_position[:, :1]).expand(len(x), -1, -1)
        x = self.dropout(torch.cat([first, x], dim=1))
        return Encoded([self.image_in(x) + self.types.weight[IMAGE]])

    def embed_text(self, input_ids: Int64[Tensor, "B L"], attention_mask: Int64[Tensor, "B L"]) -> Encoded:
        """Words with position and type: what the stack reads of a text, padded on the right.

        Raises:
            InputError: more tokens than the tower has positions for.
        """
        length = input_ids.shape[1]
        if length > self.max_tokens:
            raise InputError(f"texts of {length} tokens, but this tower has positions for max_tokens={self.max_tokens}")
        x = self.dropout(self.word_norm(self.words(input_ids) + self.word_position.weight[:length]))
        return Encoded([self.text_in(x) + self.types.weight[TEXT]], attention_mask.bool())

    def alone(self, encoded: Encoded, *, causal: bool = False) -> Encoded:
        """The stack on one modality, for joint embeddings; `pooled` is the first position.

        `encoded` from `embed_image` or `embed_text`; causal: position l looks at positions up to l (texts).
        """
        mask = key_mask(encoded.mask)
        if causal:
            mask = causal_mask(encoded.real)
        states = self._stack(encoded.states, mask)
        return Encoded([states], encoded.mask, states[:, 0])

    def fuse(self, image: Encoded, text: Encoded, *, causal: bool = False) -> Fused:
        """The stack on [text ; image], row by row; both from `embed_image` and `embed_text`.

        causal: text position l looks at the image and at text up to l, image positions at the image alone (captioning).

        Raises:
            InputError: rows do not pair up.
        """
        if len(image.states) != len(text.states):
            raise InputError(f"{len(image.states)} images with {len(text.states)} texts: rows pair up")
        text_mask, image_mask = text.real, image.real
        mask = prefix_mask(text_mask, image_mask) if causal else key_mask(torch.cat([text_mask, image_mask], dim=1))
        states = self._stack(torch.cat([text.states, image.states], dim=1), mask)
        words, patches = states.split([text.states.shape[1], image.states.shape[1]], dim=1)
        pooled = self.text_pooler(words[:, 0]).tanh()
        if self.image_pooler is not None:
            pooled = torch.cat([pooled, self.image_pooler(patches[:, 0]).tanh()], dim=-1)
        return Fused(words, patches, pooled)

    def _stack(self, x: Tensor, mask: Tensor | None) -> Tensor:
        for block in self.blocks:
            x = block(x, mask=mask)
        return self.norm(x)
