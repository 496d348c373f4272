"""FollowInstruction: routes in order, and their metrics on a corridor worked out by hand."""

import numpy as np
import pytest
import torch

from core.errors import InputError
from envs.expert import Expert
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import FORWARD, STOP, TURN_LEFT
from envs.tasks.follow_instruction import FollowInstruction
from scene.datasets.procedural import generate_home
from tests.envs.homes import make_home
from tests.envs.test_rearrange import DESK, MUG, TABLE, home_with

BED = ("bed", "blue", 0.8, 1.5, 0.8, 0.8, 0.6)  # reached from x = 2.175, 1 m from its footprint, westwards
ROUND = ("table", "green", 5.2, 1.5, 0.8, 0.8, 0.7)  # reached from x = 3.825 eastwards


def corridor(things=(BED, ROUND)):
    sim = Simulator(HomePool([make_home("corridor", 6.0, 3.0, things)]), "follow_instruction", 1, sensors=None)
    there = "go to the bed, and stop at the table"
    goal = next(k for k, goal in enumerate(sim.fields.goals[0]) if goal.text == there)
    zero = np.zeros(1, np.int64)

    def at(x, yaw):
        return sim.placed(zero, zero, zero, zero, np.array([goal]), np.array([[x, 1.525]]), np.array([yaw]))

    return sim, at


def run(sim, state, actions):
    for action in actions:
        state, step = sim.step(state, torch.tensor([action]))
    return state, {name: value.item() for name, value in step.metrics.items()}


def test_both_places_in_order_and_a_stop_at_the_last():
    sim, at = corridor()
    start = at(3.025, -np.pi)
    assert start.start_distance.item() == pytest.approx(0.85 + 1.65)
    state, metrics = run(sim, start, [FORWARD] * 4)  # to 2.025
    assert state.stage.item() == 1 and metrics["subgoals"] == 0.5 and state.distance.item() == pytest.approx(1.8)
    _, metrics = run(sim, state, [TURN_LEFT] * 6 + [FORWARD] * 8 + [STOP])  # to 4.025
    expected = dict(  # noqa: C408
        success=1, spl=2.5 / 3, soft_spl=2.5 / 3, distance_to_goal_m=0, path_length_m=3, collisions=0, subgoals=1
    )
    assert metrics == pytest.approx(expected)


def test_the_last_place_first_does_not_count():
    sim, at = corridor()
    _, metrics = run(sim, at(3.025, 0.0), [FORWARD] * 4 + [STOP])  # to 4.025, beside the table
    left = (4.025 - 2.175) + 1.65
    expected = dict(  # noqa: C408
        success=0, spl=0, soft_spl=0, distance_to_goal_m=left, path_length_m=1, collisions=0, subgoals=0
    )
    assert metrics == pytest.approx(expected)


def test_an_agent_that_is_put_at_the_first_place_has_passed_it():
    _, at = corridor()
    state = at(1.525, 0.0)
    assert state.stage.item() == 1 and state.start_distance.item() == pytest.approx(3.825 - 1.525)


def test_no_episode_is_drawn_at_its_first_place():
    pool = HomePool([generate_home(seed) for seed in range(2)])
    sim = Simulator(pool, "follow_instruction", 200, seed=4, sensors=None)
    state = sim.reset()
    assert (state.stage == 0).all()
    for home, position, row in zip(state.home.tolist(), state.position.numpy(), range(200)):
        first = sim.task.region(pool[home], sim.goal(state, row).stages[0])
        assert not first[tuple(pool[home].grid.cells(position))]


def test_sentences_name_distinct_things_that_nothing_else_is_called():
    pool = HomePool([generate_home(seed) for seed in range(3)])
    task = FollowInstruction.from_pool(pool)
    for home in pool.homes:
        goals = task.goals(home)
        assert len(goals) == 16 and task.goals(home) == goals
        assert {len(goal.stages) for goal in goals} == {2, 3, 4}
        for goal in goals:
            route = [stage.objects[0] for stage in goal.stages]
            assert len(set(route)) == len(route)
            names = (
                goal.text.removeprefix("go to the ")
                .replace(", and stop at the ", ", then to the ")
                .split(", then to the ")
            )
            for name, index in zip(names, route, strict=True):
                fits = [i for i in home.scene.objects if name in (i.label, f"{i.attributes.get('color')} {i.label}")]
                assert [item.id for item in fits] == [index]
            for a, b in zip(goal.stages[:-1], goal.stages[1:]):
                assert not (task.region(home, a) & task.region(home, b)).any()


def test_errands_carry_something_along_the_way_and_the_oracle_does():
    things = [DESK, TABLE, ("bed", "blue", 3.0, 0.4, 0.8, 0.6, 0.6)]
    pool = HomePool([home_with(things, [MUG])], interactive=True)
    task = FollowInstruction(errands=True)
    assert task.interactive and not FollowInstruction().interactive
    errands = [goal for goal in task.goals(pool[0]) if "take the mug and put it on the table" in goal.text]
    assert errands and all([stage.kind for stage in goal.stages][1:3] == ["hold", "rest"] for goal in errands)
    sim = Simulator(pool, task, 20, seed=2, sensors=None, max_steps=150)
    oracle, state = Expert(sim), sim.reset()
    carrying = [k for k in range(20) if "take" in sim.goal(state, k).text]
    while not bool(state.done.all()):
        state, step = sim.step(state, oracle(state))
    assert step.metrics["success"].tolist() == [1.0] * 20 and carrying
    assert (state.world.support[carrying] == 1).all()


def test_routes_of_one_place_are_refused():
    with pytest.raises(InputError, match="two objects or more"):
        FollowInstruction(lengths=(1, 2))
    with pytest.raises(InputError, match="at least one route"):
        FollowInstruction(routes=0)
