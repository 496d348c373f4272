"""Rewards on recorded episodes whose pictures say how far they are: brighter is nearer."""

import json

import gymnasium
import numpy as np
import pytest
from PIL import Image

from agents.recordings import open_recordings
from agents.score_recordings import moments, named_task, pick_frames, progress_scores, vlm_scores
from agents.score_rewards import ScoreRewardsConfig, run
from core.errors import InputError
from tests.agents.tiny import make_towers
from vl.embedding_store import EmbeddingStore
from vl.generator import GeneratorCounts
from vl.model import VLModel
from vl.progress import ProgressReward

EPISODES = {
    "a": {"success": True, "progress": [0.0, 0.5, 1.0]},
    "b": {"success": False, "progress": [0.0, 0.5, 0.25, 0.0]},
    "c": {},
}


def brightness(picture) -> float:
    return float(np.asarray(picture).mean()) / 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three folders of frames, of two sizes; the third tells nothing."""
    root = tmp_path_factory.mktemp("recordings")
    lines = []
    for number, (name, known) in enumerate(EPISODES.items()):
        (root / name).mkdir()
        for k, value in enumerate(known.get("progress", [0.1, 0.2])):
            frame = np.full((24, 24 + 8 * (number == 2), 3), round(200 * value), np.uint8)
            Image.fromarray(frame).save(root / name / f"{k}.png")
        lines.append(json.dumps({"id": name, "file": name, "goal": "a red sofa", "baseline": "a bare wall"} | known))
    (root / "recordings.jsonl").write_text("\n".join(lines) + "\n")
    return root


class Brightness:
    """A generative model that answers by what it sees; silent about pictures brighter than `most`."""

    identity = "brightness"

    def __init__(self, most=2.0):
        self.counts, self.most = GeneratorCounts(), most

    def generate(self, prompts, *, system="", max_tokens, temperature=0.0, seed=0, pictures=None):
        return [
            "\n".join(
                f"Picture {k}: {100 * brightness(picture):.0f}%"
                for k, picture in enumerate(shown)
                if k and brightness(picture) <= self.most
            )
            for shown in pictures
        ]


def test_rows_hold_what_the_recordings_know_and_nothing_more(folder):
    rows, goals = moments(open_recordings(folder))
    assert goals == ["a red sofa"]
    assert rows.path.tolist() == ["expert"] * 3 + ["failed"] * 4 + ["recording"] * 2
    assert rows.group.tolist() == list("aaabbbbcc") and rows.step.tolist() == [0, 1, 2, 0, 1, 2, 3, 0, 1]
    np.testing.assert_array_equal(rows.progress, [0, 0.5, 1, 0, 0.5, 0.25, 0, np.nan, np.nan])
    np.testing.assert_array_equal(rows.success, [np.nan, np.nan, 1, 0, 0, 0, 0, np.nan, np.nan])


def test_progress_is_asked_of_each_episode_and_gaps_lie_between_its_answers(folder):
    recordings = open_recordings(folder)
    every = progress_scores(ProgressReward(Brightness(), max_frames=16), recordings)
    assert every.tolist() == pytest.approx([0, 0.5, 1, 0, 0.5, 0.25, 0, 0, 0.2], abs=0.006)
    few = progress_scores(ProgressReward(Brightness(), max_frames=2), recordings)
    assert few.tolist() == pytest.approx([0, 0.5, 1, 0, 0, 0, 0, 0, 0.2], abs=0.006)
    silent = progress_scores(ProgressReward(Brightness(0.9), max_frames=2), recordings)
    assert np.isnan(silent).tolist() == [True] * 3 + [False] * 6  # without one answer, all of it


def test_pictures_are_found_by_their_number_through_all_recordings(folder):
    recordings = open_recordings(folder)
    picked = pick_frames(recordings, np.array([8, 2, 0, 4, 2]))
    assert [frame.shape for frame in picked] == [(24, 32, 3)] + [(24, 24, 3)] * 4
    assert [round(brightness(frame), 2) for frame in picked] == [0.2, 1.0, 0.0, 0.5, 1.0]


def test_alpha_without_a_baseline_names_the_recording(folder, tmp_path):
    bare = open_recordings(folder / "a", goal=["a red sofa"])
    store = EmbeddingStore(4)
    with pytest.raises(InputError, match="recording a has no baseline"):
        vlm_scores(None, store, bare, 0.5)


@pytest.fixture
def no_page(monkeypatch):
    """The page takes seconds to draw; tests/agents/test_score_rewards.py draws one."""
    monkeypatch.setattr("agents.reward_report.score_page", lambda title, result, *rest: title)


def test_sentences_that_do_not_fit_are_said_before_a_frame_is_encoded(folder, tmp_path, monkeypatch):
    towers, encoded = str(make_towers(tmp_path / "towers")), []
    monkeypatch.setattr(VLModel, "encode_images", lambda self, frames: encoded.append(frames))
    for said, message in (
        ({"goal": ["a red sofa"]}, "baseline"),
        ({"goal": ["a red sofa"], "baseline": ["a red sofa"]}, "undefined"),
    ):
        with pytest.raises(InputError, match=message):
            run(ScoreRewardsConfig(recordings=str(folder / "a"), vl=towers, out=str(tmp_path / "run"), **said))
    assert not encoded


def test_the_job_scores_recordings_with_towers(folder, tmp_path, no_page):
    cfg = ScoreRewardsConfig(
        out=str(tmp_path / "run"),
        recordings=str(folder),
        vl=str(make_towers(tmp_path / "vl")),
        alphas=[0.0, 1.0],
        resamples=20,
        threads=1,
    )
    result = run(cfg)
    assert list(result["rewards"]) == ["alpha 0", "alpha 0.25", "alpha 1", "random weights", "constant", "oracle"]
    assert result["rewards"]["oracle"]["epic"]["n"] == 7 and result["rewards"]["alpha 1"]["auc"]["n"] == 5
    assert result["rewards"]["oracle"]["voc_expert"]["value"] == pytest.approx(1)
    found = result["rewards"]["oracle"]["false_positives"]
    assert found["value"] == 0.0 and found["n"] == 1  # b alone has failed
    assert set(result["paths"]["alpha 0"]) == {"expert", "failed", "recording"}
    assert set(result["sweep"]) == {"a red sofa"} and set(result["sweep"]["a red sofa"]) == {"0", "0.25", "1"}
    worst = np.load(tmp_path / "run" / "worst.npz")
    assert len(worst) == len(result["worst"]) and (tmp_path / "run" / "page.html").read_text().endswith("3 recordings")


class Brighten(gymnasium.Env):
    """Four steps; a push of 1 makes the picture a third brighter, and white is the goal."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        self.light, self.steps = 0.0, 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.light, self.steps = min(1.0, self.light + action / 3), self.steps + 1
        told = {"progress": self.light, "success": self.light > 0.99}
        return np.array([self.light], np.float32), 0.0, False, self.steps == 4, told

    def render(self):
        return np.full((32, 32, 3), round(255 * self.light), np.uint8)


