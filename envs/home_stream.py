"""Thousands of homes in one run: a pool of a few that is changed at fixed steps, the coming ones prepared meanwhile.

    with HomeStream(ProceduralSource(seed=0, count=5_000), size=64, every=100_000, replace=8, seed=0) as stream:
        pool = stream.pool_at(stream.number(step))        # the same HomePool until the number changes

Homes are taken in an order fixed by the seed, round and round; pool n holds the `size` homes from place n x replace of
that order on, the home of place j in slot j modulo size. So pool n is a function of (source, size, replace, seed, n)
alone: whatever the timing, the number of workers, or the step a run resumes at. In memory are the pool handed out last
and at most `ahead` homes to come.
"""

import warnings
import weakref
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from core.errors import InputError
from envs.home_worker import HomeSource, HomeWorker, WorkerError, build_trees, prepare_homes
from envs.pool import Home, HomePool
from scene.datasets.procedural import GOAL_COLORS, GOAL_LABELS, HomeConfig, generate_home
from scene.palette import PALETTE
from scene.store import SceneStore
from scene.types import Scene

__all__ = ["FolderSource", "HomeSource", "HomeStream", "ProceduralSource", "WorkerError"]


@dataclass(frozen=True)
class ProceduralSource:
    """Generated homes: number k is the home of seed `seed + k`.

    Raises:
        InputError: no home, or a negative seed.
    """

    seed: int = 0
    config: HomeConfig = field(default_factory=HomeConfig)
    count: int = 10_000

    def __post_init__(self) -> None:
        if self.count < 1 or self.seed < 0:
            raise InputError(f"count={self.count} starts at 1 and seed={self.seed} at 0")

    @property
    def manifest(self) -> dict[str, Any]:
        """The vocabulary of generated homes."""
        palette = {name: list(rgb) for name, rgb in PALETTE.items()}
        return {"goal_labels": list(GOAL_LABELS), "goal_colors": list(GOAL_COLORS), "palette": palette}

    def name(self, index: int) -> str:
        """The scene's id."""
        return f"procedural-{self.config.split}-{self.seed + index:05d}"

    def __call__(self, index: int) -> Scene:
        """Generates home `index`."""
        return generate_home(self.seed + index, self.config)


@dataclass(frozen=True)
class FolderSource:
    """A split of a SCENES folder made by build-scenes."""

    path: str
    split: str = "train"

    @property
    def _ids(self) -> list[str]:
        return _store(str(self.path)).split(self.split)

    @property
    def count(self) -> int:
        """Scenes in the split."""
        return len(self._ids)

    @property
    def manifest(self) -> dict[str, Any]:
        """The folder's manifest."""
        return _store(str(self.path)).manifest

    def name(self, index: int) -> str:
        """The scene's id."""
        return self._ids[index]

    def __call__(self, index: int) -> Scene:
        """Reads scene `index`."""
        return _store(str(self.path)).load(self._ids[index])


@lru_cache(maxsize=4)
def _store(path: str) -> SceneStore:
    return SceneStore(path, cache=1)  # the stream keeps what it needs


