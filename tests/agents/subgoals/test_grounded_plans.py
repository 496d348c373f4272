"""Facts about agents/subgoals/grounded_plans.py, with a reader that knows "find the X" and "take the X"."""

import pytest

from agents.subgoals.asked_plans import AskedPlans
from agents.subgoals.grounded_plans import GroundedPlans
from agents.subgoals.types import Plan, Subgoal
from agents.subgoals.types import Test as DoneWhen  # pytest would collect a class named Test
from core.errors import InputError
from tests.agents.subgoals.asked_models import Scripted, home


def reader(sentence, scene, view=None):
    """A step for each clause; "it" is what the clause before was about."""
    steps, thing = [], ""
    for clause in sentence.split(", then "):
        verb, _, name = clause.partition(" the ")
        thing = name or thing
        found = tuple(item.id for item in scene.objects if item.label == thing)
        if verb.removesuffix(" it") not in ("find", "take") or not found:
            raise InputError(f"cannot read {clause!r}")
        steps.append(Subgoal(clause, DoneWhen("reach" if verb == "find" else "hold", found)))
    return Plan(sentence, tuple(steps), "symbolic")


def asked(*steps):
    """A decomposer whose model gives these steps."""
    answer = "\n".join(f"{k}. {step}" for k, step in enumerate(steps, 1))
    return AskedPlans(Scripted(lambda *given: answer), sight="task")


def test_steps_in_words_get_tests_and_stay_the_models():
    plan = GroundedPlans(asked("find the bed.", "take the chair"), reader)("tidy up", home())
    steps = Subgoal("find the bed", DoneWhen("reach", (0,))), Subgoal("take the chair", DoneWhen("hold", (1, 2)))
    assert plan == Plan("tidy up", steps, "model")


def test_a_step_is_read_after_those_before_it():
    plan = GroundedPlans(asked("find the chair", "take it"), reader)("tidy up", home())
    assert plan.subgoals[1].test == DoneWhen("hold", (1, 2))


def test_steps_that_nobody_can_test_are_left_out_and_counted():
    grounded = GroundedPlans(asked("look around", "find the bed", "take the dragon", "take it", "ponder"), reader)
    assert [step.text for step in grounded("tidy up", home()).subgoals] == ["find the bed", "take it"]
    assert grounded.counts.summary() == {"grounded": 2, "left_out": 3, "bare": 0}


def test_a_plan_without_one_readable_step_is_the_goal_alone():
    grounded = GroundedPlans(asked("ponder", "look around"), reader)
    assert grounded("tidy up", home()) == Plan("tidy up", (Subgoal("tidy up"),), "model")
    assert grounded.counts.summary() == {"grounded": 0, "left_out": 2, "bare": 1}


def test_goals_alone_and_plans_with_tests_pass_as_they_are():
    alone = GroundedPlans(AskedPlans(Scripted(lambda *given: "no"), sight="task"), reader)
    assert alone("find the bed", home()) == Plan("find the bed", (Subgoal("find the bed"),), "fallback")
    tested = GroundedPlans(reader, reader)
    assert tested("find the bed, then take it", home()) == reader("find the bed, then take it", home())
    assert alone.counts.summary() == tested.counts.summary() == {"grounded": 0, "left_out": 0, "bare": 0}


def test_what_the_decomposer_refuses_is_refused():
    with pytest.raises(InputError, match="cannot read 'ponder'"):
        GroundedPlans(reader, reader)("ponder", home())


def test_plans_asked_for_together_go_to_the_model_together():
    model = Scripted(lambda prompt, *given: "1. find the chair" if "TASK: sit\n" in prompt else "1. find the bed")
    calls, generate = [], model.generate
    model.generate = lambda prompts, **options: calls.append(len(prompts)) or generate(prompts, **options)
    grounded = GroundedPlans(AskedPlans(model, sight="task"), reader)
    plans = grounded.plans(["sit", "sleep"], [home()] * 2, [None] * 2)
    assert [plan.subgoals[0].test.objects for plan in plans] == [(1, 2), (0,)]
    assert calls == [2]
