"""A goal falls into subgoals by what the scene says: its rooms, its doors, and the things a sentence measures from.

The stages of a goal (or the steps read from a sentence alone, agents/subgoals/sentence_steps.py) are its backbone;
`grain` says what is put between them:

    stages   nothing: "go to the bed", "pick up the mug", "put the mug on the desk"
    rooms    every room on the way: "enter the hallway", "enter the kitchen"
    doors    and the doors between them, where doors open and shut: "open the door to the kitchen"
    anchors  and the large things a name is measured from: "go to the window", "go to the chair next to the window"

A plan belongs to a goal in a home, not to an episode: where the agent starts is unknown unless it is told, so the way
to the first thing is the room it is in alone, done at once by an agent that is there. An opening is done at once where
the door stands open. What is on the way leads to a stage (`Subgoal.leads_to`) and is passed when that stage is done
without it: a bed can be reached from the doorway of its room. The way between two things goes through doors, and where
no wall is (agents/subgoals/room_map.py); where there is no way, a room is entered without saying how.
"""

import zlib
from dataclasses import replace
from typing import Any, Final

import numpy as np

from agents.subgoals.room_map import OPENING, RoomMap
from agents.subgoals.sentence_steps import Said, linked, read_sentence, words
from agents.subgoals.types import Plan, Subgoal, Test
from core.errors import InputError, check_choice
from envs.goals import Goal
from scene.storeys import openable_doors
from scene.types import Scene

GRAINS: Final[dict[str, frozenset[str]]] = {
    "stages": frozenset(),
    "rooms": frozenset({"enter"}),
    "doors": frozenset({"enter", "open"}),
    "anchors": frozenset({"enter", "open", "anchor"}),
}
"""How fine plans are, and what each grain puts between the stages of a goal."""


class SymbolicDecomposer:
    """Plans from the scene alone (agents/subgoals/types.py Decomposer).

    Args:
        grain: key of GRAINS.

    Raises:
        InputError: unknown grain.
    """

    def __init__(self, grain: str = "rooms") -> None:
        check_choice("grain", grain, GRAINS)
        self.grain = grain
        self._rooms: RoomMap | None = None  # of the scene asked about last

    def __call__(self, goal: Goal | str, scene: Scene, view: Any = None) -> Plan:
        """The plan of a goal, or of a sentence; `view` is not looked at."""
        return self.plan(goal, scene)

    def plan(self, goal: Goal | str, scene: Scene, start_room: int = -1) -> Plan:
        """As a call, told where the agent starts.

        Args:
            start_room: id of the room, -1 = unknown.

        Raises:
            InputError: the sentence cannot be read, what it or the goal names is not in the scene, or there are more
                than MOST subgoals.
        """
        if self._rooms is None or self._rooms.scene is not scene:
            self._rooms = RoomMap(scene)
        rooms = self._rooms
        if isinstance(goal, str):
            said, text = read_sentence(goal, rooms), goal
        else:
            said, text = _of_stages(goal, rooms, anchors="anchor" in GRAINS[self.grain]), goal.text
        return Plan(text, tuple(_with_ways(said, rooms, GRAINS[self.grain], start_room)), "symbolic")


def shuffled(plan: Plan, seed: int) -> Plan:
    """The same subgoals in another order: a control. A plan whose subgoals are all alike stays as it is.

    The order is a function of the seed and the goal's words.
    """
    steps = plan.subgoals
    if len(set(steps)) < 2:
        return plan
    rng = np.random.default_rng((seed, zlib.crc32(plan.goal.encode())))
    order = steps
    while order == steps:
        order = tuple(steps[k] for k in rng.permutation(len(steps)))
    return replace(plan, subgoals=order)


def _of_stages(goal: Goal, rooms: RoomMap, *, anchors: bool) -> list[Said]:
    """A goal's stages in words; with `anchors`, and with what its sentence measures the same things from."""
    if not goal.stages:
        return []
    tests = [Test(stage.kind, stage.objects, stage.on, place=stage.place) for stage in goal.stages]
    steps = linked([Subgoal(words(test, rooms), test) for test in tests])
    if len(steps) == 1:
        steps = [replace(steps[0], text=goal.text)]  # the sentence tells things apart that share class and colour
    if not anchors:
        return [Said(step) for step in steps]
    try:
        told = read_sentence(goal.text, rooms)
    except InputError:  # the stages say what to do; words beyond this reader only lose their anchors
        told = []
    known = {(said.step.test.kind, said.step.test.objects): said.anchors for said in told if said.step.test}
    return [Said(step, known.get((step.test.kind, step.test.objects), ())) for step in steps if step.test]


def _with_ways(said: list[Said], rooms: RoomMap, puts: frozenset[str], start_room: int) -> list[Subgoal]:
    """The steps, with the ways and anchors between them."""
    openable = frozenset(openable_doors(rooms.scene))
    steps: list[Subgoal] = []
    room, here = start_room, None
    for one in said:
        test = one.step.test
        assert test is not None
        if test.kind == "open":
            steps.append(one.step)
            continue
        where = test.on if test.kind == "rest" else test.objects
        if test.kind == "enter":
            target = test.room
        elif where or test.place is None:
            target = rooms.room_of(where)
        else:
            target = rooms.room_at(test.place)
        there = test.place or rooms.middle(where)
        way: list[Subgoal] = []
        if target >= 0 and target != room and len(rooms.scene.rooms) > 1:
            route = None if room < 0 else rooms.route(room, target, here, there)
            for door, into in [(OPENING, target)] if route is None else route:
                name = rooms.room_name(into)
                if door in openable and "open" in puts:
                    way.append(Subgoal(f"open the door to the {name}", Test("open", (door,)), test))
                if "enter" in puts:
                    way.append(Subgoal(f"enter the {name}", Test("enter", room=into), test))
        if way and way[-1].test == test:
            way.pop()  # the step itself is to enter that room
        steps += way
        if "anchor" in puts:
            steps += [
                Subgoal(f"go to the {rooms.thing_name(objects)}", Test("reach", objects), test)
                for objects in one.anchors
            ]
        steps.append(one.step)
        room, here = target, there
    return steps
