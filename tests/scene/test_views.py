"""Tests of scene/views.py and scene/captions.py on small homes of boxes."""

import numpy as np
import pytest

from core.conventions import camera_pose
from core.errors import InputError, MissingFileError
from scene import captions
from scene.captions import BASELINE_PROMPTS, caption, goal_prompts, noun, phrase
from scene.geometry import box_corners, distance_to_footprint
from scene.io import save_scene
from scene.occupancy import occupancy
from scene.store import SceneStore, save_manifest
from scene.types import Room, Scene, SceneMesh, SceneObject
from scene.views import (
    AIMED,
    NAMED_SHARE,
    Views,
    Visible,
    captioned_views,
    outside_cameras,
    render_home_views,
    sample_camera,
    view_captions,
    visible_objects,
    write_views,
)  # fmt: skip

FACES = np.array([[0, 1, 3], [0, 3, 2], [4, 5, 7], [4, 7, 6], [0, 1, 5], [0, 5, 4], [2, 3, 7], [2, 7, 6],
                  [0, 2, 6], [0, 6, 4], [1, 3, 7], [1, 7, 5]])  # fmt: skip
COLORS = {"red": (200, 30, 30), "green": (30, 150, 60), "blue": (30, 80, 200), "gray": (128, 128, 128)}


def home(name: str, seed: int = 0) -> Scene:
    """A 6 x 5 m room with walls and five coloured boxes at drawn places."""
    rng = np.random.default_rng(seed)
    spots = rng.permutation([[1, 1], [3, 1], [5, 1], [1, 4], [3, 4], [5, 4]])[:5]
    things = [
        SceneObject(k, label, np.array([*spots[k], 0.5, 0.7, 0.6, 1.0, rng.uniform(0, 3)]), attributes={"color": color})
        for k, (label, color) in enumerate(
            [("armchair", "red"), ("bookshelf", "green"), ("bed", "blue"), ("armchair", "gray"), ("door", "red")]
        )
    ]
    walls = [[3, -0.05, 1.3, 6, 0.1, 2.6, 0], [3, 5.05, 1.3, 6, 0.1, 2.6, 0], [-0.05, 2.5, 1.3, 0.1, 5, 2.6, 0],
             [6.05, 2.5, 1.3, 0.1, 5, 2.6, 0], [3, 2.5, -0.05, 6, 5, 0.1, 0], [3, 2.5, 2.65, 6, 5, 0.1, 0]]  # fmt: skip
    boxes = np.array([*walls, *(item.box for item in things)])
    corners = box_corners(boxes)
    owner = np.repeat(np.r_[np.full(len(walls), -1), np.arange(len(things))], 12)
    color = np.array([(210, 200, 190)] * len(walls) + [COLORS[item.attributes["color"]] for item in things])
    mesh = SceneMesh(
        corners.reshape(-1, 3).astype(np.float32),
        (FACES[None] + 8 * np.arange(len(boxes))[:, None, None]).reshape(-1, 3).astype(np.int32),
        np.repeat(color, 12, axis=0).astype(np.uint8),
        owner.astype(np.int32),
    )
    floor = np.array([[0, 0], [6, 0], [6, 5], [0, 5.0]])
    return Scene(name, "test", things, [Room(0, "study", floor)], mesh=mesh)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> SceneStore:
    folder = tmp_path_factory.mktemp("scenes")
    for k in range(4):
        save_scene(home(f"home-{k}", seed=k), folder)
    save_manifest(folder, {"source": "test", "splits": {"train": ["home-0", "home-1"], "test": ["home-2", "home-3"]}})
    return SceneStore(folder)


# sentences


def test_a_phrase_names_colour_label_distance_and_side():
    assert phrase("armchair", "red", 1.99, "left") == "a red armchair close by on the left"
    assert phrase("armchair", "red", 0.99, "left") == "a red armchair within reach on the left"
    assert phrase("bed", "orange", 2.0, "middle") == "an orange bed a few steps away in the middle"
    assert phrase("oven", "", 3.5, "right") == "an oven far away on the right"


def test_captions_name_the_nearest_first_and_count_things_alike():
    chair, bed = ("chair", "blue", 1.0, "right"), ("bed", "red", 0.5, "left")
    assert caption([chair, bed, chair], 1.0) == (
        "a red bed within reach on the left and two blue chairs close by on the right"
    )
    assert caption([("lamp", "", 3.0, "left"), bed, chair], 1.0) == (
        "a red bed within reach on the left, a blue chair close by on the right and a lamp a few steps away on the left"
    )
    assert noun("bookshelf", "blue", 2) == "two blue bookshelves" and noun("box", "", 5) == "several boxes"
    assert noun("vanity", "", 3) == "three vanities" and noun("tray", "", 3) == "three trays"


