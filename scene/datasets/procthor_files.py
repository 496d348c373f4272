"""Files of ProcTHOR houses and of their assets: what stands where, read when it is wanted.

ProcTHOR-10K is three files of a house per line, over a gigabyte of text. `HouseFile` holds only where each line begins
and which split it is of; a house is parsed when it is asked for.
"""

import atexit
import gzip
import json
import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from core.errors import InputError, MissingFileError, existing_file, nearest
from core.files import atomic_file, fingerprint

ASSET_FILES: Final = ("asset-database.json.gz", "asset-database.json")
PARTS: Final = ("rooms", "walls", "doors", "windows", "objects")
FILE_SPLITS: Final = ("train", "val", "test")  # names of files that tell the split of their houses

_SPLIT = re.compile(rb'"split"\s*:\s*"([^"\\]*)"')
_CHUNK = 1 << 20

AssetBoxes = dict[str, dict[str, Any]]
"""Asset id -> its entry of the asset database (objectType, boundingBox, ...)."""


@dataclass(frozen=True)
class House:
    """One house as it stands in the file."""

    id: str  # procthor-<split>-<line, five digits>, or procthor-<line> when the file names no split
    split: str  # "" when the file names none
    line: int
    path: Path
    content: dict[str, Any]

    @property
    def where(self) -> str:
        return f"{self.path}, line {self.line}"


@dataclass(frozen=True)
class HouseLine:
    """Where a house stands in a file of houses."""

    path: Path
    line: int  # from 1
    split: str  # "" when the file names none
    start: int  # byte of the (unpacked) text; place in the list, of a .json
    length: int  # bytes
    whole: bool  # it begins and ends as a JSON object does

    @property
    def where(self) -> str:
        return f"{self.path}, line {self.line}"


class HouseFile:
    """The houses of a file, each read when asked for.

    A .jsonl is read in place. A .jsonl.gz is unpacked once, as a stream, into `scratch`; the copy is shared by
    processes that read the same file and is removed when the process that made it ends. A .json (one house or a list)
    has no lines to find and is held in memory.

    Args:
        path: .jsonl, .jsonl.gz, .json or .json.gz.
        scratch: folder of the unpacked copy; None = a folder of this user in the system's temporary folder.

    Raises:
        MissingFileError: not there. InputError: empty, or a truncated or damaged archive.
    """

    def __init__(self, path: str | Path, scratch: str | Path | None = None) -> None:
        self.path = existing_file(path, "ProcTHOR file")
        stem = self.path.name.split(".")[0]
        self._default = stem if stem in FILE_SPLITS else ""
        self._records: list[Any] | None = None
        self._text: BinaryIO | None = None
        if self.path.name.removesuffix(".gz").endswith(".json"):
            self._records = [value for _, value in _records(self.path)]
            self.lines = [
                HouseLine(self.path, k + 1, self._split_of(value), k, 0, True) for k, value in enumerate(self._records)
            ]
        else:
            zipped = self.path.suffix == ".gz"
            self._text = _unpacked(self.path, scratch) if zipped else open(self.path, "rb")  # noqa: SIM115, stays open
            self.lines = _beside(list(self._find_lines(self._text)))

    def of_split(self, split: str) -> list[HouseLine]:
        """Lines of a split. Raises InputError when the file has none of it."""
        found = sorted({line.split for line in self.lines if line.split})
        if split not in found:
            hint = nearest(split, found) if found else "its houses name no split; leave it out"
            raise InputError(f"{self.path} has no split {split!r}; {hint}")
        return [line for line in self.lines if line.split == split]

    def house(self, line: HouseLine) -> House:
        """Reads one house.

        Raises:
            InputError: damaged, not JSON, not UTF-8, or no house; names the line.
        """
        if self._records is not None:
            return _house(self.path, line.line, self._records[line.start], self._default)
        assert self._text is not None
        house = _house(self.path, line.line, _parsed(_bytes(self._text, line), line.where), self._default)
        if house.split != line.split:
            raise InputError(f"{line.where}: its split is {house.split!r}, but it was counted to {line.split!r}")
        return house

    def _split_of(self, record: Any) -> str:
        return str(record.get("split", self._default)) if isinstance(record, dict) else self._default

    def _find_lines(self, text: BinaryIO) -> Iterator[HouseLine]:
        """Finds the split without parsing, where it stands once in a line."""
        start = 0
        for number, raw in enumerate(text, start=1):
            content = raw.strip()
            if content:
                whole = content.startswith(b"{") and content.endswith(b"}")
                named = _SPLIT.findall(content)
                split = named[0].decode("utf-8", "replace") if len(named) == 1 else self._default
                if len(named) > 1:
                    try:
                        split = self._split_of(json.loads(content))
                    except ValueError:
                        whole = False
                yield HouseLine(self.path, number, split, start, len(raw), whole)
            start += len(raw)


def _beside(lines: list[HouseLine]) -> list[HouseLine]:
    """In a file that names splits, a line without one counts to its neighbour's: made, it is refused and reported."""
    split = next((line.split for line in lines if line.split), "")
    out = []
    for line in lines:
        split = line.split or split
        out.append(line if line.split else replace(line, split=split))
    return out


def _bytes(text: BinaryIO, line: HouseLine) -> bytes:
    if hasattr(os, "pread"):  # keeps no place in the file, which forked processes would share
        return os.pread(text.fileno(), line.length, line.start)
    text.seek(line.start)
    return text.read(line.length)


