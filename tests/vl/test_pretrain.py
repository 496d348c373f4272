"""Facts about vl/pretrain.py: a few updates on coloured rectangles."""

import dataclasses
import math

import pytest
import torch

from core.errors import InputError, MissingFileError
from core.run import read_metrics
from tests.vl.views_on_disk import write_views
from vl.model import VLModel
from vl.pretrain import PretrainVLConfig, learning_rate, make_optimizer, make_tokenizer, run
from vl.text_towers import TextTowerConfig


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


def test_a_run_learns_and_leaves_a_model_that_loads(config, tmp_path):
    cfg = dataclasses.replace(config, steps=40, eval_every=20, checkpoint_every=50, object_share=1.0)
    result = run(cfg)
    rows = read_metrics(cfg.out)
    assert [row["step"] for row in rows] == list(range(1, 41))
    assert sum(row["loss"] for row in rows[-5:]) < sum(row["loss"] for row in rows[:5]) - 1
    model = VLModel.from_pretrained(tmp_path / "run" / "model")
    red, blue = model.encode_texts(["a red box", "a blue box"])
    assert not torch.allclose(red, blue)
    assert result["best_step"] in (20, 40) and result["val_homes"] <= 6
    assert run(dataclasses.replace(cfg, resume="auto")) == result  # a finished run is not run again


class Killed(Exception):
    pass


def test_a_killed_run_continues_to_the_same_weights_and_metrics(config, tmp_path, monkeypatch):
    whole = run(dataclasses.replace(config, out=str(tmp_path / "whole")))

    import vl.pretrain as job

    real, calls = job.batch_loss, 0

    def fails_at_the_sixth(*arguments):
        nonlocal calls
        calls += 1
        if calls == 6:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(job, "batch_loss", fails_at_the_sixth)
    with pytest.raises(Killed):
        run(config)
    monkeypatch.setattr(job, "batch_loss", real)
    continued = run(dataclasses.replace(config, resume="auto"))

    timing = {"seconds", "pairs_per_second"}
    assert {k: v for k, v in whole.items() if k not in timing} == {
        k: v for k, v in continued.items() if k not in timing
    }
    assert read_metrics(tmp_path / "whole") == read_metrics(config.out)
    weights = [VLModel.from_pretrained(tmp_path / name / "model").state_dict() for name in ("whole", "run")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("overlap", ["ignored", "negative"])
def test_the_sigmoid_loss_trains_too(config, overlap):
    cfg = dataclasses.replace(config, loss="sigmoid", overlap=overlap, steps=3)
    run(cfg)
    assert all(math.isfinite(row["loss"]) for row in read_metrics(cfg.out))


def test_the_learning_rate_rises_then_falls_to_nothing():
    rates = [learning_rate(step, 10, 4, 1.0) for step in range(11)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[7] == pytest.approx(0.5) and rates[10] == pytest.approx(0.0)


def test_biases_norms_and_positions_are_not_decayed(tiny_model):
    decayed, plain = make_optimizer(tiny_model, 1e-3, 0.1).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    inside = {id(parameter) for parameter in plain["params"]}
    names = {name for name, parameter in tiny_model.named_parameters() if id(parameter) in inside}
    assert {"theta", "image_tower.position", "image_tower.norm.weight", "image_head.0.bias"} <= names
    assert "image_tower.halve.weight" not in names


def test_impossible_settings_stop_before_anything_is_written(config, tmp_path):
    with pytest.raises(InputError, match="did you mean 'softmax'"):
        dataclasses.replace(config, loss="sofmax")
    with pytest.raises(InputError, match="steps=0 should be positive"):
        dataclasses.replace(config, steps=0)
    with pytest.raises(InputError, match="views is required"):
        run(dataclasses.replace(config, views=""))
    with pytest.raises(InputError, match="no views of split"):
        run(dataclasses.replace(config, views=str(tmp_path)))
    assert not (tmp_path / "run").exists()


def test_a_text_encoder_that_is_not_there_or_does_not_load_is_named(config, tmp_path):
    def tokenizer(name: str) -> None:
        model = dataclasses.replace(config.model, text=TextTowerConfig(pretrained=name))
        make_tokenizer(dataclasses.replace(config, model=model), ["a red box"])

    with pytest.raises(MissingFileError, match="text encoder folder not found"):
        tokenizer(str(tmp_path / "bert"))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="text encoder .* does not load"):
        tokenizer(str(tmp_path))
