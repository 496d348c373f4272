"""Fusion of two towers: layers in which text and image look at each other, with or without bridges from the towers.

Each side of a layer: self-attention -> attention to the other side -> two-layer network, all post-norm, as in METER
(Dou et al., arXiv:2111.02387, figure 2b). Bridges feed layer l with a tower's own layer, counted from its end
(BridgeTower, Xu et al., arXiv:2206.08657, equations 6-9). Left out: METER's towers are not part of this file, and the
scaled add of BridgeTower's appendix.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.errors import InputError, check_choice
from vl.encoded import Encoded, Fused
from vl.layers import Block, causal_mask, check_heads, key_mask, start_at_random

TEXT, IMAGE = 0, 1
"""Rows of the token-type embedding."""


@dataclass
class FusionConfig:
    """Shape of the fusion layers."""

    layers: int = 0  # 0 = no fusion: two towers and a joint space
    width: int = 256  # of both sides; towers of another width are projected
    heads: int = 4  # of attention; they split `width`
    mlp: float = 4.0  # hidden width of the two-layer network over `width`
    dropout: float = 0.1  # share of values set to 0 in training
    bridge: str = "none"  # or add, interpolate: layer l also reads the towers' layer of that height
    freeze: bool = False  # no gradient, no dropout

    def __post_init__(self) -> None:
        check_choice("fusion bridge", self.bridge, ("none", "add", "interpolate"))
        check_heads(self.width, self.heads)
        if self.layers < 0 or self.mlp <= 0 or not 0 <= self.dropout < 1:
            raise InputError(
                f"fusion layers={self.layers} should be 0 or more, mlp={self.mlp} positive and "
                f"dropout={self.dropout} in [0, 1)"
            )

    @property
    def bridges(self) -> int:
        """Layers each tower hands on (`Encoded.layers`): one per fusion layer with bridges, else the deepest alone."""
        return self.layers if self.bridge != "none" else min(self.layers, 1)


class Bridge(nn.Module):
    """Where a tower's layer joins: LN(tower + fusion), or LN((1 - beta) tower + beta fusion) with beta learned."""

    def __init__(self, width: int, kind: str, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=eps)
        self.beta = nn.Parameter(torch.tensor(0.5)) if kind == "interpolate" else None

    def forward(self, tower: Float[Tensor, "B L W"], fusion: Float[Tensor, "B L W"]) -> Float[Tensor, "B L W"]:
        if self.beta is None:
            return self.norm(tower + fusion)
        return self.norm(tower * (1 - self.beta) + fusion * self.beta)


