"""scene/corpus.py: scans as sources, from the lists of names to built homes."""

import json
from pathlib import Path

import pytest

from core.errors import InputError, MissingFileError
from core.job import load_config
from scene.build import BuildScenesConfig, run
from scene.corpus import SOURCES, Skipped, SourceConfig, Wanted
from scene.datasets import ply, pth
from scene.store import SceneStore
from tests.scene.scan_files import NAME, write_scannet, write_sceneverse

ALL = {"train": 9, "val": 9, "test": 9}


@pytest.fixture
def rscan(tmp_path: Path) -> Path:
    root = tmp_path / "3RScan"
    for name in ("a", "b", "c", "d"):
        write_sceneverse(root, name)
    (root / "annotations/splits/train_split.txt").write_text("a\nb\nc\n")
    (root / "annotations/splits/val_split.txt").write_text("d\nlost\n")
    return root


def test_scans_of_each_split_are_made_one_at_a_time_and_a_lost_one_is_left_out(rscan):
    source = SOURCES["sceneverse"](Wanted(ALL, SourceConfig("sceneverse", str(rscan))))
    assert {split: [name for name, _ in source.makers[split]] for split in ALL} == {
        "train": ["a", "b"],
        "val": ["c"],
        "test": ["d", "lost"],
    }
    scene, lost = source.homes("test")
    assert scene.id == "d" and isinstance(lost, Skipped) and "point cloud not found" in lost.reason
    fewer = SOURCES["sceneverse"](Wanted({"train": 1}, SourceConfig("sceneverse", str(rscan))))
    assert list(fewer.makers) == ["train"] and fewer.count("train") == 1


def test_building_a_source_reads_no_scan(rscan, tmp_path, monkeypatch):
    root = write_scannet(tmp_path / "scannet")
    (root / "scannetv2_val.txt").write_text(f"{NAME}\n")

    def never(*_):
        raise AssertionError("a scan was read")

    monkeypatch.setattr("scene.datasets.sceneverse.read_pth", never)
    monkeypatch.setattr("scene.datasets.scannet.read_ply", never)
    SOURCES["sceneverse"](Wanted(ALL, SourceConfig("sceneverse", str(rscan))))
    source = SOURCES["scannet"](Wanted(ALL, SourceConfig("scannet", str(root))))
    assert {split: source.count(split) for split in ALL} == {"train": 0, "val": 0, "test": 1}
    with pytest.raises(AssertionError):
        list(source.homes("test"))
    assert ply.read_ply is not never and pth.read_pth is not never


def test_options_reach_the_loaders(rscan, tmp_path):
    root = write_scannet(tmp_path / "scannet")
    (root / "scannetv2_val.txt").write_text(f"{NAME}\n")
    config = SourceConfig("scannet", str(root), labels="nyu40")
    assert next(SOURCES["scannet"](Wanted(ALL, config)).homes("test")).labels == ["chair", "table"]
    moved = rscan.rename(rscan.with_name("mine"))
    write_sceneverse(moved, "d", labels={3: "chair", 99: "lamp"})
    config = SourceConfig("sceneverse", str(moved), dataset="3RScan", unmatched="drop")
    with pytest.warns(UserWarning, match="3 instance ids without a label .* 1 labels without a point"):
        assert next(SOURCES["sceneverse"](Wanted(ALL, config)).homes("test")).labels == ["chair"]


def test_wrong_settings_stop_before_anything_is_read(tmp_path):
    for words, message in (
        (["source=sceneverse"], r"needs source\.path=FOLDER"),
        (["source=scannet", "source.path=x", "source.labels=nyu"], "did you mean 'nyu40'"),
        (["source=scannet", "source.path=x", "source.unmatched=drob"], "did you mean 'drop'"),
    ):
        with pytest.raises(InputError, match=message):
            load_config("build-scenes", BuildScenesConfig, words)
    for name in ("sceneverse", "scannet"):
        with pytest.raises(MissingFileError, match="not found"):
            SOURCES[name](Wanted(ALL, SourceConfig(name, str(tmp_path / "none"))))


def test_scans_build_into_homes_with_sentences(rscan, tmp_path):
    (rscan / "scan_data/instance_id_to_label/b.pth").write_bytes(b"nonsense")
    out = tmp_path / "homes"
    words = ["source=sceneverse", f"source.path={rscan}", f"out={out}"]
    result = run(load_config("build-scenes", BuildScenesConfig, words))
    assert result["train"]["homes"] == 1 and "b.pth" in result["train"]["skipped_reasons"]["b"]
    assert result["test"]["homes"] == 1 and list(result["test"]["skipped_reasons"]) == ["lost"]
    store = SceneStore(out)
    assert store.splits == {"train": ["a"], "val": ["c"], "test": ["d"]}
    assert store.load("a").points is not None and store.load("a").objects[1].source_id == "12"
    assert json.loads((out / "manifest.json").read_text())["source"] == "sceneverse"


@pytest.mark.parametrize("name", ["procedural", "procthor", "sceneverse", "scannet"])
def test_the_command_on_a_sources_page_is_one_that_the_job_takes(name):
    page = (Path(__file__).parents[2] / "docs/sources" / f"{name}.md").read_text(encoding="utf-8")
    (command,) = [line for line in page.splitlines() if line.startswith("    sightline ")]
    assert load_config("build-scenes", BuildScenesConfig, command.split()[2:]).source.name == name
