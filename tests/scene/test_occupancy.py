"""Tests of scene/occupancy.py on homes of boxes small enough to check by hand."""

import numpy as np
import pytest
from scipy import ndimage

from core.errors import InputError
from scene.datasets.procedural import HomeConfig, generate_home
from scene.occupancy import OPEN, WALL, line_of_sight, occupancy
from scene.storeys import openable_doors, removable_leaves, storey_of_thing, storeys
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


def two_storeys() -> Scene:
    """A 4 x 3 m study, and a bedroom twice as long above it at 2.8 m whose floor steps down by 0.3 m halfway."""
    rooms = [
        Room(0, "study", np.array([[0, 0], [4, 0], [4, 3], [0, 3.0]])),
        Room(1, "bedroom", np.array([[0, 0], [4, 0], [4, 3], [0, 3.0]]), floor_z=3.1),
        Room(2, "bathroom", np.array([[4, 0], [8, 0], [8, 3], [4, 3.0]]), floor_z=2.8),
    ]
    things = [thing(0, "table", [1, 1.5, 0.4, 1.0, 1.0, 0.8, 0]), thing(1, "bed", [3, 1.5, 3.3, 1.0, 1.0, 0.6, 0])]
    doors = [
        Door(0, np.array([4.0, 1.5, 3.8, 0.1, 0.9, 2.0, 0.0]), (1, 2)),
        Door(1, np.array([2.0, 0.0, 1.0, 0.9, 0.1, 2.0, 0.0]), (0, -1), open=False),
    ]
    return Scene("tower", "test", things, rooms, doors)


def test_floors_more_than_a_metre_apart_are_storeys():
    assert storeys(two_storeys()) == [0.0, 2.8]
    assert storeys(one_room()) == [0.0]
    chain = [Room(k, "study", np.array([[0, 0], [1, 0], [1, 1.0]]), floor_z=0.6 * k) for k in range(4)]
    assert storeys(Scene("stairs", "test", [], chain)) == pytest.approx([0.0, 1.2])


def test_a_grid_shows_the_rooms_doors_and_things_of_its_own_storey():
    below, above = occupancy(two_storeys()), occupancy(two_storeys(), floor_z=2.8)
    assert (below.floor_z, above.floor_z) == (0.0, 2.8)
    assert reaches(below, [3, 1.5]) and not reaches(below, [1, 1.5]) and not reaches(below, [6, 1.5])
    assert reaches(above, [1, 1.5]) and not reaches(above, [3, 1.5]) and reaches(above, [6, 1.5])
    with pytest.raises(InputError, match="no storey at 1.4 m"):
        occupancy(two_storeys(), floor_z=1.4)
    upstairs = occupancy(two_storeys(), floor_z=2.8, interactive=True)
    downstairs = occupancy(two_storeys(), interactive=True)
    assert upstairs.openable == downstairs.openable == [0]  # one numbering for the whole home
    assert (upstairs.shut == 1).any() and not downstairs.shut.any()


def test_small_things_do_not_block_where_they_can_be_carried():
    ball = SceneObject(0, "ball", np.array([2, 1.5, 0.1, 0.2, 0.2, 0.2, 0.0]), affordances=("pickup",))
    assert not reaches(occupancy(one_room(ball)), [2, 1.5])
    assert reaches(occupancy(one_room(ball), interactive=True), [2, 1.5])


@pytest.mark.parametrize("door_open", [False, True])
def test_a_door_that_opens_takes_its_own_cells_away_only_while_shut(door_open):
    grid = occupancy(two_rooms(door_open), interactive=True)
    for xy in ([1, 1], [5, 1], [3.05, 1.5]):
        assert reaches(grid, xy)
    assert grid.openable == [0] and set(np.unique(grid.shut)) == {0, 1}
    x, y = grid.centers(np.argwhere(grid.shut == 1)).T
    assert np.abs(x - 3.05).max() == pytest.approx(0.2, abs=0.05)  # the agent's radius from the leaf
    assert np.abs(y - 1.5).max() == pytest.approx(0.45 + 0.2, abs=0.05)
    rest = grid.free & (grid.shut == 0)
    parts, count = ndimage.label(rest)
    left, right = (parts[tuple(grid.cells(np.array(xy)))] for xy in ([1, 1], [5, 1]))
    assert count == 2 and left != right  # shut, it leaves no way through