class Fusion(nn.Module):
    """Text and image to states of both that have seen each other.

    FLOPs of one layer, forward, per pair of L tokens and N patches at width W and hidden width H (a multiply-add is 2):
    both sides project 8 matrices of W x W per position in all (4 of self-attention, 4 of cross-attention, whose keys
    and values come from the other side) and run the network, so (L + N) (16 W^2 + 4 W H); attention adds
    4 W (L^2 + N^2 + 2 L N). See `layer_flops`.
    """

    def __init__(
        self, config: FusionConfig, image_width: int, text_width: int, *, image_first: bool = True, eps: float = 1e-5
    ) -> None:
        """Widths are the towers'; `image_first`: the image is pooled at its first position (class token), else by mean.

        Raises:
            InputError: config.layers is 0.
        """
        super().__init__()
        if config.layers < 1:
            raise InputError(f"fusion layers={config.layers}: a fusion has at least 1")
        width, hidden = config.width, round(config.width * config.mlp)
        self.config = config
        self.image_first = image_first
        self.text_in = nn.Linear(text_width, width)
        self.image_in = nn.Linear(image_width, width)
        self.types = nn.Embedding(2, width)
        self.text_norm = nn.LayerNorm(width, eps=eps)
        self.image_norm = nn.LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(config.dropout)

        def block() -> Block:
            return Block(width, config.heads, hidden, norm="post", cross=True, dropout=config.dropout, eps=eps)

        self.text_blocks = nn.ModuleList(block() for _ in range(config.layers))
        self.image_blocks = nn.ModuleList(block() for _ in range(config.layers))
        joins = config.layers - 1 if config.bridge != "none" else 0
        self.text_bridges = nn.ModuleList(Bridge(width, config.bridge, eps) for _ in range(joins))
        self.image_bridges = nn.ModuleList(Bridge(width, config.bridge, eps) for _ in range(joins))
        self.text_pooler = nn.Linear(width, width)
        self.image_pooler = nn.Linear(width, width)
        start_at_random(self)
        if config.freeze:
            self.requires_grad_(False)
            self.eval()

    @property
    def bridges(self) -> int:
        """Tower layers to keep in `Encoded.layers`."""
        return self.config.bridges

    @property
    def pooled_width(self) -> int:
        """Width of `Fused.pooled`."""
        return 2 * self.config.width

    def train(self, mode: bool = True) -> "Fusion":
        """A frozen fusion stays in eval mode."""
        return super().train(mode and not self.config.freeze)

    def forward(self, image: Encoded, text: Encoded, *, causal: bool = False) -> Fused:
        """Row i of the image meets row i of the text.

        Args:
            image, text: with `bridges` layers each, deepest last.
            causal: text position l looks at the image and at text up to l, and the image never looks at text (for
                captioning; the text tower has to be causal too). `pooled` then means little.

        Raises:
            InputError: rows do not pair up, or a tower handed on too few layers.
        """
        self._check(image, text)
        text_keys, image_keys = key_mask(text.mask), key_mask(image.mask)
        text_self = text_keys
        if causal:
            real = text.mask if text.mask is not None else text.states.new_ones(text.states.shape[:2], dtype=torch.bool)
            text_self = causal_mask(real)

        for index in range(self.config.layers):
            if index == 0:
                t = self.dropout(self.text_norm(self._tower(text, index, TEXT)))
                v = self.dropout(self.image_norm(self._tower(image, index, IMAGE)))
            elif self.config.bridge != "none":
                t = self.text_bridges[index - 1](self._tower(text, index, TEXT), t)
                v = self.image_bridges[index - 1](self._tower(image, index, IMAGE), v)
            # both sides look at what the other was before this layer
            t, v = (
                self.text_blocks[index](t, v, mask=text_self, context_mask=image_keys),
                self.image_blocks[index](v, None if causal else t, mask=image_keys, context_mask=text_keys),
            )
        return Fused(t, v, torch.cat([self.text_pooler(t[:, 0]).tanh(), self._pool_image(v, image)], dim=-1))

    def _tower(self, encoded: Encoded, index: int, kind: int) -> Tensor:
        """The tower's layer for fusion layer `index`, projected to the fusion's width, with its type."""
        states = encoded.layers[len(encoded.layers) - self.bridges + index]
        return (self.text_in if kind == TEXT else self.image_in)(states) + self.types.weight[kind]

    def _pool_image(self, states: Tensor, image: Encoded) -> Tensor:
        if self.image_first:
            vector = states[:, 0]
        elif image.mask is None:
            vector = states.mean(1)
        else:
            weight = image.mask.unsqueeze(-1).to(states.dtype)
            vector = (states * weight).sum(1) / weight.sum(1).clamp(min=1)
        return self.image_pooler(vector).tanh()

    def _check(self, image: Encoded, text: Encoded) -> None:
        for name, encoded in (("image", image), ("text", text)):
            if len(encoded.layers) < self.bridges:
                raise InputError(
                    f"fusion with bridge={self.config.bridge} and layers={self.config.layers} reads the last "
                    f"{self.bridges} layers of each tower, but the {name} tower hands on {len(encoded.layers)}"
                )
        if len(image.states) != len(text.states):
            raise InputError(f"fusion of {len(image.states)} images with {len(text.states)} texts: rows pair up")


def check_bridges(config: FusionConfig, image_layers: int, text_layers: int) -> None:
    """Refuses, before anything is built, bridges that need more layers than a tower has.

    Raises:
        InputError: says which tower is too shallow.
    """
    for name, depth in (("image", image_layers), ("text", text_layers)):
        if config.bridges > depth:
            raise InputError(
                f"fusion bridge={config.bridge} with layers={config.layers} joins the last {config.bridges} layers of "
                f"each tower, but the {name} tower has {depth}: take fusion layers={depth} or bridge=none"
            )


def layer_flops(config: FusionConfig, tokens: int, patches: int) -> int:
    """Forward FLOPs of one fusion layer for one pair; a multiply-add counts 2, norms and activations nothing."""
    width, hidden = config.width, round(config.width * config.mlp)
    linear = (tokens + patches) * (16 * width**2 + 4 * width * hidden)
    return linear + 4 * width * (tokens**2 + patches**2 + 2 * tokens * patches)
