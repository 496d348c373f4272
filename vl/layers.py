"""The transformer layer that fusion and the one tower are made of, on fused attention, and the masks it takes.

Masks are booleans, true where a query may look, and broadcast to (B, heads, queries, keys). Dropout falls on the output
of a sublayer, never on attention probabilities: with it the fused kernels of a processor are out of reach.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import InputError, check_choice


def quick_gelu(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """x * sigmoid(1.702 x), CLIP's cheaper GELU."""
    return x * torch.sigmoid(1.702 * x)


def tanh_gelu(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """GELU by its tanh approximation (Hendrycks and Gimpel, arXiv:1606.08415, section 2)."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": tanh_gelu,
    "gelu_pytorch_tanh": tanh_gelu,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "silu": F.silu,
}
"""By the names transformers uses in `hidden_act`."""


def key_mask(mask: Bool[Tensor, "B K"] | None) -> Bool[Tensor, "B 1 1 K"] | None:
    """Every query looks at the real keys. None stays None: all are real."""
    return None if mask is None else mask[:, None, None, :]


def causal_mask(mask: Bool[Tensor, "B L"]) -> Bool[Tensor, "B 1 L L"]:
    """Position l looks at real positions up to l, and always at itself, so that padding has somewhere to look."""
    length = mask.shape[1]
    past = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=mask.device)
    return ((past & mask[:, None, :]) | itself)[:, None]


def prefix_mask(text: Bool[Tensor, "B L"], image: Bool[Tensor, "B N"]) -> Bool[Tensor, "B 1 L+N L+N"]:
    """Mask of the sequence [text ; image] for captioning with the image as prefix (prefix LM).

    Text position l looks at the image and at text up to l; image positions look at the image alone, so their states
    are those they have without any text.
    """
    (rows, length), patches = text.shape, image.shape[1]
    looks = torch.zeros(rows, 1, length + patches, length + patches, dtype=torch.bool, device=text.device)
    looks[:, :, :length, :length] = causal_mask(text)
    looks[..., length:] = image[:, None, None, :]
    return looks


def masked_mean(values: Float[Tensor, "B L C"], mask: Bool[Tensor, "B L"]) -> Float[Tensor, "B C"]:
    """Mean over the positions where `mask` is true; rows without one give zeros."""
    weight = mask.unsqueeze(-1).to(values.dtype)
    return (values * weight).sum(1) / weight.sum(1).clamp(min=1)


class Attention(nn.Module):
    """Multi-head attention on `scaled_dot_product_attention`.

    Queries, keys and values are one matrix: a single product where all come from `x`, two where keys and values come
    from a context of the same width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)  # rows: all of q, all of k, all of v
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "B Q W"],
        context: Float[Tensor, "B K W"] | None = None,
        mask: Bool[Tensor, "B 1 q K"] | None = None,
    ) -> Float[Tensor, "B Q W"]:
        """`x` looks at `context`, or at itself (None), where `mask` allows; every query needs a place to look at."""
        rows, queries, width = x.shape
        split = (rows, -1, self.heads, width // self.heads)
        if context is None:
            q, k, v = self.qkv(x).chunk(3, dim=-1)
        else:
            weight, bias = self.qkv.weight, self.qkv.bias
            q = F.linear(x, weight[:width], bias[:width])
            k, v = F.linear(context, weight[width:], bias[width:]).chunk(2, dim=-1)
        q, k, v = (part.view(split).transpose(1, 2) for part in (q, k, v))  # (B, heads, L, W / heads)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(seen.transpose(1, 2).reshape(rows, queries, width))


class Block(nn.Module):
    """Self-attention, then (with `cross`) attention to a context, then a two-layer network; each added to its input.

    norm="post": x = LN(x + f(x)), as in Vaswani et al., arXiv:1706.03762, and BERT.
    norm="pre":  x = x + f(LN(x)), as in ViT; whoever stacks such blocks normalises the last one's output.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        norm: str = "post",
        cross: bool = False,
        activation: str = "gelu",
        dropout: float = 0.0,
        eps: float = 1e-5,
    ) -> None:
        """`hidden`: width between the two linear layers.

        Raises:
            InputError: the width does not split over the heads; unknown norm or activation.
        """
        super().__init__()
        check_choice("norm", norm, ("pre", "post"))
        check_choice("activation", activation, ACTIVATIONS)
        self.norm = norm
        self.activation = activation
        self.attention = Attention(width, heads)
        self.attention_norm = nn.LayerNorm(width, eps=eps)
        if cross:
            self.cross = Attention(width, heads)
            self.cross_norm = nn.LayerNorm(width, eps=eps)
        self.grow = nn.Linear(width, hidden)
        self.shrink = nn.Linear(hidden, width)
        self.feed_norm = nn.LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "B L W"],
        context: Float[Tensor, "B K W"] | None = None,
        *,
        mask: Bool[Tensor, "B 1 l L"] | None = None,
        context_mask: Bool[Tensor, "B 1 1 K"] | None = None,
    ) -> Float[Tensor, "B L W"]:
        """One layer. `context` None: the attention to it is left out, also from a block that has it."""
        x = self._add(x, self.attention_norm, lambda y: self.attention(y, mask=mask))
        if context is not None:
            x = self._add(x, self.cross_norm, lambda y: self.cross(y, context, context_mask))
        return self._add(x, self.feed_norm, lambda y: self.shrink(ACTIVATIONS[self.activation](self.grow(y))))

    def _add(self, x: Tensor, norm: nn.LayerNorm, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        if self.norm == "pre":
            return x + self.dropout(sublayer(norm(x)))
        return norm(x + self.dropout(sublayer(x)))


def check_heads(width: int, heads: int) -> None:
    """Raises InputError unless the width splits evenly over the heads."""
    if width < 1 or heads < 1 or width % heads:
        raise InputError(f"width={width} does not split over heads={heads}: choose a width that is a multiple of it")


def start_at_random(module: nn.Module) -> None:
    """Fresh weights for everything below `module`: normal, biases zero, from torch's global random state.

    Linear layers and patches: deviation 0.02 at BERT's width of 768 (as many numbers as a patch of 16 x 16 pixels has)
    and sqrt(768 / inputs) times that elsewhere, so that signals in narrow layers start at the same size. Embeddings:
    0.02 (Devlin et al., arXiv:1810.04805).
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.normal_(part.weight, std=0.02 * (768 / part.weight[0].numel()) ** 0.5)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)
