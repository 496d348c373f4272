"""A process that prepares homes in the background, and what the main process sees of it.

The process is a fresh interpreter (no fork, no import of the main script) that answers numbers with prepared homes.
Whatever happens to it ends in a `WorkerError` that carries its own traceback, never in a wait without end:

- an exception in a home: its traceback travels back, and the process stops;
- a home that takes longer than its limit (deadlock, endless loop, a call that never returns): a watchdog thread of C,
  which needs no interpreter lock, writes the stacks of all threads and ends the process (faulthandler);
- a crash (segmentation fault, abort): faulthandler writes the stacks;
- killed from outside, or ended by a library: a heartbeat brought the stack a fraction of a second before;
- stopped from outside (SIGSTOP, a debugger): heartbeats stay out; it is woken to write its stacks, and killed.

The process ends by itself when its parent is gone, in whatever way.
"""

import contextlib
import faulthandler
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from multiprocessing.connection import Connection, Pipe
from tempfile import TemporaryFile
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from envs.pool import Home
    from scene.types import Scene

BEAT_S = 0.25
START_LIMIT_S = 60.0  # of silence before the first home: loading libraries holds the interpreter lock
SILENCE = 0.75  # of the time a home may take: with waking and writing, 8 s become less than 10
IN_FLIGHT = 4
GRACE_S = 1.0  # for a process that is asked for its stacks
REPORT_CHARS = 8_000  # of what the process wrote that an error quotes


class HomeSource(Protocol):
    """Homes by number; plain data that pickles, of a class that can be imported (ProceduralSource, FolderSource)."""

    @property
    def count(self) -> int:
        """How many homes there are."""
        ...

    @property
    def manifest(self) -> dict[str, Any]:
        """What tasks take their vocabulary from: goal_labels, goal_colors, palette (scene/io.py)."""
        ...

    def name(self, index: int) -> str:
        """What errors call home `index`."""
        ...

    def __call__(self, index: int) -> "Scene":
        """Home `index`, always the same."""
        ...


class WorkerError(RuntimeError):
    """A process that prepares homes failed; the message's first line says how and at which home, its traceback follows.

    Attributes:
        home: name of the home it was preparing, "" when it was not.
        report: what the process itself had to say: its traceback.
    """

    def __init__(self, what: str, home: str, report: str) -> None:
        super().__init__(f"{what}\n--- the worker's own traceback ---\n{report or '(it left none)'}")
        self.home, self.report = home, report


def prepare_homes(source: HomeSource, index: int, options: dict[str, Any]) -> "tuple[list[Home], str]":
    """The homes of one scene (one a storey), and why there is none where no agent fits.

    Args:
        options: of envs.pool.make_homes.
    """
    from core.errors import InputError
    from envs.pool import make_homes

    scene = source(index)
    try:
        return make_homes(scene, **options), ""
    except InputError as error:
        return [], str(error)


def build_trees(homes: "list[Home]") -> None:
    """Search trees for pictures, now instead of on first use."""
    for home in homes:
        _ = home.prepared, home.interactive and home.moving


