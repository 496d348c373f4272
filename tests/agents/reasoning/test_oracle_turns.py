import numpy as np
import pytest
import torch

from agents.reasoning.action_text import GoalView, read_action, worked_turn
from agents.reasoning.oracle_turns import OracleTurns, goal_views, oracle_turns, side_of
from agents.reasoning.turn_config import TurnStyle
from core.errors import InputError
from envs.episodes import make_episodes, run_episodes
from envs.expert import Expert
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Sensors
from tests.envs.homes import three_homes

STYLE = TurnStyle(history=2, image_size=32)


@pytest.fixture(scope="module")
def sim() -> Simulator:
    return Simulator(HomePool(three_homes()), num_envs=3, sensors=Sensors(32, 32), max_steps=60)


@pytest.fixture(scope="module")
def turns(sim) -> OracleTurns:
    return oracle_turns(sim, STYLE, 5, seed=3)


def test_worked_turns_are_what_the_oracle_does_in_the_same_episodes(sim, turns):
    found = run_episodes(sim, Expert(sim), make_episodes(sim.homes, sim.task, 5, seed=3))
    assert found.metrics["success"].all()
    wanted = [sim.action_names[action] for actions in found.actions for action in actions]
    assert [sample.answer for sample in turns.samples] == wanted and len(turns) == found.steps.sum()
    for sample in turns.samples:
        assert sim.action_names[read_action(sample.worked, sim.action_names).action] == sample.answer


def test_questions_tell_the_actions_before_and_show_one_picture(sim, turns):
    third = next(sample for sample in turns.samples if sample.id.endswith("-2"))
    before = [sample.answer for sample in turns.samples if sample.id.rpartition("-")[0] == third.id.rpartition("-")[0]]
    assert f"done: {before[0]}, {before[1]}. " in third.prompt
    shown = turns.pictures_of(turns.samples.index(third))
    assert len(shown) == 1 and shown[0].shape == (32, 32, 3) and shown[0].dtype == np.uint8


def test_where_the_goal_is_seen_is_read_off_the_things_pixels():
    instance = np.full((2, 6), -1)
    instance[:, :2] = 4
    assert side_of(instance, [4, 9]) == "left"  # columns 0 and 1, their middle at 1 of 6
    instance[:, 2:4] = 4
    assert side_of(instance, [4]) == "middle"  # at 2 of 6
    instance[:, 5] = 9
    assert side_of(instance, [9]) == "right"


def test_the_last_turn_before_success_is_near_and_the_thought_says_what_is_true(sim):
    state = sim.reset()
    frame = sim.observe(state)
    pixels, away = sim.goal_visibility(frame.instance, state)
    for k, view in enumerate(goal_views(sim, state, frame)):
        assert bool(view.side) == (pixels[k] >= 1) and view.near == bool(away[k] < 1.0)
    blind = torch.full_like(frame.instance, -1)
    views = goal_views(sim, state, type(frame)(frame.rgb, frame.depth, blind))
    assert views == [GoalView()] * 3 and "do not see" in worked_turn("forward", views[0])


def test_a_simulator_without_pictures_or_names_is_refused():
    pool = HomePool(three_homes())
    for options in ({"sensors": None}, {"control": "continuous"}):
        with pytest.raises(InputError, match="sensors, discrete control"):
            oracle_turns(Simulator(pool, **options), STYLE, 2)
