"""Attention between objects that knows where they stand: pair-wise spatial features and the bias made of them.

Follows the spatial transformer of SceneVerse's GPS (arXiv:2401.09340, section 4.1). Its released code lets the query
token choose the weights of the bias, as ViL3DRel does (Chen et al., 2022); its paper writes one projection for all.
Both are here. Different: by default the largest distance of a scene is taken over its real objects only (padding cannot
change a feature), and the bias enters fused attention as an additive mask.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

PAIR_FEATURES = 5
BLOCKED = -1e9
"""Added to the attention logits of padding: finite, so that a row of padding alone gives no NaN."""
INSIDE_ROOTS = 1e-10  # of the released code, where an object and itself then have features [~0, 0, 1, 0, 0]


def pair_features(
    centres: Float[Tensor, "B N 3"], valid: Bool[Tensor, "B N"], *, farthest: str = "valid", slots: int = 0
) -> Float[Tensor, "B N N 5"]:
    """m_ij = [d/d_max, dz/d, d_xy/d, dy/d_xy, dx/d_xy] of the vector from object j to object i.

    d is the distance of the two centres, d_xy its horizontal part, d_max the largest d between two valid objects of the
    scene: distance relative to the scene, then sine and cosine of the vertical and of the horizontal angle. An object
    and itself, or two at one place, give 0 where a direction is undefined. Rows and columns of padding are 0.

    Args:
        farthest: "valid", or "padded" as in the released code: a scene of fewer objects than `slots` has empty slots
            at the origin, which count for d_max; and 1e-10 stands inside the roots.
        slots: of every scene, for "padded".

    Source: arXiv:2401.09340, section 4.1, "spatial transformer".
    """
    pair = valid[:, :, None] & valid[:, None, :]
    offset = (centres[:, :, None] - centres[:, None, :]) * pair[..., None]  # (B, N, N, 3)
    flat_squared = offset[..., :2].square().sum(-1)
    squared = flat_squared + offset[..., 2].square()
    if farthest == "padded":
        distance, flat = (squared + INSIDE_ROOTS).sqrt(), (flat_squared + INSIDE_ROOTS).sqrt()
        from_origin = (centres.square().sum(-1) + INSIDE_ROOTS).sqrt() * valid
        empty = valid.sum(1) < slots
        longest = torch.maximum(distance.flatten(1).amax(1), from_origin.amax(1) * empty)[:, None, None]
    else:
        distance, flat = _root(squared), _root(flat_squared)
        longest = distance.flatten(1).amax(1)[:, None, None]
    features = torch.stack(
        [
            _ratio(distance, longest),
            _ratio(offset[..., 2], distance),
            _ratio(flat, distance),
            _ratio(offset[..., 1], flat),
            _ratio(offset[..., 0], flat),
        ],
        dim=-1,
    )
    return features * pair[..., None] if farthest == "padded" else features


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
    batch, count, heads, _ = weights.shape
    score = torch.baddbmm(  # per query: (H, 5) by (5, N)
        weights[..., PAIR_FEATURES:].flatten(0, 1),
        weights[..., :PAIR_FEATURES].flatten(0, 1),
        pairs.flatten(0, 1).mT,
    )
    return F.logsigmoid(score).view(batch, count, heads, count).transpose(1, 2)


@dataclass(frozen=True)
class Speakers:
    """Which scene each of S sentences speaks of, so that what belongs to a scene is shared, not copied.

    Where every scene has the same number of sentences, and they stand scene by scene, scenes are views and nothing is
    copied; a single scene is the plainest case. Otherwise what is needed of a scene is gathered per sentence.
    """

    scene: Int64[Tensor, " S"]
    scenes: int
    each: int  # sentences per scene where the order is regular, else 0

    @classmethod
    def of(cls, scene: Int64[Tensor, " S"], scenes: int) -> "Speakers":
        each, rest = divmod(len(scene), scenes)
        if scenes > 1 and (
            rest or not torch.equal(scene, torch.arange(scenes, device=scene.device).repeat_interleave(each))
        ):
            each = 0
        return cls(scene, scenes, each)

    def bias(self, weights: Float[Tensor, "S N H 6"], pairs: Float[Tensor, "B N N 5"]) -> Float[Tensor, "S H N N"]:
        """`spatial_bias` with weights of sentences and pairs of scenes."""
        if not self.each:
            return spatial_bias(weights, pairs[self.scene])
        sentences, count, heads, _ = weights.shape
        merged = weights.view(self.scenes, self.each, count, heads, -1).transpose(1, 2).flatten(2, 3)
        bias = spatial_bias(merged, pairs)  # (B, K * H, N, N)
        return bias.unflatten(1, (self.each, heads)).reshape(sentences, heads, count, count)

    def bearings(
        self,
        fit: Float[Tensor, "S N K"],
        pairs: Float[Tensor, "B N N 5"],
        centres: Float[Tensor, "B N 3"],
        valid: Bool[Tensor, "B N"],
    ) -> Float[Tensor, "S N 8K"]:
        """`bearings` with fits of sentences and places of scenes."""
        if not self.each:
            s = self.scene
            return bearings(fit, pairs[s], centres[s], valid[s])
        count, roles = fit.shape[1:]
        merged = fit.view(self.scenes, self.each, count, roles).transpose(1, 2).flatten(2)  # (B, N, sentences * K)
        found = bearings(merged, pairs, centres, valid).view(self.scenes, count, self.each, -1)
        return found.transpose(1, 2).reshape(len(fit), count, -1)


def bearings(
    fit: Float[Tensor, "B N K"],
    pairs: Float[Tensor, "B N N 5"],
    centres: Float[Tensor, "B N 3"],
    valid: Bool[Tensor, "B N"],
) -> Float[Tensor, "B N 8K"]:
    """Where each object stands, seen from what fits each of K roles.

    b_ik = sum_j a_jk [m_ij, c_i - c_j], where a_.k = softmax over the valid objects of their fit to role k: expected
    pair features and expected offset in metres, were j drawn by how well it fits. One sharp anchor gives its exact
    bearing. Computed in float32 also under autocast: metres would lose their centimetres.
    """
    with torch.autocast(fit.device.type, enabled=False):
        chosen = fit.float().masked_fill(~valid[..., None], BLOCKED).softmax(1)  # (B, N, K)
        features = torch.einsum("sjk,sijf->sikf", chosen, pairs)
        offset = centres[:, :, None] - torch.einsum("sjk,sjc->skc", chosen, centres)[:, None]  # (B, N, K, 3)
        return torch.cat([features, offset], -1).flatten(2)


def key_mask(keys: Bool[Tensor, "B T"], dtype: torch.dtype) -> Float[Tensor, "B 1 1 T"]:
    """What padding adds to attention logits: 0 at tokens, `BLOCKED` at padding."""
    return torch.zeros(keys.shape, dtype=dtype, device=keys.device).masked_fill(~keys, BLOCKED)[:, None, None]


class SelfAttention(nn.Module):
    """Multi-head self-attention with an additive mask, on fused attention.

    No dropout on its weights: GPS has none between objects; in the joint transformer the released code has 0.1.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "B T D"], mask: Float[Tensor, "B h _ T"]) -> Float[Tensor, "B T D"]:
        """`mask` is added to the logits; its head and query dimensions may be 1."""
        batch, length, dim = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, mask.to(q.dtype))
        return self.out(mixed.transpose(1, 2).reshape(batch, length, dim))


