"""What hands can do in a home: pick a thing up, put it down on a surface, open and shut a door.

Pure functions of where the agent stands and of what has been moved (envs/state.py, World); they change nothing.

    pick(home, position, yaw, *, doors, pose, support, held)          -> slot, -1 = nothing
    place(home, position, yaw, *, doors, pose, support, held)         -> (object id, pose (4,)) or None
    toggle_door(home, position, yaw, *, doors)                        -> bit of the door, -1 = none
    reach_region(home, objects, boxes=None)                           -> cells from which pick() gets one of `objects`
    reach_region(home, surfaces, place=ID)                            -> cells from which place() puts ID on one of them
    bearing(position, box)                                            -> yaw at which to face it

`home` has a `scene` and its interactive `grid` (scene/occupancy.py). Slots are those of scene/moving.py: the scene's
objects with "pickup", in order. `doors` is the mask of open doors (bit k: scene/storeys.py openable_doors), `pose`
(K, 4) xyz of the bottom centre and yaw, `support` (K,) the id of the object a thing was put on, AT_REST (-2) where the
scene has it, IN_HAND (-1) for the one that is carried; `held` its slot or -1. Rows beyond the home's own things are not
looked at.

Rules, all of them deterministic:

- Within reach is what lies at most 1 m from the agent's middle to its footprint, within 45 degrees of the heading (its
  nearest point or its middle), with its bottom between the floor and 1.6 m above it, in sight, and behind no shut door.
  Sight is judged from the middle of the agent's cell: from anywhere in it, hands reach the same things. What carries a
  thing does not hide it.
- Of several things within reach those within 15 degrees of the heading come first, the nearest of them; then the
  nearest of the others.
- A hand holds one thing. It takes the first one within reach that carries no other and is not inside something that
  would have to be opened.
- A thing is put on the first surface within reach that has room for it, never on the floor. A surface has the
  affordance of that name, cannot be carried itself, and has a flat top at most 1.6 m high. The thing goes to the spot
  nearest to the agent, at most 1.2 m away, on a grid of 5 cm, aligned with the surface or a quarter turn from it, fully
  on the surface and 1 cm from other things at that height.
- The nearest door within 1.2 m and 60 degrees of the heading, seen as far as its middle, is opened, or shut unless the
  leaf would meet the agent.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64
from numpy import ndarray

from core.conventions import wrap_angle
from core.errors import InputError
from envs.layout import (
    AT_REST,
    HomeLike,
    Layout,
    at_height,
    bearings,
    in_front,
    layout_of,
    nearest_points,
    spots_at_rest,
    spots_on,
    takeable,
    to_nearest,
)
from scene.occupancy import Occupancy, line_of_sight

REACH_M = 1.0  # from the agent's middle to a footprint
REACH_RAD = np.pi / 4  # to both sides of the heading
ARM_M = 1.2  # from the agent's middle to the spot where a thing is put
DOOR_M, DOOR_RAD = 1.2, np.pi / 3
FACING_RAD = np.pi / 12  # what is faced comes first; an agent that turns by 30 degrees can face things this closely


def pick(
    home: HomeLike,
    position: Float[ndarray, "2"],
    yaw: float,
    *,
    doors: int,
    pose: Float[ndarray, "K 4"],
    support: Int[ndarray, " K"],
    held: int = -1,
) -> int:
    """The slot of the thing a hand would take, -1 = there is none or the hand is full (rules at the top)."""
    layout = layout_of(home)
    at = _checked(layout, pose, support)
    if held >= 0 or not (np.hypot(at[:, 0] - position[0], at[:, 1] - position[1]) <= REACH_M + layout.half_m).any():
        return -1
    boxes, base = _now(layout, at, support)
    able = takeable(layout, home.grid.floor_z, boxes, support[: len(boxes)])
    rank = _ranks(home, position, yaw, boxes, base, able, doors)
    slot = int(rank.argmin())
    return slot if rank[slot] < np.inf else -1


def place(
    home: HomeLike,
    position: Float[ndarray, "2"],
    yaw: float,
    *,
    doors: int,
    pose: Float[ndarray, "K 4"],
    support: Int[ndarray, " K"],
    held: int,
) -> tuple[int, Float64[ndarray, "4"]] | None:
    """Where the held thing would go: the id of the surface, and its pose there; None = no room within reach."""
    layout = layout_of(home)
    if held < 0 or len(layout.surfaces) == 0:
        return None
    able = at_height(layout.surface_boxes, home.grid.floor_z)
    rank = _ranks(home, position, yaw, layout.surface_boxes, layout.surfaces, able, doors)
    if rank.min() == np.inf:
        return None
    boxes, _ = _now(layout, _checked(layout, pose, support), support)
    others = np.delete(boxes, held, axis=0)
    for row in np.argsort(rank, kind="stable"):
        if rank[row] == np.inf:
            return None
        spots = spots_on(layout, int(row), layout.size[held], others)
        away = np.hypot(spots[:, 0] - position[0], spots[:, 1] - position[1])
        near = np.flatnonzero(away <= ARM_M)
        if len(near):
            return int(layout.surfaces[row]), spots[near[away[near].argmin()]]
    return None


def toggle_door(home: HomeLike, position: Float[ndarray, "2"], yaw: float, *, doors: int) -> int:
    """The bit of the door a hand would open or shut; -1 = none within reach, or its leaf would meet the agent."""
    layout = layout_of(home)
    if len(layout.doorways) == 0 or home.grid.shut is None:
        return -1
    start, along = layout.doorways[:, 0], layout.doorways[:, 1] - layout.doorways[:, 0]
    share = np.clip(((position - start) * along).sum(axis=1) / (along**2).sum(axis=1), 0.0, 1.0)
    nearest, middle = start + share[:, None] * along, start + 0.5 * along
    distance = np.hypot(*(nearest - position).T)
    near = layout.doors_here & (distance <= DOOR_M)
    if not near.any():
        return -1
    able = near & in_front(position, yaw, DOOR_RAD, nearest, middle)
    row, column = home.grid.cells(np.asarray(position))
    eye = home.grid.centers(np.array([row, column]))
    rows = np.flatnonzero(able)
    able[rows] = line_of_sight(home.grid, np.tile(eye, (len(rows), 1)), middle[rows])
    if not able.any():
        return -1
    bit = int(np.where(able, distance, np.inf).argmin())
    is_open = bool(doors >> bit & 1)
    return -1 if is_open and int(home.grid.shut[row, column]) >> bit & 1 else bit


def bearing(position: Float[ndarray, "2"], box: Float[ndarray, "7"]) -> float:
    """The yaw at which an agent faces the nearest point of a box's footprint; its middle when standing in it."""
    nearest, distance = nearest_points(np.asarray(position, np.float64)[None], np.asarray(box, np.float64)[None])
    target = nearest[0] if distance[0] > 1e-6 else box[:2]
    return float(np.arctan2(target[1] - position[1], target[0] - position[0]))


