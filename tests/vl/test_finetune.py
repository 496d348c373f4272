"""Facts about vl/finetune.py: a few updates on pictures of one colour and sentences that name one."""

import dataclasses

import pytest
import torch

from core.errors import InputError, MissingFileError
from core.run import read_metrics
from tests.vl.fusing import fusing_model
from tests.vl.nlvr_on_disk import write_nlvr1
from vl.finetune import FinetuneVLConfig, run
from vl.model import VLModel


@pytest.fixture(scope="module")
def root(tmp_path_factory, tiny_config):
    path = tmp_path_factory.mktemp("finetune")
    write_nlvr1(path / "data", {"train": 8, "val": 4})
    fusing_model(tiny_config).save_pretrained(path / "model")
    return path


@pytest.fixture
def config(root, tmp_path) -> FinetuneVLConfig:
    return FinetuneVLConfig(
        out=str(tmp_path / "run"),
        task="nlvr1",
        data=str(root / "data"),
        model=str(root / "model"),
        steps=6,
        batch_size=16,
        eval_every=3,
        checkpoint_every=2,
        jitter=0.1,
    )


def test_a_model_learns_what_a_blind_one_cannot(config, tmp_path):
    cfg = dataclasses.replace(config, steps=30, batch_size=16, eval_every=10, checkpoint_every=100, lr=3e-3)
    seeing = run(cfg)
    blind = run(dataclasses.replace(cfg, out=str(tmp_path / "blind"), blind=True, steps=5))
    assert seeing["val_accuracy"] > 0.9 and seeing["val_majority"] == 0.5
    assert blind["val_accuracy"] == 0.5 and blind["blind"]
    model = VLModel.from_pretrained(tmp_path / "run" / "model")
    assert model.config.answers == ["false", "true"]
    rows = read_metrics(cfg.out)
    assert [row["step"] for row in rows if "val_accuracy" in row] == [10, 20, 30]
    assert rows[2]["lr"] == pytest.approx(cfg.lr) and rows[-1]["lr"] < 0.01 * cfg.lr
    assert run(dataclasses.replace(cfg, resume="auto")) == seeing  # a finished run is not run again


class Killed(Exception):
    pass


def test_a_killed_run_continues_to_the_same_weights_and_metrics(config, tmp_path, monkeypatch):
    whole = run(dataclasses.replace(config, out=str(tmp_path / "whole")))

    import vl.finetune as job

    real, calls = job.answer_loss, 0

    def fails_at_the_fourth(*arguments):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(job, "answer_loss", fails_at_the_fourth)
    with pytest.raises(Killed):
        run(config)
    monkeypatch.setattr(job, "answer_loss", real)
    continued = run(dataclasses.replace(config, resume="auto"))
    assert {**whole, "seconds": 0} == {**continued, "seconds": 0}
    assert read_metrics(tmp_path / "whole") == read_metrics(config.out)
    weights = [VLModel.from_pretrained(tmp_path / name / "model").state_dict() for name in ("whole", "run")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_frozen_parts_stay_as_they_were(config, root, tmp_path):
    run(dataclasses.replace(config, freeze_image=True, freeze_text=True, steps=2, eval_every=2))
    before = VLModel.from_pretrained(root / "model").state_dict()
    after = VLModel.from_pretrained(tmp_path / "run" / "model").state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"fusion"}


def test_impossible_settings_stop_before_anything_is_written(config, root, tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path / "towers")
    with pytest.raises(InputError, match="never see each other"):
        run(dataclasses.replace(config, model=str(tmp_path / "towers")))
    with pytest.raises(InputError, match="no split 'dev'.*there: train, val"):
        run(dataclasses.replace(config, val_split="dev"))
    with pytest.raises(MissingFileError, match="nowhere"):
        run(dataclasses.replace(config, model=str(tmp_path / "nowhere")))
    with pytest.raises(InputError, match="did you mean 'vqa'"):
        dataclasses.replace(config, task="vqa2")
    with pytest.raises(InputError, match="pretrain-vl init=FOLDER"):
        dataclasses.replace(config, task="retrieval")
    with pytest.raises(InputError, match="data is required"):
        run(dataclasses.replace(config, data=""))
    with pytest.raises(InputError, match="max_unreadable=1.0"):
        dataclasses.replace(config, max_unreadable=1.0)
    assert not (tmp_path / "run").exists()
