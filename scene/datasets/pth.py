"""Numbers and words out of other projects' .pth files, without running anything that is in them.

A .pth file is a pickle, and a pickle is a program. Torch's weights-only reader runs none of it but a list of calls;
that list gets the names under which numpy stores its arrays, each answered by a plain reader below: not even numpy's
own restoring code sees foreign bytes. Every other name is refused.
"""

import re
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.errors import InputError, existing_file

TYPE: Final = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|U[0-9]{1,4})")


class _Type:
    """Stands for numpy.dtype: a code such as "f4", and the byte order that follows it in the file."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not TYPE.fullmatch(code):
            raise InputError(f"it holds values of type {code!r}, expected plain numbers or text")
        self.code = code.lstrip("<>|=")
        self.order = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise InputError(f"it holds values in the byte order {state[1]!r}")
        self.order = ">" if state[1] == ">" else "<"

    @property
    def numpy(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class _Array:
    """Stands for numpy.ndarray; `value` is there once its state has been read."""

    value: np.ndarray

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, raw = state
        if not (isinstance(kind, _Type) and isinstance(raw, bytes) and isinstance(shape, tuple)):
            raise InputError("it holds an array of something else than plain numbers or text")
        values = np.frombuffer(raw, kind.numpy)
        self.value = values.reshape(shape, order="F" if fortran else "C").astype(kind.numpy.newbyteorder("="))


def _new_array(*_: object) -> _Array:
    return _Array()


def _scalar(kind: object, raw: object) -> Any:
    if not isinstance(kind, _Type) or not isinstance(raw, bytes):
        raise InputError("it holds a number of an unknown kind")
    return np.frombuffer(raw, kind.numpy, 1)[0].item()


def _bytes(text: object, encoding: object) -> bytes:
    """How pickles of protocol 2 write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise InputError(f"it holds bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How pickles of protocol 2 write bytes of length 0."""
    return b""


NAMES: Final[tuple[tuple[Any, str], ...]] = (
    *((_new_array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    (_Array, "numpy.ndarray"),
    (_Type, "numpy.dtype"),
    (_bytes, "_codecs.encode"),
    *((_no_bytes, f"{module}.bytes") for module in ("__builtin__", "builtins")),
)
"""What may stand in a file beside torch's own tensors and Python's plain containers, and what answers to it here."""


def read_pth(path: str | Path, what: str) -> Any:
    """The content of a .pth file: numpy arrays (tensors become such), numbers, text, lists, tuples and dicts of them.

    Args:
        what: names the file in errors, e.g. "point cloud".

    Raises:
        MissingFileError: not there.
        InputError: truncated, damaged, no .pth file, or it wants anything run or imported beyond NAMES; nothing of it
            has been run then.
    """
    import pickle

    import torch

    path = existing_file(path, what)
    try:
        with torch.serialization.safe_globals(list(NAMES)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's doubts about other pickle protocols: what it cannot read, it says
            content = torch.load(path, map_location="cpu", weights_only=True)
        return _plain(content)
    except InputError as error:
        raise InputError(f"{what} {path} is refused: {error}") from error
    except pickle.UnpicklingError as error:
        wanted = re.search(r"(?:GLOBAL|global) ([\w.]+)", str(error))
        if wanted is None:  # torch's words are about its own arguments
            raise InputError(f"{what} {path} is damaged or no .pth file; copy it again") from error
        raise InputError(
            f"{what} {path} is refused: it wants {wanted[1]} run, expected nothing but arrays, numbers and text. "
            "Nothing of it was run; get the file from its official source"
        ) from error
    except Exception as error:  # what damaged bytes make torch raise is of every kind
        raise InputError(
            f"{what} {path} is truncated, damaged or no .pth file ({_first(error)}); copy it again"
        ) from error


def _first(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]


def _plain(value: Any) -> Any:
    import torch

    if isinstance(value, _Array):
        if not hasattr(value, "value"):
            raise InputError("it holds an array without content")
        return value.value
    if isinstance(value, torch.Tensor):
        return value.detach().numpy()
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value) if type(value) in (list, tuple) else list(map(_plain, value))
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    raise InputError(f"it holds a {type(value).__name__}, expected arrays, numbers and text")
