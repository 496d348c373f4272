"""What a home's rooms and things are called in subgoals, and through which doors the way leads from room to room.

Rooms are joined by doors, and where no wall is between them. Ways are straight from one passage to the next; what
stands in between is not looked at.
"""

import heapq
from collections.abc import Sequence
from itertools import count
from typing import Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from core.errors import InputError
from envs.tasks.common import names
from scene.english import listed
from scene.occupancy import in_polygon, occupancy
from scene.storeys import is_inner, storey_of, storeys
from scene.support import find_support, room_of_objects
from scene.types import Scene

Point = tuple[float, float]
OPENING: Final = -1
"""Stands for a door where two rooms are joined without one."""
_ARRIVED: Final = -2
_CELL_M: Final = 0.1  # of the grid that openings are looked for on


class RoomMap:
    """The rooms of a scene.

    Attributes:
        room: (N,) room index of every object, -1 = unknown.
        parent: (N,) what each object rests on or in; negative = floor, wall or ceiling.
        openings: pairs of rooms that no door joins and no wall parts, and where.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.room = room_of_objects(scene)
        self.parent = find_support(scene, self.room).parent if scene.objects else np.zeros(0, np.int64)
        self._called = names(scene)
        inner = [(k, door) for k, door in enumerate(scene.doors) if is_inner(scene, door)]
        joined = {frozenset(door.rooms) for _, door in inner}
        self.openings = [both for both in find_openings(scene) if frozenset(both[:2]) not in joined]
        self._passages: dict[int, list[tuple[int, int, Point]]] = {room.id: [] for room in scene.rooms}
        passages = [(k, *door.rooms, (float(door.box[0]), float(door.box[1]))) for k, door in inner]
        for k, a, b, at in [*passages, *((OPENING, *both) for both in self.openings)]:
            if a != b:
                self._passages[a].append((k, b, at))
                self._passages[b].append((k, a, at))

    def room_of(self, objects: Sequence[int]) -> int:
        """The room that all of the objects are in; -1 where they are in several, or where it is unknown."""
        rooms = {int(self.room[k]) for k in objects}
        return rooms.pop() if len(rooms) == 1 else -1

    def room_at(self, xy: Point) -> int:
        """The room a point of the floor plan is in, -1 = none."""
        x, y = np.array([xy[0]]), np.array([xy[1]])
        return next((room.id for room in self.scene.rooms if in_polygon(room.polygon, x, y)[0, 0]), -1)

    def middle(self, objects: Sequence[int]) -> Point | None:
        """Where one object is; None for several."""
        if len(objects) != 1:
            return None
        box = self.scene.objects[objects[0]].box
        return float(box[0]), float(box[1])

    def route(
        self, start: int, end: int, start_xy: Point | None = None, end_xy: Point | None = None
    ) -> list[tuple[int, int]] | None:
        """The shortest way between two rooms: (door or OPENING, room it leads into) in order; None where there is none.

        Args:
            start_xy, end_xy: where in the rooms; left out: anywhere, so that the way to and from the doors is free.

        Raises:
            InputError: a room that the scene does not have.
        """
        for room in (start, end):
            if room not in self._passages:
                raise InputError(f"scene {self.scene.id} has rooms 0..{len(self.scene.rooms) - 1}, no room {room}")
        number = count()  # breaks ties, so that nothing else of two ways is compared
        queue: list[tuple[float, int, int, int, Point | None, tuple[tuple[int, int], ...]]]
        queue = [(0.0, next(number), -1, start, start_xy, ())]
        left: set[tuple[Point | None, int]] = set()
        while queue:
            length, _, door, room, xy, way = heapq.heappop(queue)
            if door == _ARRIVED:
                return list(way)
            if (xy, room) in left:
                continue
            left.add((xy, room))
            if room == end:
                heapq.heappush(queue, (length + _metres(xy, end_xy), next(number), _ARRIVED, end, None, way))
                continue
            for onward, beyond, at in self._passages[room]:
                longer = (length + _metres(xy, at), next(number), onward, beyond, at, (*way, (onward, beyond)))
                heapq.heappush(queue, longer)
        return None

    def room_name(self, room: int) -> str:
        """ "kitchen"; of several bedrooms "bedroom with the red bed", or where nothing tells them apart "bedroom 2"."""
        kind = self.scene.rooms[room].kind or "room"
        alike = [other.id for other in self.scene.rooms if (other.kind or "room") == kind]
        if len(alike) == 1:
            return kind
        here = [k for k in self._called if self.room[k] == room]
        if here:
            largest = max(here, key=lambda k: (float(np.prod(self.scene.objects[k].box[3:5])), -k))
            return f"{kind} with the {self._called[largest]}"
        return f"{kind} {alike.index(room) + 1}"

    def thing_name(self, objects: Sequence[int], *, where: bool = False) -> str:
        """ "bed", "red mug", "mug or cup": what fits all of the objects.

        Args:
            where: a thing that has no name of its own is told by what it is on or in: "book from the yellow bookshelf".

        Raises:
            InputError: the scene has no such object.
        """
        if missing := [k for k in objects if not 0 <= k < len(self.scene.objects)]:
            raise InputError(
                f"scene {self.scene.id} has objects 0..{len(self.scene.objects) - 1}, no {missing}; the goal belongs "
                "to another home"
            )
        if len(objects) == 1 and objects[0] in self._called:
            return self._called[objects[0]]
        items = [self.scene.objects[k] for k in objects]
        colors = {item.attributes.get("color", "") for item in items}
        color = colors.pop() if len(colors) == 1 else ""
        labels = listed(list(dict.fromkeys(item.label for item in items))).replace(" and ", " or ")
        name = f"{color} {labels}".strip()
        if where and len(objects) == 1 and int(self.parent[objects[0]]) in self._called:
            return f"{name} from the {self._called[int(self.parent[objects[0]])]}"
        return name


def find_openings(scene: Scene) -> list[tuple[int, int, Point]]:
    """Pairs of rooms that an agent walks between, the lower id first, with a place where it crosses over.

    Rooms with a door between them are among them. Storeys on which nobody can walk have none.
    """
    if len(scene.rooms) < 2:
        return []
    floors = storeys(scene)
    crossings: dict[tuple[int, int], list[Float[ndarray, "K 2"]]] = {}
    for level, floor_z in enumerate(floors):
        try:
            grid = occupancy(scene, _CELL_M, floor_z=floor_z, interactive=True)
        except InputError:  # no free floor
            continue
        rows, columns = grid.free.shape
        x, y = (grid.origin[k] + (np.arange(n) + 0.5) * _CELL_M for k, n in enumerate((columns, rows)))
        number = np.full(grid.free.shape, -1)
        for room in scene.rooms:
            if storey_of(room.floor_z, floors) == level:
                number[in_polygon(room.polygon, x, y) & grid.free] = room.id
        for first, second in ((number[:, :-1], number[:, 1:]), (number[:-1], number[1:])):
            cells = np.argwhere((first != second) & (first >= 0) & (second >= 0))
            sides = np.sort(np.stack([first[tuple(cells.T)], second[tuple(cells.T)]], axis=1), axis=1)
            for a, b in np.unique(sides, axis=0).tolist():
                crossings.setdefault((a, b), []).append(grid.centers(cells[(sides == (a, b)).all(axis=1)]))
    found = []
    for (a, b), parts in sorted(crossings.items()):
        places = np.concatenate(parts)
        middle = places[np.hypot(*(places - places.mean(axis=0)).T).argmin()]
        found.append((a, b, (float(middle[0]), float(middle[1]))))
    return found


def _metres(a: Point | None, b: Point | None) -> float:
    """Between two points; 0 where one of them may be anywhere."""
    return 0.0 if a is None or b is None else float(np.hypot(a[0] - b[0], a[1] - b[1]))
