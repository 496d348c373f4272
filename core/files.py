"""Files that are either whole or absent: atomic writes, JSON with clear errors, fingerprints for caches.

A write goes to a hidden temporary name in the same folder, is flushed to the disk and then renamed over its target;
a fault at any of these points leaves the old content (or nothing) under the real name and removes the temporary.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from core.errors import InputError, existing_file

TEMPORARY = ".tmp-"  # part of the name of every file that is still being written


def temporary_name(path: Path) -> Path:
    """Hidden sibling of `path`, one per process."""
    return path.with_name(f".{path.name}{TEMPORARY}{os.getpid()}")


def sync_folder(folder: Path) -> None:
    """Makes renames inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Says in errors of the operating system that name no file, such as a full disk while writing, that it was this."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file to write; it takes the place of `path` when the block ends well, and leaves no trace otherwise."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        with naming(path), open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def atomic_write(path: str | Path, content: bytes | str) -> Path:
    """Writes a whole file (text as UTF-8); readers see the old content or the new, never a part. Makes parents."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return Path(path)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A fresh folder to fill; it appears as `path` when the block ends well and is removed when it does not.

    Raises:
        InputError: `path` exists already and is not an empty folder.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} exists already; choose another folder or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    shutil.rmtree(temporary, ignore_errors=True)  # left by a killed process that had this process id
    temporary.mkdir()
    try:
        with naming(path):
            yield temporary
        for item in temporary.rglob("*"):
            if item.is_file():
                with open(item, "rb") as file:
                    os.fsync(file.fileno())
        os.replace(temporary, path)  # replaces an empty folder, too
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)


def replace_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """A folder that `fill` fills, whole or not there; what a killed process left under that name gives way."""
    shutil.rmtree(target, ignore_errors=True)
    with atomic_folder(target) as temporary:
        fill(temporary)


def read_json(path: str | Path, what: str) -> Any:
    """The content of a JSON file; `what` names it in errors, e.g. "scene manifest".

    Raises:
        MissingFileError: not there. InputError: empty, a folder, truncated or not JSON.
    """
    path = existing_file(path, what)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{what} is damaged or not JSON: {path} ({error}); build it again") from error


def plain(value: Any) -> Any:
    """`value` in JSON's own types: dataclasses and mappings as dicts, tuples and arrays as lists, paths as text.

    Raises:
        TypeError: something that has no such form.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic | np.ndarray) or (hasattr(value, "tolist") and hasattr(value, "shape")):
        return value.tolist()  # arrays and tensors; a single number becomes a number
    raise TypeError(f"{type(value).__name__} has no plain form: {value!r}")


def fingerprint(value: Any) -> str:
    """16 hex digits that depend on the content alone: equal configs give equal text in every process."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def folder_fingerprint(path: str | Path) -> str:
    """16 hex digits of all file names and contents below `path`, leaving out hidden files; a file counts as itself.

    Raises:
        InputError: there is nothing at `path`.
    """
    path = Path(path)
    if path.is_file():
        files = [path]
    elif path.is_dir():
        files = sorted(
            item
            for item in path.rglob("*")
            if item.is_file() and not any(part.startswith(".") for part in item.relative_to(path).parts)
        )
    else:
        raise InputError(f"no file or folder at {path}")
    digest = hashlib.sha256()
    for item in files:
        digest.update(item.relative_to(path).as_posix().encode() + b"\0")
        with open(item, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
