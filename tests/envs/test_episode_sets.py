"""Episode sets with a name come out as they were fixed, or say that they do not."""

from dataclasses import replace

import numpy as np
import pytest

from core.errors import InputError, MissingFileError
from envs import episode_sets
from envs.episode_sets import EPISODE_SETS, MANIFEST, episodes_of, fingerprint, make_set
from envs.episodes import make_episodes, run_episodes, save_episodes
from envs.expert import Expert
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.tasks import TASKS
from scene.corpus import Wanted, procedural_source
from scene.types import Door
from tests.envs.homes import three_homes


def tiny(sha256):
    """A set of one home and four episodes."""
    source = lambda data: procedural_source(Wanted({"test": 1}, seed=3))  # noqa: E731
    return episode_sets.EpisodeSet(source, homes=1, episodes=4, seed=5, sha256=sha256)


def test_every_set_is_fixed_for_every_task():
    for chosen in EPISODE_SETS.values():
        assert set(chosen.sha256) == set(TASKS) and len(set(chosen.sha256.values())) == len(TASKS)


def test_the_procedural_set_comes_out_as_fixed_and_the_oracle_solves_it():
    pool, episodes = make_set("procedural-test", "find_object")
    assert (len(pool), len(episodes)) == (30, 200) and len(set(episodes.scene_ids)) == 30
    assert all("-test-" in name for name in episodes.scene_ids)
    sim = Simulator(pool, TASKS["find_object"].from_manifest(MANIFEST), 200, sensors=None, max_steps=300)
    assert run_episodes(sim, Expert(sim), episodes).summary()["success"] == 1.0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*no episode takes place in them")
@pytest.mark.parametrize("task", TASKS)
def test_all_procedural_sets_come_out_as_fixed(task):
    assert len(make_set("procedural-test", task)[1]) == 200


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=[] if task == "find_object" else pytest.mark.slow) for task in TASKS]
)
def test_the_procthor_sets_come_out_as_fixed(task, shared_data):
    pool, episodes = make_set("procthor-val", task, shared_data)
    assert (len(pool), len(episodes)) == (9, 100)
    assert all(name.startswith("procthor-val-") for name in pool.ids)


def test_other_homes_than_fixed_are_an_error_that_says_so(monkeypatch):
    monkeypatch.setitem(EPISODE_SETS, "tiny", tiny({"find_object": "0" * 64}))
    with pytest.raises(InputError, match="this version makes other homes, goals or starts"):
        make_set("tiny", "find_object")
    with pytest.raises(InputError, match="not fixed for the task 'point_goal'; there are: find_object"):
        make_set("tiny", "point_goal")


def _open_door(scene):
    scene.doors.append(Door(0, np.array([0.0, 1.5, 1.0, 0.1, 0.9, 2.0, 0.0]), (0, -1), open=True))


def _other_floor(scene):
    scene.rooms[0].polygon = np.asarray(scene.rooms[0].polygon, np.float64) + 0.01


def _moved_wall(scene):
    scene.mesh.vertices[-1] += 0.01


def test_a_fingerprint_notices_each_part():
    pool = HomePool(three_homes())
    episodes = make_episodes(pool, TASKS["find_object"].from_pool(pool), 6, seed=1)
    plain = fingerprint(pool, episodes)
    turned = replace(episodes, yaw=episodes.yaw + 0.001)
    shifted = replace(episodes, start=episodes.start + 0.05)
    renamed = replace(episodes, goals=[replace(goal, text=goal.text + "!") for goal in episodes.goals])
    fewer_homes = HomePool(three_homes()[:2])
    others = [fingerprint(pool, e) for e in (turned, shifted, renamed)] + [fingerprint(fewer_homes, episodes)]
    assert plain not in others and len(set(others)) == 4
    for change in (_open_door, _other_floor, _moved_wall):
        scenes = three_homes()
        change(scenes[0])
        assert fingerprint(HomePool.of([replace(pool[0], scene=scenes[0]), *pool.homes[1:]]), episodes) != plain
    again = make_episodes(pool, TASKS["find_object"].from_pool(pool), 6, seed=1)
    assert fingerprint(pool, again) == plain and fingerprint(pool, replace(episodes, yaw=episodes.yaw + 1e-12)) == plain


def test_a_name_or_a_file_will_do(tmp_path, monkeypatch):
    chosen = tiny({})
    pool, episodes = episode_sets._made(chosen, "find_referral", None)
    monkeypatch.setitem(EPISODE_SETS, "tiny", tiny({"find_referral": fingerprint(pool, episodes)}))
    named_pool, named = episodes_of("tiny", "find_referral")
    path = save_episodes(episodes, tmp_path / "mine.parquet")
    no_pool, read = episodes_of(str(path), "find_referral")
    assert named_pool is not None and no_pool is None
    assert named.goals == read.goals and np.array_equal(named.start, read.start)
    with pytest.raises(MissingFileError, match="neither a file nor a name of one .procedural-test"):
        episodes_of("procedural-tests", "find_object")
    with pytest.raises(InputError, match="find_object"):
        make_set("procedural-test", "find_objects")


def test_procthor_homes_are_asked_for_by_name(monkeypatch):
    monkeypatch.delenv("SIGHTLINE_DATA", raising=False)
    with pytest.raises(MissingFileError, match="data=FOLDER or set SIGHTLINE_DATA=FOLDER"):
        make_set("procthor-val", "find_object")
