"""The oracle's next action in a hand-made home."""

import pytest

from agents.reasoning.action_questions import next_actions
from tests.envs.homes import make_home

THINGS = [("armchair", "red", 5.4, 3.4, 0.8, 0.8, 0.9), ("sofa", "blue", 0.7, 2.0, 0.9, 1.8, 0.8)]


@pytest.fixture(scope="module")
def played():
    return next_actions(make_home("home", 6.0, 4.0, THINGS), {"goal_labels": ["armchair", "sofa"]}, 12, 0, 64, 90.0)


def test_the_goal_is_in_sight_and_on_the_side_the_action_turns_to(played):
    asked, views = played
    answers = set()
    for one, view in zip(asked, views, strict=True):
        label = "armchair" if "find the red armchair" in one.sample.prompt else "sofa"
        goal = next(thing for thing in view.sure if thing.label == label)
        low, high = {"turn left": (0, 0.33), "turn right": (0.67, 1), "forward": (0.4, 0.6), "stop": (0, 1)}[
            one.sample.answer
        ]
        assert low <= goal.column <= high and one.sample.pictures == (f"{view.name}.png",)
        assert (goal.distance_m <= 1.0) == (one.sample.answer == "stop") and one.sample.choices[0] == "stop"
        answers.add(one.sample.answer)
    assert {"forward", "stop"} < answers


def test_a_home_without_goals_gives_no_questions():
    assert next_actions(make_home("home", 6.0, 4.0, THINGS), {"goal_labels": ["piano"]}, 2, 0, 64, 90.0) == ([], [])
