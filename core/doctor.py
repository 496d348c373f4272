"""`sightline doctor`: what this machine offers, each fault with the command that mends it.

A fault is something broken, a note something absent that limits one feature or the speed. The exit code is 1 only when
a fault stops the core from working.
"""

import ctypes.util
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.job import JobConfig, job_main
from core.packages import describe_foreign, foreign_packages
from core.threads import available_cores

OK, NOTE, FAULT = "ok", "note", "fault"
MIN_PYTHON, MAX_PYTHON = (3, 11), (3, 13)
DEMO_SPACE_GB = 2.0  # what a full demo writes, with room to spare
DATA_FOLDERS = ("procthor_houses", "procthor_db")
REQUIRED = ("torch", "transformers", "gymnasium", "hydra", "omegaconf", "numpy", "scipy", "numba", "safetensors",
            "tokenizers", "pyarrow", "trimesh", "matplotlib", "rich", "jaxtyping")  # fmt: skip
OPTIONAL = {
    "torch_geometric": "graphs as HeteroData and graph networks",
    "stable_baselines3": "training on outside tasks with SB3",
    "wandb": "wandb=offline|online",
    "av": "episode videos in the report",
}


@dataclass
class DoctorConfig(JobConfig):
    """Takes no options of its own."""


CONFIG = DoctorConfig


@dataclass(frozen=True)
class Finding:
    """One line of the table."""

    subject: str
    verdict: str  # ok, note or fault
    found: str
    fix: str = ""
    stops_core: bool = False  # nothing useful runs before this is mended


def run(cfg: DoctorConfig) -> dict[str, Any]:
    """Prints the table; the result holds all findings and the exit code, 1 when something stops the core."""
    findings = examine()
    print(table(findings))
    stopped = any(finding.stops_core for finding in findings)
    return {"findings": [vars(finding) for finding in findings], "exit_code": 1 if stopped else 0}


def examine() -> list[Finding]:
    """All checks, in the order they are worth mending."""
    checks: list[Callable[[], Finding]] = [
        check_python, check_own_packages, check_libraries, check_optional_libraries, check_torch, check_threads,
        check_gpu, check_open3d, check_warp, check_data, check_disk,
    ]  # fmt: skip
    return [check() for check in checks]


def table(findings: list[Finding]) -> str:
    """The findings as aligned text, fixes below their line."""
    width = max(len(finding.subject) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict:<5}  {finding.subject:<{width}}  {finding.found}")
        if finding.fix:
            lines.append(f"{'':<5}  {'':<{width}}  -> {finding.fix}")
    faults = sum(finding.verdict == FAULT for finding in findings)
    notes = sum(finding.verdict == NOTE for finding in findings)
    stopped = any(finding.stops_core for finding in findings)
    verdict = "Sightline cannot run before they are mended" if stopped else "Sightline works here"
    lines += ["", f"{faults} fault(s), {notes} note(s): {verdict}"]
    return "\n".join(lines)


def check_python(version: tuple[int, int] = (sys.version_info[0], sys.version_info[1])) -> Finding:
    """Python 3.11 to 3.13."""
    found = f"{version[0]}.{version[1]}"
    if MIN_PYTHON <= version <= MAX_PYTHON:
        return Finding("Python", OK, found)
    return Finding(
        "Python", FAULT, f"{found}, expected 3.11 to 3.13", "make clean setup PYTHON=python3.12", stops_core=True
    )


def check_own_packages() -> Finding:
    """No foreign package hides one of ours."""
    foreign = foreign_packages()
    if not foreign:
        return Finding("packages", OK, "core, vl, scene, envs, agents and configs are Sightline's own")
    name, place = next(iter(foreign.items()))
    return Finding("packages", FAULT, f"{len(foreign)} hidden", describe_foreign(name, place), stops_core=True)


