"""What a model chooses from when the annotated objects are not given."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError, MissingFileError
from scene.geometry import object_points
from scene.graph import candidates
from scene.proposed import StoreObjects, proposed
from scene.store import SceneStore
from scene.types import Scene
from tests.scene.toy import toy_folder, toy_scene


def with_table(scene: Scene) -> Scene:
    cloud = object_points(scene, 200, seed=0)
    ids = np.repeat(np.arange(len(scene.objects), dtype=np.int32), 200)
    colors = cloud[..., 3:].reshape(-1, 3).astype(np.uint8)
    return replace(scene, points=cloud[..., :3].reshape(-1, 3), colors=colors, instance=ids)


def test_the_annotated_objects_are_the_scene_itself():
    scene = toy_scene(1)
    assert proposed(scene, "ground-truth") is scene


def test_masks_become_objects_with_the_boxes_of_their_points(tmp_path: Path):
    scene = with_table(toy_scene(1))
    mask = np.stack([scene.instance == 4, scene.instance == 1])
    np.savez(tmp_path / "toy-1.mask.npz", mask=mask, label=np.array(["Pole", "cube"]))
    found = proposed(scene, "masks", tmp_path)
    assert [(item.id, item.label, item.source_id) for item in found.objects] == [(0, "pole", "0"), (1, "cube", "1")]
    assert found.mesh is None and found.instance is not None and set(found.instance.tolist()) == {-1, 0, 1}
    assert np.allclose(found.objects[1].box[:3], scene.objects[1].box[:3], atol=0.05)


def test_geometry_tells_things_apart_that_stand_apart():
    found = proposed(with_table(toy_scene(1)), "geometric")
    assert len(found.objects) >= 2 and {item.label for item in found.objects} == {"object"}


def test_many_proposals_do_not_make_a_home_spoken_room_by_room(tmp_path: Path):
    scene = with_table(toy_scene(1))
    np.savez(tmp_path / "toy-1.mask.npz", mask=np.eye(100, 1200, dtype=bool))
    found = proposed(scene, "masks", tmp_path)
    assert len(scene.rooms) and candidates(scene) == list(range(6)) and candidates(found) == list(range(100))


def test_missing_masks_and_scenes_without_points_are_named(tmp_path: Path):
    scene = with_table(toy_scene(1))
    with pytest.raises(MissingFileError, match=r"toy-1\.mask\.npz"):
        proposed(scene, "masks", tmp_path)
    np.savez(tmp_path / "toy-1.mask.npz", mask=np.ones((2, 7), bool))
    with pytest.raises(InputError, match="but the scan has 1200 points"):
        proposed(scene, "masks", tmp_path)
    with pytest.raises(InputError, match="has no points"):
        proposed(toy_scene(1), "geometric")
    with pytest.raises(InputError, match="proposals='mask' is unknown"):
        proposed(scene, "mask")


def test_objects_of_a_folder_are_read_when_asked_for(tmp_path: Path):
    objects = StoreObjects(SceneStore(toy_folder(tmp_path, train=1, val=1, test=1)))
    assert len(objects) == 3 and "toy-2" in objects and "toy-3" not in objects
    assert [item.id for item in objects["toy-2"]] == list(range(6)) and list(objects) == ["toy-0", "toy-1", "toy-2"]
    with pytest.raises(KeyError):
        objects["toy-3"]
    assert list(StoreObjects(objects.store, "test")) == ["toy-2"]
