"""The walks that no reward should pay end where they should, and never in success."""

import numpy as np
import pytest
import torch

from agents.reward_paths import ADVERSARIES, CLOSE_M, WrongThing
from core.errors import InputError
from envs.episodes import make_episodes, place, run_episodes
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Sensors
from envs.tasks.find_object import FindObject
from scene.geometry import distance_to_footprint
from tests.envs.homes import make_home, three_homes

PAIRS = (("armchair", "red"), ("armchair", "green"), ("sofa", "blue"), ("table", "green"))


@pytest.fixture(scope="module")
def simulator():
    homes = HomePool(three_homes(), goal_labels=["armchair", "sofa", "table"])
    return Simulator(homes, FindObject(PAIRS), 8, seed=0, sensors=Sensors(32, 32), max_steps=100)


@pytest.fixture(scope="module")
def ends(simulator):
    """By kind of walk: the episodes' results, and the last picture of each."""
    episodes = make_episodes(simulator.homes, simulator.task, 12, 3, simulator.fields)
    found = {}
    for name, make in ADVERSARIES.items():
        last = {}

        def keep(state, frame, last=last):
            for b, row in enumerate(state.episode.tolist()):
                last[row] = (frame.instance[b].clone(), frame.depth[b].clone())

        found[name] = run_episodes(simulator, make(simulator), episodes, on_state=keep), last
    return found


@pytest.mark.parametrize("kind", list(ADVERSARIES))
def test_every_adversary_stops_by_itself_and_none_succeeds(ends, kind):
    results, _ = ends[kind]
    assert results.stopped.all() and not results.metrics["success"].any()


def test_who_stares_sees_a_wall_close_by_and_hardly_anything_else(ends):
    shares = [float((instance >= 0).float().mean()) for instance, _ in ends["stare"][1].values()]
    depths = [float(depth[16, 16]) for _, depth in ends["stare"][1].values()]
    assert np.mean(shares) < 0.05 and max(depths) < 2 * CLOSE_M


def test_who_circles_turns_once_and_stays(ends):
    for path in ends["circling"][0].trajectories:
        assert len(path) == 14 and np.allclose(path[:, :2], path[0, :2])
        assert len(np.unique(np.round(path[:12, 2], 6))) == 12


def test_the_wrong_thing_is_near_and_faced(simulator, ends):
    results, last = ends["wrong_thing"]
    for row, path in enumerate(results.trajectories):
        home = simulator.homes[simulator.homes.index[results.episodes.scene_ids[row]]]
        wanted = results.episodes.goals[row].stages[0].objects
        others = [item for item in home.scene.objects if item.id not in wanted]
        near = [item.id for item in others if distance_to_footprint(path[-1, :2], item.box) <= 1.05]
        assert near and any(int((last[row][0] == k).sum()) > 25 for k in near)


def test_a_thing_of_the_goals_class_is_preferred():
    things = [("sofa", "red", 1.0, 2.0, 1.0, 1.0, 0.8), ("sofa", "blue", 7.0, 2.0, 1.0, 1.0, 0.8)]
    things.append(("table", "green", 4.0, 1.0, 0.6, 0.6, 0.7))
    homes = HomePool([make_home("room", 8.0, 4.0, things)], goal_labels=["sofa", "table"])
    simulator = Simulator(homes, FindObject((("sofa", "red"), ("table", "green"))), 1, sensors=None)
    wrong = WrongThing(simulator)
    episodes = make_episodes(homes, simulator.task, 8, 0, simulator.fields)
    state = place(simulator, episodes, range(8))
    sofas = [goal.label == "sofa" for goal in episodes.goals]
    assert wrong.same_class(state).tolist() == sofas and any(sofas) and not all(sofas)
    ends = run_episodes(simulator, wrong, episodes).trajectories
    for path, sofa in zip(ends, sofas):
        blue = float(distance_to_footprint(path[-1, :2], homes[0].scene.objects[1].box))
        assert blue <= 1.05 or not sofa


def test_a_home_with_nothing_else_has_no_wrong_thing():
    home = make_home("room", 6.0, 4.0, [("sofa", "red", 1.0, 2.0, 1.0, 1.0, 0.8)])
    simulator = Simulator(HomePool([home], goal_labels=["sofa"]), FindObject((("sofa", "red"),)), 2, sensors=None)
    assert WrongThing(simulator).possible(simulator.reset()).tolist() == [False, False]
    assert torch.equal(WrongThing(simulator)(simulator.reset()), torch.zeros(2, dtype=torch.int64))


def test_continuous_control_is_refused(simulator):
    other = Simulator(simulator.homes, simulator.task, 2, control="continuous", sensors=None)
    for make in ADVERSARIES.values():
        with pytest.raises(InputError, match="discrete"):
            make(other)
