"""Tests of scene/visibility.py: the occlusion score, by hand and on rendered boxes."""

import numpy as np
import pytest

from core.conventions import camera_pose, intrinsics_from_fov
from core.errors import InputError
from scene.geometry import boxes_mesh, distance_to_footprint
from scene.types import Scene, SceneMesh, SceneObject
from scene.views import captioned_views
from scene.visibility import SCORE_POINTS, score_points, visible_shares
from tests.scene.test_views import home


def test_the_occlusion_score_of_a_view_by_hand():
    # a camera at the origin looks along +x; 4 x 4 pixels of 90 degrees: a pixel is half a metre wide at 1 m
    pose = camera_pose(np.zeros(3), 0.0)[None]
    lens = intrinsics_from_fov(4, 4, np.pi / 2)
    ids = np.full((1, 4, 4), -1, np.int32)
    ids[0, 1, :2], ids[0, 2, 2] = 0, 1
    points = np.full((4, 4, 3), np.nan)
    points[0] = [[1, 0.25, 0.25], [1, 0.75, 0.25], [1, -0.25, 0.25], [-1, 0.25, 0.25]]
    # shown in columns 1 and 0 of row 1; at column 2, which shows nothing; behind the camera
    points[1] = [[2, -0.5, -0.5], [4, -1, -1], [2, -0.5, 0.5], [2, -5, -0.5]]
    # shown, its far side, hidden by what stands in row 1, outside the picture
    points[2] = points[0]  # never shown
    assert visible_shares(points, pose, lens, ids).tolist() == [[0.5, 0.5, 0.0, 0.0]]


def test_what_stands_alone_in_the_picture_scores_near_one_and_half_hidden_near_a_half():
    post, screen = (np.array([x, 0.0, 1.0, 0.4, 0.4, 1.0, 0.0]) for x in (3.0, 2.0))
    screen[1], screen[3:6] = 0.5, (0.05, 1.0, 3.0)  # covers what is left of the middle
    for boxes, expected in (([post], 1.0), ([post, screen], 0.5)):
        vertices, faces = boxes_mesh(np.stack(boxes))
        owner = np.repeat(np.arange(len(boxes), dtype=np.int32), 12)
        mesh = SceneMesh(vertices, faces, np.full((len(faces), 3), 90, np.uint8), owner)
        scene = Scene("post", "test", [SceneObject(k, "post", box) for k, box in enumerate(boxes)], mesh=mesh)
        pose = camera_pose(np.array([0.0, 0.0, 1.0]), 0.0)[None]
        views, ids = captioned_views(scene, pose, 128, 128, 60.0)
        assert (ids[0] == 0).any()
        score = next(item.visible_share for item in views.visible[0] if item.id == 0)
        assert score == pytest.approx(expected, abs=0.12)


def test_points_of_the_score_depend_on_the_scene_alone_and_lie_on_its_surfaces():
    scene = home("points")
    points = score_points(scene)
    assert points.shape == (5, SCORE_POINTS, 3) and (points == score_points(scene)).all()
    for item in scene.objects:
        assert (distance_to_footprint(points[item.id, :, :2], item.box) < 1e-4).all()
    scene.mesh.face_instance[scene.mesh.face_instance == 2] = -1
    assert np.isnan(score_points(scene)[2]).all()
    with pytest.raises(InputError, match="no mesh"):
        score_points(Scene("void", "test", scene.objects))
