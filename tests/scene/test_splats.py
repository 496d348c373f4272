from dataclasses import replace

import numpy as np
import pytest

from core.conventions import camera_pose, intrinsics_from_fov
from core.errors import InputError
from scene.geometry import sample_surface
from scene.palette import SKY
from scene.render import prepare, render
from scene.splats import GRAY, Splats, spacing
from scene.types import Scene, SceneObject
from tests.scene.toy import toy_scene

CUBE = SceneObject(0, "cube", np.array([0.0, 0, 0, 1, 1, 1, 0]))
ALONG_X = camera_pose(np.array([-2.0, 0.0, 0.0]), 0.0)[None]


def wall(x: float, color: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A grid of points 1 cm apart across the x axis."""
    y, z = np.meshgrid(np.arange(-0.5, 0.5, 0.01), np.arange(-0.5, 0.5, 0.01))
    points = np.stack([np.full(y.size, x), y.ravel(), z.ravel()], axis=1).astype(np.float32)
    return points, np.tile(np.array(color, np.uint8), (len(points), 1))


def test_the_nearer_point_shows_and_the_rest_is_sky():
    near, far = wall(0.0, (255, 0, 0)), wall(1.0, (0, 0, 255))
    points, colors = (np.concatenate(part) for part in zip(far, near))
    ids = np.repeat(np.array([-1, 0], np.int32), len(near[0]))
    scene = Scene("walls", "toy", [CUBE], points=points, colors=colors, instance=ids)
    rgb, instance = Splats(scene).draw(ALONG_X, intrinsics_from_fov(40, 40, np.deg2rad(60)), 40, 40)
    assert (instance[0, 15:25, 15:25] == 0).all()  # no hole in it
    assert (rgb[0, 15:25, 15:25] == (255, 0, 0)).all()
    assert instance[0, 0, 0] == -1
    assert tuple(rgb[0, 0, 0]) == SKY


def test_what_is_behind_the_camera_is_not_drawn():
    points, colors = wall(-3.0, (255, 0, 0))
    scene = Scene("behind", "toy", [CUBE], points=points, colors=colors, instance=np.zeros(len(points), np.int32))
    rgb, instance = Splats(scene).draw(ALONG_X, intrinsics_from_fov(16, 16, 1.5), 16, 16)
    assert (instance == -1).all()
    assert (rgb == SKY).all()


def test_a_home_drawn_from_its_points_looks_like_the_home():
    scene = toy_scene(3)
    assert scene.mesh is not None
    whole = replace(scene.mesh, face_instance=np.zeros(len(scene.mesh.faces), np.int32))
    table = sample_surface(whole, np.array([0]), 20_000, np.random.default_rng(0))[0]  # as dense everywhere
    points, colors = table[:, :3], table[:, 3:].astype(np.uint8)
    away = np.abs(points[:, None] - scene.boxes[:, :3]) - 0.5 * scene.boxes[:, 3:6]
    ids = away.max(axis=-1).argmin(axis=1).astype(np.int32)
    scan = Scene("scan", "toy", scene.objects, scene.rooms, points=points, colors=colors, instance=ids)
    pose = camera_pose(np.array([3.0, -3.0, 2.0]), np.pi / 2, -0.3)[None]
    lens = intrinsics_from_fov(160, 160, np.deg2rad(50))
    surface = render(prepare(scene), pose, lens, 160, 160).instance.numpy()
    _, drawn = Splats(scan).draw(pose, lens, 160, 160)
    both = (surface >= 0) & (drawn >= 0)
    assert (surface == drawn)[both].mean() > 0.96
    assert both.sum() > 0.95 * (surface >= 0).sum()


def test_part_of_the_points_stands_for_all_of_them():
    points, colors = wall(0.0, (255, 0, 0))
    scene = Scene("wall", "toy", [CUBE], points=points, colors=colors, instance=np.zeros(len(points), np.int32))
    lens = intrinsics_from_fov(32, 32, 1.0)
    whole, part = (Splats(scene, at_most).draw(ALONG_X, lens, 32, 32)[1] == 0 for at_most in (None, 500))
    assert len(Splats(scene, 500).points) == 500
    assert (whole == part).mean() > 0.9


def test_spacing_is_the_step_of_a_grid():
    assert spacing(wall(0.0, (0, 0, 0))[0]) == pytest.approx(0.01, rel=0.05)
    assert spacing(np.zeros((1, 3))) == 0.1


def test_a_scan_without_colours_is_gray_and_one_without_points_or_ids_is_an_error():
    points, _ = wall(0.0, (0, 0, 0))
    scene = Scene("gray", "toy", [CUBE], points=points, instance=np.zeros(len(points), np.int32))
    rgb, _ = Splats(scene).draw(ALONG_X, intrinsics_from_fov(8, 8, 0.5), 8, 8)
    assert (rgb == GRAY).all()
    for broken in (Scene("none", "toy", [CUBE]), Scene("no ids", "toy", [CUBE], points=points)):
        with pytest.raises(InputError, match="no points with object ids"):
            Splats(broken)