def reach_region(
    home: HomeLike,
    objects: Sequence[int],
    boxes: Float[ndarray, "N 7"] | None = None,
    *,
    place: int | None = None,
) -> Bool[ndarray, "H W"]:
    """Free cells from which one action gets an object, or puts one down on it, with everything else at rest.

    An agent anywhere in such a cell that faces the object within 15 degrees succeeds with `pick` (or `place`), doors
    standing open: cells are left out where something else would be taken first from any point of them. Where no cell is
    left, nothing is promised of any: the object may be taken from some places, but is no goal.

    Args:
        objects: ids of things to pick up; with `place`, of surfaces to put it on. Any of them will do.
        boxes: where the things to pick up are, if not where the scene has them. The way to what has been moved is
            shown wherever it lies: if it is safe from no cell, those are given from whose middle it is taken.
        place: the id of the thing to put down.

    Raises:
        InputError: `place` cannot be carried, or boxes do not fit the objects.
    """
    layout, grid = layout_of(home), home.grid
    if boxes is not None and (place is not None or np.shape(boxes) != (len(objects), 7)):
        raise InputError(
            f"reach_region(): boxes of shape {np.shape(boxes)} for {len(objects)} objects to pick up, expected (N, 7)"
        )
    wanted = np.asarray(objects, np.int64)
    if place is None:
        things, base, ids = layout.boxes.copy(), layout.base.copy(), layout.movable
        able = takeable(layout, grid.floor_z, things, np.full(len(ids), AT_REST))
        if boxes is not None:
            for index, box in zip(wanted, boxes):
                if (slot := layout.slot(int(index))) >= 0:
                    moved = not np.allclose(things[slot], box)
                    things[slot], able[slot] = box, able[slot] or (moved and not layout.carries(slot))
                    base[slot] = layout.under(box) if moved else base[slot]
            able &= at_height(things, grid.floor_z, whole=False)
        spots = None
    else:
        held = layout.slot(place)
        if held < 0:
            raise InputError(f"object {place} of scene {home.scene.id} cannot be carried; nothing to put down")
        things, base, ids = layout.surface_boxes, layout.surfaces, layout.surfaces
        able = at_height(things, grid.floor_z)
        spots = partial(spots_at_rest, layout, held)

    half = 0.5 * np.hypot(things[:, 3], things[:, 4])
    region = np.zeros(grid.free.shape, bool)
    corner = math.sqrt(0.5) * grid.cell_m + 1e-6  # from a cell's middle
    for slack in (corner, 0.0) if boxes is not None else (corner,):
        for row in np.flatnonzero(able & np.isin(ids, wanted)).tolist():
            rivals = np.flatnonzero(able & ~np.isin(ids, wanted))
            apart = np.hypot(*(things[rivals, :2] - things[row, :2]).T) - half[rivals] - half[row]
            cells = _cells_for(home, things, base, row, rivals[apart < 2 * REACH_M], spots, slack)
            region[cells[:, 0], cells[:, 1]] = True
        if region.any():
            break
    return region


