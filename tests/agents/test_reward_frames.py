import numpy as np
import pytest
import torch

from agents.reward_frames import Collector, Pictures, collect_cameras, collect_walks, goals_of, some_of
from core.errors import InputError
from envs.episodes import make_episodes
from envs.expert import Expert
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Sensors
from envs.tasks.find_object import FindObject
from scene.geometry import distance_to_footprint
from scene.render import Frame
from tests.envs.homes import make_home, three_homes

PAIRS = (("armchair", "red"), ("armchair", "green"), ("sofa", "blue"), ("table", "green"))


@pytest.fixture(scope="module")
def simulator():
    homes = HomePool(three_homes(), goal_labels=["armchair", "sofa", "table"])
    return Simulator(homes, FindObject(PAIRS), 4, seed=0, sensors=Sensors(16, 16), max_steps=60)


@pytest.fixture(scope="module")
def collected(simulator):
    collector = Collector(simulator, Pictures())
    collect_cameras(collector, 5, seed=0)
    episodes = make_episodes(simulator.homes, simulator.task, 6, 0, simulator.fields)
    collect_walks(collector, "oracle", Expert(simulator), episodes)
    collect_walks(collector, "policy", Expert(simulator), some_of(episodes, np.array([4, 1])))
    return collector, episodes


def test_pictures_come_back_as_they_were_added():
    pictures, rng = Pictures(), np.random.default_rng(0)
    parts = [rng.integers(0, 256, (count, 4, 5, 3), dtype=np.uint8) for count in (3, 1, 6)]
    for part in parts:
        pictures.add(torch.from_numpy(part))
    whole = np.concatenate(parts)
    assert len(pictures) == 10 and np.array_equal(torch.cat(list(pictures.blocks(4))).numpy(), whole)
    assert np.array_equal(pictures.pick([9, 0, 0]), whole[[9, 0, 0]])
    with pytest.raises(InputError, match="after others"):
        pictures.add(torch.zeros(1, 5, 5, 3, dtype=torch.uint8))


def test_frames_are_sorted_by_pixels_and_distance():
    home = make_home("room", 8.0, 4.0, [("sofa", "red", 1.0, 2.0, 1.0, 1.0, 0.8)])
    simulator = Simulator(HomePool([home], goal_labels=["sofa"]), FindObject((("sofa", "red"),)), 4, sensors=None)
    instance = torch.full((4, 8, 8), -1, dtype=torch.int32)
    for row, pixels in enumerate((30, 30, 24, 0)):
        instance[row].view(-1)[:pixels] = 0
    at = torch.tensor([[3.4, 2.0], [3.6, 2.0], [3.0, 2.0], [3.0, 2.0]], dtype=torch.float64)  # its edge is at x = 1.5
    state = simulator.reset()
    state = type(state)(**{**vars(state), "position": at})
    collector = Collector(simulator, Pictures())
    collector(state, Frame(torch.zeros(4, 8, 8, 3, dtype=torch.uint8), torch.ones(4, 8, 8), instance))
    pairs = collector.pairs()
    assert pairs.kind.tolist() == [0, 1, 3, 2]  # near, far, sliver, absent
    assert pairs.pixels.tolist() == [30, 30, 24, 0]
    assert pairs.distance_m.tolist() == pytest.approx([1.9, 2.1, 1.5, np.inf])
    # success is within 1 m of the edge, at the middle of a 5 cm cell: at x = 2.5, within half a cell
    assert pairs.walk_m.tolist() == pytest.approx([0.9, 1.1, 0.5, 0.5], abs=0.06)
    assert pairs.progress.tolist() == pytest.approx(np.exp(-pairs.walk_m))


def test_every_camera_picture_and_goal_is_a_trajectory_of_its_own(simulator, collected):
    pairs = collected[0].pairs()
    cameras = pairs.chosen(pairs.path == "camera")
    offered = [len(simulator.fields.goals[k]) for k in simulator.fields.playable]
    assert len(cameras) == 5 * sum(offered) == len(np.unique(cameras.trajectory)) and cameras.own.all()
    assert not np.isin(cameras.trajectory, pairs.trajectory[pairs.path != "camera"]).any()


def test_oracle_walks_end_where_stopping_succeeds_and_their_pictures_are_not_kept_twice(simulator, collected):
    collector, episodes = collected
    rows, at = collector.pairs().rows(simulator.homes.ids)
    assert len(np.unique(rows.trajectory[rows.path == "oracle"])) == 6
    for number in np.unique(rows.trajectory[rows.path == "oracle"]):
        walk = rows.chosen(rows.trajectory == number)
        assert walk.step.tolist() == list(range(len(walk)))
        assert walk.success[-1] == 1 and walk.progress[-1] == 1 and walk.progress[0] < 0.5
    assert len(collector.pictures) == len(np.unique(rows.frame)) == rows.frame.max() + 1


def test_oracle_pictures_are_asked_for_every_goal_and_a_policys_for_its_own(simulator, collected):
    collector, episodes = collected
    pairs = collector.pairs()
    oracle, policy = (pairs.chosen(pairs.path == path) for path in ("oracle", "policy"))
    offered = np.array([len(goals) for goals in simulator.fields.goals])
    _, first = np.unique(oracle.frame, return_index=True)
    assert len(oracle) == offered[oracle.home[first]].sum()
    assert policy.own.all() and len(np.unique(policy.frame)) == len(policy)
    wanted = {goal.text for goal in some_of(episodes, np.array([4, 1])).goals}
    assert {goals_of(simulator)[k].text for k in np.unique(policy.goal)} == wanted


def test_progress_of_cameras_is_the_walking_distance_from_where_they_stand(simulator, collected):
    pairs = collected[0].pairs()
    cameras = pairs.chosen(pairs.path == "camera")
    goals = goals_of(simulator)
    for k in range(0, len(cameras), 7):
        home, at = int(cameras.home[k]), np.array([cameras.x[k], cameras.y[k]])
        boxes = [
            item.box
            for item in simulator.homes[home].scene.objects
            if (item.label, item.attributes["color"]) == (goals[cameras.goal[k]].label, goals[cameras.goal[k]].color)
        ]
        straight = min(float(distance_to_footprint(at, box)) for box in boxes) - 1.0
        assert cameras.walk_m[k] >= straight * 0.97 - 0.08  # no way is shorter than the straight one
