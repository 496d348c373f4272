"""Tests of envs/interaction.py and envs/layout.py: rooms computed by hand, and properties over generated homes."""

from types import SimpleNamespace

import numpy as np
import pytest

from core.errors import InputError
from envs.interaction import ARM_M, FACING_RAD, REACH_M, bearing, pick, place, reach_region, toggle_door
from envs.layout import AT_REST, GAP_M, IN_HAND, layout_of
from scene.datasets.procedural import generate_home
from scene.geometry import boxes_mesh
from scene.occupancy import occupancy
from scene.types import Door, Room, Scene, SceneMesh, SceneObject

ALL_OPEN = -1
USES = {
    "mug": ("pickup",),
    "book": ("pickup",),
    "tray": ("pickup", "surface"),
    "table": ("surface",),
    "fridge": ("open", "surface"),
}


def home_of(*things: tuple[str, list[float]], rooms=None, doors=(), mesh=False, floor_z=None) -> SimpleNamespace:
    """A 4 x 3 m room, unless told otherwise, with (label, box) things in it."""
    objects = [
        SceneObject(k, label, np.array(box), affordances=USES.get(label, ())) for k, (label, box) in enumerate(things)
    ]
    rooms = rooms or [Room(0, "study", np.array([[0, 0], [4, 0], [4, 3], [0, 3.0]]))]
    scene = Scene("room", "test", objects, rooms, list(doors))
    if mesh:
        vertices, faces = boxes_mesh(scene.boxes)
        owner = np.repeat(np.arange(len(objects)), 12).astype(np.int32)
        scene.mesh = SceneMesh(vertices, faces, np.full((len(faces), 3), 90, np.uint8), owner)
    return SimpleNamespace(scene=scene, grid=occupancy(scene, interactive=True, floor_z=floor_z))


def world_of(home, **moved) -> dict:
    """Everything at rest and all doors open, but for what is named."""
    boxes = layout_of(home).boxes
    pose = np.column_stack([boxes[:, :2], boxes[:, 2] - boxes[:, 5] / 2, boxes[:, 6]])
    return {"doors": ALL_OPEN, "pose": pose, "support": np.full(len(boxes), AT_REST), "held": -1, **moved}


TABLE = ("table", [2.0, 1.5, 0.4, 0.6, 1.2, 0.8, 0.0])  # x 1.7..2.3, y 0.9..2.1, top 0.8
MUG = ("mug", [1.8, 1.5, 0.85, 0.1, 0.1, 0.1, 0.0])  # x 1.75..1.85, on the table
WEST = np.array([1.2, 1.5])  # half a metre from the table's edge, facing it at yaw 0


def at(x: float, y: float) -> np.ndarray:
    return np.array([x, y])


def test_a_hand_takes_what_is_near_and_in_front():
    home = home_of(TABLE, MUG)
    world = world_of(home)
    assert pick(home, WEST, 0.0, **world) == 0
    assert pick(home, at(0.76, 1.5), 0.0, **world) == 0  # 0.99 m
    assert pick(home, at(0.74, 1.5), 0.0, **world) == -1  # 1.01 m
    assert pick(home, WEST, np.deg2rad(44), **world) == 0 and pick(home, WEST, np.deg2rad(-44), **world) == 0
    assert pick(home, WEST, np.deg2rad(50), **world) == -1 and pick(home, WEST, np.pi, **world) == -1
    assert pick(home, WEST, 2 * np.pi + 0.1, **world) == 0  # headings wrap
    assert pick(home, WEST, 0.0, **{**world, "held": 0}) == -1  # a full hand


def test_of_two_things_the_one_faced_comes_first_then_the_nearer_one():
    left, right = ("mug", [1.8, 1.9, 0.85, 0.1, 0.1, 0.1, 0.0]), ("book", [1.8, 1.3, 0.85, 0.1, 0.1, 0.1, 0.0])
    home = home_of(TABLE, left, right)
    world = world_of(home)
    assert pick(home, WEST, 0.0, **world) == 1  # neither within 15 degrees: the book is nearer
    assert pick(home, WEST, bearing(WEST, np.array(left[1])), **world) == 0
    behind = home_of(TABLE, MUG, ("book", [2.0, 1.5, 0.85, 0.1, 0.1, 0.1, 0.0]))
    assert pick(behind, WEST, 0.0, **world_of(behind)) == 0  # both faced: the nearer one


