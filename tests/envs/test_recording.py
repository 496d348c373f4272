from dataclasses import replace

import numpy as np
import pytest

from core.errors import InputError
from envs.episodes import load_episodes, make_episodes, run_episodes
from envs.expert import Expert, RandomPolicy
from envs.pool import HomePool
from envs.recording import Recorder, home_record, load_recording, save_recording, scene_fingerprint
from envs.replay import ReplayError, replay, retrace, simulator_of
from envs.simulator import Simulator
from envs.state import Noise, Sensors
from scene.io import load_scene, save_scene
from tests.envs.homes import three_homes

SMALL = Sensors(width=16, height=12)


def record(path, homes, policy, task="find_object", count=5, num_envs=3, **options):
    """A recording on file, and the results with the pictures of every episode."""
    sim = Simulator(homes, task, num_envs, seed=3, sensors=SMALL, **options)
    episodes = make_episodes(homes, sim.task, count, seed=1, fields=sim.fields)
    recorder = Recorder(sim)
    results = run_episodes(sim, policy(sim), episodes, record=range(count), on_state=recorder)
    save_recording(recorder.finish(results, "someone"), path)
    return load_recording(path), results


def assert_equal_to_the_byte(one, two):
    for name in one.metrics:
        assert one.metrics[name].tobytes() == two.metrics[name].tobytes(), name
    for name in ("steps", "returns", "stopped"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes(), name
    for row in range(len(one)):
        assert one.trajectories[row].tobytes() == two.trajectories[row].tobytes()
        assert one.actions[row].tobytes() == two.actions[row].tobytes()
        assert one.frames[row].tobytes() == two.frames[row].tobytes()


@pytest.fixture(scope="module")
def rooms():
    return HomePool(three_homes())


@pytest.fixture(scope="module")
def lived_in():
    return HomePool.procedural(2, seed=5, interactive=True)


@pytest.mark.parametrize(
    "options",
    [
        {"max_steps": 30, "tilt": True},
        {"max_steps": 30, "control": "continuous", "noise": Noise(), "slide": False},
    ],
    ids=["discrete", "continuous and noisy"],
)
def test_a_walk_is_played_again_to_the_byte_in_other_batches_and_pools(options, rooms, tmp_path):
    recording, first = record(tmp_path / "a.parquet", rooms, lambda sim: RandomPolicy(2, sim=sim), **options)
    other = HomePool(three_homes()[::-1])
    again = replay(recording, other, sim=simulator_of(recording, other, num_envs=2), record=range(5))
    assert_equal_to_the_byte(first, again)
    assert recording.policy == "someone" and recording.simulator["max_steps"] == 30


@pytest.mark.parametrize("policy", [Expert, lambda sim: RandomPolicy(4, stop=0.0, sim=sim)], ids=["oracle", "random"])
def test_moved_things_and_doors_are_played_again_to_the_byte(policy, lived_in, tmp_path):
    options = {"task": "rearrange", "count": 4, "max_steps": 60, "shut_doors": 0.7, "noise": Noise(forward_m=0.01)}
    recording, first = record(tmp_path / "a.parquet", lived_in, policy, **options)
    assert_equal_to_the_byte(first, replay(recording, lived_in, record=range(4)))
    states = retrace(simulator_of(recording, lived_in), first, 1)
    assert np.array_equal(np.concatenate([s.position.numpy() for s in states]), first.trajectories[1][:, :2])
    assert len(states) == first.steps[1] + 1 and states[0].world is not None


def test_a_changed_home_is_named_with_the_step_at_which_an_episode_departs(rooms, tmp_path):
    recording, first = record(tmp_path / "a.parquet", rooms, Expert)
    homes = three_homes()
    homes[0].mesh.face_colors[:] //= 2  # repainted: the same walks, other pictures
    with pytest.raises(ReplayError, match=r"\(home home-a\) departs .* at step 0: the picture .* home-a; build"):
        replay(recording, HomePool(homes))
    with pytest.warns(UserWarning, match="went as recorded, though homes differ: home-a"):
        again = replay(recording, HomePool(homes), pictures=False)
    assert again.trajectories[0].tobytes() == first.trajectories[0].tobytes()


def test_an_action_that_is_not_the_recorded_one_is_noticed_at_its_step(rooms, tmp_path):
    recording, _ = record(tmp_path / "a.parquet", rooms, Expert)
    row = int(recording.results.steps.argmax())
    step = int(np.flatnonzero(recording.results.actions[row] == 1)[0])
    recording.results.actions[row][step] = 2
    with pytest.raises(
        ReplayError, match=f"episode {row} .* at step {step + 1}: x, y, yaw are .* versions are the same"
    ):
        replay(recording, rooms)


def test_other_versions_are_named_where_an_episode_departs(rooms, tmp_path):
    recording, _ = record(tmp_path / "a.parquet", rooms, Expert)
    recording.versions["torch"] = "0.1"
    recording.states[2][1] = "0" * 16
    with pytest.raises(ReplayError, match=r"episode 2 .* step 1: it stands where it did.*torch 0\.1 \(here"):
        replay(recording, rooms)


def test_a_recording_is_an_episode_set_too(rooms, tmp_path):
    recording, first = record(tmp_path / "a.parquet", rooms, Expert)
    episodes = load_episodes(tmp_path / "a.parquet")
    assert episodes.goals == first.episodes.goals and np.array_equal(episodes.start, first.episodes.start)


def test_homes_or_files_that_do_not_fit_are_refused(rooms, lived_in, tmp_path):
    recording, _ = record(tmp_path / "a.parquet", rooms, Expert)
    with pytest.raises(InputError, match="not in the simulator's pool"):
        replay(recording, HomePool(three_homes()[:1]))
    with pytest.raises(InputError, match="interactive=False"):
        replay(recording, lived_in)
    with pytest.raises(InputError, match="'knit' is not known"):
        replay(replace(recording, task="knit"), rooms)
    with pytest.raises(InputError, match="other options"):
        replay(replace(recording, task="point_goal"), rooms)
    (tmp_path / "torn.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-40])
    with pytest.raises(InputError, match="no readable Parquet"):
        load_recording(tmp_path / "torn.parquet")


def test_a_fingerprint_survives_the_disk_and_tells_homes_apart(tmp_path):
    homes = three_homes()
    save_scene(homes[0], tmp_path)
    prints = {scene_fingerprint(home) for home in homes}
    assert len(prints) == 3 and scene_fingerprint(load_scene(tmp_path, "home-a")) in prints
    narrow, wide = (HomePool(homes[:1], agent_radius_m=radius)[0] for radius in (0.2, 0.25))
    assert home_record(narrow)["scene"] == home_record(wide)["scene"]
    assert home_record(narrow)["floor"] != home_record(wide)["floor"]
