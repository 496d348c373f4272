import av
import numpy as np
import pyarrow.parquet as parquet
import pytest

from agents.episode_video import fitted
from agents.evaluate import EvaluateAgentConfig, make_simulator, results_table, run
from core.errors import InputError
from scene.datasets.procedural import generate_home
from scene.io import save_scene
from scene.store import save_manifest
from tests.agents.tiny import make_scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> str:
    return str(make_scenes(tmp_path_factory.mktemp("scenes")))


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory) -> str:
    """Two generated homes with small things."""
    folder = tmp_path_factory.mktemp("lived-in")
    homes = [generate_home(seed) for seed in (5, 6)]
    for home in homes:
        save_scene(home, folder)
    save_manifest(folder, {"source": "procedural", "splits": {"test": [home.id for home in homes]}})
    return str(folder)


def test_the_oracle_succeeds_and_chance_hardly_does(scenes, tmp_path):
    found = {
        policy: run(EvaluateAgentConfig(out=str(tmp_path / policy), scenes=scenes, policy=policy, episodes=40))
        for policy in ("oracle", "random")
    }
    oracle, chance = (found[policy]["metrics"]["success"] for policy in ("oracle", "random"))
    assert oracle["mean"] == 1.0 and oracle["interval"][1] == 1.0
    assert chance["mean"] < 0.5 and chance["interval"][1] < oracle["interval"][0]
    assert found["oracle"]["metrics"]["spl"]["mean"] > 0.85


def test_held_out_pairs_are_counted_apart_and_rows_tell_which(scenes, tmp_path):
    found = run(EvaluateAgentConfig(out=str(tmp_path / "run"), scenes=scenes, policy="oracle", episodes=30))
    rows = parquet.read_table(tmp_path / "run" / "episodes.parquet").to_pylist()
    heldout = [row for row in rows if (row["goal_color"], row["goal_label"]) == ("red", "armchair")]
    assert found["groups"]["held-out pairs"]["episodes"] == len(heldout) == sum(not row["seen_pair"] for row in rows)
    assert found["groups"]["seen pairs"]["episodes"] == 30 - len(heldout)
    assert all(len(row["x"]) == row["steps"] + 1 for row in rows)


def test_two_policies_meet_the_same_episodes(scenes, tmp_path):
    for policy in ("oracle", "random"):
        run(EvaluateAgentConfig(out=str(tmp_path / policy), scenes=scenes, policy=policy, episodes=8))
    one, two = ((tmp_path / policy / "episode_set.parquet").read_bytes() for policy in ("oracle", "random"))
    assert one == two


def test_a_film_shows_every_step_in_a_form_browsers_play(scenes, tmp_path):
    found = run(EvaluateAgentConfig(out=str(tmp_path / "run"), scenes=scenes, policy="oracle", episodes=2, video=1))
    assert found["videos"] == ["videos/episode-000.mp4"]
    steps = parquet.read_table(tmp_path / "run" / "episodes.parquet").to_pylist()[0]["steps"]
    with av.open(str(tmp_path / "run" / "videos" / "episode-000.mp4")) as container:
        stream = container.streams.video[0]
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert len(pictures) == steps + 1 + 12  # the start, each step, and two seconds of the outcome
    assert np.abs(pictures[0].astype(int) - pictures[steps]).max() > 60  # the agent has moved


def test_a_policy_that_is_not_there_is_a_clear_error_and_leaves_nothing(scenes, tmp_path):
    with pytest.raises(InputError, match="neither random, oracle, keyboard nor a folder"):
        run(EvaluateAgentConfig(out=str(tmp_path / "run"), scenes=scenes, policy="no/such/policy"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("point_goal", {"control": "continuous", "noise": 1.0}),
        ("find_referral", {"tilt": True}),
        ("rearrange", {"shut_doors": 0.5}),
        ("follow_instruction", {}),
    ],
)
def test_every_task_is_measured_recorded_and_replayed_at_the_command_line(task, options, lived_in, tmp_path):
    options |= {"episodes": 3, "max_steps": 120, "policy": "oracle", "task": task}
    found = run(EvaluateAgentConfig(out=str(tmp_path / "a"), scenes=lived_in, record=True, **options))
    assert found["task"] == task and found["metrics"]["subgoals"]["mean"] > 0.5
    rows = parquet.read_table(tmp_path / "a" / "episodes.parquet").to_pylist()
    assert all(len(row["actions"]) == row["steps"] for row in rows)
    recording = str(tmp_path / "a" / "recording.parquet")
    video = int(task == "rearrange")
    again = run(EvaluateAgentConfig(out=str(tmp_path / "b"), scenes=lived_in, replay=recording, video=video))
    assert again["metrics"] == found["metrics"] and again["policy"] == "oracle" and again["task"] == task
    assert len(again["videos"]) == (task == "rearrange")


