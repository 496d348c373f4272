"""Plans of errands found by a classical planner: the goal as logic, the home as a PDDL problem.

The route of Symbolic Goal Learning (Xu et al., IEEE RA-L 2022): an instruction becomes a goal state in PDDL, a planner
finds the steps. Here unified-planning models the problem and pyperplan solves it (A* with h_max: a shortest plan).
Different from there: the goal comes from a task's stages or from the sentence reader, not from a learned model, and the
domain is rooms, doors, hands and surfaces. It finds what stages do not say: a loaded tray is emptied before it is
carried, a shut door is opened.

    walk      from a room through an open door, or where no wall is, to another
    open      a shut door of the room one is in
    pick      a thing that carries nothing, off a surface or the floor of the room
    unload    the same off another thing, which then carries one less
    put       what is held onto a surface of the room

Only things that an errand is about are in the problem: what is to be moved, all that lies on it, where they lie and go.
Where the agent starts is unknown unless told: it can then begin in any room.
"""

import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from agents.subgoals.room_map import RoomMap
from agents.subgoals.sentence_steps import linked, read_sentence, words
from agents.subgoals.types import Plan, Subgoal, Test
from core.errors import InputError, MissingLibraryError
from envs.goals import Goal
from envs.layout import Layout
from scene.storeys import is_inner, openable_doors, storeys
from scene.types import Scene

LIMIT_S: Final = 10.0
"""Seconds a search may take."""
_INSTALL: Final = "pip install 'sightline[planning]', or: pip install 'unified-planning>=1.3,<2' 'pyperplan>=2.1,<3'"
_ANYWHERE: Final = "anywhere"


@dataclass(frozen=True)
class PlanningProblem:
    """A problem as text, and what its names stand for."""

    goal: str  # the errand in words
    domain: str  # PDDL
    problem: str  # PDDL
    numbers: dict[str, int]  # room, door and object names to their ids; floors are absent
    wanted: tuple[Test, ...]  # what is to be true at the end


class PlannerDecomposer:
    """Plans from the planner (agents/subgoals/types.py Decomposer).

    Args:
        limit_s: seconds a search may take.
    """

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s

    def __call__(self, goal: Goal | str, scene: Scene, view: Any = None) -> Plan:
        """The plan of an errand; `view` is not looked at."""
        return plan_of(goal, scene, limit_s=self.limit_s)


def plan_of(
    goal: Goal | str,
    scene: Scene,
    *,
    start_room: int = -1,
    shut: Sequence[int] | None = None,
    limit_s: float = LIMIT_S,
) -> Plan:
    """A shortest plan of an errand; arguments and errors as in `problem_of`.

    Raises:
        InputError: also when the search finds no plan, or none within `limit_s` seconds.
    """
    rooms = RoomMap(scene)
    made = problem_of(scene, goal, start_room=start_room, shut=shut, rooms=rooms)
    steps = _solve(made, limit_s)
    if steps is None:
        raise InputError(f"{made.goal!r} has no plan in scene {scene.id}; its problem:\n{made.problem}")
    subgoals = linked([_subgoal(step, made.numbers, rooms) for step in steps])
    if not steps:  # all is as wanted already
        subgoals = [Subgoal(words(test, rooms), test) for test in made.wanted]
    ahead: Test | None = None
    for k in reversed(range(len(subgoals))):  # walks and doors lead to what hands do next
        test = subgoals[k].test
        if test is not None and test.kind in ("enter", "open"):
            subgoals[k] = replace(subgoals[k], leads_to=ahead)
        else:
            ahead = test
    return Plan(made.goal, tuple(subgoals), "planner")


def problem_of(
    scene: Scene,
    goal: Goal | str,
    *,
    start_room: int = -1,
    shut: Sequence[int] | None = None,
    rooms: RoomMap | None = None,
) -> PlanningProblem:
    """An errand in a home as a PDDL problem.

    Args:
        goal: stages or a sentence that say what is to lie where, or be held ("put the mug on the desk").
        start_room: where the agent is, -1 = unknown.
        shut: indices of the doors that are shut; left out: as the scene has them.
        rooms: of the scene, where they are known already.

    Raises:
        InputError: the goal is about places to be, or may mean several things; something in it cannot be carried, is no
            surface, is locked in, lies outside all rooms, or no way leads to it.
        MissingLibraryError: unified-planning is absent.
    """
    rooms = rooms or RoomMap(scene)
    return _Model(rooms, goal, start_room, shut).made()


# --- the problem ---


