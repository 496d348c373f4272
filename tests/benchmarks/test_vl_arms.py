"""The tables of vision-language arms, from runs small enough to check by hand."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from benchmarks.arms import spread
from benchmarks.short_views import keep_short
from benchmarks.vl_arms import FREEZING, PAIRS, comparisons, over_groups, page, read_arm, read_arms, views_table
from core.errors import InputError
from tests.vl.views_on_disk import write_views
from vl.data import CaptionedViews

VERSION = {"platform": "Linux", "threads": 1, "torch": "2", "python": "3.11", "code": "abc"}
TRAINING = {
    "steps": 10,
    "updating_seconds": 30.0,
    "seconds": 60.0,
    "trainable_parameters": 12_000,
    "flops_per_step": 64e9,
    "peak_memory_gb": 0.5,
}


def write_run(folder: Path, result: dict, table: dict | None = None, name: str = "") -> None:
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "version.json").write_text(json.dumps(VERSION))
    (folder / "config.yaml").write_text("batch_size: 64\n")
    if table is not None:
        parquet.write_table(pa.table(table), folder / name)


def write_view_arm(root: Path, arm: str, seed: int, ranks: list[int], homes: list[str], again: float = 0.0) -> None:
    count = len(ranks)
    found = sum(rank == 1 for rank in ranks) / count
    rows = [
        {"model": model, "direction": direction, "subset": "all", "R@1": found}
        for model in ("model", "random weights")
        for direction in ("text to view", "view to text")
    ]
    table = {"query": [f"q{i}" for i in range(count)], "view": list(range(count)), "scene_id": homes, "rank": ranks}
    write_run(root / f"views-{arm}-{seed}", {"table": rows}, table, "retrieval.parquet")
    write_run(root / f"views-{arm}-{seed}-training", TRAINING)
    if again:
        row = {"model": "reranked", "direction": "text to view", "subset": "all", "R@1": again}
        write_run(root / f"views-{arm}-{seed}-reranked", {"table": [row]})


@pytest.fixture
def runs(tmp_path):
    homes = ["a", "a", "b", "b"]
    for seed, ranks in enumerate(([1, 1, 1, 2], [1, 1, 2, 3])):
        write_view_arm(tmp_path, "none", seed, ranks, homes, again=0.25)
    write_run(tmp_path / "views-none-timing", {**TRAINING, "updating_seconds": 16.0})
    for seed, ranks in enumerate(([1, 2, 2, 2], [2, 1, 2, 3])):
        write_view_arm(tmp_path, "both", seed, ranks, homes)
    return tmp_path


def test_means_intervals_and_costs_are_those_of_the_runs(runs):
    arms = read_arms(runs, "views", ["none", "both"], ["training"])
    assert arms["none"].hits.mean(1).tolist() == [0.75, 0.5]
    lines = views_table(arms, {"none": "nothing frozen", "both": "both frozen"})
    assert lines[2].startswith("| nothing frozen | 62.5 (-96.3 to 221.3) |")  # t interval of two seeds, 12.706 * 12.5
    assert "| 25.0 (25.0 to 25.0) |" in lines[2] and "|  | 12 k" in lines[3]  # ranked again, or no fusion
    assert lines[2].endswith("| 12 k | 1.00 | 25.0 | 0.50 |")  # 64 GFLOP a step of 64 pairs; 10 updates in 16 s
    assert lines[3].endswith("| 12 k | 1.00 |  | 0.50 |")  # not timed alone
    assert over_groups(arms["none"]) == "25.0 to 100.0"  # home a hits in both queries and seeds, home b in a quarter
    assert spread([0.5]) == "50.0"


def test_arms_are_compared_query_by_query(runs):
    arms = read_arms(runs, "views", ["none", "both"], ["training"])
    (line,) = comparisons(arms, FREEZING, PAIRS["freezing"][2:3])
    assert line.startswith("    both towers frozen - nothing frozen: -37.5 (-50.0 to -25.0) lower")


def test_arms_that_are_missing_are_named_and_the_page_tells_the_rest(runs, capsys):
    arms = read_arms(runs, "views", ["none", "itc", "both"], ["training"])
    assert "no finished evaluation of itc" in capsys.readouterr().err
    text = page(arms, {})
    assert "4 test views of 2 homes" in text and "R@1 25.0 %" in text and "NLVR1:" not in text


def test_seeds_that_met_other_queries_are_refused(runs):
    write_view_arm(runs, "none", 2, [1, 1, 1], ["a", "a", "b"])
    with pytest.raises(InputError, match="different queries"):
        read_arm(runs, "views", "none", ["training"])


def test_short_views_are_those_whose_captions_have_few_words(tmp_path):
    source = write_views(tmp_path / "views", {"train": 12})
    whole = CaptionedViews.open(source, "train")
    assert keep_short(source, tmp_path / "same" / "train", "train", 20) == (12, 12)
    same = CaptionedViews.open(tmp_path / "same", "train")
    assert (same.images == whole.images).all() and same.texts == whole.texts and same.scene_id == whole.scene_id
    with pytest.raises(InputError, match="no view of split train"):
        keep_short(source, tmp_path / "none" / "train", "train", 3)
