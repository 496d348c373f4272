"""What a frozen tower makes of its inputs, on disk: computed once, memory-mapped in every step after.

A cache is a folder `<root>/<digest>`. The positions of all items lie one after the other: `layer-0.bin` and so on hold
the hidden states (P, C) of each kept layer, `pooled.bin` (N, C) what the tower pooled, `lengths.bin` how many positions
each item has (padding is not stored), and `index.json` says the shapes. The digest covers the tower's weights, the data
and the precision, so anything else gets another folder. The folder is filled under a hidden name and renamed when it is
complete: what has its name is whole. An interrupted build goes on behind its last finished part; of two processes
that build the same cache one waits for the other.

Numbers are stored in float16. `FeatureCache.error` is the largest difference that made, as a share of the largest
number: at most 2^-11 = 0.0005 of each single one above 6e-5, and smaller ones to within 3e-8.
"""

import json
import mmap
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Int64
from numpy import ndarray
from torch import Tensor

from core.caches import alone, explaining_full_disk
from core.errors import InputError, MissingFileError, check_choice
from core.files import atomic_write, fingerprint, plain, read_json, sync_folder
from vl.encoded import Encoded

FORMAT: Final = "sightline-tower-features/1"  # counts on when the same spec would give other numbers
INDEX, NOTE = "index.json", "finished.json"
POOLED, LENGTHS = "pooled.bin", "lengths.bin"
PART_BYTES: Final = 64 * 2**20
"""A part ends with the block that reaches this size: so much is computed again after an interruption, at most."""
AGAIN: Final = "remove the folder to have it computed again"
TYPE: Final = np.dtype("<f2")


@dataclass(frozen=True)
class FeatureSpec:
    """What the numbers of a cache depend on."""

    tower: str  # fingerprint of the frozen tower: weights and what is done to its inputs
    data: str  # fingerprint of the items, in their order
    items: int  # N
    keep: str = "states"  # or embedding: only what the embedding needs (`VLModel.only_pooled`)
    bfloat16: bool = False  # the tower ran under bfloat16 autocast

    def __post_init__(self) -> None:
        check_choice("keep", self.keep, ("states", "embedding"))
        if self.items < 1:
            raise InputError(f"a feature cache of {self.items} items: expected at least one")

    def digest(self) -> str:
        """The name of the cache: 16 hex digits."""
        return fingerprint({"format": FORMAT, "spec": self})


