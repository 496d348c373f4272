"""Rearrange: hand-made episodes of picking up, carrying, and putting down."""

import numpy as np
import pytest
import torch

from core.errors import InputError
from envs.goals import GoalFields
from envs.layout import layout_of
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import FORWARD, STOP, TURN_LEFT
from envs.tasks.common import names
from envs.tasks.rearrange import Rearrange
from tests.envs.homes import make_home

PICK, PLACE = 4, 5  # numbers of the actions here: no tilt, so hands follow the four of walking
DESK = ("desk", "red", 0.8, 1.5, 0.8, 0.8, 0.7)  # footprint x 0.4..1.2
TABLE = ("table", "green", 5.2, 1.5, 0.8, 0.8, 0.7)  # footprint x 4.8..5.6
MUG = ("mug", "blue", 1.1, 1.5)  # footprint x 1.05..1.15, y 1.45..1.55


def home_with(things, mugs, surfaces=("desk", "table", "shelf"), width=6.0, walls=()):
    """A room of things 3 m deep, with mugs of 10 cm that stand at 0.7 m."""
    stands = [(label, color, x, y, 0.1, 0.1, 0.1, 0.7) for label, color, x, y in mugs]
    scene = make_home("hands", width, 3.0, [*things, *stands], walls)
    for item in scene.objects:
        item.affordances = ("surface",) if item.label in surfaces else ("pickup",) if item.label == "mug" else ()
    return scene


def simulator(max_steps=100):
    return Simulator(
        HomePool([home_with([DESK, TABLE], [MUG])], interactive=True), "rearrange", 1, sensors=None, max_steps=max_steps
    )


def at(sim, x, y, yaw):
    zero = np.zeros(1, np.int64)
    return sim.placed(zero, zero, zero, zero, zero, np.array([[x, y]]), np.array([yaw]))


def run(sim, state, actions):
    rewards = []
    for action in actions:
        state, step = sim.step(state, torch.tensor([action]))
        rewards.append(step.reward.item())
    return state, {name: value.item() for name, value in step.metrics.items()}, rewards


def test_carrying_the_mug_over_is_success_with_the_staged_distance_as_yardstick():
    sim = simulator()
    assert sim.action_names[PICK : PLACE + 1] == ("pick", "place")
    assert [goal.text for goal in sim.fields.goals[0]] == ["put the mug on the table"]
    # hands reach 1 m, less the 3.55 cm to a corner of the cell: the mug from x = 2.075, the table from x = 3.875;
    # each of the two acts of the hand counts 0.1 m
    start = at(sim, 3.025, 1.525, -np.pi)
    assert start.start_distance.item() == pytest.approx(0.95 + 1.8 + 0.2)
    actions = [FORWARD] * 4 + [PICK] + [TURN_LEFT] * 6 + [FORWARD] * 8 + [PLACE, STOP]
    state, metrics, rewards = run(sim, start, actions)  # west to 2.025, east to 4.025
    expected = dict(  # noqa: C408
        success=1,
        spl=2.95 / 3.2,
        soft_spl=2.95 / 3.2,
        distance_to_goal_m=0,
        path_length_m=3.2,
        collisions=0,
        subgoals=1,
    )
    assert metrics == pytest.approx(expected, rel=1e-5)
    assert sum(rewards) == pytest.approx(2.95 + 2.5 - 0.01 * len(actions), abs=1e-4)


def test_stopping_with_the_mug_in_hand_is_half_of_it():
    sim = simulator()
    _, metrics, _ = run(sim, at(sim, 3.025, 1.525, -np.pi), [FORWARD] * 4 + [PICK, STOP])
    left = 3.875 - 2.025 + 0.1
    expected = dict(  # noqa: C408
        success=0,
        spl=0,
        soft_spl=1 - left / 2.95,
        distance_to_goal_m=left,
        path_length_m=1.1,
        collisions=0,
        subgoals=0.5,
    )
    assert metrics == pytest.approx(expected)


def test_putting_it_back_where_it_was_undoes_the_picking_up():
    sim = simulator()
    state, metrics, _ = run(sim, at(sim, 3.025, 1.525, -np.pi), [FORWARD] * 5 + [PICK, PLACE])
    assert state.world.support[0].tolist() == [0] and metrics["subgoals"] == 0
    _, metrics, _ = run(sim, state, [PICK, STOP])
    assert metrics["subgoals"] == 0.5 and metrics["success"] == 0


def test_the_mug_on_the_table_is_no_success_before_the_stop():
    sim = simulator(max_steps=20)
    actions = [FORWARD] * 4 + [PICK] + [TURN_LEFT] * 6 + [FORWARD] * 8 + [PLACE]
    state, metrics, _ = run(sim, at(sim, 3.025, 1.525, -np.pi), actions)
    assert state.truncated.item() and not state.terminated.item()
    assert metrics["success"] == 0 and metrics["distance_to_goal_m"] == 0


