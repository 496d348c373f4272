"""Tests of scene/occupancy.py on homes of boxes small enough to check by hand."""

import numpy as np
import pytest

from core.errors import InputError
from scene.occupancy import OPEN, WALL, line_of_sight, occupancy
from scene.types import Door, Room, Scene, SceneMesh, SceneObject


def thing(index: int, label: str, box: list[float]) -> SceneObject:
    return SceneObject(index, label, np.array(box, dtype=float))


def one_room(*things: SceneObject, mesh: SceneMesh | None = None) -> Scene:
    """A 4 x 3 m room with its corner at the origin."""
    floor = np.array([[0, 0], [4, 0], [4, 3], [0, 3.0]])
    return Scene("room", "test", list(things), [Room(0, "study", floor)], mesh=mesh)


def two_rooms(door_open: bool) -> Scene:
    """Two 3 x 3 m rooms, a wall of 0.1 m between them with a doorway of 0.9 m around y = 1.5."""
    rooms = [
        Room(0, "study", np.array([[0, 0], [3, 0], [3, 3], [0, 3.0]])),
        Room(1, "bedroom", np.array([[3.1, 0], [6.1, 0], [6.1, 3], [3.1, 3.0]])),
    ]
    door = Door(0, np.array([3.05, 1.5, 1.0, 0.1, 0.9, 2.0, 0.0]), (0, 1), open=door_open)
    return Scene("pair", "test", [], rooms, [door])


def wall_with_hole() -> SceneMesh:
    """The wall between the rooms of `two_rooms` as one flat face at x = 3, cut out around the doorway.

    The triangle above the doorway reaches down to the floor beside it: its projection covers the doorway.
    """
    vertices = [[3, 0, 0], [3, 1.05, 0], [3, 1.05, 2], [3, 1.95, 2], [3, 1.95, 0], [3, 3, 0], [3, 3, 2.6], [3, 0, 2.6]]
    faces = [[0, 1, 2], [0, 2, 7], [7, 2, 3], [7, 3, 6], [6, 3, 4], [6, 4, 5]]
    shape = np.array(faces, np.int32)
    return SceneMesh(np.array(vertices, np.float32), shape, np.full((6, 3), 200, np.uint8), np.full(6, -1, np.int32))


def reaches(grid, xy: list[float]) -> bool:
    return bool(grid.is_free(np.array(xy)))


def test_an_agent_keeps_its_radius_to_walls_and_furniture():
    grid = occupancy(one_room(thing(0, "table", [2, 1.5, 0.4, 1.0, 0.6, 0.8, 0])), agent_radius_m=0.2)
    assert reaches(grid, [0.35, 0.35]) and not reaches(grid, [0.12, 1.5])  # wall at x = 0
    assert reaches(grid, [1.2, 1.5]) and not reaches(grid, [1.38, 1.5])  # table edge at x = 1.5
    assert not reaches(grid, [2, 1.5]) and not reaches(grid, [-5, 1]) and not reaches(grid, [99, 1])


def test_a_turned_box_blocks_its_turned_footprint():
    grid = occupancy(one_room(thing(0, "sofa", [2, 1.5, 0.4, 1.6, 0.4, 0.8, np.pi / 4])), agent_radius_m=0.1)
    along, across = np.array([1, 1]) / 2**0.5, np.array([-1, 1]) / 2**0.5
    middle = np.array([2, 1.5])
    assert not grid.is_free(middle + 0.75 * along) and grid.is_free(middle + 0.75 * across)


@pytest.mark.parametrize(
    ("label", "box", "blocks"),
    [
        ("rug", [2, 1.5, 0.01, 1, 1, 0.02, 0], False),
        ("ceiling lamp", [2, 1.5, 2.2, 0.5, 0.5, 0.4, 0], False),
        ("picture", [2, 1.5, 1.8, 0.5, 0.1, 0.5, 0], False),
        ("bed", [2, 1.5, 0.3, 1, 1, 0.6, 0], True),
        ("hanging shelf", [2, 1.5, 1.5, 0.5, 0.5, 0.4, 0], True),  # starts at 1.3 m, the agent is 1.5 m tall
    ],
)
def test_only_what_stands_between_ankle_and_head_blocks(label, box, blocks):
    assert reaches(occupancy(one_room(thing(0, label, box))), [2, 1.5]) is not blocks


