"""Tests of scene/moving.py: against Embree on the whole home, and on shapes small enough to compute by hand."""

import numpy as np
import pytest
import torch

from core.conventions import camera_pose
from core.errors import InputError
from scene.datasets.procedural import HomeConfig, generate_home
from scene.geometry import boxes_mesh
from scene.moving import MovingParts, composite, movable_objects, static_part
from scene.occupancy import occupancy
from scene.render import AMBIENT, FALLOFF_PER_M, SUN, Frame, prepare, render
from scene.types import Door, Room, Scene, SceneMesh, SceneObject

SIDE = 64
LENS = np.array([[32.0, 0, 32.0], [0, 32.0, 32.0], [0, 0, 1.0]])


def cameras(scene: Scene, count: int, seed: int) -> np.ndarray:
    """Views from the free floor, some of them tilted."""
    rng = np.random.default_rng(seed)
    grid = occupancy(scene, interactive=True)
    xy = grid.centers(rng.permutation(np.argwhere(grid.free))[:count])
    turns = zip(xy, rng.uniform(-np.pi, np.pi, count), rng.uniform(-0.6, 0.2, count))
    return np.stack([camera_pose(np.array([*at, 1.2]), yaw, pitch) for at, yaw, pitch in turns])


def box_scene(boxes: list[list[float]], labels: list[str], doors: list[Door] | None = None) -> Scene:
    """Plain grey boxes, each an object; cups can be picked up."""
    table = np.array(boxes, float)
    vertices, faces = boxes_mesh(table)
    objects = [
        SceneObject(k, label, table[k], affordances=("pickup",) if label == "cup" else ())
        for k, label in enumerate(labels)
    ]
    mesh = SceneMesh(
        vertices, faces, np.full((len(faces), 3), 200, np.uint8), np.repeat(np.arange(len(boxes)), 12).astype(np.int32)
    )
    rooms = [Room(k, "study", np.array([[-9, -9], [9, -9], [9, 9], [-9, 9.0]])) for k in range(2)]
    return Scene("boxes", "test", objects, rooms, doors or [], mesh=mesh)


def empty_frame(count: int = 1) -> Frame:
    return Frame(
        torch.zeros(count, SIDE, SIDE, 3, dtype=torch.uint8),
        torch.zeros(count, SIDE, SIDE),
        torch.full((count, SIDE, SIDE), -1, dtype=torch.int32),
    )


def draw(frame: Frame, scene: Scene, extrinsics: np.ndarray, pose=None, visible=None, doors_shut=0) -> Frame:
    parts, count = MovingParts.of(scene), len(extrinsics)
    pose = np.tile(parts.rest_pose, (count, 1, 1)) if pose is None else pose
    visible = np.ones(pose.shape[:2], bool) if visible is None else visible
    shut = np.full(count, doors_shut)
    composite(frame, [parts], np.zeros(count, int), pose, visible, shut, extrinsics, LENS, SIDE, SIDE)
    return frame


@pytest.mark.parametrize("seed", [0, 1, 5])
def test_a_home_drawn_in_two_layers_looks_like_the_whole_home(seed):
    scene = generate_home(seed, HomeConfig(rooms_min=2, clutter=1.5))
    views = cameras(scene, 48, seed)
    whole = render(prepare(scene), views, LENS, SIDE, SIDE)
    layered = draw(render(prepare(static_part(scene)), views, LENS, SIDE, SIDE), scene, views)
    same = layered.instance == whole.instance
    assert same.float().mean() >= 0.998
    assert (layered.depth - whole.depth)[same].abs().max() < 1e-4
    apart = (layered.rgb.int() - whole.rgb.int()).abs().amax(dim=-1)
    assert (apart <= 3).float().mean() >= 0.998  # faces that share a plane may come in another order
    assert torch.isin(whole.instance, torch.tensor(movable_objects(scene))).any()


def test_a_moved_thing_looks_like_a_scene_that_has_it_there():
    cup = [2.0, 0.3, 1.0, 0.2, 0.3, 0.4, 0.3]
    moved = [2.5, -0.4, 1.3, 0.2, 0.3, 0.4, -1.1]
    table = [2.5, 0.0, 0.4, 1.0, 2.0, 0.8, 0.0]
    views = np.stack([camera_pose(np.array([0.0, 0, 1.2]), 0.1, -0.1), camera_pose(np.array([5.0, 0, 1.2]), 3.0, -0.3)])
    scene, there = box_scene([cup, table], ["cup", "table"]), box_scene([moved, table], ["cup", "table"])
    pose = np.tile(np.array([*moved[:2], moved[2] - 0.2, moved[6]]), (2, 1, 1))
    drawn = draw(render(prepare(static_part(scene)), views, LENS, SIDE, SIDE), scene, views, pose)
    want = render(prepare(there), views, LENS, SIDE, SIDE)
    assert (drawn.instance == want.instance).float().mean() >= 0.999 and (want.instance == 0).sum() > 20
    same = drawn.instance == want.instance
    assert (drawn.depth - want.depth)[same].abs().max() < 1e-4
    assert (drawn.rgb.int() - want.rgb.int())[same].abs().max() <= 1  # the sun stays where it is


