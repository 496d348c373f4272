"""What a home offers to hands: things that can be carried, surfaces to put them on, doorways; and where they are.

`Layout` is derived once from a scene, everything at rest. The functions below are the geometry of footprints and of
free spots on a surface that envs/interaction.py makes its rules of.
"""

from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64
from numpy import ndarray
from scipy.spatial import KDTree

from core.conventions import wrap_angle
from scene.moving import movable_objects
from scene.occupancy import Occupancy
from scene.relations import Relation
from scene.storeys import DOOR_LABELS, door_foot, doorway_ends, openable_doors, storey_of, storeys
from scene.support import find_support, room_of_objects
from scene.types import Scene

HIGHEST_M = 1.6  # above the floor, for hands
SPOT_M = 0.05  # spacing of the spots tried on a surface
GAP_M = 0.01  # left free around a thing that is put down
FLAT_SHARE = 0.9  # of a box's top that is surface, for things to be put there
FLAT_M = 0.01  # a face this close under the top of the box is part of the top
SPOTS_KEPT = 20_000  # of a home, at rest: 640 kB
AT_REST, IN_HAND = -2, -1  # values of World.support beside object ids


class HomeLike(Protocol):
    """What the functions here need of a home (envs/pool.py Home)."""

    @property
    def scene(self) -> Scene: ...

    @property
    def grid(self) -> Occupancy: ...


@dataclass(eq=False)
class Layout:
    """What a home offers to hands, all at rest: derived once from the scene."""

    movable: Int64[ndarray, " K"]  # object ids by slot
    size: Float64[ndarray, "K 3"]
    half_m: Float64[ndarray, " K"]  # half diagonals of their footprints
    boxes: Float64[ndarray, "K 7"]  # where the scene has them
    carrier: Int64[ndarray, " K"]  # id of the object each rests on or in, -1 = none
    base: Int64[ndarray, " K"]  # the first of its carriers that cannot be carried itself, -1 = none
    enclosed: Bool[ndarray, " K"]  # inside something that opens
    surfaces: Int64[ndarray, " S"]  # ids of the objects things can be put on
    surface_boxes: Float64[ndarray, "S 7"]
    fixed: Int64[ndarray, " M"]  # ids of what cannot be moved, doors left out
    fixed_boxes: Float64[ndarray, "M 7"]
    doorways: Float64[ndarray, "D 2 2"]  # ends of the leaves, by bit
    doors_here: Bool[ndarray, " D"]  # whether they are on this storey
    spots: dict[tuple[float, ...], Float64[ndarray, "M 4"]] = field(default_factory=dict)  # of spots_at_rest
    spots_kept: int = 0  # their number

    @classmethod
    def of(cls, scene: Scene, floor_z: float) -> "Layout":
        """The layout for an agent on the storey with this floor."""
        movable = np.array(movable_objects(scene), np.int64)
        slot_of = {int(index): slot for slot, index in enumerate(movable)}
        carrier, base = np.full(len(movable), -1, np.int64), np.full(len(movable), -1, np.int64)
        enclosed = np.zeros(len(movable), bool)
        if len(movable):
            found = find_support(scene, room_of_objects(scene))
            for slot, index in enumerate(movable):
                at = carrier[slot] = max(int(found.parent[index]), -1)
                inside = found.contact[index] == Relation.INSIDE
                enclosed[slot] = at >= 0 and inside and "open" in scene.objects[at].affordances
                for _ in range(len(movable)):
                    if at not in slot_of:
                        break
                    at = max(int(found.parent[at]), -1)
                base[slot] = at
        fixed = [item.id for item in scene.objects if item.id not in slot_of and item.label not in DOOR_LABELS]
        surfaces = [k for k in fixed if "surface" in scene.objects[k].affordances and _flat_on_top(scene, k)]
        boxes = scene.boxes
        doors, floors = openable_doors(scene), storeys(scene)
        here = [storey_of(door_foot(scene, k), floors) == storey_of(floor_z, floors) for k in doors]
        return cls(
            movable=movable,
            size=boxes[movable, 3:6],
            half_m=0.5 * np.hypot(boxes[movable, 3], boxes[movable, 4]),
            boxes=boxes[movable],
            carrier=carrier,
            base=base,
            enclosed=enclosed,
            surfaces=np.array(surfaces, np.int64),
            surface_boxes=boxes[np.array(surfaces, np.int64)],
            fixed=np.array(fixed, np.int64),
            fixed_boxes=boxes[np.array(fixed, np.int64)],
            doorways=np.array([doorway_ends(scene.doors[k]) for k in doors]).reshape(-1, 2, 2),
            doors_here=np.array(here, bool),
        )

    def slot(self, index: int) -> int:
        """The slot of an object, -1 = it cannot be carried."""
        found = np.flatnonzero(self.movable == index)
        return int(found[0]) if len(found) else -1

    def carries(self, slot: int) -> bool:
        """Whether a thing has another one on it where the scene has them."""
        return bool((self.carrier == self.movable[slot]).any())

    def under(self, box: Float[ndarray, "7"]) -> int:
        """The surface whose top a box stands on, -1 = none."""
        for index, surface in zip(self.surfaces, self.surface_boxes):
            _, distance = nearest_points(np.asarray(box[None, :2], np.float64), surface[None])
            if distance[0] == 0 and abs(surface[2] + 0.5 * surface[5] - (box[2] - 0.5 * box[5])) < FLAT_M:
                return int(index)
        return -1


