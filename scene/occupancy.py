"""Where an agent can stand in a home, and what it can see past: a grid over the floor made from walls and boxes.

Rows of every grid run along +y, columns along +x; `origin` is the corner of cell (0, 0). A grid shows one storey:
heights count from its lowest floor, and `storeys` lists those of a home.

Interactive grids are for homes whose small things can be carried and whose doors can be opened and shut: such things
block nothing, inner doors all stand open in `free`, and `shut` says which cells each door takes away while it is shut.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int, Int16, UInt32
from numba import njit
from numpy import ndarray
from scipy import ndimage

from core.errors import InputError
from scene.storeys import (
    DOOR_LABELS,
    door_foot,
    doorway_ends,
    is_inner,
    openable_doors,
    outline,
    removable_leaves,
    storey_of,
    storeys,
)
from scene.types import Door, Room, Scene

__all__ = ["EYE_M", "OPEN", "WALL", "Occupancy", "line_of_sight", "occupancy", "storeys"]

OPEN, WALL = -1, -2  # values of Occupancy.sight beside object ids
EYE_M = 1.2  # what is taller hides what is behind it
STEP_M = 0.05  # lower things are walked over: rugs, thresholds
SLICE_M = 0.2  # spacing of the horizontal cuts that find walls in a mesh
MARGIN_M = 0.2  # grid beyond the rooms' bounding rectangle
DOOR_REACH_M = 0.15  # a doorway reaches this far to both sides of its box, across the thickness of the wall
MOST_CELLS = 100_000_000  # a larger grid is a mistake in the room outlines


@dataclass(eq=False)
class Occupancy:
    """The floor of one home in square cells."""

    origin: Float[ndarray, "2"]  # world xy of the outer corner of cell (0, 0)
    cell_m: float
    free: Bool[ndarray, "H W"]  # an agent's centre may be here; one connected region
    obstacle: Bool[ndarray, "H W"]  # walls and furniture themselves, not inflated
    sight: Int16[ndarray, "H W"]  # OPEN, WALL, or the id of the object taller than the eye that stands here
    inside: Bool[ndarray, "H W"]  # floor of a room or of an open doorway
    floor_z: float = 0.0  # height of the storey's lowest floor
    shut: UInt32[ndarray, "H W"] | None = None  # bit k: no agent's centre here while door openable[k] is shut
    openable: list[int] = field(default_factory=list)  # scene/storeys.py openable_doors: the same on every storey

    def cells(self, xy: Float[ndarray, "*s 2"]) -> Int[ndarray, "*s 2"]:
        """(row, column) of world points; points outside the grid get the nearest border cell."""
        index = np.floor((np.asarray(xy)[..., ::-1] - self.origin[::-1]) / self.cell_m).astype(np.int64)
        return np.clip(index, 0, np.array(self.free.shape) - 1)

    def centers(self, cells: Int[ndarray, "*s 2"]) -> Float[ndarray, "*s 2"]:
        """World xy of the middles of (row, column) cells."""
        return (np.asarray(cells)[..., ::-1] + 0.5) * self.cell_m + self.origin

    def is_free(self, xy: Float[ndarray, "*s 2"]) -> Bool[ndarray, "*s"]:
        """Whether an agent's centre may be at world points; False outside the grid."""
        index = np.floor((np.asarray(xy)[..., ::-1] - self.origin[::-1]) / self.cell_m).astype(np.int64)
        known = ((index >= 0) & (index < self.free.shape)).all(axis=-1)
        index = np.where(known[..., None], index, 0)
        return np.asarray(known & self.free[index[..., 0], index[..., 1]])


