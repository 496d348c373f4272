"""GPS of SceneVerse written down as the paper and its released code describe it, with nothing done for speed.

benchmarks/grounding.py compares our model with this one. It is meant to be a version its authors would accept: every
scene is padded to 80 objects of 1,024 points and every sentence to 50 tokens, each sentence comes with its own copy of
its scene (as their data loader gives it), the frozen object encoder runs in every step without gradients, attention is
written out (softmax(qk / sqrt(d) + log sigmoid(bias))), layers are post-norm, the word head decodes every token, and
the optimiser is torch's AdamW as it comes. Where a choice costs time the cheaper reading was taken: points are sampled
and grouped by the project's compiled loops, and the object classifier that no loss reads is left out. One thing it
computes that ours has not: dropout of attention weights, in the text and the joint layers as in the released code.

Source: arXiv:2401.09340, sections 4.1 and 4.2; sizes, orders of operations and constants after the released code
(scene-verse/SceneVerse, MIT licence), from which nothing is copied.
"""

import math
import re
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from scene.grounding import GroundingModel
from scene.pointops import ball_query, farthest_points, gather

NOT_MASKED = -1
"""Target of a token whose word need not be guessed."""

PAIRWISE, EPSILON = 5, 1e-10


@dataclass(frozen=True)
class Sizes:
    """The paper's sizes."""

    vocab: int = 30_522
    dim: int = 768
    heads: int = 12
    hidden: int = 2048  # feed-forward layers of the spatial and the joint transformer
    text_hidden: int = 3072
    layers: int = 4  # of each of the three transformers
    slots: int = 80  # objects
    points: int = 1024
    max_tokens: int = 50
    max_caption: int = 300
    dropout: float = 0.1


PAPER = Sizes()


@dataclass
class PaddedBatch:
    """S sentences, each with its own copy of its scene; everything padded to the sizes above."""

    points: Float[Tensor, "S N P 6"] | None  # centred, radius 1, colours in [-1, 1]; None when features are given
    locations: Float[Tensor, "S N 6"]  # mean of points and extents, metres; padding 0
    objects: Bool[Tensor, "S N"]  # False at padding
    tokens: Int64[Tensor, "S L"]  # some of them masked
    words: Bool[Tensor, "S L"]  # False at padding
    hidden: Int64[Tensor, "S L"]  # the words that were masked, NOT_MASKED elsewhere
    target: Int64[Tensor, " S"]
    features: Float[Tensor, "S N D"] | None = None  # of a cached object encoder
    captions: Int64[Tensor, "S C"] | None = None  # scene caption and sentence; None = no scene loss
    caption_words: Bool[Tensor, "S C"] | None = None


