"""Batches read ahead of the model, and who waits for whom.

Threads, not processes: Pillow and numpy let go of the interpreter lock while they unpack and resize, and a batch that
a thread made is handed over without being copied.
"""

import statistics
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Generic, Protocol, TypeVar

from core.errors import InputError
from core.threads import available_cores

FIRST_STEPS: Final = 2  # not counted: files are opened, memory is asked for
LOADER_SHARE: Final = 0.2  # of the time waited for data from which the loader counts as the bottleneck
MODEL_SHARE: Final = 0.05  # below which the model does


Read = TypeVar("Read", covariant=True)


class Numbered(Protocol[Read]):
    """What gives a batch by its number, from any thread: `Batches`, or something that adds to them."""

    def batch(self, step: int) -> Read:
        """Batch number `step`."""
        ...


class Prefetch(Iterator[Read], Generic[Read]):
    """Batches start, start + 1, ... in order, read by threads while the model works on earlier ones.

    What reading a batch raises is raised by the `next` that would have given it, as it is; nothing follows then.

        with Prefetch(batches, start, stop, workers=2) as ahead:
            for step, batch in enumerate(ahead, start):
                ...
    """

    def __init__(
        self, batches: Numbered[Read], start: int, stop: int | None = None, *, workers: int = 1, ahead: int = 2
    ):
        """
        Args:
            stop: the first batch that is not read; None: there is no end.
            workers: threads that read, each a batch of its own.
            ahead: batches read or being read beyond the one in use, at least `workers`.

        Raises:
            InputError: no worker, or none ahead.
        """
        if workers < 1 or ahead < 1:
            raise InputError(f"workers={workers} and ahead={ahead} should be positive")
        self._batches, self._step, self._stop = batches, start, stop
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
        self._waiting: deque[Future[Read]] = deque()
        for _ in range(max(workers, ahead)):
            self._ask()

    def _ask(self) -> None:
        if self._stop is None or self._step < self._stop:
            self._waiting.append(self._threads.submit(self._batches.batch, self._step))
            self._step += 1

    def __next__(self) -> Read:
        if not self._waiting:
            self.close()
            raise StopIteration
        batch = self._waiting.popleft()
        self._ask()
        try:
            return batch.result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stops reading; waits for the batches that are being read at this moment. May be called twice."""
        self._waiting.clear()
        self._stop = self._step
        self._threads.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> "Prefetch[Read]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class LoaderProfile:
    """Who waits for whom: the time each step waits for its batch, and the time the model takes for it.

        began = time.perf_counter()
        batch = next(ahead)
        arrived = time.perf_counter()
        ...the step, and on CUDA torch.cuda.synchronize() or reading the loss...
        profile.add(arrived - began, time.perf_counter() - arrived, pictures=len(batch.images))

    The first two steps are left out.
    """

    wait_s: list[float] = field(default_factory=list)  # of each step that counts
    model_s: list[float] = field(default_factory=list)
    workers: int = 1  # of the Prefetch, for the advice
    _seen: int = 0
    _counted_s: float = 0.0  # in this process, the time `_pictures` and `_bytes` came in
    _pictures: int = 0
    _bytes: int = 0

    def add(self, wait_s: float, model_s: float, *, pictures: int = 0, bytes_read: int = 0) -> None:
        """One step: seconds waited for its batch, seconds of the model; pictures in the batch, and bytes of picture
        files read since the step before (the difference of `PairBatches.bytes_read`)."""
        self._seen += 1
        if self._seen > FIRST_STEPS:
            self.wait_s.append(wait_s)
            self.model_s.append(model_s)
            self._counted_s += wait_s + model_s
            self._pictures += pictures
            self._bytes += bytes_read

    @property
    def wait_share(self) -> float:
        """Time waited for data over the whole time; 0 where nothing was measured."""
        total = sum(self.wait_s) + sum(self.model_s)
        return sum(self.wait_s) / total if total else 0.0

    def summary(self) -> dict[str, float | str]:
        """Figures of a run for its result.json; rates only where `add` was told of pictures and bytes."""
        found: dict[str, float | str] = {"verdict": self.verdict()}
        if not self.wait_s:
            return found
        found["wait_share"] = round(self.wait_share, 4)
        for name, seconds in (("wait", self.wait_s), ("model", self.model_s)):
            found[f"{name}_ms_median"] = round(1000 * statistics.median(seconds), 3)
            found[f"{name}_ms_p95"] = round(1000 * _p95(seconds), 3)
        if self._pictures:
            found["pictures_per_second"] = round(self._pictures / self._counted_s, 1)
        if self._bytes:
            found["megabytes_read_per_second"] = round(self._bytes / 1e6 / self._counted_s, 3)
        return found

    def verdict(self) -> str:
        """Which of the two is the bottleneck, and what to do about it, in a sentence or two."""
        if not self.wait_s:
            return f"too few steps to tell loader and model apart: the first {FIRST_STEPS} are left out"
        share = f"{100 * self.wait_share:.0f} % of the time is spent waiting for pictures"
        if self.wait_share < MODEL_SHARE:
            return f"the model is the bottleneck: {share}; more workers would not help"
        if self.wait_share < LOADER_SHARE:
            return f"the model is the bottleneck, but {share}; workers={self.workers + 1} may hide that"
        # waits that are rare and long are not mended by speed: the buffer ran empty
        if statistics.median(self.wait_s) < 0.1 * _p95(self.wait_s):
            return (
                f"the loader is the bottleneck in bursts: {share}, most of it in few steps; raise workers= "
                f"(now {self.workers}), which reads further ahead, or keep the pictures on a faster disk"
            )
        cores = available_cores()
        more = (
            f"raise workers= (now {self.workers}, there are {cores} cores)"
            if self.workers < cores
            else f"all {cores} cores read already (workers={self.workers})"
        )
        return f"the loader is the bottleneck: {share}; {more}, or store the pictures smaller"


def _p95(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.95 * (len(seconds) - 1))]