def check_libraries(names: tuple[str, ...] = REQUIRED) -> Finding:
    """Everything the core imports is installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        return Finding("libraries", FAULT, f"missing: {', '.join(missing)}", "make setup", stops_core=True)
    return Finding("libraries", OK, f"{len(names)} required ones are installed")


def check_optional_libraries() -> Finding:
    """Libraries that single features need."""
    missing = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]
    if not missing:
        return Finding("more libraries", OK, ", ".join(OPTIONAL))
    found = "; ".join(f"without {name}: no {OPTIONAL[name]}" for name in missing)
    return Finding("more libraries", NOTE, found, "make setup")


def check_torch() -> Finding:
    """Torch loads; says whether it is a build for CPU or CUDA."""
    try:
        import torch
    except ImportError as error:
        return Finding("torch", FAULT, f"does not load: {error}", "make setup", stops_core=True)
    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for CPU"
    return Finding("torch", OK, f"{torch.__version__}, {build}")


def check_threads() -> Finding:
    """Cores, threads, and whether idle threads sleep."""
    cores = available_cores()
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    threads = os.environ.get("OMP_NUM_THREADS", "")
    found = f"{cores} core(s), OMP_NUM_THREADS={threads or 'unset'}, OMP_WAIT_POLICY={policy or 'unset'}"
    if threads.isdigit() and int(threads) > cores:
        return Finding("threads", NOTE, f"{found}: more threads than cores", f"export OMP_NUM_THREADS={cores}")
    if policy.lower() != "passive":
        return Finding("threads", NOTE, f"{found}: idle threads keep a core busy", "export OMP_WAIT_POLICY=passive")
    return Finding("threads", OK, found)


def check_gpu() -> Finding:
    """A CUDA device that torch can use; none is needed."""
    if importlib.util.find_spec("torch") is None:
        return Finding("GPU", NOTE, "not looked for, torch is missing")
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding("GPU", OK, f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
    if shutil.which("nvidia-smi") and not torch.version.cuda:
        fix = "pip install torch --index-url https://download.pytorch.org/whl/cu128"
        return Finding("GPU", NOTE, "there is one, but torch is the CPU build", fix)
    return Finding("GPU", OK, "none; everything runs on the CPU")


def check_open3d(
    command: tuple[str, ...] = (sys.executable, "-c", "import open3d; print(open3d.__version__)"),
) -> Finding:
    """Open3D, the ray caster on CPU, loads; tried in a process of its own, since a bad library can end it."""
    subject = "Open3D"
    if importlib.util.find_spec("open3d") is None:
        return Finding(subject, FAULT, "not installed: no rendering on the CPU", "make setup")
    try:
        tried = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(subject, NOTE, f"could not be tried: {error}")
    if tried.returncode == 0:
        return Finding(subject, OK, tried.stdout.strip().splitlines()[-1] if tried.stdout.strip() else "loads")
    reason = tried.stderr.strip().splitlines()[-1] if tried.stderr.strip() else f"exit code {tried.returncode}"
    if "libusb" in reason or ctypes.util.find_library("usb-1.0") is None:
        fix = "sudo apt-get install -y --no-install-recommends libusb-1.0-0"
        return Finding(subject, FAULT, "a system library is missing (libusb-1.0): no rendering on the CPU", fix)
    return Finding(subject, FAULT, f"does not load: {reason}", "pip install --force-reinstall open3d-cpu")


def check_warp() -> Finding:
    """Warp, the ray caster on CUDA; only useful with a GPU."""
    if importlib.util.find_spec("warp") is not None:
        return Finding("Warp", OK, _version_of("warp-lang"))
    if shutil.which("nvidia-smi") is None:
        return Finding("Warp", OK, "not installed, and no GPU here to use it")
    return Finding("Warp", NOTE, "not installed: no rendering on the GPU", "pip install -e '.[cuda]'")


def check_data() -> Finding:
    """Real layouts below SIGHTLINE_DATA; the procedural homes need none."""
    folder = os.environ.get("SIGHTLINE_DATA", "")
    if not folder:
        return Finding("data", NOTE, "SIGHTLINE_DATA is unset: procedural homes only", "export SIGHTLINE_DATA=FOLDER")
    path = Path(folder).expanduser()
    if not path.is_dir():
        return Finding("data", NOTE, f"SIGHTLINE_DATA={folder} is no folder", "export SIGHTLINE_DATA=FOLDER")
    there = [name for name in DATA_FOLDERS if (path / name).exists()]
    absent = [name for name in DATA_FOLDERS if name not in there]
    if absent:
        return Finding("data", NOTE, f"{path}: without {', '.join(absent)}", f"put {absent[0]}/ into {path}")
    return Finding("data", OK, f"{path}: {', '.join(there)}")


def check_disk(folder: Path | None = None, needed_gb: float = DEMO_SPACE_GB) -> Finding:
    """Room where runs are written, and whether writing works."""
    folder = folder or Path.cwd()
    free_gb = shutil.disk_usage(folder).free / 1e9
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding(
            "disk", NOTE, f"cannot write to {folder}: {error.strerror}", "start from a folder of yours, or give out="
        )
    if free_gb < needed_gb:
        found = f"{free_gb:.1f} GB free in {folder}, the demo wants {needed_gb:.0f} GB"
        return Finding("disk", NOTE, found, "free some space, or give out= on another disk")
    return Finding("disk", OK, f"{free_gb:.0f} GB free in {folder}")


def _version_of(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "installed"


if __name__ == "__main__":
    job_main("doctor")
