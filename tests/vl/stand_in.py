"""Models and batches that tests of objectives share.

`StandIn` has the training calls of `vl.model.VLModel`, is small enough to check by a slow loop, and counts its calls.
"""

import dataclasses
from collections import Counter
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

from vl.data import Batch
from vl.encoded import Encoded, Fused
from vl.fusion import FusionConfig
from vl.image_towers import ImageTowerConfig
from vl.model import VLConfig, VLModel
from vl.one_tower import OneTowerConfig
from vl.text_towers import TextTowerConfig
from vl.tokenizer import train_tokenizer

SENTENCES = [
    "a red chair near the window",
    "the lamp left of the bed",
    "a table",
    "two green plants beside the old sofa",
    "a white sink under the mirror",
    "the door",
]
WIDTH, PATCH = 16, 8


class StandIn(nn.Module):
    """Patches and words of width 16, one layer of attention per tower and one for both; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = train_tokenizer(SENTENCES)
        self.patches = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.words, self.places = nn.Embedding(len(self.tokenizer), WIDTH), nn.Embedding(32, WIDTH)
        self.mix = nn.ModuleDict({name: nn.Linear(WIDTH, 3 * WIDTH) for name in ("image", "text", "both")})
        self.heads = nn.ModuleDict({name: nn.Linear(WIDTH, 8) for name in ("image", "text")})
        self.match, self.vocabulary = nn.Linear(2 * WIDTH, 2), nn.Linear(WIDTH, len(self.tokenizer))
        self.alone, self.colours = nn.Linear(WIDTH, len(self.tokenizer)), nn.Linear(WIDTH, 3 * PATCH * PATCH)
        self.theta, self.logit_bias = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(-3.0))
        self.image_tower = SimpleNamespace(grid=(32 // PATCH, 32 // PATCH))
        self.calls: Counter[str] = Counter()

    @classmethod
    def create(cls, seed: int = 0) -> "StandIn":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls()

    @property
    def device(self):
        return self.theta.device

    @property
    def logit_scale(self):
        return self.theta.exp()

    def attend(self, kind: str, x, visible):
        """x + attention of x to the visible positions, (B, L, L) or (B, 1, L)."""
        query, key, value = self.mix[kind](x).chunk(3, -1)
        scores = (query @ key.transpose(1, 2) / WIDTH**0.5).masked_fill(~visible, -1e9)
        return x + scores.softmax(-1) @ value

    def pixels(self, images, gain=None):
        return images.permute(0, 3, 1, 2).float() / 127.5 * (1 if gain is None else gain) - 1

    def image_states(self, pixels, *, drop=0.0, generator=None):
        self.calls["image"] += 1
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        if drop:
            kept = torch.rand(x.shape[:2], generator=generator).argsort(1)[:, round(drop * x.shape[1]) :]
            x = x.gather(1, kept[..., None].expand(-1, -1, WIDTH))
        return Encoded([self.attend("image", x, torch.ones(1, 1, x.shape[1], dtype=torch.bool))])

    def text_states(self, input_ids, attention_mask, *, causal=False):
        self.calls["text"] += 1
        length = input_ids.shape[1]
        mask = attention_mask.bool()
        visible = mask[:, None] & (torch.ones(length, length, dtype=torch.bool).tril() if causal else mask[:, None])
        x = self.words(input_ids) + self.places.weight[:length]
        return Encoded([self.attend("text", x, visible)], mask)

    def with_embedding(self, encoded, kind):
        mask = torch.ones(encoded.states.shape[:2], dtype=torch.bool) if encoded.mask is None else encoded.mask
        mean = (encoded.states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return dataclasses.replace(encoded, embedding=F.normalize(self.heads[kind](mean), dim=-1))

    def fuse(self, image, text, *, causal=False):
        self.calls["fuse"] += 1
        count, length = text.mask.shape
        patches = image.states.shape[1]
        visible = torch.ones(count, length + patches, length + patches, dtype=torch.bool)
        visible[:, :, :length] = text.mask[:, None]
        if causal:
            visible[:, :length, :length] &= torch.ones(length, length, dtype=torch.bool).tril()
            visible[:, length:, :length] = False
        x = self.attend("both", torch.cat([text.states, image.states], 1), visible)
        return Fused(x[:, :length], x[:, length:], torch.cat([x[:, 0], x[:, length:].mean(1)], 1))

    def match_logits(self, fused):
        return self.match(fused.pooled)

    def word_logits(self, states):
        self.calls["words"] += len(states)
        return self.vocabulary(states)

    def word_logits_text(self, states):
        self.calls["words"] += len(states)
        return self.alone(states)

    def pixels_of(self, states):
        count, side = len(states), round(states.shape[1] ** 0.5)
        squares = self.colours(states).view(count, side, side, 3, PATCH, PATCH)
        return squares.permute(0, 3, 1, 4, 2, 5).reshape(count, 3, side * PATCH, side * PATCH)


def make_batch(model: StandIn, captions: list[str], seed: int = 0, side: int = 32) -> Batch:
    """One image of noise per caption; equal captions share a row, and fit each other's images."""
    texts = sorted(set(captions))
    rows = model.tokenizer(texts, padding=True, return_tensors="pt")
    text = torch.tensor([texts.index(caption) for caption in captions])
    draw = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (len(captions), side, side, 3), generator=draw, dtype=torch.uint8)
    gain = torch.ones(len(captions), 3, 1, 1)
    return Batch(images, gain, rows["input_ids"], rows["attention_mask"], text, text[:, None] == text[None])


def real_models(dropout: float = 0.0) -> dict[str, VLModel]:
    """The model itself in its kinds, tiny, with every head that an objective reads."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    text = TextTowerConfig(options=shape | {"hidden_dropout_prob": dropout})
    vit = ImageTowerConfig(model_type="vit", image_size=32, options=shape | {"patch_size": 8})
    fusion = FusionConfig(layers=2, width=32, heads=2, bridge="add", dropout=dropout)
    heads = {"text_mlm_head": True, "mim_head": True}
    one = OneTowerConfig(layers=2, width=32, heads=2, patch=8, dropout=dropout)
    configs = {
        "transformer": VLConfig(image=vit, text=text, fusion=fusion, **heads),
        "convolution": VLConfig(
            image=ImageTowerConfig(image_size=32), fusion=FusionConfig(1, width=32, heads=2), **heads
        ),
        "one-tower": VLConfig(kind="one-tower", image=ImageTowerConfig(image_size=32), one=one),
    }
    tokenizer = train_tokenizer(SENTENCES)
    return {name: VLModel.create(config, tokenizer, seed=0).train() for name, config in configs.items()}
