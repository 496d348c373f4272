"""Pools of homes from folders, procedural ones, copies."""

import copy
import pickle

import pytest

from core.errors import InputError, MissingFileError
from envs.episodes import make_episodes
from envs.observation import make_simulator
from envs.pool import HomePool
from envs.simulator import Simulator
from scene.io import save_scene
from scene.store import save_manifest
from tests.envs.homes import three_homes


@pytest.fixture
def folder(tmp_path):
    for scene in three_homes():
        save_scene(scene, tmp_path)
    palette = {"red": [205, 32, 38], "blue": [30, 86, 205]}
    splits = {"train": ["home-a", "home-b"], "val": ["home-c"], "test": []}
    save_manifest(
        tmp_path, {"source": "procedural", "splits": splits, "palette": palette, "goal_labels": ["sofa", "armchair"]}
    )
    return tmp_path


def test_a_split_of_a_folder_plays_like_the_scenes_it_was_saved_from(folder):
    loaded = HomePool.from_folder(folder, "train")
    made = HomePool(three_homes()[:2], goal_labels=["armchair", "sofa"])
    assert loaded.ids == ["home-a", "home-b"] and loaded.goal_labels == made.goal_labels
    one, two = (Simulator(pool, num_envs=20, seed=2, sensors=None).reset() for pool in (loaded, made))
    assert one.position.tolist() == two.position.tolist() and one.goal.tolist() == two.goal.tolist()


def test_a_limit_takes_the_first_homes_and_none_or_zero_all(folder):
    assert HomePool.from_folder(folder, "train", 1).ids == ["home-a"]
    assert len(HomePool.from_folder(folder, "train", 0)) == len(HomePool.from_folder(folder, "train", None)) == 2


def test_missing_folders_splits_and_scenes_are_named(folder, tmp_path):
    with pytest.raises(MissingFileError, match="nowhere"):
        HomePool.from_folder(tmp_path / "nowhere", "train")
    with pytest.raises(InputError, match="valid"):
        HomePool.from_folder(folder, "valid")
    with pytest.raises(InputError, match="at least one scene"):
        HomePool.from_folder(folder, "test")


def test_adapters_take_their_vocabulary_from_the_manifest(folder):
    sim = make_simulator(scenes=folder, split="val", width=8, height=8)
    phrases = ["blue armchair", "red armchair", "blue sofa", "red sofa"]
    assert sim.texts == [f"find the {phrase}" for phrase in phrases]
    state = sim.reset()
    assert sim.goal(state, 0).phrase == "blue sofa" and state.text.tolist() == [2]


def test_a_pool_is_shared_by_copies_and_travels_without_its_search_trees():
    pool = HomePool(three_homes()[:1])
    assert copy.deepcopy(pool) is pool
    assert pool[0].prepared is pool[0].prepared
    sent = pickle.loads(pickle.dumps(pool))
    assert "prepared" not in vars(sent[0]) and sent.ids == pool.ids


def test_procedural_homes_are_the_same_for_one_seed():
    one, again = HomePool.procedural(2, 5), HomePool.procedural(2, 5)
    task = Simulator(one, sensors=None).task
    first, second = make_episodes(one, task, 6, 0), make_episodes(again, task, 6, 0)
    assert first.start.tobytes() == second.start.tobytes() and first.goals == second.goals
    with pytest.raises(InputError, match="count=0"):
        HomePool.procedural(0, 5)
