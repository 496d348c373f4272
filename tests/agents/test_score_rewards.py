import json

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch

from agents.score_rewards import Pairs, ScoreRewardsConfig, Shot, compare, label, run
from core.errors import InputError
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.tasks.find_object import FindObject
from scene.render import Frame
from tests.agents.tiny import make_scenes, make_towers
from tests.envs.homes import make_home

SMALL = {"cameras": 4, "walks": 1, "walk_steps": 5, "resamples": 20, "threads": 1}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    root = tmp_path_factory.mktemp("score")
    cfg = ScoreRewardsConfig(
        out=str(root / "run"), scenes=str(make_scenes(root / "scenes")), vl=str(make_towers(root / "vl")), **SMALL
    )
    return run(cfg), root / "run"


def test_frames_are_sorted_by_pixels_and_distance():
    home = make_home("room", 8.0, 4.0, [("sofa", "red", 1.0, 2.0, 1.0, 1.0, 0.8)])
    simulator = Simulator(HomePool([home], goal_labels=["sofa"]), FindObject((("sofa", "red"),)), sensors=None)
    instance = torch.full((4, 8, 8), -1, dtype=torch.int32)
    for row, pixels in enumerate((30, 30, 24, 0)):
        instance[row].view(-1)[:pixels] = 0
    at = np.array([[3.4, 2.0], [3.6, 2.0], [3.0, 2.0], [3.0, 2.0]])  # the sofa's edge is at x = 1.5
    frame = Frame(torch.zeros(4, 8, 8, 3, dtype=torch.uint8), torch.ones(4, 8, 8), instance)
    pairs = label(simulator, [Shot("camera", np.zeros(4, int), at, frame)])
    assert pairs.kind.tolist() == [0, 1, 3, 2]  # near, far, sliver, absent
    assert pairs.pixels.tolist() == [30, 30, 24, 0]
    assert pairs.distance_m.tolist() == pytest.approx([1.9, 2.1, 1.5, np.inf])


def test_far_frames_do_not_touch_the_main_auc():
    kind = np.array([0, 0, 2, 2, 1, 3])
    score = np.array([0.9, 0.4, 0.5, 0.1, 2.0, 3.0])
    blank = np.zeros(6)
    pairs = Pairs(np.arange(6), blank, np.array([0, 1, 0, 1, 0, 1]), blank, blank, kind)
    found = compare(score, pairs, np.ones(6, bool), resamples=10)
    assert found["absent"]["auc"] == 0.75 and found["absent"]["frames"] == 2
    assert found["far"]["auc"] == 0.0 and found["far"]["frames"] == 1


def test_the_oracle_is_perfect_and_a_constant_is_chance(found):
    table = found[0]["table"]
    assert table["oracle"]["all pairs"]["absent"]["auc"] == 1.0
    assert table["constant"]["all pairs"]["absent"]["auc"] == 0.5
    assert table["constant"]["all pairs"]["epic"] == pytest.approx(0.5**0.5)
    assert {"alpha 0", "alpha 0.25", "alpha 0.5", "alpha 0.75", "alpha 1", "random weights"} <= set(table)


def test_counts_rows_and_path_agree(found):
    result, folder = found
    rows = parquet.read_table(folder / "frames.parquet").to_pylist()
    assert len(rows) == sum(result["pairs"].values())
    assert len({row["frame"] for row in rows}) == result["frames"]
    assert {row["source"] for row in rows} == {"camera", "random", "oracle"}
    path = json.loads((folder / "reward_path.json").read_text())
    assert len(path["score"]) == len(path["distance_m"]) == len(path["visible_pixels"]) > 3
    assert path["distance_m"][-1] == 0.0 and path["distance_m"][0] > 1.0


def test_an_alpha_outside_its_range_is_refused():
    with pytest.raises(InputError, match="between 0 and 1"):
        ScoreRewardsConfig(alphas=[0.5, 1.5])