class FeatureCache:
    """The features of a complete cache.

    Attributes:
        spec: what they depend on.
        error: largest difference of a stored number from what it was, as a share of the largest number.
        bytes: size on disk.
    """

    def __init__(self, folder: str | Path) -> None:
        """
        Raises:
            MissingFileError: there is no complete cache. InputError: it is damaged or of another format.
        """
        self.folder = Path(folder)
        index = read_json(self.folder / INDEX, "the index of a feature cache")
        if not isinstance(index, dict) or index.get("format") != FORMAT:
            raise InputError(f"{self.folder} is no feature cache of format {FORMAT!r}; {AGAIN}")
        try:
            self.spec = FeatureSpec(**index["spec"])
            self.error = float(index["error"])
            widths, positions, pooled = index["widths"], int(index["positions"]), index["pooled_width"]
            self._masked = bool(index["masked"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"feature cache {self.folder} is damaged ({error}); {AGAIN}") from error
        items = self.spec.items
        self._maps: list[mmap.mmap] = []
        self._layers = [self._open(_layer(k), TYPE, (positions, width)) for k, width in enumerate(widths)]
        self._pooled = None if pooled is None else self._open(POOLED, TYPE, (items, int(pooled)))
        self._lengths = np.array(self._open(LENGTHS, np.dtype("<i4"), (items,)), dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._lengths)])
        if self._layers and self._starts[-1] != positions:
            raise InputError(f"feature cache {self.folder} is damaged: its lengths do not add up; {AGAIN}")
        self.bytes = sum(len(mapped) for mapped in self._maps)

    def __len__(self) -> int:
        return self.spec.items

    def encoded(self, rows: Int64[ndarray, " B"] | Sequence[int], device: torch.device | str = "cpu") -> Encoded:
        """These items in this order, in float32, padded to the longest of them; no embedding.

        Raises:
            InputError: there is no such row.
        """
        index = np.asarray(rows, dtype=np.int64)
        if len(index) and not 0 <= index.min() <= index.max() < len(self):
            raise InputError(
                f"feature cache {self.folder} has rows 0..{len(self) - 1}, asked for {index.min()}..{index.max()}"
            )
        lengths = self._lengths[index]
        longest = int(lengths.max(initial=0))
        layers = [_float(self._gathered(layer, index, lengths, longest), device) for layer in self._layers]
        mask = None
        if self._masked and self._layers:
            mask = torch.from_numpy(np.arange(longest)[None] < lengths[:, None]).to(device)
        pooled = None if self._pooled is None else _float(self._pooled[index], device)
        for mapped in self._maps:  # the system keeps the pages as cache; this process does not hold on to them
            mapped.madvise(mmap.MADV_DONTNEED)
        return Encoded(layers, mask, pooled)

    def _gathered(self, layer: ndarray, index: ndarray, lengths: ndarray, longest: int) -> ndarray:
        if (self._lengths == longest).all():
            return layer.reshape(len(self), longest, -1)[index]
        block = np.zeros((len(index), longest, layer.shape[1]), dtype=layer.dtype)
        for i, (start, length) in enumerate(zip(self._starts[index], lengths)):
            block[i, :length] = layer[start : start + length]
        return block

    def _open(self, name: str, kind: np.dtype, shape: tuple[int, ...]) -> ndarray:
        path = self.folder / name
        if not path.is_file():
            raise MissingFileError(f"a file of a feature cache is missing: {path}; {AGAIN}")
        wanted = kind.itemsize * int(np.prod(shape))
        if path.stat().st_size != wanted:
            raise InputError(f"{path} has {path.stat().st_size} bytes, its index says {wanted}; {AGAIN}")
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._maps.append(mapped)
        return np.frombuffer(mapped, dtype=kind).reshape(shape)

    @classmethod
    def build(
        cls,
        root: str | Path,
        spec: FeatureSpec,
        encode: Callable[[range], Encoded],
        *,
        block: int = 64,
        announce: Callable[[int], None] = lambda done: None,
    ) -> "FeatureCache":
        """The cache of these items below `root`: opened where it is complete, else computed or carried on with.

        Args:
            encode: gets the numbers of neighbouring items and gives what the tower makes of them.
            block: items encoded at once.
            announce: called with the number of items done, after each block.

        Raises:
            InputError: numbers that float16 cannot hold, or the disk is full (or certain to become so).
        """
        folder = Path(root).expanduser() / spec.digest()
        if not folder.exists():
            with explaining_full_disk(folder), alone(folder):
                if not folder.exists():  # another process may have made it while this one waited
                    _Build(folder, spec).run(encode, block, announce)
        return cls(folder)


