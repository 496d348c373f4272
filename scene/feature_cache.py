"""Features of a frozen object encoder on disk: computed once, memory-mapped ever after.

A cache is a folder `<root>/<digest>` of shards: `shard-00000.npy` holds the features of some rooms one after the other
(rows of K * N objects, draw by draw), `index.json` says what they were made from and where each room lies. The digest
covers everything the numbers depend on, so another encoder, seed or corpus gets another folder. It is filled under a
hidden name, shard by shard, and renamed when it is complete: what has its name is whole. A build that was interrupted
goes on behind its last finished shard; of two processes that build the same cache one waits for the other.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from core.caches import alone, explaining_full_disk
from core.errors import InputError, MissingFileError, check_choice, nearest
from core.files import TEMPORARY, atomic_file, atomic_write, fingerprint, plain, read_json, sync_folder
from scene.objects import ObjectEncoder, check_points, rotate_points, subsample

FORMAT: Final = "sightline-features/1"  # counts on when the same spec would give other numbers
INDEX: Final = "index.json"
SHARD_BYTES: Final = 64 * 2**20
"""A shard ends with the room that reaches this size: so much is computed again after an interruption, at most."""
CLOUDS: Final = 256
"""Encoded at once, from as many rooms as they take."""
AGAIN: Final = "remove the folder to have it computed again"


@dataclass(frozen=True)
class FeatureSpec:
    """What the features of a cache depend on, besides the rooms' names."""

    encoder: str  # `weights_digest` of the frozen encoder
    source: str  # digest of the scenes, e.g. of the corpus's manifest
    points: int  # that the encoder reads of each object
    seed: int  # of the draws
    draws: int = 0  # encodings per object, of points drawn and turned about z at random; 0 = one, not turned
    dtype: str = "float16"  # or float32
    bfloat16: bool = False  # encode under bfloat16 autocast

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, ("float16", "float32"))
        if self.points < 1 or self.draws < 0:
            raise InputError(
                f"points={self.points}, draws={self.draws}: expected at least 1 point, and 0 or more draws"
            )

    @property
    def encodings(self) -> int:
        """K: of each object."""
        return max(self.draws, 1)

    def digest(self, rooms: Sequence[str]) -> str:
        """The name of the cache of these rooms, in this order: 16 hex digits."""
        return fingerprint({"format": FORMAT, "spec": self, "rooms": list(rooms)})


def weights_digest(module: nn.Module) -> str:
    """16 hex digits of a module's class, weights and buffers."""
    digest = hashlib.sha256(type(module).__name__.encode())
    for name, value in module.state_dict().items():
        array = value.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}\0".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