def occupancy(
    scene: Scene,
    cell_m: float = 0.05,
    agent_radius_m: float = 0.2,
    agent_height_m: float = 1.5,
    *,
    floor_z: float | None = None,
    interactive: bool = False,
) -> Occupancy:
    """The occupancy grid of one storey of a home for a round agent.

    Furniture blocks with the footprint of its box wherever the box crosses the agent's height; things flatter than
    5 cm on the floor and things above the agent do not. Walls and door leaves are cut out of the mesh's structure
    faces (without a mesh: room outlines minus open doors, plus closed doors). Cells are free when inside a room or an
    open doorway, at least the agent's radius away from anything else, and in the largest connected region.

    Args:
        cell_m: side of a cell.
        agent_radius_m: free cells keep this distance to obstacles (to the middles of their cells).
        agent_height_m: what hangs higher does not block.
        floor_z: which storey, one of `storeys(scene)`; None is the lowest.
        interactive: things with the affordance "pickup" do not block, all doors between rooms stand open in `free`,
            and the first 32 of them can be shut (`shut`, `openable`). Doors to the outside stay part of the wall.

    Raises:
        InputError: the scene has no rooms, no such storey, room outlines, doors or mesh parts that are garbled (NaN,
            wrong shapes, faces naming missing vertices), or no cell is free (the rooms are too small or too full).
    """
    floors = storeys(scene)
    if cell_m <= 0 or agent_radius_m < 0 or agent_height_m <= STEP_M:
        raise InputError(
            f"occupancy needs cell_m > 0, agent_radius_m >= 0 and agent_height_m > {STEP_M}, got {cell_m}, "
            f"{agent_radius_m} and {agent_height_m} metres"
        )
    floor_z = floors[0] if floor_z is None else floor_z
    storey = int(np.argmin(np.abs(np.array(floors) - floor_z)))
    if not abs(floors[storey] - floor_z) < 1e-3:
        raise InputError(f"scene {scene.id} has no storey at {floor_z} m; its floors are at {floors} m")
    floor_z = floors[storey]
    rooms = [room for room in scene.rooms if storey_of(room.floor_z, floors) == storey]
    doors = [k for k, door in enumerate(scene.doors) if storey_of(door_foot(scene, k), floors) == storey]

    corners = np.concatenate([outline(scene, room) for room in rooms])
    origin = corners.min(axis=0) - MARGIN_M
    sides_m = corners.max(axis=0) + MARGIN_M - origin
    if not (sides_m / cell_m).prod() < MOST_CELLS:
        raise InputError(
            f"scene {scene.id}: its rooms span {sides_m.round(1).tolist()} m, too many cells of {cell_m} m; check the "
            "room outlines' unit or use larger cells"
        )
    width, height = (int(n) for n in np.ceil(sides_m / cell_m))
    x = origin[0] + (np.arange(width) + 0.5) * cell_m
    y = origin[1] + (np.arange(height) + 0.5) * cell_m
    inner = [k for k in doors if is_inner(scene, scene.doors[k])] if interactive else []
    passages = [scene.doors[k] for k in (inner if interactive else doors) if interactive or scene.doors[k].open]

    inside = np.zeros((height, width), bool)
    for room in rooms:
        inside |= in_polygon(room.polygon, x, y)
    for door in passages:
        inside |= _in_box(_doorway(door), x, y)

    shut_doors = [scene.doors[k] for k in doors if not scene.doors[k].open and k not in inner]
    walls = _Shell(rooms, passages, shut_doors, removable_leaves(scene) if interactive else [])
    low = _wall_cells(scene, walls, origin, cell_m, (height, width), floor_z, agent_height_m)
    sight = np.where(low.sight, np.int16(WALL), np.int16(OPEN))
    obstacle = low.body
    for item in scene.objects:
        bottom, top = item.box[2] - item.box[5] / 2 - floor_z, item.box[2] + item.box[5] / 2 - floor_z
        if item.label in DOOR_LABELS or top <= STEP_M or bottom >= agent_height_m:
            continue  # doors are among the wall cells: an open leaf stands where its faces are, not in its doorway
        if interactive and "pickup" in item.affordances:
            continue
        rows, columns, cover = _window(item.box, x, y, at_least_m=0.71 * cell_m)
        obstacle[rows, columns] |= cover
        if bottom < EYE_M < top:
            part = sight[rows, columns]
            part[cover & (part != WALL)] = item.id

    room_for_agent = inside & ~obstacle
    distance_m = ndimage.distance_transform_edt(np.pad(room_for_agent, 1))[1:-1, 1:-1] * cell_m
    regions, count = ndimage.label(room_for_agent & (distance_m > agent_radius_m))
    if count == 0:
        raise InputError(
            f"scene {scene.id}: no free floor for an agent of radius {agent_radius_m} m; its rooms are too small or "
            "too full. Use a smaller radius or leave the scene out"
        )
    largest = 1 + int(np.bincount(regions.ravel())[1:].argmax())
    grid = Occupancy(origin, cell_m, regions == largest, obstacle, sight, inside, floor_z)
    if interactive:
        grid.openable = openable_doors(scene)
        grid.shut = np.zeros((height, width), np.uint32)
        for bit, k in enumerate(grid.openable):
            if k not in inner:
                continue
            near = _near_line(doorway_ends(scene.doors[k]), agent_radius_m + 0.5 * cell_m, x, y)
            grid.shut[near] |= np.uint32(1 << bit)
    return grid