class SpatialLayer(nn.Module):
    """One transformer layer whose tokens are objects, optionally preceded by tokens without a place (text).

    GPS uses post-norm; pre-norm trains from scratch without a long warm-up, which a short CPU run needs.

    Args:
        norm: "pre" or "post".
        activation: "gelu" or "relu".
        bias: where the weights of the spatial bias come from: "query", "static", or "none" for plain attention.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        dropout: float,
        *,
        norm: str = "pre",
        activation: str = "gelu",
        bias: str = "query",
    ) -> None:
        super().__init__()
        self.post, self.bias = norm == "post", bias
        self.norm_attention, self.norm_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads)
        if bias == "query":
            self.weights = nn.Linear(dim, heads * (PAIR_FEATURES + 1))
        elif bias == "static":
            self.weights = nn.Linear(PAIR_FEATURES, heads)
        inner = [nn.Dropout(dropout)] if self.post else []
        act = nn.ReLU() if activation == "relu" else nn.GELU()
        self.feed = nn.Sequential(nn.Linear(dim, hidden), act, *inner, nn.Linear(hidden, dim))
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "S T D"],
        mask: Float[Tensor, "S 1 1 T"],
        pairs: Float[Tensor, "B N N 5"] | None = None,
        speakers: Speakers | None = None,
    ) -> Float[Tensor, "S T D"]:
        """The last N tokens of `x` are the objects of `pairs`, by `speakers` where rows of `x` share scenes.

        Args:
            mask: of the keys, from `key_mask`.
            pairs: not needed without a bias.
        """
        normed = x if self.post else self.norm_attention(x)
        if self.bias != "none":
            assert pairs is not None, "a layer with a spatial bias needs pair features"
            bias = self._bias(normed[:, x.shape[1] - pairs.shape[1] :], pairs, speakers)
            text = x.shape[1] - pairs.shape[1]
            # text neither gives nor takes a spatial bias
            mask = (F.pad(bias, (text, 0, text, 0)) if text else bias) + mask.to(bias.dtype)
        mixed = self.drop(self.attention(normed, mask))
        if self.post:
            x = self.norm_attention(x + mixed)
            return self.norm_feed(x + self.drop(self.feed(x)))
        x = x + mixed
        return x + self.drop(self.feed(self.norm_feed(x)))

    def _bias(
        self, objects: Float[Tensor, "S N D"], pairs: Float[Tensor, "B N N 5"], speakers: Speakers | None
    ) -> Float[Tensor, "S H N N"]:
        heads = self.attention.heads
        if self.bias == "query":
            weights = self.weights(objects).unflatten(-1, (heads, PAIR_FEATURES + 1))
            return spatial_bias(weights, pairs) if speakers is None else speakers.bias(weights, pairs)
        fixed = torch.cat([self.weights.weight, self.weights.bias[:, None]], 1)  # (H, 6)
        bias = spatial_bias(fixed.expand(*pairs.shape[:2], -1, -1), pairs)
        return bias if speakers is None else bias[speakers.scene]