@pytest.mark.parametrize("with_mesh", [False, True])
def test_an_open_doorway_joins_rooms(with_mesh):
    scene = two_rooms(door_open=True)
    scene.mesh = wall_with_hole() if with_mesh else None
    grid = occupancy(scene)
    assert reaches(grid, [1, 1]) and reaches(grid, [5, 1]) and reaches(grid, [3.05, 1.5])
    assert not reaches(grid, [3.05, 0.5])


def test_a_closed_door_leaves_the_larger_room_only():
    scene = two_rooms(door_open=False)
    scene.rooms[1].polygon[1:3, 0] = 7.0
    grid = occupancy(scene)
    assert reaches(grid, [5, 1]) and not reaches(grid, [1, 1])
    assert not line_of_sight(grid, np.array([[1, 1.5]]), np.array([[5, 1.5]]))[0]


def test_a_door_leaf_blocks_where_its_faces_are():
    leaf = np.array([[2, 1, 0], [2, 2, 0], [2, 2, 2], [2, 1, 2]], np.float32)
    mesh = SceneMesh(
        leaf, np.array([[0, 1, 2], [0, 2, 3]], np.int32), np.full((2, 3), 90, np.uint8), np.zeros(2, np.int32)
    )
    box = [2, 1.5, 1.0, 1.0, 1.0, 2.0, 0]  # the box of the whole swing, larger than the leaf
    grid = occupancy(one_room(thing(0, "door", box), mesh=mesh))
    assert not reaches(grid, [2, 1.5]) and reaches(grid, [2.4, 1.5])


def test_free_cells_are_one_region():
    barrier = thing(0, "bookshelf", [1.2, 1.5, 0.9, 0.3, 3.0, 1.8, 0])
    grid = occupancy(one_room(barrier))
    assert reaches(grid, [3, 1.5]) and not reaches(grid, [0.5, 1.5])


def test_cells_and_centers_are_inverse_and_free_cells_are_free():
    grid = occupancy(one_room())
    points = grid.centers(np.argwhere(grid.free))
    assert grid.is_free(points).all() and len(points) > 100
    assert (grid.centers(grid.cells(points)) == points).all()
    row, column = grid.cells(np.array([1.01, 0.51]))
    assert (row, column) == (14, 24)  # (0.51 + 0.2) / 0.05 and (1.01 + 0.2) / 0.05


def test_tall_things_hide_what_is_behind_them_low_things_do_not():
    tall = thing(0, "wardrobe", [2, 1.5, 1.0, 0.6, 0.6, 2.0, 0])
    low = thing(1, "table", [3, 2.5, 0.4, 0.6, 0.6, 0.8, 0])
    grid = occupancy(one_room(tall, low))
    a = np.array([[0.5, 1.5], [0.5, 2.5], [0.5, 1.5], [0.5, 1.5]])
    b = np.array([[3.5, 1.5], [3.9, 2.5], [1.75, 1.5], [2.25, 1.5]])
    assert line_of_sight(grid, a, b).tolist() == [False, True, False, False]
    assert line_of_sight(grid, a, b, target=0).tolist() == [True, True, True, True]
    assert line_of_sight(grid, b, a, target=0).tolist() == [True, True, True, True]
    assert set(np.unique(grid.sight)) == {WALL, OPEN, 0}


def test_a_wall_hides_the_next_room_and_a_picture_on_it_is_seen_from_its_own_side():
    scene = two_rooms(door_open=True)
    grid = occupancy(scene)
    a = np.array([[1.0, 0.5], [1.0, 1.5], [1.0, 0.5]])
    b = np.array([[5.0, 0.5], [5.0, 1.5], [3.02, 0.5]])
    assert line_of_sight(grid, a, b).tolist() == [False, True, True]


def test_homes_without_rooms_or_floor_are_refused():
    with pytest.raises(InputError, match="no rooms"):
        occupancy(Scene("scan", "test", []))
    with pytest.raises(InputError, match="no free floor"):
        occupancy(one_room(thing(0, "bed", [2, 1.5, 0.3, 4, 3, 0.6, 0])))
    with pytest.raises(InputError, match="cell_m"):
        occupancy(one_room(), cell_m=0)
    with pytest.raises(InputError, match="shape"):
        line_of_sight(occupancy(one_room()), np.zeros((2, 2)), np.zeros((3, 2)))