def _near_line(
    ends: Float[ndarray, "2 2"], within_m: float, x: Float[ndarray, " W"], y: Float[ndarray, " H"]
) -> Bool[ndarray, "H W"]:
    """Cell middles at most `within_m` from a line from end to end."""
    low, high = ends.min(axis=0) - within_m, ends.max(axis=0) + within_m
    columns, rows = slice(*np.searchsorted(x, [low[0], high[0]])), slice(*np.searchsorted(y, [low[1], high[1]]))
    along = ends[1] - ends[0]
    dx, dy = x[columns][None] - ends[0, 0], y[rows][:, None] - ends[0, 1]
    share = np.clip((dx * along[0] + dy * along[1]) / (along @ along), 0.0, 1.0)
    near = np.zeros((len(y), len(x)), bool)
    near[rows, columns] = np.hypot(dx - share * along[0], dy - share * along[1]) <= within_m
    return near


def line_of_sight(
    grid: Occupancy,
    a: Float[ndarray, "B 2"],
    b: Float[ndarray, "B 2"],
    target: Int[ndarray, " B"] | int = OPEN,
) -> Bool[ndarray, " B"]:
    """Whether nothing at eye height stands between points `a` and `b` (world xy, metres).

    Args:
        target: per pair the object that `b` lies on; its own cells do not hide it. The cell of `b` itself never
            counts, so a picture on a wall can be seen from its side of the wall.
    """
    a, b = np.atleast_2d(np.asarray(a, np.float64)), np.atleast_2d(np.asarray(b, np.float64))
    if a.shape != b.shape or a.shape[1] != 2:
        raise InputError(f"line_of_sight() needs two arrays of one shape (B, 2), got {a.shape} and {b.shape}")
    targets = np.broadcast_to(np.asarray(target, np.int64), (len(a),))
    return _clear(grid.sight, (a - grid.origin) / grid.cell_m, (b - grid.origin) / grid.cell_m, targets)


@njit(cache=True, nogil=True)
def _clear(sight, a, b, targets):
    """Walks from a to b (in cells, x then y) in quarter-cell steps; True where no foreign cell blocks."""
    height, width = sight.shape
    clear = np.ones(a.shape[0], np.bool_)
    for k in range(a.shape[0]):
        dx, dy = b[k, 0] - a[k, 0], b[k, 1] - a[k, 1]
        last_row, last_column = int(np.floor(b[k, 1])), int(np.floor(b[k, 0]))
        steps = int(np.ceil(4 * np.hypot(dx, dy))) + 1
        for step in range(steps):
            row = int(np.floor(a[k, 1] + dy * step / steps))
            column = int(np.floor(a[k, 0] + dx * step / steps))
            if row < 0 or column < 0 or row >= height or column >= width:
                continue
            if row == last_row and column == last_column:
                break
            value = sight[row, column]
            if value != OPEN and value != targets[k]:
                clear[k] = False
                break
    return clear