_layouts: "WeakKeyDictionary[Occupancy, Layout]" = WeakKeyDictionary()  # a grid lives as long as its home


def layout_of(home: HomeLike) -> Layout:
    """The layout of a home, made when it is first needed (a few milliseconds) and kept as long as its grid."""
    layout = _layouts.get(home.grid)
    if layout is None:
        layout = _layouts[home.grid] = Layout.of(home.scene, home.grid.floor_z)
    return layout


def _flat_on_top(scene: Scene, index: int) -> bool:
    """Whether the top of an object's box is its surface. Without faces to look at, it is taken to be."""
    mesh, box = scene.mesh, scene.objects[index].box
    if mesh is None:
        return True
    corners = mesh.vertices[mesh.faces[mesh.face_instance == index]].astype(np.float64)
    if len(corners) == 0:
        return True
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    high = corners[..., 2].min(axis=1) > box[2] + 0.5 * box[5] - FLAT_M
    upward = normals[:, 2] > 0.9 * np.linalg.norm(normals, axis=1)
    return float(0.5 * normals[high & upward, 2].sum()) >= FLAT_SHARE * box[3] * box[4]


def takeable(
    layout: Layout, floor_z: float, boxes: Float64[ndarray, "K 7"], support: Int[ndarray, " K"]
) -> Bool[ndarray, " K"]:
    """Things at a height for hands that carry nothing, are not inside what opens, and are in no hand."""
    resting = support == AT_REST
    carrying = np.isin(layout.movable, layout.carrier[resting])
    enclosed = layout.enclosed & resting
    return at_height(boxes, floor_z, whole=False) & ~carrying & ~enclosed & (support != IN_HAND)


def at_height(boxes: Float64[ndarray, "N 7"], floor_z: float, whole: bool = True) -> Bool[ndarray, " N"]:
    """Boxes whose top (`whole`) or bottom hands reach from this floor."""
    bottom, top = boxes[:, 2] - 0.5 * boxes[:, 5] - floor_z, boxes[:, 2] + 0.5 * boxes[:, 5] - floor_z
    level = top if whole else bottom
    return (level >= -0.05) & (level <= HIGHEST_M) & (top > 0.0)


def nearest_points(
    xy: Float64[ndarray, "N 2"], boxes: Float[ndarray, "N 7"]
) -> tuple[Float64[ndarray, "N 2"], Float64[ndarray, " N"]]:
    """The point of each box's footprint nearest to its own xy, and how far it is."""
    cos, sin = np.cos(boxes[:, 6]), np.sin(boxes[:, 6])
    dx, dy = xy[:, 0] - boxes[:, 0], xy[:, 1] - boxes[:, 1]
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    near_u, near_v = (np.clip(part, -0.5 * side, 0.5 * side) for part, side in ((u, boxes[:, 3]), (v, boxes[:, 4])))
    point = np.stack([boxes[:, 0] + cos * near_u - sin * near_v, boxes[:, 1] + sin * near_u + cos * near_v], axis=1)
    return point, np.hypot(u - near_u, v - near_v)


def in_front(
    xy: Float[ndarray, "*s 2"],
    yaw: float | Float[ndarray, " N"],
    within_rad: float,
    *targets: Float[ndarray, "N 2"],
) -> Bool[ndarray, " N"]:
    """Whether one of a target's points lies within an angle of the heading, or where the agent stands."""
    front = np.zeros(len(targets[0]), bool)
    for target in targets:
        dx, dy = target[:, 0] - xy[..., 0], target[:, 1] - xy[..., 1]
        front |= np.abs(wrap_angle(np.arctan2(dy, dx) - yaw)) <= within_rad + 1e-9
        front |= np.hypot(dx, dy) < 1e-6
    return front


def bearings(xy: Float64[ndarray, "N 2"], box: Float64[ndarray, "7"]) -> Float64[ndarray, " N"]:
    """`bearing` of many positions."""
    nearest, distance = nearest_points(xy, np.broadcast_to(box, (len(xy), 7)))
    target = np.where((distance > 1e-6)[:, None], nearest, box[:2])
    return np.arctan2(target[:, 1] - xy[:, 1], target[:, 0] - xy[:, 0])


