"""Pretraining steps for benchmarks/vl.py: shared encodings beside a pass per objective, and features from disk."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.nlvr_style import draw_pair
from benchmarks.turns import Seconds, in_turns
from benchmarks.vl_baseline import baseline_terms
from core.flops import counted_flops
from vl.data import Batch
from vl.encoded import Encoded
from vl.feature_cache import FeatureCache, FeatureSpec
from vl.fusion import FusionConfig
from vl.image_towers import ImageTowerConfig
from vl.model import VLModel
from vl.model_config import VLConfig
from vl.objectives import Objectives, objective_terms, weighted_sum
from vl.optimise import make_optimizer, update
from vl.text_towers import TextTowerConfig
from vl.tokenizer import train_tokenizer

SIDE = 224  # pixels of a picture
ALL = Objectives(itc=1.0, itm=1.0, mlm=1.0, negatives="random")
ITC = Objectives(itc=1.0)
Terms = Callable[..., dict[str, Tensor]]


@dataclass(frozen=True)
class Shape:
    """A ViT with patches of 16 pixels, a BERT, and fusion layers."""

    image_width: int
    image_layers: int
    text_width: int
    text_layers: int
    fusion_layers: int
    fusion_width: int = 256
    side: int = SIDE

    def __str__(self) -> str:
        return (
            f"ViT of {self.image_layers} layers, {self.image_width} wide, BERT of {self.text_layers} layers, "
            f"{self.text_width} wide, {self.fusion_layers} fusion layers, {self.fusion_width} wide"
        )

    def config(self, freeze: bool) -> VLConfig:
        def options(width: int, layers: int) -> dict[str, Any]:
            heads = {"num_attention_heads": max(1, width // 64), "num_hidden_layers": layers}
            return {"hidden_size": width, "intermediate_size": 4 * width, **heads}

        return VLConfig(
            image=ImageTowerConfig(
                "vit",
                options=options(self.image_width, self.image_layers) | {"patch_size": 16},
                image_size=self.side,
                pool="cls",
                freeze=freeze,
            ),
            text=TextTowerConfig(options=options(self.text_width, self.text_layers), pool="cls", freeze=freeze),
            fusion=FusionConfig(layers=self.fusion_layers, width=self.fusion_width),
        )


def some_texts(count: int) -> list[str]:
    """Sentences about NLVR-style pictures."""
    rng = Random(0)
    return [f"{draw_pair(rng).statement.text} {draw_pair(rng).statement.text}" for _ in range(count)]


def build(shape: Shape, texts: list[str], *, freeze: bool = False) -> VLModel:
    """A fresh model; the same weights for the same shape and texts, frozen or not."""
    return VLModel.create(shape.config(freeze), train_tokenizer(texts), seed=0).train()


def noise(count: int, side: int) -> Tensor:
    """Pictures: what they show costs nothing."""
    drawn = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, side, side, 3), generator=drawn, dtype=torch.uint8)


def batch_of(model: VLModel, pictures: Tensor, texts: list[str]) -> Batch:
    """Every picture with a text of its own."""
    ids, mask = model.tokens(texts)
    count = len(texts)
    return Batch(
        pictures, torch.ones(count, 3, 1, 1), ids, mask, torch.arange(count), torch.eye(count, dtype=torch.bool)
    )


class Step:
    """A model with its optimiser, and one step of training on demand."""

    def __init__(
        self, model: VLModel, objectives: Objectives, terms: Terms = objective_terms, *, rate: float = 1e-5
    ) -> None:
        self.model, self.objectives, self.terms = model, objectives, terms
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = make_optimizer("adamw", model.parameter_groups(rate))

    def __call__(self, batch: Batch, seed: int = 0, **features: Encoded) -> None:
        """Forwards, backwards, weights updated."""
        self.optimizer.zero_grad(set_to_none=True)
        terms = self.terms(self.model, batch, self.objectives, torch.Generator().manual_seed(seed), **features)
        weighted_sum(terms, self.objectives).backward()
        update(self.optimizer, self.trained, 1.0)

    def flops(self, batch: Batch, **features: Encoded) -> int:
        """Operations of a step's products."""
        with counted_flops() as counter:
            self(batch, 0, **features)
        assert counter is not None
        return int(counter.get_total_flops())


def losses(model: VLModel, batch: Batch, terms: Terms) -> dict[str, float]:
    """Without dropout, which the two ways would draw differently."""
    model.eval()
    with torch.no_grad():
        found = terms(model, batch, ALL, torch.Generator().manual_seed(1))
    model.train()
    return {name: term.item() for name, term in found.items()}


@dataclass(frozen=True)
class Compared:
    """Two ways of a step."""

    lines: list[str]
    ratio: float  # median over rounds of slow over fast, on the clock
    bound: float  # the same of operations


def compare(
    slow: tuple[str, Callable[[], Any], int], fast: tuple[str, Callable[[], Any], int], count: int, rounds: int
) -> Compared:
    """Two ways in turn, given by name, step and operations; `count` samples a step."""
    found: Seconds = in_turns({slow[0]: slow[1], fast[0]: fast[1]}, rounds)
    ratios = found[slow[0]] / found[fast[0]]
    ratio, processor = np.median(ratios, axis=0)
    bound = slow[2] / max(1, fast[2])
    lines = ["| | samples per second | range | GFLOP per sample | GFLOP per second |", "|---|---|---|---|---|"]
    for name, _, flops in (slow, fast):
        wall = found[name][:, 0]
        middle = float(np.median(wall))
        lines.append(
            f"| {name} | {count / middle:.3g} | {count / wall.max():.3g} to {count / wall.min():.3g} | "
            f"{flops / count / 1e9:.3g} | {flops / middle / 1e9:.3g} |"
        )
    lines += [
        "",
        f"Ratio {ratio:.3g} on the clock ({ratios[:, 0].min():.3g} to {ratios[:, 0].max():.3g} in {rounds} rounds), "
        f"{processor:.3g} of the processor's time; the operations alone would give {bound:.3g}.",
    ]
    return Compared(lines, float(ratio), bound)


