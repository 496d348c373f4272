"""scene/datasets/sceneverse.py, pth.py and point_scan.py: the released files, written here from their description."""

import json
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError, MissingFileError
from scene.datasets import sceneverse
from scene.datasets.pth import read_pth
from scene.datasets.sceneverse import load, read_referrals, read_scan, scans, splits
from scene.types import Scene
from tests.scene.scan_files import SV_LABELS, cloud, write_sceneverse


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_sceneverse(tmp_path / "3RScan")


def refused(root: Path, match: str, **how) -> None:
    with pytest.raises(InputError, match=match):
        read_scan(write_sceneverse(root, **how), "scan_a")


def test_ids_with_gaps_become_objects_in_their_order(root):
    scene = next(load(root))
    assert [item.source_id for item in scene.objects] == ["3", "12", "40"] and scene.id == "scan_a"
    assert scene.labels == ["chair", "coffee table", "chair"] and scene.source == "sceneverse"
    assert np.allclose(scene.boxes[1], [0.5, 2.5, 1.0, 1, 1, 1, 0])
    assert scene.instance.tolist() == [0] * 8 + [-1] * 8 + [1] * 8 + [2] * 8 + [-1] * 2  # the wall's points stay
    assert scene.colors[0].tolist() == [10, 200, 255] and scene.points.dtype == np.float32
    assert np.array_equal(scene.to_source, np.eye(4))


def test_tensors_and_older_pickles_read_alike(root):
    xyz, rgb, ids = cloud()
    write_sceneverse(
        root, "scan_b", (torch.from_numpy(xyz), rgb.astype(np.uint8), "something between", torch.from_numpy(ids))
    )
    keys = OrderedDict((np.int64(key), np.str_(text)) for key, text in SV_LABELS.items())
    write_sceneverse(
        root, "scan_c", [np.asfortranarray(xyz.astype(">f4")), rgb.astype(np.int16), ids.astype(np.int32)], keys
    )
    old = root / "scan_data/pcd_with_global_alignment/scan_a.pth"
    torch.save(cloud(), old, _use_new_zipfile_serialization=False)
    first, second, third = load(root)
    for other in (second, third):
        assert np.array_equal(first.points, other.points) and np.array_equal(first.instance, other.instance)
        assert np.array_equal(first.colors, other.colors) and first.labels == other.labels


def test_the_angle_leads_back_to_the_scan_before_it_was_turned(tmp_path):
    """SceneVerse multiplies row vectors by [[cos, -sin], [sin, cos]]; to_source undoes it."""
    theta = np.deg2rad(30)
    raw = np.array([2.0, 1.0, 0.5])
    turned = raw @ np.array([[np.cos(theta), -np.sin(theta), 0], [np.sin(theta), np.cos(theta), 0], [0, 0, 1]])
    scene = next(load(write_sceneverse(tmp_path / "3RScan", angle=30.0)))
    assert np.allclose(scene.to_source @ np.append(turned, 1), np.append(raw, 1))
    refused(tmp_path / "3RScan", "no single finite number", angle=np.nan)


def test_datasets_differ_in_labels_and_in_what_zero_means(tmp_path):
    dotted = {3: "chair.2", 12: "table", 7: "wall.0", 40: "Chair.1"}
    scene = next(load(write_sceneverse(tmp_path / "MultiScan", parts=cloud(none=0), labels=dotted)))
    assert scene.labels == ["chair", "table", "chair"] and (scene.instance == -1).sum() == 10
    refused(tmp_path / "3RScan", r"scan_a has 1 instance ids without a label \(0\)", parts=cloud(none=0))
    named = write_sceneverse(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"source\.dataset=NAME, one of ScanNet"):
        next(load(named))
    assert next(load(named, dataset="HM3D")).labels[0] == "chair"
    with pytest.raises(InputError, match="did you mean 'ARKitScenes'"):
        next(load(named, dataset="ARKitScene"))


def test_scannets_names_may_be_a_list(tmp_path):
    scan = write_sceneverse(tmp_path / "ScanNet", parts=cloud()[:2] + (np.repeat([0, 1, 2, 3, -100], [8, 8, 8, 8, 2]),))
    (scan / "scan_data/instance_id_to_label/scan_a.pth").unlink()
    (scan / "scan_data/instance_id_to_name").mkdir()
    (scan / "scan_data/instance_id_to_name/scan_a.json").write_text(json.dumps(["bed", "floor", "Sink", "bed"]))
    scene = next(load(scan))
    assert [(item.source_id, item.label) for item in scene.objects] == [("0", "bed"), ("2", "sink"), ("3", "bed")]


