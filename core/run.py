"""The folder of one run: what was asked, by which code, what came out; and continuing it after a crash.

config.yaml     the resolved configuration          version.json    code, Python, torch, threads, platform
metrics.jsonl   one JSON object per logged step     checkpoints/    see core/checkpoint.py
result.json     written last: its presence means the run is finished
"""

import fcntl
import importlib.metadata
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from core.errors import InputError
from core.files import TEMPORARY, atomic_write, plain, read_json
from core.threads import granted

if TYPE_CHECKING:
    from core.job import JobConfig

# what may change between the parts of one run
UNCOMPARED = {"out", "resume", "threads", "device", "wandb", "workers", "engine"}
CONFIG, VERSION, METRICS, RESULT, LOCK = "config.yaml", "version.json", "metrics.jsonl", "result.json", ".lock"
_cut_off: list["RunFolder"] = []  # closed by an exception, innermost first
_last_finished: Path | None = None  # the outermost job of this process finishes last
_open_runs: dict[Path, "RunFolder"] = {}  # of this process, in the order they were opened


class RunFolder:
    """An open run folder. Only one process may have it open; `finish` or `close` gives it free."""

    def __init__(self, path: Path, job: str, lock: IO[str]) -> None:
        from core.checkpoint import Checkpoints

        self.path = path
        self.job = job
        self.out = str(path)  # what continues this run when given as out=
        self.fresh = True  # nothing but its description is in it yet; see `discard_fresh`
        self.checkpoints = Checkpoints(path / "checkpoints")
        self._lock: IO[str] | None = lock
        self._metrics: IO[bytes] | None = None
        self._wandb: Any = None

    @classmethod
    def open(cls, cfg: "JobConfig", job: str) -> "RunFolder":
        """Makes the run folder of a configuration, or opens an existing one again when `cfg.resume` is "auto".

        Without `cfg.out` the folder is runs/<job>/<date-time>; resume=auto then takes the newest unfinished run there
        that has the same configuration.

        Raises:
            InputError: the folder holds a run and resume is "no"; it holds another job or configuration (the message
                names the differing keys), or something that is no run; or another process is writing there.
        """
        path = _choose_folder(cfg, job)
        if path.exists() and not path.is_dir():
            raise InputError(f"out={path} is a file; name a folder")
        if path.is_dir() and _has_content(path):
            _check_continues(path, cfg, job)
        known = path.is_dir() and _has_content(path)
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path, job, _take_lock(path))
        run.out = cfg.out or run.out
        run.fresh = not known
        try:
            run._record(cfg)
        except BaseException:
            run.close()
            raise
        _open_runs[path.resolve()] = run
        return run

    def file(self, name: str) -> Path:
        """Path of a file in the run folder; its parent folders are made."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def log(self, step: int, **metrics: Any) -> None:
        """Appends one row to metrics.jsonl, and to wandb where asked. Values: numbers, text, or 0-d arrays."""
        row = {"step": int(step), **{name: plain(value) for name, value in metrics.items()}}
        if self._metrics is None:
            self._metrics = open(self.path / METRICS, "ab", buffering=0)  # noqa: SIM115  # stays open until close()
        self._metrics.write(json.dumps(row).encode() + b"\n")  # one write per row: a kill tears at most the last one
        if self._wandb is not None:
            self._wandb.log({name: value for name, value in row.items() if name != "step"}, step=row["step"])

    def rows(self) -> list[dict[str, Any]]:
        """All logged rows in order."""
        return read_metrics(self.path)

    def rewind(self, step: int) -> None:
        """Drops rows logged after `step`; call it when continuing from the checkpoint of that step."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        path = self.path / METRICS
        if path.is_file():
            kept = [row for row in read_metrics(self.path) if row["step"] <= step]
            atomic_write(path, "".join(json.dumps(row) + "\n" for row in kept))

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Writes result.json, which marks the run as finished, closes the folder and returns the result."""
        global _last_finished
        result = plain(result)
        atomic_write(self.path / RESULT, json.dumps(result, indent=2) + "\n")
        if self._wandb is not None:
            self._wandb.summary.update(result)
        self.close()
        _last_finished = self.path
        return result

    def result(self) -> dict[str, Any] | None:
        """What `finish` wrote, or None while the run is unfinished."""
        path = self.path / RESULT
        return read_json(path, "run result") if path.exists() else None

    def close(self) -> None:
        """Gives the folder free for other processes; the run can be continued later."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        if self._wandb is not None:
            self._wandb.finish()
            self._wandb = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        _open_runs.pop(self.path.resolve(), None)

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *fault: object) -> None:
        if fault[0] is not None:
            _cut_off.append(self)
        self.close()

    def _record(self, cfg: "JobConfig") -> None:
        for leftover in self.path.glob(f".*{TEMPORARY}*"):
            leftover.unlink(missing_ok=True) if leftover.is_file() else None
        version = describe_version()
        config_file = self.path / CONFIG
        _drop_torn_line(self.path / METRICS)
        if config_file.exists():
            before = read_json(self.path / VERSION, "version record")
            changed = [
                f"{name} {before.get(name)} -> {version[name]}"
                for name in ("code", "torch", "threads")
                if before.get(name) != version[name]
            ]
            if changed and not (self.path / RESULT).exists():
                print(f"note: continuing {self.path} under a changed setting: {', '.join(changed)}; "
                      "the numbers may differ in their last digits", file=sys.stderr)  # fmt: skip
        else:
            atomic_write(self.path / VERSION, json.dumps({"job": self.job, **version}, indent=2) + "\n")
            atomic_write(config_file, _config_text(cfg, self.job))
        if cfg.wandb != "off" and self.result() is None:
            self._wandb = _start_wandb(cfg, self.job, self.path)


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl; a last line torn by a kill is left out, no file means no rows.

    Raises:
        InputError: a line in the middle is damaged.
    """
    path = Path(folder) / METRICS
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is empty or torn
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number} is damaged: {line[:60]!r}") from error
        rows.append(row)
    return rows


def _drop_torn_line(path: Path) -> None:
    """Cuts off what follows the last newline, the mark of a process that was killed while writing a row."""
    if path.is_file():
        whole = path.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end != len(whole):
            os.truncate(path, end)


def describe_version() -> dict[str, Any]:
    """Code version, Python, torch, threads and machine of this process."""
    root = Path(__file__).resolve().parents[1]
    code = importlib.metadata.version("sightline") if _is_installed("sightline") else "unknown"
    if (root / ".git").exists():
        try:
            described = subprocess.run(
                ["git", "-C", str(root), "describe", "--always", "--dirty", "--tags"],
                capture_output=True, text=True, timeout=20, check=True,
            )  # fmt: skip
            code = f"{code}+{described.stdout.strip()}"
        except (OSError, subprocess.SubprocessError):
            pass  # no git here, or not our repository: the package version stands
    import torch

    return {
        "code": code,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": granted(),
        "platform": platform.platform(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def unfinished_run() -> RunFolder | None:
    """The outermost run of this process that is open or was cut off by an exception, None when there is none."""
    return next(iter(_open_runs.values()), None) or (_cut_off[-1] if _cut_off else None)


def last_finished() -> Path | None:
    """Folder of the run that this process finished last."""
    return _last_finished


def close_all() -> None:
    """Closes what is open and forgets what was cut off."""
    for run in list(_open_runs.values()):
        run.close()
    _cut_off.clear()


def discard_fresh() -> None:
    """Removes the run folders this process made and in which nothing happened: wrong input leaves nothing behind."""
    for run in [*_open_runs.values(), *_cut_off]:
        content = {item.name for item in run.path.iterdir()} if run.path.is_dir() else set()
        if run.fresh and content <= {CONFIG, VERSION, LOCK}:
            run.close()
            shutil.rmtree(run.path, ignore_errors=True)


def check_free(path: Path) -> None:
    """Raises InputError when another process is writing to the run folder at `path`."""
    if (path / LOCK).exists():
        _take_lock(path).close()


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _choose_folder(cfg: "JobConfig", job: str) -> Path:
    if cfg.out:
        return Path(cfg.run_folder).expanduser()
    parent = Path("runs") / job
    if cfg.resume == "auto" and parent.is_dir():
        for path in sorted(parent.iterdir(), reverse=True):  # names are times: newest first
            if (path / CONFIG).is_file() and not (path / RESULT).exists() and not _differences(path, cfg):
                print(f"continuing {path}", file=sys.stderr)
                return path
        print(f"no unfinished run of this configuration in {parent}: starting a new one", file=sys.stderr)
    name = time.strftime("%Y-%m-%d_%H-%M-%S")
    path = parent / name
    count = 2
    while path.exists():
        path = parent / f"{name}-{count}"
        count += 1
    return path


def _has_content(path: Path) -> bool:
    """Whether a folder holds more than what a run leaves that was killed before its configuration was written."""
    return any(not item.name.startswith(".") and item.name != VERSION for item in path.iterdir())


def _check_continues(path: Path, cfg: "JobConfig", job: str) -> None:
    if not (path / CONFIG).is_file():
        raise InputError(f"out={path} is not empty and not a run folder (no {CONFIG}); choose another")
    if cfg.resume != "auto":
        state = "a finished" if (path / RESULT).exists() else "an unfinished"
        raise InputError(
            f"out={path} already holds {state} run; add resume=auto to continue it, or choose another out="
        )
    before = read_config(path)
    if before.get("job") != job:
        raise InputError(f"out={path} holds a run of {before.get('job')}, not of {job}; choose another out=")
    changed = _differences(path, cfg)
    if changed:
        raise InputError(
            f"out={path} was started with another configuration: {'; '.join(changed)}. "
            "Give the same values to continue it, or choose another out="
        )


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(config, dict) and (config or not prefix):
        return {key: value for name, item in config.items() for key, value in _flat(item, f"{prefix}{name}.").items()}
    return {prefix[:-1]: config}


def _differences(path: Path, cfg: "JobConfig") -> list[str]:
    before = {key: value for key, value in read_config(path).items() if key not in {"job", *UNCOMPARED}}
    now = {key: value for key, value in plain(cfg).items() if key not in UNCOMPARED}
    old, new = _flat(before), _flat(now)
    absent = object()
    return [
        f"{key} was {old.get(key, 'absent')!r}, now {new.get(key, 'absent')!r}"
        for key in sorted(old.keys() | new.keys())
        if not _same(old.get(key, absent), new.get(key, absent))
    ]


def _same(a: Any, b: Any) -> bool:
    return a == b or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))


def _config_text(cfg: "JobConfig", job: str) -> str:
    import yaml

    return f"# sightline {job}\n" + yaml.safe_dump({"job": job, **plain(cfg)}, sort_keys=False, allow_unicode=True)


def read_config(path: Path) -> dict[str, Any]:
    """The resolved configuration of a run folder, with `job`.

    Raises:
        InputError: not there, or damaged.
    """
    import yaml

    file = path / CONFIG
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{file} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{file} is damaged: it holds no keys")
    return config


def _take_lock(path: Path) -> IO[str]:
    earlier = _open_runs.get(path.resolve())
    if earlier is not None:  # left open by a job of this process that failed
        earlier.close()
    lock = open(path / LOCK, "a+", encoding="ascii")  # noqa: SIM115  # held open as long as the run is
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise InputError(
            f"another process (id {holder}) is writing to {path}; wait for it, or choose another out="
        ) from error
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _start_wandb(cfg: "JobConfig", job: str, path: Path) -> Any:
    from core.errors import MissingLibraryError

    try:
        import wandb
    except ImportError as error:
        raise MissingLibraryError("wandb is not installed; pip install wandb, or use wandb=off") from error
    mode: Any = cfg.wandb
    try:
        return wandb.init(
            project="sightline",
            name=f"{job}/{path.name}",
            dir=str(path),
            mode=mode,
            config=plain(cfg),
            settings=wandb.Settings(silent=True, quiet=True, console="off"),
        )
    except wandb.errors.Error as error:  # not logged in, no network
        raise InputError(f"wandb={cfg.wandb}: {error}; log in with `wandb login`, or use wandb=offline") from error