def test_a_box_ahead_has_the_size_depth_and_shade_of_the_arithmetic():
    scene = box_scene([[2.5, 0.0, 1.2, 1.0, 1.0, 1.0, 0.0]], ["cup"])
    frame = draw(empty_frame(), scene, camera_pose(np.array([0.0, 0, 1.2]), 0.0, 0.0)[None])
    covered = frame.instance[0] == 0
    assert covered.sum() == 16**2 and covered[24:40, 24:40].all()  # half a metre at 2 m, 32 pixels a unit
    assert (frame.depth[0][covered] == 2.0).all() and (frame.depth[0][~covered] == 0).all()
    light = AMBIENT + (1 - AMBIENT) * SUN[0] / np.linalg.norm(SUN)
    level = round(round(200 * light) / (1 + 2 * FALLOFF_PER_M))
    assert (frame.rgb[0][covered] == level).all()


def test_the_nearer_surface_wins_either_way():
    scene = box_scene([[2.5, 0.0, 1.2, 1.0, 1.0, 1.0, 0.0]], ["cup"])
    view = camera_pose(np.array([0.0, 0, 1.2]), 0.0, 0.0)[None]
    for before, owner in ((1.9, 7), (2.1, 0)):
        frame = empty_frame()
        frame.depth[:], frame.instance[:] = before, 7
        assert draw(frame, scene, view).instance[0, 32, 32] == owner


def test_a_thing_around_the_camera_is_seen_from_inside_and_one_behind_it_is_not():
    view = camera_pose(np.array([0.0, 0, 1.2]), 0.0, 0.0)[None]
    around = draw(empty_frame(), box_scene([[0.2, 0, 1.2, 2.0, 2.0, 2.0, 0.0]], ["cup"]), view)
    assert (around.instance == 0).all() and around.depth[0, 32, 32] == pytest.approx(1.2)
    behind = draw(empty_frame(), box_scene([[-2, 0, 1.2, 1.0, 1.0, 1.0, 0.0]], ["cup"]), view)
    assert (behind.instance == -1).all() and (behind.depth == 0).all()


def test_hidden_slots_and_slots_beyond_the_home_are_not_drawn():
    scene = box_scene([[2.5, 0.0, 1.2, 1.0, 1.0, 1.0, 0.0]], ["cup"])
    view = camera_pose(np.array([0.0, 0, 1.2]), 0.0, 0.0)[None]
    pose = np.full((1, 3, 4), np.nan)
    assert (draw(empty_frame(), scene, view, pose, np.array([[False, True, True]])).instance == -1).all()
    with pytest.raises(InputError, match=r"environments \[0\] hold NaN"):
        draw(empty_frame(), scene, view, pose, np.array([[True, False, False]]))


def pair_with_door(door_open: bool) -> Scene:
    """Two rooms' wall at x = 2 with a doorway 1 m wide, seen from the origin."""
    box = [2.0, 0.0, 1.05, 0.16, 1.0, 2.1, 0.0]
    jambs = [[2.0, side * 0.475, 1.05, 0.16, 0.05, 2.1, 0.0] for side in (-1, 1)]
    scene = box_scene([*jambs], ["jamb", "jamb"], [Door(0, np.array(box), (0, 1), open=door_open)])
    scene.objects[0] = SceneObject(0, "door", np.array(box), attributes={"color": "red"})
    scene.mesh.face_instance[:] = 0
    return scene