def test_ids_and_labels_that_do_not_match_are_counted_and_refused_or_dropped(root):
    labels = {k: v for k, v in SV_LABELS.items() if k != 3} | {50: "lamp", 51: "bin"}
    expected = r"1 instance ids without a label \(3\) and 2 labels without a point \(50, 51\)"
    refused(root, f"scan_a has {expected}", labels=labels)
    with pytest.warns(UserWarning, match=f"scan_a: left out {expected}"):
        scene = read_scan(root, "scan_a", unmatched="drop")
    assert [item.source_id for item in scene.objects] == ["12", "40"] and (scene.instance == -1).sum() == 18


def test_bad_tables_name_the_scan_and_the_count(root):
    xyz, rgb, ids = cloud()
    holes = xyz.copy()
    holes[[1, 5], 2] = np.nan, np.inf
    refused(root, "scan scan_a: 2 of 34 points are NaN or infinite", parts=(holes, rgb, ids))
    refused(root, r"colours run from 0\.0392\d* to 1, .*multiply them by 255", parts=(xyz, rgb / 255, ids))
    refused(root, r"colours run from -5 to 250, expected 0\.\.255", parts=(xyz, rgb - 5 - 10 * (rgb == 10), ids))
    refused(root, r"instance ids \(33,\) are no one table", parts=(xyz, rgb, ids[:-1]))
    refused(root, r"points are float64 of shape \(34, 2\)", parts=(xyz[:, :2], rgb, ids))
    refused(root, "2 instance ids are no whole numbers", parts=(xyz, rgb, np.where(ids < 0, 0.5, ids)))
    refused(root, "is empty: it has no points", parts=(xyz[:0], rgb[:0], ids[:0]))
    refused(root, "has no objects: 4 labelled instances, all wall", labels=dict.fromkeys(SV_LABELS, "wall"))
    refused(root, "a label is 5, expected text", labels=SV_LABELS | {3: 5})
    refused(root, "label '  ' is empty", labels=SV_LABELS | {3: "  "})
    refused(root, "no table of labels by instance id", labels={"3": "chair"})
    refused(root, "holds a tuple of 2, expected a tuple", parts=(xyz, rgb))


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_in_it_is_refused_and_never_run(root, tmp_path, zipped):
    trap = tmp_path / "trap"
    file = root / "scan_data/pcd_with_global_alignment/scan_a.pth"
    torch.save((*cloud()[:2], Payload(trap)), file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"refused: it wants posix\.mkdir run"):
        read_scan(root, "scan_a")
    assert not trap.exists()
    torch.load(file, weights_only=False)
    assert trap.exists()  # the payload does work where it is let


def test_arrays_of_objects_and_other_classes_are_refused(root, tmp_path):
    torch.save(np.array([{"a": 1}, None], dtype=object), tmp_path / "objects.pth")
    with pytest.raises(InputError, match="values of type 'O8', expected plain numbers"):
        read_pth(tmp_path / "objects.pth", "point cloud")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="damaged or no .pth file"):
        read_pth(tmp_path / "plain.pth", "point cloud")
    torch.save({1: Path("x")}, tmp_path / "path.pth")
    with pytest.raises(InputError, match=r"refused: it wants pathlib"):
        read_pth(tmp_path / "path.pth", "point cloud")
    with pytest.raises(InputError, match="is no file name"):
        read_scan(root, "../scan_a")


