"""Progress: lines in a log, quiet when short."""

import sys

import pytest

from core import progress
from core.progress import track


def test_a_short_loop_says_nothing_in_a_log(capsys):
    with track(3, "homes") as bar:
        for _ in range(3):
            bar.advance(loss=0.5)
    assert capsys.readouterr().err == ""


def test_a_long_loop_gives_a_line_every_ten_seconds_with_the_time_left(capsys, monkeypatch):
    clock = iter(range(0, 1000, 6))  # every look at the clock is six seconds later
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with track(4, "homes") as bar:
        for step in range(4):
            bar.advance(loss=step / 8, kind="x")
    assert capsys.readouterr().err.splitlines() == [
        "homes: 2/4, 0:12 spent, 0:12 left  loss=0.125 kind=x",
        "homes: 4/4, 0:24 spent  loss=0.375 kind=x",
        "homes: 4/4, 0:30 spent  loss=0.375 kind=x",
    ]


def test_an_unknown_total_shows_what_is_done(capsys, monkeypatch):
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with track(None, "rays") as bar:
        bar.advance(5)
    assert capsys.readouterr().err.splitlines()[0] == "rays: 5, 0:20 spent"


def test_bars_on_a_terminal_nest(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with track(2, "outer") as outer, track(2, "inner") as inner:
        inner.advance(loss=1.0)
        outer.advance()
        group = progress._active[-1]
        assert [(task.description, task.completed) for task in group.tasks] == [("outer", 1), ("inner", 1)]
    assert progress._active == []


def test_a_fault_inside_leaves_no_bar_behind(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with pytest.raises(ValueError), track(2, "outer"):
        raise ValueError
    assert progress._active == []