def test_a_table_shows_subgoals_only_where_goals_have_several_stages(scenes, tmp_path):
    found = run(EvaluateAgentConfig(out=str(tmp_path / "run"), scenes=scenes, policy="oracle", episodes=3))
    for several in (False, True):
        headers = [column.header for column in results_table(found["groups"], "", several).columns]
        assert ("subgoals %" in headers) is several


def test_options_that_mean_nothing_are_refused(scenes):
    for options, message in (({"control": "mind"}, "control='mind'"), ({"shut_doors": 2.0}, "is a chance")):
        with pytest.raises(InputError, match=message):
            EvaluateAgentConfig(scenes=scenes, **options)
    with pytest.raises(InputError, match="scenes is required"):
        run(EvaluateAgentConfig())
    with pytest.raises(InputError, match="did you mean 'procedural-test'"):
        run(EvaluateAgentConfig(episode_set="procedural-tst"))


def test_options_that_contradict_a_recording_or_a_named_set_are_refused(scenes):
    with pytest.raises(InputError, match="leave out policy=oracle, max_steps=50"):
        EvaluateAgentConfig(scenes=scenes, replay="recording.parquet", policy="oracle", max_steps=50, video=1)
    with pytest.raises(InputError, match="brings its own homes; leave out scenes="):
        EvaluateAgentConfig(scenes=scenes, episode_set="procedural-test")
    with pytest.raises(InputError, match="fixed doors with task=find_object"):
        EvaluateAgentConfig(episode_set="procedural-test", shut_doors=0.5)
    EvaluateAgentConfig(episode_set="procedural-test", shut_doors=0.5, task="rearrange", episodes=5)


def test_a_set_is_cut_to_the_first_episodes_when_asked(scenes, tmp_path):
    run(EvaluateAgentConfig(out=str(tmp_path / "a"), scenes=scenes, policy="oracle", episodes=6))
    kept = {"scenes": scenes, "policy": "oracle", "episode_set": str(tmp_path / "a" / "episode_set.parquet")}
    rows = [parquet.read_table(tmp_path / "a" / "episodes.parquet").to_pylist()]
    for name, episodes in (("b", 2), ("c", 0)):
        run(EvaluateAgentConfig(out=str(tmp_path / name), episodes=episodes, **kept))
        rows.append(parquet.read_table(tmp_path / name / "episodes.parquet").to_pylist())
    assert rows[1] == rows[0][:2] and rows[2] == rows[0]
    with pytest.raises(InputError, match="the set has 6"):
        run(EvaluateAgentConfig(out=str(tmp_path / "d"), episodes=7, **kept))


def test_an_episode_lasts_as_long_as_its_task_says(lived_in):
    for task, steps, expected in (("point_goal", 0, 100), ("follow_instruction", 0, 300), ("point_goal", 7, 7)):
        cfg = EvaluateAgentConfig(scenes=lived_in, task=task, episodes=1, max_steps=steps)
        assert make_simulator(cfg, None)[0].max_steps == expected


def test_sentences_are_wrapped_and_only_the_endless_are_cut():
    assert fitted("find the red armchair") == (19, ["\u201cfind the red armchair\u201d"])
    long = "go to the bed, then to the blue armchair, then to the floor lamp, and stop at the window " * 2
    size, lines = fitted(long.strip(), most=2)
    assert len(lines) == 2 and " ".join(lines) == f"\u201c{long.strip()}\u201d" and size < 19
    assert fitted("on and on " * 90, most=2)[1][-1].endswith("...\u201d")
