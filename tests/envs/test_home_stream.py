"""Streams of homes: the same pools whatever the timing; a worker that fails says so itself."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from core.errors import InputError
from envs.home_stream import FolderSource, HomeStream, ProceduralSource
from envs.home_worker import HomeWorker, WorkerError
from envs.simulator import Simulator
from scene.io import save_scene
from scene.store import save_manifest
from tests.envs.homes import make_home, three_homes

UNHURRIED = 300.0  # seconds a home may take where the limit is not what is tested: the machine may be busy


@dataclass(frozen=True)
class Rooms:
    """Single rooms whose width tells the number; number `narrow` leaves no floor, number `fault` has one."""

    count: int = 8
    narrow: int = -1
    fault: str = ""  # what happens at home 3

    @property
    def manifest(self):
        return {"goal_labels": ["sofa"]}

    def name(self, index):
        return f"room-{index}"

    def __call__(self, index):
        if index == 3 and self.fault:
            _strange_place(self.fault)
        width = 0.3 if index == self.narrow else 3.0 + 0.1 * (index % 10)
        home = make_home(self.name(index), width, 3.0, [("sofa", "red", 0.5, 0.5, 0.6, 0.6, 0.8)])
        if self.fault == "hollow":
            home.mesh = None
        return home


def _strange_place(fault):
    if fault == "raise":
        raise ZeroDivisionError("walls of no length")
    if fault == "exit":
        os._exit(3)
    if fault == "crash":
        ctypes.string_at(0)
    if fault == "kill":
        time.sleep(300)  # the test kills it once a heartbeat told of this line
    if fault == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    while fault in ("stop", "endless"):
        pass
    if fault == "deadlock":
        ctypes.PyDLL(None).sleep(60)  # holds the interpreter lock: no thread of Python runs


def widths(pool):
    return {home.name: home.grid.free.shape for home in pool.homes}


def test_pools_are_the_same_with_and_without_a_worker_and_when_a_run_resumes():
    options = {"size": 3, "every": 100, "replace": 2, "seed": 4, "pictures": False}
    alone = HomeStream(Rooms(), workers=0, **options)
    expected = [alone.pool_at(n) for n in range(4)]
    assert [pool.ids for pool in expected] == [[f"room-{k}" for k in alone.indices(n)] for n in range(4)]
    with HomeStream(Rooms(), workers=1, home_limit_s=UNHURRIED, **options) as stream:
        for n in (0, 1, 3, 2):  # forwards, over one, and back
            pool = stream.pool_at(n)
            assert pool.ids == expected[n].ids and pool.goal_labels == ["sofa"]
            for one, two in zip(pool.homes, expected[n].homes):
                assert np.array_equal(one.grid.free, two.grid.free)
                assert one.scene.mesh.vertices.tobytes() == two.scene.mesh.vertices.tobytes()
            assert stream.pool_at(n) is pool


def test_each_change_replaces_the_slots_that_are_due_and_keeps_the_rest():
    stream = HomeStream(Rooms(count=9), size=4, every=10, replace=1, seed=1, workers=0, pictures=False)
    assert [stream.number(step) for step in (0, 9, 10, 35)] == [0, 0, 1, 3]
    seen = set()
    for n in range(9):
        before, after = stream.pool_at(n), stream.pool_at(n + 1)
        changed = [k for k in range(4) if before[k] is not after[k]]
        assert changed == [n % 4]
        seen |= set(before.ids)
    assert len(seen) == 9
    assert stream.indices(9) != stream.indices(0) and sorted(stream.order) == list(range(9))


def test_a_source_no_larger_than_the_pool_is_prepared_once():
    stream = HomeStream(Rooms(count=3), size=3, replace=2, workers=0, pictures=False)
    first = {home.name: home for home in stream.pool_at(0).homes}
    assert all(first[home.name] is home for home in stream.pool_at(5).homes)


def test_homes_without_floor_are_counted_with_the_reason():
    stream = HomeStream(Rooms(narrow=2), size=8, replace=0, workers=0, pictures=False)
    with pytest.warns(UserWarning, match="1 homes without floor.*room-2"):
        pool = stream.pool_at(0)
    assert sorted(pool.ids) == [f"room-{k}" for k in range(8) if k != 2]
    assert list(stream.skipped) == ["room-2"] and "floor" in stream.skipped["room-2"]


def test_a_pool_without_any_floor_is_an_error_with_the_reasons():
    with pytest.raises(InputError, match="none of the 1 homes.*room-0"):
        HomeStream(Rooms(count=1, narrow=0), size=1, replace=1, workers=0).pool_at(0)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        pytest.param("raise", "ZeroDivisionError: walls of no length", marks=pytest.mark.slow),
        ("stop", "no sign of life for 4.5 s"),
        pytest.param("exit", "exit code 3", marks=pytest.mark.slow),
        pytest.param("crash", "SIGSEGV", marks=pytest.mark.slow),
        pytest.param("kill", "SIGKILL", marks=pytest.mark.slow),
        pytest.param("endless", "took longer than 2 s", marks=pytest.mark.slow),
        pytest.param("deadlock", "took longer than 2 s", marks=pytest.mark.slow),
    ],
)
def test_a_worker_that_dies_or_freezes_shows_its_own_traceback(fault, says, monkeypatch):
    # on a busy machine a stopped process wants time to write, and a busy one must not be taken for a stopped one
    monkeypatch.setattr("envs.home_worker.GRACE_S", 3.0 if fault == "stop" else 60.0)
    limit = {"stop": 6.0, "endless": 2.0, "deadlock": 2.0}.get(fault, UNHURRIED)
    worker = HomeWorker(Rooms(fault=fault), {}, home_limit_s=limit, trees=False)
    worker.ask(3)
    while fault == "kill" and "_strange_place" not in worker._stack:
        worker.check()
        time.sleep(0.02)
    if fault == "kill":
        os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match=says) as caught:
        worker.take(3)
    assert caught.value.home == "room-3" and "room-3" in str(caught.value).splitlines()[0]
    if fault != "exit":  # too quick for a heartbeat
        assert "_strange_place" in caught.value.report and "_strange_place" in str(caught.value)
    with pytest.raises(WorkerError, match=says):
        worker.check()
    worker.close()


def test_a_failure_ahead_of_time_is_raised_by_a_later_call_for_the_same_pool():
    seed = next(k for k in range(9) if HomeStream(Rooms(), size=1, seed=k, workers=0).indices(0) != [3])
    options = {"size": 1, "replace": 1, "seed": seed, "ahead": 7, "pictures": False, "home_limit_s": UNHURRIED}
    with HomeStream(Rooms(fault="raise"), **options) as stream:
        stream.pool_at(0)
        with pytest.raises(WorkerError, match="ZeroDivisionError: walls of no length"):
            while True:  # until it comes, or the time limit of every test
                stream.pool_at(0)
                time.sleep(0.01)


@pytest.mark.slow
def test_a_home_that_cannot_be_drawn_is_an_error_too():
    options = {"size": 8, "replace": 0, "home_limit_s": UNHURRIED}
    with HomeStream(Rooms(fault="hollow"), **options) as stream, pytest.raises(WorkerError, match="mesh faces"):
        stream.pool_at(0)


def test_closing_ends_the_process_and_a_closed_stream_says_so():
    stream = HomeStream(Rooms(), size=2, pictures=False)
    pids = stream.worker_pids
    stream.close()
    assert [_runs(pid) for pid in pids] == [False]
    with pytest.raises(InputError, match="closed"):
        stream.pool_at(0)


@pytest.mark.slow
def test_no_worker_outlives_a_killed_parent():
    program = (
        "import time; from envs.home_stream import HomeStream; from tests.envs.test_home_stream import Rooms\n"
        "stream = HomeStream(Rooms(), size=1, pictures=False); stream.pool_at(0)\n"
        "print(stream.worker_pids[0], flush=True); time.sleep(300)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert _runs(pid)
    parent.kill()
    parent.wait()
    while _runs(pid):  # until it has ended, or the time limit of every test
        time.sleep(0.05)


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_folders_and_generated_homes_are_sources(tmp_path):
    for scene in three_homes():
        save_scene(scene, tmp_path)
    save_manifest(
        tmp_path, {"source": "procedural", "splits": {"train": ["home-a", "home-c"]}, "goal_labels": ["sofa"]}
    )
    stream = HomeStream(FolderSource(str(tmp_path)), size=2, workers=0)
    assert (
        sorted(stream.pool_at(0).ids) == ["home-a", "home-c"] and stream.pool_at(0).manifest["source"] == "procedural"
    )
    source = ProceduralSource(seed=7, count=2)
    made = HomeStream(source, size=1, replace=1, workers=0).pool_at(0)
    assert (
        made.ids[0] in (source.name(0), source.name(1)) and source(1).id == source.name(1) == "procedural-train-00008"
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 9}, "size=9"),
        ({"replace": 9}, "replace=9"),
        ({"every": 0}, "every=0"),
        ({"workers": -1}, "workers=-1"),
    ],
)
def test_sizes_that_do_not_fit_together_are_named(options, says):
    with pytest.raises(InputError, match=says):
        HomeStream(Rooms(), **({"size": 4, "replace": 1, "workers": 0} | options))


def test_a_simulator_moves_from_pool_to_pool_and_keeps_the_episodes_of_homes_that_stay():
    stream = HomeStream(Rooms(), size=4, replace=1, workers=0, pictures=False)
    sim = Simulator(stream.pool_at(0), num_envs=32, seed=1, sensors=None)
    state = sim.reset()
    before = [sim.homes.ids[k] for k in state.home.tolist()]
    left = set(stream.pool_at(0).ids) - set(stream.pool_at(1).ids)
    sim, state, gone = sim.moved_to(stream.pool_at(1), state)
    assert gone.tolist() == [name in left for name in before] and gone.any()
    after = [sim.homes.ids[k] for k in state.home.tolist()]
    assert all(one == two for one, two, ended in zip(before, after, gone.tolist()) if not ended)
    state = sim.reset(state, gone)
    _, step = sim.step(state, torch.ones(32, dtype=torch.int64))
    assert torch.isfinite(step.reward).all()


@pytest.mark.slow
def test_pools_of_hundreds_of_homes_and_jumps_between_them():
    with HomeStream(Rooms(count=900), size=400, replace=300, pictures=False, home_limit_s=UNHURRIED) as stream:
        for n in (0, 2, 1):
            assert stream.pool_at(n).ids == [f"room-{k}" for k in stream.indices(n)]


@pytest.mark.slow
def test_memory_stays_flat_over_hundreds_of_homes():
    with HomeStream(ProceduralSource(), size=8, replace=8, every=1, home_limit_s=UNHURRIED) as stream:
        resident = []
        for n in range(40):
            stream.pool_at(n)
            if n in (12, 39):
                resident.append([_resident_mb(pid) for pid in (os.getpid(), *stream.worker_pids)])
    early, late = np.array(resident)
    assert (late < early * 1.15 + 10).all(), (early, late)


def _resident_mb(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
