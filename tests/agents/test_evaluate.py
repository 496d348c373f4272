import av
import numpy as np
import pyarrow.parquet as parquet
import pytest

from agents.evaluate import EvaluateAgentConfig, run
from core.errors import InputError
from tests.agents.tiny import make_scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> str:
    return str(make_scenes(tmp_path_factory.mktemp("scenes")))


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
    with pytest.raises(InputError, match="neither random nor oracle"):
        run(EvaluateAgentConfig(out=str(tmp_path / "run"), scenes=scenes, policy="no/such/policy"))
    assert not (tmp_path / "run").exists()
