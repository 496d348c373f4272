import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from agents.stages import Stages
from core.files import atomic_write
from core.job import JobConfig


@dataclass
class DoubleConfig(JobConfig):
    number: int = 1
    source: str = ""


calls: list[int] = []


def double(cfg: DoubleConfig) -> dict:
    """A job that leaves a half-written folder behind when its number is negative."""
    calls.append(cfg.number)
    Path(cfg.out).mkdir(parents=True, exist_ok=True)
    Path(cfg.out, "begun").touch()
    if cfg.number < 0:
        raise KeyboardInterrupt
    result = {"twice": 2 * cfg.number}
    atomic_write(Path(cfg.out) / "result.json", json.dumps(result))
    return result


def stages(root: Path, resume: str = "no", seed: int = 0) -> Stages:
    return Stages(root, resume, shared={"seed": seed}, announce=lambda line: None)


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


def test_a_finished_stage_is_taken_from_its_folder_and_the_job_does_not_run_again(tmp_path):
    first = stages(tmp_path).run("double", double, DoubleConfig(number=3))
    again = stages(tmp_path).run("double", double, DoubleConfig(number=3))
    assert calls == [3]
    assert (first.cached, again.cached) == (False, True)
    assert again.result == first.result == {"twice": 6}
    assert again.seconds == pytest.approx(first.seconds)


def test_where_a_job_writes_is_no_input_but_its_numbers_seed_files_and_upstream_stages_are(tmp_path):
    data = tmp_path / "data.txt"
    data.write_text("one")
    root = tmp_path / "stages"
    base = stages(root).run("double", double, DoubleConfig(number=3), files=(str(data),))
    assert stages(root).run("double", double, DoubleConfig(number=3, out="else"), files=(str(data),)).cached

    other_seed = stages(root, seed=1).run("double", double, DoubleConfig(number=3), files=(str(data),))
    fed = stages(root).run("double", double, DoubleConfig(number=3), source=base, files=(str(data),))
    fed_other = stages(root).run("double", double, DoubleConfig(number=3), source=other_seed, files=(str(data),))
    data.write_text("two")
    other_file = stages(root).run("double", double, DoubleConfig(number=3), files=(str(data),))
    folders = {stage.folder for stage in (base, other_seed, fed, fed_other, other_file)}
    assert len(folders) == 5


def test_an_interrupted_stage_is_continued_in_place_or_started_anew(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        stages(tmp_path).run("double", double, DoubleConfig(number=-1))
    (folder,) = tmp_path.iterdir()
    (folder / "progress").touch()
    with pytest.raises(KeyboardInterrupt):
        stages(tmp_path, resume="auto").run("double", double, DoubleConfig(number=-1))
    assert (folder / "progress").exists()
    with pytest.raises(KeyboardInterrupt):
        stages(tmp_path).run("double", double, DoubleConfig(number=-1))
    assert not (folder / "progress").exists()
