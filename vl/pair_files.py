"""Rows of image and text on disk, one row at a time: JSON lines, CSV, Parquet, saved Hugging Face datasets.

No file is ever in memory as a whole. Text files are read through once when they are opened, for the places of every
32nd row; Parquet gives its own row groups, of which the latest are kept; saved datasets are memory-mapped.
"""

import csv
import io
import json
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from core.errors import InputError, MissingLibraryError, existing_file

EVERY: Final = 32  # rows between two places that are remembered
BLOCK_ROWS: Final = 1024  # neighbouring rows that an epoch keeps near each other, where the file has no groups itself
LONGEST_LINE: Final = 16 << 20  # bytes
LARGEST_GROUP: Final = 2 << 30  # bytes of one Parquet row group, unpacked
KEPT_BYTES: Final = 512 << 20  # of Parquet row groups, unpacked


class RowError(InputError):
    """A row that cannot be used. `cause`: bad row, no column, no image, empty text, text longer than max_tokens."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class Block(NamedTuple):
    """Neighbouring rows that are cheap to read together."""

    rows: int
    bytes: int  # what it takes in memory while its rows are read; 0 where rows are read one by one


class RowFile:
    """One file of rows, numbered from 0. `value` may be called from several threads."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, tuple(columns)
        self.rows = 0

    def value(self, row: int) -> tuple[Any, ...]:
        """What the row has in the asked columns.

        Raises:
            RowError: the row does not read.
        """
        raise NotImplementedError

    def blocks(self) -> list[Block]:
        """The rows in pieces, in order."""
        whole, rest = divmod(self.rows, BLOCK_ROWS)
        return [Block(BLOCK_ROWS, 0)] * whole + ([Block(rest, 0)] if rest else [])

    def where(self, row: int) -> str:
        """The row's name in messages."""
        return f"row {row} of {self.path}"

    def _check_columns(self, found: Sequence[str]) -> None:
        for name in self.columns:
            if name not in found:
                raise InputError(
                    f"{self.path} has no column {name!r} but {', '.join(map(str, found))}; name them with "
                    "image_column= and text_column="
                )


