"""What rendered pictures of a hand-made home surely show."""

import numpy as np
import pytest

from agents.reasoning.question_views import family, look, shows_color, turned_camera, views_of
from core.conventions import camera_pose, intrinsics_from_fov
from scene.palette import PALETTE
from scene.render import prepare, render
from scene.visibility import score_points
from tests.envs.homes import make_home

THINGS = [("armchair", "red", 3.0, 1.5, 0.8, 0.8, 0.9), ("sofa", "blue", 4.0, 3.8, 0.8, 1.0, 0.8),
          ("bed", "green", 0.6, 0.6, 0.8, 0.8, 0.5)]  # fmt: skip


@pytest.fixture(scope="module")
def shown():
    """From the middle of the west wall towards the east: the armchair to the right, the sofa behind it to the left."""
    scene = make_home("home", 6.0, 5.0, THINGS)
    pose, lens = camera_pose(np.array([0.5, 2.5, 1.2]), 0.0)[None], intrinsics_from_fov(64, 64, np.pi / 2)
    frame = render(prepare(scene), pose, lens, 64, 64)
    return views_of(
        scene, score_points(scene), ["a"], pose, lens, frame.rgb.numpy(), frame.depth.numpy(), frame.instance.numpy()
    )[0]


def test_things_are_where_they_stand_and_what_is_behind_the_camera_is_not_there(shown):
    by_label = {thing.label: thing for thing in shown.things}
    assert set(by_label) == {"armchair", "sofa"}
    assert by_label["armchair"].side == "right" and by_label["sofa"].side == "left"
    assert by_label["armchair"].distance_m == pytest.approx(np.hypot(2.1, 0.6))  # to the nearest corner, (2.6, 1.9)
    assert all(thing.sure and thing.clear for thing in shown.things)


def test_the_box_is_the_projection_of_the_thing(shown):
    """The armchair's corner nearest to the camera, (2.6, 1.1..1.9, 0..0.9), gives its left, right and lower edges."""
    chair = next(thing for thing in shown.things if thing.label == "armchair")
    left = 32 + 32 * 0.6 / 2.9  # its far left corner (3.4, 1.9): 0.6 to the right at 2.9 m
    right, low = 32 + 32 * 1.4 / 2.1, 32 + 32 * 1.2 / 2.1  # its near right corner (2.6, 1.1) and foot
    assert np.abs(np.array(chair.box)[[0, 2, 3]] - [left, right, low]).max() <= 1


def test_a_colour_is_shown_in_any_shade_by_most_pixels():
    red, gray = np.array(PALETTE["red"]), np.array(PALETTE["gray"])
    dark = np.tile(0.7 * red, (10, 1)).astype(np.uint8)
    assert shows_color(dark, "red") and not shows_color(dark, "brown") and not shows_color(dark, "crimson")
    mixed = np.concatenate([dark, np.tile(gray, (10, 1)).astype(np.uint8)])
    assert not shows_color(mixed, "red") and not shows_color(mixed, "gray")


def test_alike_things_are_of_one_family():
    assert family("armchair") == family("bar stool") == family("chair") != family("bed")
    assert family("coffee table") == family("desk") and family("floor lamp") == family("table lamp")


def test_a_turn_to_the_left_looks_further_to_the_left():
    pose = camera_pose(np.array([1.0, 2.0, 1.2]), 0.4, -0.1)
    assert turned_camera(pose, 0.5) == pytest.approx(camera_pose(np.array([1.0, 2.0, 1.2]), 0.9, -0.1))


def test_pictures_are_a_function_of_the_seed_and_the_home():
    scene = make_home("home", 6.0, 5.0, THINGS)
    first, again, other = (look(scene, 2, seed, 32, 90.0) for seed in (0, 0, 1))
    assert all((a.rgb == b.rgb).all() for a, b in zip(first[0] + first[1], again[0] + again[1], strict=True))
    assert (first[0][0].rgb != other[0][0].rgb).any() and [v.name for v in first[1]] == ["home-00t", "home-01t"]
