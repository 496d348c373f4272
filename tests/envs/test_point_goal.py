"""PointGoal: points of a floor plan, and Habitat's metrics of a walk worked out by hand."""

import numpy as np
import pytest
import torch

from core.errors import InputError
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import FORWARD, STOP, TURN_LEFT
from envs.tasks.point_goal import PointGoal
from tests.envs.homes import make_home, three_homes

EMPTY = make_home("empty", 6.0, 3.0)


def beside(sim, goal, dx, yaw):
    """The state of an agent that starts dx metres east of a goal's point."""
    (stage,) = sim.fields.goals[0][goal].stages
    zero = np.zeros(1, np.int64)
    start = np.array([[stage.place[0] + dx, stage.place[1]]])
    return sim.placed(zero, zero, zero, zero, np.array([goal]), start, np.array([yaw]))


def western(sim):
    """The number of the goal furthest west: there is room to its east."""
    return min(range(len(sim.fields.goals[0])), key=lambda g: sim.fields.goals[0][g].stages[0].place[0])


def run(sim, state, actions):
    for action in actions:
        state, step = sim.step(state, torch.tensor([action]))
    return {name: value.item() for name, value in step.metrics.items()}


def test_a_walk_and_its_metrics():
    # points are middles of cells; success within 0.225 m, so from 2 m away 1.8 m are to be walked to the cell at 0.2 m
    sim = Simulator(HomePool([EMPTY]), PointGoal(success_radius_m=0.225), 1, sensors=None)
    start = beside(sim, western(sim), 2.0, -np.pi)
    assert start.start_distance.item() == pytest.approx(1.8)
    metrics = run(sim, start, [FORWARD] * 8 + [STOP])  # 2 m: right onto the point
    expected = dict(success=1, spl=0.9, soft_spl=0.9, distance_to_goal_m=0, path_length_m=2, collisions=0, subgoals=1)  # noqa: C408
    assert metrics == pytest.approx(expected)
    metrics = run(sim, start, [TURN_LEFT, TURN_LEFT, TURN_LEFT] * 4 + [FORWARD] * 4 + [STOP])  # 0.8 m short
    expected = dict(  # noqa: C408
        success=0, spl=0, soft_spl=1 - 0.8 / 1.8, distance_to_goal_m=0.8, path_length_m=1, collisions=0, subgoals=0
    )
    assert metrics == pytest.approx(expected)


def test_points_are_spread_over_the_floor_and_belong_to_the_home():
    pool = HomePool(three_homes())
    task = PointGoal(points=16)
    goals = task.goals(pool[0])
    assert len(goals) == 16 and goals == task.goals(HomePool(three_homes()[:1])[0])
    places = np.array([goal.stages[0].place for goal in goals])
    assert pool[0].grid.is_free(places).all() and len(np.unique(places.round(3), axis=0)) == 16
    assert places[:, 1].min() < 1.0 and places[:, 1].max() > 3.0  # of 4 m
    assert {goal.text for goal in goals}.isdisjoint(goal.text for goal in task.goals(pool[1]))
    with pytest.raises(InputError, match="at least 1"):
        PointGoal(points=0)


def test_success_is_a_disc_around_the_point():
    home = HomePool([EMPTY])[0]
    task = PointGoal(success_radius_m=0.5)
    goal = min(task.goals(home), key=lambda g: np.hypot(g.stages[0].place[0] - 3, g.stages[0].place[1] - 1.5))
    cells = np.argwhere(task.region(home, goal.stages[0]))
    away = np.hypot(*(home.grid.centers(cells) - goal.stages[0].place).T)
    assert away.max() <= 0.5 and len(cells) * home.grid.cell_m**2 == pytest.approx(np.pi * 0.25, rel=0.05)
