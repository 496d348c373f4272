"""scene/datasets/alignment.py: a turned toy room, and ids carried over by hand."""

import numpy as np
import pytest

from core.errors import InputError
from scene.datasets.alignment import aligning_yaw, centred, nearest_instances
from scene.geometry import rotate_scene
from scene.types import Scene, SceneObject

ROOM = np.array(
    [
        [1.0, 0.5, 0.4, 2.0, 0.9, 0.8, 0.0],  # a sofa along the wall
        [3.0, 2.0, 0.35, 0.7, 1.4, 0.7, np.pi / 2],
        [0.5, 3.0, 1.0, 0.6, 1.2, 2.0, np.pi],
        [2.5, 3.0, 0.5, 0.9, 0.9, 1.0, 0.5],  # an armchair askew
    ]
)


def turned(degrees: float) -> np.ndarray:
    room = Scene("room", "toy", [SceneObject(k, "thing", box) for k, box in enumerate(ROOM)])
    return rotate_scene(room, np.deg2rad(degrees)).boxes


@pytest.mark.parametrize("degrees", [0.0, 7.0, -31.0, 44.0])
def test_a_turned_room_is_turned_back(degrees):
    assert np.rad2deg(aligning_yaw(turned(degrees))) == pytest.approx(
        -degrees, abs=0.51
    )  # half of a step of 90 / 89 degrees


def test_a_room_turned_by_more_ends_along_the_axes_the_shorter_way():
    assert np.rad2deg(aligning_yaw(turned(70.0))) == pytest.approx(20.0, abs=0.51)


def test_an_aligned_room_stays_as_it_is_and_the_most_boxes_win():
    assert aligning_yaw(ROOM) == 0.0
    assert np.rad2deg(aligning_yaw(ROOM[[0, 3, 3]])) == pytest.approx(-np.rad2deg(0.5), abs=3)


def test_large_boxes_between_two_angles_are_found_on_the_second_try():
    """A wall of 20 m strays by more than 0.05 m when it is off by 0.25 degrees, yet by less than 0.15 m."""
    boxes = np.array([[0, 0, 1, 20.0, 20.0, 2, 0.0]])
    boxes[0, 6] = -np.deg2rad(45 / 89 + 0.25)  # a quarter of a degree past the first try's angle next to 0
    found = aligning_yaw(boxes)
    assert 10 * abs(np.sin(2 * (found + boxes[0, 6]))) < 0.15  # from the nearest axis, of either kind


def test_without_boxes_there_is_nothing_to_align():
    with pytest.raises(InputError, match="without boxes"):
        aligning_yaw(np.zeros((0, 7)))
    long = np.array([[0, 0, 1, 900.0, 900.0, 2, 0.003]])
    with pytest.raises(InputError, match="no angle"):
        aligning_yaw(long)


def test_ids_come_from_the_nearest_point_within_the_radius():
    labelled = np.array([[0.0, 0, 0], [1, 0, 0], [1, 0.02, 0]])
    points = np.array([[0.05, 0, 0], [0, 0.1, 0], [0, 0, 0.1001], [1, 0.015, 0], [9, 9, 9]])
    assert nearest_instances(points, labelled, np.array([5, 7, -1])).tolist() == [5, 5, -1, -1, -1]
    assert nearest_instances(points, labelled, np.array([5, 7, 2]), radius_m=0.5).tolist() == [5, 5, 5, 2, -1]
    assert nearest_instances(points[:1], labelled[:0], np.zeros(0, int)).tolist() == [-1]
    with pytest.raises(InputError, match="expected one each"):
        nearest_instances(points, labelled, np.array([5, 7]))
    with pytest.raises(InputError, match="some labelled points are NaN"):
        nearest_instances(points, labelled * np.nan, np.array([5, 7, 2]))


def test_transfer_equals_a_search_over_all_pairs():
    rng = np.random.default_rng(0)
    points, labelled, ids = rng.random((200, 3)), rng.random((300, 3)), rng.integers(-1, 9, 300)
    apart = np.linalg.norm(points[:, None] - labelled[None], axis=-1)
    slow = np.where(apart.min(axis=1) <= 0.1, ids[apart.argmin(axis=1)], -1)
    assert np.array_equal(nearest_instances(points, labelled, ids), slow) and (slow >= 0).any() and (slow < 0).any()


def test_centring_puts_the_floor_at_zero_and_gives_the_way_back():
    points = np.array([[1.0, 2, -3], [3, 6, 5]])
    moved, offset = centred(points)
    assert moved.tolist() == [[-1, -2, 0], [1, 2, 8]] and np.array_equal(moved + offset, points)
