"""Errors that are the user's to mend: shown as one line at the command line, never as a traceback."""

import difflib
from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """Something given from outside does not fit; the message says what came, what was expected and the next move."""


class MissingFileError(InputError, FileNotFoundError):
    """A named file or folder is not there."""

    def __str__(self) -> str:  # FileNotFoundError would print its own errno form
        return str(self.args[0]) if self.args else ""


class MissingLibraryError(InputError, ImportError):
    """A library that one feature needs is absent or does not load; the message names the command that installs it."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint ending for error messages: the closest known word if one is close, else the whole list."""
    names = sorted(str(k) for k in known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(names)


def existing_file(path: str | Path, what: str) -> Path:
    """`path` as a Path when it is a readable, non-empty file.

    Raises:
        MissingFileError: nothing is there. InputError: it is a folder, or empty.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise MissingFileError(f"{what} not found: {path} (working folder: {Path.cwd()})")
    if path.is_dir():
        raise InputError(f"{what} should be a file, but {path} is a folder")
    if path.stat().st_size == 0:
        raise InputError(f"{what} is empty: {path}")
    return path


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raises InputError, naming the nearest valid value, unless `value` is one of `choices`."""
    known = list(choices)
    if value not in known:
        raise InputError(f"{name}={value!r} is unknown; {nearest(value, known)}")
