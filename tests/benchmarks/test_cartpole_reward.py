import math

import numpy as np
import pytest

from benchmarks import cartpole_reward as bench
from vl.data import CaptionedViews, mirrored


def test_captions_say_where_the_pole_points_and_where_the_cart_is():
    upright = bench.captions(np.array([0.0, 0, 0.02, 0]), 0)
    assert "a pole vertically upright on top of the cart" in upright
    assert any(text.endswith("the cart in the middle") for text in upright)
    left = bench.captions(np.array([2.0, 0, -1.2, 0]), 5)
    assert "a pole leaning far to the left on a cart" in left
    assert any(text.endswith("the cart far to the right of the middle") for text in left)


def test_the_caption_of_a_mirrored_picture_is_the_mirrored_caption():
    for x in np.linspace(-2.4, 2.4, 9):
        for angle in np.linspace(-3.1, 3.1, 17):
            state = np.array([x, 0, angle, 0])
            here = [mirrored(text) for text in bench.captions(state, 0)]
            assert here == bench.captions(-state, 0)


def test_train_frames_have_no_cart_in_the_bands_that_are_held_out():
    train, test = (bench.draw_states(2000, split, np.random.default_rng(0)) for split in ("train", "test"))

    def inside(states):
        return (np.abs(states[:, 0]) >= bench.HELD_OUT[0]) & (np.abs(states[:, 0]) <= bench.HELD_OUT[1])

    assert not inside(train).any() and 0.1 < inside(test).mean() < 0.3
    assert (np.abs(train[:, 2]) < math.radians(35)).mean() == pytest.approx(0.6, abs=0.05)


def test_the_frames_are_a_views_folder_with_their_states(tmp_path):
    counts = {"train": 3, "val": 2, "test": 2}
    bench.write_views(tmp_path / "views", counts)
    for split, count in counts.items():
        views = CaptionedViews.open(tmp_path / "views", split)
        assert len(views) == count and views.images.shape[1:] == (64, 64, 3)
        states = np.load(tmp_path / "views" / split / "states.npy")
        said = {views.texts[row] for row in views.full[0]}
        assert said == set(bench.captions(states[0], 0)) and bench.BASELINE in said
        assert bench.BASELINE not in {views.texts[row] for row in views.full[1]}


def test_a_score_that_is_the_truth_has_no_distance_to_it_and_falls_with_the_tilt():
    states = np.zeros((400, 4))
    states[:, 2] = np.linspace(-math.pi, math.pi, 400)
    found = bench.reward_quality((1 + np.cos(states[:, 2])) * 7 + 3, states)
    assert found["pearson"] == pytest.approx(1.0) and found["epic"] == pytest.approx(0.0, abs=1e-6)
    assert found["by_tilt"] == sorted(found["by_tilt"], reverse=True)
    assert bench.reward_quality(np.zeros(400), states)["epic"] == pytest.approx(math.sqrt(0.5))