def shared_encodings(
    shape: Shape, count: int, rounds: int, others: tuple[Shape, ...] = ()
) -> tuple[list[str], float, float]:
    """ITC + ITM + MLM from one encoding of each picture, beside a pass per objective.

    Args:
        others: shapes of which the bound is printed, not measured.

    Returns:
        Lines, ratio of speeds, and the largest relative difference of the losses.
    """
    texts = some_texts(count)
    model = build(shape, texts)
    batch = batch_of(model, noise(count, shape.side), texts)
    ours, theirs = losses(model, batch, objective_terms), losses(model, batch, baseline_terms)
    difference = max(abs(ours[name] - theirs[name]) / abs(theirs[name]) for name in theirs)
    slow, fast = Step(model, ALL, baseline_terms), Step(model, ALL)
    found = compare(
        ("a pass per objective", lambda: slow(batch), slow.flops(batch)),
        ("shared encodings", lambda: fast(batch), fast.flops(batch)),
        count,
        rounds,
    )
    lines = [
        f"{shape}; pictures of {shape.side} px, {batch.input_ids.shape[1]} tokens at most, {count} pairs a step. "
        "Both ways fuse the pairs and two wrong ones each for ITM, the pairs again for MLM. Losses of the two, same "
        f"weights, no dropout: {', '.join(f'{name} {ours[name]:.6g} and {theirs[name]:.6g}' for name in ours)}.",
        "",
        *found.lines,
    ]
    for other in others:
        small = build(other, texts)
        two = batch_of(small, noise(2, other.side), texts[:2])
        bound = Step(small, ALL, baseline_terms).flops(two) / Step(small, ALL).flops(two)
        lines.append(f"With {other} the operations would give {bound:.3g}.")
    return lines, found.ratio, difference


def frozen_features(shape: Shape, count: int, items: int, rounds: int) -> tuple[list[str], float, float]:
    """Frozen towers with features on disk beside towers that are trained: ITC + ITM + MLM, and ITC alone.

    Args:
        items: pictures, each with its text, in the cache.

    Returns:
        Lines and the two ratios.
    """
    texts = some_texts(items)
    pictures = noise(items, shape.side)
    model = build(shape, texts, freeze=True)
    rng = np.random.default_rng(0)
    lines = [f"{shape}; pictures of {shape.side} px, {count} pairs a step out of {items}.", ""]
    ratios = []
    with tempfile.TemporaryDirectory() as root:
        started = time.perf_counter()
        caches = {
            keep: {kind: _cache(Path(root), model, kind, keep, pictures, texts) for kind in ("image", "text")}
            for keep in ("states", "embedding")
        }
        seconds = time.perf_counter() - started
        trained = build(shape, texts)
        for name, objectives, keep in (("ITC + ITM + MLM", ALL, "states"), ("ITC alone", ITC, "embedding")):
            held = caches[keep]
            slow, fast = Step(trained, objectives), Step(model, objectives)

            def drawn(pictures_too: bool) -> tuple[Batch, list[int]]:
                rows = rng.choice(items, count, replace=False).tolist()
                shown = pictures[rows] if pictures_too else pictures[:0]
                return batch_of(model, shown, [texts[row] for row in rows]), rows

            def from_disk(fast: Step = fast, held: dict[str, FeatureCache] = held) -> None:
                batch, rows = drawn(False)
                fast(batch, image=held["image"].encoded(rows), text=held["text"].encoded(rows))

            def through(slow: Step = slow) -> None:
                slow(drawn(True)[0])

            batch, rows = drawn(True)
            features = {kind: cache.encoded(rows) for kind, cache in held.items()}
            found = compare(
                ("towers trained", through, slow.flops(batch)),
                ("towers frozen, features from disk", from_disk, fast.flops(batch, **features)),
                count,
                rounds,
            )
            size = sum(cache.bytes for cache in held.values()) / items
            lines += [f"**{name}**, {size / 1e3:.3g} kB on disk a pair:", "", *found.lines, ""]
            ratios.append(found.ratio)
    lines.append(f"Both caches were filled in {seconds:.3g} s, once for all epochs and runs.")
    return lines, ratios[0], ratios[1]


def _cache(root: Path, model: VLModel, kind: str, keep: str, pictures: Tensor, texts: list[str]) -> FeatureCache:
    """Features of every picture or text in their order, as `vl.pretrain_features` makes them."""
    model.eval()

    @torch.no_grad()
    def encode(rows: range) -> Encoded:
        part = slice(rows.start, rows.stop)
        if kind == "image":
            states = model.image_states(model.pixels(pictures[part], None))
        else:
            states = model.text_states(*model.tokens(texts[part]))
        return states if keep == "states" else model.only_pooled(states, kind)

    spec = FeatureSpec(model.cache_key(kind), f"{kind} of the benchmark", len(texts), keep)
    cache = FeatureCache.build(root, spec, encode, block=16)
    model.train()
    return cache
