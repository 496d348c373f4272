"""Boxes and points: hand-checked values and properties under rotation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError
from scene.geometry import (
    axis_aligned,
    box_corners,
    boxes_from_corners,
    boxes_from_points,
    boxes_mesh,
    distance_to_footprint,
    face_areas,
    footprint,
    object_points,
    rotate_scene,
    sample_surface,
)
from scene.types import Door, Room, Scene, SceneMesh, SceneObject

number = st.floats(-5, 5)
angle = st.floats(-3.1, 3.1)
boxes = st.tuples(number, number, number, st.floats(0.1, 3), st.floats(0.1, 3), st.floats(0.1, 3), angle)


def two_box_scene(points: bool = False) -> Scene:
    box = np.array([[1.0, 0, 0.5, 2, 1, 1, 0], [0, 3, 1, 1, 1, 2, 0.4]])
    vertices, faces = boxes_mesh(box)
    colors = np.repeat(np.array([[200, 0, 0], [0, 0, 200]], np.uint8), 12, axis=0)
    instance = np.repeat(np.arange(2, dtype=np.int32), 12)
    scene = Scene(
        "two",
        "test",
        [SceneObject(0, "table", box[0]), SceneObject(1, "wardrobe", box[1])],
        rooms=[Room(0, "hall", np.array([[-3.0, -3], [5, -3], [5, 5], [-3, 5]]))],
        doors=[Door(0, np.array([5.0, 0, 1, 0.1, 1, 2, 0]), (0, -1))],
        mesh=SceneMesh(vertices, faces, colors, instance),
    )
    if points:
        scene.points = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 1], [0, 3, 1], [9, 9, 9]], np.float32)
        scene.colors = np.full((5, 3), 7, np.uint8)
        scene.instance = np.array([0, 0, 0, 1, -1], np.int32)
    return scene


def test_a_quarter_turn_swaps_the_extents_of_a_box():
    box = np.array([[1.0, 2, 3, 4, 2, 6, np.pi / 2]])
    assert np.allclose(axis_aligned(box), [[0, 0, 0, 2, 4, 6]])


def test_footprints_are_counter_clockwise():
    for yaw in (0.0, 0.7, -2.0):
        corner = footprint(np.array([[0, 0, 0, 2, 1, 1, yaw]]))[0]
        following = np.roll(corner, -1, axis=0)
        area = 0.5 * (corner[:, 0] * following[:, 1] - corner[:, 1] * following[:, 0]).sum()
        assert area == pytest.approx(2.0)


def test_boxes_of_six_numbers_are_refused_with_the_way_out():
    with pytest.raises(InputError, match="boxes_from_corners"):
        box_corners(np.zeros((1, 6)))


def test_distance_to_a_turned_footprint():
    box = np.array([0.0, 0, 0, 2, 1, 1, np.pi / 2])  # 1 wide in x, 2 long in y
    xy = np.array([[0.0, 0.9], [0, 2], [1.5, 0], [0.5 + 3, 1 + 4]])
    assert np.allclose(distance_to_footprint(xy, box), [0, 1, 1, 5])


@settings(max_examples=50, deadline=None)
@given(boxes, number, number)
def test_distance_to_a_footprint_is_that_to_its_nearest_border_point(box, x, y):
    corner = footprint(np.array([box]))[0]
    t = np.linspace(0, 1, 400)[:, None]
    border = np.concatenate([a + t * (b - a) for a, b in zip(corner, np.roll(corner, -1, axis=0), strict=True)])
    slow = np.linalg.norm(border - [x, y], axis=1).min()
    edge, offset = np.roll(corner, -1, axis=0) - corner, np.array([x, y]) - corner
    cross = edge[:, 0] * offset[:, 1] - edge[:, 1] * offset[:, 0]
    expected = 0.0 if cross.min() >= 0 else slow
    assert distance_to_footprint(np.array([x, y]), np.array(box)) == pytest.approx(expected, abs=0.02)


@settings(max_examples=50, deadline=None)
@given(st.lists(boxes, min_size=1, max_size=4))
def test_axis_aligned_boxes_hold_all_corners_tightly(many):
    box = np.array(many)
    corners, bounds = box_corners(box), axis_aligned(box)
    assert np.allclose(corners.min(axis=1), bounds[:, :3]) and np.allclose(corners.max(axis=1), bounds[:, 3:])
    assert np.allclose(axis_aligned(boxes_from_corners(bounds)), bounds)


@settings(max_examples=30, deadline=None)
@given(angle)
def test_turning_a_scene_keeps_all_distances(yaw):
    scene = two_box_scene(points=True)
    turned = rotate_scene(scene, yaw)

    def distances(points):
        return np.linalg.norm(points[:, None] - points[None], axis=-1)

    for read in (lambda s: s.boxes[:, :3], lambda s: s.mesh.vertices, lambda s: s.points, lambda s: s.rooms[0].polygon):
        assert np.allclose(distances(read(scene)), distances(read(turned)), atol=1e-4)
    corners = box_corners(turned.boxes).reshape(-1, 3)
    assert np.allclose(corners, turned.mesh.vertices, atol=1e-4)  # boxes and mesh turn together
    assert np.allclose(turned.to_source @ np.append(corners[0], 1), np.append(box_corners(scene.boxes)[0, 0], 1))


def test_turning_a_scene_leaves_the_given_one_alone():
    scene = two_box_scene()
    before = scene.boxes.copy()
    rotate_scene(scene, 1.0)
    assert np.array_equal(scene.boxes, before)


def test_box_meshes_have_the_area_of_their_boxes():
    vertices, faces = boxes_mesh(np.array([[0, 0, 0, 1.0, 2, 3, 0.3]]))
    assert face_areas(vertices, faces).sum() == pytest.approx(22.0, rel=1e-5)
    middle = vertices[faces].mean(axis=1)
    normal = np.cross(vertices[faces][:, 1] - vertices[faces][:, 0], vertices[faces][:, 2] - vertices[faces][:, 0])
    assert ((normal * middle).sum(axis=1) > 0).all()  # outward


def test_surface_samples_lie_on_their_object_in_its_colour():
    scene = two_box_scene()
    points = sample_surface(scene.mesh, np.array([1, 0]), 200, np.random.default_rng(0))
    assert points.shape == (2, 200, 6)
    for row, k in ((0, 1), (1, 0)):
        box = scene.objects[k].box
        offset = points[row, :, :3] - box[:3]
        cos, sin = np.cos(box[6]), np.sin(box[6])
        local = np.stack(
            [cos * offset[:, 0] + sin * offset[:, 1], cos * offset[:, 1] - sin * offset[:, 0], offset[:, 2]], 1
        )
        assert np.allclose((np.abs(local) / (0.5 * box[3:6])).max(axis=1), 1, atol=1e-4)
        assert (points[row, :, 3:] == scene.mesh.face_colors[12 * k]).all()


def test_surface_samples_are_uniform_over_area():
    scene = two_box_scene()
    points = sample_surface(scene.mesh, np.array([0]), 4000, np.random.default_rng(1))[0]
    on_top = float((points[:, 2] > 1 - 1e-6).mean())  # the top is 2 of 2 * (2 + 2 + 1) square metres
    assert on_top == pytest.approx(0.2, abs=0.03)


def test_an_object_without_faces_cannot_be_sampled():
    with pytest.raises(InputError, match=r"objects \[5\]"):
        sample_surface(two_box_scene().mesh, np.array([0, 5]), 4, np.random.default_rng(0))


def test_object_points_come_from_the_table_and_repeat_only_when_few():
    scene = two_box_scene(points=True)
    points = object_points(scene, 3, seed=0)
    assert sorted(points[0, :, 0]) == [0, 1, 2]  # all three, once each
    assert np.allclose(points[1, :, :3], [0, 3, 1]) and (points[..., 3:] == 7).all()


def test_the_same_seed_gives_the_same_points_and_another_seed_others():
    scene = two_box_scene()
    a, b, c = object_points(scene, 8, 3), object_points(scene, 8, 3), object_points(scene, 8, 4)
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_a_scene_with_nothing_to_sample_says_so():
    with pytest.raises(InputError, match="neither points nor a mesh"):
        object_points(Scene("s", "test", [SceneObject(0, "chair", np.ones(7))]), 4, 0)


def test_boxes_from_points_hold_them_and_have_volume():
    points = np.array([[0, 0, 0], [1, 2, 0], [5, 5, 5]], float)
    made = boxes_from_points(points, np.array([0, 0, 1]), 2, min_size_m=0.02)
    assert np.allclose(made[0], [0.5, 1, 0, 1, 2, 0.02, 0]) and np.allclose(made[1, 3:6], 0.02)
    with pytest.raises(InputError, match=r"objects \[2\]"):
        boxes_from_points(points, np.array([0, 0, 1]), 3)
