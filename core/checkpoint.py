"""Checkpoints that survive a crash at any moment, and the exact state of random generators.

A checkpoint is what `torch.save` writes, followed by a trailer: a mark, the length of the content and its BLAKE2b
checksum. It is loaded with `weights_only=True`, so nothing in it can run code. NumPy arrays travel as tensors.
"""

import contextlib
import hashlib
import re
import struct
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from core.errors import InputError
from core.files import TEMPORARY, atomic_file

MARK = b"SLCKPT01"
TRAILER = struct.Struct("<8sQ32s")  # mark, length of the content in bytes, checksum of the content
NAME = re.compile(r"step-(\d+)\.ckpt")
ARRAY = "~numpy"  # {ARRAY: tensor} stands for a NumPy array inside a saved state


class Checkpoints:
    """The checkpoints of one run, `step-<number>.ckpt` in one folder; the newest `keep` stay."""

    def __init__(self, folder: str | Path, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"keep={keep}: at least one checkpoint has to stay")
        self.folder = Path(folder)
        self.keep = keep

    def steps(self) -> list[int]:
        """Steps that have a file, oldest first; the files may be torn."""
        if not self.folder.is_dir():
            return []
        return sorted(int(match[1]) for item in self.folder.iterdir() if (match := NAME.fullmatch(item.name)))

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:010d}.ckpt"

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Writes one checkpoint, then removes older ones beyond `keep`.

        Checkpoints of a later step go as well: they belong to a future that was given up when the run resumed earlier.

        Args:
            step: updates done so far.
            state: nested dicts, lists and tuples of tensors, NumPy arrays, numbers, text, bytes, bools and None.

        Raises:
            TypeError: `state` holds something else; the message names the place.
            OSError: the disk is full or failing; earlier checkpoints are untouched and nothing half-written is left.
        """
        content = _encode(state, "state")
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(f".*{TEMPORARY}*"):  # of a process that was killed while writing
            leftover.unlink(missing_ok=True)
        path = self.path(step)
        with atomic_file(path) as file:
            hashed = _HashedFile(file)
            try:
                torch.save(content, hashed)  # type: ignore[arg-type]  # a file-like object with write and flush
            except Exception as error:
                if isinstance(error.__context__, KeyboardInterrupt):  # torch's writer complains of what Ctrl-C cut off
                    raise KeyboardInterrupt from error
                if hashed.fault is None:
                    raise
            if hashed.fault is not None:
                raise hashed.fault
            file.write(TRAILER.pack(MARK, hashed.length, hashed.digest()))
        steps = self.steps()
        kept = [other for other in steps if other <= step][-self.keep :]
        for other in steps:
            if other not in kept:
                with contextlib.suppress(FileNotFoundError):
                    self.path(other).unlink()
        return path

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """Step and state of the newest intact checkpoint, tensors on the CPU; None when there is none.

        A torn or altered file is passed over with a warning that names it.

        Raises:
            InputError: an intact file that this version of torch cannot read.
        """
        for step in reversed(self.steps()):
            path = self.path(step)
            fault = find_fault(path)
            if fault:
                warnings.warn(f"skipping checkpoint {path}: {fault}", stacklevel=2)
                continue
            return step, load_checkpoint(path)
        return None


def find_fault(path: str | Path) -> str | None:
    """What is wrong with a checkpoint file, judged by its trailer; None when it is whole."""
    path = Path(path)
    size = path.stat().st_size
    if size < TRAILER.size:
        return f"torn, only {size} bytes"
    with open(path, "rb") as file:
        file.seek(size - TRAILER.size)
        mark, length, checksum = TRAILER.unpack(file.read(TRAILER.size))
        if mark != MARK or length != size - TRAILER.size:
            return f"torn, {size} bytes without a valid end"
        file.seek(0)
        digest = hashlib.blake2b(digest_size=32)
        while length:
            block = file.read(min(length, 1 << 20))
            if not block:
                return "torn while reading"
            digest.update(block)
            length -= len(block)
    return None if digest.digest() == checksum else "its content does not match its checksum"


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """The state in one checkpoint file, tensors on the CPU.

    Raises:
        InputError: missing, torn, altered, or not readable by this version of torch.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}")
    fault = find_fault(path)
    if fault:
        raise InputError(f"checkpoint {path} cannot be used: {fault}")
    try:
        with open(path, "rb") as file:
            return _decode(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:
        raise InputError(
            f"checkpoint {path} is whole, but torch {torch.__version__} cannot read it: {error}"
        ) from error


def on_device(saved: Any, device: torch.device) -> Any:
    """What `load_checkpoint` gave, or a part of it, with its tensors on a device."""
    if isinstance(saved, torch.Tensor):
        return saved.to(device)
    if isinstance(saved, dict):
        return {name: on_device(part, device) for name, part in saved.items()}
    if isinstance(saved, list | tuple):
        return type(saved)(on_device(part, device) for part in saved)
    return saved


def load_weights(module: torch.nn.Module, weights: dict[str, torch.Tensor], what: str) -> None:
    """`module.load_state_dict`, with a one-line error when the weights are of another architecture.

    Args:
        what: where the weights come from, e.g. the path of the checkpoint.

    Raises:
        InputError: a parameter is missing, unknown, or of another shape; the message names the first ones.
    """
    own = module.state_dict()
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    missing = [f"{name} is missing" for name in own if name not in weights]
    unknown = [f"{name} is unknown" for name in weights if name not in own]
    faults = shapes + missing + unknown
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise InputError(
            f"weights of {what} do not fit this model: {'; '.join(faults[:3])}{more}. "
            "Use the configuration they were made with"
        )
    module.load_state_dict(weights)


def generator_state(generator: torch.Generator | np.random.Generator) -> dict[str, Any]:
    """Everything that decides the next draws of a generator, in a form that `Checkpoints.save` takes.

    Modules that draw from torch's global generator (dropout) are covered by `torch.default_generator`.
    """
    if isinstance(generator, torch.Generator):
        return {"kind": f"torch-{generator.device.type}", "state": generator.get_state()}
    return {"kind": f"numpy-{generator.bit_generator.state['bit_generator']}", "state": generator.bit_generator.state}


def restore(generator: torch.Generator | np.random.Generator, state: dict[str, Any]) -> None:
    """Puts a generator back to where `generator_state` saw it.

    Raises:
        InputError: the state belongs to another kind of generator.
    """
    kind = generator_state(generator)["kind"]
    if state.get("kind") != kind:
        raise InputError(f"random state is of kind {state.get('kind')!r}, the generator is {kind!r}")
    if isinstance(generator, torch.Generator):
        generator.set_state(state["state"])
    else:
        generator.bit_generator.state = state["state"]


class _HashedFile:
    """Passes writes on, counting and hashing them.

    The first fault is kept and later writes are dropped: torch's writer would end the process or hide the reason when
    a write fails inside it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.blake2b(digest_size=32)
        self.length = 0
        self.fault: BaseException | None = None

    def write(self, block: Any) -> int:
        block = bytes(block)
        if self.fault is None:
            try:
                self._file.write(block)
            except BaseException as fault:
                self.fault = fault
        self._hash.update(block)
        self.length += len(block)
        return len(block)

    def flush(self) -> None:
        """The surrounding atomic file flushes once, at the end."""

    def digest(self) -> bytes:
        return self._hash.digest()


def _encode(value: Any, place: str) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach()
        # a view would drag its whole storage into the file
        return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value
    if isinstance(value, np.ndarray):
        try:
            return {ARRAY: torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape).copy())}
        except TypeError as error:
            raise TypeError(f"{place} is an array of {value.dtype}, which a checkpoint cannot hold") from error
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str | int):
                raise TypeError(f"{place} has the key {key!r}; a checkpoint holds text and whole numbers as keys")
        return {key: _encode(item, f"{place}[{key!r}]") for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_encode(item, f"{place}[{index}]") for index, item in enumerate(value))
    if isinstance(value, list):
        return [_encode(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    raise TypeError(f"{place} is a {type(value).__name__}, which a checkpoint cannot hold; store its plain parts")


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {ARRAY}:
            return value[ARRAY].numpy()
        return {key: _decode(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_decode(item) for item in value)
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return value