class _Build:
    """One build, in a hidden folder beside the one it will be."""

    def __init__(self, folder: Path, spec: FeatureSpec) -> None:
        self.folder, self.spec = folder, spec
        self.partial = folder.with_name(f".{folder.name}.partial")
        self.note: dict[str, Any] = {"items": 0, "positions": 0, "largest": 0.0, "error": 0.0}

    def run(self, encode: Callable[[range], Encoded], block: int, announce: Callable[[int], None]) -> None:
        self.partial.mkdir(parents=True, exist_ok=True)
        if (self.partial / NOTE).exists():
            self.note = read_json(self.partial / NOTE, "the note of an unfinished feature cache")
        items, written = self.spec.items, 0
        with ExitStack() as files:
            opened: dict[str, Any] = {}
            for first in range(self.note["items"], items, block):
                rows = range(first, min(first + block, items))
                with torch.no_grad():
                    arrays = self._arrays(encode(rows), len(rows))
                if not opened:
                    self._check_room(arrays, len(rows))
                    opened = {name: files.enter_context(self._reopened(name, array)) for name, array in arrays.items()}
                for name, array in arrays.items():
                    opened[name].write(np.ascontiguousarray(array).data)
                    written += array.nbytes
                self.note["items"] = rows.stop
                self.note["positions"] += int(arrays[LENGTHS].sum())
                if written >= PART_BYTES or rows.stop == items:
                    self._finish_part(opened.values())
                    written = 0
                announce(rows.stop)
        note = self.note
        index = {
            "format": FORMAT,
            "spec": plain(self.spec),
            "widths": note["widths"],
            "pooled_width": note["pooled_width"],
            "masked": note["masked"],
            "positions": note["positions"],
            "error": note["error"] / note["largest"] if note["largest"] else 0.0,
        }
        atomic_write(self.partial / INDEX, json.dumps(index) + "\n")
        (self.partial / NOTE).unlink()
        sync_folder(self.partial)
        os.replace(self.partial, self.folder)
        sync_folder(self.folder.parent)

    def _arrays(self, encoded: Encoded, count: int) -> dict[str, ndarray]:
        """What one block adds to each file, by the file's name."""
        layers = encoded.layers
        shape = {
            "widths": [layer.shape[-1] for layer in layers],
            "pooled_width": None if encoded.pooled is None else encoded.pooled.shape[-1],
            "masked": encoded.mask is not None,
        }
        if any(self.note.setdefault(name, value) != value for name, value in shape.items()):
            raise InputError(f"a tower gave {shape}, for earlier items {self.note}; {AGAIN}")
        real = None if encoded.mask is None else encoded.mask.bool()
        positions = layers[0].shape[1] if layers else 0
        lengths = np.full(count, positions) if real is None or not layers else real.sum(1).cpu().numpy()
        arrays = {
            _layer(k): self._stored(layer.flatten(0, 1) if real is None else layer[real])
            for k, layer in enumerate(layers)
        }
        if encoded.pooled is not None:
            arrays[POOLED] = self._stored(encoded.pooled)
        return arrays | {LENGTHS: lengths.astype("<i4")}

    def _stored(self, values: Tensor) -> ndarray:
        exact = values.float().cpu().numpy()
        with np.errstate(over="ignore"):  # looked for next
            stored = exact.astype(TYPE)
        largest = float(np.abs(exact).max(initial=0))
        if not np.isfinite(stored).all():
            raise InputError(f"features reach {largest:.3g}, more than float16 holds; use cache_features=no")
        self.note["largest"] = max(self.note["largest"], largest)
        self.note["error"] = max(self.note["error"], float(np.abs(exact - stored.astype(np.float32)).max(initial=0)))
        return stored

    def _check_room(self, arrays: dict[str, ndarray], count: int) -> None:
        """Stops before the work where the disk cannot hold the rest; texts of unequal length make it an estimate."""
        left = (self.spec.items - self.note["items"]) * sum(array.nbytes for array in arrays.values()) / count
        free = shutil.disk_usage(self.partial).free
        if left > free:
            raise InputError(
                f"the features of {self.spec.items} items take about {left / 1e9:.2f} GB more, the disk of "
                f"{self.folder} has {free / 1e9:.2f} GB free; name "
                "another with features=FOLDER, or use cache_features=no"
            )

    def _reopened(self, name: str, array: ndarray) -> Any:
        """The file cut back to what its note counts: a kill may have left the beginning of more."""
        path = self.partial / name
        rows = self.note["positions"] if name.startswith("layer") else self.note["items"]
        width = array.nbytes // len(array) if len(array) else 0
        path.touch()
        os.truncate(path, rows * width)
        return open(path, "ab")  # noqa: SIM115  # closed by the caller's stack

    def _finish_part(self, files: Iterable[Any]) -> None:
        for file in files:
            file.flush()
            os.fsync(file.fileno())
        atomic_write(self.partial / NOTE, json.dumps(self.note) + "\n")  # from here on the part counts


def _layer(number: int) -> str:
    return f"layer-{number}.bin"


def _float(block: ndarray, device: torch.device | str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(block)).to(device).float()