def _unpacked(path: Path, scratch: str | Path | None) -> BinaryIO:
    """The text of a .gz, opened; the copy has the name of its source's path, size and time."""
    if scratch:
        folder = Path(scratch).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
    else:
        user = os.getuid() if hasattr(os, "getuid") else 0
        folder = Path(tempfile.gettempdir()) / f"sightline-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if hasattr(os, "getuid") and folder.lstat().st_uid != user:
            raise InputError(
                f"{folder} belongs to another user; give a folder for unpacked houses: source.scratch=FOLDER"
            )
    status = path.stat()
    key = fingerprint([str(path.resolve()), status.st_size, status.st_mtime_ns])
    copy = folder / f"houses-{key}.jsonl"
    while True:  # until the process that made a copy does not remove it in this very moment
        try:
            return open(copy, "rb")
        except FileNotFoundError:
            _unpack(path, copy)


def _unpack(path: Path, copy: Path) -> None:
    with atomic_file(copy) as out:
        atexit.register(_remove, copy, os.getpid())
        for chunk in _chunks(path):
            out.write(chunk)


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path, "rb") as text:
            while chunk := text.read(_CHUNK):
                yield chunk
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path} is truncated or no gzip/UTF-8 text ({error}); copy it again") from error


def _remove(copy: Path, process: int) -> None:
    if os.getpid() == process:  # not in a forked child
        copy.unlink(missing_ok=True)


def _house(path: Path, line: int, record: Any, default: str) -> House:
    if not isinstance(record, dict):
        raise InputError(f"{path}, line {line}: expected a house (a JSON object), got {type(record).__name__}")
    content = record.get("house", record)
    if not isinstance(content, dict):
        raise InputError(f"{path}, line {line}: expected a house (a JSON object), got {type(content).__name__}")
    missing = [name for name in PARTS if not isinstance(content.get(name), list)]
    if missing:
        raise InputError(f"{path}, line {line}: no ProcTHOR house, it lacks {', '.join(missing)}")
    own = str(record.get("split", default))
    name = f"procthor-{own}-{line:05d}" if own else f"procthor-{line:05d}"
    return House(name, own, line, path, content)


def iter_houses(path: str | Path, split: str | None = None, scratch: str | Path | None = None) -> Iterator[House]:
    """The houses of a file in its order, one in memory at a time, checked for their parts but not for their assets.

    Raises:
        MissingFileError: not there. InputError: a truncated line or archive (before the first house), no such split, a
            line that is no house.
    """
    file = HouseFile(path, scratch)
    chosen = file.lines if split is None else file.of_split(split)
    for line in file.lines:
        if not line.whole:
            raise InputError(f"{line.where} is damaged or not JSON; copy the file again")
    for line in chosen:
        yield file.house(line)


def read_houses(path: str | Path, split: str | None = None) -> list[House]:
    """All of `iter_houses` at once."""
    return list(iter_houses(path, split))


def house_files(path: str | Path, scratch: str | Path | None = None) -> list[HouseFile]:
    """The file of houses, or train and val of ProcTHOR-10K's folder (.jsonl.gz or .jsonl).

    Raises:
        MissingFileError: nothing there, or a folder without both files. InputError: as HouseFile.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return [HouseFile(path, scratch)]
    found = []
    for split in ("train", "val"):
        names = [folder / f"{split}.jsonl", folder / f"{split}.jsonl.gz"]
        present = [name for name in names if name.exists()]
        if not present:
            raise MissingFileError(
                f"{folder} has no {names[0].name} or {names[1].name}; give the file of houses itself"
            )
        found.append(HouseFile(present[0], scratch))
    return found


def _parsed(raw: bytes, where: str) -> Any:
    try:
        return json.loads(raw.decode("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise InputError(f"{where} is damaged or not JSON: {reason}; copy the file again") from error


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    """(number from 1, JSON value) of a .json or .json.gz, which holds one value or a list of them."""
    raw = b"".join(_chunks(path)) if path.suffix == ".gz" else path.read_bytes()
    value = _parsed(raw, str(path))
    yield from enumerate(value if isinstance(value, list) else [value], start=1)


def read_assets(path: str | Path, assets: str | Path | None = None) -> AssetBoxes:
    """The asset database that goes with a file of houses (see `scene.datasets.procthor.load`).

    Raises:
        MissingFileError: not there. InputError: damaged, or no asset database.
    """
    file = asset_file(path, assets)
    try:
        records = [value for _, value in _records(file)]
    except InputError as error:
        raise InputError(f"{file} is no ProcTHOR asset database: {error}") from error
    database = records[0] if len(records) == 1 else None
    if not isinstance(database, dict) or not all(isinstance(entries, list) for entries in database.values()):
        raise InputError(f"{file} is no ProcTHOR asset database: expected one JSON object of type -> list of assets")
    return {entry["assetId"]: entry for entries in database.values() for entry in entries if "boundingBox" in entry}


def asset_file(path: str | Path, assets: str | Path | None = None) -> Path:
    """Where the asset database of a file of houses is: as given (a file or its folder), or else beside the houses.

    Raises:
        MissingFileError: it is in none of the usual places.
    """
    if assets:
        given = Path(assets).expanduser()
        inside = [given / name for name in ASSET_FILES if (given / name).exists()]
        file = (inside or [given / ASSET_FILES[0]])[0] if given.is_dir() else given
        return existing_file(file, "ProcTHOR asset database")
    houses = Path(path).expanduser().resolve()
    folder = houses if houses.is_dir() else houses.parent
    folders = (folder.parent / "procthor_db", folder / "procthor_db", folder)
    found = [place / name for place in folders for name in ASSET_FILES if (place / name).exists()]
    if not found:
        raise MissingFileError(
            f"ProcTHOR's asset database is not beside the houses (tried {' and '.join(ASSET_FILES)} in "
            f"{', '.join(map(str, folders))}); give it with source.assets=FOLDER"
        )
    return found[0]
