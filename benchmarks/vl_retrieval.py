"""Retrieval for benchmarks/vl.py: a shortlist by embeddings ranked again through the fusion, beside every pair fused.

A small model is trained here first (with random weights R@1 would mean nothing), on pictures of three towers with
captions that name their blocks from the base up: of all towers, or of two of them in other words. Several captions
belong to each picture.
"""

import time
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from numpy import ndarray

from benchmarks.nlvr_pictures import COLOURS, MOST_STACKED, Picture, draw_picture
from benchmarks.vl_steps import Step, batch_of
from vl.fusion import FusionConfig
from vl.image_towers import ImageTowerConfig
from vl.model import VLModel
from vl.model_config import VLConfig
from vl.objectives import Objectives
from vl.optimise import rate_factor, set_rates
from vl.retrieval import match_scores, read_all, recall_at, rerank, see_all, target_ranks
from vl.text_towers import TextTowerConfig
from vl.tokenizer import train_tokenizer

CELL = 8  # pixels of a block, and of a patch
CAPTIONS = 5  # of each picture
PLACES = ("left", "middle", "right")
WORDS = {"yellow": "golden", "black": "dark", "blue": "azure"}
LEARNED = Objectives(itc=1.0, itm=1.0, mlm=1.0, negatives="random", mlm_probability=0.3)


@dataclass(frozen=True)
class Gallery:
    """Pictures, texts, and which picture each text tells of."""

    images: UInt8[ndarray, "I H W 3"]
    texts: list[str]
    image: Int64[ndarray, " T"]

    def part(self, images: int, texts: int) -> "Gallery":
        """The first pictures with so many texts, spread evenly over them."""
        rows = np.argsort(np.arange(len(self.texts)) % CAPTIONS, kind="stable")  # first captions first
        rows = rows[self.image[rows] < images][:texts]
        return Gallery(self.images[:images], [self.texts[row] for row in rows], self.image[rows])


def gallery(count: int, seed: int) -> Gallery:
    """`count` different pictures with CAPTIONS texts each."""
    rng = Random(seed)
    seen: dict[tuple[tuple[str, ...], ...], Picture] = {}
    while len(seen) < count:
        picture = draw_picture(rng, "tower")
        seen.setdefault(tuple(tuple(item.colour for item in box) for box in picture.boxes), picture)
    texts = [caption(towers, number) for towers in seen for number in range(CAPTIONS)]
    return Gallery(np.stack([coarse(towers) for towers in seen]), texts, np.repeat(np.arange(count), CAPTIONS))


def coarse(towers: tuple[tuple[str, ...], ...]) -> UInt8[ndarray, "32 24 3"]:
    """A block a cell, on grey."""
    cells = np.full((MOST_STACKED, len(towers), 3), 211, dtype=np.uint8)
    for place, blocks in enumerate(towers):
        for row, colour in enumerate(blocks):
            cells[MOST_STACKED - 1 - row, place] = COLOURS[colour]
    return cells.repeat(CELL, 0).repeat(CELL, 1)


def caption(towers: tuple[tuple[str, ...], ...], number: int) -> str:
    """Two ways to tell of all towers, and one for each pair of them."""
    told = [place for place in range(len(towers)) if place != number - 2]
    return " ".join(
        " ".join([PLACES[place], *(WORDS[colour] if number == 1 else colour for colour in towers[place])])
        for place in told
    )


