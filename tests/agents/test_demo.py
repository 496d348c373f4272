"""The whole way on the quick preset: it runs, it shows what it promises, and a killed run ends as if never killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
MEASURED = re.compile(r"second|memory|^loader$")  # what the clock and the machine decide


def command(folder: Path, *words: str) -> list[str]:
    return [
        sys.executable, "-m", "agents.demo", "preset=quick", "threads=1",
        f"out={folder}", f"stages={folder / 'stages'}", *words,
    ]  # fmt: skip


def demo(folder: Path, *words: str) -> dict:
    done = subprocess.run(command(folder, *words), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert str(folder / "report.html") in done.stdout.replace("\n", "")
    return json.loads((folder / "result.json").read_text())


def kill_when(folder: Path, pattern: str, *words: str) -> None:
    """Start the demo and SIGKILL it as soon as a file matching `pattern` exists below its stages."""
    process = subprocess.Popen(
        command(folder, *words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ, text=True
    )
    limit = time.monotonic() + 600
    while not list((folder / "stages").glob(pattern)):
        assert process.poll() is None, f"ended before {pattern} was there: {process.stderr and process.stderr.read()}"
        assert time.monotonic() < limit, f"{pattern} never appeared"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list((folder / "stages").glob(pattern)), "nothing is left to continue from"
    assert not (folder / "result.json").exists()


def numbers(value):
    """A result without what the clock and the place of its folder decide."""
    if isinstance(value, dict):
        return {key: numbers(item) for key, item in value.items() if not MEASURED.search(key)}
    if isinstance(value, str) and "/" in value:
        return Path(value).name
    return [numbers(item) for item in value] if isinstance(value, list) else value


def weights(folder: Path) -> dict[str, bytes]:
    files = (folder / "stages").glob("*/*/*.safetensors")
    return {f"{path.parts[-3]}/{path.name}": path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("demo") / "whole"
    return folder, demo(folder)


def test_the_report_plays_its_videos_and_fetches_nothing(uninterrupted):
    folder, _ = uninterrupted
    page = (folder / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,20})', page)
    assert len([s for s in sources if s.startswith("data:video/mp4")]) >= 2
    assert len([s for s in sources if s.startswith("data:image/png")]) >= 6
    assert all(s.startswith(("data:", "#")) for s in sources)


def test_an_unchanged_demo_takes_every_stage_from_its_cache(uninterrupted, tmp_path):
    folder, result = uninterrupted
    again = tmp_path / "again"
    words = [word for word in command(again) if not word.startswith("stages=")]
    done = subprocess.run([*words, f"stages={folder / 'stages'}"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    second = json.loads((again / "result.json").read_text())
    assert set(second["cached"]) == set(second["results"]) == set(result["results"])
    assert numbers(second["results"]) == numbers(result["results"])


@pytest.mark.timeout(1500)
def test_killed_in_grounding_and_in_the_agent_stage_it_ends_with_the_same_numbers_and_weights(uninterrupted, tmp_path):
    whole, expected = uninterrupted
    folder = tmp_path / "killed"
    kill_when(folder, "grounder-*/checkpoints/step-*")
    kill_when(folder, "agent-vlm-*/checkpoints/step-*", "resume=auto")
    result = demo(folder, "resume=auto")
    assert numbers(result["results"]) == numbers(expected["results"])
    assert weights(folder) == weights(whole) and len(weights(folder)) >= 4


def test_scans_are_refused_because_agents_walk_in_rooms(tmp_path):
    words = command(tmp_path, "source=scannet", f"source.path={tmp_path}")
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and "source='scannet' is unknown; known: procedural, procthor" in done.stderr
    assert list(tmp_path.iterdir()) == []
