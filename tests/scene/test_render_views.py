"""Smoke test of the job render-views: its folder, its result, and continuing it."""

import json

import pytest

from core.errors import InputError
from core.job import load_config
from scene.io import save_scene
from scene.render_views import CONFIG, run
from scene.store import save_manifest
from scene.views import Views
from tests.scene.test_views import home


def test_the_job_writes_every_split_and_a_continued_run_keeps_what_is_there(tmp_path, capsys):
    for k in range(3):
        save_scene(home(f"home-{k}", seed=k), tmp_path / "scenes")
    splits = {"train": ["home-0"], "val": ["home-1"], "test": ["home-2"]}
    save_manifest(tmp_path / "scenes", {"source": "test", "splits": splits})
    words = [f"scenes={tmp_path / 'scenes'}", f"out={tmp_path / 'views'}", "train_views=3", "val_views=0",
             "test_views=2", "width=16", "height=16"]  # fmt: skip
    result = run(load_config("render-views", CONFIG, words))
    assert {split: row["views"] for split, row in result["splits"].items()} == {"train": 3, "test": 2}
    assert json.loads((tmp_path / "views" / "result.json").read_text())["splits"] == result["splits"]
    before = Views.load(tmp_path / "views" / "train").images.copy()
    again = run(load_config("render-views", CONFIG, [*words, "resume=auto"]))
    assert again["splits"] == result["splits"]
    assert (Views.load(tmp_path / "views" / "train").images == before).all()
    assert "3 views of 1 homes" in capsys.readouterr().out


def test_impossible_counts_and_cameras_are_refused():
    for words in (["train_views=0", "val_views=0", "test_views=0"], ["val_views=-1"], ["fov_deg=180"], ["width=4"]):
        with pytest.raises(InputError, match=r"views per home|fov|pixels"):
            load_config("render-views", CONFIG, ["scenes=x", *words])