class FeatureCache:
    """The features of a complete cache.

    Attributes:
        rooms: their names, in the order they were given in.
        error: largest difference of a stored number from the float32 it was, as a share of the largest number.
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
            self.dim, self.error = int(index["dim"]), float(index["error"])
            self._place: dict[str, tuple[int, int, int]] = {}  # shard, first row, objects
            for number, rooms in enumerate(index["shards"]):
                row = 0
                for room, count in rooms:
                    self._place[room] = (number, row, count)
                    row += count * self.spec.encodings
            self._shards = [self._open(number, rooms) for number, rooms in enumerate(index["shards"])]
        except InputError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"feature cache {self.folder} is damaged ({error}); {AGAIN}") from error
        self.rooms = list(self._place)

    def __contains__(self, room: object) -> bool:
        return room in self._place

    def __len__(self) -> int:
        return len(self._place)

    def features(self, room: str, count: int | None = None) -> Float[Tensor, "K N D"]:
        """All encodings of a room's objects, in float32.

        Args:
            count: objects that the room should have.

        Raises:
            InputError: the cache lacks the room, or has it with another number of objects.
        """
        shard, row, objects = self._find(room, count)
        block = shard[row : row + objects * self.spec.encodings]
        return torch.from_numpy(block.astype(np.float32)).view(self.spec.encodings, objects, self.dim)

    def draw(self, room: str, k: int, count: int | None = None) -> Float[Tensor, "N D"]:
        """The k-th encoding alone: reads no more of the file than that. Errors as in `features`."""
        if not 0 <= k < self.spec.encodings:
            raise InputError(f"feature cache {self.folder} has draws 0..{self.spec.encodings - 1}, there is no {k}")
        shard, row, objects = self._find(room, count)
        first = row + k * objects
        return torch.from_numpy(shard[first : first + objects].astype(np.float32))

    def _find(self, room: str, count: int | None) -> tuple[ndarray, int, int]:
        if room not in self._place:
            raise InputError(f"feature cache {self.folder} has no room {room!r}; {nearest(room, self._place)}")
        number, row, objects = self._place[room]
        if count is not None and count != objects:
            raise InputError(
                f"room {room!r} has {count} objects, in the feature cache {self.folder} {objects}: the scenes have "
                f"changed without their digest; {AGAIN}"
            )
        return self._shards[number], row, objects

    def _open(self, number: int, rooms: Sequence[tuple[str, int]]) -> ndarray:
        path = self.folder / _shard_name(number)
        rows = sum(count for _, count in rooms) * self.spec.encodings
        try:
            # of a file without rows there is nothing to map
            shard = np.load(path, mmap_mode="r" if rows else None, allow_pickle=False)
        except FileNotFoundError as error:
            raise MissingFileError(f"shard of a feature cache not found: {path}; {AGAIN}") from error
        except (ValueError, EOFError) as error:
            raise InputError(f"shard of a feature cache is truncated or damaged: {path} ({error}); {AGAIN}") from error
        if shard.shape != (rows, self.dim) or shard.dtype != self.spec.dtype:
            raise InputError(
                f"{path} holds {shard.dtype} {shard.shape}, but its index says {self.spec.dtype} {(rows, self.dim)}; "
                f"{AGAIN}"
            )
        return shard

    @classmethod
    def build(
        cls,
        root: str | Path,
        spec: FeatureSpec,
        encoder: ObjectEncoder,
        rooms: Sequence[str],
        load: Callable[[Sequence[str]], Iterable[tuple[str, Float[Tensor, "N Q 6"]]]],
    ) -> "FeatureCache":
        """The cache of these rooms below `root`: opened where it is complete, else computed or carried on with.

        Args:
            encoder: in evaluation mode or not; it computes where its weights are.
            rooms: their names, all different.
            load: gets the names that are still to do and yields each with its objects' points (Q >= spec.points), in
                that order. Read one after the other, so that few rooms are in memory at once.

        Raises:
            InputError: the spec is of another encoder; a name comes twice; `load` yields another room or points that
                do not fit (the room is named); features that float16 cannot hold; the disk is full.
        """
        if spec.encoder != weights_digest(encoder):
            raise InputError(f"the spec is of encoder {spec.encoder}, but this one has {weights_digest(encoder)}")
        if len(set(rooms)) != len(rooms):
            raise InputError("a feature cache needs a different name for each room")
        folder = Path(root) / spec.digest(rooms)
        if not folder.exists():
            with explaining_full_disk(folder), alone(folder):
                if not folder.exists():  # another process may have made it while this one waited
                    _Build(folder, spec, encoder).run(rooms, load)
        return cls(folder)


class _Build:
    """One build, in a hidden folder beside the one it will be."""

    def __init__(self, folder: Path, spec: FeatureSpec, encoder: ObjectEncoder) -> None:
        self.folder, self.spec, self.encoder = folder, spec, encoder
        self.partial = folder.with_name(f".{folder.name}.partial")
        self.shards: list[dict[str, Any]] = []

    def run(
        self, rooms: Sequence[str], load: Callable[[Sequence[str]], Iterable[tuple[str, Float[Tensor, "N Q 6"]]]]
    ) -> None:
        self.partial.mkdir(parents=True, exist_ok=True)
        for torn in self.partial.glob(f".*{TEMPORARY}*"):  # of a process killed while it wrote
            torn.unlink()
        while (note := self.partial / f"{_shard_name(len(self.shards))}.json").exists():
            self.shards.append(read_json(note, "the note of a finished shard"))
        done = sum(len(shard["rooms"]) for shard in self.shards)
        waiting = list(rooms[done:])
        if waiting:
            self._encode(waiting, iter(load(waiting)))
        sizes = {shard["dim"] for shard in self.shards}
        largest = max((shard["largest"] for shard in self.shards), default=0.0)
        error = max((shard["error"] for shard in self.shards), default=0.0)
        index = {
            "format": FORMAT,
            "spec": plain(self.spec),
            "dim": sizes.pop() if sizes else self.encoder.out.out_features,
            "error": error / largest if largest else 0.0,
            "shards": [shard["rooms"] for shard in self.shards],
        }
        atomic_write(self.partial / INDEX, json.dumps(index) + "\n")
        for note in self.partial.glob("*.npy.json"):
            note.unlink()
        sync_folder(self.partial)
        os.replace(self.partial, self.folder)
        sync_folder(self.folder.parent)

    def _encode(self, waiting: list[str], loaded: Iterator[tuple[str, Tensor]]) -> None:
        held: list[tuple[str, Float[ndarray, "R D"], int]] = []  # rooms of the shard to come
        size, pending, clouds = 0, [], 0
        for at, name in enumerate(waiting):
            room, points = next(loaded, ("", None))
            if room != name or points is None:
                given = repr(room) if room else "no more"
                raise InputError(f"a feature cache expected room {name!r} next and was given {given}")
            pending.append((name, self._clouds(name, points)))
            clouds += len(pending[-1][1])
            last = at + 1 == len(waiting)
            if clouds < CLOUDS and not last:
                continue
            for entry in self._features(pending):
                held.append(entry)
                size += entry[1].nbytes // 2 if self.spec.dtype == "float16" else entry[1].nbytes
            pending, clouds = [], 0
            if size >= SHARD_BYTES or last:
                self._write(held)
                held, size = [], 0
        if (extra := next(loaded, None)) is not None:
            raise InputError(f"a feature cache was given room {extra[0]!r} beyond the last it was to hold")

    def _clouds(self, name: str, points: Tensor) -> Float[Tensor, "KN P 6"]:
        """What the encoder reads: K draws of a room, one after the other; they depend on seed and room alone."""
        if points.ndim != 3 or points.shape[-1] != 6 or points.shape[1] < self.spec.points:
            raise InputError(
                f"room {name!r}: points have shape {tuple(points.shape)}, expected (N, Q, 6) with Q of at least "
                f"{self.spec.points}"
            )
        try:
            check_points(points)
        except InputError as error:
            raise InputError(f"room {name!r}: {error}") from error
        words = np.frombuffer(hashlib.sha256(name.encode()).digest(), np.uint32)
        rng = np.random.default_rng([self.spec.seed, *words])
        parts = []
        for _ in range(self.spec.encodings):
            part = subsample(points, self.spec.points, rng)
            if self.spec.draws:
                part = rotate_points(part, torch.from_numpy(rng.uniform(-np.pi, np.pi, len(part))).float())
            parts.append(part)
        return torch.cat(parts)

    def _features(self, pending: Sequence[tuple[str, Tensor]]) -> Iterator[tuple[str, Float[ndarray, "R D"], int]]:
        device = self.encoder.out.weight.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.spec.bfloat16):
            features = self.encoder.encode(torch.cat([part for _, part in pending]).to(device))
        block, first = features.float().cpu().numpy(), 0
        for name, part in pending:
            yield name, block[first : first + len(part)], len(part) // self.spec.encodings
            first += len(part)

    def _write(self, held: Sequence[tuple[str, Float[ndarray, "R D"], int]]) -> None:
        exact = np.concatenate([block for _, block, _ in held])
        with np.errstate(over="ignore"):  # looked for next
            stored = exact.astype(self.spec.dtype)
        if not np.isfinite(stored).all():
            raise InputError(
                f"features reach {np.abs(exact).max():.3g}, more than {self.spec.dtype} holds; take dtype=float32"
            )
        name = _shard_name(len(self.shards))
        with atomic_file(self.partial / name) as file:
            np.save(file, stored, allow_pickle=False)
        note = {
            "rooms": [[room, count] for room, _, count in held],
            "dim": exact.shape[1],
            "largest": float(np.abs(exact).max(initial=0)),
            "error": float(np.abs(exact - stored.astype(np.float32)).max(initial=0)),
        }
        atomic_write(self.partial / f"{name}.json", json.dumps(note) + "\n")  # from here on the shard counts
        self.shards.append(note)


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}.npy"