@pytest.mark.parametrize(("bottom", "slot"), [(0.0, 0), (1.59, 0), (1.61, -1)])
def test_hands_reach_from_the_floor_to_160_cm(bottom, slot):
    home = home_of(("mug", [2.0, 1.5, bottom + 0.05, 0.1, 0.1, 0.1, 0.0]))
    assert pick(home, at(1.5, 1.5), 0.0, **world_of(home)) == slot
    assert reach_region(home, [0]).any() == (slot == 0)


def test_heights_count_from_the_floor_of_the_agents_storey():
    square = np.array([[0, 0], [4, 0], [4, 3], [0, 3.0]])
    rooms = [Room(0, "study", square), Room(1, "study", square, floor_z=2.8)]
    mug = ("mug", [2.0, 1.5, 3.0, 0.1, 0.1, 0.1, 0.0])
    for floor_z, slot in ((0.0, -1), (2.8, 0)):
        home = home_of(mug, rooms=rooms, floor_z=floor_z)
        assert pick(home, at(1.5, 1.5), 0.0, **world_of(home)) == slot


def test_what_carries_a_thing_stays_until_it_is_empty():
    tray = ("tray", [1.85, 1.5, 0.81, 0.2, 0.4, 0.02, 0.0])
    home = home_of(TABLE, tray, ("mug", [1.9, 1.5, 0.87, 0.1, 0.1, 0.1, 0.0]))
    assert layout_of(home).carrier.tolist() == [0, 1] and layout_of(home).base.tolist() == [0, 0]
    world = world_of(home)
    assert pick(home, WEST, 0.0, **world) == 1  # the mug, though the tray is nearer
    assert not reach_region(home, [1]).any() and reach_region(home, [2]).any()
    gone = {**world, "support": np.array([AT_REST, IN_HAND])}
    assert pick(home, WEST, 0.0, **gone) == 0


def test_walls_and_tall_things_keep_hands_out_and_a_cupboard_does_not_hide_its_own_things():
    rooms = [
        Room(0, "study", np.array([[0, 0], [2, 0], [2, 3], [0, 3.0]])),
        Room(1, "study", np.array([[2, 0], [4, 0], [4, 3], [2, 3.0]])),
    ]
    mug = ("mug", [2.2, 1.5, 0.05, 0.1, 0.1, 0.1, 0.0])

    def taken(home, x):
        return pick(home, at(x, 1.5), 0.0, **world_of(home))

    assert taken(home_of(mug, rooms=rooms), 1.7) == -1 and taken(home_of(mug), 1.7) == 0
    screen = ("wardrobe", [2.0, 1.5, 1.0, 0.1, 1.5, 2.0, 0.0])
    assert taken(home_of(mug, screen), 1.6) == -1
    rack = ("bookshelf", [2.3, 1.5, 1.0, 0.4, 1.5, 2.0, 0.0])
    inside = ("mug", [2.3, 1.5, 1.0, 0.1, 0.1, 0.1, 0.0])
    assert taken(home_of(inside, rack), 1.6) == 0


def test_what_is_shut_away_cannot_be_taken_but_what_stands_on_top_can():
    fridge = ("fridge", [2.0, 1.5, 0.6, 0.6, 0.6, 1.2, 0.0])
    inside, above = ("mug", [1.85, 1.5, 0.6, 0.1, 0.1, 0.1, 0.0]), ("mug", [1.85, 1.5, 1.25, 0.1, 0.1, 0.1, 0.0])
    home = home_of(fridge, inside, above)
    assert layout_of(home).enclosed.tolist() == [True, False]
    assert pick(home, WEST, 0.0, **world_of(home)) == 1
    assert not reach_region(home, [1]).any() and reach_region(home, [2]).any()


