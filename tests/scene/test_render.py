"""Tests of scene/render.py: Embree's pictures against a slow ray-triangle test written out in numpy."""

import sys

import numpy as np
import pytest
import torch

from core.conventions import camera_pose, intrinsics_from_fov
from core.errors import InputError, MissingLibraryError
from scene.palette import SKY
from scene.render import FALLOFF_PER_M, Frame, prepare, render, shade
from scene.types import Scene, SceneMesh, SceneObject

SIZE = 24
LENS = intrinsics_from_fov(SIZE, SIZE, np.pi / 2)


def room_of_triangles(seed: int = 0, n: int = 14) -> Scene:
    """Random triangles around the origin, half of them of object 0, one in seven structure."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(0, 2.5, (n, 1, 3))
    corners = (middle + rng.normal(0, 1.0, (n, 3, 3))).reshape(-1, 3)
    owner = np.arange(n) % 2
    owner[::7] = -1
    mesh = SceneMesh(
        corners.astype(np.float32),
        np.arange(3 * n, dtype=np.int32).reshape(n, 3),
        rng.integers(0, 256, (n, 3)).astype(np.uint8),
        owner.astype(np.int32),
    )
    things = [SceneObject(k, "thing", np.array([0, 0, 0, 1, 1, 1, 0.0])) for k in range(2)]
    return Scene(f"triangles-{seed}", "test", things, mesh=mesh)


def poses(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack(
        [camera_pose(rng.normal(0, 0.3, 3), rng.uniform(0, 6.28), rng.uniform(-0.5, 0.5)) for _ in range(n)]
    )


def slow_picture(scene: Scene, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moeller-Trumbore for every pixel and triangle (their 1997 paper), shading from the two formulas in words."""
    corners = scene.mesh.vertices[scene.mesh.faces].astype(np.float64)
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    rgb = np.zeros((SIZE, SIZE, 3))
    depth = np.zeros((SIZE, SIZE))
    instance = np.full((SIZE, SIZE), -1)
    shaded = shade(scene.mesh).astype(np.float64)
    for v in range(SIZE):
        for u in range(SIZE):
            in_camera = np.array([(u + 0.5 - LENS[0, 2]) / LENS[0, 0], (v + 0.5 - LENS[1, 2]) / LENS[1, 1], 1.0])
            ray = pose[:3, :3] @ in_camera
            across = np.cross(ray, edge2)
            det = (edge1 * across).sum(1)
            from_corner = pose[:3, 3] - corners[:, 0]
            a = (from_corner * across).sum(1) / det
            up = np.cross(from_corner, edge1)
            b = (up @ ray) / det
            t = (up * edge2).sum(1) / det
            t[(a < 0) | (b < 0) | (a + b > 1) | (t <= 0)] = np.inf
            face = t.argmin()
            if np.isfinite(t[face]):
                hit = pose[:3, 3] + t[face] * ray
                depth[v, u] = (hit - pose[:3, 3]) @ pose[:3, 2]  # along the camera's z axis
                instance[v, u] = scene.mesh.face_instance[face]
                rgb[v, u] = shaded[face] / (1 + FALLOFF_PER_M * depth[v, u])
            else:
                rgb[v, u] = SKY
    return rgb, depth, instance


def same(a: Frame, b: Frame) -> bool:
    return all(torch.equal(getattr(a, part), getattr(b, part)) for part in ("rgb", "depth", "instance"))


def test_colour_depth_and_ids_agree_with_a_ray_triangle_test_written_out():
    scene, pose = room_of_triangles(), poses(2)
    frame = render(prepare(scene), pose, LENS, SIZE, SIZE)
    seen = set()
    for k in range(2):
        rgb, depth, instance = slow_picture(scene, pose[k])
        agree = frame.instance[k].numpy() == instance
        assert (~agree).mean() < 0.005  # rays through an edge may fall to either side
        np.testing.assert_allclose(frame.depth[k].numpy()[agree], depth[agree], atol=2e-4)
        assert np.abs(frame.rgb[k].numpy()[agree] - rgb[agree]).max() <= 1.0
        seen |= set(np.unique(instance))
    assert seen == {-1, 0, 1}


def test_depth_of_a_wall_is_its_distance_along_the_axis_in_every_pixel():
    wall = SceneMesh(
        np.array([[2, -9, -9], [2, 9, -9], [2, 9, 9], [2, -9, 9]], np.float32),
        np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        np.full((2, 3), 200, np.uint8),
        np.full(2, -1, np.int32),
    )
    scene = Scene("wall", "test", [], mesh=wall)
    ahead = render(prepare(scene), camera_pose(np.zeros(3), 0.0)[None], LENS, SIZE, SIZE)
    behind = render(prepare(scene), camera_pose(np.zeros(3), np.pi)[None], LENS, SIZE, SIZE)
    torch.testing.assert_close(ahead.depth, torch.full((1, SIZE, SIZE), 2.0))
    assert (ahead.instance == -1).all() and (behind.instance == -1).all()
    assert (behind.depth == 0).all() and (behind.rgb == torch.tensor(SKY, dtype=torch.uint8)).all()


