"""Episode sets, runs over them, the oracle and the random policy."""

import numpy as np
import pytest
import torch

from core.errors import InputError, MissingFileError
from envs.episodes import load_episodes, make_episodes, run_episodes, save_episodes
from envs.expert import Expert, RandomPolicy
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Sensors
from envs.tasks.find_object import FindObject
from tests.envs.homes import three_homes


@pytest.fixture(scope="module")
def sim():
    return Simulator(HomePool(three_homes()), "find_object", 6, seed=1, sensors=None)


@pytest.fixture(scope="module")
def episodes(sim):
    return make_episodes(sim.homes, sim.task, 30, seed=7)


def test_an_episode_set_is_a_function_of_its_seed_and_visits_every_home_equally(sim, episodes):
    again, other = (make_episodes(sim.homes, sim.task, 30, seed=seed) for seed in (7, 8))
    assert again.start.tobytes() == episodes.start.tobytes() and other.start.tobytes() != episodes.start.tobytes()
    assert sorted(episodes.scene_ids.count(name) for name in sim.homes.ids) == [10, 10, 10]
    assert make_episodes(sim.homes, sim.task, 4, seed=7).start.tolist() == episodes.start[:4].tolist()


def test_a_saved_set_loads_to_the_same_bits(episodes, tmp_path):
    loaded = load_episodes(save_episodes(episodes, tmp_path / "set.parquet"))
    assert (loaded.scene_ids, loaded.goals) == (episodes.scene_ids, episodes.goals)
    for name in ("start", "yaw", "shortest_m"):
        assert getattr(loaded, name).tobytes() == getattr(episodes, name).tobytes()


def test_broken_and_missing_files_are_named(episodes, tmp_path):
    with pytest.raises(MissingFileError, match="none.parquet"):
        load_episodes(tmp_path / "none.parquet")
    path = save_episodes(episodes, tmp_path / "set.parquet")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="make it again"):
        load_episodes(path)


def test_the_oracle_always_arrives_and_nearly_by_the_shortest_way(sim):
    many = make_episodes(sim.homes, sim.task, 200, seed=3)
    summary = run_episodes(sim, Expert(sim), many).summary()
    assert summary["success"] == 1.0 and summary["spl"] > 0.9


def test_results_do_not_depend_on_the_batch_size(sim, episodes):
    policy = RandomPolicy(3, stop=0.02)
    wide = run_episodes(sim, policy, episodes)
    alone = run_episodes(Simulator(sim.homes, sim.task, 1, seed=1, sensors=None), policy, episodes)
    assert wide.returns.tobytes() == alone.returns.tobytes()
    assert all(a.tobytes() == b.tobytes() for a, b in zip(wide.trajectories, alone.trajectories, strict=True))
    assert 0 < wide.stopped.sum() < len(wide)


def test_records_fit_together(sim, episodes):
    seeing = Simulator(sim.homes, sim.task, 4, seed=1, sensors=Sensors(8, 8))
    counted = []
    results = run_episodes(seeing, Expert(seeing), episodes, record=[2, 29], on_episode=counted.append)
    assert sum(counted) == len(results) == 30 and sorted(results.frames) == [2, 29]
    for row in range(30):
        assert len(results.trajectories[row]) == len(results.actions[row]) + 1 == results.steps[row] + 1
        assert results.trajectories[row][0, :2].tolist() == episodes.start[row].tolist()
        walked = np.linalg.norm(np.diff(results.trajectories[row][:, :2], axis=0), axis=1).sum()
        assert walked == pytest.approx(results.metrics["path_length_m"][row], rel=1e-5)
    assert results.frames[29].shape == (results.steps[29] + 1, 8, 8, 3)
    assert results.summary()["steps"] == results.steps.mean()


def test_policies_see_fresh_rows_at_step_zero(sim, episodes):
    seen = []

    def policy(state, frame):
        seen.extend(state.episode[state.step == 0].tolist())
        return torch.where(state.step < 3, 2, 0)

    run_episodes(sim, policy, episodes)
    assert sorted(seen) == list(range(30))


def test_sets_of_other_homes_or_goals_are_refused(sim, episodes):
    fewer = Simulator(HomePool(three_homes()[:1]), sim.task, 2, sensors=None)
    with pytest.raises(InputError, match="not in the simulator's pool"):
        run_episodes(fewer, RandomPolicy(), episodes)
    narrow = Simulator(sim.homes, FindObject((("sofa", "blue"), ("armchair", "red"))), 30, sensors=None)
    with pytest.raises(InputError, match="2 goals of the episode set are not among those"):
        run_episodes(narrow, RandomPolicy(), episodes)
    with pytest.raises(InputError, match="rows"):
        run_episodes(sim, RandomPolicy(), episodes, record=[30])


def test_the_random_policy_stops_as_often_as_told(sim):
    state = Simulator(sim.homes, sim.task, 4000, seed=1, sensors=None).reset()
    counts = np.bincount(RandomPolicy(0, stop=0.1)(state).numpy(), minlength=4) / 4000
    assert counts == pytest.approx([0.1, 0.3, 0.3, 0.3], abs=0.03)
