"""Captioned views on disk, and training batches whose content is a function of (seed, step) alone.

Layout of a views folder, one sub-folder per split (train, val, test):

    images.npy        uint8 (M, H, W, 3), read as a memory map
    captions.parquet  one row per caption: view (0..M-1), caption, kind ("full" = the whole view, "object" = one thing
                      in it), scene_id
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from numpy import ndarray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from core.errors import InputError, MissingFileError, existing_file

KINDS = ("full", "object")
PERMUTATION, SAMPLE = 0, 1  # streams of random numbers derived from one seed

MIRRORED = {"left": "right", "right": "left"}
_MIRRORED_WORD = re.compile(r"\b(" + "|".join(MIRRORED) + r")\b", re.IGNORECASE)


def mirrored(text: str) -> str:
    """The caption of the image seen in a mirror: left and right change places, written as they were."""

    def other(match: re.Match[str]) -> str:
        word = MIRRORED[match[1].lower()]
        return word if match[1].islower() else word.upper() if match[1].isupper() else word.capitalize()

    return _MIRRORED_WORD.sub(other, text)


def colour_gain(rng: np.random.Generator, count: int, jitter: float) -> Float32[Tensor, "count 3 1 1"]:
    """Colour jitter: factors for the channels of `count` images.

    Args:
        jitter: largest relative change of brightness; single channels change by a quarter of it.
    """
    brightness = 1 + jitter * rng.uniform(-1, 1, (count, 1))
    gain = brightness * (1 + 0.25 * jitter * rng.uniform(-1, 1, (count, 3)))
    return torch.from_numpy(gain.astype(np.float32)).view(count, 3, 1, 1)


@dataclass
class CaptionedViews:
    """The views of one split with their captions; captions are rows of a table of distinct texts."""

    images: UInt8[ndarray, "M H W 3"]
    scene_id: list[str]  # home of each view
    texts: list[str]  # the distinct captions, sorted
    full: list[Int64[ndarray, " k"]]  # rows of `texts` that describe each whole view
    objects: list[Int64[ndarray, " k"]]  # rows of `texts` that each name one thing in the view

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def open(cls, folder: str | Path, split: str) -> "CaptionedViews":
        """Opens one split of a views folder.

        Raises:
            InputError: a file is missing, cut short or does not fit the layout above.
        """
        import pyarrow.parquet as parquet
        from pyarrow import ArrowException

        path = Path(folder).expanduser() / split
        if not path.is_dir():
            raise MissingFileError(f"no views of split {split!r} in {folder}; make them with `sightline render-views`")
        file = existing_file(path / "images.npy", "view images")
        try:
            images = np.load(file, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise InputError(f"{file} is cut short or no array file ({error}); render the views again") from error
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise InputError(f"{file} holds {images.dtype} {images.shape}, expected uint8 (M, H, W, 3)")
        file = existing_file(path / "captions.parquet", "view captions")
        try:
            table = parquet.read_table(file, columns=["view", "caption", "kind", "scene_id"]).to_pydict()
        except (ArrowException, OSError, ValueError) as error:
            raise InputError(f"{file} does not read as a caption table: {str(error).splitlines()[0]}") from error
        return cls.from_rows(images, table["view"], table["caption"], table["kind"], table["scene_id"])

    def object_texts(self) -> list[str]:
        """The distinct captions of kind object, sorted."""
        rows = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *self.objects]))
        return [self.texts[row] for row in rows]

    @classmethod
    def from_rows(
        cls,
        images: UInt8[ndarray, "M H W 3"],
        view: Sequence[int],
        caption: Sequence[str],
        kind: Sequence[str],
        scene_id: Sequence[str],
    ) -> "CaptionedViews":
        """Groups caption rows by view.

        Raises:
            InputError: a row names a view that is not there or an unknown kind, or a view has no full caption.
        """
        count = len(images)
        texts = sorted(set(caption))
        row = {text: index for index, text in enumerate(texts)}
        grouped: dict[str, list[list[int]]] = {name: [[] for _ in range(count)] for name in KINDS}
        homes = [""] * count
        for number, (v, text, k, home) in enumerate(zip(view, caption, kind, scene_id)):
            if not 0 <= v < count or k not in grouped or not text.strip():
                raise InputError(
                    f"caption row {number} (view {v}, kind {k!r}, text {text!r}) does not fit: views run "
                    f"0..{count - 1}, kinds are {', '.join(KINDS)}, texts are not empty"
                )
            homes[v] = home
            grouped[k][v].append(row[text])
        for v, rows in enumerate(grouped["full"]):
            if not rows:
                raise InputError(f"view {v} has no caption of kind full; leave the view out or describe it")
        full, objects = ([np.unique(np.array(rows, dtype=np.int64)) for rows in grouped[name]] for name in KINDS)
        return cls(images, homes, texts, full, objects)

    def distinct(self, count: int, seed: int, *, at_most: bool = False) -> tuple[Int64[ndarray, " n"], list[str]]:
        """`count` views whose full captions are all distinct, spread over as many homes as possible.

        Views are drawn home by home in turn, in an order set by `seed`; a view's caption is its first full one in
        the table of texts that no chosen view has.

        Args:
            at_most: return fewer where the split has fewer.

        Raises:
            InputError: the split has fewer such views and `at_most` is not set.
        """
        rng = np.random.default_rng(seed)
        queues: dict[str, list[int]] = {}
        for v in rng.permutation(len(self)):
            queues.setdefault(self.scene_id[v], []).append(int(v))
        chosen: list[int] = []
        captions: list[str] = []
        used: set[int] = set()
        order = list(queues.values())
        while len(chosen) < count and order:
            for queue in order:
                while queue:
                    v = queue.pop()
                    fresh = [t for t in self.full[v] if t not in used]
                    # every full caption counts as used: no other chosen view may be described by it
                    if fresh and len(fresh) == len(self.full[v]) and len(chosen) < count:
                        used.update(self.full[v].tolist())
                        chosen.append(v)
                        captions.append(self.texts[fresh[0]])
                        break
            order = [queue for queue in order if queue]
        if len(chosen) < count and not at_most:
            raise InputError(
                f"only {len(chosen)} views with distinct captions among {len(self)}, {count} asked for; "
                "ask for fewer or render more views"
            )
        return np.array(chosen, dtype=np.int64), captions


@dataclass
class Batch:
    """One training batch."""

    images: UInt8[Tensor, "B H W 3"]
    gain: Float32[Tensor, "B 3 1 1"]  # colour jitter: factors for the channels, applied to 0..255
    input_ids: Int64[Tensor, "U L"]  # the distinct captions of the batch
    attention_mask: Int64[Tensor, "U L"]
    text: Int64[Tensor, " B"]  # row of each image's caption in input_ids
    positive: Bool[Tensor, "B B"]  # caption j is also one of view i's captions


class Batches(Protocol):
    """Where training batches come from: batch number `step` is a function of (seed, step), so resuming is exact.

    All of it may be called from several threads at once.
    """

    steps_per_epoch: int

    def __len__(self) -> int:
        """How many images there are; they are numbered from 0."""
        ...

    def batch(self, step: int, *, pictures: bool | range = True) -> Batch:
        """Batch number `step` of the endless sequence.

        Args:
            pictures: False = none, `images` is (B, 0, 0, 3): training from kept features. A range = those places of
                the batch only, the others are black: one of several processes.
        """
        ...

    def images(self, rows: Int64[ndarray, " n"]) -> UInt8[ndarray, "n H W 3"]:
        """Images by number, neither mirrored nor jittered."""
        ...

    def items(self, step: int) -> Int64[ndarray, " B"]:
        """Numbers of the images of batch(step), in its order: what features of a frozen tower are kept under."""
        ...


class ViewBatches:
    """Batches of (view, one of its captions) without replacement within an epoch.

    Batch `step` is the same whenever and wherever it is asked for, so a run continues to the sample. The rest of an
    epoch that does not fill a batch is left out, another one each epoch.
    """

    def __init__(
        self,
        views: CaptionedViews,
        tokenizer: PreTrainedTokenizerFast,
        batch_size: int,
        *,
        seed: int,
        object_share: float = 0.6,
        flip: bool = True,
        jitter: float = 0.1,
        max_tokens: int = 64,
    ) -> None:
        """
        Args:
            object_share: probability of an object caption instead of a full one, where a view has both.
            flip: mirror half of the images, with left and right exchanged in their captions.
            jitter: largest relative change of brightness; single channels change by a quarter of it.

        Raises:
            InputError: fewer views than batch_size, or a caption longer than max_tokens.
        """
        if len(views) < batch_size:
            raise InputError(f"batch_size={batch_size} is larger than the {len(views)} training views; lower it")
        if not 0 <= object_share <= 1 or not 0 <= jitter < 1:
            raise InputError(f"object_share={object_share} should be in [0, 1] and jitter={jitter} in [0, 1)")
        self.views, self.batch_size, self.seed = views, batch_size, seed
        self.object_share, self.flip, self.jitter = object_share, flip, jitter
        self.steps_per_epoch = len(views) // batch_size

        mirror_texts = [mirrored(text) for text in views.texts]
        texts = sorted({*views.texts, *mirror_texts}) if flip else views.texts
        row = {text: index for index, text in enumerate(texts)}
        own = np.array([row[text] for text in views.texts], dtype=np.int64)
        mirror = np.array([row[text] for text in mirror_texts], dtype=np.int64) if flip else own
        self._captions = [  # of each view: (full, object), as seen and mirrored
            ((own[f], own[o]), (mirror[f], mirror[o])) for f, o in zip(views.full, views.objects)
        ]
        longest = max(len(f) + len(o) for f, o in zip(views.full, views.objects))  # padded with -1
        self._held = np.full((2, len(views), longest), -1, dtype=np.int64)
        for m, (f, o) in enumerate(zip(views.full, views.objects)):
            held = np.concatenate([f, o])
            self._held[0, m, : len(held)], self._held[1, m, : len(held)] = own[held], mirror[held]
        self._ids, self._lengths = _token_table(tokenizer, texts, max_tokens)
        self._order: tuple[int, Int64[ndarray, " M"]] = (-1, np.zeros(0, dtype=np.int64))

    def _permutation(self, epoch: int) -> Int64[ndarray, " M"]:
        held, order = self._order  # read in one go: another thread may be an epoch ahead
        if held != epoch:
            order = np.random.default_rng([self.seed, PERMUTATION, epoch]).permutation(len(self.views))
            self._order = (epoch, order)
        return order

    def __len__(self) -> int:
        return len(self.views)

    def items(self, step: int) -> Int64[ndarray, " B"]:
        """The views of batch(step), in its order, mirrored or not."""
        epoch, index = divmod(step, self.steps_per_epoch)
        return self._permutation(epoch)[index * self.batch_size : (index + 1) * self.batch_size]

    def images(self, rows: Int64[ndarray, " n"]) -> UInt8[ndarray, "n H W 3"]:
        """Views by number, as they were drawn."""
        return self.views.images[rows]

    def batch(self, step: int, *, pictures: bool | range = True) -> Batch:
        """Batch number `step` of the endless sequence; `pictures` as in `Batches`."""
        rows = self.items(step)
        rng = np.random.default_rng([self.seed, SAMPLE, step])
        count = len(rows)
        flipped = rng.random(count) < (0.5 if self.flip else 0.0)
        of_object = rng.random(count) < self.object_share
        pick = rng.random(count)
        caption = np.empty(count, dtype=np.int64)
        for i, row in enumerate(rows):
            full, objects = self._captions[row][int(flipped[i])]
            options = objects if of_object[i] and len(objects) else full
            caption[i] = options[int(pick[i] * len(options))]

        wanted = np.arange(count if pictures else 0) if isinstance(pictures, bool) else np.array(pictures)
        images = np.zeros((count, *(self.views.images.shape[1:] if len(wanted) else (0, 0, 3))), dtype=np.uint8)
        if len(wanted):
            order = wanted[np.argsort(rows[wanted])]  # a memory map is read front to back
            images[order] = self.views.images[rows[order]]
            images[flipped] = images[flipped, :, ::-1]

        gain = colour_gain(rng, count, self.jitter)
        held = self._held[flipped.astype(np.int64), rows]  # (B, K)
        positive = np.zeros((count, count), dtype=bool)
        for each in held.T:  # (B,): all at once would hold K such tables
            positive |= each[:, None] == caption
        distinct, text = np.unique(caption, return_inverse=True)
        length = int(self._lengths[distinct].max())
        ids = torch.from_numpy(self._ids[distinct, :length].astype(np.int64))
        mask = (torch.arange(length)[None] < torch.from_numpy(self._lengths[distinct])[:, None]).long()
        return Batch(
            torch.from_numpy(images),
            gain,
            ids,
            mask,
            torch.from_numpy(text.reshape(-1)),
            torch.from_numpy(positive),
        )


def _token_table(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], max_tokens: int
) -> tuple[ndarray, Int64[ndarray, " U"]]:
    """Ids of all texts, padded at the end, and their lengths."""
    rows = tokenizer(texts, truncation=False, verbose=False)["input_ids"]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    if lengths.max() > max_tokens:
        worst = int(lengths.argmax())
        raise InputError(
            f"a caption has {lengths[worst]} tokens, max_tokens={max_tokens}: {texts[worst][:80]!r}; raise max_tokens"
        )
    table = np.full((len(texts), int(lengths.max())), tokenizer.pad_token_id, dtype=np.int32)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table, lengths
