"""What all tests share: one thread, no network, and skips that say what is missing."""

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

# before anything loads torch, numba or matplotlib
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("NUMBA_NUM_THREADS", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

LOCAL = ("127.0.0.1", "::1", "localhost")
_connect = socket.socket.connect


def _connect_locally(self: socket.socket, address: object) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple) and address[0] not in LOCAL:
        raise AssertionError(f"a test tried to reach {address}: nothing may dial out")
    _connect(self, address)  # type: ignore[arg-type]


socket.socket.connect = _connect_locally  # type: ignore[method-assign, assignment]


def find_data() -> Path | None:
    """The folder SIGHTLINE_DATA names, None when it is unset or not there."""
    folder = os.environ.get("SIGHTLINE_DATA")
    return Path(folder) if folder and Path(folder).is_dir() else None


@pytest.fixture(autouse=True)
def _no_run_left_open() -> Iterator[None]:
    """A job that a test made fail leaves its run folder open, as in a process that ends; the next test has its own."""
    yield
    if run := sys.modules.get("core.run"):
        run.close_all()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets; skips the test where there is none."""
    folder = find_data()
    if folder is None:
        pytest.skip(f"SIGHTLINE_DATA names no folder ({os.environ.get('SIGHTLINE_DATA', 'unset')})")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a headless browser; skips the test where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium on the PATH: apt-get install chromium")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips marked tests whose device or data is not there."""
    if find_data() is None:
        no_data = pytest.mark.skip(reason="SIGHTLINE_DATA names no folder")
        for item in items:
            if item.get_closest_marker("shared_data"):
                item.add_marker(no_data)
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu:
        import torch

        if not torch.cuda.is_available():
            for item in on_gpu:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
