"""Jobs in a row, each cached by the hash of what goes into it.

A stage is a job run into a folder of its own, `<root>/<name>-<hash>`. The hash covers the job's configuration, the
stages it reads, the files it is given and the code it runs, so a finished stage is re-used exactly when running it
again would give the same. An unfinished one is continued (`resume="auto"`) or started anew.
"""

import json
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from core.conventions import __file__ as conventions_file
from core.errors import MissingFileError
from core.files import atomic_write, fingerprint, folder_fingerprint, plain, read_json
from core.job import JobConfig

PACKAGES = ("core", "vl", "scene", "envs", "agents")  # lowest first
NOT_AN_INPUT = ("out", "resume", "wandb")  # where and how a job runs, never what it computes


@dataclass(frozen=True)
class Stage:
    """A finished stage."""

    name: str
    folder: Path
    result: dict[str, Any]  # what the job's run() returned
    seconds: float  # wall time when it was computed
    cached: bool  # True when nothing ran this time

    @property
    def key(self) -> str:
        return self.folder.name


def code_fingerprint(package: str) -> str:
    """Hash of the source of `package` and of all packages it may import; of all of them for a package not ours."""
    root = Path(conventions_file).parents[1]
    used = PACKAGES[: PACKAGES.index(package) + 1] if package in PACKAGES else PACKAGES
    sources = sorted(path for name in used for path in (root / name).rglob("*.py"))
    return fingerprint({str(path.relative_to(root)): folder_fingerprint(path) for path in sources})


class Stages:
    """Runs jobs one after another below `root`, re-using those whose inputs have not changed.

    Args:
        shared: values every stage's configuration takes (seed, threads, device).
        announce: called with a line for the user before each stage.
    """

    def __init__(self, root: Path, resume: str, shared: dict[str, Any], announce: Callable[[str], None]) -> None:
        self.root, self.resume, self.shared, self.announce = root, resume, shared, announce
        self.done: list[Stage] = []

    def run(
        self,
        name: str,
        job: Callable[[Any], dict[str, Any]],
        config: JobConfig,
        files: tuple[str, ...] = (),
        **inputs: Any,
    ) -> Stage:
        """Run or re-use one stage.

        Args:
            config: the job's configuration; `inputs` replace its fields. A Stage as input becomes its folder's path.
            files: outside files the job reads; their content enters the hash.
        """
        package = job.__module__.split(".")[0]
        own = {item.name for item in fields(config)}
        values: dict[str, Any] = {**{key: value for key, value in self.shared.items() if key in own}, **inputs}
        keys = {key: _key(value, self.root) for key, value in values.items()}
        described = plain(config) | keys
        described = {key: value for key, value in described.items() if key not in NOT_AN_INPUT}
        outside = {}
        for path in filter(None, files):
            if not Path(path).expanduser().exists():
                raise MissingFileError(f"{name} reads {path}, which is not there (working folder: {Path.cwd()})")
            outside[path] = folder_fingerprint(Path(path).expanduser())
        digest = fingerprint([name, described, outside, code_fingerprint(package)])
        folder = self.root / f"{name}-{digest}"
        stamp = folder / "stage.json"

        if stamp.exists() and (folder / "result.json").exists():
            stage = Stage(name, folder, read_json(folder / "result.json", "stage result"), **_stamp(stamp), cached=True)
            self.announce(f"{name}: unchanged, taken from {folder.name}")
        else:
            if folder.exists() and self.resume != "auto":
                shutil.rmtree(folder)
            self.announce(name)
            start = time.perf_counter()
            paths: dict[str, Any] = {
                key: str(value.folder) if isinstance(value, Stage) else value for key, value in values.items()
            }
            result = job(replace(config, out=str(folder), resume="auto", **paths))
            seconds = time.perf_counter() - start
            atomic_write(stamp, json.dumps({"seconds": seconds}))
            stage = Stage(name, folder, result, seconds, cached=False)
        self.done.append(stage)
        return stage


def peak_memory_gb() -> float:
    """Largest resident size of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _stamp(path: Path) -> dict[str, float]:
    return {"seconds": float(read_json(path, "stage stamp")["seconds"])}


def _key(value: Any, root: Path) -> Any:
    """What stands for an input in the hash: a stage's own hash, or a path inside a stage relative to the root."""
    if isinstance(value, Stage):
        return value.key
    if isinstance(value, Path) or (isinstance(value, str) and value.startswith(str(root))):
        return str(Path(value).relative_to(root))
    return plain(value)
