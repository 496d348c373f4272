"""Facts about agents/subgoals/plan_cache.py."""

import json

import pytest

from agents.subgoals.plan_cache import BatchDecomposer, RememberedPlans, plans_of
from agents.subgoals.types import Plan, Subgoal
from agents.subgoals.types import Test as DoneWhen  # pytest would collect a class named Test
from core.errors import InputError
from envs.goals import Goal, Stage
from tests.agents.subgoals.asked_models import home

MUG = Goal("find the mug", (Stage("reach", objects=(0,)),))
OTHER_MUG = Goal("find the mug", (Stage("reach", objects=(1,)),))


class Counting:
    """A decomposer whose plans say which call they came from."""

    def __init__(self, source="symbolic"):
        self.calls, self.source = [], source

    def __call__(self, goal, scene, view=None):
        self.calls.append((goal, scene.id, view))
        return Plan("find the mug", (Subgoal(f"step {len(self.calls)}"),), self.source)


class CountingBatches(Counting):
    def plans(self, goals, scenes, views):
        self.calls.append(list(goals))
        return [Plan(str(goal), (), self.source) for goal in goals]


def test_a_goal_in_a_home_is_planned_once_whatever_is_seen_later():
    inner = Counting()
    plans = RememberedPlans(inner)
    first = plans(MUG, home("a"), "first view")
    assert plans(MUG, home("a"), "later view") is first
    assert inner.calls == [(MUG, "a", "first view")]


def test_other_homes_sentences_and_objects_are_other_plans():
    inner = Counting()
    plans = RememberedPlans(inner)
    wanted = [(MUG, home("a")), (MUG, home("b")), (OTHER_MUG, home("a")), ("find the mug", home("a"))]
    assert [plans(*pair).subgoals[0].text for pair in wanted * 2] == [f"step {k}" for k in (1, 2, 3, 4)] * 2


def test_new_goals_are_planned_together_and_equal_ones_once():
    inner = CountingBatches()
    plans = RememberedPlans(inner)
    plans("a", home())
    got = plans.plans(["b", "a", "c", "b"], [home()] * 4, [None] * 4)
    assert [plan.goal for plan in got] == ["b", "a", "c", "b"]
    assert inner.calls == [["a"], ["b", "c"]]
    assert isinstance(inner, BatchDecomposer) and not isinstance(Counting(), BatchDecomposer)


def test_plans_that_fell_back_can_be_asked_for_again():
    inner = Counting("fallback")
    plans = RememberedPlans(inner)
    plans(MUG, home("a"))
    inner.source = "model"
    plans(MUG, home("b"))
    assert plans.forget("fallback") == 1
    assert [plans(MUG, home(name)).source for name in "ab"] == ["model", "model"]
    assert plans.forget("fallback") == 0


def test_a_resumed_run_goes_on_with_the_plans_it_had():
    tests = (
        DoneWhen("reach", objects=(3,)),
        DoneWhen("reach", place=(1.5, -2.0)),
        DoneWhen("rest", objects=(1, 2), on=(4,)),
        DoneWhen("enter", room=0),
        DoneWhen("open", objects=(0,)),
        None,
    )
    plan = Plan("tidy up", tuple(Subgoal(f"step {k}", test) for k, test in enumerate(tests)), "oracle")
    before = RememberedPlans(lambda goal, scene, view: plan)
    before(MUG, home("a"))
    inner = Counting()
    after = RememberedPlans(inner)
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert after(MUG, home("a")) == plan and not inner.calls
    assert after.state_dict() == before.state_dict()


def test_after_an_error_nothing_half_done_is_known():
    def inner(goal, scene, view):
        if goal == "b":
            raise InputError("no b here")
        return Plan(goal, (), "symbolic")

    plans = RememberedPlans(inner)
    with pytest.raises(InputError, match="no b here"):
        plans.plans(["a", "b", "c"], [home()] * 3, [None] * 3)
    assert not plans.known
    assert plans("a", home()).goal == "a"


def test_known_goals_alone_ask_nobody():
    inner = CountingBatches()
    plans = RememberedPlans(inner)
    plans("a", home())
    plans.plans(["a", "a"], [home()] * 2, [None] * 2)
    assert inner.calls == [["a"]]


def test_what_is_not_saved_plans_is_refused():
    plans = RememberedPlans(Counting())
    for saved in (
        {"a": {"goal": "x"}},
        {"a": 3},
        ["a"],
        {"a": {"goal": "x", "source": "y", "subgoals": [{"text": "z"}]}},
    ):
        with pytest.raises(InputError, match="no saved plans"):
            plans.load_state_dict(saved)
    for asked in (plans.plans, lambda *given: plans_of(Counting(), *given)):
        with pytest.raises(InputError, match="1 goals, 0 scenes"):
            asked(["a"], [], [])
