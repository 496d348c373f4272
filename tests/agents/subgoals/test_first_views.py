"""Pictures to plan by: decided by home and goal alone."""

import numpy as np

from agents.subgoals.first_views import CAMERA, first_views, pictured_example
from envs.pool import HomePool
from envs.simulator import Simulator
from tests.envs.homes import three_homes


def test_a_goals_picture_is_the_same_whatever_homes_and_environments_are_beside():
    homes = three_homes()
    many = Simulator(HomePool(homes), num_envs=2, seed=3)
    alone = Simulator(HomePool(homes[1:2]), num_envs=5, seed=8)
    goals = len(alone.fields.goals[0])
    one = first_views(many, [(1, goal) for goal in range(goals)])
    two = first_views(alone, [(0, goal) for goal in range(goals)])
    assert len(one) == goals > 1 and one[0].shape == (CAMERA.height, CAMERA.width, 3)
    assert all(np.array_equal(a, b) for a, b in zip(one, two))
    assert not np.array_equal(one[0], one[1])


def test_the_worked_example_has_steps_and_a_picture_of_its_own():
    example = pictured_example()
    assert example.task == "go to the floor lamp, and stop at the wardrobe"
    assert example.steps == ("enter the bedroom", "go to the floor lamp", "go to the wardrobe")
    assert example.picture is not None and example.picture.std() > 20
    assert pictured_example() is example