def _cells_for(
    home: HomeLike,
    things: Float64[ndarray, "N 7"],
    base: Int64[ndarray, " N"],
    row: int,
    rivals: Int64[ndarray, " R"],
    spots: Callable[[int], Float64[ndarray, "M 4"]] | None,
    slack: float,
) -> Int64[ndarray, "C 2"]:
    """Cells where a thing is reached and no rival may be nearer, wherever an agent stands within `slack` of the middle.

    Moving by `slack` from a cell's middle turns the direction to a footprint's nearest point by at most
    asin(slack / distance), and changes the difference of two distances by at most slack times the length of the
    difference of both directions: 2 sin(angle / 2).
    """
    grid = home.grid
    box = things[row]
    reach = REACH_M + 0.5 * float(np.hypot(box[3], box[4]))
    low, high = grid.cells(box[:2] - reach), grid.cells(box[:2] + reach) + 1
    cells = np.argwhere(grid.free[low[0] : high[0], low[1] : high[1]]) + low
    xy = grid.centers(cells)

    def reached(k: int, xy: Float64[ndarray, "C 2"], within_m: float) -> Bool[ndarray, " C"]:
        """Whether thing k is in reach and in sight, with a free spot in reach of the arm."""
        nearest, distance = nearest_points(xy, things[k][None])
        ok = distance <= REACH_M - within_m
        near = np.flatnonzero(ok)
        near = near[_seen(grid, xy[near], nearest[near], things[k, :2], base[k])]
        if spots is not None and len(near):
            near = near[to_nearest(xy[near], spots(k), ARM_M - within_m) <= ARM_M - within_m]
        ok[:] = False
        ok[near] = True
        return ok

    own = reached(row, xy, slack)
    cells, xy = cells[own], xy[own]
    nearest, distance = nearest_points(xy, box[None])
    facing, unsteady = bearings(xy, box), _turn(slack, distance)
    sure = np.ones(len(cells), bool)
    for rival in rivals:
        near = np.flatnonzero(sure)
        point, away = nearest_points(xy[near], things[rival][None])
        near, point, away = (part[away < distance[near] + 2 * slack] for part in (near, point, away))
        middle = np.broadcast_to(things[rival, :2], point.shape)
        faced = np.zeros(len(near), bool)
        for target in (point, middle):
            offset = target - xy[near]
            angle = np.abs(wrap_angle(np.arctan2(offset[:, 1], offset[:, 0]) - facing[near]))
            faced |= angle <= 2 * FACING_RAD + unsteady[near] + _turn(slack, np.hypot(*offset.T))
        to_own, to_rival = nearest[near] - xy[near], point - xy[near]
        between = np.abs(wrap_angle(np.arctan2(*to_own.T[::-1]) - np.arctan2(*to_rival.T[::-1])))
        between = np.minimum(between + unsteady[near] + _turn(slack, away), np.pi)
        faced &= away <= distance[near] + slack * 2 * np.sin(0.5 * between)
        near = near[faced]
        sure[near[reached(int(rival), xy[near], -slack)]] = False
    return cells[sure]


