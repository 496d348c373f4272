"""What every task keeps to, whatever it is about."""

from functools import cache

import pytest
from scipy.ndimage import label

from core.errors import InputError
from envs.episode_sets import MANIFEST
from envs.expert import Expert
from envs.interaction import reach_region
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.tasks import TASKS, make_task
from scene.datasets.procedural import HomeConfig, generate_home
from scene.types import Room
from tests.envs.homes import make_home, wall
from tests.envs.test_rearrange import home_with

# a wall without a door at x = 3; both halves have things to go to, to carry, and to put them on
DIVIDED = [
    ("bed", "blue", 0.7, 2.3, 0.8, 0.8, 0.6),
    ("desk", "red", 0.8, 0.7, 0.8, 0.8, 0.7),
    ("shelf", "blue", 2.5, 2.6, 0.6, 0.4, 0.7),
    ("bed", "green", 7.2, 2.3, 0.8, 0.8, 0.6),
    ("table", "green", 7.2, 0.7, 0.8, 0.8, 0.7),
    ("table", "red", 4.0, 0.7, 0.8, 0.8, 0.7),
    ("bed", "red", 4.0, 2.3, 0.8, 0.8, 0.6),
]
MUGS = [("mug", "blue", 1.0, 0.7), ("mug", "green", 7.0, 0.7)]


@cache
def pool(interactive):
    homes = [
        home_with(DIVIDED, MUGS, width=8.0, walls=[wall(3, 0, 3, 3)]),
        *(generate_home(seed, HomeConfig(rooms_max=2)) for seed in range(2)),
    ]
    return HomePool(homes, interactive=interactive)


@cache
def simulator(name):
    return Simulator(pool(name == "rearrange"), name, 24, seed=7, sensors=None, max_steps=200)


@pytest.mark.parametrize("name", TASKS)
def test_every_stage_of_every_offered_goal_can_be_walked_to_from_every_drawn_start(name):
    sim = simulator(name)
    state = sim.reset()
    regions, walkable = (
        {},
        {home.name: label(home.grid.free)[0] for home in sim.homes.homes},
    )  # 4-connected: a slower way
    for row in range(len(state)):
        home, goal = sim.homes[int(state.home[row])], sim.goal(state, row)
        parts = walkable[home.name]
        here = parts[tuple(home.grid.cells(state.position[row].numpy()))]
        assert here > 0
        for stage in goal.stages:
            if (home.name, stage) not in regions:
                regions[home.name, stage] = (
                    sim.task.region(home, stage)
                    if stage.kind == "reach"
                    else reach_region(home, stage.objects)
                    if stage.kind == "hold"
                    else reach_region(home, stage.on, place=stage.objects[0])
                )
            assert (parts[regions[home.name, stage]] == here).any()
    assert len(regions) > 8


@pytest.mark.parametrize("name", [name for name in TASKS if name != "point_goal"])
def test_nothing_behind_a_wall_is_ever_a_goal(name):
    home, items = simulator(name).homes[0], simulator(name).homes[0].scene.objects
    assert home.scene.id == "hands"

    def sides(goal):
        return {bool(items[k].box[0] > 3) for stage in goal.stages for k in (*stage.objects, *stage.on)}

    offered, all_there_are = simulator(name).fields.goals[0], simulator(name).task.goals(home)
    assert {frozenset(sides(goal)) for goal in offered} == {frozenset({True})}  # the larger part is the one to walk in
    if name != "follow_instruction":  # which only looks at places that can be reached
        assert any(False in sides(goal) for goal in all_there_are)


@pytest.mark.parametrize("name", TASKS)
def test_goals_are_numbered_alike_wherever_the_home_is_met(name):
    sim = simulator(name)
    alone = HomePool.of(sim.homes.homes[1:2], goal_labels=sim.homes.goal_labels)
    assert sim.task.goals(alone[0]) == sim.task.goals(sim.homes[1])
    assert len(set(sim.task.goals(alone[0]))) == len(sim.task.goals(alone[0])) > 0


@pytest.mark.parametrize("name", TASKS)
def test_the_oracle_succeeds(name):
    sim = simulator(name)
    oracle, state = Expert(sim), sim.reset()
    while not bool(state.done.all()):
        state, step = sim.step(state, oracle(state))
    assert step.metrics["success"].tolist() == [1.0] * sim.num_envs
    assert step.metrics["spl"].mean().item() > 0.9 and (step.metrics["spl"] <= 1.0).all()
    assert (step.metrics["subgoals"] == 1.0).all() and (step.metrics["distance_to_goal_m"] == 0.0).all()


@pytest.mark.parametrize("name", TASKS)
def test_a_manifest_is_enough_to_make_a_task_that_finds_its_goals(name):
    task = TASKS[name].from_manifest(MANIFEST)
    assert TASKS[name].from_manifest(MANIFEST) == task
    offered = {goal.text for goal in task.goals(pool(name == "rearrange")[1])}
    assert offered and (not task.vocabulary or offered <= set(task.vocabulary))


def test_names_of_tasks_that_do_not_exist_are_refused():
    with pytest.raises(InputError, match="follow_instruction"):
        make_task("follow_instructions", pool(False))


def test_a_thing_on_another_storey_is_no_goal_here():
    ground = make_home("stairs", 5.0, 4.0, [("bed", "blue", 0.8, 2.0, 0.8, 0.8, 0.6)])
    above = [("bed", "red", 4.2, 2.0, 0.8, 0.8, 0.6, 3.0), ("sofa", "red", 0.8, 2.0, 0.8, 0.8, 0.6, 3.0)]
    scene = make_home("stairs", 5.0, 4.0, [("bed", "blue", 0.8, 2.0, 0.8, 0.8, 0.6), *above])
    scene.rooms.append(Room(1, "bedroom", ground.rooms[0].polygon, floor_z=3.0))
    for item in scene.objects[1:]:
        item.room = 1
    lower = next(home for home in HomePool([scene]).homes if home.floor_z == 0.0)
    task = make_task("find_object", HomePool([scene]))
    regions = {goal.text: task.region(lower, goal.stages[0]).any() for goal in task.goals(lower)}
    assert regions == {"find the blue bed": True, "find the red bed": False, "find the red sofa": False}
