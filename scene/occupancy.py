"""Where an agent can stand in a home, and what it can see past: a grid over the floor made from walls and boxes.

Rows of every grid run along +y, columns along +x; `origin` is the corner of cell (0, 0). One storey: heights count from
the lowest room's floor.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int16
from numba import njit
from numpy import ndarray
from scipy import ndimage

from core.errors import InputError
from scene.types import Door, Scene

OPEN, WALL = -1, -2  # values of Occupancy.sight beside object ids
EYE_M = 1.2  # what is taller hides what is behind it
STEP_M = 0.05  # lower things are walked over: rugs, thresholds
SLICE_M = 0.2  # spacing of the horizontal cuts that find walls in a mesh
MARGIN_M = 0.2  # grid beyond the rooms' bounding rectangle
DOOR_REACH_M = 0.15  # a doorway reaches this far to both sides of its box, across the thickness of the wall
DOOR_LABELS = ("door", "doorway")


@dataclass(eq=False)
class Occupancy:
    """The floor of one home in square cells."""

    origin: Float[ndarray, "2"]  # world xy of the outer corner of cell (0, 0)
    cell_m: float
    free: Bool[ndarray, "H W"]  # an agent's centre may be here; one connected region
    obstacle: Bool[ndarray, "H W"]  # walls and furniture themselves, not inflated
    sight: Int16[ndarray, "H W"]  # OPEN, WALL, or the id of the object taller than the eye that stands here
    inside: Bool[ndarray, "H W"]  # floor of a room or of an open doorway

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
    scene: Scene, cell_m: float = 0.05, agent_radius_m: float = 0.2, agent_height_m: float = 1.5
) -> Occupancy:
    """The occupancy grid of a home for a round agent.

    Furniture blocks with the footprint of its box wherever the box crosses the agent's height; things flatter than
    5 cm on the floor and things above the agent do not. Walls and door leaves are cut out of the mesh's structure
    faces (without a mesh: room outlines minus open doors, plus closed doors). Cells are free when inside a room or an
    open doorway, at least the agent's radius away from anything else, and in the largest connected region.

    Args:
        cell_m: side of a cell.
        agent_radius_m: free cells keep this distance to obstacles (to the middles of their cells).
        agent_height_m: what hangs higher does not block.

    Raises:
        InputError: the scene has no rooms, or no cell is free (the rooms are too small or too full for this agent).
    """
    if not scene.rooms:
        raise InputError(f"scene {scene.id} has no rooms; an occupancy grid needs room outlines to know the floor")
    if cell_m <= 0 or agent_radius_m < 0 or agent_height_m <= STEP_M:
        raise InputError(
            f"occupancy needs cell_m > 0, agent_radius_m >= 0 and agent_height_m > {STEP_M}, got {cell_m}, "
            f"{agent_radius_m} and {agent_height_m} metres"
        )
    corners = np.concatenate([room.polygon for room in scene.rooms])
    origin = corners.min(axis=0) - MARGIN_M
    width, height = (int(n) for n in np.ceil((corners.max(axis=0) + MARGIN_M - origin) / cell_m))
    x = origin[0] + (np.arange(width) + 0.5) * cell_m
    y = origin[1] + (np.arange(height) + 0.5) * cell_m
    floor_z = min(room.floor_z for room in scene.rooms)

    inside = np.zeros((height, width), bool)
    for room in scene.rooms:
        inside |= _in_polygon(room.polygon, x, y)
    for door in scene.doors:
        if door.open:
            inside |= _in_box(_doorway(door), x, y)

    low = _wall_cells(scene, origin, cell_m, (height, width), floor_z, agent_height_m)
    sight = np.where(low.sight, np.int16(WALL), np.int16(OPEN))
    obstacle = low.body
    for item in scene.objects:
        bottom, top = item.box[2] - item.box[5] / 2 - floor_z, item.box[2] + item.box[5] / 2 - floor_z
        if item.label in DOOR_LABELS or top <= STEP_M or bottom >= agent_height_m:
            continue  # doors are among the wall cells: an open leaf stands where its faces are, not in its doorway
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
    return Occupancy(origin, cell_m, regions == largest, obstacle, sight, inside)


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


def _in_polygon(
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
class _Walls:
    """Cells of walls and door leaves: at any of the agent's heights, and at eye height."""

    body: Bool[ndarray, "H W"]
    sight: Bool[ndarray, "H W"]