def small_model(texts: list[str], width: int) -> VLModel:
    """Towers of two layers, two of fusion."""

    def options(**more: int) -> dict[str, object]:
        still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        shape = {"hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 2 * width}
        return {**still, **shape, **more}

    config = VLConfig(
        dim=64,
        max_tokens=24,
        image=ImageTowerConfig(
            "vit", options=options(patch_size=CELL), image_size=MOST_STACKED * CELL, image_width=len(PLACES) * CELL
        ),
        text=TextTowerConfig(options=options()),
        fusion=FusionConfig(layers=2, width=width, heads=2, mlp=2.0, dropout=0.0),
    )
    return VLModel.create(config, train_tokenizer(texts), seed=0)


def trained(width: int, steps: int, pictures: int = 4_000, batch_size: int = 32) -> tuple[VLModel, float]:
    """A model trained on pictures of its own, and the seconds that took."""
    started = time.perf_counter()
    data = gallery(pictures, seed=1)
    model = small_model(data.texts, width).train()
    images, rng = torch.from_numpy(data.images), np.random.default_rng(0)
    step = Step(model, LEARNED, rate=2e-3)
    for number in range(steps):
        set_rates(step.optimizer, rate_factor(number, steps, steps // 10, "cosine"))
        rows = rng.choice(len(data.images), batch_size, replace=False)
        texts = [data.texts[row * CAPTIONS + rng.integers(CAPTIONS)] for row in rows]
        step(batch_of(model, images[rows], texts), number)
    return model.eval(), time.perf_counter() - started


@dataclass
class Scores:
    """Cross-encodings and the seconds they took."""

    model: VLModel
    gallery: Gallery

    def __post_init__(self) -> None:
        self.pairs, self.seconds = 0, 0.0
        self.text, self.image = read_all(self.model, self.gallery.texts), see_all(self.model, self.gallery.images)
        assert self.text.embedding is not None and self.image.embedding is not None
        self.similarity = (self.text.embedding @ self.image.embedding.T).numpy()

    def __call__(self, texts: Int64[ndarray, " P"], images: Int64[ndarray, " P"]) -> Float[ndarray, " P"]:
        started = time.perf_counter()
        found = match_scores(self.model, self.text, self.image, texts, images)
        self.seconds += time.perf_counter() - started
        self.pairs += len(texts)
        return found


def both_ways(
    to_image: Float[ndarray, "T I"], to_text: Float[ndarray, "I T"], own: Int64[ndarray, " T"]
) -> list[float]:
    """R@1 of texts for pictures and of pictures for texts; of a picture's texts the best placed counts."""
    first = recall_at(target_ranks(to_image, own), 1)
    best = own[to_text.argmax(1)] == np.arange(len(to_text))
    return [first, float(best.mean())]


@dataclass(frozen=True)
class Found:
    """What was measured."""

    lines: list[str]
    fewer: float  # cross-encodings of the grid over those of the shortlists
    faster: float
    points: float  # R@1 of every pair fused minus that of the shortlists, the larger of both directions, in percent


def retrieval(model: VLModel, large: tuple[int, int], small: tuple[int, int], k: int, measured: int) -> Found:
    """A large gallery by shortlist, its grid extrapolated; a small one both ways.

    Args:
        large, small: pictures and texts.
        k: pictures per text, and texts per picture, that are ranked again.
        measured: pairs of the large grid that are timed.
    """
    whole = gallery(large[0], seed=2)
    whole = whole.part(large[0], large[1])
    started = time.perf_counter()
    scores = Scores(model, whole)
    result = rerank(scores.similarity, k, scores)
    seconds = time.perf_counter() - started
    lists = both_ways(result.text_to_image, result.image_to_text, whole.image)
    grid = scores.similarity.size
    pairs = np.sort(np.random.default_rng(0).choice(grid, min(measured, grid), replace=False))
    timed = Scores(model, whole)
    timed(pairs // large[0], pairs % large[0])
    grid_seconds = timed.seconds / timed.pairs * grid + seconds - scores.seconds

    part = whole.part(*small)
    every = Scores(model, part)
    texts, images = np.divmod(np.arange(every.similarity.size), small[0])
    full = every(texts, images).reshape(every.similarity.shape)
    again = rerank(every.similarity, k, lambda t, i: full[t, i])
    dual = both_ways(every.similarity, every.similarity.T, part.image)
    of_grid = both_ways(full, full.T, part.image)
    of_lists = both_ways(again.text_to_image, again.image_to_text, part.image)
    points = 100 * max(a - b for a, b in zip(of_grid, of_lists))

    def percent(values: list[float]) -> str:
        return " | ".join(f"{100 * value:.1f}" for value in values)

    lines = [
        f"{large[0]:,} pictures, {large[1]:,} texts, shortlists of {k} in both directions: {scores.pairs:,} pairs "
        f"through the fusion, {grid / scores.pairs:.3g} times fewer than the grid's {grid:,}; {seconds:.3g} s with the "
        f"towers. The grid would take {grid_seconds:.3g} s, extrapolated from {timed.pairs:,} of its pairs "
        f"({timed.seconds:.3g} s): {grid_seconds / seconds:.3g} times as long.",
        "",
        f"R@1 in %, the grid of {small[0]} pictures and {small[1]} texts computed in full:",
        "",
        "| | text to picture | picture to text |",
        "|---|---|---|",
        f"| embeddings alone | {percent(dual)} |",
        f"| every pair fused | {percent(of_grid)} |",
        f"| shortlists of {k}, ranked again | {percent(of_lists)} |",
        f"| the large gallery, ranked again | {percent(lists)} |",
    ]
    return Found(lines, grid / scores.pairs, grid_seconds / seconds, points)