@pytest.mark.parametrize("turned", [False, True])
def test_a_shut_leaf_fills_the_frame_of_its_doorway_and_an_open_one_is_gone(turned):
    scene = pair_with_door(door_open=True)
    if turned:  # the same door, its box written the other way round
        scene.doors[0].box = np.array([2.0, 0.0, 1.05, 1.0, 0.16, 2.1, np.pi / 2])
    view = camera_pose(np.array([0.0, 0, 1.05]), 0.0, 0.0)[None]
    still = render(prepare(static_part(scene)), view, LENS, SIDE, SIDE)
    assert still.instance[0, 32, 32] == -1 and (still.instance == 0).any()  # the frame stays
    opened = draw(render(prepare(static_part(scene)), view, LENS, SIDE, SIDE), scene, view, doors_shut=0)
    assert torch.equal(opened.depth, still.depth)
    shut = draw(render(prepare(static_part(scene)), view, LENS, SIDE, SIDE), scene, view, doors_shut=1)
    row = shut.instance[0, 32, 32 - 7 : 32 + 7]  # 0.45 m at 2 m is 7.2 pixels
    assert (row == 0).all() and shut.depth[0, 32, 32] == pytest.approx(1.98, abs=0.01)
    assert (shut.depth[0, 32, 25:39] > 1.9).all()


def test_a_door_shut_from_the_start_is_drawn_by_its_own_faces():
    scene = pair_with_door(door_open=False)
    view = camera_pose(np.array([0.013, 0.07, 1.11]), 0.0, 0.0)[None]
    assert len(static_part(scene).mesh.faces) == 0
    drawn = draw(empty_frame(), scene, view, doors_shut=1)
    want = render(prepare(scene), view, LENS, SIDE, SIDE)
    assert torch.equal(drawn.instance, want.instance) and (want.instance == 0).any()
    scene.doors[0].rooms = (0, -1)  # an entrance stays part of the home
    assert len(static_part(scene).mesh.faces) == 24 and len(MovingParts.of(scene).object_id) == 0


def test_an_environment_looks_the_same_alone_and_in_a_batch_of_several_homes():
    scenes = [generate_home(seed, HomeConfig(rooms_min=2, clutter=1.5)) for seed in (1, 5)]
    parts = [MovingParts.of(scene) for scene in scenes]
    views = np.concatenate([cameras(scene, 4, 3) for scene in scenes])
    home = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    most = max(part.things for part in parts)
    pose, visible = np.zeros((8, most, 4)), np.ones((8, most), bool)
    for b, h in enumerate(home):
        pose[b, : parts[h].things] = parts[h].rest_pose
    order = np.array([6, 1, 4, 0, 7, 3, 2, 5])
    together, alone = empty_frame(8), empty_frame(8)
    shut, eyes = np.ones(8, int), torch.from_numpy(views[order])
    composite(together, parts, home[order], pose[order], visible, shut, eyes, LENS, SIDE, SIDE)
    for row, b in enumerate(order):
        one = Frame(alone.rgb[row : row + 1], alone.depth[row : row + 1], alone.instance[row : row + 1])
        composite(one, [parts[home[b]]], [0], pose[b : b + 1], visible[:1], [1], views[b : b + 1], LENS, SIDE, SIDE)
    assert torch.equal(together.rgb, alone.rgb) and torch.equal(together.depth, alone.depth)
    assert torch.equal(together.instance, alone.instance) and (together.instance >= 0).any()


def test_a_thing_without_faces_is_never_seen_and_a_scene_without_a_mesh_is_refused():
    scene = box_scene([[2.5, 0.0, 1.2, 1.0, 1.0, 1.0, 0.0], [3, 3, 1, 1, 1, 1, 0]], ["cup", "cup"])
    scene.mesh.face_instance[:12] = -1
    view = camera_pose(np.array([0.0, 0, 1.2]), 0.0, 0.0)[None]
    assert (draw(empty_frame(), scene, view).instance != 0).all()
    scene.mesh = None
    for build in (MovingParts.of, static_part):
        with pytest.raises(InputError, match="no mesh"):
            build(scene)


def test_wrong_shapes_and_homes_are_named():
    scene = box_scene([[2.5, 0.0, 1.2, 1.0, 1.0, 1.0, 0.0]], ["cup"])
    parts, view = MovingParts.of(scene), camera_pose(np.array([0.0, 0, 1.2]), 0.0, 0.0)[None]
    pose, shown = parts.rest_pose[None], np.ones((1, 1), bool)
    for arguments, says in (
        (([0], pose, shown, [0, 0]), r"\(2,\)"),
        (([1], pose, shown, [0]), "there are 1 homes"),
        (([0], pose[:, :0], shown[:, :0], [0]), "0 slots given"),
    ):
        with pytest.raises(InputError, match=says):
            composite(empty_frame(), [parts], *arguments, view, LENS, SIDE, SIDE)
    with pytest.raises(InputError, match="expected"):
        composite(empty_frame(), [parts], [0], pose, shown, [0], view, LENS, SIDE, 32)
