"""Warp's pictures (on the CPU) beside Embree's."""

import sys

import numpy as np
import pytest
import torch

from core.conventions import camera_pose, intrinsics_from_fov
from core.errors import InputError, MissingLibraryError
from scene.datasets.procedural import generate_home
from scene.moving import MovingParts
from scene.palette import SKY
from scene.render import Frame, Moving, Renderer, make_renderer, prepare, render
from scene.render_warp import WarpHomes, WarpRenderer, _captured
from scene.types import Scene, SceneMesh, SceneObject
from scene.warp_kernels import wp

LENS = intrinsics_from_fov(24, 24, np.pi / 2)


@pytest.fixture(scope="module")
def homes() -> list[Scene]:
    return [generate_home(seed) for seed in (3, 4, 6)]


def cameras(homes: list[Scene], n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of homes and poses in their rooms, at any angle."""
    rng = np.random.default_rng(seed)
    index = rng.integers(0, len(homes), n)
    poses = []
    for k in index:
        room = homes[k].rooms[rng.integers(len(homes[k].rooms))]
        where = np.append(room.polygon.mean(0) + rng.uniform(-0.4, 0.4, 2), rng.uniform(0.8, 1.6))
        poses.append(camera_pose(where, rng.uniform(0, 6.28), rng.uniform(-0.5, 0.5)))
    return torch.from_numpy(index), torch.from_numpy(np.stack(poses))


def filled(renderer: Renderer, homes: list[Scene]) -> Renderer:
    for number, scene in enumerate(homes):
        renderer.put(number, scene)
    return renderer


def warp_renderer(homes: list[Scene], batch: int = 8, size: int = 24, **options: bool) -> WarpRenderer:
    table = WarpHomes("cpu")
    for number, scene in enumerate(homes):
        table.put(number, scene)
    lens = intrinsics_from_fov(size, size, np.pi / 2)
    return WarpRenderer(table, size, size, lens, batch, **options)


def same(a: Frame, b: Frame) -> bool:
    return all(torch.equal(getattr(a, part), getattr(b, part)) for part in ("rgb", "depth", "instance"))


@pytest.mark.parametrize(("width", "height", "fov_deg"), [(64, 64, 90), (37, 21, 120), (50, 81, 55)])
def test_warp_and_embree_see_the_same(homes: list[Scene], width: int, height: int, fov_deg: float):
    lens = intrinsics_from_fov(width, height, np.deg2rad(fov_deg))
    index, poses = cameras(homes, 24, seed=width)
    embree, warp = (
        filled(make_renderer(name, width, height, lens, batch=24), homes).render(index, poses)
        for name in ("embree", "warp")
    )
    agree = embree.instance == warp.instance
    assert agree.float().mean() >= 0.998
    off = (embree.depth - warp.depth).abs()
    assert (off[agree] <= 1e-4).float().mean() >= 0.9998  # an edge may fall to a face behind it of the same owner
    dim = (embree.rgb.int() - warp.rgb.int()).abs().amax(-1)
    assert (dim[agree] <= 2).float().mean() >= 0.998 and (dim <= 1).float().mean() > 0.99
    assert len(torch.unique(warp.instance)) > 10 and (warp.depth > 0).float().mean() > 0.5


def moved(homes: list[Scene], index: torch.Tensor, poses: torch.Tensor) -> Moving:
    """Things in front of every other camera, turned and some of them hidden; doors shut at random; NaN fills up."""
    rng = np.random.default_rng(9)
    parts = [MovingParts.of(scene) for scene in homes]
    pose = np.full((len(index), max(part.things for part in parts) + 1, 4), np.nan)
    for b, (home, camera) in enumerate(zip(index.tolist(), poses.numpy())):
        rest = parts[home].rest_pose
        if b % 2 == 0:
            ahead = np.stack([rng.uniform(-0.5, 0.5, len(rest)), rng.uniform(-0.3, 0.3, len(rest)),
                              rng.uniform(-0.3, 1.5, len(rest))], axis=1)  # fmt: skip
            rest[:, :3] = camera[:3, 3] + ahead @ camera[:3, :3].T
            rest[:, 3] = rng.uniform(-3, 3, len(rest))
        pose[b, : len(rest)] = rest
    visible = torch.from_numpy(rng.random(pose.shape[:2]) < 0.8)
    return Moving(torch.from_numpy(pose), visible, torch.from_numpy(rng.integers(0, 32, len(index))))


def test_warp_and_embree_see_the_same_things_carried_and_doors_shut(homes: list[Scene]):
    lens = intrinsics_from_fov(48, 40, np.pi / 2)
    index, poses = cameras(homes, 24, seed=7)
    where = moved(homes, index, poses)
    frames, still = [], []
    for name in ("embree", "warp"):
        renderer = make_renderer(name, 48, 40, lens, batch=24)
        for number, scene in enumerate(homes):
            renderer.put(number, scene, moving=True)
        still.append(renderer.render(index, poses))
        frames.append(renderer.render(index, poses, where))
    embree, warp = frames
    for b in range(24):  # in every frame that the parts change, the same pixels change
        assert ((embree.depth[b] != still[0].depth[b]) != (warp.depth[b] != still[1].depth[b])).float().mean() < 0.01
    changed = (warp.depth != still[1].depth) & (warp.instance != still[1].instance)
    assert 0.01 < changed.float().mean() < 0.9
    agree = embree.instance == warp.instance
    assert agree.float().mean() >= 0.998 and agree[changed].float().mean() >= 0.99
    off = (embree.depth - warp.depth).abs()
    assert (off[agree] <= 1e-4).float().mean() >= 0.9998
    dim = (embree.rgb.int() - warp.rgb.int()).abs().amax(-1)
    assert (dim[agree] <= 2).float().mean() >= 0.998


def test_what_does_not_move_right_says_why(homes: list[Scene]):
    table = WarpHomes()
    renderer = WarpRenderer(table, 24, 24, LENS, 8)
    for number, scene in enumerate(homes):
        renderer.put(number, scene, moving=True)
    index, poses = cameras(homes, 8, seed=8)
    where = moved(homes, index, poses)
    lost = Moving(where.pose * torch.nan, torch.ones_like(where.visible), where.doors_shut)
    few = Moving(where.pose[:, :1], where.visible[:, :1], where.doors_shut)
    for moving, words in (
        (lost, "visible things of environments"),
        (few, "1 slots given"),
        (Moving(where.pose, where.visible[:3], where.doors_shut), r"expected \(B, K, 4\)"),
    ):
        with pytest.raises(InputError, match=words):
            renderer.render(index, poses, moving)
    embree = make_renderer("embree", 24, 24, LENS, batch=8)
    embree.put(0, homes[0])
    with pytest.raises(InputError, match="put without moving=True"):
        embree.render(index[:1] * 0, poses[:1], Moving(where.pose[:1], where.visible[:1], where.doors_shut[:1]))
    with pytest.raises(InputError, match=r"numbers \[7\]"):
        embree.render(index[:1] * 0 + 7, poses[:1])
    embree.drop(0)
    with pytest.raises(InputError, match=r"numbers \[0\]"):
        embree.render(index[:1] * 0, poses[:1])


def test_a_ray_through_the_open_side_shows_the_sky_on_both():
    wall = SceneMesh(
        np.array([[2, -0.5, -9], [2, 9, -9], [2, 9, 9], [2, -0.5, 9]], np.float32),
        np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        np.full((2, 3), 200, np.uint8),
        np.zeros(2, np.int32),
    )
    scene = Scene("window", "test", [SceneObject(0, "pane", np.array([2, 4, 0, 0.1, 9, 18, 0.0]))], mesh=wall)
    index, pose = torch.zeros(1, dtype=torch.int64), torch.from_numpy(camera_pose(np.zeros(3), 0.0))[None]
    frame = warp_renderer([scene]).render(index, pose)
    assert same(frame, render(prepare(scene), pose, LENS, 24, 24))
    assert (frame.rgb[0, 0, -1] == torch.tensor(SKY)).all()
    assert (frame.depth[0, 0, -1], frame.instance[0, 0, -1]) == (0, -1)
    assert frame.depth[0, 0, 0] == 2 and frame.instance[0, 0, 0] == 0


def test_a_camera_sees_the_same_in_any_batch_and_on_any_number_of_threads(homes: list[Scene], monkeypatch):
    index, poses = cameras(homes, 7, seed=1)
    whole = warp_renderer(homes).render(index, poses)
    monkeypatch.setattr("scene.render_warp.granted", lambda: 3)
    shared = warp_renderer(homes)
    assert same(whole, shared.render(index, poses))
    for k in range(7):
        part = shared.render(index[k : k + 1], poses[k : k + 1])
        assert same(part, Frame(whole.rgb[k, None], whole.depth[k, None], whole.instance[k, None]))


def test_frames_are_copies_unless_their_memory_is_to_be_used_again(homes: list[Scene]):
    renderer = warp_renderer(homes)
    index, poses = cameras(homes, 4, seed=2)
    kept, lent = renderer.render(index, poses), renderer.render(index, poses, reuse=True)
    assert same(kept, lent) and lent.rgb.data_ptr() == renderer.frame.rgb.data_ptr()
    again = renderer.render(index.flip(0), poses.flip(0))
    assert same(again, lent) and not same(kept, lent)


def test_homes_come_and_go_without_touching_the_others(homes: list[Scene]):
    renderer = warp_renderer(homes)
    index, poses = cameras(homes, 8, seed=3)
    before = renderer.render(index, poses)
    renderer.put(500, homes[1])  # the table grows
    moved = torch.where(index == 1, 500, index)
    renderer.drop(1)
    renderer.drop(1)
    assert 1 not in renderer.homes and len(renderer.homes) == 3
    assert same(before, renderer.render(moved, poses))
    with pytest.raises(InputError, match=r"numbers \[1\]"):
        renderer.render(index, poses)
    renderer.put(1, homes[0])
    renderer.put(1, homes[1])  # replaces it
    assert same(before, renderer.render(index, poses)) and len(renderer.homes) == 4


def test_a_recorded_graph_draws_what_its_inputs_say_when_it_is_replayed(homes: list[Scene]):
    table = WarpHomes()
    renderer = WarpRenderer(table, 24, 24, LENS, 8)
    for number, scene in enumerate(homes):
        renderer.put(number, scene, moving=True)
    index, poses = cameras(homes, 8, seed=1)
    where = moved(homes, index, poses)
    expected = renderer.render(index, poses, where)
    graph = _captured(renderer._moving[0], table.warp_device)  # as on CUDA, here of Warp's CPU mode
    other = renderer.render(index.flip(0), poses.flip(0), reuse=True)
    assert not same(other, expected)
    renderer._home.copy_(index)
    renderer._pose.copy_(poses[:, :3])
    renderer._take(where, index)
    wp.capture_launch(graph)
    assert same(renderer.frame, expected)


def test_an_empty_batch_gives_empty_pictures(homes: list[Scene]):
    frame = warp_renderer(homes).render(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4, 4))
    assert (frame.rgb.shape, frame.depth.shape, frame.instance.shape) == ((0, 24, 24, 3), (0, 24, 24), (0, 24, 24))


def test_what_cannot_be_rendered_says_why(homes: list[Scene]):
    renderer = warp_renderer(homes)
    index, poses = cameras(homes, 3, seed=4)
    lost = poses.clone()
    lost[1, 2, 3] = torch.nan
    for call, words in (
        (lambda: renderer.render(index, lost), r"cameras \[1\] hold NaN"),
        (lambda: renderer.render(index, poses[:, :2]), r"expected \(B, 4, 4\)"),
        (lambda: renderer.render(index[:2], poses), r"expected \(3,\)"),
        (lambda: renderer.render(index * 0 + 9, poses), r"numbers \[9\]"),
        (lambda: renderer.render(index * 0 - 1, poses), r"numbers \[-1\]"),
        (lambda: renderer.render(index.repeat(3), poses.repeat(3, 1, 1)), "9 cameras .* batch=8"),
        (lambda: WarpRenderer(renderer.homes, 0, 8, LENS, 1), "one pixel"),
        (lambda: WarpRenderer(renderer.homes, 8, 8, LENS, 0), "batch=0"),
        (lambda: WarpRenderer(renderer.homes, 2048, 2048, LENS, 1024), "draw in parts"),
        (lambda: renderer.put(-1, homes[0]), "got -1"),
        (lambda: renderer.put(0, Scene("bare", "test", [])), "no mesh faces"),
        (lambda: WarpHomes("meta"), "'cpu' and 'cuda'"),
        (lambda: make_renderer("warped", 8, 8, LENS, batch=1), "did you mean 'warp'"),
        (lambda: make_renderer("embree", 8, 8, LENS, batch=1, device="cuda"), "CPU only"),
    ):
        with pytest.raises(InputError, match=words):
            call()


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(InputError, match="needs CUDA"):
        WarpHomes("cuda")


def test_without_the_check_a_camera_in_no_home_shows_the_sky(homes: list[Scene]):
    index, poses = cameras(homes, 2, seed=5)
    frame = warp_renderer(homes, check=False).render(torch.tensor([-1, 77]), poses)
    assert (frame.rgb == torch.tensor(SKY)).all() and (frame.depth == 0).all() and (frame.instance == -1).all()


def test_a_missing_warp_is_named_with_the_command_that_installs_it(monkeypatch):
    for name in ("scene.render_warp", "scene.warp_kernels"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "warp", None)  # what a failed import looks like
    with pytest.raises(MissingLibraryError, match=r"pip install sightline\[cuda\]"):
        make_renderer("warp", 8, 8, LENS, batch=1)
    assert make_renderer("embree", 8, 8, LENS, batch=1).device.type == "cpu"


@pytest.mark.gpu
@pytest.mark.parametrize("graph", [True, False])
def test_cuda_sees_what_the_processor_sees(homes: list[Scene], graph: bool):
    index, poses = cameras(homes, 24, seed=6)
    here, there = WarpHomes("cpu"), WarpHomes("cuda")  # here it sees what Embree sees (above)
    for table in (here, there):
        for number, scene in enumerate(homes):
            table.put(number, scene)
    lens = intrinsics_from_fov(64, 64, np.pi / 2)
    warp = WarpRenderer(there, 64, 64, lens, 24, graph=graph)
    expected = WarpRenderer(here, 64, 64, lens, 24).render(index, poses)
    for _ in range(3):  # the first call records, the others replay
        frame = warp.render(index.cuda(), poses.cuda())
    assert frame.rgb.is_cuda
    agree = frame.instance.cpu() == expected.instance
    assert agree.float().mean() >= 0.998
    assert ((frame.depth.cpu() - expected.depth).abs()[agree] <= 1e-4).float().mean() >= 0.9998
