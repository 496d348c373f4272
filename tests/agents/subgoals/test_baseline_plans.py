"""Plans by retrieval, by count and by rule; phrases of steps."""

import math

import pytest

from agents.subgoals.retrieval_plans import MostFrequent, NearestGoal
from agents.subgoals.step_sequences import Step
from agents.subgoals.step_words import StepWords, most_typical, word_f1
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


def test_the_nearest_goal_is_the_one_sharing_rare_words():
    nearest = NearestGoal(["put the mug on the bed", "put the pen on the bed", "heat the apple"], PLANS[:3])
    assert nearest.plans(["the pen goes on the table", "a warm apple", "xyzzy"]) == [PLANS[1], PLANS[2], PLANS[0]]
    assert nearest.plans([]) == []


def test_scores_of_bm25_are_those_of_its_formula():
    nearest = NearestGoal(["mug bed", "mug mug pen"], PLANS[:2])
    rarity = math.log(1 + 0.5 / 2.5)  # both of two sentences have "mug"
    tf, length, mean = 2, 3, 2.5
    expected = rarity * tf * 2.5 / (tf + 1.5 * (0.25 + 0.75 * length / mean))
    assert nearest._weight[1, nearest._column["mug"]] == pytest.approx(expected)


def test_the_most_frequent_plan_is_given_whatever_is_asked():
    assert MostFrequent(PLANS).plans(["a", "b"]) == [moved("apple", "desk", "fridge")] * 2


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


def test_baselines_without_plans_are_refused():
    for make in (
        lambda: MostFrequent([]),
        lambda: Template([]),
        lambda: NearestGoal([], []),
        lambda: NearestGoal(["a"], []),
    ):
        with pytest.raises(InputError):
            make()


def test_a_step_is_said_as_most_people_say_it_and_walks_in_plain_words():
    take, go = Step("PickupObject", "mug"), Step("GotoLocation", "bed")
    told = [("grab it", take), ("pick up the mug", take), ("pick up the white mug", take), ("turn left, go", go)]
    words = StepWords.of(told)
    assert words.say((take, go, Step("PickupObject", "pen"))) == ["pick up the mug", "go to the bed", "pick up the pen"]
    assert StepWords.from_json(words.to_json()).say((take,)) == ["pick up the mug"]
    assert most_typical(["b", "a", "a"]) == "a"
    with pytest.raises(InputError, match="rows of action"):
        StepWords.from_json([1])


def test_words_in_common_are_counted_as_often_as_both_have_them():
    assert word_f1("pick up the mug", "Pick up the mug!") == 1
    assert word_f1("the the mug", "the cup") == pytest.approx(2 * 1 / 5)
    assert word_f1("a", "b") == 0
