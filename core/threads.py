"""How many processor threads a run uses. Same seed and same thread count give the same numbers to the last bit."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

_granted = 0  # what use_threads set; 0 = it was not called


def available_cores() -> int:
    """Cores this process may use: its affinity, capped by a container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no cgroup v2 here: the affinity stands
    return cores


def use_threads(n: int = 0) -> int:
    """Sets the threads of torch, OpenMP and numba for this process and returns their number.

    Args:
        n: threads; 0 takes OMP_NUM_THREADS where it is set, else all available cores.
    """
    if n < 0:
        raise ValueError(f"threads={n}: give 0 (all cores) or a positive number")
    if n == 0:
        wanted = os.environ.get("OMP_NUM_THREADS", "")
        n = int(wanted) if wanted.isdigit() and int(wanted) > 0 else available_cores()
    global _granted
    _granted = n
    os.environ["OMP_NUM_THREADS"] = str(n)  # read by libraries that load later, and by child processes
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(n)
    if "numba" in sys.modules:
        import numba

        numba.set_num_threads(min(n, int(getattr(numba.config, "NUMBA_NUM_THREADS"))))  # noqa: B009  # untyped
    else:
        os.environ.setdefault("NUMBA_NUM_THREADS", str(n))
    return n


def granted() -> int:
    """Threads that `use_threads` gave this process; torch's own number where it was not called."""
    import torch

    return _granted or torch.get_num_threads()


def spread(loop: Callable[..., None], count: int, *args: Any) -> None:
    """Calls `loop(first, stop, *args)` on pieces of range(count), one per thread granted, and waits for all.

    For compiled loops that let go of the interpreter lock (numba's nogil) and write to places of their own. Unlike
    numba's own threads, these neither spin between calls nor mind a second caller.
    """
    threads = min(granted(), count)
    if threads < 2:
        loop(0, count, *args)
        return
    edges = [count * k // threads for k in range(threads + 1)]
    others = [_pool(threads).submit(loop, *piece, *args) for piece in zip(edges[1:-1], edges[2:])]
    loop(0, edges[1], *args)
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="spread")


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """Inside, torch computes on one thread; casting rays still takes all threads granted. Also a decorator.

    Policies and towers of the size trained here run faster so: on 2 cores the PPO update took 0.59 s with two threads
    and 0.27 s with one, since threads wait for each other longer than they work.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