class _Model:
    """What of a home an errand is about."""

    def __init__(self, rooms: RoomMap, goal: Goal | str, start_room: int, shut: Sequence[int] | None) -> None:
        self.rooms, self.scene = rooms, rooms.scene
        self.text, self.wanted = _wanted(goal, rooms)
        if start_room >= len(self.scene.rooms):
            raise InputError(f"scene {self.scene.id} has {len(self.scene.rooms)} rooms, no start_room={start_room}")
        self.layout = Layout.of(self.scene, storeys(self.scene)[0])
        self.shut = [k for k, door in enumerate(self.scene.doors) if not door.open] if shut is None else list(shut)
        if unknown := [k for k in self.shut if not 0 <= k < len(self.scene.doors)]:
            raise InputError(f"scene {self.scene.id} has {len(self.scene.doors)} doors, none of {unknown} can be shut")
        self.start_room = start_room
        self.held = [test.objects[0] for test in self.wanted if test.kind == "hold"]
        self.lying = [(test.objects[0], test.on[0]) for test in self.wanted if test.kind == "rest"]
        self.under = dict(zip(self.layout.movable.tolist(), self.layout.carrier.tolist()))
        self.things = self._things([*self.held, *(thing for thing, _ in self.lying)])
        carriers = {self.under.get(thing, -1) for thing in self.things} - set(self.things) - {-1}
        self.places = sorted(carriers | {place for _, place in self.lying})
        self._check()

    def _things(self, named: list[int]) -> list[int]:
        """What is to be moved, with all that lies on it."""
        found, waiting = set[int](), list(named)
        while waiting:
            thing = waiting.pop()
            if thing not in found:
                found.add(thing)
                waiting += [other for other, below in self.under.items() if below == thing]
        return sorted(found)

    def _check(self) -> None:
        """Raises InputError that names what stands in the way of any plan, where that can be told at once."""
        layout, name = self.layout, self.rooms.thing_name
        for thing in self.things:
            slot = layout.slot(thing)
            if slot < 0:
                raise InputError(f"{self.text!r} has no plan: the {name([thing])} cannot be carried")
            if layout.enclosed[slot]:
                box = name([int(layout.carrier[slot])])
                raise InputError(
                    f"{self.text!r} has no plan: the {name([thing])} is shut in the {box}, which nobody opens"
                )
        for _, place in self.lying:
            if place not in layout.surfaces:
                raise InputError(f"{self.text!r} has no plan: nothing can be put on the {name([place])}")
        where = {k: int(self.rooms.room[k]) for k in (*self.things, *self.places)}
        for k, room in where.items():
            if room < 0:
                raise InputError(f"{self.text!r} has no plan: nothing says in which room the {name([k])} is")
        first = where[self.things[0]] if self.start_room < 0 else self.start_room
        for k, room in where.items():
            if self.rooms.route(first, room) is None:
                raise InputError(
                    f"{self.text!r} has no plan: no way leads from the {self.rooms.room_name(first)} to the "
                    f"{self.rooms.room_name(room)}, where the {name([k])} is"
                )

    def made(self) -> PlanningProblem:
        up = _unified_planning()
        kinds = {kind: up.UserType(kind) for kind in ("room", "door", "amount", "spot")}
        kinds |= {kind: up.UserType(kind, kinds["spot"]) for kind in ("thing", "place")}
        says = {
            name: up.Fluent(name, up.BoolType(), **{key: kinds[kind] for key, kind in parameters.items()})
            for name, parameters in _FLUENTS.items()
        }
        problem = up.Problem("errand")
        for fluent in says.values():
            problem.add_fluent(fluent, default_initial_value=False)
        for action in _actions(up, kinds, says):
            problem.add_action(action)

        numbers: dict[str, int] = {}
        openable = openable_doors(self.scene)  # inner doors beyond these stand open

        def named(kind: str, called: str, number: int) -> Any:
            name = f"{kind}{number}-{re.sub(r'[^a-z0-9]+', '-', called.lower())}".strip("-")
            numbers[name] = number
            return problem.add_object(name, kinds[kind])

        items = self.scene.objects
        room = {k.id: named("room", k.kind, k.id) for k in self.scene.rooms}
        thing = {k: named("thing", items[k].label, k) for k in self.things}
        place = {k: named("place", items[k].label, k) for k in self.places}
        loads: dict[int, int] = {k: sum(self.under[other] == k for other in self.things) for k in self.things}
        count = [problem.add_object(f"n{n}", kinds["amount"]) for n in range(max(loads.values()) + 1)]
        true: list[Any] = [says["hand-empty"](), says["is-zero"](count[0])]
        true += [says["follows"](more, less) for less, more in zip(count, count[1:])]
        for k in self.things:
            true.append(says["carries"](thing[k], count[loads[k]]))
            true.append(says["in-room"](thing[k], room[int(self.rooms.room[k])]))
            if self.under[k] in thing:
                true.append(says["lies-on"](thing[k], thing[self.under[k]]))
            elif self.under[k] in place:
                true.append(says["lies-on"](thing[k], place[self.under[k]]))
            else:  # each lies on a spot of its own on the floor, which is no surface to put things on
                floor = problem.add_object(f"floor-below-{k}", kinds["place"])
                true.append(says["lies-on"](thing[k], floor))
                true.append(says["in-room"](floor, room[int(self.rooms.room[k])]))
        for k in self.places:
            true.append(says["in-room"](place[k], room[int(self.rooms.room[k])]))
            if k in self.layout.surfaces:
                true.append(says["has-room"](place[k]))
        for k, way in enumerate(self.scene.doors):
            if is_inner(self.scene, way):
                door = named("door", "", k)
                a, b = way.rooms
                true += [says["joins"](door, room[a], room[b]), says["joins"](door, room[b], room[a])]
                true.append(says["is-shut" if k in self.shut and k in openable else "is-open"](door))
        for n, (a, b, _) in enumerate(self.rooms.openings):
            opening = problem.add_object(f"opening{n}", kinds["door"])
            true += [says["is-open"](opening), says["joins"](opening, room[a], room[b])]
            true.append(says["joins"](opening, room[b], room[a]))
        if self.start_room >= 0:
            true.append(says["at"](room[self.start_room]))
        else:  # one more room from which all others are entered
            anywhere = problem.add_object(_ANYWHERE, kinds["room"])
            passage = problem.add_object("passage", kinds["door"])
            true += [says["at"](anywhere), says["is-open"](passage)]
            true += [says["joins"](passage, anywhere, other) for other in room.values()]
        for fact in true:
            problem.set_initial_value(fact, True)
        for k in self.held:
            problem.add_goal(says["holding"](thing[k]))
        for k, on in self.lying:
            problem.add_goal(says["lies-on"](thing[k], place[on]))
        writer = _writer()(problem)
        return PlanningProblem(self.text, writer.get_domain(), writer.get_problem(), numbers, self.wanted)