def in_polygon(
    polygon: Float[ndarray, "K 2"], x: Float[ndarray, " W"], y: Float[ndarray, " H"]
) -> Bool[ndarray, "H W"]:
    """Cell middles inside a polygon, by counting edges crossed along +x (even-odd rule)."""
    odd = np.zeros((len(y), len(x)), bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0)):
        if y0 == y1:
            continue
        rows = (y0 > y) != (y1 > y)
        crossing = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
        odd ^= rows[:, None] & (x[None] < crossing[:, None])
    return odd


def _window(
    box: Float[ndarray, "7"], x: Float[ndarray, " W"], y: Float[ndarray, " H"], at_least_m: float = 0.0
) -> tuple[slice, slice, Bool[ndarray, "h w"]]:
    """Rows, columns and cover of the cells whose middles lie in a box's footprint; half sizes are `at_least_m`."""
    half = np.maximum(box[3:5] / 2, at_least_m)
    cos, sin = np.cos(box[6]), np.sin(box[6])
    reach_x, reach_y = abs(cos) * half[0] + abs(sin) * half[1], abs(sin) * half[0] + abs(cos) * half[1]
    columns = slice(*np.searchsorted(x, [box[0] - reach_x, box[0] + reach_x]))
    rows = slice(*np.searchsorted(y, [box[1] - reach_y, box[1] + reach_y]))
    dx, dy = x[columns][None] - box[0], y[rows][:, None] - box[1]
    cover = (np.abs(cos * dx + sin * dy) <= half[0]) & (np.abs(cos * dy - sin * dx) <= half[1])
    return rows, columns, cover


def _in_box(box: Float[ndarray, "7"], x: Float[ndarray, " W"], y: Float[ndarray, " H"]) -> Bool[ndarray, "H W"]:
    """Cell middles in a box's footprint."""
    grid = np.zeros((len(y), len(x)), bool)
    rows, columns, cover = _window(box, x, y)
    grid[rows, columns] = cover
    return grid


def _doorway(door: Door) -> Float[ndarray, "7"]:
    """A door's box, stretched across the wall it is in."""
    box = np.array(door.box, dtype=np.float64)
    box[3 + int(box[4] < box[3])] += 2 * DOOR_REACH_M
    return box


@dataclass(eq=False)
class _Shell:
    """What of a storey makes walls: rooms, the doors that let through, those that do not, and what never blocks."""

    rooms: list[Room]
    passages: list[Door]
    shut_doors: list[Door]
    without: list[int]  # ids of door objects whose faces do not count


@dataclass(eq=False)
class _Walls:
    """Cells of walls and door leaves: at any of the agent's heights, and at eye height."""

    body: Bool[ndarray, "H W"]
    sight: Bool[ndarray, "H W"]


def _wall_cells(
    scene: Scene,
    shell: _Shell,
    origin: Float[ndarray, "2"],
    cell_m: float,
    shape: tuple[int, int],
    floor_z: float,
    agent_m: float,
) -> _Walls:
    """Walls and door leaves, from the mesh where there is one, else from room outlines and doors."""
    body, sight = np.zeros(shape, bool), np.zeros(shape, bool)
    if scene.mesh is not None and len(scene.mesh.faces):
        vertices, faces = _structure(scene, shell.without)
        heights = floor_z + np.arange(STEP_M + SLICE_M / 2, agent_m, SLICE_M)
        for grid, planes in ((body, heights), (sight, np.array([floor_z + EYE_M + 1e-3]))):
            _mark_cuts(vertices, faces, planes, origin[0], origin[1], cell_m, grid)
        return _Walls(body, sight)
    for room in shell.rooms:
        for start, end in zip(room.polygon, np.roll(room.polygon, -1, axis=0)):
            _mark_line(start[0], start[1], end[0], end[1], origin[0], origin[1], cell_m, body)
    for door in shell.shut_doors:
        start, end = doorway_ends(door)
        _mark_line(start[0], start[1], end[0], end[1], origin[0], origin[1], cell_m, body)
    x, y = (origin[k] + (np.arange(shape[1 - k]) + 0.5) * cell_m for k in (0, 1))
    for door in shell.passages:
        body &= ~_in_box(_doorway(door), x, y)
    return _Walls(body, body.copy())


