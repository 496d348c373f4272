"""Jobs in a row, each cached by the hash of what goes into it.

A stage is a job run into a folder of its own, `<root>/<name>-<hash>`. The hash covers the job's configuration, the
stages it reads, the files it is given, the source it runs (its module and all that imports from there, directly or
not), the thread count and the versions of the numeric libraries. A finished stage is re-used when all these are the
same; an unfinished one is continued (`resume="auto"`) or started anew.
"""

import ast
import importlib.metadata
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from core.conventions import __file__ as conventions_file
from core.errors import MissingFileError
from core.files import atomic_write, fingerprint, folder_fingerprint, plain, read_json
from core.job import JobConfig
from core.memory import peak_memory_gb
from core.run import check_free

ROOT = Path(conventions_file).parents[1]
PACKAGES = ("core", "vl", "scene", "envs", "agents")
NUMERIC = ("torch", "numpy", "numba", "transformers", "open3d-cpu")  # their versions may change the last digits
NOT_AN_INPUT = ("out", "resume", "wandb")  # where and how a job runs, never what it computes


@dataclass(frozen=True)
class Stage:
    """A finished stage."""

    name: str
    folder: Path  # what it made
    run_folder: Path  # how it ran: configuration, version, metrics; the same folder for most jobs
    result: dict[str, Any]  # what the job's run() returned
    seconds: float  # wall time it took, over all its parts where it was interrupted
    peak_memory_gb: float  # largest resident size of the process while it ran
    cached: bool  # True when nothing ran this time

    @property
    def key(self) -> str:
        return self.folder.name

    @property
    def code(self) -> str:
        """Version of the code that computed it."""
        file = self.run_folder / "version.json"
        return str(read_json(file, "version record")["code"]) if file.is_file() else "unknown"


@cache
def imported_files(file: Path) -> frozenset[Path]:
    """Our source files that `file` imports, at its top or inside functions, and the packages' own files."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for module in modules:
            parts = module.split(".")
            if parts[0] in PACKAGES:
                steps = [ROOT.joinpath(*parts[:n]) for n in range(1, len(parts) + 1)]
                found |= {path for s in steps for path in (s / "__init__.py", s.with_suffix(".py")) if path.is_file()}
    return frozenset(found)


def code_fingerprint(job: Callable[..., Any]) -> str:
    """Hash of the source that a job's function can reach."""
    start = Path(sys.modules[job.__module__].__file__ or "").resolve()
    reached, waiting = {start}, [start]
    while waiting:
        new = imported_files(waiting.pop()) - reached
        reached |= new
        waiting += new
    names = {str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name: path for path in reached}
    return fingerprint({name: folder_fingerprint(path) for name, path in names.items()})


def numeric_versions() -> dict[str, str]:
    """Versions of the libraries that numbers hang on, of those installed."""
    found = {}
    for name in NUMERIC:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


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
        settings = [torch.get_num_threads(), numeric_versions()]
        digest = fingerprint([name, described, outside, settings, code_fingerprint(job)])
        folder = self.root / f"{name}-{digest}"
        config = replace(config, out=str(folder), resume="auto")
        run_folder = Path(config.run_folder)
        stamp = run_folder / "stage.json"

        spent = read_json(stamp, "stage stamp") if stamp.is_file() else {"seconds": 0.0, "peak_memory_gb": 0.0}
        if spent.get("finished"):
            result = read_json(run_folder / "result.json", "stage result")
            stage = Stage(name, folder, run_folder, result, spent["seconds"], spent["peak_memory_gb"], cached=True)
            self.announce(f"{name}: unchanged, taken from {folder.name}")
        else:
            if run_folder.exists() and self.resume != "auto":
                check_free(run_folder)  # another demo may be at work on the same stage
                shutil.rmtree(run_folder)
                shutil.rmtree(folder, ignore_errors=True)
                spent = {"seconds": 0.0, "peak_memory_gb": 0.0}
            self.announce(name)
            start = time.perf_counter()
            finished = False
            paths: dict[str, Any] = {
                key: str(value.folder) if isinstance(value, Stage) else value for key, value in values.items()
            }
            try:
                result = job(replace(config, **paths))
                finished = True
            finally:  # also when interrupted: the next part adds to it
                spent = {
                    "seconds": spent["seconds"] + time.perf_counter() - start,
                    "peak_memory_gb": max(spent["peak_memory_gb"], peak_memory_gb()),
                }
                if run_folder.is_dir():
                    atomic_write(stamp, json.dumps({**spent, "finished": finished}))
            stage = Stage(name, folder, run_folder, result, spent["seconds"], spent["peak_memory_gb"], cached=False)
        self.done.append(stage)
        return stage


def _key(value: Any, root: Path) -> Any:
    """What stands for an input in the hash: a stage's own hash, or a path inside a stage relative to the root."""
    if isinstance(value, Stage):
        return value.key
    if isinstance(value, Path) or (isinstance(value, str) and value.startswith(str(root))):
        return str(Path(value).relative_to(root))
    return plain(value)
