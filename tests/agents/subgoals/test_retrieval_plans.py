"""The nearest goal's plan, and the most common one."""

import math

import pytest

from agents.subgoals.retrieval_plans import MostFrequent, NearestGoal
from core.errors import InputError
from tests.agents.subgoals.test_step_metrics import moved

PLANS = [moved("mug", "bed"), moved("pen", "bed"), moved("apple", "desk", "fridge"), moved("apple", "desk", "fridge")]


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


def test_nothing_to_choose_from_is_refused():
    for make in (lambda: MostFrequent([]), lambda: NearestGoal([], []), lambda: NearestGoal(["a"], [])):
        with pytest.raises(InputError):
            make()
