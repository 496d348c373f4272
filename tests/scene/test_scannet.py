"""scene/datasets/scannet.py: the raw release, written here from its description."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError, MissingFileError
from scene.datasets.scannet import load, read_scan, scans, splits
from scene.types import Scene
from tests.scene.scan_files import GROUPS, NAME, QUARTER, SEGMENTS, write_scannet


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_scannet(tmp_path / "scannet")


def refused(root: Path, match: str, **how) -> None:
    with pytest.raises(InputError, match=match):
        read_scan(write_scannet(root, **how), NAME)


def test_segments_become_objects_in_the_axis_aligned_frame(root):
    scene = next(load(root))
    assert scene.id == NAME and scene.source == "scannet" and scans(root) == [NAME]
    assert [(item.source_id, item.label) for item in scene.objects] == [("4", "office chair"), ("23", "table")]
    assert scene.instance.tolist() == [0] * 4 + [-1] * 4 + [1] * 4 + [-1]
    # (x, y, z) -> (1 - y, 2 + x, z + 0.5): the unit cube at 0 spans x 0..1, y 2..3, z 0.5..1.5
    assert np.allclose(scene.boxes[0], [0.5, 2.5, 1.0, 1, 1, 1, 0])
    assert np.allclose(scene.boxes[1], [-1.5, 4.5, 1.5, 1, 1, 2, 0])
    assert np.allclose(scene.to_source @ np.append(scene.points[9], 1), [3, 2, 0, 1], atol=1e-6)


def test_a_face_belongs_to_the_object_of_two_of_its_corners(root):
    mesh = next(load(root)).mesh
    assert mesh.face_instance.tolist() == [0, 0, -1, 1, 1, 1, -1]  # (3, 8, 9): two of the table; (3, 8, 12): no two
    assert mesh.face_colors[0].tolist() == [10, 20, 30]  # mean of 0, 10, 20
    assert np.array_equal(mesh.vertices, next(load(root)).points)


def test_labels_can_be_those_of_nyu40(root):
    assert next(load(root, labels="nyu40")).labels == ["chair", "table"]
    with pytest.raises(InputError, match="did you mean 'nyu40'"):
        next(load(root, labels="nyu4"))
    write_scannet(root, GROUPS | {30: ("zeppelin", [9])})
    with pytest.raises(InputError, match="1 labels that .* does not know, e.g. 'zeppelin'"):
        next(load(root, labels="nyu40"))
    (root / "scannetv2-labels.combined.tsv").rename(root / "x.tsv")
    with pytest.raises(MissingFileError, match="label table not found"):
        list(load(root.rename(root.with_name("moved")), labels="nyu40"))


def test_scans_lie_in_the_folder_or_in_scans_and_need_no_alignment(tmp_path):
    root = write_scannet(tmp_path / "scannet", matrix=None)
    scene = next(load(root / "scans"))
    assert np.array_equal(scene.to_source, np.eye(4)) and np.allclose(scene.boxes[0, :3], 0.5)


def test_the_later_of_two_groups_takes_a_shared_segment(root):
    write_scannet(root, GROUPS | {30: ("shelf", [5])})
    assert next(load(root)).instance.tolist() == [0] * 4 + [-1] * 4 + [1] * 2 + [2] * 2 + [-1]


def test_files_that_do_not_belong_together_are_refused(root):
    refused(root, "12 segIndices, but the mesh 13 vertices", segments=SEGMENTS[:-1])
    refused(root, "scene0000_00 has 1 labels without a point \\(30\\)", groups=GROUPS | {30: ("lamp", [999])})
    refused(root, "holds 12 numbers on 1 lines, expected 16", matrix=QUARTER[:3])
    refused(root, "no turn and shift", matrix=[[2.0, 0, 0, 0], *QUARTER[1:]])
    write_scannet(root)
    file = root / "scans" / NAME / f"{NAME}.aggregation.json"
    group = {"objectId": 4, "segments": [70], "label": "chair"}
    for groups, reason in (([group, group], "objectId 4 stands twice"), ([{"objectId": 4}], r"segGroups\[0\] has no")):
        file.write_text(json.dumps({"segGroups": groups}))
        with pytest.raises(InputError, match=reason):
            read_scan(root, NAME)
    file.unlink()
    with pytest.raises(MissingFileError, match="aggregation file not found"):
        read_scan(root, NAME)


def test_splits_follow_the_official_lists(root):
    with pytest.raises(MissingFileError, match=r"expected scannetv2_train\.txt and scannetv2_val\.txt"):
        splits(root)
    (root / "scannetv2_val.txt").write_text(f"{NAME}\n")
    assert splits(root) == {"train": [], "val": [], "test": [NAME]}
    (root / "scannetv2_train.txt").write_text("scene0002_00\nscene0001_00\n")
    assert splits(root) == {"train": ["scene0001_00"], "val": ["scene0002_00"], "test": [NAME]}
    assert [scene.id for scene in load(root, "test")] == [NAME]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["_vh_clean_2.ply", ".aggregation.json", "_vh_clean_2.0.010000.segs.json", ".txt"]), st.data())
def test_damaged_files_are_refused_or_still_a_scene(tmp_path_factory, ending, data):
    root = write_scannet(tmp_path_factory.mktemp("fuzz"))
    file = root / "scans" / NAME / f"{NAME}{ending}"
    content = bytearray(file.read_bytes())
    if data.draw(st.booleans(), label="cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    try:
        scene = read_scan(root, NAME)
    except InputError as error:
        assert NAME in str(error)
        return
    assert isinstance(scene, Scene) and scene.objects