def test_a_shut_inner_leaf_is_no_wall_where_doors_open_and_an_entrance_stays_shut():
    scene = two_rooms(door_open=False)
    leaf = np.array([[3.05, 1.05, 0], [3.05, 1.95, 0], [3.05, 1.95, 2], [3.05, 1.05, 2]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    wall = wall_with_hole()
    scene.objects = [thing(0, "door", list(scene.doors[0].box))]
    scene.mesh = SceneMesh(
        np.concatenate([wall.vertices, leaf]),
        np.concatenate([wall.faces, faces + len(wall.vertices)]),
        np.full((8, 3), 90, np.uint8),
        np.array([-1] * 6 + [0, 0], np.int32),
    )
    assert not reaches(occupancy(scene), [3.05, 1.5])
    assert reaches(occupancy(scene, interactive=True), [3.05, 1.5]) and removable_leaves(scene) == [0]
    scene.doors[0].rooms = (0, -1)
    assert not reaches(occupancy(scene, interactive=True), [3.05, 1.5])
    assert openable_doors(scene) == removable_leaves(scene) == []


def test_only_the_first_32_doors_open_and_shut():
    scene = two_rooms(door_open=True)
    scene.doors = [Door(k, scene.doors[0].box, (0, 1)) for k in range(40)]
    grid = occupancy(scene, interactive=True)
    assert grid.openable == list(range(32))
    assert grid.shut.max() == 2**32 - 1 and reaches(grid, [3.05, 1.5])


def test_a_door_to_nowhere_opens_nothing():
    scene = two_rooms(door_open=True)
    for rooms, box in (((0, 7), [3.05, 1.5, 1, 0.1, 0.9, 2, 0]), ((-1, -1), [500, -90, 1, 0.1, 0.9, 2, 0])):
        scene.doors.append(Door(1, np.array(box, float), rooms))
    grid = occupancy(scene, interactive=True)
    assert grid.openable == [0] and reaches(grid, [1, 1]) and reaches(grid, [5, 1])


def test_a_wall_full_of_holes_still_ends_at_the_rooms():
    scene = generate_home(0)
    keep = np.random.default_rng(0).random(len(scene.mesh.faces)) < 0.3
    mesh = scene.mesh
    scene.mesh = SceneMesh(mesh.vertices, mesh.faces[keep], mesh.face_colors[keep], mesh.face_instance[keep])
    grid = occupancy(scene, interactive=True)
    assert grid.free.any() and not (grid.free & ~grid.inside).any()


@pytest.mark.parametrize(
    ("polygon", "says"),
    [
        ([[0, 0], [np.nan, 0], [1, 1]], "room 1 .*NaN"),
        ([[0, 0], [1, 0]], "at least 3 corners"),
        (np.zeros((0, 2)), "at least 3 corners"),
        ([[0, 0], [1e9, 0], [1e9, 1e9]], "too many cells"),
    ],
)
def test_garbled_room_outlines_are_named(polygon, says):
    scene = two_rooms(door_open=True)
    scene.rooms[1].polygon = np.array(polygon, float)
    with pytest.raises(InputError, match=says):
        occupancy(scene)


def test_a_room_without_area_adds_no_floor():
    scene = two_rooms(door_open=True)
    scene.rooms[1].polygon = np.array([[3.1, 0], [3.1, 3], [3.1, 1.0]])
    grid = occupancy(scene)
    assert reaches(grid, [1, 1]) and not reaches(grid, [5, 1])
    scene.rooms = scene.rooms[1:]
    with pytest.raises(InputError, match="no free floor"):
        occupancy(scene)


def test_garbled_doors_and_meshes_are_named():
    scene = two_rooms(door_open=True)
    scene.doors[0].box[0] = np.inf
    with pytest.raises(InputError, match="door 0"):
        occupancy(scene)
    scene = two_rooms(door_open=True)
    scene.rooms[0].floor_z = float("nan")
    with pytest.raises(InputError, match=r"rooms \[0\]"):
        occupancy(scene)
    for change, says in (("vertices", "NaN or infinite"), ("faces", "name vertices 0..99")):
        scene = one_room(mesh=wall_with_hole())
        getattr(scene.mesh, change)[0, 0] = {"vertices": np.nan, "faces": 99}[change]
        with pytest.raises(InputError, match=says):
            occupancy(scene)


def test_what_moves_is_all_that_differs_between_the_two_kinds_of_grid():
    for seed in range(3):
        scene = generate_home(seed, HomeConfig(rooms_min=2, rooms_max=3))
        still, moving = occupancy(scene), occupancy(scene, interactive=True)
        assert still.shut is None and still.openable == []
        assert (moving.free | ~still.free).all()  # inner doors of these homes stand open anyway
        assert (moving.obstacle <= still.obstacle).all()


@pytest.mark.slow
def test_a_scan_of_a_million_triangles_works():
    rng = np.random.default_rng(0)
    side = np.repeat(rng.integers(4, size=1_000_000), 3)
    along, z = rng.uniform(0, 1, (2, 3_000_000))
    t = np.repeat(along[::3], 3) + 0.01 * along
    x = np.choose(side, [4 * t, np.full_like(t, 4.0), 4 * t, np.zeros_like(t)])
    y = np.choose(side, [np.zeros_like(t), 3 * t, np.full_like(t, 3.0), 3 * t])
    vertices = np.stack([x, y, 2.6 * np.repeat(z[::3], 3) + 0.02 * z], axis=1).astype(np.float32)
    faces = np.arange(3_000_000, dtype=np.int32).reshape(-1, 3)
    mesh = SceneMesh(vertices, faces, np.full((1_000_000, 3), 90, np.uint8), np.full(1_000_000, -1, np.int32))
    grid = occupancy(one_room(mesh=mesh), interactive=True)
    assert reaches(grid, [2, 1.5]) and not reaches(grid, [0.1, 1.5])
    assert (grid.sight == WALL).any()


@pytest.mark.parametrize(
    ("middle", "height", "storey"),
    [(0.45, 0.9, 0), (2.5, 0.3, 0), (2.69, 0.02, 1), (2.6, 0.1, 0), (3.0, 0.6, 1), (-0.02, 0.02, 0), (2.4, 2.0, 0)],
)
def test_a_lamp_under_the_ceiling_belongs_to_the_storey_below(middle, height, storey):
    box = np.array([1.0, 1.0, middle, 0.5, 0.5, height, 0.0])
    assert storey_of_thing(box, [0.0, 2.7]) == storey
