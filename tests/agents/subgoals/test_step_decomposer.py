"""Steps as a plan in a home."""

import numpy as np
import pytest

from agents.subgoals.step_decomposer import plan_in
from agents.subgoals.step_sequences import Step
from agents.subgoals.types import Test as Truth
from core.errors import InputError
from scene.types import Scene, SceneObject
from tests.agents.subgoals.test_step_metrics import moved


def home(*labels: str) -> Scene:
    box = np.array([0.0, 0, 0, 1, 1, 1, 0])
    return Scene("home", "toy", [SceneObject(id=k, label=label, box=box) for k, label in enumerate(labels)])


def test_a_plan_in_a_home_has_tests_where_the_home_can_tell():
    steps = (*moved("mug", "sofa", "alarmclock")[:2], Step("HeatObject", "mug"), *moved("mug", "sofa")[2:])
    plan = plan_in(home("mug", "alarm clock", "sofa", "mug"), "warm it", steps, [step.words for step in steps])
    tests = [subgoal.test for subgoal in plan.subgoals]
    assert tests == [
        Truth("reach", (1,)),
        Truth("hold", (0, 3)),
        None,
        Truth("reach", (2,)),
        Truth("rest", (0, 3), (2,)),
    ]
    assert plan.subgoals[2].text == "heat the mug"
    assert plan.source == "model"
    with pytest.raises(InputError, match="there is no sofa in this scene"):
        plan_in(home("mug", "alarm clock"), "warm it", steps, [step.words for step in steps])
    with pytest.raises(InputError, match="41 steps; at most 40"):
        plan_in(home("mug"), "take it", (Step("PickupObject", "mug"),) * 41, ["take it"] * 41)
