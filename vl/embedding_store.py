"""Embeddings kept instead of frames: half-precision unit vectors with a few numbers beside each.

A 224 x 224 frame is 150 kB, its embedding in half precision 1 kB, and a reward only ever needs the embedding: another
prompt or another alpha scores what is stored here without the encoder (vl/reward_sweep.py).

Rows are numbered from 0 in the order they came, for ever: a store with a capacity forgets its oldest rows, and asking
for a forgotten number is an error instead of a newer row.
"""

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy import ndarray
from torch import Tensor

from core.errors import InputError, existing_file
from core.files import atomic_file
from vl.rewards import name_rows

BLOCK = 4096
"""Rows that are allocated, written and read at once."""

UNIT = 0.01
"""Largest deviation of an embedding's length from 1; half precision alone makes about 0.0005."""

DTYPES = {torch.float16: "<f2", torch.float32: "<f4"}
EMBEDDING, FIRST = "embedding", "first"
"""Names in a saved file beside those of the columns."""


class EmbeddingStore:
    """Unit embeddings (M, D) with columns (M,), in the memory of the host.

    Memory is M (2 D + 8 columns) bytes in half precision, allocated a block at a time, and never more than that of
    `capacity` rows.

    Attributes:
        dim: D, width of the embeddings.
        capacity: rows kept; the oldest are overwritten. None keeps all.
        dtype: float16, or float32 where rounding by 0.0005 matters.
        first: number of the oldest row that is kept.
        end: number that the next row will get.
    """

    def __init__(self, dim: int, capacity: int | None = None, dtype: torch.dtype = torch.float16) -> None:
        if dim < 1 or (capacity is not None and capacity < 1):
            raise InputError(f"dim={dim} and capacity={capacity} of an embedding store should be positive")
        if dtype not in DTYPES:
            raise InputError(f"an embedding store keeps float16 or float32, not {dtype}")
        self.dim, self.capacity, self.dtype = dim, capacity, dtype
        self.first = self.end = 0
        self._kinds: dict[str, torch.dtype] | None = None  # of the columns, fixed by the first rows
        self._blocks: list[dict[str, Tensor]] = []

    def __len__(self) -> int:
        """Rows that are kept."""
        return self.end - self.first

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns, in the order the first rows gave them."""
        return tuple(self._kinds or ())

    def append(self, embeddings: Float[Tensor, "B D"], **columns: Tensor | ndarray | list) -> Int64[Tensor, " B"]:
        """Adds rows and gives their numbers.

        Args:
            embeddings: unit vectors, on any device.
            columns: (B,) whole numbers, truth values or floats each; the same names with every block of rows.

        Raises:
            InputError: another width, a row that is not finite or not of unit length, or columns of other names, kinds
                or lengths than before. Nothing is added then.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dim:
            raise InputError(f"embeddings have shape {tuple(embeddings.shape)}, expected (B, {self.dim})")
        length = embeddings.detach().float().norm(dim=1).cpu()
        if not bool(torch.isfinite(length).all()):
            wrong = name_rows(~torch.isfinite(length))
            raise InputError(f"embeddings hold NaN or infinite numbers ({wrong}); look at the frames they came from")
        if bool(((length - 1).abs() > UNIT).any()):
            wrong = name_rows((length - 1).abs() > UNIT)
            raise InputError(f"embeddings are not of unit length ({wrong}); divide each by its norm")
        table = {name: _column(name, values) for name, values in columns.items()}
        self._check_columns(table, len(embeddings))
        table[EMBEDDING] = embeddings.detach().to("cpu", self.dtype)

        numbers = torch.arange(self.end, self.end + len(embeddings))
        done = 0 if self.capacity is None else max(0, len(numbers) - self.capacity)
        while done < len(numbers):
            slot = self._slot(self.end + done)
            block = self._block(slot // BLOCK)
            at = slot % BLOCK
            count = min(len(numbers) - done, len(block[EMBEDDING]) - at)
            for name, values in table.items():
                block[name][at : at + count] = values[done : done + count]
            done += count
        self.end += len(numbers)
        if self.capacity is not None:
            self.first = max(self.first, self.end - self.capacity)
        return numbers

    def rows(self, numbers: Int64[Tensor, " K"]) -> Float[Tensor, "K D"]:
        """The embeddings of rows by number, in any order, as stored (half precision).

        Raises:
            InputError: a number that no row has yet, or of a row that was overwritten.
        """
        return self._gather(EMBEDDING, numbers)

    def column(self, name: str, numbers: Int64[Tensor, " K"] | None = None) -> Tensor:
        """A column (K,) at rows by number; without numbers of all that are kept, oldest first.

        Raises:
            InputError: no such column, or numbers as in `rows`.
        """
        if name not in self.column_names:
            raise InputError(f"no column {name!r} in this store; it has {', '.join(self.column_names) or 'none'}")
        return self._gather(name, torch.arange(self.first, self.end) if numbers is None else numbers)

    def blocks(self) -> Iterator[tuple[Float[Tensor, "K D"], dict[str, Tensor]]]:
        """Embeddings and columns of all kept rows, oldest first, a few thousand at a time and without a copy.

        The tensors are the store's own memory: read them before the next `append`.
        """
        number = self.first
        while number < self.end:
            slot = self._slot(number)
            block = self._blocks[slot // BLOCK]
            at = slot % BLOCK
            count = min(self.end - number, len(block[EMBEDDING]) - at)
            part = {name: values[at : at + count] for name, values in block.items()}
            yield part.pop(EMBEDDING), part
            number += count

    def save(self, path: str | Path) -> Path:
        """Writes one .npz file that numpy.load opens: `embedding`, the columns, and `first`; whole or not at all."""
        path = Path(path)
        names = (EMBEDDING, *self.column_names)
        kinds = {EMBEDDING: self.dtype, **(self._kinds or {})}
        with atomic_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name in names:
                shape = (len(self), self.dim) if name == EMBEDDING else (len(self),)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    _write_header(member, kinds[name], shape)
                    for embedding, columns in self.blocks():
                        values = embedding if name == EMBEDDING else columns[name]
                        member.write(values.contiguous().numpy().tobytes())
            with archive.open(f"{FIRST}.npy", "w") as member:
                _write_header(member, torch.int64, ())
                member.write(np.int64(self.first).tobytes())
        return path

    @classmethod
    def load(cls, path: str | Path, capacity: int | None = None) -> "EmbeddingStore":
        """Reads what `save` wrote, block by block; rows keep their numbers.

        Raises:
            MissingFileError: no file. InputError: cut short, or not a store.
        """
        path = existing_file(path, "embedding store")
        try:
            with zipfile.ZipFile(path) as archive:
                names = [name.removesuffix(".npy") for name in archive.namelist()]
                first = int(np.load(io.BytesIO(archive.read(f"{FIRST}.npy")), allow_pickle=False))
                names.remove(FIRST)
                names.remove(EMBEDDING)
                with archive.open(f"{EMBEDDING}.npy") as member:
                    (rows, dim), dtype = _read_header(member)
                    columns = {
                        name: np.load(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False) for name in names
                    }
                    store = cls(dim, capacity, {"<f2": torch.float16, "<f4": torch.float32}[dtype.str])
                    store.first = store.end = first
                    for start in range(0, rows, BLOCK):
                        count = min(BLOCK, rows - start)
                        content = bytearray(member.read(count * dim * dtype.itemsize))
                        part = torch.frombuffer(content, dtype=store.dtype).view(count, dim)
                        store.append(part, **{name: values[start : start + count] for name, values in columns.items()})
        except (zipfile.BadZipFile, EOFError, KeyError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{path} is cut short or not an embedding store ({error}); embed the frames again"
            ) from error
        return store

    def _slot(self, number: int) -> int:
        return number if self.capacity is None else number % self.capacity

    def _block(self, index: int) -> dict[str, Tensor]:
        while len(self._blocks) <= index:
            left = BLOCK if self.capacity is None else min(BLOCK, self.capacity - len(self._blocks) * BLOCK)
            block = {name: torch.empty(left, dtype=kind) for name, kind in (self._kinds or {}).items()}
            self._blocks.append(block | {EMBEDDING: torch.empty(left, self.dim, dtype=self.dtype)})
        return self._blocks[index]

    def _gather(self, name: str, numbers: Int64[Tensor, " K"]) -> Tensor:
        numbers = numbers.cpu()
        if len(numbers) and not self.first <= int(numbers.min()) <= int(numbers.max()) < self.end:
            raise InputError(
                f"rows {int(numbers.min())}..{int(numbers.max())} were asked for, the store holds "
                f"{self.first}..{self.end - 1}"
                + (f" (its capacity is {self.capacity}: older rows were overwritten)" if self.first else "")
            )
        slots = numbers if self.capacity is None else numbers % self.capacity
        kind = self.dtype if name == EMBEDDING else (self._kinds or {})[name]
        shape = (len(numbers), self.dim) if name == EMBEDDING else (len(numbers),)
        found = torch.empty(shape, dtype=kind)
        where = slots // BLOCK
        for index in where.unique().tolist():
            here = where == index
            found[here] = self._blocks[index][name][slots[here] % BLOCK]
        return found

    def _check_columns(self, table: Mapping[str, Tensor], rows: int) -> None:
        for name in table:
            if name in (EMBEDDING, FIRST):
                raise InputError(f"a column of an embedding store cannot be named {name!r}")
        lengths = {name: tuple(values.shape) for name, values in table.items() if values.shape != (rows,)}
        if lengths:
            raise InputError(f"{rows} embeddings came with columns of shape {lengths}; expected ({rows},)")
        kinds = {name: values.dtype for name, values in table.items()}
        if self._kinds is None:
            self._kinds = kinds
        elif kinds != self._kinds:
            raise InputError(f"columns are {kinds}, those of earlier rows were {self._kinds}")


def _column(name: str, values: Any) -> Tensor:
    """Whole numbers as int64, floats as float64, truth values as they are; on the host."""
    tensor = torch.as_tensor(values).detach().cpu()
    if tensor.dtype == torch.bool:
        return tensor
    if tensor.is_complex():
        raise InputError(f"column {name!r} holds complex numbers; expected whole numbers, floats or truth values")
    return tensor.to(torch.float64 if tensor.is_floating_point() else torch.int64)


def _write_header(member: Any, kind: torch.dtype, shape: tuple[int, ...]) -> None:
    """The header of numpy's .npy format, so that the rows can follow a block at a time."""
    code = {**DTYPES, torch.int64: "<i8", torch.float64: "<f8", torch.bool: "|b1"}[kind]
    np.lib.format.write_array_header_1_0(member, {"descr": code, "fortran_order": False, "shape": shape})


def _read_header(member: Any) -> tuple[tuple[int, int], np.dtype]:
    np.lib.format.read_magic(member)
    shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    rows, dim = shape
    return (rows, dim), dtype
