"""Questions about pictures as batches: what a task's examples become on their way to a model.

A batch holds its distinct pictures and its distinct texts once; rows pair them up. Six questions about one picture cost
one encoding, the phrases of RefCOCO are rows of one text against many crops, and a blind model sees one grey picture
however many questions it is asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from numpy import ndarray
from torch import Tensor

from core import distributed
from core.errors import InputError
from vl.data import colour_gain
from vl.picture_cache import GREY, Crop, PictureCache
from vl.tasks import Example

ORDER, JITTER = 0, 1
"""Streams of random numbers derived from one seed."""

Tokens = Callable[[list[str]], tuple[Int64[Tensor, "V L"], Int64[Tensor, "V L"]]]
"""Texts to ids and attention mask, padded to the longest (`VLModel.tokens`)."""


@dataclass(frozen=True)
class Ask:
    """One thing to ask a model: a text about pictures, or about each of several crops."""

    text: str
    crops: tuple[tuple[Crop, ...], ...]
    """The rows of this question, each with as many pictures as the task has per example."""
    boxed: bool = False
    """Whether the rows are boxes to choose from."""


@dataclass
class AnswerBatch:
    """Questions ready for a model; R rows of B questions (more rows than questions where a question is about boxes)."""

    crops: list[Crop]  # the distinct pictures by name
    images: UInt8[Tensor, "U H W 3"] | None  # and as pixels; None where their states are kept
    gain: Float32[Tensor, "U 3 1 1"] | None  # colour jitter of each, applied to 0..255
    input_ids: Int64[Tensor, "V L"]  # the distinct texts
    attention_mask: Int64[Tensor, "V L"]
    picture: Int64[Tensor, "R K"]  # rows of `images`
    text: Int64[Tensor, " R"]  # row of `input_ids`
    question: Int64[Tensor, " R"]  # 0..B-1
    slot: Int64[Tensor, " R"]  # which of its question's boxes a row is about; 0 where there are none
    boxed: bool  # whether rows are boxes of their question

    @property
    def questions(self) -> int:
        return int(self.question.max()) + 1


def ask(example: Example, *, blind: bool = False) -> Ask:
    """The question an example asks.

    Args:
        blind: leave the pictures out; boxes stay as slots that all look alike.
    """
    rows: tuple[tuple[Crop, ...], ...]
    if example.boxes is not None:
        boxes = example.boxes.astype(float).tolist()
        rows = tuple(((example.pictures[0], (x1, y1, x2, y2)),) for x1, y1, x2, y2 in boxes)
    else:
        rows = (tuple((name, None) for name in example.pictures),)
    if blind:
        rows = tuple(tuple(("", None) for _ in row) for row in rows)
    return Ask(example.text, rows, example.boxes is not None)


def collate(
    asks: Sequence[Ask],
    cache: PictureCache,
    tokens: Tokens,
    jitter: float = 0.0,
    rng: np.random.Generator | None = None,
    *,
    pixels: bool = True,
) -> AnswerBatch:
    """The questions as one batch; the picture named "" is grey, as are unreadable ones.

    Args:
        pixels: read the pictures; not needed where a frozen tower's states of them are kept.
        jitter: largest relative change of brightness; single channels change by a quarter of it. Draws from `rng`.
    """
    rows = [(number, slot, crops) for number, one in enumerate(asks) for slot, crops in enumerate(one.crops)]
    pictures = {crop: n for n, crop in enumerate(dict.fromkeys(crop for _, _, crops in rows for crop in crops))}
    texts = {text: n for n, text in enumerate(dict.fromkeys(one.text for one in asks))}
    ids, mask = tokens(list(texts))
    gain = None
    if jitter:
        assert rng is not None
        gain = colour_gain(rng, len(pictures), jitter)
    return AnswerBatch(
        list(pictures),
        torch.from_numpy(_stack(list(pictures), cache)) if pixels else None,
        gain,
        ids,
        mask,
        torch.tensor([[pictures[crop] for crop in crops] for _, _, crops in rows]),
        torch.tensor([texts[asks[number].text] for number, _, _ in rows]),
        torch.tensor([number for number, _, _ in rows]),
        torch.tensor([slot for _, slot, _ in rows]),
        asks[0].boxed,
    )


def _stack(crops: list[Crop], cache: PictureCache) -> UInt8[ndarray, "U H W 3"]:
    if crops == [("", None)]:
        return np.full((1, cache.height, cache.width, 3), GREY, dtype=np.uint8)
    return cache.stack(crops)


class AnswerBatches:
    """Training batches without replacement within an epoch; batch `step` is a function of (seed, step) alone.

    Examples with an unreadable picture are left out of their batch and counted in the cache. The rest of an epoch that
    does not fill a batch is left out, another one each epoch. Of several processes each takes every W-th question.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        cache: PictureCache,
        tokens: Tokens,
        batch_size: int,
        *,
        seed: int,
        jitter: float = 0.0,
        blind: bool = False,
        max_unreadable: float = 0.05,
        pixels: bool = True,
    ) -> None:
        """
        Args:
            pixels: as in `collate`.

        Raises:
            InputError: no examples.
        """
        if not examples:
            raise InputError("the training split has no examples; name another split or folder")
        self.examples, self.cache, self.tokens = examples, cache, tokens
        self.batch_size = min(batch_size, len(examples))
        self.seed, self.jitter, self.blind, self.max_unreadable = seed, jitter, blind, max_unreadable
        self.pixels = pixels
        self.names = {name for example in examples for name in example.pictures}
        self.steps_per_epoch = len(examples) // self.batch_size
        self._order: tuple[int, Int64[ndarray, " M"]] = (-1, np.zeros(0, dtype=np.int64))

    def batch(self, step: int) -> tuple[list[Example], AnswerBatch]:
        """The examples of batch number `step` and the questions they ask.

        Raises:
            InputError: more than `max_unreadable` of the pictures cannot be read, or all of this batch's.
        """
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            order = np.random.default_rng([self.seed, ORDER, epoch]).permutation(len(self.examples))
            self._order = (epoch, order)
        chosen = self._order[1][index * self.batch_size : (index + 1) * self.batch_size]
        chosen = chosen[distributed.rank() :: distributed.world_size()]
        examples, asks = [], []
        for row in chosen:
            example = self.examples[row]
            one = ask(example, blind=self.blind)
            if self.blind or self._readable(one):
                examples.append(example)
                asks.append(one)
        bad = len(self.cache.unreadable)
        if not asks or bad > self.max_unreadable * len(self.names):
            raise InputError(
                f"{bad} of {len(self.names)} pictures cannot be read ({self.cache.causes()}), more than the share "
                f"max_unreadable={self.max_unreadable}; mend the files or raise it"
            )
        rng = np.random.default_rng([self.seed, JITTER, step, distributed.rank()])
        return examples, collate(asks, self.cache, self.tokens, self.jitter, rng, pixels=self.pixels)

    def _readable(self, one: Ask) -> bool:
        crops = [crop for crops in one.crops for crop in crops]
        if self.pixels:
            return self.cache.readable(crops)
        return not any(name in self.cache.unreadable for name, _ in crops)  # all were read when states were kept