_FLUENTS: Final[dict[str, dict[str, str]]] = {
    "at": {"r": "room"},
    "joins": {"d": "door", "a": "room", "b": "room"},
    "is-open": {"d": "door"},
    "is-shut": {"d": "door"},
    "in-room": {"s": "spot", "r": "room"},
    "lies-on": {"t": "thing", "s": "spot"},
    "carries": {"t": "thing", "n": "amount"},
    "follows": {"more": "amount", "less": "amount"},
    "is-zero": {"n": "amount"},
    "has-room": {"p": "place"},
    "hand-empty": {},
    "holding": {"t": "thing"},
}


def _actions(up: Any, kinds: dict[str, Any], says: dict[str, Any]) -> list[Any]:
    """The five actions; conditions are positive alone, as pyperplan needs them."""

    def action(name: str, parameters: dict[str, str], needs: list[str], makes: list[str], ends: list[str]) -> Any:
        made = up.InstantaneousAction(name, **{key: kinds[kind] for key, kind in parameters.items()})

        def fact(text: str) -> Any:
            fluent, *keys = text.split()
            return says[fluent](*(made.parameter(key) for key in keys))

        for text in needs:
            made.add_precondition(fact(text))
        for text in makes:
            made.add_effect(fact(text), True)
        for text in ends:
            made.add_effect(fact(text), False)
        return made

    return [
        action(
            "walk", {"a": "room", "b": "room", "d": "door"},
            needs=["at a", "joins d a b", "is-open d"], makes=["at b"], ends=["at a"],
        ),
        action(
            "open", {"a": "room", "b": "room", "d": "door"},
            needs=["at a", "joins d a b", "is-shut d"], makes=["is-open d"], ends=["is-shut d"],
        ),
        action(
            "pick", {"t": "thing", "p": "place", "r": "room", "none": "amount"},
            needs=["at r", "in-room p r", "lies-on t p", "hand-empty", "carries t none", "is-zero none"],
            makes=["holding t"], ends=["lies-on t p", "hand-empty"],
        ),
        action(
            "unload", {"t": "thing", "u": "thing", "r": "room", "more": "amount", "less": "amount", "none": "amount"},
            needs=[
                "at r", "in-room u r", "lies-on t u", "hand-empty", "carries t none", "is-zero none",
                "carries u more", "follows more less",
            ],
            makes=["holding t", "carries u less"], ends=["lies-on t u", "hand-empty", "carries u more"],
        ),
        action(
            "put", {"t": "thing", "p": "place", "r": "room"},
            needs=["at r", "in-room p r", "holding t", "has-room p"],
            makes=["lies-on t p", "hand-empty"], ends=["holding t"],
        ),
    ]  # fmt: skip


