"""Plans from the scene: rooms, doors and anchors between the stages, and order lost on purpose."""

import pytest

from agents.subgoals.symbolic import SymbolicDecomposer, shuffled
from agents.subgoals.types import Plan, Subgoal, Test
from core.errors import InputError
from envs.goals import Goal, Stage
from envs.pool import HomePool
from envs.tasks import FindObject, FindReferral, FollowInstruction, Rearrange
from tests.agents.subgoals.errands import CHAIR, OTHER_CHAIR, RED_MUG, SHELF, TABLE, WINDOW, flat, texts

ERRAND = Goal("put the red mug on the shelf", (Stage("hold", (RED_MUG,)), Stage("rest", (RED_MUG,), on=(SHELF,))))


def test_each_grain_puts_more_between_the_stages():
    scene = flat()
    assert texts(SymbolicDecomposer("stages")(ERRAND, scene)) == ["pick up the red mug", "put the red mug on the shelf"]
    assert texts(SymbolicDecomposer("rooms")(ERRAND, scene)) == [
        "enter the kitchen", "pick up the red mug", "enter the hall", "enter the study", "put the red mug on the shelf",
    ]  # fmt: skip
    doors = SymbolicDecomposer("doors")(ERRAND, scene)
    assert texts(doors) == [
        "enter the kitchen", "pick up the red mug", "open the door to the hall", "enter the hall",
        "open the door to the study", "enter the study", "put the red mug on the shelf",
    ]  # fmt: skip
    assert [step.test for step in doors.subgoals] == [
        Test("enter", room=0), Test("hold", (RED_MUG,), on=(SHELF,)), Test("open", (0,)), Test("enter", room=1),
        Test("open", (1,)), Test("enter", room=2), Test("rest", (RED_MUG,), on=(SHELF,)),
    ]  # fmt: skip
    assert [step.leads_to for step in doors.subgoals] == [
        Test("hold", (RED_MUG,), on=(SHELF,)), None, *[Test("rest", (RED_MUG,), on=(SHELF,))] * 4, None,
    ]  # fmt: skip
    with pytest.raises(InputError, match="grain"):
        SymbolicDecomposer("room")


def test_a_known_start_gives_the_way_to_the_first_thing_and_none_within_its_room():
    plan = SymbolicDecomposer("rooms").plan
    assert texts(plan(ERRAND, flat(), start_room=2))[:3] == [
        "enter the hall",
        "enter the kitchen",
        "pick up the red mug",
    ]
    assert texts(plan(ERRAND, flat(), start_room=0))[0] == "pick up the red mug"


def test_anchors_of_a_sentence_are_gone_to_first_where_the_relation_holds():
    goal = Goal("go to the chair next to the window", (Stage("reach", (CHAIR,)),), "chair", "green")
    plan = SymbolicDecomposer("anchors")(goal, flat())
    assert texts(plan) == ["enter the study", "go to the window", "go to the chair next to the window"]
    assert plan.subgoals[1].test == Test("reach", (WINDOW,))
    assert SymbolicDecomposer("anchors")(goal.text, flat()) == plan


def test_words_this_reader_does_not_know_cost_a_goal_its_anchors_alone():
    goal = Goal("dance towards the chair that is next to the window", (Stage("reach", (CHAIR,)),))
    assert texts(SymbolicDecomposer("anchors")(goal, flat())) == ["enter the study", goal.text]


def test_things_in_several_rooms_say_no_room_to_enter():
    anywhere = Goal("find a surface", (Stage("reach", (TABLE, SHELF)), Stage("reach", (CHAIR, OTHER_CHAIR))))
    assert texts(SymbolicDecomposer("rooms")(anywhere, flat())) == [
        "go to the table or shelf", "enter the study", "go to the green chair",
    ]  # fmt: skip


def test_points_lie_in_rooms_too():
    plan = SymbolicDecomposer("rooms")("go to the point 1.50 m east and 3.00 m north", flat())
    assert texts(plan) == ["enter the kitchen", "go to the point 1.50 m east and 3.00 m north"]
    stage = Goal("go there", (Stage("reach", place=(5.0, 1.0)), Stage("reach", place=(9.0, 1.0))))
    assert texts(SymbolicDecomposer("rooms")(stage, flat()))[2:] == [
        "enter the study", "go to the point 9.00 m east and 1.00 m north",
    ]  # fmt: skip


def test_no_stages_one_and_forty():
    assert SymbolicDecomposer()(Goal("rest a while", ()), flat()).subgoals == (Subgoal("rest a while"),)
    one = SymbolicDecomposer("stages")(Goal("find the table", (Stage("reach", (TABLE,)),)), flat())
    assert one.subgoals == (Subgoal("find the table", Test("reach", (TABLE,))),)
    forty = "go to the table" + ", then to the table" * 39
    assert len(SymbolicDecomposer("stages")(forty, flat()).subgoals) == 40
    with pytest.raises(InputError, match="41 subgoals; at most 40"):
        SymbolicDecomposer("stages")(forty + ", then to the table", flat())


def test_a_goal_about_a_thing_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"no \[77\]; the goal belongs to another home"):
        SymbolicDecomposer()(Goal("find it", (Stage("reach", (77,)), Stage("reach", (TABLE,)))), flat())
    with pytest.raises(InputError, match="nothing in scene flat is 'the piano'"):
        SymbolicDecomposer()("go to the piano", flat())


def test_shuffling_is_repeatable_loses_the_order_and_keeps_every_subgoal():
    plan = SymbolicDecomposer("doors")(ERRAND, flat())
    mixed = shuffled(plan, 3)
    assert mixed == shuffled(plan, 3) and mixed.goal == plan.goal
    assert mixed.subgoals != plan.subgoals and sorted(texts(mixed)) == sorted(texts(plan))
    assert len({shuffled(plan, seed).subgoals for seed in range(8)}) > 3
    pair = Plan("two things", plan.subgoals[:2], "symbolic")
    assert all(shuffled(pair, seed).subgoals == pair.subgoals[::-1] for seed in range(4))
    alone = Plan("one thing", plan.subgoals[:1] * 3, "symbolic")
    assert shuffled(alone, 0) == alone


def test_sentences_alone_give_the_tests_of_the_stages_of_every_task():
    pool = HomePool.procedural(1, seed=1, interactive=True)
    decompose, read = SymbolicDecomposer("stages"), 0
    tasks = [
        FindObject.from_pool(pool),
        FindReferral(sentences=6),
        Rearrange(pairs=4),
        FollowInstruction(4, errands=True),
    ]
    for task in tasks:
        for home in pool.homes:
            for goal in task.goals(home)[:6]:
                stages, sentence = decompose(goal, home.scene), decompose(goal.text, home.scene)
                assert [s.test for s in stages.subgoals] == [s.test for s in sentence.subgoals], goal.text
                read += 1
    assert read > 12
