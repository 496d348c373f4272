"""The rules of FindObject on hand-made homes."""

import numpy as np
import pytest
import torch

from core.errors import InputError
from envs.goals import Goal, GoalFields, Stage
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import FORWARD, STOP
from envs.tasks import make_task
from envs.tasks.find_object import FindObject
from tests.envs.homes import make_home, three_homes, wall

SOFA = ("sofa", "blue", 5.5, 1.5, 0.8, 0.8, 0.8)  # footprint x 5.1..5.9, y 1.1..1.9


def corridor(sensors=None, max_steps=100):
    """A 6 x 3 m room with one blue sofa at its right end."""
    pool = HomePool([make_home("corridor", 6.0, 3.0, [SOFA])])
    return Simulator(pool, "find_object", 1, sensors=sensors, max_steps=max_steps)


def at(sim, x, y, yaw):
    """The simulator's state with its agent put somewhere."""
    index = np.zeros(1, np.int64)
    return sim.placed(index, index, index, index, index, np.array([[x, y]]), np.array([yaw]))


def run(sim, state, actions):
    rewards = []
    for action in actions:
        state, step = sim.step(state, torch.tensor([action]))
        rewards.append(step.reward.item())
    return state, step, rewards


def test_walking_straight_up_and_stopping_is_a_perfect_episode():
    sim = corridor()
    start = at(sim, 2.125, 1.525, 0.0)  # success from x > 4.1: 1.0 m left of the footprint, to the middle of a cell
    assert start.start_distance.item() == pytest.approx(2.0)
    state, step, rewards = run(sim, start, [FORWARD] * 8 + [STOP])
    assert step.terminated.item() and not step.truncated.item()
    metrics = {name: value.item() for name, value in step.metrics.items()}
    expected = dict(success=1, spl=1, soft_spl=1, distance_to_goal_m=0, path_length_m=2, collisions=0, subgoals=1)  # noqa: C408
    assert metrics == pytest.approx(expected)
    assert rewards == pytest.approx([0.24] * 8 + [2.49])


def test_a_detour_lowers_spl_to_shortest_over_walked():
    sim = corridor()
    there_and_back = [FORWARD] * 2 + [2] * 6 + [FORWARD] * 2 + [2] * 6
    _, step, rewards = run(sim, at(sim, 2.125, 1.525, 0.0), there_and_back + [FORWARD] * 8 + [STOP])
    assert step.metrics["path_length_m"].item() == pytest.approx(3.0)
    assert step.metrics["spl"].item() == pytest.approx(2 / 3, rel=1e-3)
    assert sum(rewards) == pytest.approx(2.0 + 2.5 - 0.01 * len(rewards), abs=0.02)


def test_stopping_elsewhere_ends_without_bonus():
    sim = corridor()
    state, step, rewards = run(sim, at(sim, 2.125, 1.525, 0.0), [FORWARD, STOP])
    assert step.terminated.item() and rewards[-1] == pytest.approx(-0.01)
    assert step.metrics["success"].item() == 0 and step.metrics["soft_spl"].item() == pytest.approx(0.125, abs=0.001)


def test_standing_in_the_right_place_is_no_success_before_the_stop():
    _, step, _ = run(corridor(), at(corridor(), 2.125, 1.525, 0.0), [FORWARD] * 8)
    assert step.metrics["distance_to_goal_m"].item() == 0 and step.metrics["success"].item() == 0
    assert not step.terminated.item()


def test_the_time_limit_truncates_but_a_stop_at_the_limit_terminates():
    sim = corridor(max_steps=2)
    _, late, _ = run(sim, at(sim, 2.125, 1.525, 0.0), [FORWARD, FORWARD])
    _, stopped, _ = run(sim, at(sim, 2.125, 1.525, 0.0), [FORWARD, STOP])
    assert (late.truncated.item(), late.terminated.item()) == (True, False)
    assert (stopped.truncated.item(), stopped.terminated.item()) == (False, True)


def test_success_needs_to_be_on_the_same_side_of_a_wall():
    # a wall at x = 3 with the sofa right behind it; a way round at the top
    home = make_home("walled", 6, 4, [("sofa", "blue", 3.5, 1.0, 0.8, 0.8, 0.8)], walls=[wall(3, 0, 3, 3)])
    pool = HomePool([home])
    task = make_task("find_object", pool)
    (goal,) = task.goals(pool[0])
    region = task.region(pool[0], goal.stages[0])
    near_side = pool[0].grid.cells(np.array([[2.7, 1.0], [4.3, 1.0]]))
    assert pool[0].grid.free[tuple(near_side.T)].all()
    assert region[tuple(near_side.T)].tolist() == [False, True]