def _wanted(goal: Goal | str, rooms: RoomMap) -> tuple[str, tuple[Test, ...]]:
    """The errand in words, and what is to be true at its end."""
    if isinstance(goal, str):
        text, tests = goal, [said.step.test for said in read_sentence(goal, rooms)]
    else:
        text, tests = goal.text, [Test(s.kind, s.objects, s.on, place=s.place) for s in goal.stages]
    found = [test for test in tests if test is not None]
    if not found or any(test.kind not in ("hold", "rest") for test in found):
        raise InputError(
            f"{text!r} is no errand for the planner, which is told what is to lie where ('put the mug on the desk'); "
            "for places to go to use the symbolic decomposer"
        )
    for test in found:
        for objects in filter(None, (test.objects, test.on)):
            rooms.thing_name(objects)  # raises for what is not there
            if len(objects) > 1:
                raise InputError(
                    f"{text!r} may mean any of {len(objects)} things ({rooms.thing_name(objects)}, {list(objects)}); "
                    "say which"
                )
    put = {test.objects for test in found if test.kind == "rest"}
    return text, tuple(test for test in found if test.kind == "rest" or test.objects not in put)


# --- the search ---


def _solve(made: PlanningProblem, limit_s: float) -> list[list[str]] | None:
    """The actions of a shortest plan, each a name and its arguments; None where there is none.

    Raises:
        InputError: the search took longer than `limit_s`.
    """
    search_plan, astar_search, hmax = _pyperplan()
    deadline = time.monotonic() + limit_s

    class Timed(hmax):  # type: ignore[misc, valid-type]
        """Its search can be stopped: pyperplan has no limit of its own."""

        def __call__(self, node: Any) -> Any:
            if time.monotonic() > deadline:
                raise InputError(
                    f"{made.goal!r}: no plan found within {limit_s:g} s; raise limit_s or ask for fewer things at once"
                )
            return super().__call__(node)

    with tempfile.TemporaryDirectory() as folder:
        domain, problem = Path(folder, "domain.pddl"), Path(folder, "problem.pddl")
        domain.write_text(made.domain)
        problem.write_text(made.problem)
        found = search_plan(str(domain), str(problem), astar_search, Timed)
    return None if found is None else [operator.name.strip("()").split() for operator in found]


def _subgoal(step: list[str], numbers: dict[str, int], rooms: RoomMap) -> Subgoal:
    """A step of a plan in words and with its test."""
    action, *names = step
    ids = [numbers.get(name, -1) for name in names]
    if action == "walk":
        return Subgoal(f"enter the {rooms.room_name(ids[1])}", Test("enter", room=ids[1]))
    if action == "open":
        return Subgoal(f"open the door to the {rooms.room_name(ids[1])}", Test("open", (ids[2],)))
    test = Test("rest", (ids[0],), on=(ids[1],)) if action == "put" else Test("hold", (ids[0],))
    return Subgoal(words(test, rooms), test)


def _unified_planning() -> Any:
    try:
        import unified_planning.shortcuts as up
    except ImportError as error:
        raise MissingLibraryError(
            f"planning needs unified-planning, which does not load ({error}). Install it with: {_INSTALL}"
        ) from error
    return up


def _writer() -> Any:
    from unified_planning.io import PDDLWriter

    return PDDLWriter


def _pyperplan() -> tuple[Any, Any, Any]:
    """Its front door, A*, and the admissible heuristic h_max."""
    try:
        from pyperplan.heuristics.relaxation import hMaxHeuristic
        from pyperplan.planner import search_plan
        from pyperplan.search import astar_search
    except ImportError as error:
        raise MissingLibraryError(
            f"planning needs pyperplan, which does not load ({error}). Install it with: {_INSTALL}"
        ) from error
    return search_plan, astar_search, hMaxHeuristic