def _wall_cells(
    scene: Scene, origin: Float[ndarray, "2"], cell_m: float, shape: tuple[int, int], floor_z: float, agent_m: float
) -> _Walls:
    """Walls and door leaves, from the mesh where there is one, else from room outlines and doors."""
    mesh = scene.mesh if scene.mesh is not None and len(scene.mesh.faces) else None
    if mesh is not None:
        door_ids = [item.id for item in scene.objects if item.label in DOOR_LABELS]
        chosen = np.isin(mesh.face_instance, [-1, *door_ids])
        triangles = mesh.vertices[mesh.faces[chosen]].astype(np.float64)
        heights = floor_z + np.arange(STEP_M + SLICE_M / 2, agent_m, SLICE_M)
        starts, ends = _cuts(triangles, heights)
        eye_starts, eye_ends = _cuts(triangles, np.array([floor_z + EYE_M + 1e-3]))
    else:
        segments = [(room.polygon, np.roll(room.polygon, -1, axis=0)) for room in scene.rooms]
        for door in scene.doors:
            if not door.open:
                along = int(door.box[3:5].argmax())
                yaw = door.box[6] + along * np.pi / 2
                half = np.array([np.cos(yaw), np.sin(yaw)]) * door.box[3 + along] / 2
                segments.append((door.box[None, :2] - half, door.box[None, :2] + half))
        starts, ends = (np.concatenate(side) for side in zip(*segments))
        eye_starts, eye_ends = starts, ends
    body = _segment_cells(starts, ends, origin, cell_m, shape)
    sight = _segment_cells(eye_starts, eye_ends, origin, cell_m, shape)
    if mesh is None:
        x, y = (origin[k] + (np.arange(shape[1 - k]) + 0.5) * cell_m for k in (0, 1))
        for door in scene.doors:
            if door.open:
                body &= ~_in_box(_doorway(door), x, y)
                sight &= ~_in_box(_doorway(door), x, y)
    return _Walls(body, sight)


def _cuts(
    triangles: Float[ndarray, "F 3 3"], heights: Float[ndarray, " Z"]
) -> tuple[Float[ndarray, "S 2"], Float[ndarray, "S 2"]]:
    """The segments in which triangles meet horizontal planes, as start and end xy.

    Cutting, rather than projecting whole triangles, keeps doorways open whose wall was triangulated across them.
    """
    above = triangles[None, :, :, 2] > heights[:, None, None]  # (Z, F, 3)
    plane, face = np.nonzero(above.any(axis=2) != above.all(axis=2))
    side = above[plane, face]
    lone = np.where(side.sum(axis=1) == 1, side.argmax(axis=1), (~side).argmax(axis=1))  # the corner alone on its side
    corners, rows = triangles[face], np.arange(len(face))
    apex, z = corners[rows, lone], heights[plane]
    ends = []
    for turn in (1, 2):
        other = corners[rows, (lone + turn) % 3]
        share = (z - apex[:, 2]) / (other[:, 2] - apex[:, 2])
        ends.append(apex[:, :2] + share[:, None] * (other[:, :2] - apex[:, :2]))
    return ends[0], ends[1]


def _segment_cells(
    starts: Float[ndarray, "S 2"],
    ends: Float[ndarray, "S 2"],
    origin: Float[ndarray, "2"],
    cell_m: float,
    shape: tuple[int, int],
) -> Bool[ndarray, "H W"]:
    """Cells touched by segments, sampled every half cell."""
    grid = np.zeros(shape, bool)
    if len(starts) == 0:
        return grid
    counts = np.ceil(np.linalg.norm(ends - starts, axis=1) / (0.5 * cell_m)).astype(int) + 1
    owner = np.repeat(np.arange(len(starts)), counts)
    share = (np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)) / np.maximum(counts[owner] - 1, 1)
    points = starts[owner] + share[:, None] * (ends - starts)[owner]
    cells = np.floor((points - origin) / cell_m).astype(int)
    cells = cells[((cells >= 0) & (cells < shape[::-1])).all(axis=1)]
    grid[cells[:, 1], cells[:, 0]] = True
    return grid
