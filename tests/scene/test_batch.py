"""Object sets in the viewer's frame, and padded batches."""

import math

import pytest
import torch

from core.errors import InputError
from scene.batch import anchor_shares, collate, collate_tokens, object_set
from scene.geometry import rotate_scene
from scene.relations import Viewpoint
from scene.types import Scene
from tests.scene.toy import toy_scene


def test_the_viewers_frame_has_x_ahead_and_y_to_the_left():
    scene = toy_scene(0)
    objects = object_set(scene, 64, seed=0)  # the default viewer looks along +y
    centre = torch.from_numpy(scene.boxes[:, :3]).float()
    expected = torch.stack([centre[:, 1], -centre[:, 0], centre[:, 2]], 1)
    torch.testing.assert_close(objects.locations[:, :3], expected, atol=0.2, rtol=0)
    assert objects.ids.tolist() == list(range(6)) and objects.labels == scene.labels
    assert objects.captions[0] == f"{scene.objects[0].attributes['color']} {scene.labels[0]}"


def test_turning_scene_and_viewer_together_changes_nothing():
    scene, yaw = toy_scene(1), 0.7
    turned = object_set(rotate_scene(scene, yaw), 32, seed=3, viewpoint=Viewpoint(Viewpoint().yaw_rad + yaw))
    torch.testing.assert_close(turned.points, object_set(scene, 32, seed=3).points, atol=1e-4, rtol=1e-4)


def test_height_is_measured_from_the_floor():
    scene = toy_scene(2)
    low = object_set(scene, 16, seed=0).locations[:, 2]
    scene.rooms[0].floor_z = -1.0
    torch.testing.assert_close(object_set(scene, 16, seed=0).locations[:, 2], low + 1.0)


def test_a_scene_without_objects_is_an_error_that_says_so():
    with pytest.raises(InputError, match="no objects"):
        object_set(Scene("empty", "toy", []), 16, seed=0)


def test_padding_is_marked_and_zero():
    batch = collate([torch.ones(2, 4), torch.ones(1, 4)], [torch.ones(2, 6), torch.ones(1, 6)])
    assert batch.valid.tolist() == [[True, True], [True, False]]
    assert batch.features[1, 1].abs().sum() == 0 and batch.locations[1, 1].abs().sum() == 0
    tokens, words = collate_tokens([[2, 7, 3], [2, 3]], pad_id=0)
    assert tokens.tolist() == [[2, 7, 3], [2, 3, 0]] and words.tolist() == [[True] * 3, [True, True, False]]


def test_anchors_share_a_row_evenly():
    assert anchor_shares([(2,), (), (0, 1)], 3).tolist() == [[0, 0, 1], [0, 0, 0], [0.5, 0.5, 0]]


def test_yaw_of_the_default_viewer_is_a_quarter_turn():
    assert Viewpoint().yaw_rad == pytest.approx(math.pi / 2)