class HomeWorker:
    """The main process's end: asks for homes by number and keeps those that came until they are taken.

    Args:
        home_limit_s: seconds one home may take; three quarters of it are the longest silence.
        trees: search trees for pictures are built here, in the thread that receives homes.
    """

    def __init__(self, source: HomeSource, options: dict[str, Any], home_limit_s: float, trees: bool) -> None:
        self.source, self.home_limit_s, self._trees = source, home_limit_s, trees
        self._ready: dict[int, tuple[list[Home], str]] = {}  # by source number
        self._queue: deque[int] = deque()  # to be sent
        self._asked: set[int] = set()  # sent and not yet answered
        self._wanted: set[int] = set()  # what is kept when it comes
        self._news = threading.Condition()  # guards what both threads write
        self._building = False  # the receiving thread is at a search tree and does not listen
        self._started, self._closed, self._at, self._stack = False, False, -1, ""
        self._failure: WorkerError | None = None
        self._seen = time.monotonic()
        ours, theirs = Pipe()
        self._stderr = TemporaryFile()  # noqa: SIM115  # closed with the worker
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        quiet = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "envs.home_worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._stderr,
            stderr=self._stderr,
            env=os.environ | quiet | {"PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C and Ctrl-Z are for the main process
        )
        theirs.close()
        self._connection = ours
        self._connection.send_bytes(pickle.dumps((source, options, home_limit_s)))
        self._thread = threading.Thread(target=self._receive, name="home worker", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Process number."""
        return self._process.pid

    def ask(self, index: int) -> None:
        """Queues a home, unless it is queued or here already."""
        with self._news:
            self._wanted.add(index)
            if index not in self._asked and index not in self._ready and index not in self._queue:
                self._queue.append(index)
                self._send_next()

    def _send_next(self) -> None:
        """Keeps few numbers on their way: a full pipe to a frozen process would block."""
        while self._queue and len(self._asked) < IN_FLIGHT:
            index = self._queue.popleft()
            self._asked.add(index)
            with contextlib.suppress(OSError):  # it is gone; check() says why
                self._connection.send_bytes(pickle.dumps(index))

    def take(self, index: int) -> "tuple[list[Home], str]":
        """Waits for a home that was asked for, and forgets it. Raises WorkerError."""
        while True:
            with self._news:
                self._news.wait_for(lambda: index in self._ready or self._failure is not None, timeout=BEAT_S)
                if index in self._ready:
                    self._wanted.discard(index)
                    return self._ready.pop(index)
            self.check()

    def keep_only(self, wanted: set[int]) -> None:
        """Forgets homes that came or will come but are none of these."""
        with self._news:
            self._wanted &= wanted
            self._queue = deque(index for index in self._queue if index in wanted)
            self._ready = {index: homes for index, homes in self._ready.items() if index in wanted}

    def check(self) -> None:
        """Raises WorkerError when the process has failed or shows no sign of life."""
        with self._news:
            limit = SILENCE * self.home_limit_s if self._started else START_LIMIT_S
            silent = self._failure is None and not self._building and time.monotonic() - self._seen > limit
            if silent:  # unless it was this process that slept: then a beat is on its way
                before = self._seen
                self._news.wait_for(lambda: self._seen != before or self._failure is not None, GRACE_S)
                silent = self._seen == before and self._failure is None
        if silent:
            self._end_frozen(limit)
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Ends the process; nothing is left of it."""
        self._closed = True
        self._process.kill()
        self._process.wait()
        self._thread.join(timeout=10)
        self._stderr.close()

    def _receive(self) -> None:
        """Takes in what the process sends until it ends."""
        while True:
            try:
                content = self._connection.recv_bytes()
            except (EOFError, OSError):
                break
            try:
                self._take_in(*pickle.loads(content))  # from our own child, over a private pipe
            except Exception as error:  # a search tree that cannot be built: told like a fault of the worker
                with self._news:
                    self._fail(f"a prepared home does not work: {error}", -1, traceback.format_exc())
                    self._news.notify_all()
                self._process.kill()
        if not self._closed:
            self._say_how_it_ended(self._process.wait())
        self._connection.close()

    def _take_in(self, kind: str, *rest: Any) -> None:
        if kind == "home" and self._trees:
            self._building = True
            build_trees(rest[1])
        with self._news:
            self._seen, self._building = time.monotonic(), False
            if kind == "ready":
                self._started = True
            elif kind == "beat":
                self._at, self._stack = rest
            elif kind == "home":
                self._asked.discard(rest[0])
                self._send_next()
                if rest[0] in self._wanted:
                    self._ready[rest[0]] = (rest[1], rest[2])
            elif kind == "failed":
                index, line, report = rest
                self._fail(f"preparing home {self._name(index)} failed: {line}", index, report)
            self._news.notify_all()

    def _say_how_it_ended(self, code: int) -> None:
        report = self._written()
        with self._news:
            name = self._name(self._at)
            if "Timeout (" in report:
                how = f"preparing home {name} took longer than {self.home_limit_s:g} s (home_limit_s)"
            elif code < 0:
                reason = " (killed from outside; out of memory?)" if -code == signal.SIGKILL else ""
                how = f"the process that prepares homes died by {signal.Signals(-code).name}{reason} at home {name}"
            else:
                how = f"the process that prepares homes ended with exit code {code} at home {name}"
            self._fail(how, self._at, report or f"(it wrote nothing; its last sign of life came from)\n{self._stack}")
            self._news.notify_all()

    def _end_frozen(self, limit: float) -> None:
        """Wakes a silent process to write its stacks, then ends it."""
        before = len(self._written())
        for sign in (signal.SIGUSR1, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(sign)
        deadline = time.monotonic() + GRACE_S
        while time.monotonic() < deadline and len(self._written()) == before:
            time.sleep(0.02)
        time.sleep(0.05)  # the rest of what it is writing
        report = self._written()
        with self._news:
            at, stack = self._at, self._stack
            what = f"the process that prepares homes gave no sign of life for {limit:g} s at home {self._name(at)}"
            self._failure = None  # waking may have let its watchdog strike: the silence came first
            self._fail(what, at, f"{report}Its last sign of life came from\n{stack}")
        self._process.kill()

    def _fail(self, what: str, index: int, report: str) -> None:
        if self._failure is None:
            self._failure = WorkerError(what, self._name(index) if index >= 0 else "", report)

    def _name(self, index: int) -> str:
        return self.source.name(index) if index >= 0 else "(none yet)"

    def _written(self) -> str:
        size = os.fstat(self._stderr.fileno()).st_size
        return os.pread(self._stderr.fileno(), REPORT_CHARS, max(0, size - REPORT_CHARS)).decode(errors="replace")


class _Child:
    """The process itself: one loop that prepares, one thread that shows it is alive."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.sending = connection, threading.Lock()
        self.parent, self.main_thread, self.at = os.getppid(), threading.get_ident(), -1
        threading.Thread(target=self.beat, daemon=True).start()

    def send(self, *message: Any) -> None:
        content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        with self.sending:
            self.connection.send_bytes(content)

    def beat(self) -> None:
        """Sends where the loop is; ends the process when the parent is gone."""
        while os.getppid() == self.parent:
            frame: FrameType | None = sys._current_frames().get(self.main_thread)
            try:
                self.send("beat", self.at, "".join(traceback.format_stack(frame)))
            except OSError:
                break
            time.sleep(BEAT_S)
        os._exit(1)

    def loop(self) -> None:
        source, options, limit_s = pickle.loads(self.connection.recv_bytes())
        import envs.pool  # noqa: F401  # before the clock of the first home starts

        self.send("ready")
        while True:
            index = pickle.loads(self.connection.recv_bytes())
            self.at = index
            self.send("beat", index, "(it had just begun)")
            faulthandler.dump_traceback_later(limit_s, exit=True)
            try:
                homes, reason = prepare_homes(source, index, options)
            except Exception as error:
                self.send("failed", index, f"{type(error).__name__}: {error}", traceback.format_exc())
                return
            finally:
                faulthandler.cancel_dump_traceback_later()
            self.send("home", index, homes, reason)


def main() -> None:
    """Runs in the fresh process; argument: file number of the pipe to the parent."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    child = _Child(Connection(int(sys.argv[1])))
    with contextlib.suppress(EOFError):  # the parent closed its end: done
        child.loop()


if __name__ == "__main__":
    main()