def test_their_val_is_our_test_and_the_last_of_their_train_is_to_tune_on(root):
    folder = root / "annotations/splits"
    with pytest.raises(MissingFileError, match=r"expected train_split\.txt and val_split\.txt"):
        splits(root)
    (folder / "train_split.txt").write_text("\n".join(f"s{k:02d}" for k in reversed(range(15))) + "\n")
    assert [len(names) for names in splits(root).values()] == [13, 2, 0]
    (folder / "val_split.txt").write_text("scan_a\nscan_z\n")
    ours = splits(root)
    assert ours["val"] == ["s13", "s14"] and ours["test"] == ["scan_a", "scan_z"]
    assert next(load(root, "test")).id == "scan_a"
    with pytest.raises(InputError, match="did you mean 'test'"):
        next(load(root, "tests"))
    for text, reason in (
        ("a\na\n", "names a twice"),
        ("../a\n", "no file name"),
        ("s03\n", "both the train and the val"),
    ):
        (folder / "val_split.txt").write_text(text)
        with pytest.raises(InputError, match=reason):
            splits(root)
    (folder / "val_split.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(InputError, match="no UTF-8"):
        splits(root)


def test_archives_must_be_unpacked_and_empty_folders_say_what_was_expected(tmp_path):
    (tmp_path / "3RScan.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match="unpack archives first"):
        next(load(tmp_path / "3RScan.zip"))
    (tmp_path / "3RScan").mkdir()
    with pytest.raises(InputError, match=r"expected <scan>\.pth there"):
        scans(tmp_path / "3RScan")
    with pytest.raises(MissingFileError):
        scans(tmp_path / "none")


def referral(**change) -> dict:
    item = {
        "item_id": "x",
        "scan_id": "scan_a",
        "target_id": 40,
        "instance_type": "chair",
        "utterance": "The chair left.",
    }
    return item | change


def test_referrals_get_our_ids_and_what_cannot_be_placed_is_counted(root, tmp_path):
    items = [
        referral(),
        referral(target_id="12", utterance="it stands behind the chair"),
        referral(target_id=99),
        referral(scan_id="scan_z"),
        referral(target_id=7, instance_type="wall"),
    ]
    file = tmp_path / "ssg_ref_rel2_template.json"
    file.write_text(json.dumps(items))
    (tmp_path / "anno.jsonl").write_text("\n".join(map(json.dumps, items)) + "\n")
    objects = {scene.id: scene.objects for scene in load(root)}
    read = read_referrals(file, objects)
    first, second = read.referrals
    assert (first.scene_id, first.targets, first.source, first.n_same_class) == ("scan_a", (2,), "sceneverse", 2)
    assert first.kind == "ssg_ref_rel2_template" and not first.view_dependent  # "left." is no word of the list
    assert second.targets == (1,) and second.view_dependent and second.n_same_class == 1
    assert read.unknown_scans == {"scan_z": 1} and read.unknown_targets == {"scan_a": 1} and read.structural == 1
    assert read.report().startswith("2 referrals; left out: 1 of 1 scans that are not loaded, 1 with an unknown target")
    lines = read_referrals(tmp_path / "anno.jsonl", objects)
    assert [item.targets for item in lines.referrals] == [(2,), (1,)] and lines.referrals[0].kind == "anno"


def test_damaged_referrals_name_the_item(tmp_path):
    file = tmp_path / "anno.json"
    for content, reason in (
        ([{"scan_id": "a"}], "item 1 lacks target_id, utterance"),
        ([referral(), 3], "item 2 is a int"),
        ({"a": 1}, "holds a dict, expected a list"),
        ([referral(utterance=" ")], "expected a sentence"),
    ):
        file.write_text(json.dumps(content))
        with pytest.raises(InputError, match=reason):
            read_referrals(file, {})
    (tmp_path / "anno.jsonl").write_text(json.dumps(referral()) + "\n{'scan")
    with pytest.raises(InputError, match="line 2 is damaged"):
        read_referrals(tmp_path / "anno.jsonl", {})


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["points", "old points", "labels", "angle"]), st.data())
def test_damaged_files_are_refused_or_still_a_scene(tmp_path_factory, which, data):
    root = write_sceneverse(tmp_path_factory.mktemp("fuzz") / "3RScan", angle=12.5)
    file = {
        "labels": root / "scan_data/instance_id_to_label/scan_a.pth",
        "angle": root / "scan_data/pcd_with_global_alignment/scan_a_align_angle.npy",
    }.get(which, root / "scan_data/pcd_with_global_alignment/scan_a.pth")
    if which == "old points":
        torch.save(cloud(), file, _use_new_zipfile_serialization=False)
    content = bytearray(file.read_bytes())
    if data.draw(st.booleans(), label="cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    try:
        scene = read_scan(root, "scan_a")
    except InputError as error:
        assert "scan_a" in str(error)
        return
    assert isinstance(scene, Scene) and scene.objects


def test_every_dataset_has_a_rule_for_zero():
    assert set(sceneverse.COUNT_FROM_ZERO) < set(sceneverse.DATASETS) and len(sceneverse.DATASETS) == 7


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["anno.json", "refer.jsonl", "train_split.txt"]), st.booleans(), st.data())
def test_damaged_sentences_and_lists_are_refused_or_read(tmp_path_factory, name, cut, data):
    root = write_sceneverse(tmp_path_factory.mktemp("fuzz") / "3RScan")
    file = root / "annotations/splits" / name
    items = [referral(), referral(target_id="12", scan_id="b")]
    text = {"anno.json": json.dumps(items), "refer.jsonl": "\n".join(map(json.dumps, items))}.get(name, "scan_a\nb\n")
    content = bytearray(text.encode())
    if cut:
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    try:
        if name == "train_split.txt":
            assert sum(map(len, splits(root).values())) >= 1
        else:
            read = read_referrals(file, {"scan_a": [], "b": []})
            counted = len(read.referrals) + read.unknown_scans.total() + read.unknown_targets.total() + read.structural
            assert 1 <= counted <= 2
    except InputError as error:
        assert name in str(error)