def test_starts_lie_in_the_range_and_goals_in_the_home():
    pool = HomePool(three_homes())
    sim = Simulator(pool, "find_object", 300, seed=4, sensors=None)
    state = sim.reset()
    low, high = sim.task.start_range_m
    assert (state.start_distance > low).all() and (state.start_distance <= high + 1e-9).all()
    for row, home in enumerate(state.home.tolist()):
        goal = sim.goal(state, row)
        assert goal in sim.task.goals(pool[home]) and sim.texts[state.text[row]] == goal.text
        items = [pool[home].scene.objects[k] for k in goal.stages[0].objects]
        assert {(item.label, item.attributes["color"]) for item in items} == {(goal.label, goal.color)}
    assert len(set(zip(state.home.tolist(), state.goal.tolist()))) == 6  # every pair there is


def test_a_goal_that_nobody_can_walk_to_is_never_drawn():
    # the green table stands in a closed-off part; the red armchair is reachable
    things = [("table", "green", 5.2, 2.0, 0.8, 0.8, 0.7), ("armchair", "red", 0.6, 0.6, 0.8, 0.8, 0.9)]
    pool = HomePool([make_home("split", 6, 4, things, walls=[wall(3.6, 0, 3.6, 4)])])
    sim = Simulator(pool, "find_object", 100, sensors=None)
    assert {sim.texts[k] for k in sim.reset().text.tolist()} == {"find the red armchair"}


def test_an_empty_colour_accepts_any():
    pool = HomePool(three_homes())
    task = FindObject((("armchair", ""), ("armchair", "red")))
    assert task.goals(pool[1]) == [
        Goal("find the armchair", (Stage("reach", (0, 1)),), "armchair", ""),
        Goal("find the red armchair", (Stage("reach", (1,)),), "armchair", "red"),
    ]


def test_a_manifest_gives_every_pair_of_label_and_colour():
    task = FindObject.from_manifest({"goal_labels": ["sofa", "bed"], "palette": {"red": 0, "blue": 0}})
    assert task.vocabulary == tuple(f"find the {phrase}" for phrase in ("blue bed", "red bed", "blue sofa", "red sofa"))
    with pytest.raises(InputError, match="goal_labels and palette"):
        FindObject.from_manifest({})


def test_homes_without_a_goal_are_counted_and_all_without_is_an_error():
    bare = make_home("bare", 4, 4)
    pool = HomePool([bare, three_homes()[1]])
    with pytest.warns(UserWarning, match="1 of 2 homes offer no reachable goal: bare"):
        sim = Simulator(pool, "find_object", 20, sensors=None)
    assert set(sim.reset().home.tolist()) == {1}
    with pytest.raises(InputError, match="home-b"):
        Simulator(HomePool([three_homes()[1]]), FindObject((("sofa", "red"),)), 1)


def test_dropped_fields_are_made_again_to_the_same_values():
    pool = HomePool(three_homes())
    task = make_task("find_object", pool)
    roomy = Simulator(pool, task, 2, seed=3, sensors=None)
    cell_bytes = 2 * roomy.fields.cells_per_slot
    tight = Simulator(pool, task, 2, seed=3, sensors=None, fields=GoalFields(pool, task, max_bytes=2 * cell_bytes))
    assert tight.fields.capacity == 2
    one, two = roomy.reset(), tight.reset()
    for _ in range(30):
        one, two = roomy.reset(one), tight.reset(two)
        assert one.start_distance.tolist() == two.start_distance.tolist()
        assert one.position.tolist() == two.position.tolist()
    crowd = Simulator(pool, task, 40, seed=3, sensors=None, fields=tight.fields)
    with pytest.raises(InputError, match="raise max_bytes"):
        crowd.reset()


def test_unknown_tasks_and_repeated_goals_are_refused():
    with pytest.raises(InputError, match="find_object"):
        make_task("find_objects", HomePool(three_homes()))
    with pytest.raises(InputError, match="once"):
        FindObject((("sofa", "red"), ("sofa", "red")))
