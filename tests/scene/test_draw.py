"""Tests of scene/draw.py: what is drawn, where, and that names can be read."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from core.errors import InputError
from scene.datasets.procedural import generate_home
from scene.draw import ACCENT, draw_map, draw_view_boxes, map_limits, object_color, window_around
from scene.geometry import footprint
from scene.graph import build_graph
from scene.labels import contains
from scene.occupancy import occupancy
from scene.palette import PALETTE
from scene.types import Door, Room, Scene, SceneObject


def axes(size: float = 6.0):
    figure = Figure(figsize=(size, size), dpi=100)
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def study() -> Scene:
    things = [
        SceneObject(0, "table", np.array([2, 1.5, 0.4, 1.4, 0.8, 0.8, 0.3]), attributes={"color": "blue"}),
        SceneObject(1, "mug", np.array([2, 1.5, 0.85, 0.1, 0.1, 0.1, 0.0]), attributes={"color": "red"}),
        SceneObject(2, "chair", np.array([2, 2.2, 0.45, 0.5, 0.5, 0.9, 0.0])),
    ]
    rooms = [Room(0, "study", np.array([[0, 0], [4, 0], [4, 3], [0, 3.0]]))]
    door = Door(0, np.array([4.05, 1.5, 1.0, 0.1, 0.9, 2.0, 0.0]), (0, -1))
    return Scene("study", "test", things, rooms, [door])


def patch_of(ax, corners: np.ndarray) -> list[Polygon]:
    polygons = [patch for patch in ax.patches if isinstance(patch, Polygon)]
    return [patch for patch in polygons if len(patch.get_xy()) == 5 and np.allclose(patch.get_xy()[:4], corners)]


def test_things_are_their_footprints_in_their_colours_with_small_ones_on_top():
    scene, ax = study(), axes()
    draw_map(ax, scene)
    table, mug, chair = (patch_of(ax, corners)[0] for corners in footprint(scene.boxes))
    assert table.get_facecolor()[:3] == pytest.approx(np.array(PALETTE["blue"]) / 255)
    assert chair.get_facecolor()[:3] == pytest.approx(np.array(PALETTE["gray"]) / 255)  # no colour is known
    assert mug.get_zorder() > table.get_zorder()


def test_a_thing_without_a_named_colour_takes_that_of_its_faces():
    scene = generate_home(0)
    item = scene.objects[0]
    item.attributes = {}
    mean = scene.mesh.face_colors[scene.mesh.face_instance == 0].mean(axis=0) / 255
    assert object_color(item, scene) == pytest.approx(mean)


@pytest.mark.parametrize("seed", [0, 2])
def test_names_are_readable_and_do_not_cover_each_other(seed):
    ax = axes(9.0)
    draw_map(ax, generate_home(seed))
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text() and "viewer" not in text.get_text()]
    assert len(boxes) >= 8 and min(text.get_fontsize() for text in ax.texts if text.get_text()) >= 8
    for a, b in combinations(boxes, 2):
        assert not (a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1)


def test_small_things_are_named_only_when_highlighted():
    plain, marked, bare = axes(), axes(), axes()
    draw_map(plain, study())
    draw_map(marked, study(), highlight=[1])
    draw_map(bare, study(), labels=False)
    words = [{text.get_text() for text in ax.texts} for ax in (plain, marked, bare)]
    assert "mug" not in words[0] and {"table", "chair", "STUDY"} <= words[0]
    assert "mug" in words[1] and "table" not in words[2]
    edges = [patch.get_edgecolor()[:3] for patch in patch_of(marked, footprint(study().boxes)[1])]
    assert to_rgb(ACCENT) in edges


def test_a_highlight_takes_the_colour_it_is_given():
    scene, ax = study(), axes()
    draw_map(ax, scene, highlight={2: "#00ff00"}, labels=False, viewer=False)
    outlines = [patch.get_edgecolor()[:3] for patch in patch_of(ax, footprint(scene.boxes)[2])]
    assert (0.0, 1.0, 0.0) in outlines and to_rgb(ACCENT) not in outlines
    assert not ax.texts


def test_path_and_free_floor_and_graph_are_added():
    scene, ax = study(), axes()
    grid = occupancy(scene)
    draw_map(ax, scene, occupancy=grid, graph=build_graph(scene), path=np.array([[1, 1], [1.5, 1.0]]))
    assert any(np.allclose(line.get_xydata(), [[1, 1], [1.5, 1.0]]) for line in ax.lines)
    held = [line for line in ax.lines if line.get_xydata().tolist() == [[2, 1.5], [2, 1.5]]]
    assert len(held) == 1  # the mug rests on the table
    left, right, bottom, top = ax.images[0].get_extent()
    assert (left, bottom) == pytest.approx(tuple(grid.origin)) and right - left == pytest.approx(
        grid.free.shape[1] * 0.05
    )


def test_the_map_is_to_scale_in_metres():
    ax = axes()
    draw_map(ax, study())
    assert ax.get_aspect() == 1.0 and ax.get_xlabel() == "x (m)"
    assert ax.get_xlim()[0] < 0 and ax.get_xlim()[1] > 4


def test_a_scan_without_rooms_shows_its_points_below_the_cut_and_outlines():
    scene, ax = study(), axes()
    floor = np.stack(np.meshgrid(np.linspace(0, 4, 41), np.linspace(0, 3, 31), [0.0]), -1).reshape(-1, 3)
    points = np.vstack([floor, floor + [0, 0, 2.5], [[2.0, 1.5, 0.8]]]).astype(np.float32)  # floor, ceiling, table top
    colors = np.full(points.shape, 90, np.uint8)
    colors[len(floor) : 2 * len(floor)], colors[-1] = (255, 0, 0), (0, 0, 255)
    scan = Scene(
        "scan", "test", scene.objects, points=points, colors=colors, instance=np.full(len(points), -1, np.int32)
    )
    draw_map(ax, scan)
    picture = np.asarray(ax.images[0].get_array())
    shown = {tuple(rgb) for rgb in picture[picture[..., 3] > 0][:, :3].tolist()}
    assert shown == {(90, 90, 90), (0, 0, 255)}  # no ceiling; the table top lies over the floor
    assert all(patch_of(ax, corners)[0].get_facecolor()[3] == 0 for corners in footprint(scan.boxes))
    low, high = map_limits(scan)
    np.testing.assert_allclose([low, high], [[-0.35, -0.35], [4.35, 3.35]], atol=1e-6)


def test_a_part_of_a_map_shows_its_things_and_names_no_other():
    scene, ax = generate_home(7), axes()
    window = window_around(scene, [0])
    draw_map(ax, scene, window=window, highlight=[0])
    assert (ax.get_xlim()[0], ax.get_ylim()[0]) == pytest.approx(tuple(window[0]))
    inside = {
        item.label for item in scene.objects if (item.box[:2] > window[0]).all() and (item.box[:2] < window[1]).all()
    }
    kinds = {room.kind.upper() for room in scene.rooms} | {"viewer looks this way", ""}
    assert scene.objects[0].label in {text.get_text() for text in ax.texts}
    assert {text.get_text() for text in ax.texts} - kinds <= inside


def test_a_room_with_an_inward_corner_is_named_inside_itself():
    bend = np.array([[0, 0], [6, 0], [6, 1.2], [1.2, 1.2], [1.2, 6], [0, 6.0]])
    ax = axes()
    draw_map(ax, Scene("bend", "test", [], [Room(0, "hall", bend)]))
    (at,) = [text.get_position() for text in ax.texts if text.get_text() == "HALL"]
    assert contains(bend, np.array([at]))[0]


def test_what_cannot_be_drawn_says_so():
    with pytest.raises(InputError, match=r"cannot highlight \[7\]"):
        draw_map(axes(), study(), highlight=[7])
    with pytest.raises(InputError, match="neither rooms nor objects"):
        draw_map(axes(), Scene("void", "test", []))


def test_names_over_a_view_sit_on_their_objects():
    scene = study()
    ids = np.full((60, 80), -1, np.int32)
    ids[10:40, 10:40], ids[20:50, 50:75], ids[0, 0] = 0, 2, 1
    ax = axes()
    draw_view_boxes(ax, np.zeros((60, 80, 3), np.uint8), ids, scene)
    at = {text.get_text(): text.get_position() for text in ax.texts}
    assert set(at) == {"blue table", "chair"}  # one pixel of mug is left out
    assert ids[int(at["blue table"][1]), int(at["blue table"][0])] == 0
    assert ids[int(at["chair"][1]), int(at["chair"][0])] == 2


def test_only_the_given_names_are_shown_over_a_view():
    ids = np.zeros((20, 20), np.int32)
    ids[:, 10:] = 2
    ax = axes()
    draw_view_boxes(ax, np.zeros((20, 20, 3), np.uint8), ids, study(), names={2: "0.93 the chair"})
    assert [text.get_text() for text in ax.texts] == ["0.93 the chair"]