class _TextRows(RowFile):
    """A text file with the places of every 32nd row."""

    def _index(self, records: Iterator[int]) -> None:
        """Keeps the places; `records` gives where each row starts and, last, where the file ends."""
        starts, row, place = array("q"), -1, 0
        for row, place in enumerate(records):
            if row % EVERY == 0:
                starts.append(place)
        self.rows = max(row, 0)
        if self.rows % EVERY:
            starts.append(place)
        self._starts = np.frombuffer(starts, dtype=np.int64)
        if not self.rows:
            raise InputError(f"{self.path} has no rows")

    def _lines(self, file: io.BufferedReader) -> Iterator[bytes]:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise InputError(
                    f"line {number} of {self.path} has more than {LONGEST_LINE} bytes; one row is expected per line"
                )
            yield line

    def _around(self, row: int) -> bytes:
        """The piece of the file that starts with the remembered row before `row`."""
        first, end = (int(place) for place in self._starts[row // EVERY : row // EVERY + 2])
        with open(self.path, "rb", buffering=0) as file:  # opened each time: any number of files, any thread
            file.seek(first)
            return file.read(end - first)


class JsonLines(_TextRows):
    """One JSON object per line; empty lines are no rows."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        super().__init__(path, columns)
        with open(path, "rb") as file:
            self._index(self._places(file))
        first = self._object(0)
        self._check_columns(list(first))

    def _places(self, file: io.BufferedReader) -> Iterator[int]:
        place = 0
        for line in self._lines(file):
            if not line.isspace():
                yield place
            place += len(line)
        yield place

    def _object(self, row: int) -> dict[str, Any]:
        try:
            lines = [line for line in self._around(row).split(b"\n") if line and not line.isspace()]
            found = json.loads(lines[row % EVERY].decode("utf-8-sig"))
        except (ValueError, IndexError, RecursionError, OSError) as error:
            raise RowError("bad row", f"{self.where(row)} is no line of JSON: {error}") from error
        if not isinstance(found, dict):
            raise RowError("bad row", f"{self.where(row)} is a {type(found).__name__}, expected a JSON object")
        return found

    def value(self, row: int) -> tuple[Any, ...]:
        """See RowFile."""
        found = self._object(row)
        for name in self.columns:
            if name not in found:
                raise RowError("no column", f"{self.where(row)} has no {name!r}, only {', '.join(found)}")
        return tuple(found[name] for name in self.columns)


class Csv(_TextRows):
    """Comma- or tab-separated values in UTF-8 with a header; quoted values may hold commas, quotes and line ends."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        super().__init__(path, columns)
        self._separator = "\t" if path.suffix.lower() == ".tsv" else ","
        with open(path, "rb") as file:
            self._index(self._places(file))

    def _places(self, file: io.BufferedReader) -> Iterator[int]:
        place, row = 0, -1

        def lines() -> Iterator[str]:
            nonlocal place
            for line in self._lines(file):
                encoding = "utf-8" if place else "utf-8-sig"
                place += len(line)
                yield line.decode(encoding)

        # the reader takes lines one at a time, so `place` is where the row it has just given ends
        reader = csv.reader(lines(), delimiter=self._separator, strict=True)
        start = 0
        try:
            for values in reader:
                if values and row < 0:
                    self._header = values
                    self._check_columns(values)
                elif values:
                    yield start
                row += bool(values)
                start = place
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(
                f"row {row} of {self.path} (line {reader.line_num}) is no row of UTF-8 text separated by "
                f"{self._separator!r}: {error}; is a quote left open?"
            ) from error
        yield place

    def value(self, row: int) -> tuple[Any, ...]:
        """See RowFile."""
        try:
            text = io.StringIO(self._around(row).decode("utf-8"), newline="")
            rows = [values for values in csv.reader(text, delimiter=self._separator, strict=True) if values]
            values = rows[row % EVERY]
        except (ValueError, IndexError, OSError, csv.Error) as error:
            raise RowError("bad row", f"{self.where(row)} does not read any more: {error}") from error
        if len(values) != len(self._header):
            raise RowError(
                "bad row", f"{self.where(row)} has {len(values)} values, the header names {len(self._header)}"
            )
        return tuple(values[self._header.index(name)] for name in self.columns)


class KeptGroups:
    """The latest row groups of any number of Parquet files, up to KEPT_BYTES together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Path, int], Any] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[Path, int], read: Callable[[], Any]) -> Any:
        """The group's table, from `read` where it is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            table = read()
            self._kept[key] = table
            self._bytes += table.nbytes
            while self._bytes > KEPT_BYTES and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
            return table


class Parquet(RowFile):
    """A Parquet file, read by row groups."""

    def __init__(self, path: Path, columns: Sequence[str], kept: KeptGroups) -> None:
        import pyarrow.parquet as parquet
        from pyarrow import ArrowException

        super().__init__(path, columns)
        self._kept = kept
        try:
            with parquet.ParquetFile(path) as file:
                self._metadata, names = file.metadata, file.schema_arrow.names
        except (ArrowException, OSError) as error:
            raise InputError(f"{path} does not read as Parquet: {str(error).splitlines()[0]}") from error
        self._check_columns(names)
        groups = [self._metadata.row_group(g) for g in range(self._metadata.num_row_groups)]
        self._ends = np.cumsum([group.num_rows for group in groups], dtype=np.int64)
        self.rows = self._metadata.num_rows
        if not self.rows:
            raise InputError(f"{path} has no rows")
        self._sizes = [sum(_unpacked(group, name) for name in columns) for group in groups]
        if max(self._sizes) > LARGEST_GROUP:
            raise InputError(
                f"row group {np.argmax(self._sizes)} of {path} unpacks to {max(self._sizes) / 1e9:.1f} GB and is read "
                f"as a whole, up to {LARGEST_GROUP / 1e9:.1f} GB; write the file again with row_group_size=1000 or so"
            )

    def blocks(self) -> list[Block]:
        """The row groups."""
        rows = np.diff(self._ends, prepend=0).tolist()
        return [Block(count, size) for count, size in zip(rows, self._sizes) if count]

    def value(self, row: int) -> tuple[Any, ...]:
        """See RowFile."""
        from pyarrow import ArrowException

        group = int(np.searchsorted(self._ends, row, side="right"))
        try:
            table = self._kept.get((self.path, group), lambda: self._read(group))
            offset = row - (int(self._ends[group - 1]) if group else 0)
            return tuple(table.column(name)[offset].as_py() for name in self.columns)
        except (ArrowException, OSError, ValueError) as error:
            message = str(error).splitlines()[0]
            raise RowError(
                "bad row", f"{self.where(row)} lies in row group {group}, which does not read: {message}"
            ) from error

    def _read(self, group: int) -> Any:
        import pyarrow.parquet as parquet

        with parquet.ParquetFile(self.path, metadata=self._metadata) as file:
            return file.read_row_group(group, columns=list(self.columns))


def _unpacked(group: Any, name: str) -> int:
    """Bytes of one column of a row group, its parts included where it is a struct or a list."""
    parts = (group.column(c) for c in range(group.num_columns))
    return sum(part.total_uncompressed_size for part in parts if (part.path_in_schema + ".").startswith(name + "."))


class SavedDataset(RowFile):
    """A folder that `datasets.Dataset.save_to_disk` wrote; its Arrow files are memory-mapped."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        try:
            import datasets
        except ImportError as error:
            raise MissingLibraryError(
                f"{path} is a Hugging Face dataset, which needs the library datasets: pip install 'sightline[datasets]'"
            ) from error
        super().__init__(path, columns)
        try:
            found = datasets.load_from_disk(str(path), keep_in_memory=False)
        except Exception as error:  # the library raises many kinds on damaged folders
            raise InputError(f"{path} does not load as a saved dataset: {error}") from error
        if isinstance(found, datasets.DatasetDict):
            splits = ", ".join(found)
            raise InputError(f"{path} holds the splits {splits}; give one: {path}/{next(iter(found), 'train')}")
        self._check_columns(found.column_names)
        for name in columns:
            if isinstance(found.features[name], datasets.Image):
                found = found.cast_column(name, datasets.Image(decode=False))  # its bytes: we decode, within limits
        self._dataset = found.select_columns(list(columns))
        self.rows = len(found)
        if not self.rows:
            raise InputError(f"{path} has no rows")

    def value(self, row: int) -> tuple[Any, ...]:
        """See RowFile."""
        try:
            found = self._dataset[row]
        except Exception as error:  # damaged Arrow data surfaces as many kinds
            raise RowError("bad row", f"{self.where(row)} does not read: {error}") from error
        return tuple(found[name] for name in self.columns)


def open_rows(path: Path, columns: Sequence[str], kept: KeptGroups) -> RowFile:
    """One file or saved dataset, by its ending.

    Raises:
        InputError: it is none of the known kinds, lacks a column, or has no rows. MissingFileError: it is not there.
    """
    if path.is_dir():
        if not any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
            raise InputError(
                f"{path} is a folder, but no saved Hugging Face dataset; for several files give a pattern: "
                f"'{path}/*.jsonl'"
            )
        return SavedDataset(path, columns)
    existing_file(path, "pairs")
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return JsonLines(path, columns)
    if suffix in (".csv", ".tsv"):
        return Csv(path, columns)
    if suffix in (".parquet", ".pq"):
        return Parquet(path, columns, kept)
    raise InputError(f"{path} ends in {suffix!r}; pairs are read from .jsonl, .csv, .tsv, .parquet or a saved dataset")