def _structure(scene: Scene, without: list[int]) -> tuple[Float[ndarray, "V 3"], Int[ndarray, "F 3"]]:
    """Vertices, and the faces of walls, floors, ceilings and doors less those of the objects `without`.

    Raises:
        InputError: faces name missing vertices, or the vertices they use are NaN or infinite.
    """
    mesh = scene.mesh
    assert mesh is not None
    kept = [item.id for item in scene.objects if item.label in DOOR_LABELS and item.id not in without]
    faces = np.ascontiguousarray(mesh.faces[np.isin(mesh.face_instance, [-1, *kept])], dtype=np.int32)
    vertices = np.ascontiguousarray(mesh.vertices, dtype=np.float32)
    if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise InputError(
            f"scene {scene.id}: mesh faces name vertices {faces.min()}..{faces.max()}, there are {len(vertices)}"
        )
    if not np.isfinite(vertices).all() and not np.isfinite(vertices[faces]).all():
        raise InputError(f"scene {scene.id}: vertices of its walls are NaN or infinite; mend the source")
    return vertices, faces


@njit(cache=True, nogil=True)
def _mark_cuts(vertices, faces, heights, origin_x, origin_y, cell_m, grid):
    """Marks the cells touched by the lines in which triangles meet horizontal planes.

    Cutting, rather than projecting whole triangles, keeps doorways open whose wall was triangulated across them.
    """
    ends = np.empty((2, 2))
    for f in range(faces.shape[0]):
        z0 = np.float64(vertices[faces[f, 0], 2])
        z1 = np.float64(vertices[faces[f, 1], 2])
        z2 = np.float64(vertices[faces[f, 2], 2])
        lowest, highest = min(z0, z1, z2), max(z0, z1, z2)
        for z in heights:
            if not lowest <= z < highest:  # a corner counts as above only beyond the plane
                continue
            above = (z0 > z, z1 > z, z2 > z)
            count = int(above[0]) + int(above[1]) + int(above[2])
            lone = 0  # the corner alone on its side
            for k in range(3):
                if above[k] == (count == 1):
                    lone = k
                    break
            a = faces[f, lone]
            apex_x, apex_y, apex_z = np.float64(vertices[a, 0]), np.float64(vertices[a, 1]), np.float64(vertices[a, 2])
            for turn in range(2):
                b = faces[f, (lone + 1 + turn) % 3]
                share = (z - apex_z) / (np.float64(vertices[b, 2]) - apex_z)
                ends[turn, 0] = apex_x + share * (np.float64(vertices[b, 0]) - apex_x)
                ends[turn, 1] = apex_y + share * (np.float64(vertices[b, 1]) - apex_y)
            _mark_line(ends[0, 0], ends[0, 1], ends[1, 0], ends[1, 1], origin_x, origin_y, cell_m, grid)


@njit(cache=True, nogil=True)
def _mark_line(start_x, start_y, end_x, end_y, origin_x, origin_y, cell_m, grid):
    """Marks the cells touched by a line, sampled every half cell."""
    dx, dy = end_x - start_x, end_y - start_y
    count = int(np.ceil(np.sqrt(dx * dx + dy * dy) / (0.5 * cell_m))) + 1
    for k in range(count):
        share = k / max(count - 1, 1)
        column = int(np.floor((start_x + share * dx - origin_x) / cell_m))
        row = int(np.floor((start_y + share * dy - origin_y) / cell_m))
        if 0 <= row < grid.shape[0] and 0 <= column < grid.shape[1]:
            grid[row, column] = True
