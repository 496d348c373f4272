import numpy as np
import pytest
import torch

from agents.grounded_reward import GroundedReward, GroundedWatcher
from agents.grounded_scores import GroundedScores
from agents.reward_frames import Collector, Pictures, collect_cameras, collect_walks
from envs.episodes import make_episodes, place
from envs.expert import Expert
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Sensors
from envs.tasks.find_object import FindObject
from scene.grounder import Grounder
from tests.agents.tiny import make_grounder
from tests.envs.homes import three_homes
from vl.rewards import StepBatch


@pytest.fixture(scope="module")
def grounder(tmp_path_factory):
    return Grounder.from_pretrained(make_grounder(tmp_path_factory.mktemp("grounder") / "model"))


@pytest.fixture(scope="module")
def simulator():
    homes = HomePool(three_homes(), goal_labels=["armchair", "sofa", "table"])
    pairs = (("armchair", "red"), ("armchair", "green"), ("sofa", "blue"), ("table", "green"))
    return Simulator(homes, FindObject(pairs), 4, seed=0, sensors=Sensors(32, 32), max_steps=60)


def test_walks_score_as_the_reward_does_along_each_of_them(grounder, simulator):
    episodes = make_episodes(simulator.homes, simulator.task, 6, 0, simulator.fields)
    collector = Collector(simulator, Pictures(), GroundedScores(grounder))
    collect_walks(collector, "oracle", Expert(simulator), episodes)
    pairs = collector.pairs()
    assert ((pairs.watched >= 0) & (pairs.watched <= 1)).all() and pairs.watched.max() > 0

    for row in range(6):  # each alone, by the reward itself
        alone = Simulator(simulator.homes, simulator.task, 1, sensors=Sensors(32, 32))
        state, slow = place(alone, episodes, [row]), []
        watcher = GroundedWatcher(alone, grounder)
        while True:
            seen = watcher.look(alone.observe(state), state, torch.tensor([bool(state.step == 0)]))
            slow.append(float(GroundedReward().score(StepBatch(state=seen), state.text)))
            following, _ = alone.step(state, Expert(alone)(state))
            if bool(following.done):
                break
            state = following
        own = pairs.chosen(pairs.own & (pairs.trajectory == row))
        assert own.watched[np.argsort(own.step)].tolist() == pytest.approx(slow, abs=1e-6)


def test_a_camera_knows_what_it_sees_and_nothing_from_before(grounder, simulator):
    collector = Collector(simulator, Pictures(), GroundedScores(grounder))
    collect_cameras(collector, 6, seed=1)
    pairs = collector.pairs()
    for frame in range(len(collector.pictures)):
        of_frame = pairs.chosen(pairs.frame == frame)
        home = simulator.homes[int(of_frame.home[0])]
        goals = {goal.text for goal in simulator.fields.goals[int(of_frame.home[0])]}
        assert len(of_frame) == len(goals) and len(home.scene.objects)
        if not of_frame.pixels.any() and len(goals) == len(home.scene.objects):
            assert not of_frame.watched.any()  # every object is a goal, and none is in view
    assert pairs.watched[pairs.pixels > 100].min() > 0