def test_reaching_for_nothing_counts_as_a_collision():
    sim = simulator()
    _, metrics, _ = run(sim, at(sim, 3.025, 1.525, -np.pi), [PICK, PLACE])
    assert metrics["collisions"] == 2


def goals_of(things, mugs, **options):
    return Rearrange(**options).goals(HomePool([home_with(things, mugs)], interactive=True)[0])


def test_names_are_unambiguous_in_the_home():
    shelf = ("shelf", "blue", 3.0, 0.4, 0.8, 0.4, 0.7)
    two = [MUG, ("mug", "red", 5.0, 1.5)]
    assert {g.text for g in goals_of([DESK, TABLE], two)} == {
        "put the blue mug on the table",
        "put the red mug on the desk",
    }
    alike = [MUG, ("mug", "blue", 5.0, 1.5)]
    assert {g.text for g in goals_of([DESK, TABLE], alike)} == {
        "put the mug from the desk on the table",
        "put the mug from the table on the desk",
    }
    crowd = [("mug", "blue", 0.6, 1.3), ("mug", "blue", 0.9, 1.3)]
    assert goals_of([DESK, TABLE], crowd) == []  # nothing tells them apart
    assert {g.stages[1].on for g in goals_of([DESK, TABLE, shelf], [MUG])} == {(1,), (2,)}
    twins = [DESK, TABLE, ("table", "green", 3.0, 0.5, 0.8, 0.8, 0.7)]
    assert goals_of(twins, [MUG]) == []


def test_a_surface_without_room_or_too_high_is_not_offered():
    tall = ("shelf", "blue", 5.2, 1.5, 0.8, 0.8, 1.9)
    small = ("shelf", "blue", 5.2, 1.5, 0.05, 0.05, 0.7)
    assert goals_of([DESK, tall], [MUG]) == [] and goals_of([DESK, small], [MUG]) == []


def test_no_more_pairs_than_asked_for_and_homes_must_be_interactive():
    many = [("mug", color, 0.6 + 0.2 * k, 1.5) for k, color in enumerate(("blue", "red", "green"))]
    assert len(goals_of([DESK, TABLE], many, pairs=2)) == 2
    with pytest.raises(InputError, match="at least 1"):
        Rearrange(pairs=0)
    with pytest.raises(InputError, match="interactive=True"):
        Simulator(HomePool([home_with([DESK, TABLE], [MUG])]), "rearrange", 1)


def test_a_compound_counts_as_what_its_last_words_say():
    side = ("side table", "green", 3.0, 0.5, 0.8, 0.8, 0.7)
    both = goals_of([DESK, TABLE, side], [MUG], pairs=9)  # both tables are green: "table" and "green table" mean either
    assert not any(g.text.endswith((" on the table", " on the green table")) for g in both)
    red = goals_of([DESK, ("table", "red", *TABLE[2:]), side], [MUG])
    assert all("the table" not in g.text for g in red)
    home = HomePool([home_with([("table", "red", *TABLE[2:]), side, ("tablet", "red", *DESK[2:])], [MUG])])[0]
    assert names(home.scene) == {0: "red table", 1: "side table", 2: "tablet", 3: "mug"}


def test_what_lies_on_a_tray_on_the_desk_is_from_the_desk_as_well():
    tray = ("mug", "blue", 0.6, 1.5, 0.3, 0.3, 0.02, 0.7)
    things = [
        ("mug", "blue", x, y, 0.1, 0.1, 0.1, z) for x, y, z in ((0.6, 1.5, 0.72), (1.1, 1.5, 0.7), (5.0, 1.5, 0.7))
    ]
    scene = home_with([DESK, TABLE, tray, *things], [])
    scene.objects[2].label = "tray"
    scene.objects[2].affordances = ("pickup", "surface")
    home = HomePool([scene], interactive=True)[0]
    assert layout_of(home).carrier.tolist() == [0, 2, 0, 1]
    texts = {goal.text for goal in Rearrange().goals(home)}
    assert "put the mug from the table on the desk" in texts and "put the mug from the tray on the table" in texts
    assert "put the mug from the desk on the table" not in texts


def test_a_thing_that_others_may_be_taken_before_is_not_offered():
    inner = ("mug", "blue", 0.8, 1.5)
    ring = [("mug", color, 0.8 + dx, 1.5 + dy) for color, dx, dy in zip(
        ("red", "green", "white", "black", "pink", "grey", "brown", "orange"),
        (-0.11, 0.11, 0, 0, 0.11, 0.11, -0.11, -0.11), (0, 0, -0.11, 0.11, 0.11, -0.11, 0.11, -0.11))]  # fmt: skip
    pool = HomePool([home_with([DESK, TABLE], [inner, *ring])], interactive=True)
    listed = {goal.color for goal in Rearrange().goals(pool[0])}
    offered = {goal.color for goal in GoalFields(pool, Rearrange()).goals[0]}
    assert "blue" in listed and offered and "blue" not in offered