def test_a_batch_over_homes_equals_each_camera_alone():
    homes = [prepare(room_of_triangles(seed)) for seed in range(3)]
    pose, index = poses(9, seed=1), np.array([2, 0, 1, 1, 0, 2, 2, 2, 0])
    together = render(homes, torch.from_numpy(pose), LENS, SIZE, SIZE, home_index=torch.from_numpy(index))
    for k in range(9):
        alone = render(homes[index[k]], pose[k : k + 1], LENS, SIZE, SIZE)
        assert same(Frame(together.rgb[k, None], together.depth[k, None], together.instance[k, None]), alone)
    paired = render([homes[0], homes[1]], pose[:2], LENS, SIZE, SIZE)
    assert same(paired, render(homes, pose[:2], LENS, SIZE, SIZE, home_index=np.array([0, 1])))


def test_a_batch_larger_than_one_cast_is_complete():
    home, pose = prepare(room_of_triangles()), poses(3)
    many = render(home, np.tile(pose, (50, 1, 1)), LENS, 40, 40)  # 150 x 1,600 rays
    few = render(home, pose, LENS, 40, 40)
    assert same(Frame(many.rgb[147:], many.depth[147:], many.instance[147:]), few)


def test_an_empty_batch_gives_empty_pictures():
    frame = render(prepare(room_of_triangles()), np.zeros((0, 4, 4)), LENS, 8, 6)
    assert (frame.rgb.shape, frame.depth.shape) == ((0, 6, 8, 3), (0, 6, 8))


def test_both_sides_of_a_face_have_the_same_colour_and_shade_keeps_three_quarters():
    scene = room_of_triangles()
    flipped = SceneMesh(
        scene.mesh.vertices, scene.mesh.faces[:, ::-1], scene.mesh.face_colors, scene.mesh.face_instance
    )
    light = shade(scene.mesh)
    assert (light == shade(flipped)).all()
    assert (light <= scene.mesh.face_colors).all() and (light >= 0.75 * scene.mesh.face_colors - 1).all()


def test_scenes_that_cannot_be_rendered_say_why():
    scene = room_of_triangles()
    mesh = scene.mesh
    nothing = SceneMesh(mesh.vertices, mesh.faces[:0], mesh.face_colors[:0], mesh.face_instance[:0])
    for broken, words in (
        (None, "no mesh faces"),
        (nothing, "no mesh faces"),
        (SceneMesh(mesh.vertices, mesh.faces, mesh.face_colors[:3], mesh.face_instance), "face_colors"),
        (SceneMesh(mesh.vertices, mesh.faces + 99, mesh.face_colors, mesh.face_instance), "name vertices"),
        (SceneMesh(mesh.vertices * np.nan, mesh.faces, mesh.face_colors, mesh.face_instance), "NaN"),
    ):
        with pytest.raises(InputError, match=words):
            prepare(Scene("broken", "test", scene.objects, mesh=broken))


def test_cameras_that_cannot_be_rendered_say_why():
    home, pose = prepare(room_of_triangles()), poses(2)
    lost = pose.copy()
    lost[1, 0, 3] = np.nan
    for call, words in (
        (lambda: render(home, lost, LENS, 8, 8), r"cameras \[1\]"),
        (lambda: render(home, pose[0], LENS, 8, 8), r"expected \(B, 4, 4\)"),
        (lambda: render(home, pose, np.eye(4), 8, 8), r"\(3, 3\)"),
        (lambda: render(home, pose, LENS * 0, 8, 8), "focal"),
        (lambda: render(home, pose, LENS, 0, 8), "one pixel"),
        (lambda: render([home] * 3, pose, LENS, 8, 8), "home_index"),
        (lambda: render([home], pose, LENS, 8, 8, home_index=np.array([0, 1])), "there are 1 homes"),
        (lambda: render([home], pose, LENS, 8, 8, home_index=np.array([0])), r"expected \(2,\)"),
    ):
        with pytest.raises(InputError, match=words):
            call()


def test_a_missing_open3d_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)  # what a failed import looks like
    with pytest.raises(MissingLibraryError, match="pip install open3d-cpu"):
        prepare(room_of_triangles())


def test_a_missing_libusb_is_named_with_the_command_that_installs_it(monkeypatch):
    class WithoutLibusb:
        def find_spec(self, name, path=None, target=None):
            if name == "open3d":
                raise ImportError("libusb-1.0.so.0: cannot open shared object file: No such file or directory")

    monkeypatch.delitem(sys.modules, "open3d", raising=False)
    monkeypatch.setattr(sys, "meta_path", [WithoutLibusb(), *sys.meta_path])
    with pytest.raises(MissingLibraryError, match="apt-get install -y --no-install-recommends libusb-1.0-0"):
        prepare(room_of_triangles())
