import json

import numpy as np
import pyarrow.parquet as parquet
import pytest

from agents.reward_frames import Pairs
from agents.reward_views import compare
from agents.score_rewards import ScoreRewardsConfig, run
from core.errors import InputError
from tests.agents.tiny import make_scenes, make_towers

SMALL = {"cameras": 4, "walks": 1, "walk_steps": 30, "resamples": 20, "calibration_frames": 16, "worst": 3}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    root = tmp_path_factory.mktemp("score")
    cfg = ScoreRewardsConfig(
        out=str(root / "run"),
        scenes=str(make_scenes(root / "scenes")),
        vl=str(make_towers(root / "vl")),
        prompts=["captions", "label"],
        alphas=[0.0, 1.0],
        threads=1,
        **SMALL,
    )
    return run(cfg), root / "run", cfg


def test_far_frames_do_not_touch_the_main_auc():
    score = np.array([0.9, 0.4, 0.5, 0.1, 2.0, 3.0])
    blank = np.zeros(6)
    columns = dict.fromkeys(Pairs.__dataclass_fields__, blank)
    columns |= {
        "home": np.array([0, 1, 0, 1, 0, 1]),
        "pixels": np.array([30, 30, 0, 0, 30, 5]),  # near, near, absent, absent, far, sliver
        "distance_m": np.array([1, 1, np.inf, np.inf, 3, 1]),
    }
    found = compare(score, Pairs(**columns), np.ones(6, bool), resamples=10)
    assert found["absent"]["auc"] == 0.75 and found["absent"]["frames"] == 2
    assert found["far"]["auc"] == 0.0 and found["far"]["frames"] == 1


def test_the_controls_have_their_known_figures(found):
    views, rewards = found[0]["table"], found[0]["rewards"]
    assert views["oracle"]["all pairs"]["absent"]["auc"] == 1.0
    assert views["constant"]["all pairs"]["absent"]["auc"] == rewards["constant"]["auc"]["value"] == 0.5
    assert views["constant"]["all pairs"]["epic"] == rewards["constant"]["epic"]["value"] == pytest.approx(0.5**0.5)
    assert rewards["oracle"]["epic"]["value"] == pytest.approx(0, abs=1e-6)
    assert rewards["oracle"]["auc"]["value"] == 1.0
    assert rewards["oracle"]["false_positives_adversarial"]["value"] == 0.0
    assert rewards["constant"]["false_positives_adversarial"]["value"] == 1.0


def test_every_reward_is_measured_on_the_same_moments_raw_and_as_agents_are_paid(found):
    rewards = found[0]["rewards"]
    assert list(rewards) == [
        "alpha 0", "alpha 0.25", "alpha 1",
        "alpha 0, standardised", "alpha 0.25, standardised", "alpha 1, standardised",
        "random weights", "constant", "oracle",
    ]  # fmt: skip
    assert len({row["epic"]["n"] for row in rewards.values()}) == 1
    paths = {"oracle", "random", "stare", "wrong_thing", "circling"}
    assert all(set(lines) == paths for lines in found[0]["paths"].values())
    sweep = found[0]["sweep"]
    assert set(sweep) == {"captions", "label"} and set(sweep["label"]) == {"0", "0.25", "1"}
    assert sweep["captions"]["1"]["auc"] == pytest.approx(rewards["alpha 1, standardised"]["auc"]["value"])


def test_counts_rows_and_path_agree(found):
    result, folder, _ = found
    rows = parquet.read_table(folder / "frames.parquet").to_pylist()
    asked = [row for row in rows if row["source"] in ("camera", "random", "oracle")]
    assert len(asked) == sum(result["pairs"].values())
    assert len({row["frame"] for row in rows}) == result["frames"]
    assert sum(row["own"] for row in rows) == result["moments"]
    path = json.loads((folder / "reward_path.json").read_text())
    assert len(path["score"]) == len(path["distance_m"]) == len(path["visible_pixels"]) > 3
    assert path["distance_m"][-1] == 0.0 and path["distance_m"][0] > 1.0


def test_the_worst_errors_have_their_pictures_and_stand_on_the_page(found):
    result, folder, _ = found
    frames = np.load(folder / "worst.npz")
    assert [f"frame_{item['frame']}" for item in result["worst"]] == list(frames) and len(frames) > 2
    assert all(frames[name].dtype == np.uint8 and frames[name].shape == (64, 64, 3) for name in frames)
    page = (folder / "page.html").read_text()
    assert all(item["goal"] in page for item in result["worst"]) and "Worst errors" in page
    assert not list(folder.glob("pictures-*"))


def test_a_finished_run_is_not_measured_again(found):
    result, folder, cfg = found
    again = ScoreRewardsConfig(**{**vars(cfg), "resume": "auto"})
    assert run(again) == json.loads((folder / "result.json").read_text())


def test_an_alpha_outside_its_range_is_refused():
    with pytest.raises(InputError, match="between 0 and 1"):
        ScoreRewardsConfig(alphas=[0.5, 1.5])


def test_prompts_that_name_nothing_are_refused():
    with pytest.raises(InputError, match="prompts="):
        ScoreRewardsConfig(prompts=["captoins"])