def spots_on(
    layout: Layout, row: int, size: Float64[ndarray, "3"], others: Float64[ndarray, "N 7"]
) -> Float64[ndarray, "M 4"]:
    """Poses on a surface where a thing of this size lies fully on it and meets nothing, in a fixed order.

    Args:
        others: boxes of the other movable things.
    """
    box = layout.surface_boxes[row]
    top = box[2] + 0.5 * box[5]
    boxes = np.concatenate([others, layout.fixed_boxes[layout.fixed != layout.surfaces[row]]])
    bottoms, tops = boxes[:, 2] - 0.5 * boxes[:, 5], boxes[:, 2] + 0.5 * boxes[:, 5]
    gap = np.hypot(boxes[:, 0] - box[0], boxes[:, 1] - box[1]) - 0.5 * np.hypot(boxes[:, 3], boxes[:, 4])
    near = (tops > top + 1e-4) & (bottoms < top + size[2]) & (gap < 0.5 * np.hypot(box[3], box[4]) + GAP_M)
    boxes = boxes[near]
    cos, sin = np.cos(box[6]), np.sin(box[6])  # everything below is in the surface's own frame
    x, y = boxes[:, 0] - box[0], boxes[:, 1] - box[1]
    x, y = cos * x + sin * y, cos * y - sin * x
    turn_cos, turn_sin = np.cos(boxes[:, 6] - box[6]), np.sin(boxes[:, 6] - box[6])
    half = 0.5 * boxes[:, 3:5] + GAP_M
    reach_x = np.abs(turn_cos) * half[:, 0] + np.abs(turn_sin) * half[:, 1]
    reach_y = np.abs(turn_sin) * half[:, 0] + np.abs(turn_cos) * half[:, 1]

    poses = [np.zeros((0, 4))]
    for quarter in (0, 1):
        hx, hy = 0.5 * (size[[1, 0]] if quarter else size[:2])
        room = 0.5 * box[3:5] - (hx, hy) + 1e-9
        if (room < 0).any():
            continue
        steps = [SPOT_M * np.arange(-int(side / SPOT_M), int(side / SPOT_M) + 1) for side in room]
        u, v = (part.ravel()[:, None] for part in np.meshgrid(*steps, indexing="ij"))
        dx, dy = np.abs(x - u), np.abs(y - v)
        along = np.abs(turn_cos * (x - u) + turn_sin * (y - v))
        across = np.abs(turn_cos * (y - v) - turn_sin * (x - u))
        # two rectangles are apart where they are along one of the four directions of their sides
        apart = (dx >= reach_x + hx) | (dy >= reach_y + hy)
        apart |= along >= half[:, 0] + np.abs(turn_cos) * hx + np.abs(turn_sin) * hy
        apart |= across >= half[:, 1] + np.abs(turn_sin) * hx + np.abs(turn_cos) * hy
        free = apart.all(axis=1)
        u, v = u[free, 0], v[free, 0]
        yaw = float(wrap_angle(np.array(box[6] + quarter * 0.5 * np.pi)))
        xy = np.stack([box[0] + cos * u - sin * v, box[1] + sin * u + cos * v], axis=1)
        poses.append(np.column_stack([xy, np.full(len(xy), top), np.full(len(xy), yaw)]))
    return np.concatenate(poses)


def spots_at_rest(layout: Layout, slot: int, row: int) -> Float64[ndarray, "M 4"]:
    """Spots on surface `row` for the thing in `slot`, with every other thing at rest; the last ones asked are kept."""
    box, size = layout.surface_boxes[row], layout.size[slot]
    own = layout.boxes[slot]  # where it rests now it is in its own way no more; elsewhere, size alone matters
    apart = np.hypot(*(own[:2] - box[:2])) > layout.half_m[slot] + 0.5 * np.hypot(box[3], box[4]) + 2 * GAP_M
    key = (row, -1 if apart else slot, *size.tolist())
    found = layout.spots.get(key)
    if found is None:
        found = layout.spots[key] = spots_on(layout, row, size, np.delete(layout.boxes, slot, axis=0))
        layout.spots_kept += len(found)
        while layout.spots_kept > SPOTS_KEPT and len(layout.spots) > 1:
            first = next(iter(layout.spots))
            layout.spots_kept -= len(layout.spots.pop(first))
    return found


def to_nearest(xy: Float64[ndarray, "N 2"], spots: Float64[ndarray, "M 4"], within_m: float) -> Float64[ndarray, " N"]:
    """Distance from points to the nearest of some spots, inf where none is as near as `within_m`."""
    if len(spots) == 0 or len(xy) == 0:
        return np.full(len(xy), np.inf)
    return KDTree(spots[:, :2]).query(xy, distance_upper_bound=within_m + 1e-9)[0]