class SetAbstraction(nn.Module):
    """Centres by farthest point sampling, their neighbours, a shared network, the maximum over neighbours."""

    def __init__(self, centres: int, radius: float, neighbours: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.centres, self.radius, self.neighbours = centres, radius, neighbours  # centres 0 = one group of all points
        layers: list[nn.Module] = []
        for before, after in zip((widths[0] + 3, *widths[1:-1]), widths[1:]):
            layers += [nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.net = nn.Sequential(*layers)

    def forward(
        self, xyz: Float[Tensor, "M P 3"], features: Float[Tensor, "M P C"]
    ) -> tuple[Float[Tensor, "M Q 3"], Float[Tensor, "M Q E"]]:
        if not self.centres:
            grouped = torch.cat([xyz, features], -1)[:, None]  # (M, 1, P, 3 + C)
            return xyz[:, :1], self.net(grouped.permute(0, 3, 1, 2)).amax(3).transpose(1, 2)
        middle = gather(xyz, farthest_points(xyz, self.centres))
        index = ball_query(xyz, middle, self.radius, self.neighbours)
        grouped = torch.cat([gather(xyz, index) - middle[:, :, None], gather(features, index)], -1)  # (M, Q, K, 3 + C)
        return middle, self.net(grouped.permute(0, 3, 1, 2)).amax(3).transpose(1, 2)


class PointNetPP(nn.Module):
    """Three set abstractions and a linear map: an object's points to a vector."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            [
                SetAbstraction(32, 0.2, 32, (3, 64, 64, 128)),
                SetAbstraction(16, 0.4, 32, (128, 128, 128, 256)),
                SetAbstraction(0, 0.0, 0, (256, 256, 512, 768)),
            ]
        )
        self.out = nn.Linear(768, dim)

    def forward(self, points: Float[Tensor, "M P 6"]) -> Float[Tensor, "M D"]:
        xyz, features = points[..., :3].contiguous(), points[..., 3:]
        for stage in self.stages:
            xyz, features = stage(xyz, features)
        return self.out(features.flatten(1))


def pairwise_locations(centres: Float[Tensor, "S N 3"]) -> Float[Tensor, "S N N 5"]:
    """[d/d_max, dz/d, d_xy/d, dy/d_xy, dx/d_xy] of all pairs of slots; d_max counts padding too, which lies at 0."""
    offset = centres[:, :, None] - centres[:, None]
    distance = (offset.square().sum(-1) + EPSILON).sqrt()
    flat = (offset[..., :2].square().sum(-1) + EPSILON).sqrt()
    longest = distance.flatten(1).amax(1)[:, None, None]
    parts = [distance / longest, offset[..., 2] / distance, flat / distance]
    return torch.stack([*parts, offset[..., 1] / flat, offset[..., 0] / flat], -1)


class SpatialAttention(nn.Module):
    """softmax(q k / sqrt(d) + log(max(sigmoid(w m_ij + b), 1e-6))) v, with w and b from the query's token, per head."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.spatial = nn.Linear(dim, heads * (PAIRWISE + 1))

    def forward(
        self, x: Float[Tensor, "S N D"], pairs: Float[Tensor, "S N N 5"], objects: Bool[Tensor, "S N"]
    ) -> Float[Tensor, "S N D"]:
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        logits = torch.einsum("shik,shjk->shij", q, k) / math.sqrt(q.shape[-1])
        weights = self.spatial(x).unflatten(-1, (self.heads, PAIRWISE + 1)).transpose(1, 2)  # (S, H, N, 6)
        near = torch.einsum("shif,sijf->shij", weights[..., 1:], pairs) + weights[..., :1]
        near = near.sigmoid()
        padding = ~objects[:, None, None]
        logits = logits.masked_fill(padding, -torch.inf)
        near = near.masked_fill(padding, 0.0)
        attention = (near.clamp(min=1e-6).log() + logits).softmax(-1)
        return self.out(torch.einsum("shij,shjk->shik", attention, v).transpose(1, 2).flatten(2))


class PlainAttention(nn.Module):
    """softmax(q k / sqrt(d)) v, dropout on the weights, as torch's MultiheadAttention computes it."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "S T D"], keys: Bool[Tensor, "S T"]) -> Float[Tensor, "S T D"]:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        attention = self.drop(logits.masked_fill(~keys[:, None, None], -torch.inf).softmax(-1))
        return self.out((attention @ v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """A post-norm transformer layer around either attention."""

    def __init__(self, attention: nn.Module, activation: nn.Module, sizes: Sizes) -> None:
        super().__init__()
        self.attention = attention
        self.norm_attention, self.norm_feed = nn.LayerNorm(sizes.dim), nn.LayerNorm(sizes.dim)
        self.first, self.second = nn.Linear(sizes.dim, sizes.hidden), nn.Linear(sizes.hidden, sizes.dim)
        self.activation, self.drop = activation, nn.Dropout(sizes.dropout)

    def forward(self, x: Tensor, *mask: Tensor) -> Tensor:
        x = self.norm_attention(x + self.drop(self.attention(x, *mask)))
        return self.norm_feed(x + self.drop(self.second(self.drop(self.activation(self.first(x))))))


class ReferenceGPS(nn.Module):
    """The whole model: losses of a batch, as the released code defines them."""

    def __init__(self, sizes: Sizes = PAPER) -> None:
        super().__init__()
        self.sizes, dim = sizes, sizes.dim
        self.encoder = PointNetPP(dim).requires_grad_(False)
        self.object_drop = nn.Dropout(sizes.dropout)
        self.location = nn.Sequential(nn.Linear(6, dim), nn.LayerNorm(dim))
        self.spatial = nn.ModuleList(
            Layer(SpatialAttention(dim, sizes.heads), nn.GELU(), sizes) for _ in range(sizes.layers)
        )
        self.text = BertModel(
            BertConfig(
                vocab_size=sizes.vocab,
                hidden_size=dim,
                num_hidden_layers=sizes.layers,
                num_attention_heads=sizes.heads,
                intermediate_size=sizes.text_hidden,
                max_position_embeddings=max(sizes.max_tokens, sizes.max_caption),
                hidden_dropout_prob=sizes.dropout,
                attention_probs_dropout_prob=sizes.dropout,
                attn_implementation="eager",  # type: ignore[call-arg]  # taken by PretrainedConfig
            ),
            add_pooling_layer=False,
        )
        self.joint_location = nn.Sequential(nn.Linear(6, dim), nn.LayerNorm(dim))
        self.kind = nn.Embedding(2, dim)  # text, object
        self.joint = nn.ModuleList(
            Layer(PlainAttention(dim, sizes.heads, sizes.dropout), nn.ReLU(), sizes) for _ in range(sizes.layers)
        )
        self.word_head = nn.Sequential(
            nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim, eps=1e-12), nn.Linear(dim, sizes.vocab)
        )
        for part in self.children():
            part.apply(_initialise)

    def train(self, mode: bool = True) -> "ReferenceGPS":
        super().train(mode)
        self.encoder.eval()  # frozen: batch norm keeps its statistics
        return self

    def forward(self, batch: PaddedBatch) -> dict[str, Float[Tensor, ""]]:
        """The losses: `referral`, `word`, and `scene` where the batch has captions. Their sum is trained."""
        features = batch.features
        if features is None:
            assert batch.points is not None, "a batch has points or features"
            with torch.no_grad():
                features = self.encoder(batch.points.flatten(0, 1)).unflatten(0, batch.objects.shape)
        pairs = pairwise_locations(batch.locations[..., :3])
        x = self.object_drop(features)
        for layer in self.spatial:
            x = layer(x + self.location(batch.locations), pairs, batch.objects)
        scenes, text = x, self.text(input_ids=batch.tokens, attention_mask=batch.words.long()).last_hidden_state
        length, keys = text.shape[1], torch.cat([batch.words, batch.objects], 1)
        for layer in self.joint:
            x = x + self.joint_location(batch.locations) + self.kind.weight[1]
            text = text + self.kind.weight[0]
            text, x = layer(torch.cat([text, x], 1), keys).split([length, x.shape[1]], 1)
        scores = torch.einsum("sd,snd->sn", F.normalize(text[:, 0], dim=-1), F.normalize(x, dim=-1))
        words = self.word_head(text)
        losses = {
            "referral": F.cross_entropy(scores.masked_fill(~batch.objects, -torch.inf), batch.target),
            "word": F.cross_entropy(words.flatten(0, 1), batch.hidden.flatten(), ignore_index=NOT_MASKED),
        }
        if batch.captions is not None:
            assert batch.caption_words is not None
            said = self.text(input_ids=batch.captions, attention_mask=batch.caption_words.long()).last_hidden_state
            seen, said = F.normalize(scenes.mean(1), dim=-1), F.normalize(said[:, 0], dim=-1)
            logits, own = 14.28 * seen @ said.T, torch.arange(len(seen), device=seen.device)  # a fixed scale
            losses["scene"] = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        return losses


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW with the paper's settings."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(trained, lr=1e-4, betas=(0.9, 0.98), weight_decay=0.01)


def training_step(model: ReferenceGPS, optimizer: torch.optim.Optimizer, batch: PaddedBatch) -> float:
    """Forward, backward, clipped at 5 and one update; the loss before it."""
    loss = torch.stack(list(model(batch).values())).sum()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return loss.item()


@torch.no_grad()
def take_weights(reference: ReferenceGPS, model: GroundingModel) -> None:
    """Gives the reference the weights of our model in GPS's setting, so that losses can be compared."""
    theirs, ours = reference.state_dict(), model.state_dict()
    for name, value in ours.items():
        for before, after in (
            ("text.encoder.", "text."), ("joint_place.", "joint_location."), ("place.", "location."),
            ("fusion.", "joint."), ("object_encoder.", "encoder."), ("word_head.", "word_head."), ("kind.", "kind."),
        ):  # fmt: skip
            if name.startswith(before):
                name = after + name.removeprefix(before)
                break
        name = re.sub(r"feed\.0\.", "first.", re.sub(r"feed\.3\.", "second.", name))
        name = re.sub(r"layers\.(\d)\.weight", lambda k: f"net.{3 * int(k[1])}.weight", name)
        name = re.sub(r"norms\.(\d)\.", lambda k: f"net.{3 * int(k[1]) + 1}.", name)
        if name.startswith("spatial.") and ".qkv." in name:
            for part, rows in zip(("query", "key", "value"), value.chunk(3)):
                theirs[name.replace("qkv", part)].copy_(rows)
        elif name.startswith("spatial.") and ".weights." in name:  # bias last in ours, first in theirs
            rolled = value.unflatten(0, (-1, PAIRWISE + 1)).roll(1, 1).flatten(0, 1)
            theirs[name.replace("weights", "attention.spatial")].copy_(rolled)
        elif name == "text.embeddings.token_type_embeddings.weight":
            theirs[name][: len(value)] = value  # one kind of sentence is used of their two
        elif name in theirs:
            theirs[name].copy_(value.view(theirs[name].shape))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
