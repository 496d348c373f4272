"""Errands as PDDL problems, and the shortest plans of them."""

import sys
from dataclasses import replace

import pytest

from agents.subgoals.planning import PlannerDecomposer, plan_of, problem_of
from agents.subgoals.symbolic import SymbolicDecomposer
from agents.subgoals.types import Test
from core.errors import InputError, MissingLibraryError
from envs.goals import Goal, Stage
from tests.agents.subgoals.errands import (
    BLUE_MUG,
    BOOK,
    RED_MUG,
    SHELF,
    SPOON,
    TABLE,
    TRAY,
    flat,
    texts,
)

ERRAND = Goal("put the red mug on the shelf", (Stage("hold", (RED_MUG,)), Stage("rest", (RED_MUG,), on=(SHELF,))))
planner = pytest.mark.skipif(
    any(__import__("importlib").util.find_spec(name) is None for name in ("unified_planning", "pyperplan")),
    reason="needs the planning extra",
)


@planner
def test_the_problem_holds_the_rooms_doors_and_what_the_errand_is_about_alone():
    made = problem_of(flat(), ERRAND, shut=[1], start_room=1)
    for fact in (
        "(at room1-hall)", "(is-shut door1)", "(is-open door0)", "(joins door0 room0-kitchen room1-hall)",
        "(lies-on thing2-mug place1-tray)", "(in-room place4-shelf room2-study)", "(has-room place4-shelf)",
    ):  # fmt: skip
        assert fact in made.problem
    assert "(has-room place1-tray)" not in made.problem  # a tray is no surface
    assert "door2" not in made.problem and "book" not in made.problem  # leads outside; not of this errand
    assert made.wanted == (Test("rest", (RED_MUG,), on=(SHELF,)),)
    assert "(lies-on thing2-mug place4-shelf)" in made.problem.partition(":goal")[2]


@planner
def test_a_plain_errand_is_planned_like_the_symbolic_route():
    scene = flat()
    plan = plan_of(ERRAND, scene)
    assert plan.source == "planner" and texts(plan) == texts(SymbolicDecomposer("rooms")(ERRAND, scene))
    assert plan.subgoals == SymbolicDecomposer("rooms")(ERRAND, scene).subgoals
    assert PlannerDecomposer()(ERRAND.text, scene) == plan


@planner
def test_shut_doors_on_the_way_are_opened_and_no_others():
    assert texts(plan_of(ERRAND, flat(), start_room=0, shut=[1])) == [
        "pick up the red mug", "enter the hall", "open the door to the study", "enter the study",
        "put the red mug on the shelf",
    ]  # fmt: skip


@planner
def test_a_loaded_tray_is_emptied_before_it_is_carried():
    plan = plan_of("put the tray on the shelf", flat(), start_room=0)
    tests = [step.test for step in plan.subgoals]
    assert len(tests) == 8  # two mugs taken and put, the tray taken, two rooms, the tray put
    assert tests[-4:] == [
        Test("hold", (TRAY,), on=(SHELF,)), Test("enter", room=1), Test("enter", room=2),
        Test("rest", (TRAY,), on=(SHELF,)),
    ]  # fmt: skip
    assert {test.objects for test in tests[:4]} == {(RED_MUG,), (BLUE_MUG,)}
    assert [test.on for test in tests[:4] if test.kind == "rest"] == [(TABLE,), (TABLE,)]


@planner
def test_several_errands_at_once_and_things_on_the_floor():
    plan = plan_of("put the book on the table and put the blue mug on the shelf", flat(), start_room=1)
    assert texts(plan) == [
        "pick up the book", "enter the kitchen", "put the book on the table", "pick up the blue mug", "enter the hall",
        "enter the study", "put the blue mug on the shelf",
    ]  # fmt: skip
    held = plan_of("pick up the book", flat(), start_room=0)
    assert [step.test for step in held.subgoals] == [Test("enter", room=1), Test("hold", (BOOK,))]


@planner
def test_what_lies_there_already_is_one_subgoal_that_is_true_at_once():
    plan = plan_of("put the tray on the table", flat())
    assert [step.test for step in plan.subgoals] == [Test("rest", (TRAY,), on=(TABLE,))]


@pytest.mark.parametrize(
    ("errand", "missing"),
    [
        ("put the table on the shelf", "the table cannot be carried"),
        ("put the red mug on the window", "nothing can be put on the window"),
        ("pick up the spoon", "the spoon is shut in the cabinet"),
        ("go to the table", "is no errand for the planner"),
        ("put the mug on the shelf", "may mean any of 2 things"),
        ("put the piano on the shelf", "nothing in scene flat is 'the piano'"),
    ],
)
def test_an_errand_that_has_no_plan_says_what_is_missing(errand, missing):
    with pytest.raises(InputError, match=missing):
        problem_of(flat(), errand)


def test_rooms_without_a_way_between_them_and_starts_that_are_not_there_are_named():
    scene = flat()
    scene.doors = scene.doors[:1]
    with pytest.raises(InputError, match="no way leads from the kitchen to the study, where the shelf is"):
        problem_of(scene, ERRAND)
    with pytest.raises(InputError, match="no start_room=9"):
        problem_of(flat(), ERRAND, start_room=9)
    with pytest.raises(InputError, match=r"none of \[8\] can be shut"):
        problem_of(flat(), ERRAND, shut=[8])


@planner
def test_a_search_ends_at_its_limit():
    with pytest.raises(InputError, match="no plan found within 0 s"):
        plan_of(ERRAND, flat(), limit_s=0)


@pytest.mark.parametrize("library", ["unified_planning", "pyperplan"])
def test_an_absent_library_is_named_with_the_command_that_installs_it(monkeypatch, library):
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    if library == "pyperplan":
        pytest.importorskip("unified_planning")
    with pytest.raises(MissingLibraryError, match=r"pip install 'sightline\[planning\]'"):
        plan_of(ERRAND, flat())


def test_a_thing_with_no_room_is_refused():
    scene = flat()
    scene.objects[RED_MUG] = replace(
        scene.objects[RED_MUG], box=scene.objects[SPOON].box + [100, 0, 0, 0, 0, 0, 0], room=-1
    )
    with pytest.raises(InputError, match="nothing says in which room the red mug is"):
        problem_of(scene, ERRAND)
