"""Scenes refuse parts that disagree."""

import numpy as np
import pytest

from core.errors import InputError
from scene.types import Scene, SceneMesh, SceneObject

BOX = np.array([0.0, 0, 0.5, 1, 1, 1, 0])


def thing(index: int = 0, box: np.ndarray = BOX) -> SceneObject:
    return SceneObject(index, "chair", box)


def test_boxes_are_stacked_in_the_order_of_ids():
    scene = Scene("s", "test", [thing(0), thing(1, BOX + 1)])
    assert scene.boxes.shape == (2, 7) and scene.boxes[1, 0] == 1.0
    assert scene.labels == ["chair", "chair"]


def test_a_scene_without_objects_has_an_empty_table_of_boxes():
    assert Scene("s", "test", []).boxes.shape == (0, 7)


def test_ids_out_of_order_are_refused():
    with pytest.raises(InputError, match="index 0 has id 3"):
        Scene("s", "test", [thing(3)])


@pytest.mark.parametrize("box", [np.zeros(6), np.array([0.0, 0, 0, 1, 0, 1, 0]), np.full(7, np.nan)])
def test_boxes_without_seven_numbers_or_volume_are_refused(box):
    with pytest.raises(InputError, match="box"):
        Scene("s", "test", [thing(0, box)])


def test_point_tables_of_different_lengths_are_refused():
    with pytest.raises(InputError, match="one table"):
        Scene("s", "test", [thing()], points=np.zeros((3, 3), np.float32), instance=np.zeros(2, np.int32))


def test_points_that_are_not_finite_are_counted():
    points = np.zeros((4, 3), np.float32)
    points[1, 2] = np.inf
    with pytest.raises(InputError, match="1 of 4 points"):
        Scene("s", "test", [thing()], points=points)


def test_faces_of_unknown_objects_are_refused():
    mesh = SceneMesh(
        np.zeros((3, 3), np.float32),
        np.array([[0, 1, 2]], np.int32),
        np.zeros((1, 3), np.uint8),
        np.array([1], np.int32),
    )
    with pytest.raises(InputError, match="face_instance"):
        Scene("s", "test", [thing()], mesh=mesh)
