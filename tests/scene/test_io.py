"""Saved scenes come back whole or say what is wrong."""

import json

import numpy as np
import pytest

from core.errors import InputError, MissingFileError
from scene.datasets.procedural import generate_home
from scene.io import load_scene, save_scene
from scene.store import SceneStore, save_manifest
from scene.types import PosedImage, Scene, SceneObject


@pytest.fixture
def folder(tmp_path):
    scene = generate_home(1)
    save_scene(scene, tmp_path)
    save_manifest(tmp_path, {"source": "procedural", "splits": {"train": [scene.id], "val": []}})
    return tmp_path


def test_a_scene_comes_back_as_it_was(folder):
    scene, back = generate_home(1), load_scene(folder, "procedural-train-00001")
    assert back.id == scene.id and back.source == scene.source and np.array_equal(back.to_source, scene.to_source)
    for a, b in zip(scene.objects, back.objects, strict=True):
        assert (a.label, a.source_id, a.attributes, a.room, a.affordances) == (
            b.label, b.source_id, b.attributes, b.room, b.affordances,
        )  # fmt: skip
        assert np.array_equal(a.box, b.box)
    for name in ("vertices", "faces", "face_colors", "face_instance"):
        a, b = getattr(scene.mesh, name), getattr(back.mesh, name)
        assert np.array_equal(a, b) and a.dtype == b.dtype
    for a, b in zip(scene.rooms, back.rooms, strict=True):
        assert (a.kind, a.height) == (b.kind, b.height) and np.array_equal(a.polygon, b.polygon)
    assert [(d.rooms, d.open) for d in scene.doors] == [(d.rooms, d.open) for d in back.doors]


def test_points_and_views_come_back(tmp_path):
    scene = Scene(
        "scan.1",
        "test",
        [SceneObject(0, "chair", np.ones(7))],
        points=np.ones((5, 3), np.float32),
        colors=np.ones((5, 3), np.uint8),
        instance=np.zeros(5, np.int32),
        views=[PosedImage(np.eye(4), np.eye(3), tmp_path / "a.png")],
    )
    save_scene(scene, tmp_path)
    back = load_scene(tmp_path, "scan.1")
    assert back.mesh is None and back.points.dtype == np.float32 and back.views[0].path == tmp_path / "a.png"


def test_a_missing_scene_names_the_nearest(folder):
    with pytest.raises(MissingFileError, match="did you mean 'procedural-train-00001'"):
        load_scene(folder, "procedural-train-0001")
    with pytest.raises(MissingFileError, match="folder not found"):
        load_scene(folder / "nowhere", "a")


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_a_truncated_scene_is_refused(folder, suffix):
    path = folder / f"procedural-train-00001{suffix}"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="truncated|damaged"):
        load_scene(folder, "procedural-train-00001")


def test_lost_arrays_and_other_formats_are_refused(folder):
    path = folder / "procedural-train-00001.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"format": "elsewhere/2"}))
    with pytest.raises(InputError, match="elsewhere/2"):
        load_scene(folder, "procedural-train-00001")
    del record["rooms"]
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="rooms"):
        load_scene(folder, "procedural-train-00001")
    path.with_suffix(".npz").unlink()
    with pytest.raises(MissingFileError, match="arrays"):
        load_scene(folder, "procedural-train-00001")


def test_pickled_arrays_are_never_opened(folder):
    import zlib

    path = folder / "procedural-train-00001.npz"
    np.savez(path, boxes=np.array([{"a": 1}], dtype=object))
    record = json.loads(path.with_suffix(".json").read_text())
    record["arrays"] = {"names": ["boxes"], "crc32": zlib.crc32(path.read_bytes())}
    path.with_suffix(".json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="cannot be read"):
        load_scene(folder, "procedural-train-00001")


def test_ids_that_leave_the_folder_are_refused(folder):
    for name in ("../x", "a/b", ".hidden", ""):
        with pytest.raises(InputError, match="file name"):
            load_scene(folder, name)


def test_the_store_reads_splits_and_remembers_scenes(folder):
    store = SceneStore(folder, cache=1)
    assert store.split("train") == ["procedural-train-00001"] and store.split("val") == []
    assert store.load("procedural-train-00001") is store.load("procedural-train-00001")
    save_scene(generate_home(2), folder)
    first = store.load("procedural-train-00001")
    store.load("procedural-train-00002")
    assert store.load("procedural-train-00001") is not first  # one scene at a time stays
    with pytest.raises(InputError, match="did you mean 'train'"):
        store.split("trian")


def test_a_store_needs_a_manifest_of_its_format(folder):
    with pytest.raises(MissingFileError, match="sightline build-scenes"):
        SceneStore(folder / "empty")
    (folder / "manifest.json").write_text('{"format": "other"}')
    with pytest.raises(InputError, match="other"):
        SceneStore(folder)
    with pytest.raises(InputError, match="splits"):
        save_manifest(folder, {"source": "x"})
