"""Independent tasks on the processes of this machine or on a Ray cluster, results as they come.

A task is a picklable value, the function one that can be imported. Both engines run the same function on the same
values, so what comes out does not depend on the engine or on how many workers there are, only its order does.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Final, TypeVar

from core.errors import InputError, MissingLibraryError, check_choice

Task = TypeVar("Task")
Result = TypeVar("Result")
ENGINES: Final = ("processes", "ray")
AHEAD: Final = 4  # tasks waiting per worker: bounds what is pickled beforehand


def run_tasks(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, engine: str = "processes"
) -> Generator[tuple[int, Result]]:
    """(index of the task, what the function returned), as tasks end.

    Args:
        workers: processes at work; 1 with the engine "processes" computes in this process. Each has one thread.
        engine: "processes", or "ray" for a Ray cluster: the one RAY_ADDRESS names, else one started on this machine.

    Raises:
        InputError: unknown engine, or a worker process was killed; whatever the function raises is raised here.
        MissingLibraryError: engine "ray" without the library.
    """
    check_choice("engine", engine, ENGINES)
    if engine == "ray":
        yield from _with_ray(function, tasks, workers)
    elif workers == 1 or len(tasks) <= 1:
        for index, task in enumerate(tasks):
            yield index, function(task)
    else:
        yield from _with_processes(function, tasks, workers)


def _with_processes(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int
) -> Generator[tuple[int, Result]]:
    # spawned, not forked: libraries that have started threads do not survive a fork
    pool = ProcessPoolExecutor(
        min(workers, len(tasks)), multiprocessing.get_context("spawn"), _begin_worker, (os.getpid(),)
    )
    coming = iter(enumerate(tasks))
    running: dict[Future[Result], int] = {}
    try:
        while True:
            while len(running) < AHEAD * workers and (following := next(coming, None)) is not None:
                running[pool.submit(function, following[1])] = following[0]
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process was killed, perhaps for want of memory; nothing that was finished is lost: "
            "continue with resume=auto, with fewer workers if it happens again"
        ) from error
    finally:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=not running, cancel_futures=True)
        if running:  # interrupted or failed: what is at work now is not wanted any more
            for process in processes:
                process.terminate()
            for process in processes:
                process.join()


def _begin_worker(parent: int) -> None:
    """Leaves Ctrl-C to the parent, keeps to one thread and ends when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _one_thread()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _one_thread() -> None:
    from core.threads import use_threads

    use_threads(1)


def _with_ray(function: Callable[[Task], Result], tasks: Sequence[Task], workers: int) -> Generator[tuple[int, Result]]:
    try:
        import ray
    except ImportError as error:
        raise MissingLibraryError(
            "engine=ray needs Ray: pip install 'sightline[ray]', or use engine=processes"
        ) from error

    started = not ray.is_initialized()
    if started:
        settings: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
        if not os.environ.get("RAY_ADDRESS"):
            settings |= {"num_cpus": workers, "object_store_memory": 200_000_000}
        ray.init(**settings)

    @ray.remote(num_cpus=1, max_retries=3)
    def remote(task: Task) -> Result:
        _one_thread()
        return function(task)

    coming = iter(enumerate(tasks))
    running: dict[Any, int] = {}
    try:
        while True:
            while len(running) < AHEAD * workers and (following := next(coming, None)) is not None:
                running[remote.remote(following[1])] = following[0]
            if not running:
                return
            (ready, *_), _ = ray.wait(list(running))
            yield running.pop(ready), _ray_result(ray, ready)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        if started:
            ray.shutdown()


def _ray_result(ray: Any, reference: Any) -> Any:
    """The result, or the fault of the function itself rather than Ray's account of it."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, (InputError, OSError)):
            raise cause from error
        raise
    except ray.exceptions.WorkerCrashedError as error:
        raise InputError(
            "a Ray worker died three times at the same task; nothing that was finished is lost: continue with "
            "resume=auto, with fewer workers"
        ) from error
