import av
import numpy as np
import pyarrow.parquet as parquet
import pytest

from agents.episode_video import fitted
from agents.evaluate import EvaluateAgentConfig, results_table, run
from core.errors import InputError
from scene.datasets.procedural import generate_home
from scene.io import save_manifest, save_scene
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
    common = {"scenes": lived_in, "episodes": 3, "max_steps": 120}
    found = run(
        EvaluateAgentConfig(out=str(tmp_path / "a"), policy="oracle", task=task, record=True, **common, **options)
    )
    assert found["task"] == task and found["metrics"]["subgoals"]["mean"] > 0.5
    rows = parquet.read_table(tmp_path / "a" / "episodes.parquet").to_pylist()
    assert all(len(row["actions"]) == row["steps"] for row in rows)
    recording = str(tmp_path / "a" / "recording.parquet")
    again = run(EvaluateAgentConfig(out=str(tmp_path / "b"), replay=recording, video=task == "rearrange", **common))
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


def test_sentences_are_wrapped_and_only_the_endless_are_cut():
    assert fitted("find the red armchair") == (19, ["\u201cfind the red armchair\u201d"])
    long = "go to the bed, then to the blue armchair, then to the floor lamp, and stop at the window " * 2
    size, lines = fitted(long.strip(), most=2)
    assert len(lines) == 2 and " ".join(lines) == f"\u201c{long.strip()}\u201d" and size < 19
    assert fitted("on and on " * 90, most=2)[1][-1].endswith("...\u201d")
