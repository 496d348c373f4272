"""Storeys of a home, and which of its doors can be opened and shut.

A door between two rooms opens; one to the outside, or to a room that the scene does not have, never does. The object of
a door is its frame and leaf in the mesh. An open inner door keeps its object (a frame, nothing between); the object of
a shut one is no part of the home that stays still.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from core.errors import InputError
from scene.types import Door, Room, Scene

DOOR_LABELS = ("door", "doorway")
STOREY_M = 1.0  # floors further apart belong to different storeys
SUNK_M = 0.05  # a flat thing may have its middle this much below its floor
DOOR_OBJECT_M = 0.3  # the object of a door has its middle this close to the door's
MOST_DOORS = 32  # that open and shut in one home: bits of a mask


def storeys(scene: Scene) -> list[float]:
    """Floor heights of a home's storeys, from the lowest up.

    A room whose floor is more than 1 m above the lowest floor of a storey starts the next one; a step down into the
    living room does not.

    Raises:
        InputError: the scene has no rooms, or a floor height is NaN or infinite.
    """
    if not scene.rooms:
        raise InputError(f"scene {scene.id} has no rooms; an occupancy grid needs room outlines to know the floor")
    heights = sorted(float(room.floor_z) for room in scene.rooms)
    if not np.isfinite(heights).all():
        bad = [room.id for room in scene.rooms if not np.isfinite(room.floor_z)]
        raise InputError(f"scene {scene.id}: the floor heights of rooms {bad} are NaN or infinite; mend the source")
    found = heights[:1]
    for height in heights:
        if height - found[-1] > STOREY_M:
            found.append(height)
    return found


def door_object(scene: Scene, door: Door) -> int:
    """The id of the object that is a door's frame and leaf, -1 = the scene lists none."""
    best, best_m = -1, DOOR_OBJECT_M
    for item in scene.objects:
        if item.label in DOOR_LABELS:
            distance = float(np.linalg.norm(item.box[:3] - door.box[:3]))
            if distance < best_m:
                best, best_m = item.id, distance
    return best


def is_inner(scene: Scene, door: Door) -> bool:
    """Whether a door joins two rooms of the home. A door to the outside (-1) leads nowhere and never opens."""
    return all(0 <= room < len(scene.rooms) for room in door.rooms)


def openable_doors(scene: Scene) -> list[int]:
    """Indices into scene.doors of the doors that open and shut; bit k of every mask of doors is the k-th of them.

    All storeys count. Inner doors after the 32nd have no bit and simply stand open.
    """
    return [k for k, door in enumerate(scene.doors) if is_inner(scene, door)][:MOST_DOORS]


def removable_leaves(scene: Scene) -> list[int]:
    """Ids of the objects of shut inner doors: with doors that open, their faces are no part of the static home."""
    found = (door_object(scene, door) for door in scene.doors if is_inner(scene, door) and not door.open)
    return sorted({index for index in found if index >= 0})


def doorway_ends(door: Door) -> Float[ndarray, "2 2"]:
    """World xy of both ends of a shut leaf: a line across the doorway, in the middle of the wall."""
    along = int(door.box[4] > door.box[3])
    yaw = door.box[6] + along * np.pi / 2
    half = np.array([np.cos(yaw), np.sin(yaw)]) * door.box[3 + along] / 2
    return np.stack([door.box[:2] - half, door.box[:2] + half])


def storey_of(height: float, floors: list[float]) -> int:
    """Index of the storey a floor or the foot of a door belongs to; half a metre below a floor still does."""
    return max(0, int(np.searchsorted(floors, height + 0.5 * STOREY_M, "right")) - 1)


def storey_of_thing(box: Float[ndarray, "7"], floors: list[float]) -> int:
    """Index of the storey a thing is on, by its box alone: the highest floor below its middle (or 5 cm above it).

    What hangs under a ceiling belongs below, and a rug that is sunk into its floor belongs there.
    """
    return max(0, int(np.searchsorted(floors, float(box[2]) + SUNK_M, "right")) - 1)


def door_foot(scene: Scene, index: int) -> float:
    """Height of a door's lower edge.

    Raises:
        InputError: its box is no box.
    """
    box = np.asarray(scene.doors[index].box, dtype=np.float64)
    if box.shape != (7,) or not np.isfinite(box).all() or (box[3:6] <= 0).any():
        raise InputError(
            f"scene {scene.id}, door {index}: box {box.tolist()} should be 7 finite numbers with positive sizes; "
            "drop the door or mend its source"
        )
    return float(box[2] - box[5] / 2)


def outline(scene: Scene, room: Room) -> Float[ndarray, "K 2"]:
    """A room's corners.

    Raises:
        InputError: they are no polygon.
    """
    polygon = np.asarray(room.polygon, dtype=np.float64)
    if polygon.ndim != 2 or polygon.shape[1] != 2 or len(polygon) < 3 or not np.isfinite(polygon).all():
        raise InputError(
            f"scene {scene.id}, room {room.id} ({room.kind}): its outline should be at least 3 corners (K, 2), all "
            f"finite, got shape {polygon.shape}{'' if np.isfinite(polygon).all() else ' with NaN or infinity'}; drop "
            "the room or mend its source"
        )
    return polygon