def test_a_thing_goes_to_the_nearest_free_spot_on_the_table():
    home = home_of(TABLE, MUG)
    world = world_of(home, held=0, support=np.array([IN_HAND]))
    where, pose = place(home, WEST, 0.0, **world)
    assert where == 0
    assert pose == pytest.approx([1.75, 1.5, 0.8, 0.0])  # half a mug from the edge, on the table's top
    taken = home_of(TABLE, MUG, ("book", [1.75, 1.5, 0.82, 0.1, 0.1, 0.04, 0.0]))
    world = world_of(taken, held=0, support=np.array([IN_HAND, AT_REST]))
    where, pose = place(taken, WEST, 0.0, **world)
    assert pose[0] == pytest.approx(1.75) and abs(pose[1] - 1.5) == pytest.approx(0.15)  # 0.1 m and a gap, next spot
    world["pose"][1, :2] = 2.2, 2.0  # the book has been carried elsewhere
    assert place(taken, WEST, 0.0, **world)[1] == pytest.approx([1.75, 1.5, 0.8, 0.0])


def test_a_long_thing_is_turned_to_fit_and_one_that_fits_nowhere_stays_in_the_hand():
    for x, y, yaw in ((0.1, 0.7, 0.0), (0.7, 0.1, np.pi / 2), (1.3, 0.1, None), (0.7, 0.7, None)):
        home = home_of(TABLE, ("book", [3.5, 2.2, 0.05, x, y, 0.1, 0.0]))
        put = place(home, WEST, 0.0, **world_of(home, held=0, support=np.array([IN_HAND])))
        assert (put is None) if yaw is None else put[1][3] == pytest.approx(yaw)
        assert reach_region(home, [0], place=1).any() == (yaw is not None)


def test_nothing_is_put_on_the_floor_on_high_or_hollow_tops_or_beyond_the_arm():
    book = ("book", [3.5, 2.5, 0.05, 0.1, 0.1, 0.1, 0.0])

    def put(*things, where=WEST, mesh=False):
        home = home_of(*things, book, mesh=mesh)
        return place(home, where, 0.0, **world_of(home, held=0, support=np.array([IN_HAND])))

    assert put() is None
    assert put(("table", [2.0, 1.5, 0.85, 0.6, 1.2, 1.7, 0.0])) is None
    lamp = ("lamp", [1.83, 1.5, 1.0, 0.25, 1.19, 0.4, 0.0])  # its free part begins 0.77 m away
    assert put(TABLE, lamp)[1][0] > 1.95
    assert put(TABLE, lamp, where=at(0.7, 1.5)) is None  # 1.3 m away, though the table's edge is within reach
    assert put(TABLE, mesh=True) is not None
    home = home_of(TABLE, book, mesh=True)
    home.scene.mesh.vertices[home.scene.mesh.vertices[:, 2] > 0.7, 2] = 0.6  # what its box says is no top
    assert place(home, WEST, 0.0, **world_of(home, held=0)) is None


def pair(door_open: bool = True) -> SimpleNamespace:
    """Two rooms with a wall at x = 3 and a doorway of 0.9 m around y = 1.5; a mug just beyond it."""
    rooms = [
        Room(0, "study", np.array([[0, 0], [3, 0], [3, 3], [0, 3.0]])),
        Room(1, "bedroom", np.array([[3, 0], [6, 0], [6, 3], [3, 3.0]])),
    ]
    doors = [
        Door(0, np.array([0.0, 1.5, 1.0, 0.1, 0.9, 2.0, 0.0]), (0, -1), open=False),
        Door(1, np.array([3.0, 1.5, 1.0, 0.1, 0.9, 2.0, 0.0]), (0, 1), open=door_open),
    ]
    return home_of(("mug", [3.2, 1.5, 0.05, 0.1, 0.1, 0.1, 0.0]), rooms=rooms, doors=doors)


def test_a_door_opens_from_120_cm_in_front_and_does_not_shut_on_the_agent():
    home = pair()
    assert home.grid.openable == [1]
    for xy, yaw, doors, bit in (
        (at(1.9, 1.5), 0.0, 0, 0),
        (at(1.9, 1.5), 0.0, 1, 0),
        (at(1.75, 1.5), 0.0, 0, -1),  # 1.25 m
        (at(1.9, 1.5), np.deg2rad(59), 0, 0),
        (at(1.9, 1.5), np.deg2rad(65), 0, -1),
        (at(2.95, 1.5), 0.0, 1, -1),  # it would meet the agent
        (at(2.95, 1.5), 0.0, 0, 0),  # opening always works
        (at(0.5, 1.5), np.pi, 1, -1),  # the entrance leads nowhere
    ):
        assert toggle_door(home, xy, yaw, doors=doors) == bit