class HomeStream:
    """Pools of prepared homes, one after the other. A context manager; `close` ends its processes.

    A scene in which no agent fits leaves its slot empty: `skipped` holds those of the pool handed out last, with the
    reasons, and a warning names each once.

    Args:
        source: where homes come from.
        size: scenes in a pool, at most `source.count`.
        every: environment steps a pool serves; see `number`.
        replace: scenes that change from one pool to the next; 0 keeps the first pool for good. Left out: an eighth.
        seed: of the order in which homes are taken.
        workers: processes that prepare homes; 0 prepares in this one, when a pool is asked for.
        ahead: homes prepared beforehand; left out, those of the next pool.
        home_limit_s: longest time one home may take; three quarters of it are the longest silence of a process. With
            the 8 s, whatever freezes is an error in less than 10.
        pictures: search trees are built as homes arrive, so that no step waits for them.
        options: how homes are prepared: cell_m, agent_radius_m, agent_height_m, interactive (envs.pool.make_homes).

    Raises:
        InputError: sizes that do not fit together, or a source that cannot travel to a process.
    """

    def __init__(
        self,
        source: HomeSource,
        size: int = 64,
        every: int = 100_000,
        replace: int | None = None,
        seed: int = 0,
        workers: int = 1,
        *,
        ahead: int | None = None,
        home_limit_s: float = 8.0,
        pictures: bool = True,
        **options: Any,
    ) -> None:
        if not 1 <= size <= source.count:
            raise InputError(
                f"a pool of size={size} from a source of {source.count} homes; expected 1 to {source.count}"
            )
        replace = -(-size // 8) if replace is None else replace
        self.ahead = replace if ahead is None else ahead
        if every < 1 or not 0 <= replace <= size or workers < 0 or self.ahead < 0 or home_limit_s <= 0:
            raise InputError(
                f"every={every} starts at 1, replace={replace} lies in 0..{size} (size), workers={workers} and "
                f"ahead={ahead} start at 0, home_limit_s={home_limit_s} is above 0"
            )
        if workers and type(source).__module__ == "__main__":
            raise InputError(
                f"{type(source).__name__} is defined in the script that runs, which a worker cannot import; "
                "move it to a module, or use workers=0"
            )
        self.source, self.size, self.every, self.replace, self.seed = source, size, every, replace, seed
        self.skipped: dict[str, str] = {}
        self._options, self._pictures = options, pictures
        self._homes: dict[int, tuple[list[Home], str]] = {}  # by source number; of the pool handed out
        self._pool: HomePool | None = None
        self._number = -1
        self._closed = False
        self._warned: set[str] = set()
        self._workers = [HomeWorker(source, options, home_limit_s, pictures) for _ in range(workers)]
        self._finalizer = weakref.finalize(self, _close_all, self._workers)

    @property
    def worker_pids(self) -> list[int]:
        """Process numbers of the workers."""
        return [worker.pid for worker in self._workers]

    @cached_property
    def order(self) -> Int64[ndarray, " N"]:
        """Source numbers in the order they are taken, before it begins anew."""
        return np.random.default_rng([self.seed, self.source.count]).permutation(self.source.count)

    def number(self, step: int) -> int:
        """Number of the pool that serves environment step `step`."""
        return step // self.every

    def indices(self, number: int) -> list[int]:
        """Source numbers of pool `number`, slot by slot; computed, nothing is prepared."""
        first = number * self.replace
        places = sorted(range(first, first + self.size), key=lambda place: place % self.size)
        return [self._index(place) for place in places]

    def pool_at(self, number: int) -> HomePool:
        """Pool `number`; the same object while the number stays the same. Waits for homes that are not ready yet.

        Cheap when nothing changed: call it at every step, so that a failed worker is heard of.

        Raises:
            WorkerError: a process failed or froze; carries its traceback.
            InputError: a negative number, a closed stream, or no home of this pool has floor.
        """
        if number < 0 or self._closed:
            raise InputError("the stream is closed" if self._closed else f"pools are numbered from 0, got {number}")
        for worker in self._workers:
            worker.check()
        if number != self._number or self._pool is None:
            self._pool = None
            indices = self.indices(number)
            self._gather(indices)
            self._number = number
            self._pool = self._made(indices)
            self._ask_ahead(number * self.replace + self.size)
        return self._pool

    def close(self) -> None:
        """Ends the processes. Pools handed out stay usable."""
        self._closed = True
        self._finalizer()

    def __enter__(self) -> "HomeStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _index(self, place: int) -> int:
        return int(self.order[place % len(self.order)])

    def _worker(self, index: int) -> HomeWorker:
        return self._workers[index % len(self._workers)]

    def _gather(self, indices: list[int]) -> None:
        """Makes `_homes` hold exactly these."""
        wanted = set(indices)
        self._homes = {index: homes for index, homes in self._homes.items() if index in wanted}
        missing = [index for index in indices if index not in self._homes]
        for worker in self._workers:
            worker.keep_only(wanted)
        for index in missing if self._workers else ():
            self._worker(index).ask(index)
        for index in missing:
            if self._workers:
                self._homes[index] = self._worker(index).take(index)
            else:
                self._homes[index] = prepare_homes(self.source, index, self._options)
                build_trees(self._homes[index][0] if self._pictures else [])

    def _ask_ahead(self, place: int) -> None:
        """Queues what comes from this place of the order on."""
        for index in (self._index(place + k) for k in range(self.ahead if self.replace and self._workers else 0)):
            if index not in self._homes:
                self._worker(index).ask(index)

    def _made(self, indices: list[int]) -> HomePool:
        homes: list[Home] = []
        self.skipped = {}
        for index in indices:
            found, reason = self._homes[index]
            homes += found
            if reason:
                self.skipped[self.source.name(index)] = reason
        if not homes:
            raise InputError(
                f"none of the {len(indices)} homes of pool {self._number} has floor to walk on: "
                f"{'; '.join(list(self.skipped.values())[:3])}"
            )
        new = {name: why for name, why in self.skipped.items() if name not in self._warned}
        if new:
            self._warned |= new.keys()
            warnings.warn(f"{len(new)} homes without floor are left out: {'; '.join(new.values())}", stacklevel=3)
        manifest = self.source.manifest
        return HomePool.of(homes, goal_labels=manifest.get("goal_labels"), manifest=manifest)


def _close_all(workers: list[HomeWorker]) -> None:
    for worker in workers:
        worker.close()
