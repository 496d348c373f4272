"""Tests of scene/labels.py: where names go."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scene.labels import Labels, around, contains, roomy_places

# an L: a square of 4 m without its upper right quarter
CORNER = np.array([[0, 0], [4, 0], [4, 2], [2, 2], [2, 4], [0, 4.0]])


def plot() -> Labels:
    figure = Figure(figsize=(4, 4), dpi=100)
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_xlim(0, 4), ax.set_ylim(0, 4)
    return Labels(ax)


def test_the_points_in_a_polygon_by_hand():
    points = np.array([[1, 1], [3, 1], [1, 3], [3, 3], [5, 1], [1.99, 3.99]])
    assert contains(CORNER, points).tolist() == [True, True, True, False, False, True]


def test_the_roomiest_place_of_a_bent_room_lies_inside_it_and_away_from_its_edges():
    x, y = roomy_places(CORNER)[0]
    assert contains(CORNER, np.array([[x, y]]))[0] and 0.8 < x < 1.6 and 0.8 < y < 1.6
    assert roomy_places(CORNER * 0.01) == []  # smaller than the grid


def test_a_text_goes_to_the_first_free_place():
    labels = plot()
    assert labels.put("first", [(2, 2)]) and labels.put("second", [(2, 2), (2, 3)])
    assert [text.get_position() for text in labels.ax.texts] == [(2, 2), (2, 3)]


def test_a_text_without_a_place_is_left_out_unless_it_must_be_there():
    labels = plot()
    labels.put("first", [(2, 2)])
    assert not labels.put("second", [(2, 2)]) and not labels.put("third", [])
    assert labels.put("fourth", [(2, 2)], must=True)
    assert [text.get_text() for text in labels.ax.texts] == ["first", "fourth"]


def test_texts_stay_in_the_picture_and_in_their_polygon():
    labels = plot()
    labels.put("at the edge", [(3.99, 0.01)])
    box = labels.ax.texts[0].get_window_extent()
    assert box.x1 <= 400.5 and box.y0 >= -0.5
    assert not labels.put("a long name", [(2.0, 3.0)], inside=CORNER)
    assert labels.put("a long name", [(2.0, 3.0), (1.0, 3.0)], inside=CORNER)
    assert labels.ax.texts[-1].get_position() == pytest.approx((1.0, 3.0))


def test_rings_grow_from_the_middle():
    places = around(np.array([1.0, 1.0]), 1.0, 0.5)
    assert places[0] == (1.0, 1.0) and len(places) == 17
    assert np.linalg.norm(np.array(places) - 1, axis=1).max() == pytest.approx(1.0)
