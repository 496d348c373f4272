"""Batches read ahead of the model, and who waits for whom.

Threads, not processes: Pillow and numpy let go of the interpreter lock while they unpack and resize, and a batch that
a thread made is handed over without being copied.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from core.errors import InputError
from vl.data import Batch, Batches


class Prefetch(Iterator[Batch]):
    """Batches start, start + 1, ... in order, read by threads while the model works on earlier ones.

    What reading a batch raises is raised by the `next` that would have given it, as it is; nothing follows then.

        with Prefetch(batches, start, stop, workers=2) as ahead:
            for step, batch in enumerate(ahead, start):
                ...
    """

    def __init__(self, batches: Batches, start: int, stop: int | None = None, *, workers: int = 1, ahead: int = 2):
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
        self._waiting: deque[Future[Batch]] = deque()
        for _ in range(max(workers, ahead)):
            self._ask()

    def _ask(self) -> None:
        if self._stop is None or self._step < self._stop:
            self._waiting.append(self._threads.submit(self._batches.batch, self._step))
            self._step += 1

    def __next__(self) -> Batch:
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

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
