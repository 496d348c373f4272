"""Accuracy, baselines and groups of the grounding evaluation, counted by hand."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from core.errors import InputError
from scene.batch import GroundingRoom, ObjectSet
from scene.evaluate import (
    EvaluateGroundingConfig,
    baselines,
    groups,
    is_view_dependent,
    run,
    save_predictions,
)
from scene.grounder import Grounder
from scene.grounding import GroundingModel
from scene.model_config import ModelConfig
from scene.model_folder import model_folder
from tests.scene.toy import toy_folder, toy_referrals, toy_scene
from vl.tokenizer import train_tokenizer

LABELS = ["chair", "chair", "chair", "lamp", "bed", "bed"]
COLORS = ["red", "red", "blue", "red", "red", "blue"]


def room() -> GroundingRoom:
    captions = [f"{color} {label}" for color, label in zip(COLORS, LABELS)]
    ids = torch.arange(6) + 10
    objects = ObjectSet("home", 2, ids, LABELS, captions, torch.zeros(6, 0, 6), torch.zeros(6, 6))
    sentences = ["the red chair by the bed", "the lamp", "the bed in front of the lamp"]
    return GroundingRoom(
        objects, sentences, torch.tensor([0, 3, 5]), ["relation", "unique", "relation"], [(4,), (), (3,)]
    )


def test_baselines_are_exact_expectations():
    found = baselines([room()])
    assert found["chance"].tolist() == [1 / 6] * 3
    assert found["label"].tolist() == [1 / 3, 1, 1 / 2]
    assert found["label_color"].tolist() == [1 / 2, 1, 1]


def test_groups_follow_the_number_of_objects_of_the_targets_class():
    table = groups([room()])
    assert {name: np.flatnonzero(members).tolist() for name, members in table.items()} == {
        "all": [0, 1, 2],
        "unique": [1],
        "easy": [2],
        "hard": [0],
        "view-dependent": [2],
        "view-independent": [0, 1],
        "kind relation": [0, 2],
        "kind unique": [1],
    }


def test_view_words_are_whole_words():
    assert is_view_dependent("The chair, LEFT of it") and not is_view_dependent("the leftover chair")


def test_predictions_hold_object_ids_not_slots(tmp_path: Path):
    save_predictions(tmp_path / "p.parquet", [room()], np.array([1, 3, 5]))
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert rows[0] == {
        "scene_id": "home", "room": 2, "utterance": "the red chair by the bed", "kind": "relation",
        "target": 10, "predicted": 11,
    }  # fmt: skip
    assert [row["predicted"] for row in rows] == [11, 13, 15]


def test_the_job_scores_a_split_as_locate_would(tmp_path: Path):
    scenes = toy_folder(tmp_path / "scenes", train=1, val=1, test=2)
    tokenizer = train_tokenizer([r.utterance for seed in range(4) for r in toy_referrals(toy_scene(seed))])
    torch.manual_seed(0)
    sizes = {"dim": 16, "heads": 2, "hidden": 32, "points": 24}
    grounder = Grounder(GroundingModel(ModelConfig(vocab_size=len(tokenizer), **sizes)), tokenizer)
    grounder.save_pretrained(tmp_path / "run/model")
    assert model_folder(str(tmp_path / "run")) == model_folder(str(tmp_path / "run/model"))
    cfg = EvaluateGroundingConfig(scenes=str(scenes), model=str(tmp_path / "run"), out=str(tmp_path / "out"))
    result = run(cfg)
    rows = pq.read_table(tmp_path / "out/predictions.parquet").to_pylist()
    assert result["sentences"] == len(rows) and result["homes"] == 2
    assert result["accuracy"] == pytest.approx(np.mean([r["target"] == r["predicted"] for r in rows]), abs=1e-4)
    assert result["chance"] == pytest.approx(1 / 6, abs=1e-4)
    row = rows[0]
    located = grounder.locate(toy_scene(int(row["scene_id"].split("-")[1])), row["utterance"])
    assert located.best.id == row["predicted"]


def test_a_missing_split_is_named(tmp_path: Path):
    scenes = toy_folder(tmp_path / "scenes", train=1, val=1, test=1)
    tokenizer = train_tokenizer(["the red cube"])
    model = GroundingModel(ModelConfig(vocab_size=len(tokenizer), dim=16, heads=2, hidden=32, points=24))
    Grounder(model, tokenizer).save_pretrained(tmp_path / "model")
    cfg = EvaluateGroundingConfig(scenes=str(scenes), model=str(tmp_path / "model"), out=str(tmp_path / "out"))
    cfg.split = "tests"
    with pytest.raises(InputError, match="tests"):
        run(cfg)
