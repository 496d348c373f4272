"""Ways from room to room, and what rooms and things are called."""

import numpy as np
import pytest

from agents.subgoals.room_map import OPENING, RoomMap, find_openings
from core.errors import InputError
from scene.types import Door, Room, Scene, SceneObject
from tests.envs.homes import lively_home, make_home


def row_of_rooms(kinds, doors, things=()):
    """Rooms of 4 x 4 m in a row; doors: (room, room, x, y); things: (label, colour, x)."""
    rooms = [
        Room(k, kind, np.array([[4 * k, 0], [4 * k + 4, 0], [4 * k + 4, 4], [4 * k, 4]], float))
        for k, kind in enumerate(kinds)
    ]
    objects = [
        SceneObject(k, label, np.array([x, 2.0, 0.4, 0.8, 0.8, 0.8, 0.0]), attributes={"color": color})
        for k, (label, color, x) in enumerate(things)
    ]
    doorways = [Door(k, np.array([x, y, 1.0, 1.0, 0.1, 2.0, 0.0]), (a, b)) for k, (a, b, x, y) in enumerate(doors)]
    return Scene("row", "procedural", objects, rooms=rooms, doors=doorways)


def test_a_way_takes_the_shorter_of_two_doors_and_of_two_ways_round():
    ring = [(0, 1, 4, 0), (0, 1, 4, 4), (1, 2, 8, 2), (2, 0, 40, 2)]
    rooms = RoomMap(row_of_rooms(["hall", "kitchen", "bedroom"], ring))
    assert rooms.route(0, 1, (2, 3.5), (6, 3.5)) == [(1, 1)]
    assert rooms.route(0, 1, (2, 0.5), (6, 0.5)) == [(0, 1)]
    # straight 2 + 4.5 + ... through the kitchen beats 38 m to the far door
    assert rooms.route(0, 2, (2, 0.5), (10, 2)) == [(0, 1), (2, 2)]
    assert rooms.route(0, 0, (1, 1), (3, 3)) == []


def test_the_first_door_is_chosen_by_the_whole_way_not_by_its_own_nearness():
    doors = [(0, 1, 4, 2), (0, 1, 4, 30), (1, 2, 8, 30)]
    rooms = RoomMap(row_of_rooms(["hall", "kitchen", "bedroom"], doors))
    # near door: 2 + 28.3 + ...; far door: 28.1 + 4 + ...; from (2, 14): 12.2 + 28.3 = 40.4 against 16.1 + 4 = 20.1
    assert rooms.route(0, 2, (2, 14), (10, 30)) == [(1, 1), (2, 2)]


def test_rooms_that_no_door_joins_have_no_way_and_doors_to_the_outside_lead_nowhere():
    rooms = RoomMap(row_of_rooms(["hall", "kitchen"], [(0, -1, 0, 2), (1, -1, 8, 2)]))
    assert rooms.route(0, 1) is None
    with pytest.raises(InputError, match="no room 7"):
        rooms.route(0, 7)


def test_rooms_with_no_wall_between_are_joined_there_and_walls_and_doors_are_no_openings():
    home = make_home("open", 7.0, 4.0, [("sofa", "red", 3.5, 0.5, 1.0, 1.0, 0.8)])
    halves = [[[x, 0], [x + 3.5, 0], [x + 3.5, 4], [x, 4]] for x in (0.0, 3.5)]
    home.rooms = [Room(k, "half", np.array(half, float)) for k, half in enumerate(halves)]
    rooms = RoomMap(home)
    ((a, b, (x, y)),) = rooms.openings
    assert (a, b) == (0, 1) and abs(x - 3.5) < 0.2 and 1.2 < y < 3.8  # behind the sofa, which stands across the line
    assert rooms.route(0, 1, (1, 1), (6, 1)) == [(OPENING, 1)] and rooms.route(1, 0) == [(OPENING, 0)]
    walled = lively_home()
    assert RoomMap(walled).openings == [] and RoomMap(walled).route(0, 1) == [(0, 1)]
    assert [both[:2] for both in find_openings(walled)] == [(0, 1)]  # its door is one, too
    walled.doors = []
    assert RoomMap(walled).route(0, 1) == [(OPENING, 1)]  # a doorway that nobody lists


def test_rooms_of_one_kind_are_told_apart_by_what_stands_there_or_by_number():
    things = [("bed", "red", 6.0), ("lamp", "", 7.5), ("chair", "blue", 10.0), ("chair", "blue", 11.0)]
    rooms = RoomMap(row_of_rooms(["kitchen", "bedroom", "bedroom"], [], things))
    assert [rooms.room_name(k) for k in range(3)] == ["kitchen", "bedroom with the bed", "bedroom 2"]


def test_several_things_are_called_by_what_they_share():
    things = [("chair", "red", 1.0), ("chair", "red", 2.0), ("bed", "blue", 3.0)]
    rooms = RoomMap(row_of_rooms(["room"], [], things))
    assert rooms.thing_name([2]) == "bed"
    assert rooms.thing_name([0]) == rooms.thing_name([0, 1]) == "red chair"
    assert rooms.thing_name([0, 2]) == "chair or bed"
    with pytest.raises(InputError, match=r"objects 0..2, no \[9\]"):
        rooms.thing_name([9])


def test_points_and_things_know_their_room():
    rooms = RoomMap(row_of_rooms(["hall", "kitchen"], [], [("bed", "", 1.0), ("sofa", "", 6.0)]))
    assert [rooms.room_at((1.0, 1.0)), rooms.room_at((5.0, 1.0)), rooms.room_at((50.0, 1.0))] == [0, 1, -1]
    assert (rooms.room_of([0]), rooms.room_of([1]), rooms.room_of([0, 1])) == (0, 1, -1)
