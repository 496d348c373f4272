"""Homes from a seed: the same each time, walkable, with true supports and without held-out pairs in training."""

from collections import Counter

import numpy as np
import pytest
from scipy import ndimage

from core.errors import InputError
from scene.datasets.procedural import (
    GOAL_LABELS,
    HELD_OUT_PAIRS,
    HomeConfig,
    generate_home,
    generate_home_with_truth,
    load,
)
from scene.datasets.shell import triangulate, wall_boxes
from scene.geometry import axis_aligned, box_corners, distance_to_footprint
from scene.occupancy import occupancy
from scene.types import Scene

HOMES = [generate_home_with_truth(seed) for seed in range(24)]
TEST_HOMES = [generate_home(seed, HomeConfig(split="test")) for seed in range(60)]


def goals(scene: Scene) -> list[str]:
    return [item.label for item in scene.objects if item.label in GOAL_LABELS]


def test_the_same_seed_gives_the_same_home_and_splits_differ():
    a, b = generate_home(5), generate_home(5)
    assert a.id == "procedural-train-00005"
    assert np.array_equal(a.boxes, b.boxes) and np.array_equal(a.mesh.face_colors, b.mesh.face_colors)
    other = generate_home(5, HomeConfig(split="val"))
    assert other.id == "procedural-val-00005"
    assert a.boxes.shape != other.boxes.shape or not np.allclose(a.boxes, other.boxes)


def test_meshes_fill_the_boxes_of_their_objects():
    for scene, _ in HOMES[:6]:
        for item in scene.objects:
            faces = scene.mesh.faces[scene.mesh.face_instance == item.id]
            offset = scene.mesh.vertices[np.unique(faces)] - item.box[:3]
            cos, sin = np.cos(item.box[6]), np.sin(item.box[6])
            local = offset @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
            assert np.allclose(local.max(axis=0), 0.5 * item.box[3:6], atol=1e-4), item.label
            assert np.allclose(local.min(axis=0), -0.5 * item.box[3:6], atol=1e-4), item.label


def test_objects_stay_in_their_rooms():
    for scene, _ in HOMES:
        for item, bounds in zip(scene.objects, axis_aligned(scene.boxes), strict=True):
            polygon = scene.rooms[item.room].polygon
            slack = 0.2 if item.label in ("door", "window") else 1e-6  # these sit in walls
            assert (bounds[:2] >= polygon.min(axis=0) - slack).all(), item
            assert (bounds[3:5] <= polygon.max(axis=0) + slack).all(), item
            assert bounds[2] > -1e-9 and bounds[5] < 2.6 + 1e-9


def test_things_rest_on_their_support_or_lie_within_it():
    kinds = Counter()
    for scene, truth in HOMES:
        bounds = axis_aligned(scene.boxes)
        for child, parent in truth.items():
            if parent is None:
                continue
            assert distance_to_footprint(scene.boxes[child, :2], scene.boxes[parent]) == 0
            gap = bounds[child, 2] - bounds[parent, 5]
            kinds["on" if abs(gap) < 1e-6 else "in"] += 1
            assert gap < 1e-6 and bounds[child, 2] >= bounds[parent, 2]
            if gap > -1e-6:  # wholly on the top
                assert (
                    distance_to_footprint(box_corners(scene.boxes[[child]])[0, :, :2], scene.boxes[parent]) < 1e-6
                ).all()
    assert kinds["on"] > 20 and kinds["in"] > 10


def test_furniture_does_not_interpenetrate():
    for scene, truth in HOMES[:12]:
        bounds = axis_aligned(scene.boxes)
        for i in range(len(bounds)):
            for j in range(i):
                nested = i in (truth[j], truth[truth[j]] if truth[j] is not None else None)
                nested |= j in (truth[i], truth[truth[i]] if truth[i] is not None else None)
                shared = np.minimum(bounds[i, 3:], bounds[j, 3:]) - np.maximum(bounds[i, :3], bounds[j, :3])
                tucked = {scene.labels[i], scene.labels[j]} == {"chair", "desk"}  # the seat goes under the desk
                assert nested or tucked or shared.min() < 1e-6, (scene.id, scene.labels[i], scene.labels[j])


