"""Shards are whole or absent, the same to the byte, and a home comes out of one as it went in."""

import errno
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import InputError, MissingFileError
from scene.datasets.procedural import generate_home
from scene.graph import build_graph
from scene.shards import ENDINGS, ShardWriter, remove_temporaries, shard_fault, shard_file, with_points
from scene.store import SceneStore, save_manifest
from scene.types import Scene, SceneObject

TEXTS = pa.table({"text": ["the bed", "a lamp"]})


def scan():
    points = np.random.default_rng(0).random((6, 3), dtype=np.float32)
    instance = np.array([0, 0, 0, 0, -1, -1], np.int32)
    return Scene("scan", "custom", [SceneObject(0, "chair", np.ones(7), "17")], points=points, instance=instance)


def write(folder, homes, name="train-00000", per_object=8):
    with ShardWriter(folder, name) as shard:
        for home in homes:
            shard.add(home, build_graph(home), with_points(home, per_object, seed=1))
        shard.tables(TEXTS)
    return shard.files


def corpus(folder, homes):
    files = write(folder, homes)
    shard = {"name": "train-00000", "homes": len(homes), "files": files}
    save_manifest(folder, {"source": "x", "splits": {"train": [h.id for h in homes]}, "shards": {"train": [shard]}})
    return SceneStore(folder)


def test_homes_come_back_with_their_meshes_and_points(tmp_path):
    home = generate_home(1)
    store = corpus(tmp_path, [home, scan()])
    back = store.load(home.id)
    assert np.array_equal(back.mesh.faces, home.mesh.faces) and np.array_equal(back.boxes, home.boxes)
    assert np.array_equal(np.bincount(back.instance), np.full(len(home.objects), 8))
    chair = store.load("scan")
    assert np.array_equal(chair.points, scan().points) and chair.colors is None and chair.mesh is None
    assert SceneStore(tmp_path, points=False).load(home.id).points is None


def test_points_lie_on_the_surfaces_of_their_objects():
    home = generate_home(2)
    table = with_points(home, 50, seed=0)
    for item in home.objects:
        own = table["points"][table["instance"] == item.id]
        yaw = item.box[6]
        turned = (own[:, :2] - item.box[:2]) @ np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        assert (np.abs(turned) <= item.box[3:5] / 2 + 1e-3).all(), item.label
    assert with_points(home, 0, seed=0) == {}


def test_tables_have_a_row_per_object_edge_and_text(tmp_path):
    home = generate_home(3)
    graph = build_graph(home)
    store = corpus(tmp_path, [home, scan()])
    objects = store.table("objects", "train").to_pylist()
    assert [row["label"] for row in objects] == [*home.labels, "chair"]
    assert [row["support"] for row in objects[:-1]] == graph.support_parent.tolist()
    assert (objects[-1]["source_id"], objects[-1]["points"], objects[0]["points"]) == ("17", 4, 8)
    edges = store.table("relations", "train").to_pylist()
    assert [(row["subject"], tuple(row["objects"]), row["relation"]) for row in edges[: len(graph.edges)]] == [
        (edge.subject, edge.objects, edge.relation.value) for edge in graph.edges
    ]
    assert store.table("texts", "train", ["text"]).column("text").to_pylist() == ["the bed", "a lamp"]


def test_the_same_homes_give_the_same_bytes(tmp_path):
    first = write(tmp_path / "a", [generate_home(4), scan()])
    assert first == write(tmp_path / "b", [generate_home(4), scan()])
    assert set(first) == set(ENDINGS)


def test_a_fault_while_writing_leaves_nothing(tmp_path):
    home = generate_home(5)
    with pytest.raises(OSError, match="No space"), ShardWriter(tmp_path, "train-00000") as shard:
        shard.add(home, build_graph(home), {})
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_temporaries_of_killed_writers_are_removed(tmp_path):
    (tmp_path / "texts").mkdir()
    left, kept = tmp_path / "texts" / ".train-00000.parquet.tmp-77", tmp_path / "texts" / "train-00001.parquet"
    left.touch()
    kept.touch()
    remove_temporaries(tmp_path)
    assert kept.exists() and not left.exists()


@pytest.mark.parametrize("part", list(ENDINGS))
def test_a_changed_or_missing_file_is_noticed(tmp_path, part):
    files = write(tmp_path, [scan()])
    assert shard_fault(tmp_path, "train-00000", files) == ""
    path = shard_file(tmp_path, part, "train-00000")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "differs" in shard_fault(tmp_path, "train-00000", files)
    path.unlink()
    assert "is missing" in shard_fault(tmp_path, "train-00000", files)


def test_truncated_and_missing_shards_are_clear_errors(tmp_path):
    store = corpus(tmp_path, [scan()])
    scenes, objects = shard_file(tmp_path, "scenes", "train-00000"), shard_file(tmp_path, "objects", "train-00000")
    scenes.write_bytes(scenes.read_bytes()[:-30])
    objects.write_bytes(objects.read_bytes()[:-30])
    with pytest.raises(InputError, match="truncated or damaged.*build the scenes again"):
        store.load("scan")
    with pytest.raises(InputError, match="truncated or damaged"):
        store.table("objects", "train")
    scenes.unlink()
    objects.unlink()
    with pytest.raises(MissingFileError, match="scan"):
        store.load("scan")
    with pytest.raises(MissingFileError, match="shard not found"):
        store.table("objects", "train")


def test_members_of_a_shard_are_read_by_name_and_never_unpacked(tmp_path):
    store = corpus(tmp_path, [scan()])
    with zipfile.ZipFile(shard_file(tmp_path, "scenes", "train-00000"), "a") as archive:
        archive.writestr("../outside.json", "{}")
    assert store.load("scan").labels == ["chair"]
    assert not (tmp_path.parent / "outside.json").exists()


def test_an_unknown_scene_or_table_names_what_there_is(tmp_path):
    store = corpus(tmp_path, [scan()])
    with pytest.raises(MissingFileError, match="did you mean 'scan'"):
        store.load("scam")
    with pytest.raises(InputError, match="no split 'test'"):
        store.table("texts", "test")
    assert pq.read_schema(shard_file(tmp_path, "objects", "train-00000")).names[0] == "scene_id"