def test_the_order_of_things_changes_no_caption():
    things = [("chair", "blue", 1.0, "right"), ("bed", "red", 0.5, "left"), ("lamp", "", 3.0, "left")]
    assert len({caption([things[k] for k in order], 1.0) for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0])}) == 1


def test_a_mirrored_view_has_the_caption_with_left_and_right_exchanged():
    things = [("chair", "blue", 1.0, "right"), ("bed", "red", 0.5, "left"), ("lamp", "", 3.0, "middle")]
    swap = {"left": "right", "right": "left", "middle": "middle"}
    mirrored = caption([(*thing[:3], swap[thing[3]]) for thing in things], 1.0)
    text = caption(things, 1.0).replace("left", "?").replace("right", "left").replace("?", "right")
    assert mirrored == text


def test_goals_are_asked_for_in_the_words_of_captions():
    seen = {phrase("armchair", "red", 0.7, side) for side in captions.SIDES}
    assert set(goal_prompts("armchair", "red")) == seen and len(seen) == 3
    assert caption([], 1.0) in BASELINE_PROMPTS and caption([], 9.0) in BASELINE_PROMPTS


# what is seen


def test_pixels_sides_and_distances_of_a_view_by_hand():
    scene = home("hand")
    for item in scene.objects:
        item.box = np.array([2.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    ids = np.full((1, 12, 12), -1, np.int32)
    ids[0, :3, :4], ids[0, 4:6, 4:8], ids[0, 8, 8:], ids[0, 11, 0] = 0, 1, 2, 3
    pose = camera_pose(np.array([0.0, 0.0, 1.2]), 0.0)[None]
    shares = np.array([[0.9, 0.5, 0.25, 0.125, 0.0]])
    (seen,) = visible_objects(ids, scene, pose, shares, min_pixels=2)
    assert seen == [
        Visible(0, 12, 1.5, "left", 0.9), Visible(1, 8, 1.5, "middle", 0.5), Visible(2, 4, 1.5, "right", 0.25)
    ]  # fmt: skip
    (default,) = visible_objects(ids, scene, pose, shares)  # 25 of 4096 is one pixel of 144
    assert [item.id for item in default] == [0, 1, 2, 3]


def test_doors_count_less_than_furniture_of_the_same_size():
    scene = home("door")
    ids = np.full((1, 10, 10), -1, np.int32)
    ids[0, :4], ids[0, 8:] = 4, 0  # 40 pixels of door, 20 of armchair
    (seen,) = visible_objects(ids, scene, camera_pose(np.zeros(3), 0.0)[None], np.ones((1, 5)))
    assert [item.id for item in seen] == [0, 4]


def test_captions_of_a_view_name_what_is_seen():
    scene = home("words")
    seen = [Visible(0, 90, 1.0, "left", 1.0), Visible(2, 50, 2.5, "right", NAMED_SHARE)]
    full, single = view_captions(seen, scene, 3.0)
    assert full == "a red armchair close by on the left and a blue bed a few steps away on the right"
    assert single == [
        "a red armchair close by on the left",
        "a blue bed a few steps away on the right",
        "a red armchair",
    ]
    assert view_captions([], scene, 2.5) == ("a bare wall a few steps away", [])


def test_a_thing_of_which_hardly_anything_shows_is_not_named_and_makes_room_for_the_next():
    scene = home("hidden")
    sides = [Visible(k, 90 - k, 1.0, "left", share) for k, share in enumerate([0.9, 0.09, 0.9, 0.9, 0.9])]
    full, single = view_captions(sides, scene, 3.0)
    assert "bookshelf" not in full and len(single) == 5
    assert "a red door" in full  # the fifth thing is the fourth that can be named


def test_a_scene_without_rooms_is_seen_whole_from_outside():
    scene = home("outside")
    inside = scene.mesh.face_instance >= 0  # no walls
    scene.mesh.faces, scene.mesh.face_colors = scene.mesh.faces[inside], scene.mesh.face_colors[inside]
    scene.mesh.face_instance = scene.mesh.face_instance[inside]
    scene.rooms = []
    views, _ = captioned_views(scene, outside_cameras(scene, 3, 60.0), 64, 64, 60.0)
    assert len(views) == 3
    for row in views.visible:
        assert {item.id for item in row} == {0, 1, 2, 3, 4} and max(item.visible_share for item in row) > 0.9
    assert outside_cameras(scene, 0, 60.0).shape == (0, 4, 4)
    with pytest.raises(InputError, match="no objects"):
        outside_cameras(Scene("void", "test", []), 2, 60.0)


# cameras


def test_cameras_stand_on_free_floor_at_eye_height_and_most_see_something():
    scene = home("cameras")
    grid = occupancy(scene)
    rng = np.random.default_rng(0)
    poses = np.stack([sample_camera(scene, grid, rng) for _ in range(200)])
    assert grid.is_free(poses[:, :2, 3]).all()
    np.testing.assert_allclose(poses[:, 2, 3], 1.2)
    np.testing.assert_allclose(
        poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1), np.tile(np.eye(3), (200, 1, 1)), atol=1e-9
    )
    assert (poses[:, 2, 2] <= 1e-9).all() and (poses[:, 2, 2] > -0.3).all()  # level or a little down
    views = render_home_views(scene, 100, seed=0, width=32, height=32)
    assert np.mean([len(seen) > 0 for seen in views.visible]) > AIMED


def test_a_view_depends_on_the_seed_and_the_home_alone():
    scene = home("same")
    a, b, c = (render_home_views(scene, 6, seed, 16, 16) for seed in (3, 3, 4))
    assert (a.images == b.images).all() and a.full == b.full and not (a.extrinsics == c.extrinsics).all()


def test_named_distances_agree_with_the_poses():
    scene = home("metres")
    views = render_home_views(scene, 20, seed=1, width=32, height=32)
    for pose, seen in zip(views.extrinsics, views.visible):
        for item in seen:
            assert item.distance_m == pytest.approx(
                float(distance_to_footprint(pose[:2, 3], scene.objects[item.id].box))
            )


# tables


def test_written_views_come_back_and_equal_views_made_in_memory(store, tmp_path):
    counts = write_views(store, tmp_path / "views", {"train": 5, "test": 3}, seed=2, width=24, height=16)
    assert counts["train"]["homes"] == 2 and counts["train"]["views"] == 10 and counts["test"]["views"] == 6
    parts = [render_home_views(store.load(name), 5, 2, 24, 16) for name in store.split("train")]
    read = Views.load(tmp_path / "views" / "train")
    assert (read.images == np.concatenate([part.images for part in parts])).all()
    assert (read.extrinsics == np.concatenate([part.extrinsics for part in parts])).all()
    for column in ("full", "objects", "visible", "scene_id"):
        assert getattr(read, column) == [row for part in parts for row in getattr(part, column)], column
    assert read.images.shape == (10, 16, 24, 3)


def test_split_folders_are_not_overwritten_but_kept_when_a_run_continues(store, tmp_path):
    first = write_views(store, tmp_path, {"test": 2}, seed=0, width=8, height=8)
    with pytest.raises(InputError, match="exists already"):
        write_views(store, tmp_path, {"test": 2}, seed=0, width=8, height=8)
    assert write_views(store, tmp_path, {"test": 2}, seed=0, width=8, height=8, keep_complete=True) == first


def test_a_failed_split_leaves_nothing_behind(store, tmp_path):
    with pytest.raises(InputError, match="fov_deg"):
        write_views(store, tmp_path, {"test": 2}, seed=0, fov_deg=200.0)
    assert not any(tmp_path.iterdir())
    with pytest.raises(InputError, match="no split 'other'"):
        write_views(store, tmp_path, {"other": 2}, seed=0)


def test_damaged_and_missing_views_say_so(store, tmp_path):
    with pytest.raises(MissingFileError, match="images.npy"):
        Views.load(tmp_path)
    write_views(store, tmp_path, {"test": 2}, seed=0, width=8, height=8)
    file = tmp_path / "test" / "captions.parquet"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="render them again"):
        Views.load(tmp_path / "test")


def test_the_vision_language_reader_understands_the_folder(store, tmp_path):
    from vl.data import CaptionedViews

    write_views(store, tmp_path, {"test": 4}, seed=0, width=16, height=16)
    table, views = CaptionedViews.open(tmp_path, "test"), Views.load(tmp_path / "test")
    assert len(table) == 8 and table.scene_id == views.scene_id
    assert [{table.texts[row] for row in rows} for rows in table.full] == [{text} for text in views.full]
    assert [{table.texts[row] for row in rows} for rows in table.objects] == [set(texts) for texts in views.objects]