@pytest.mark.parametrize("config", [HomeConfig(), HomeConfig(rooms_min=4, rooms_max=6)])
def test_an_agent_reaches_every_room_and_every_goal(config):
    for seed in range(4):
        scene = generate_home(100 + seed, config)
        grid = occupancy(scene, agent_radius_m=0.2)
        assert ndimage.label(grid.free)[1] == 1
        free = grid.centers(np.argwhere(grid.free))
        for room in scene.rooms:
            low, high = room.polygon.min(axis=0), room.polygon.max(axis=0)
            assert ((free > low) & (free < high)).all(axis=1).sum() * grid.cell_m**2 > 1.0, room
        for item in scene.objects:
            if item.label in GOAL_LABELS:
                assert distance_to_footprint(free, item.box).min() < 0.9, item.label


def test_every_home_has_goals_and_something_to_tell_apart():
    for scene, _ in HOMES:
        assert len(goals(scene)) >= 3
        assert max(Counter(goals(scene)).values()) >= 2
        assert 8 <= len(scene.objects) <= 45 and 1000 < len(scene.mesh.faces) < 12_000


def test_train_and_val_homes_never_show_a_held_out_pair_and_test_homes_show_them_all():
    def pairs(scenes):
        return {(item.attributes["color"], item.label) for scene in scenes for item in scene.objects}

    val = [generate_home(seed, HomeConfig(split="val")) for seed in range(20)]
    assert not pairs([scene for scene, _ in HOMES] + val) & set(HELD_OUT_PAIRS)
    assert len(pairs(TEST_HOMES) & set(HELD_OUT_PAIRS)) == len(HELD_OUT_PAIRS)


def test_rooms_are_joined_by_open_doors_wide_enough():
    for seed in range(6):
        scene = generate_home(seed, HomeConfig(rooms_min=3, rooms_max=6))
        group = list(range(len(scene.rooms)))
        for door in scene.doors:
            if door.open:
                a, b = door.rooms
                group = [group[a] if g == group[b] else g for g in group]
                assert door.box[4] >= 1.0
        assert len(set(group)) == 1
        assert any(door.rooms[1] == -1 and not door.open for door in scene.doors)
        for room in scene.rooms:
            side = room.polygon.max(axis=0) - room.polygon.min(axis=0)
            assert (side > 3.5).all() and (side < 5.7).all()


def test_no_wall_crosses_an_open_door():
    for scene, _ in HOMES[:8]:
        fixed = scene.mesh.vertices[scene.mesh.faces[scene.mesh.face_instance == -1]].astype(float)
        low, high = fixed.min(axis=1), fixed.max(axis=1)
        for door in scene.doors:
            if not door.open:
                continue
            x, y, z = door.box[:3]
            reach = np.array([0.3, 0.3])
            inner_low, inner_high = np.array([x, y, 0.2]), np.array([x, y, 1.9])
            along = 1 if abs(np.cos(door.box[6])) > 0.5 else 0
            inner_low[along] -= 0.45
            inner_high[along] += 0.45
            inner_low[1 - along] -= reach[0]
            inner_high[1 - along] += reach[1]
            assert not ((low < inner_high) & (high > inner_low)).all(axis=1).any(), (scene.id, z)


def test_load_follows_the_seeds_and_bad_configs_are_refused():
    assert [scene.id for scene in load(range(3, 5))] == ["procedural-train-00003", "procedural-train-00004"]
    for wrong in ({"split": "tset"}, {"rooms_min": 3}, {"rooms_max": 9}, {"side_max_m": 4.0}, {"clutter": -1.0}):
        with pytest.raises(InputError):
            HomeConfig(**wrong)
    with pytest.raises(InputError, match="negative"):
        generate_home(-1)


def test_walls_leave_their_openings_free():
    boxes = wall_boxes(np.zeros(2), np.array([4.0, 0]), 2.5, (0.0, 0.2), [(1.0, 2.0, 0.0, 2.0), (3.0, 3.5, 1.0, 2.0)])
    area = (boxes[:, 3] * boxes[:, 5]).sum()
    assert area == pytest.approx(4 * 2.5 - 2.0 - 0.5)
    assert np.allclose(boxes[:, 1], -0.1)  # the wall lies to the right of its line


def test_concave_polygons_are_cut_into_triangles_of_the_same_area():
    polygon = np.array([[0.0, 0], [3, 0], [3, 1], [1, 1], [1, 3], [0, 3]])
    for ring in (polygon, polygon[::-1]):
        corner = ring[triangulate(ring)]
        u, v = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
        area = 0.5 * (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
        assert (area > 0).all() and area.sum() == pytest.approx(5.0)
    with pytest.raises(InputError, match="crosses itself"):
        triangulate(np.array([[0.0, 0], [2, 2], [2, 0], [0, 2.5]]))