def _turn(by_m: float, distance: Float64[ndarray, " N"]) -> Float64[ndarray, " N"]:
    """How far the direction to something turns when one moves by so much."""
    return np.where(distance > by_m, np.arcsin(by_m / np.maximum(distance, by_m)), np.pi)


def _seen(
    grid: Occupancy,
    xy: Float64[ndarray, "C 2"],
    nearest: Float64[ndarray, "C 2"],
    middle: Float64[ndarray, "2"],
    base: int,
) -> Bool[ndarray, " C"]:
    """Whether the nearest point of a footprint or its middle is in sight from each place."""
    seen = line_of_sight(grid, xy, nearest, base)
    hidden = np.flatnonzero(~seen)
    seen[hidden] = line_of_sight(grid, xy[hidden], np.broadcast_to(middle, (len(hidden), 2)), base)
    return seen


def _ranks(
    home: HomeLike,
    position: Float[ndarray, "2"],
    yaw: float,
    boxes: Float64[ndarray, "N 7"],
    base: Int64[ndarray, " N"],
    able: Bool[ndarray, " N"],
    doors: int,
) -> Float64[ndarray, " N"]:
    """The order in which hands choose: metres, more for what is aside, inf for what is out of reach."""
    grid = home.grid
    here = np.broadcast_to(np.asarray(position, np.float64), (len(boxes), 2))
    close = np.hypot(*(boxes[:, :2] - here).T) <= REACH_M + 0.5 * np.hypot(boxes[:, 3], boxes[:, 4])
    if not (able & close).any():
        return np.full(len(boxes), np.inf)
    nearest, distance = nearest_points(here, boxes)
    ok = able & (distance <= REACH_M) & in_front(here, yaw, REACH_RAD, nearest, boxes[:, :2])
    rows = np.flatnonzero(ok)
    if len(rows):
        eye = np.broadcast_to(grid.centers(grid.cells(here[0])), (len(rows), 2))
        seen = np.zeros(len(rows), bool)
        for target in (nearest_points(eye, boxes[rows])[0], boxes[rows, :2]):
            seen |= line_of_sight(grid, eye, target, base[rows]) & ~_door_between(layout_of(home), doors, eye, target)
        ok[rows] = seen
    aside = ~in_front(here, yaw, FACING_RAD, nearest, boxes[:, :2])
    return np.where(ok, distance + 2 * REACH_M * aside, np.inf)


def _door_between(
    layout: Layout, doors: int, a: Float64[ndarray, "N 2"], b: Float64[ndarray, "N 2"]
) -> Bool[ndarray, " N"]:
    """Whether the line from a to b crosses the leaf of a shut door."""
    crossed = np.zeros(len(a), bool)
    for bit, (start, end) in enumerate(layout.doorways):
        if not doors >> bit & 1:
            across, line = end - start, b - a
            side_a = across[0] * (a[:, 1] - start[1]) - across[1] * (a[:, 0] - start[0])
            side_b = across[0] * (b[:, 1] - start[1]) - across[1] * (b[:, 0] - start[0])
            end_0 = line[:, 0] * (start[1] - a[:, 1]) - line[:, 1] * (start[0] - a[:, 0])
            end_1 = line[:, 0] * (end[1] - a[:, 1]) - line[:, 1] * (end[0] - a[:, 0])
            crossed |= (side_a * side_b < 0) & (end_0 * end_1 <= 0)
    return crossed


def _checked(layout: Layout, pose: Float[ndarray, "K 4"], support: Int[ndarray, " K"]) -> Float64[ndarray, "K 4"]:
    """The poses of the home's own things.

    Raises:
        InputError: there are fewer rows than things.
    """
    count = len(layout.movable)
    at = np.asarray(pose[:count], dtype=np.float64)
    if len(at) < count or len(support) < count:
        raise InputError(
            f"pose and support have {len(at)} and {len(support)} rows, the home has {count} movable things"
        )
    return at


def _now(
    layout: Layout, at: Float64[ndarray, "K 4"], support: Int[ndarray, " K"]
) -> tuple[Float64[ndarray, "K 7"], Int64[ndarray, " K"]]:
    """Boxes of all movable things where they are, and the fixed object under each."""
    size = layout.size
    boxes = np.column_stack([at[:, :2], at[:, 2] + 0.5 * size[:, 2], size, at[:, 3]])
    return boxes, np.where(support[: len(at)] >= 0, support[: len(at)], layout.base)
