"""The evaluate-grounding job: our row, baselines, verdict, coverage, page, and anybody's predictions."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from core.errors import InputError, MissingFileError
from core.job import load_config
from scene.conformal import Conformal
from scene.evaluate import EvaluateGroundingConfig, run
from scene.geometry import object_points
from scene.grounder import Grounder
from scene.grounding import GroundingModel
from scene.model_config import ModelConfig
from scene.protocols.predictions import read_predictions, write_predictions
from scene.provenance import Provenance
from scene.store import SceneStore, write_corpus
from scene.texts import Referral
from tests.scene.toy import toy_referrals, toy_scene
from vl.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate") / "scenes"
    homes = {}
    for name, seeds in (("train", (0,)), ("val", (1,)), ("test", (2, 3))):
        homes[name] = []
        for seed in seeds:
            scene = toy_scene(seed)
            none = Referral(scene.id, "the purple tree", (), (), "zero", "toy", room=0)
            homes[name].append((scene, [*toy_referrals(scene), none]))
    write_corpus(folder, homes, "toy")
    return folder


@pytest.fixture(scope="module")
def model(scenes: Path) -> Path:
    tokenizer = train_tokenizer([r.utterance for seed in range(4) for r in toy_referrals(toy_scene(seed))])
    torch.manual_seed(0)
    sizes = {"dim": 16, "heads": 2, "hidden": 32, "points": 24}
    grounder = Grounder(GroundingModel(ModelConfig(vocab_size=len(tokenizer), **sizes)), tokenizer)
    grounder.conformal = Conformal(0.9, 0.0, n=9, homes=1, score="score")
    store = SceneStore(scenes)
    grounder.provenance = Provenance.collect([store], [(r.scene_id, r.utterance) for r in store.referrals("train")])
    grounder.save_pretrained(scenes.parent / "run/model")
    return scenes.parent / "run"


@pytest.fixture
def evaluate(scenes: Path, model: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def call(**changes: Any) -> dict[str, Any]:
        given = {
            "scenes": str(scenes),
            "model": str(model),
            "out": str(tmp_path / "out"),
            "resamples": 50,
            "failures": 0,
        }
        return run(EvaluateGroundingConfig(**{**given, **changes}))

    return call


@pytest.fixture(scope="module")
def result(scenes: Path, model: Path) -> dict[str, Any]:
    out = str(scenes.parent / "out")
    return run(EvaluateGroundingConfig(scenes=str(scenes), model=str(model), out=out, resamples=50, failures=1))


def row(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in result["table"] if row["name"] == name)["groups"]


def test_our_row_counts_what_locate_finds(result: dict[str, Any], scenes: Path, model: Path):
    choices = pq.read_table(scenes.parent / "out/predictions.parquet").to_pylist()
    hits = [choice["target"] == choice["predicted"] for choice in choices]
    assert row(result, "ours")["overall"]["Acc"]["value"] == pytest.approx(100 * np.mean(hits), abs=1e-3)
    assert (result["accuracy"], result["sentences"]) == (pytest.approx(np.mean(hits), abs=1e-4), len(hits))
    grounder = Grounder.from_pretrained(model / "model")
    some = choices[0]
    located = grounder.locate(toy_scene(int(some["scene_id"].split("-")[1])), some["utterance"])
    assert located.best.id == some["predicted"]


def test_baselines_are_expectations_over_ties(result: dict[str, Any], scenes: Path):
    asked = [(toy_scene(int(r.scene_id[-1])), r.targets[0]) for r in SceneStore(scenes).referrals("test")]
    alike = [scene.labels.count(scene.labels[target]) for scene, target in asked]
    assert row(result, "chance")["overall"]["Acc"]["value"] == pytest.approx(100 / 6, abs=1e-3)
    assert row(result, "label (oracle)")["overall"]["Acc"]["value"] == pytest.approx(
        100 * np.mean([1 / count for count in alike]), abs=1e-3
    )
    assert (
        result["chance"] == pytest.approx(1 / 6, abs=1e-4) and result["groups"]["overall"]["chance"] == result["chance"]
    )
    assert {entry["kind"] for entry in result["table"]} == {"ours", "baseline"}
    assert "interval" in row(result, "ours")["overall"]["Acc"] and "no sentence" in [r["name"] for r in result["table"]]


def test_sentences_that_mean_nothing_have_a_metric_of_their_own(result: dict[str, Any]):
    zero = row(result, "ours")["kind zero"]
    # with a threshold of 0 every object is in every set, so nothing is ever said to be absent
    assert set(zero) == {"F1"} and zero["F1"] == {"value": 0.0, "count": 2, "interval": [0.0, 0.0]}
    assert result["conformal"]["covered"] == 1.0 and result["conformal"]["empty_of_none"] == 0.0
    assert result["conformal"]["level"] == 0.9 and result["conformal"]["sentences_of_none"] == 2


def test_it_says_whether_the_test_was_zero_shot(
    result: dict[str, Any], evaluate: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
):
    assert result["zero_shot"]["zero_shot"] is False and "toy was trained on, but none" in result["zero_shot"]["text"]
    seen = evaluate(split="train", baselines=False)
    assert seen["zero_shot"]["sentences_seen"] == seen["sentences"] and "were trained on" in capsys.readouterr().out


def test_the_page_stands_alone_and_shows_a_wrong_answer(result: dict[str, Any], scenes: Path):
    page = (scenes.parent / "out/report.html").read_text()
    assert "symbolic parser" in page and "stated coverage" in page and "Wrong answers" in page
    assert "http://" not in page and "https://" not in page and page.count("data:image/png;base64") >= 2


def test_written_predictions_give_the_same_row_without_a_model(
    result: dict[str, Any], scenes: Path, evaluate: Callable[..., dict[str, Any]], tmp_path: Path
):
    again = evaluate(model="", predictions=str(scenes.parent / "out/predictions.jsonl"), baselines=False)
    assert row(again, "predictions.jsonl") == row(result, "ours")
    assert again["zero_shot"]["zero_shot"] is None and len(again["files"]["predictions"]) == 64
    assert [entry["name"] for entry in again["table"]] == ["predictions.jsonl"]

    said = list(read_predictions(scenes.parent / "out/predictions.jsonl").values())
    few = write_predictions(tmp_path / "few.json", said[1:])
    with pytest.raises(InputError, match="1 of .* examples have no prediction"):
        evaluate(model="", predictions=str(few), out=str(tmp_path / "few"))
    counted = evaluate(model="", predictions=str(few), missing="wrong", baselines=False, out=str(tmp_path / "wrong"))
    assert counted["examples"] == result["examples"]


def test_a_scanrefer_file_is_measured_by_boxes_beside_published_rows(
    scenes: Path, evaluate: Callable[..., dict[str, Any]], tmp_path: Path
):
    scene = toy_scene(2)
    asked = [
        {"scene_id": scene.id, "object_id": str(k), "object_name": scene.labels[k], "ann_id": "0",
         "description": f"this is the {scene.labels[k]}", "token": ["this"]}
        for k in range(6)
    ]  # fmt: skip
    store = SceneStore(scenes)
    named = [replace(item, source_id=str(item.id)) for item in scene.objects]
    folder = tmp_path / "named"
    write_corpus(folder, {"test": [(replace(scene, objects=named), toy_referrals(scene))]}, "scannet")
    assert store.load(scene.id).objects[0].source_id == ""
    (tmp_path / "val.json").write_text(json.dumps(asked))
    given: dict[str, Any] = {
        "scenes": str(folder), "protocol": "scanrefer", "annotations": str(tmp_path / "val.json"),
    }  # fmt: skip
    with pytest.raises(InputError, match=r"give options\.labels="):
        evaluate(**given, out=str(tmp_path / "without"))
    (tmp_path / "labels.tsv").write_text("id\traw_category\tnyu40id\tnyu40class\n1\tcube\t40\totherprop\n")
    given["options"] = {"labels": str(tmp_path / "labels.tsv")}
    found = evaluate(**given)
    assert {"Acc@0.25", "Acc@0.5"} <= set(row(found, "ours")["overall"])
    assert row(found, "GPS, fine-tuned")["overall"]["Acc@0.5"]["value"] == 48.1
    assert found["zero_shot"]["source"] == "scannet" and found["zero_shot"]["scenes_seen"] == 0
    boxes = [[float(v) for v in scene.objects[k].box] for k in range(6)]
    said = [{"id": p, "boxes": [box]} for p, box in zip(read_predictions(tmp_path / "out/predictions.jsonl"), boxes)]
    (tmp_path / "said.json").write_text(json.dumps(said))
    right = evaluate(**given, model="", predictions=str(tmp_path / "said.json"), out=str(tmp_path / "right"))
    assert row(right, "said.json")["overall"]["Acc@0.5"]["value"] == 100.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ""}, "give model=FOLDER"),
        ({"predictions": "x.json"}, "both given"),
        ({"protocol": "scanrefer"}, "needs annotations=FILE"),
        ({"protocol": "scanref"}, "did you mean 'scanrefer'"),
        ({"annotations": "x.json"}, "not read with protocol=corpus"),
        ({"proposals": "masks"}, "needs masks=FOLDER"),
        ({"masks": "x"}, "read with proposals=masks"),
        ({"training": "x.json"}, "training=FILE is of protocol=scanqa"),
        ({"scenes": ""}, "scenes is required"),
        ({"split": "tests"}, "did you mean 'test'"),
        ({"options": {"unknown_scene": "skip"}}, "did you mean 'unknown_scenes'"),
        ({"resamples": 0}, "at least 1"),
        (
            {"protocol": "nr3d", "annotations": "x.csv", "options": {"max_tokens": "abc"}},
            "abc: expected a whole number",
        ),
        ({"protocol": "nr3d", "annotations": "x.csv", "options": {"correct_guess": "maybe"}}, "expected true or false"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is_loaded(
    evaluate: Callable[..., dict[str, Any]], changes: dict[str, Any], message: str
):
    with pytest.raises(InputError, match=message):
        evaluate(**changes)


def test_a_missing_annotation_file_is_named(evaluate: Callable[..., dict[str, Any]]):
    with pytest.raises(MissingFileError, match="nowhere"):
        evaluate(protocol="nr3d", annotations="nowhere.csv")


def test_options_of_a_protocol_come_from_the_command_line():
    cfg = load_config("evaluate-grounding", EvaluateGroundingConfig, ["scenes=s", "+options.unknown_scenes=skip"])
    assert cfg.options == {"unknown_scenes": "skip"}


def test_proposals_are_measured_by_their_boxes(scenes: Path, model: Path, tmp_path: Path):
    scene = toy_scene(2)
    cloud = object_points(scene, 300, seed=0)
    ids = np.repeat(np.arange(6, dtype=np.int32), 300)
    points = cloud[..., :3].reshape(-1, 3)
    table = {"points": points, "colors": cloud[..., 3:].reshape(-1, 3).astype(np.uint8), "instance": ids}
    folder = tmp_path / "scenes"
    write_corpus(folder, {"test": [(replace(scene, **table), toy_referrals(scene))]}, "toy")
    np.savez(tmp_path / f"{scene.id}.mask.npz", mask=ids == np.arange(6)[:, None])
    given = {"scenes": str(folder), "model": str(model), "resamples": 20, "failures": 0}
    masks = run(EvaluateGroundingConfig(**given, out=str(tmp_path / "a"), proposals="masks", masks=str(tmp_path)))
    plain = run(EvaluateGroundingConfig(**given, out=str(tmp_path / "b")))
    assert row(masks, "chance")["overall"]["Acc@0.5"]["value"] == pytest.approx(100 / 6, abs=1e-3)
    # masks as true as these are boxes that are nearly the annotated ones
    assert row(masks, "ours")["overall"]["Acc@0.25"]["value"] == row(plain, "ours")["overall"]["Acc"]["value"]
    geometric = run(EvaluateGroundingConfig(**given, out=str(tmp_path / "c"), proposals="geometric"))
    assert {"Acc@0.25", "Acc@0.5"} <= set(row(geometric, "ours")["overall"])


def test_answers_are_measured_without_scenes_beside_what_training_gives_away(tmp_path: Path):
    def question(k: int, answer: str) -> dict[str, Any]:
        return {"scene_id": "scene0011_00", "question_id": f"val-scene0011-{k}", "question": "what color is it?",
                "answers": [answer], "object_ids": [1], "object_names": ["chair"]}  # fmt: skip

    for name, answers in (("val", ["brown", "red", "red"]), ("train", ["brown", "brown", "blue"])):
        (tmp_path / f"{name}.json").write_text(json.dumps([question(k, said) for k, said in enumerate(answers)]))
    said = [{"id": f"val-scene0011-{k}", "answers": ["brown", "red"]} for k in range(3)]
    (tmp_path / "said.json").write_text(json.dumps(said))
    found = run(
        EvaluateGroundingConfig(
            protocol="scanqa",
            annotations=str(tmp_path / "val.json"),
            training=str(tmp_path / "train.json"),
            predictions=str(tmp_path / "said.json"),
            out=str(tmp_path / "out"),
            resamples=20,
        )
    )
    overall = row(found, "said.json")["overall"]
    assert overall["EM@1"]["value"] == pytest.approx(100 / 3, abs=1e-3) and overall["EM@10"]["value"] == 100.0
    assert row(found, "most frequent answer")["overall"]["EM@1"]["value"] == pytest.approx(100 / 3, abs=1e-3)
    assert row(found, "GPS")["overall"]["EM@1"]["value"] == 22.7 and found["zero_shot"]["zero_shot"] is None
