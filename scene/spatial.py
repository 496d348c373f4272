"""Attention between objects that knows where they stand: pair-wise spatial features and a bias the query conditions.

Follows the spatial transformer of SceneVerse's GPS (arXiv:2401.09340, section 4.1) in its query-conditioned form, which
ViL3DRel introduced (Chen et al., 2022). Different here: the largest distance of a scene is taken over its real objects
only (padding cannot change a feature), and the bias enters fused attention as an additive mask.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

PAIR_FEATURES = 5
BLOCKED = -1e9
"""Added to the attention logits of padding: finite, so that a row of padding alone gives no NaN."""


def pair_features(centres: Float[Tensor, "B N 3"], valid: Bool[Tensor, "B N"]) -> Float[Tensor, "B N N 5"]:
    """m_ij = [d/d_max, dz/d, d_xy/d, dy/d_xy, dx/d_xy] of the vector from object j to object i.

    d is the distance of the two centres, d_xy its horizontal part, d_max the largest d between two valid objects of the
    scene: distance relative to the scene, then sine and cosine of the vertical and of the horizontal angle. An object
    and itself, or two at one place, give 0 where a direction is undefined. Rows and columns of padding are 0.

    Source: arXiv:2401.09340, section 4.1, "spatial transformer".
    """
    pair = valid[:, :, None] & valid[:, None, :]
    offset = (centres[:, :, None] - centres[:, None, :]) * pair[..., None]  # (B, N, N, 3)
    flat_squared = offset[..., :2].square().sum(-1)
    distance = _root(flat_squared + offset[..., 2].square())
    flat = _root(flat_squared)
    farthest = distance.flatten(1).amax(1)[:, None, None]
    return torch.stack(
        [
            _ratio(distance, farthest),
            _ratio(offset[..., 2], distance),
            _ratio(flat, distance),
            _ratio(offset[..., 1], flat),
            _ratio(offset[..., 0], flat),
        ],
        dim=-1,
    )


def _root(square: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0 instead of infinite."""
    return torch.where(square > 0, square, 1.0).sqrt() * (square > 0)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 1e-6, part / whole.clamp(min=1e-6), torch.zeros_like(part))


def spatial_bias(weights: Float[Tensor, "B N H 6"], pairs: Float[Tensor, "B N N 5"]) -> Float[Tensor, "B H N N"]:
    """log(sigmoid(w . m_ij + b)): the logit object i adds for object j, with w (5) and b (1) per query i and head.

    Source: arXiv:2401.09340, equation 3 (released code: the weights come from the query token). log-sigmoid is computed
    in one stable operation, so it needs no lower clamp.
    """
    score = torch.einsum("bihf,bijf->bhij", weights[..., :PAIR_FEATURES], pairs)
    return F.logsigmoid(score + weights[..., PAIR_FEATURES].transpose(1, 2)[..., None])


def bearings(
    fit: Float[Tensor, "S N K"],
    pairs: Float[Tensor, "S N N 5"],
    centres: Float[Tensor, "S N 3"],
    valid: Bool[Tensor, "S N"],
) -> Float[Tensor, "S N 8K"]:
    """Where each object stands, seen from what fits each of K roles.

    b_ik = sum_j a_jk [m_ij, c_i - c_j], where a_.k = softmax over the valid objects of their fit to role k: expected
    pair features and expected offset in metres, were j drawn by how well it fits. One sharp anchor gives its exact
    bearing.
    """
    chosen = fit.masked_fill(~valid[..., None], BLOCKED).softmax(1)  # (S, N, K)
    features = torch.einsum("sjk,sijf->sikf", chosen, pairs)
    offset = centres[:, :, None] - torch.einsum("sjk,sjc->skc", chosen, centres)[:, None]  # (S, N, K, 3)
    return torch.cat([features, offset], -1).flatten(2)


class SelfAttention(nn.Module):
    """Multi-head self-attention with an additive mask, on fused attention; no dropout on its weights, as in GPS."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "B L D"], mask: Float[Tensor, "B h L L"]) -> Float[Tensor, "B L D"]:
        """`mask` is added to the logits; its head dimension may be 1."""
        batch, length, dim = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, mask)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, dim))


class SpatialLayer(nn.Module):
    """One pre-norm transformer layer whose tokens are objects, optionally preceded by tokens without a place (text).

    GPS uses post-norm; pre-norm trains from scratch without a long warm-up, which a short CPU run needs.
    """

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention, self.norm_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads)
        self.weights = nn.Linear(dim, heads * (PAIR_FEATURES + 1))
        self.feed = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "B L D"], keys: Bool[Tensor, "B L"], pairs: Float[Tensor, "B N N 5"]
    ) -> Float[Tensor, "B L D"]:
        """The last N tokens of `x` are the objects of `pairs`; `keys` is False where a token is padding."""
        count = pairs.shape[1]
        normed = self.norm_attention(x)
        objects = normed[:, x.shape[1] - count :]
        weights = self.weights(objects).view(len(x), count, self.attention.heads, PAIR_FEATURES + 1)
        text = x.shape[1] - count
        bias = F.pad(spatial_bias(weights, pairs), (text, 0, text, 0))  # text neither gives nor takes a spatial bias
        blocked = torch.zeros(keys.shape, dtype=x.dtype, device=x.device).masked_fill(~keys, BLOCKED)
        x = x + self.drop(self.attention(normed, bias + blocked[:, None, None]))
        return x + self.drop(self.feed(self.norm_feed(x)))
