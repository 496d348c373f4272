"""Thread counts."""

import os
import subprocess
import sys

import pytest

from core import threads
from core.threads import available_cores, spread, use_threads


def test_zero_takes_the_environment_and_else_all_cores(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert use_threads(0) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert use_threads(0) == available_cores() >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    use_threads(1)  # back to what the tests run with


def test_torch_follows_whether_it_is_loaded_before_or_after():
    code = (
        "from core.threads import use_threads; use_threads(2); import torch; before = torch.get_num_threads()\n"
        "use_threads(1); print(before, torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "2 1", done.stderr


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="threads=-2"):
        use_threads(-2)


def test_idle_threads_sleep_once_core_is_imported():
    code = "import os, core; print(os.environ['OMP_WAIT_POLICY'])"
    env = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env).stdout == "passive\n"


def test_small_networks_get_one_thread_and_rays_all_that_were_granted():
    import torch

    from core.threads import granted, one_torch_thread, use_threads

    before = torch.get_num_threads()
    try:
        use_threads(2)
        with one_torch_thread():
            assert (torch.get_num_threads(), granted()) == (1, 2)
        assert torch.get_num_threads() == 2
    finally:
        use_threads(before)


@pytest.mark.parametrize("granted", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 10])
def test_a_loop_is_spread_over_pieces_that_cover_it_once(monkeypatch, granted, count):
    monkeypatch.setattr(threads, "granted", lambda: granted)
    seen = []
    spread(lambda first, stop, more: seen.append((first, stop, more)), count, "x")
    assert sorted(k for first, stop, _ in seen for k in range(first, stop)) == list(range(count))
    assert len(seen) == max(1, min(granted, count)) and {more for *_, more in seen} == {"x"}


def test_what_a_piece_raises_is_raised(monkeypatch):
    monkeypatch.setattr(threads, "granted", lambda: 2)

    def loop(first, stop):
        if first:
            raise ValueError("second half")

    with pytest.raises(ValueError, match="second half"):
        spread(loop, 4)
