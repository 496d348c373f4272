"""Facts about vl/pretrain.py: a few updates on coloured rectangles, whatever is trained on what."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel

from core import distributed
from core.errors import InputError
from core.run import read_metrics
from tests.core.test_distributed import launch
from tests.vl.views_on_disk import write_views
from vl.data import CaptionedViews
from vl.fusion import FusionConfig
from vl.image_towers import ImageTowerConfig
from vl.model import VLConfig, VLModel
from vl.objectives import Objectives
from vl.one_tower import OneTowerConfig
from vl.pairs import PairBatches
from vl.pretrain import run
from vl.pretrain_config import PretrainVLConfig
from vl.pretrain_data import open_source
from vl.pretrain_features import why_not_cached

TIMING = {"seconds", "updating_seconds", "pairs_per_second", "peak_memory_gb", "loader"}
VIT = ImageTowerConfig(
    model_type="vit",
    image_size=32,
    options={
        "patch_size": 8,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    },
)


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    return write_views(tmp_path_factory.mktemp("views"), {"train": 64, "val": 24})


@pytest.fixture
def config(views, tiny_config, tmp_path) -> PretrainVLConfig:
    return PretrainVLConfig(
        out=str(tmp_path / "run"),
        views=str(views),
        model=tiny_config,
        steps=8,
        batch_size=16,
        warmup_steps=2,
        eval_every=4,
        checkpoint_every=3,
    )


@pytest.fixture
def fusing(config, tiny_config) -> PretrainVLConfig:
    """ViT and BERT under one fusion layer."""
    model = dataclasses.replace(tiny_config, image=VIT, fusion=FusionConfig(layers=1, width=16, heads=2))
    objectives = Objectives(itc=1.0, itm=1.0, mlm=1.0)
    return dataclasses.replace(config, model=model, objectives=objectives, steps=2, eval_every=2, checkpoint_every=5)


def changed(model: VLConfig, **parts: dict) -> VLConfig:
    """`changed(model, image={"freeze": True})`."""
    return dataclasses.replace(
        model, **{name: dataclasses.replace(getattr(model, name), **fields) for name, fields in parts.items()}
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return VLModel.from_pretrained(folder / "model").state_dict()


def test_a_run_learns_and_leaves_a_model_that_loads(config, tmp_path):
    cfg = dataclasses.replace(config, steps=30, eval_every=15, checkpoint_every=50, object_share=1.0)
    result = run(cfg)
    rows = read_metrics(cfg.out)
    assert [row["step"] for row in rows] == list(range(1, 31))
    assert sum(row["loss"] for row in rows[-5:]) < sum(row["loss"] for row in rows[:5]) - 0.5
    model = VLModel.from_pretrained(tmp_path / "run" / "model")
    red, blue = model.encode_texts(["a red box", "a blue box"])
    assert not torch.allclose(red, blue)
    assert result["best_step"] in (15, 30) and result["val_homes"] <= 6
    assert result["parameters"] == result["trainable_parameters"] and result["flops_per_step"] > 1e6
    assert result["features"] == {name: f"not cached: the {name} tower is trained" for name in ("image", "text")}
    assert run(dataclasses.replace(cfg, resume="auto")) == result  # a finished run is not run again


class Killed(Exception):
    pass


def test_a_killed_run_continues_to_the_same_weights_and_metrics(fusing, tmp_path, monkeypatch):
    fusing = dataclasses.replace(fusing, steps=5, eval_every=3, checkpoint_every=2)
    whole = run(dataclasses.replace(fusing, out=str(tmp_path / "whole")))

    import vl.pretrain as job

    real, calls = job.update, 0

    def fails_at_the_fourth(*arguments):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(job, "update", fails_at_the_fourth)
    with pytest.raises(Killed):
        run(fusing)
    monkeypatch.setattr(job, "update", real)
    continued = run(dataclasses.replace(fusing, resume="auto"))

    assert {k: v for k, v in whole.items() if k not in TIMING} == {
        k: v for k, v in continued.items() if k not in TIMING
    }
    assert read_metrics(tmp_path / "whole") == read_metrics(fusing.out)
    first, second = weights(tmp_path / "whole"), weights(Path(fusing.out))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_sigmoid_loss_trains_too(config):
    run(dataclasses.replace(config, objectives=Objectives(itc_loss="sigmoid", overlap="ignored"), steps=3))
    assert all(math.isfinite(row["loss"]) for row in read_metrics(config.out))


def test_every_objective_is_logged_and_the_loss_is_their_weighted_sum(fusing):
    weight = {"itc": 1.0, "itm": 0.5, "mlm": 2.0, "caption": 1.0, "mim": 0.25, "text_mlm": 1.0}
    objectives = Objectives(**weight)
    run(dataclasses.replace(fusing, objectives=objectives, optimizer="lion", lr=1e-4, schedule="linear"))
    for row in read_metrics(fusing.out):
        total = sum(
            getattr(objectives, name) * row[name] for name in ("itc", "itm", "mlm", "caption", "mim", "text_mlm")
        )
        assert row["loss"] == pytest.approx(total, rel=1e-5)


def test_without_contrast_the_best_weights_have_the_least_val_loss(fusing):
    cfg = dataclasses.replace(fusing, objectives=Objectives(itc=0.0, mlm=1.0), steps=3, eval_every=1)
    result = run(cfg)
    losses = {row["step"]: row["val_loss"] for row in read_metrics(cfg.out) if "val_loss" in row}
    assert list(losses) == [1, 2, 3]
    assert result["val_loss"] == min(losses.values()) == losses[result["best_step"]]
    assert result["val_pairs"] == 16 and "val_mrr" not in result


def test_single_modalities_train_alone_and_their_towers_start_a_model_of_both(fusing, tmp_path):
    for name, objectives in (("image", Objectives(itc=0.0, mim=1.0)), ("text", Objectives(itc=0.0, text_mlm=1.0))):
        cfg = dataclasses.replace(fusing, out=str(tmp_path / name), objectives=objectives, export_towers=True)
        assert run(cfg)["towers"] == "towers"
    image, text = tmp_path / "image" / "towers" / "image", tmp_path / "text" / "towers" / "text"
    AutoModel.from_pretrained(image)
    model = dataclasses.replace(
        fusing.model,
        image=ImageTowerConfig(pretrained=str(image), image_size=32, freeze=True),
        text=dataclasses.replace(fusing.model.text, pretrained=str(text), options={}, freeze=True),
    )
    result = run(dataclasses.replace(fusing, model=model))
    assert result["trainable_parameters"] < result["parameters"]
    before, after = weights(tmp_path / "image"), weights(Path(fusing.out))
    tower = [name for name in after if name.startswith("image_tower.")]
    assert tower and all(torch.equal(before[name], after[name]) for name in tower)


def test_one_tower_trains_on_the_same_objectives(fusing):
    model = VLConfig(
        kind="one-tower",
        dim=12,
        max_tokens=16,
        image=ImageTowerConfig(image_size=32),
        one=OneTowerConfig(layers=1, width=16, heads=2, patch=8),
    )
    result = run(dataclasses.replace(fusing, model=model))
    assert result["features"]["image"] == "not cached: one tower reads image and text together"
    assert {"itc", "itm", "mlm"} <= read_metrics(fusing.out)[0].keys()
    assert "one_tower" not in result  # it started from no encoder


def test_what_a_one_tower_took_from_an_encoder_is_in_the_result(fusing, tmp_path, capsys):
    run(dataclasses.replace(fusing, out=str(tmp_path / "text"), export_towers=True, steps=1))
    start = str(tmp_path / "text" / "towers" / "text")
    one = OneTowerConfig(
        init="text", pretrained=start, layers=2, width=16, heads=2, mlp=2.0, patch=8, norm="post", activation="relu"
    )
    model = VLConfig(kind="one-tower", dim=12, max_tokens=16, image=ImageTowerConfig(image_size=32), one=one)
    found = run(dataclasses.replace(fusing, model=model, steps=1))["one_tower"]
    assert found["source"] == "bert" and found["taken"][:2] == ["1 of 2 layers", "words"]
    assert found["fresh"]["the last layers"] == "the encoder has 1"
    assert found["fresh"]["patches"] == "from a text encoder"
    assert "one tower from bert: 1 of 2 layers, words" in capsys.readouterr().out


def test_frozen_towers_keep_their_weights_and_what_is_cached_changes_nothing_but_the_time(fusing, tmp_path):
    model = changed(fusing.model, image={"freeze": True}, text={"freeze": True})
    cfg = dataclasses.replace(fusing, model=model, flip=False, jitter=0.0)
    results, kept = {}, {}
    for name, changes in {"cached": {}, "anew": {"cache_features": "no"}}.items():
        results[name] = run(dataclasses.replace(cfg, out=str(tmp_path / name), **changes))
        kept[name] = read_metrics(tmp_path / name)
    assert results["cached"]["features"]["image"].startswith("64 cached in")
    assert results["anew"]["features"]["image"] == "not cached: cache_features=no"
    assert not (tmp_path / "cached" / "features").exists()  # in the run folder only while it runs
    assert results["cached"]["flops_per_step"] < results["anew"]["flops_per_step"]
    for one, other in zip(kept["cached"], kept["anew"]):
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-3)  # features in half precision
    start = VLModel.create(model, VLModel.from_pretrained(tmp_path / "anew" / "model").tokenizer, seed=0).state_dict()
    after = weights(tmp_path / "cached")
    frozen = [name for name in after if name.startswith(("image_tower.", "text_tower."))]
    assert frozen and all(torch.equal(start[name], after[name]) for name in frozen)


def test_features_in_a_named_folder_are_shared_by_runs(config, tmp_path):
    model = changed(config.model, image={"freeze": True})
    cfg = dataclasses.replace(config, model=model, features=str(tmp_path / "shared"), flip=False, jitter=0.0, steps=1)
    for name in ("a", "b"):
        run(dataclasses.replace(cfg, out=str(tmp_path / name)))
    (made,) = [path for path in (tmp_path / "shared").iterdir() if not path.name.startswith(".")]
    assert (made / "index.json").is_file()


def test_shared_features_of_another_head_are_not_taken_for_these(config, tmp_path):
    """A linear head needs the mean of the states alone, an mlp head (cell by cell) all of them."""
    shared = {"features": str(tmp_path / "shared"), "flip": False, "jitter": 0.0, "steps": 1, "precision": "float32"}
    losses = {}
    for name, head, changes in (
        ("linear", "linear", {}),
        ("mlp", "mlp", {}),
        ("anew", "mlp", {"cache_features": "no", "features": ""}),
    ):
        model = changed(dataclasses.replace(config.model, image_head=head), image={"freeze": True})
        run(dataclasses.replace(config, model=model, out=str(tmp_path / name), **{**shared, **changes}))
        losses[name] = read_metrics(tmp_path / name)[0]["loss"]
    assert losses["mlp"] == pytest.approx(losses["anew"], rel=1e-5)
    assert len([path for path in (tmp_path / "shared").iterdir() if not path.name.startswith(".")]) == 2


def test_pictures_beside_a_saved_table_are_noticed_when_they_change(pairs, tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "table"))
    for row in rows:
        (tmp_path / "train" / row["image"]).rename(tmp_path / "table" / row["image"])
    cfg = PretrainVLConfig(**{**pairs, "data": str(tmp_path / "table"), "images": ""}, batch_size=16)
    digest = open_source(cfg).train_digest()
    assert digest == open_source(cfg).train_digest()
    Image.new("RGB", (8, 8)).save(tmp_path / "table" / rows[0]["image"])
    assert digest != open_source(cfg).train_digest()


def test_pictures_whose_features_are_kept_are_not_read_again_by_a_second_run(config, pairs, tmp_path, monkeypatch):
    (tmp_path / "train" / "train-3.png").write_bytes(b"no picture")
    model = changed(config.model, image={"freeze": True})
    still = {"features": str(tmp_path / "shared"), "flip": False, "jitter": 0.0, "steps": 4, "max_unreadable": 0.1}
    cfg = dataclasses.replace(config, **pairs, **still, model=model)
    first = run(dataclasses.replace(cfg, out=str(tmp_path / "a")))
    real, read = PairBatches._pixels, []
    monkeypatch.setattr(PairBatches, "_pixels", lambda self, row, image: read.append(image) or real(self, row, image))
    second = run(dataclasses.replace(cfg, out=str(tmp_path / "b")))
    assert set(read) == {"train-3.png"}
    assert second["unreadable"] == first["unreadable"] == {"not a picture": 1}
    losses = [[row["loss"] for row in read_metrics(tmp_path / name)] for name in "ab"]
    assert losses[0] == losses[1]


def test_why_features_are_not_cached_is_said(config, fusing):
    frozen = changed(fusing.model, image={"freeze": True}, text={"freeze": True})
    still = dataclasses.replace(fusing, model=frozen, flip=False, jitter=0.0)
    assert why_not_cached(still) == {"image": "", "text": ""}
    assert why_not_cached(config)["text"] == "the text tower is trained"

    def why(**changes) -> dict[str, str]:
        return why_not_cached(dataclasses.replace(still, **changes))

    assert why(flip=True, jitter=0.1)["image"] == "flip=True, jitter=0.1 show it other images each time"
    assert why(patch_dropout=0.5) == {"image": "patch_dropout=0.5 shows it other images each time", "text": ""}
    told = "the objectives read masked or causal texts, others each time"
    assert why(objectives=Objectives(itc=0.0, mlm=1.0, caption=1.0)) == {"image": "", "text": told}
    assert set(why(cache_features="no").values()) == {"cache_features=no"}


@pytest.mark.slow
def test_a_gradient_cache_gives_the_same_weights(config, tmp_path):
    cfg = dataclasses.replace(config, steps=3, eval_every=3, precision="float32")
    run(cfg)
    run(dataclasses.replace(cfg, out=str(tmp_path / "chunks"), gradient_cache=5))
    first, second = weights(Path(cfg.out)), weights(tmp_path / "chunks")
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=1e-3, atol=1e-4, msg=name)


def test_init_takes_what_fits_and_says_what_is_new(config, fusing, tmp_path, capsys):
    run(dataclasses.replace(config, steps=2, out=str(tmp_path / "first")))
    model = dataclasses.replace(fusing.model, image=config.model.image)
    init = str(tmp_path / "first" / "model")
    result = run(dataclasses.replace(fusing, model=model, init=init, steps=1))
    assert {"image_tower", "text_tower", "image_head", "text_head", "theta"} <= set(result["init"]["taken"])
    assert set(result["init"]["new"]) == {"fusion", "match_head", "word_head"} and result["init"]["left out"] == []
    assert f"from {init}: taken: theta, " in capsys.readouterr().out
    fused = str(Path(fusing.out) / "model")
    back = run(dataclasses.replace(config, init=fused, steps=1, out=str(tmp_path / "back")))
    assert back["init"]["left out"] == ["fusion", "match_head", "word_head"] and back["init"]["new"] == []
    other = changed(config.model, image={"width": 24}, text={"options": {"hidden_size": 8, "num_attention_heads": 2}})
    with pytest.raises(InputError, match="no part of .* fits this model"):  # but its two numbers, which fit anything
        run(
            dataclasses.replace(
                config, model=dataclasses.replace(other, head_width=24), init=fused, out=str(tmp_path / "other")
            )
        )
    with pytest.raises(InputError, match="no model in"):
        run(dataclasses.replace(config, init=str(tmp_path / "none"), out=str(tmp_path / "second")))


@pytest.fixture
def pairs(views, tmp_path) -> dict[str, str]:
    """The views as files, a JSONL naming those of each split."""
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        opened = CaptionedViews.open(views, split)
        with open(tmp_path / f"{split}.jsonl", "w") as file:
            for row, image in enumerate(opened.images):
                name = f"{split}-{row}.png"
                Image.fromarray(np.asarray(image)).save(tmp_path / split / name)
                file.write(json.dumps({"image": name, "caption": opened.texts[opened.full[row][0]]}) + "\n")
    return {
        "views": "",
        "data": str(tmp_path / "train.jsonl"),
        "val_data": str(tmp_path / "val.jsonl"),
        "images": str(tmp_path / "train"),
        "val_images": str(tmp_path / "val"),
    }


def test_pairs_of_ones_own_train_like_views_and_unreadable_pictures_are_counted(fusing, pairs, tmp_path):
    (tmp_path / "train" / "train-3.png").write_bytes(b"no picture")
    model = changed(fusing.model, image={"freeze": True})
    cfg = dataclasses.replace(fusing, **pairs, model=model, max_unreadable=0.1)
    result = run(dataclasses.replace(cfg, flip=False, jitter=0.0))  # the image tower's features are cached
    assert result["features"]["image"].startswith("64 cached")
    assert sum(result["unreadable"].values()) == 1
    assert 1 < result["val_gallery"] <= 24 and result["train_views"] == 64
    without = run(dataclasses.replace(cfg, out=str(tmp_path / "losses"), objectives=Objectives(itc=0.0, mlm=1.0)))
    assert without["val_pairs"] == 16
    with pytest.raises(InputError, match="more than max_unreadable=0"):
        run(dataclasses.replace(cfg, out=str(tmp_path / "strict"), max_unreadable=0.0, batch_size=64))


def test_a_resumed_run_counts_on_what_it_could_not_read(config, pairs, tmp_path, monkeypatch):
    for row in (3, 20, 41):
        (tmp_path / "train" / f"train-{row}.png").unlink()
    # 4 steps an epoch: before the kill every row was tried, after it only those of one batch
    cfg = dataclasses.replace(config, **pairs, steps=5, eval_every=5, checkpoint_every=4, max_unreadable=0.1)
    import vl.pretrain as job

    real, calls = job.update, 0

    def fails_at_the_fifth(*arguments):
        nonlocal calls
        calls += 1
        if calls == 5:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(job, "update", fails_at_the_fifth)
    with pytest.raises(Killed):
        run(cfg)
    monkeypatch.undo()
    assert run(dataclasses.replace(cfg, resume="auto"))["unreadable"] == {"missing": 3}


def test_unreadable_val_pairs_are_counted_and_stop_the_run_above_the_share(config, pairs, tmp_path):
    (tmp_path / "val" / "val-0.png").write_bytes(b"no picture")
    cfg = dataclasses.replace(config, **pairs, steps=1, max_unreadable=0.1)
    assert run(cfg)["val_unreadable"] == {"not a picture": 1}
    for row in range(1, 4):
        (tmp_path / "val" / f"val-{row}.png").unlink()
    with pytest.raises(InputError, match="of the first 24 rows cannot be used, more than max_unreadable=0.1"):
        run(dataclasses.replace(cfg, out=str(tmp_path / "strict")))


def test_impossible_settings_stop_before_anything_is_written(config, fusing, tmp_path, monkeypatch):
    def refused(match: str, cfg: PretrainVLConfig = config, **changes) -> None:
        with pytest.raises(InputError, match=match):
            run(dataclasses.replace(cfg, **changes))

    refused("did you mean 'adamw'", optimizer="adam")
    refused("steps=0 should be positive", steps=0)
    refused("views is required", views="")
    refused("both given", data="pairs.jsonl")
    refused("val_data is required", views="", data="pairs.jsonl")
    refused("no views of split", views=str(tmp_path))
    refused("larger than the 64 training views", batch_size=65)
    refused("itm, mlm need text and image to see each other", objectives=Objectives(itm=1.0, mlm=1.0))
    refused("at least 2", batch_size=1)
    monkeypatch.setattr(distributed, "world_size", lambda: 16)
    refused("leaves 1 pair for each of 16 processes", fusing)
    monkeypatch.undo()
    refused("gradient_cache=4 is for objectives.itc alone; leave out itm, mlm", fusing, gradient_cache=4)
    frozen = changed(config.model, image={"freeze": True})
    refused("mim trains the image tower", model=frozen, objectives=Objectives(mim=1.0))
    one = dataclasses.replace(config.model, kind="one-tower")
    refused("no towers to export", model=one, export_towers=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_processes_train_to_the_weights_of_one(views, tmp_path):
    words = [
        f"views={views}", "steps=3", "batch_size=16", "eval_every=3", "precision=float32", "flip=false", "jitter=0",
        "model.dim=12", "model.head_width=16", "model.max_tokens=16", "model.image.image_size=32",
        "model.image.stem_width=8", "model.image.width=16", "model.image.freeze=true", "model.image_head=linear",
        "model.text.options={hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 32}",
    ]  # fmt: skip
    for name, world in (("one", 1), ("two", 2)):
        launch(["-m", "vl.pretrain", *words, f"out={tmp_path / name}"], world)
    first, second = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=1e-3, atol=1e-4, msg=name)
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two")]
    assert all(result["features"]["image"].startswith("64 cached") for result in results)
    assert results[0]["val_mrr"] == pytest.approx(results[1]["val_mrr"], abs=1e-3)


def test_what_only_a_built_model_shows_stops_before_features_are_computed(config, fusing, tmp_path):
    frozen = changed(fusing.model, image={"freeze": True}, text={"freeze": True})
    for number, (match, cfg) in enumerate(
        {
            "takes patches one by one": dataclasses.replace(config, patch_dropout=0.5),
            "nothing is left to train": dataclasses.replace(
                config,
                model=dataclasses.replace(
                    frozen, fusion=FusionConfig(), image_head="none", text_head="none", dim=16, head_width=16
                ),
            ),
        }.items()
    ):
        with pytest.raises(InputError, match=match):
            run(dataclasses.replace(cfg, out=str(tmp_path / str(number))))
        assert not (tmp_path / str(number) / "features").exists()
