"""What pretraining reads: views or pairs of one's own, as batches, as items to cache, and as pictures to retrieve."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray
from transformers import PreTrainedTokenizerFast

from core import distributed
from core.errors import InputError
from core.files import fingerprint, folder_fingerprint
from vl.data import Batch, CaptionedViews, ViewBatches, mirrored
from vl.pair_files import RowError
from vl.pairs import PairBatches, Pairs, Unreadable, open_pairs
from vl.pictures import PictureError, resize
from vl.pretrain_config import PretrainVLConfig

TrainBatches: TypeAlias = ViewBatches | PairBatches

VAL_SEED = 0  # of the val images chosen, and of the draws of val losses: the same for all runs


class Source(Protocol):
    """One kind of data, train and val."""

    val_name: str  # for messages: views, pairs
    homes: int | None  # of the gallery, where images belong to homes
    size: tuple[int, int]  # height and width that pictures are read at; 0 until the model has said

    def texts(self) -> list[str]:
        """Texts of training, as training shows them: what a tokenizer learns its words from."""
        ...

    def all_texts(self) -> list[str]:
        """Every text that training can show."""
        ...

    def train(self, tokenizer: PreTrainedTokenizerFast) -> TrainBatches:
        """Batches to learn from."""
        ...

    def val(self, tokenizer: PreTrainedTokenizerFast, at_most: int) -> tuple[TrainBatches, int]:
        """Batches to measure losses on, not augmented, and how many of them hold about `at_most` pairs."""
        ...

    def gallery(self, at_most: int) -> tuple[UInt8[ndarray, "n H W 3"], list[str]]:
        """Val images and one text for each, all texts different."""
        ...

    def val_unreadable(self) -> dict[str, int]:
        """How many val rows could not be used so far, by cause."""
        ...

    def train_digest(self) -> str:
        """What features of the training images depend on."""
        ...


def open_source(cfg: PretrainVLConfig) -> Source:
    """The data a configuration names.

    Raises:
        InputError: it names none, or what it names does not read.
    """
    if cfg.views:
        return Views(cfg)
    if not cfg.data:
        raise InputError(
            "views is required: views=FOLDER, the folder that `sightline render-views` filled; or data=FILE, pairs of "
            "image and text of your own"
        )
    return Own(cfg)


class Views:
    """Rendered views with captions."""

    val_name = "views"

    def __init__(self, cfg: PretrainVLConfig) -> None:
        self.cfg = cfg
        self._train, self._val = CaptionedViews.open(cfg.views, "train"), CaptionedViews.open(cfg.views, "val")
        self.homes: int | None = None
        self.size = cfg.model.image.size
        if cfg.batch_size > len(self._train):
            raise InputError(f"batch_size={cfg.batch_size} is larger than the {len(self._train)} training views")

    def texts(self) -> list[str]:
        texts = self._train.texts
        return [*texts, *(mirrored(text) for text in texts)] if self.cfg.flip else texts

    def all_texts(self) -> list[str]:
        return self.texts()

    def train(self, tokenizer: PreTrainedTokenizerFast) -> ViewBatches:
        cfg = self.cfg
        return ViewBatches(
            self._train,
            tokenizer,
            cfg.batch_size,
            seed=cfg.seed,
            object_share=cfg.object_share,
            flip=cfg.flip,
            jitter=cfg.jitter,
            max_tokens=cfg.model.max_tokens,
        )

    def val(self, tokenizer: PreTrainedTokenizerFast, at_most: int) -> tuple[ViewBatches, int]:
        size = val_batch_size(self.cfg.batch_size, min(at_most, len(self._val)), self.val_name)
        batches = ViewBatches(
            self._val,
            tokenizer,
            size,
            seed=VAL_SEED,
            object_share=self.cfg.object_share,
            flip=False,
            jitter=0.0,
            max_tokens=self.cfg.model.max_tokens,
        )
        return batches, max(1, min(at_most, len(self._val)) // size)

    def gallery(self, at_most: int) -> tuple[UInt8[ndarray, "n H W 3"], list[str]]:
        chosen, captions = self._val.distinct(at_most, seed=VAL_SEED, at_most=True)
        self.homes = len({self._val.scene_id[v] for v in chosen})
        order = np.argsort(chosen)  # a memory map is read front to back
        images = np.empty((len(chosen), *self._val.images.shape[1:]), dtype=np.uint8)
        images[order] = self._val.images[chosen[order]]
        return images, captions

    def val_unreadable(self) -> dict[str, int]:
        return {}

    def train_digest(self) -> str:
        return folder_fingerprint(Path(self.cfg.views).expanduser() / "train" / "images.npy")


class Own:
    """Pairs of image and text of one's own."""

    val_name = "pairs"
    homes: int | None = None

    def __init__(self, cfg: PretrainVLConfig) -> None:
        if not cfg.val_data:
            raise InputError("val_data is required with data=: pairs of the same form that training does not see")
        self.cfg, self.size = cfg, cfg.model.image.size
        self._train = self._open(cfg.data, cfg.images)
        self._val = self._open(cfg.val_data, cfg.val_images or cfg.images)
        self._unreadable = Unreadable(len(self._val), cfg.max_unreadable)  # of val
        if cfg.batch_size > len(self._train):
            raise InputError(f"batch_size={cfg.batch_size} is larger than the {len(self._train)} pairs of {cfg.data}")

    def _open(self, path: str, images: str) -> Pairs:
        return open_pairs(path, images, image_column=self.cfg.image_column, text_column=self.cfg.text_column)

    def texts(self) -> list[str]:
        return self._shown(self._train.texts())

    def all_texts(self) -> list[str]:
        return self._shown(self._train.texts(at_most=len(self._train)))

    def _shown(self, texts: Iterable[str]) -> list[str]:
        listed = list(texts)
        return [*listed, *(mirrored(text) for text in listed)] if self.cfg.flip else listed

    def _batches(self, pairs: Pairs, tokenizer: PreTrainedTokenizerFast, size: int, train: bool) -> PairBatches:
        cfg = self.cfg
        height, width = self.size
        return PairBatches(
            pairs,
            tokenizer,
            size,
            seed=cfg.seed if train else VAL_SEED,
            image_size=height,
            image_width=width,
            max_tokens=cfg.model.max_tokens,
            flip=cfg.flip and train,
            exchange_sides=cfg.flip and train,
            jitter=cfg.jitter if train else 0.0,
            max_unreadable=cfg.max_unreadable,
        )

    def train(self, tokenizer: PreTrainedTokenizerFast) -> PairBatches:
        return self._batches(self._train, tokenizer, self.cfg.batch_size, train=True)

    def val(self, tokenizer: PreTrainedTokenizerFast, at_most: int) -> tuple[PairBatches, int]:
        size = val_batch_size(self.cfg.batch_size, min(at_most, len(self._val)), self.val_name)
        batches = self._batches(self._val, tokenizer, size, train=False)
        self._unreadable = batches.unreadable
        return batches, max(1, min(at_most, len(self._val)) // size)

    def gallery(self, at_most: int) -> tuple[UInt8[ndarray, "n H W 3"], list[str]]:
        """Rows in the order of the file whose picture no earlier row has, and none of whose texts one has.

        Raises:
            InputError: more than max_unreadable do not read, or all.
        """
        height, width = self.size
        images: list[ndarray] = []
        captions: list[str] = []
        pictures: set[bytes] = set()
        taken: set[str] = set()
        for row in range(len(self._val)):
            if len(images) == at_most:
                break
            self._unreadable.read(1)
            try:
                pair = self._val.pair(row)
            except RowError as error:
                self._unreadable.add(row, error)
                continue
            key = pair.image if isinstance(pair.image, bytes) else pair.image.encode()
            key = hashlib.sha256(key).digest()
            if key in pictures or taken.intersection(pair.texts):
                continue
            try:
                picture = self._val.picture(row, pair.image, (height, width))
            except PictureError as error:
                self._unreadable.add(row, error)
                continue
            pictures.add(key)
            taken.update(pair.texts)
            images.append(resize(picture, height, width))
            captions.append(pair.texts[0])
        if not images:
            raise InputError(f"{self.cfg.val_data} has no pair that reads; look at its images= and columns")
        return np.stack(images), captions

    def val_unreadable(self) -> dict[str, int]:
        return self._unreadable.counts()

    def train_digest(self) -> str:
        """By the bytes of pictures that the rows hold, and by name, size and time of those that they name."""
        root = self._train.pictures.root
        digest = hashlib.sha256(fingerprint(self.size).encode())
        digest.update(_stamp(root) if root.is_file() else b"")
        for row in range(len(self._train)):
            try:
                image = self._train.pair(row).image
            except RowError:
                image = b""  # never comes in a batch
            if isinstance(image, bytes):
                digest.update(image)
            else:
                digest.update(image.encode() + (b"" if root.is_file() else _stamp(root / image)))
        return digest.hexdigest()[:16]


def _stamp(path: Path) -> bytes:
    """Size and time of a file, by which a changed one is noticed; nothing of one that is not there."""
    if not path.exists():
        return b""
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns}".encode()


def val_batch_size(batch_size: int, pairs: int, what: str) -> int:
    """The largest batch up to `batch_size` that splits over the processes.

    Raises:
        InputError: fewer val pairs than processes.
    """
    world = distributed.world_size()
    if pairs < world:
        raise InputError(f"{pairs} val {what} do not split over {world} processes; give more")
    return min(batch_size, pairs) // world * world


def share_of(batch: Batch, rows: range) -> Batch:
    """The part of a batch that these rows are, with the texts they use; `positive` stays that of the whole batch."""
    part = slice(rows.start, rows.stop)
    used, text = torch.unique(batch.text[part], return_inverse=True)
    mask = batch.attention_mask[used]
    longest = int(mask.sum(1).max())
    return Batch(
        batch.images[part], batch.gain[part], batch.input_ids[used, :longest], mask[:, :longest], text, batch.positive
    )


def token_rows(batch: Batch) -> list[bytes]:
    """A key for each distinct text of a batch: its tokens."""
    return [ids[real.bool()].numpy().tobytes() for ids, real in zip(batch.input_ids, batch.attention_mask)]
