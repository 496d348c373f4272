"""Training batches from pairs of picture and free text on disk, and what happens to the ones that do not read.

A batch is a function of (seed, step) and of the files. An epoch shows every row once, in the order of
vl/epoch_order.py. A row that does not read is replaced by another one of its pool, and counted by cause.
"""

import copy
import glob
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy import ndarray
from transformers import PreTrainedTokenizerFast

from core.errors import InputError, MissingFileError
from vl.data import MIRRORED, SAMPLE, Batch, colour_gain, mirrored
from vl.epoch_order import EpochOrder, Replacements
from vl.pair_files import Block, KeptGroups, RowError, RowFile, open_rows
from vl.pictures import LIMITS, PictureError, PictureLimits, Pictures, resize

PLACE, REPLACEMENT = 3, 4  # streams of random numbers beside those of vl/data.py and vl/epoch_order.py
LONGEST_TEXT: Final = 100_000  # characters; longer ones are not even split into tokens
FIRST_ROWS: Final = 1000  # the share of unreadable rows is taken of at least so many
GREY: Final = 128
_SIDE = re.compile(r"\b(?:left|right)\w*", re.IGNORECASE)


@dataclass(frozen=True)
class Pair:
    """One row: a picture by name or as the bytes of its file, and what is true of it."""

    image: str | bytes
    texts: tuple[str, ...]