def test_no_hand_goes_through_a_shut_door():
    home = pair()
    assert pick(home, at(2.6, 1.5), 0.0, **world_of(home)) == 0
    assert pick(home, at(2.6, 1.5), 0.0, **world_of(home, doors=0)) == -1
    assert pick(home, at(3.6, 1.5), np.pi, **world_of(home, doors=0)) == 0


def test_a_region_moves_with_its_thing():
    home = home_of(TABLE, MUG, ("table", [3.6, 0.4, 0.4, 0.6, 0.6, 0.8, 0.0]))
    moved = np.array([[3.6, 0.4, 0.85, 0.1, 0.1, 0.1, 0.0]])
    first, later = reach_region(home, [1]), reach_region(home, [1], moved)
    assert first.any() and later.any()
    xy = home.grid.centers(np.argwhere(later))
    assert np.hypot(*(xy - moved[0, :2]).T).max() < REACH_M + 0.1
    assert not reach_region(home, [0]).any()  # a table cannot be carried
    with pytest.raises(InputError, match=r"\(1, 7\) for 2 objects"):
        reach_region(home, [1, 0], moved)
    with pytest.raises(InputError, match="cannot be carried"):
        reach_region(home, [2], place=0)


def test_too_short_tables_are_named():
    home = home_of(TABLE, MUG)
    with pytest.raises(InputError, match="0 and 1 rows"):
        pick(home, WEST, 0.0, **world_of(home, pose=np.zeros((0, 4))))


@pytest.fixture(scope="module")
def homes():
    scenes = [generate_home(seed) for seed in range(12)]
    return [SimpleNamespace(scene=scene, grid=occupancy(scene, interactive=True)) for scene in scenes]


def stands(home, region, rng, count):
    """Middles of some cells of a region, and headings that turns of 30 degrees cannot miss by more."""
    cells = np.argwhere(region)
    assert not (region & ~home.grid.free).any()
    for cell in cells[rng.permutation(len(cells))[:count]]:
        yield home.grid.centers(cell), rng.uniform(-FACING_RAD, FACING_RAD)


def test_from_every_cell_of_a_region_facing_the_thing_takes_it(homes):
    rng, tried, lost = np.random.default_rng(0), 0, 0
    for home in homes:
        layout, world = layout_of(home), world_of(home)
        for slot, index in enumerate(layout.movable):
            region = reach_region(home, [index])
            lost += not region.any()
            for xy, off in stands(home, region, rng, 8):
                assert pick(home, xy, bearing(xy, layout.boxes[slot]) + off, **world) == slot
                tried += 1
    assert tried > 150 and lost < 0.4 * sum(len(layout_of(home).movable) for home in homes)


def test_from_every_cell_of_a_region_facing_the_surface_puts_the_thing_there_fully_and_free(homes):
    rng, tried = np.random.default_rng(0), 0
    for home in homes:
        layout = layout_of(home)
        for slot in range(min(2, len(layout.movable))):
            support = np.full(len(layout.movable), AT_REST)
            support[slot] = IN_HAND
            world = world_of(home, held=slot, support=support)
            for surface, box in zip(layout.surfaces, layout.surface_boxes):
                region = reach_region(home, [surface], place=int(layout.movable[slot]))
                for xy, off in stands(home, region, rng, 3):
                    put = place(home, xy, bearing(xy, box) + off, **world)
                    assert put is not None and put[0] == surface
                    lies_well(layout, slot, box, put[1], int(surface))
                    assert np.hypot(*(put[1][:2] - xy)) <= ARM_M
                    tried += 1
    assert tried > 80


def lies_well(layout, slot, surface, pose, surface_id):
    """Samples of the footprint lie on the surface and in no other thing that stands as high."""
    size = layout.size[slot]
    u, v = (part.ravel() for part in np.meshgrid(*(np.linspace(-side / 2, side / 2, 9) for side in size[:2])))
    cos, sin = np.cos(pose[3]), np.sin(pose[3])
    xy = np.stack([pose[0] + cos * u - sin * v, pose[1] + sin * u + cos * v], axis=1)
    assert pose[2] == pytest.approx(surface[2] + surface[5] / 2)
    assert in_footprint(xy, surface, -1e-6).all()
    others = [*np.delete(layout.boxes, slot, axis=0), *layout.fixed_boxes[layout.fixed != surface_id]]
    for other in others:
        if other[2] + other[5] / 2 > pose[2] + 1e-3 and other[2] - other[5] / 2 < pose[2] + size[2]:
            assert not in_footprint(xy, other, 1e-6 - 0.5 * GAP_M).any()