def test_the_job_plays_a_task_that_tells_its_progress(tmp_path, no_page):
    gymnasium.register("tests/Brighten-v0", Brighten, disable_env_checker=True)
    cfg = ScoreRewardsConfig(
        out=str(tmp_path / "run"),
        reward_task="tests/Brighten-v0",
        goal=["a red sofa", "a green table"],
        vl=str(make_towers(tmp_path / "vl")),
        episodes=3,
        image_size=32,
        alphas=[0.0],
        alpha=0.0,
        resamples=5,
        worst=2,
        threads=1,
    )
    with pytest.warns(UserWarning, match="no controller by hand"):
        result = run(cfg)
    assert set(result["paths"]["oracle"]) == {"random", "stare"} and result["moments"] == 2 * 3 * 4
    # doing nothing takes the two actions in turn: 0, 1, 0, 1
    assert result["paths"]["oracle"]["stare"][0] == 0 and result["paths"]["oracle"]["stare"][-1] == pytest.approx(2 / 3)
    assert result["rewards"]["oracle"]["epic"]["value"] == pytest.approx(0, abs=1e-6)
    assert list(result["sweep"]) == ["a red sofa", "a green table", "all prompts together"]
    assert np.load(tmp_path / "run" / "worst.npz")["frame_0"].shape == (32, 32, 3)


def test_a_task_that_nobody_knows_is_refused():
    with pytest.raises(InputError, match="reward_task=cartpol "):
        named_task("cartpol")
    assert named_task("CartPole-v1") == {"env": "CartPole-v1", "env_options": {}, "goal": [], "baseline": []}


def test_exactly_one_source_and_a_reward_that_fits_it():
    for keys, match in (
        ({}, "got none"),
        ({"scenes": "x", "recordings": "y"}, "scenes and recordings"),
        ({"recordings": "x"}, "a reward is required"),
        ({"recordings": "x", "vl": "y", "grounder": "z"}, "belong to homes"),
        ({"scenes": "x"}, "a reward is required"),
    ):
        with pytest.raises(InputError, match=match):
            run(ScoreRewardsConfig(**keys))
