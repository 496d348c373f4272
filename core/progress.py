"""Progress with time left: a bar on a terminal, a line every ten seconds in a log."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

LOG_INTERVAL_S = 10.0
_active: list[Any] = []  # the rich bar group on screen; a bar inside a bar joins it


class Progress(Protocol):
    """What `track` hands out."""

    def advance(self, n: float = 1, **shown: Any) -> None:
        """Counts `n` more items done; `shown` are current values to display, e.g. loss=0.31."""
        ...


@contextlib.contextmanager
def track(total: float | None, description: str) -> Iterator[Progress]:
    """Shows how far a loop of `total` items is (None: unknown) on standard error.

    with track(len(batches), "grounder") as progress:
        for batch in batches:
            progress.advance(loss=loss)
    """
    if _active or sys.stderr.isatty():  # an active bar stands in for stderr and hides that it is a terminal
        with _bar(total, description) as bar:
            yield bar
    else:
        lines = _Lines(total, description)
        yield lines
        lines.end()


@contextlib.contextmanager
def _bar(total: float | None, description: str) -> Iterator[Progress]:
    from rich import progress as rich_progress
    from rich.console import Console

    if _active:
        group = _active[-1]
        task = group.add_task(description, total=total, shown="")
        try:
            yield _Bar(group, task)
        finally:
            group.remove_task(task)
        return
    group = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("left"),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[shown]}"),
        console=Console(stderr=True),
    )
    with group:
        _active.append(group)
        try:
            yield _Bar(group, group.add_task(description, total=total, shown=""))
        finally:
            _active.pop()


class _Bar:
    def __init__(self, group: Any, task: Any) -> None:
        self._group, self._task = group, task

    def advance(self, n: float = 1, **shown: Any) -> None:
        extra = {"shown": _values(shown)} if shown else {}
        self._group.update(self._task, advance=n, **extra)


class _Lines:
    def __init__(self, total: float | None, description: str) -> None:
        self._total, self._description = total, description
        self._done, self._shown = 0.0, ""
        self._start = self._last = time.monotonic()

    def advance(self, n: float = 1, **shown: Any) -> None:
        self._done += n
        if shown:
            self._shown = _values(shown)
        now = time.monotonic()
        if now - self._last >= LOG_INTERVAL_S:
            self._last = now
            print(self._line(now), file=sys.stderr, flush=True)

    def end(self) -> None:
        now = time.monotonic()
        if now - self._start >= LOG_INTERVAL_S:  # short loops say nothing
            print(self._line(now), file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        spent = now - self._start
        text = f"{self._description}: {self._done:g}"
        if self._total is not None:
            text += f"/{self._total:g}"
        text += f", {_clock(spent)} spent"
        if self._total is not None and 0 < self._done < self._total:
            text += f", {_clock(spent * (self._total - self._done) / self._done)} left"
        return f"{text}  {self._shown}".rstrip()


def _values(shown: dict[str, Any]) -> str:
    return " ".join(f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
                    for name, value in shown.items())  # fmt: skip


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