def in_footprint(xy, box, shrink):
    """Points inside a footprint that is made smaller by `shrink` on every side."""
    cos, sin = np.cos(box[6]), np.sin(box[6])
    dx, dy = xy[:, 0] - box[0], xy[:, 1] - box[1]
    half = box[3:5] / 2 - shrink
    return (np.abs(cos * dx + sin * dy) <= half[0]) & (np.abs(cos * dy - sin * dx) <= half[1])


DESK = ("table", [2.0, 2.6, 0.4, 0.6, 0.8, 0.8, 0.0])  # y 2.2..3.0, at the wall


def crowded(*others):
    """A mug on a desk with things around it."""
    return home_of(DESK, ("mug", [2.0, 2.5, 0.85, 0.1, 0.1, 0.1, 0.0]), *others)


def test_where_another_thing_may_be_taken_first_from_every_cell_nothing_is_promised():
    around = [("book", [2.0 + x, 2.5 + y, 0.85, 0.1, 0.1, 0.1, 0.0]) for x, y in ((-0.12, 0), (0.12, 0), (0, -0.12))]
    assert reach_region(crowded(), [1]).any()
    home = crowded(*around)
    assert not reach_region(home, [1]).any() and all(reach_region(home, [k]).any() for k in (2, 3, 4))


def test_two_things_one_behind_the_other_are_told_apart_by_a_few_centimetres():
    # 3 cm further away in the same direction: moving by half a cell changes both distances alike
    home = home_of(TABLE, MUG, ("book", [1.8 + 0.06, 1.5, 0.95, 0.16, 0.1, 0.1, 0.0]))  # edges at x 1.75 and 1.78
    row, column = home.grid.cells(WEST)
    assert reach_region(home, [1])[row, column] and not reach_region(home, [2])[row, column]


def test_the_way_to_what_was_moved_is_shown_even_where_no_cell_is_sure():
    # the mug between two books that stand out 2 mm: from straight ahead it is nearer than they are, by 2 mm
    mug = [2.025, 2.5, 0.85, 0.1, 0.1, 0.1, 0.0]
    books = [("book", [2.025 + x, 2.498, 0.85, 0.1, 0.1, 0.1, 0.0]) for x in (-0.11, 0.11)]
    home = home_of(DESK, ("mug", mug), *books)
    assert not reach_region(home, [1]).any()
    home = home_of(DESK, ("mug", [1.0, 1.0, *mug[2:]]), *books)
    there = np.array([mug])
    moved = reach_region(home, [1], there)
    assert moved.any()
    middles = home.grid.centers(np.argwhere(moved))
    world = world_of(home)
    world["pose"][0] = 2.025, 2.5, 0.8, 0.0
    world["support"][0] = 0
    assert all(pick(home, xy, bearing(xy, there[0]), **world) == 0 for xy in middles)


def test_spots_at_rest_are_those_found_afresh_and_few_are_kept(monkeypatch):
    from envs import layout as module

    home = home_of(
        TABLE, MUG, ("book", [2.1, 1.7, 0.82, 0.1, 0.1, 0.04, 0.0]), ("book", [3.5, 2.5, 0.02, 0.1, 0.1, 0.04, 0.0])
    )
    layout = layout_of(home)
    monkeypatch.setattr(module, "SPOTS_KEPT", 200)
    for slot in (0, 1, 2, 0):
        fresh = module.spots_on(layout, 0, layout.size[slot], np.delete(layout.boxes, slot, axis=0))
        assert np.array_equal(module.spots_at_rest(layout, slot, 0), fresh) and len(fresh)
    assert layout.spots_kept == sum(len(found) for found in layout.spots.values()) and len(layout.spots) == 1
    near = module.to_nearest(np.array([WEST, [0.0, 0.0]]), fresh, ARM_M)
    assert near[0] == pytest.approx(np.hypot(*(fresh[:, :2] - WEST).T).min()) and near[1] == np.inf
