"""Tasks run on processes and on Ray: the same results, faults that surface, nobody left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from core.errors import InputError
from core.parallel import run_tasks


def square(number: int) -> int:
    return number * number


def refuse(number: int) -> int:
    if number == 3:
        raise InputError("three is broken")
    return number


def die(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_run_once_whatever_the_number_of_workers(workers):
    assert dict(run_tasks(square, range(7), workers)) == {k: k * k for k in range(7)}
    assert list(run_tasks(square, [], workers)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_fault_of_a_task_is_raised_here(workers):
    with pytest.raises(InputError, match="three is broken"):
        list(run_tasks(refuse, range(5), workers))


def test_a_killed_worker_is_an_error_that_says_how_to_go_on():
    with pytest.raises(InputError, match="resume=auto"):
        list(run_tasks(die, range(5), 2))


def test_an_unknown_engine_names_the_known_ones():
    with pytest.raises(InputError, match="did you mean 'processes'"):
        list(run_tasks(square, range(2), 2, "process"))


def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent("""
        import os, sys, time
        from core.parallel import run_tasks

        def wait(path):
            open(f"{path}/{os.getpid()}", "w").close()
            time.sleep(60)

        if __name__ == "__main__":
            list(run_tasks(wait, [sys.argv[1]] * 2, 2))
        """)
    )
    started = tmp_path / "started"
    started.mkdir()
    parent = subprocess.Popen(
        [sys.executable, str(script), str(started)], env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    deadline = time.monotonic() + 60
    while len(list(started.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(path.name) for path in started.iterdir()]
    assert len(workers) == 2
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 15
    while any(_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_alive(pid) for pid in workers)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_ray_runs_the_same_tasks():
    pytest.importorskip("ray")
    assert dict(run_tasks(square, range(7), 2, "ray")) == {k: k * k for k in range(7)}
    with pytest.raises(InputError, match="three is broken"):
        list(run_tasks(refuse, range(5), 2, "ray"))
