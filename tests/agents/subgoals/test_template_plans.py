"""Plans by rule."""

import pytest

from agents.subgoals.step_sequences import Step
from agents.subgoals.template_plans import Template
from core.errors import InputError
from tests.agents.subgoals.test_step_metrics import moved

HOT = (*moved("apple", "desk", "fridge")[:2], Step("GotoLocation", "microwave"), Step("HeatObject", "apple"))
LIT = (*moved("book", "desk")[:2], Step("GotoLocation", "desklamp"), Step("ToggleObject", "desklamp"))
CUT = (*moved("knife", "sink")[:2], Step("SliceObject", "apple"), Step("PutObject", "knife", "sink"))
CARRY = (
    *moved("pen", "mug"),
    Step("PickupObject", "mug"),
    Step("GotoLocation", "desk"),
    Step("PutObject", "mug", "desk"),
)
PLANS = [
    HOT,
    LIT,
    CUT,
    CARRY,
    moved("apple", "desk", "fridge"),
    moved("apple", "desk", "fridge"),
    moved("alarmclock", "bed"),
]


def test_templates_are_filled_with_the_things_that_are_named():
    template = Template(PLANS)
    assert template.named("Set the alarm clock and two apples on the bed") == ["alarmclock", "apple", "bed"]
    simple, hot, lit, carried = template.plans(
        [
            "Put the apple on the bed.",
            "Place a heated apple on the bed",
            "Examine a book by a desk lamp",
            "A pen in a mug on the bed",
        ]
    )
    assert simple == moved("apple", "bed", "fridge")
    assert hot == (*HOT, *moved("apple", "bed")[2:])
    assert lit == LIT
    assert carried == (*moved("pen", "mug"), Step("PickupObject", "mug"), *moved("mug", "bed")[2:])


def test_a_template_does_twice_what_is_asked_of_two_and_slices_with_the_usual_knife():
    twice, cut = Template(PLANS).plans(["put two apples on the desk", "put a sliced apple on the bed"])
    assert twice == moved("apple", "desk", "fridge") * 2
    assert [step.action for step in cut].count("SliceObject") == 1
    assert cut[1] == Step("PickupObject", "knife")
    assert cut[-1] == Step("PutObject", "apple", "bed")


def test_templates_need_plans_that_move_things():
    with pytest.raises(InputError, match="need plans"):
        Template([])
    with pytest.raises(InputError, match="pick something up"):
        Template([LIT[2:]]).plans(["put the apple on the bed"])