class Pairs:
    """Rows of one or several files, numbered through from 0, and the pictures they name."""

    def __init__(self, files: list[RowFile], pictures: Pictures) -> None:
        self.files, self.pictures = files, pictures
        self._ends = np.cumsum([file.rows for file in files], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def blocks(self) -> list[Block]:
        """All rows in pieces that are cheap to read together, in order."""
        return [block for file in self.files for block in file.blocks()]

    def _place(self, row: int) -> tuple[RowFile, int]:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row}: there are {len(self)}, counted from 0")
        number = int(np.searchsorted(self._ends, row, side="right"))
        return self.files[number], row - (int(self._ends[number - 1]) if number else 0)

    def where(self, row: int) -> str:
        """The row's file and its number there, counted from 0."""
        file, inside = self._place(row)
        return file.where(inside)

    def pair(self, row: int) -> Pair:
        """The row's picture, not yet read, and its texts.

        Raises:
            RowError: the row does not read, names no picture, or has an empty text or none.
        """
        file, inside = self._place(row)
        image, text = file.value(inside)
        if isinstance(image, dict):  # how Hugging Face keeps pictures
            image = image.get("bytes") or image.get("path")
        if not isinstance(image, str | bytes) or not image:
            raise RowError(
                "no image", f"{file.where(inside)} has {_shown(image)} as its image, expected a name or bytes"
            )
        texts = (text,) if isinstance(text, str) else tuple(text) if isinstance(text, list) else ()
        if not texts or not all(isinstance(t, str) and t.strip() for t in texts):
            raise RowError(
                "empty text", f"{file.where(inside)} has {_shown(text)} as its text, expected words, or a list of texts"
            )
        return Pair(image, texts)

    def picture(self, row: int, image: str | bytes, least: tuple[int, int] | None = None) -> UInt8[ndarray, "H W 3"]:
        """The picture of a row's pair; `least` as in vl/pictures.py.

        Raises:
            PictureError: it does not read.
        """
        if isinstance(image, bytes):
            return self.pictures.decode(image, f"the picture in {self.where(row)}", least)
        try:
            return self.pictures.read(image, least)
        except PictureError as error:
            raise PictureError(error.cause, f"{error} ({self.where(row)})") from error

    def texts(self, at_most: int = 100_000) -> Iterator[str]:
        """Texts of up to `at_most` rows, evenly spread, to train a tokenizer on; rows that do not read are left out
        (they are counted when their turn comes in a batch)."""
        step = -(-len(self) // at_most)
        for row in range(0, len(self), step):
            try:
                yield from self.pair(row).texts
            except RowError:
                continue


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def open_pairs(
    path: str | Path,
    image_root: str | Path = "",
    *,
    image_column: str = "image",
    text_column: str = "caption",
    limits: PictureLimits = LIMITS,
) -> Pairs:
    """Pairs of picture and text from files of rows.

    Args:
        path: .jsonl, .csv, .tsv, .parquet, a folder that Hugging Face's `save_to_disk` wrote, or a pattern such as
            'data/train-*.jsonl', whose files are joined in the order of their names.
        image_root: the folder or .zip archive that picture names are paths in; "" = the folder of the (first) file.
        image_column: a picture's name, the bytes of its file, or Hugging Face's pair of both.
        text_column: a text, or a list of texts that are all true of the picture.

    Raises:
        InputError: a file is of another kind, damaged, without rows, or lacks a column. MissingFileError: nothing is
            there. MissingLibraryError: a saved dataset without the library datasets.
    """
    pattern = str(Path(path).expanduser())
    paths = [Path(pattern)]
    if glob.has_magic(pattern) and not paths[0].exists():
        paths = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
        if not paths:
            raise MissingFileError(f"no file matches {pattern} (working folder: {Path.cwd()})")
    kept = KeptGroups()
    files = [open_rows(file, (image_column, text_column), kept) for file in paths]
    root = Path(image_root) if str(image_root) else paths[0] if paths[0].is_dir() else paths[0].parent
    return Pairs(files, Pictures(root, limits))


@dataclass
class Unreadable:
    """Rows that could not be used, by cause. Threads share it."""

    rows: int  # of the data
    share: float  # largest share of unreadable rows
    tried: int = 0  # rows read so far, those of later epochs again
    causes: dict[int, str] = field(default_factory=dict)  # of each such row
    examples: list[str] = field(default_factory=list)  # the first three messages
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def counts(self) -> dict[str, int]:
        """How many rows, by cause, most frequent first."""
        with self._lock:
            return dict(Counter(self.causes.values()).most_common())

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that a resumed run counts on."""
        with self._lock:
            causes = [[row, cause] for row, cause in self.causes.items()]
            return {"tried": self.tried, "causes": causes, "examples": list(self.examples)}

    def restore(self, state: dict[str, Any]) -> None:
        """Counts on from a `state`; rows that were found since then stay."""
        with self._lock:
            self.tried += state["tried"]
            self.causes = dict(state["causes"]) | self.causes
            self.examples = [*state["examples"], *self.examples][:3]

    def read(self, count: int) -> None:
        """Counts rows that were tried."""
        with self._lock:
            self.tried += count

    def add(self, row: int, error: RowError | PictureError) -> None:
        """Counts a row that does not read.

        Raises:
            InputError: they are more than the share of the rows tried so far, or of the first 1000.
        """
        with self._lock:
            if row not in self.causes and len(self.examples) < 3:
                self.examples.append(str(error))
            self.causes[row] = error.cause
            seen = min(self.rows, max(self.tried, FIRST_ROWS))
            count = len(self.causes)
        if count > self.share * seen:
            causes = ", ".join(f"{number} {cause}" for cause, number in self.counts().items())
            raise InputError(
                f"{count} of the first {seen} rows cannot be used, more than max_unreadable={self.share:g}: {causes}. "
                f"For example: {'; '.join(self.examples)}"
            )


@dataclass
class _Item:
    """One place of a batch, read."""

    row: int
    key: str | bytes  # the same for the same picture
    flipped: bool
    texts: tuple[str, ...]  # all of the row, of the picture as it is stored
    text: str  # the chosen one, of the picture as it is shown
    ids: list[int]
    pixels: UInt8[ndarray, "H W 3"] | None


class PairBatches:
    """Batches of (picture, one of its texts), each row once per epoch; see the head of this file.

    The rest of an epoch that does not fill a batch is left out, another one each epoch. Equal texts of a batch, all
    texts of a row, and all texts of rows that share a picture count as positives of each other.

    Attributes:
        unreadable: rows that could not be used so far, by cause.
        readable: bool (N,), rows whose picture was read once. `items` and batches without pictures read the others to
            know whether they are used: whoever keeps features of all pictures keeps this with them and puts it back.
    """

    def __init__(
        self,
        pairs: Pairs,
        tokenizer: PreTrainedTokenizerFast,
        batch_size: int,
        *,
        seed: int,
        image_size: int,
        image_width: int = 0,
        max_tokens: int = 64,
        truncate_text: bool = False,
        flip: bool = False,
        exchange_sides: bool = False,
        jitter: float = 0.0,
        max_unreadable: float = 0.05,
    ) -> None:
        """
        Args:
            image_size, image_width: height and width the pictures are resized to; width 0 = square.
            truncate_text: cut texts to max_tokens; without it a row with a longer text counts as unreadable.
            flip: mirror half of the pictures. One whose texts speak of left or right is not mirrored, and letters
                in a picture are: off unless asked for.
            exchange_sides: with flip, mirror those too, with the words left and right exchanged in their texts (not
                where "left" means gone or "right" means correct: only for texts that never say so).
            jitter: largest relative change of brightness; single channels change by a quarter of it.
            max_unreadable: largest share of rows that may be unreadable.

        Raises:
            InputError: fewer rows than batch_size, or a share or size out of range.
        """
        if not 1 <= batch_size <= len(pairs):
            raise InputError(f"batch_size={batch_size} should be between 1 and the {len(pairs)} rows of the data")
        if not 0 <= jitter < 1 or not 0 <= max_unreadable <= 1:
            raise InputError(f"jitter={jitter} should be in [0, 1) and max_unreadable={max_unreadable} in [0, 1]")
        if image_size < 1 or image_width < 0 or max_tokens < 1:
            raise InputError(
                f"image_size={image_size} and max_tokens={max_tokens} should be positive, image_width={image_width} "
                "not negative"
            )
        if exchange_sides and not flip:
            raise InputError("exchange_sides=true changes texts of mirrored pictures, but flip is false; set flip=true")
        self.pairs, self.batch_size, self.seed = pairs, batch_size, seed
        self.height, self.width = image_size, image_width or image_size
        self.max_tokens, self.truncate_text = max_tokens, truncate_text
        self.flip, self.exchange_sides, self.jitter = flip, exchange_sides, jitter
        self.steps_per_epoch = len(pairs) // batch_size
        self.unreadable = Unreadable(len(pairs), max_unreadable)
        self.readable = np.zeros(len(pairs), dtype=bool)
        # A fast tokenizer keeps how it truncates and cannot be used by two threads at once; this copy is ours alone.
        self._tokenizer, self._tokenizing = copy.deepcopy(tokenizer), threading.Lock()
        self._order = EpochOrder(pairs.blocks(), seed)

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def bytes_read(self) -> int:
        """Bytes of picture files read so far."""
        return self.pairs.pictures.bytes_read

    def items(self, step: int) -> Int64[ndarray, " B"]:
        """Rows of batch(step), in its order; pictures that were never read are read, to know whether they are used."""
        return np.array([item.row for item in self._read(step, range(0))], dtype=np.int64)

    def images(self, rows: Int64[ndarray, " n"]) -> UInt8[ndarray, "n H W 3"]:
        """Pictures by row, resized only; those that do not read are grey, and never come in a batch.

        Raises:
            InputError: more than max_unreadable do not read.
        """
        images = np.full((len(rows), self.height, self.width, 3), GREY, dtype=np.uint8)
        self.unreadable.read(len(rows))
        for i, row in enumerate(int(row) for row in rows):
            try:
                images[i] = self._pixels(row, self.pairs.pair(row).image)
            except (RowError, PictureError) as error:
                self.unreadable.add(row, error)
        return images

    def batch(self, step: int, *, pictures: bool | range = True) -> Batch:
        """Batch number `step` of the endless sequence.

        Args:
            pictures: False = `images` is (B, 0, 0, 3); a range = those places only, the others are black. Pictures
                that were never read are read all the same, to know whether their rows are used.

        Raises:
            InputError: more than max_unreadable of the rows do not read.
        """
        wanted = range(self.batch_size if pictures else 0) if isinstance(pictures, bool) else pictures
        items = self._read(step, wanted)
        count = len(items)
        images = np.zeros((count, *((self.height, self.width) if wanted else (0, 0)), 3), dtype=np.uint8)
        for i, item in enumerate(items):
            if i in wanted and item.pixels is not None:
                images[i] = item.pixels[:, ::-1] if item.flipped else item.pixels

        gain = colour_gain(np.random.default_rng([self.seed, SAMPLE, step]), count, self.jitter)
        ids_of = {item.text: item.ids for item in items}
        number = {text: u for u, text in enumerate(sorted(ids_of))}
        longest = max(len(ids) for ids in ids_of.values())
        input_ids = np.full((len(ids_of), longest), self._tokenizer.pad_token_id or 0, dtype=np.int64)
        mask = np.zeros_like(input_ids)
        for text, u in number.items():
            input_ids[u, : len(ids_of[text])] = ids_of[text]
            mask[u, : len(ids_of[text])] = 1

        true_of: dict[str | bytes, set[str]] = {}  # of each picture as it is stored
        for item in items:
            true_of.setdefault(item.key, set()).update(item.texts)
        holds = np.zeros((count, len(number)), dtype=bool)  # text u is true of picture i as it is shown
        for i, item in enumerate(items):
            shown = (mirrored(text) if item.flipped else text for text in true_of[item.key])
            holds[i, [number[text] for text in shown if text in number]] = True
        text_of = np.array([number[item.text] for item in items], dtype=np.int64)
        return Batch(
            torch.from_numpy(images),
            gain,
            torch.from_numpy(input_ids),
            torch.from_numpy(mask),
            torch.from_numpy(text_of),
            torch.from_numpy(holds[:, text_of]),
        )

    def _read(self, step: int, wanted: range) -> list[_Item]:
        """The places of a batch. Every draw depends on (seed, step, place) alone, never on who reads when."""
        epoch, index = divmod(step, self.steps_per_epoch)
        first = index * self.batch_size
        rows = self._order.rows(epoch, first, first + self.batch_size)
        draws = np.random.default_rng([self.seed, PLACE, step]).random((self.batch_size, 2))
        items: list[_Item | None] = [None] * self.batch_size
        others = {}  # of the places whose row does not read: where replacements come from
        open_places = list(range(self.batch_size))
        while open_places:
            failed = self._fill(items, open_places, rows, draws, wanted)
            for place in failed:
                if place not in others:
                    pool = self._order.pool(epoch, first + place)
                    others[place] = Replacements(pool, int(rows[place]), [self.seed, REPLACEMENT, step, place])
                rows[place] = others[place].draw(set(rows.tolist()))
            open_places = failed
        return [item for item in items if item is not None]

    def _fill(
        self, items: list[_Item | None], places: list[int], rows: ndarray, draws: ndarray, wanted: range
    ) -> list[int]:
        """Reads the rows of the given places into `items`; the places whose row does not read."""
        self.unreadable.read(len(places))
        errors: dict[int, RowError | PictureError] = {}
        pairs: dict[int, Pair] = {}
        for place in sorted(places, key=lambda p: int(rows[p])):  # in the order of the file
            try:
                pairs[place] = self.pairs.pair(int(rows[place]))
            except RowError as error:
                errors[place] = error
        ids = self._checked_tokens(pairs, rows, errors)
        for place, pair in pairs.items():
            if place in errors:
                continue
            row = int(rows[place])
            try:
                pixels = self._pixels(row, pair.image) if place in wanted or not self.readable[row] else None
            except PictureError as error:
                errors[place] = error
                continue
            flipped = bool(draws[place, 0] < 0.5) and self._may_flip(pair.texts)
            text = pair.texts[int(draws[place, 1] * len(pair.texts))]
            text = mirrored(text) if flipped else text
            items[place] = _Item(row, pair.image, flipped, pair.texts, text, ids[text], pixels)
        for place in sorted(errors):
            self.unreadable.add(int(rows[place]), errors[place])
        return sorted(errors)

    def _pixels(self, row: int, image: str | bytes) -> UInt8[ndarray, "H W 3"]:
        picture = self.pairs.picture(row, image, (self.height, self.width))
        self.readable[row] = True
        return resize(picture, self.height, self.width)

    def _may_flip(self, texts: tuple[str, ...]) -> bool:
        if not self.flip:
            return False
        sides = [word.lower() for text in texts for word in _SIDE.findall(text)]
        return all(word in MIRRORED for word in sides) if self.exchange_sides else not sides

    def _checked_tokens(
        self, pairs: dict[int, Pair], rows: ndarray, errors: dict[int, RowError | PictureError]
    ) -> dict[str, list[int]]:
        """Tokens of all texts of the pairs, mirrored ones included; adds an error where one is too long.

        All texts of a row count, not only the one that is chosen: whether a row is used depends on the row alone.
        """
        flat = [(place, text) for place, pair in pairs.items() for text in pair.texts]
        if self.exchange_sides:
            flat += [(place, mirrored(text)) for place, text in flat]
        ids = self._tokens({text for _, text in flat if self.truncate_text or len(text) <= LONGEST_TEXT})
        for place, text in flat:
            if text not in ids or len(ids[text]) > self.max_tokens:
                count = f"{len(ids[text])} tokens" if text in ids else f"{len(text)} letters"
                errors[place] = RowError(
                    "text longer than max_tokens",
                    f"{self.pairs.where(int(rows[place]))} has a text of {count}, max_tokens={self.max_tokens}; raise "
                    "it or set truncate_text=true",
                )
        return ids

    def _tokens(self, texts: set[str]) -> dict[str, list[int]]:
        if not texts:
            return {}
        listed = sorted(texts)
        cut = [text[:LONGEST_TEXT] for text in listed]
        limit = {"truncation": True, "max_length": self.max_tokens} if self.truncate_text else {"truncation": False}
        with self._tokenizing:
            return dict(zip(listed, self._tokenizer(cut, verbose=False, **limit)["input_ids"]))
