"""The 2D core on CUDA: the same numbers as on the processor, to the precision of another order of sums."""

import dataclasses
import math

import pytest
import torch

from core.run import read_metrics
from tests.vl.fusing import fusing_model
from tests.vl.nlvr_on_disk import write_nlvr1
from tests.vl.views_on_disk import write_views
from vl.evaluate import EvaluateVLConfig
from vl.evaluate import run as evaluate
from vl.finetune import FinetuneVLConfig
from vl.finetune import run as finetune
from vl.fusion import FusionConfig
from vl.model import VLModel
from vl.objectives import Objectives
from vl.pretrain import run as pretrain
from vl.pretrain_config import PretrainVLConfig

pytestmark = pytest.mark.gpu
CLOSE = {"rel": 5e-3, "abs": 5e-3}  # convolutions there may round to TF32


def test_embeddings_and_matches_are_those_of_the_processor(tiny_config, frames):
    here = fusing_model(tiny_config)
    there = fusing_model(tiny_config).to("cuda")
    texts = ["a red box", "an empty room"]
    torch.testing.assert_close(there.encode_images(frames).cpu(), here.encode_images(frames), atol=2e-3, rtol=0)
    torch.testing.assert_close(there.encode_texts(texts).cpu(), here.encode_texts(texts), atol=2e-3, rtol=0)
    texts = (texts * 3)[: len(frames)]
    torch.testing.assert_close(there.match(frames, texts).cpu(), here.match(frames, texts), atol=2e-3, rtol=0)


@pytest.mark.parametrize("wanted", [{"itc": 1.0, "itm": 1.0, "mlm": 1.0}, {"itc": 1.0, "itc_loss": "sigmoid"}], ids=str)
def test_pretraining_descends_by_the_same_losses_and_resumes(tiny_config, tmp_path, wanted):
    views = write_views(tmp_path / "views", {"train": 64, "val": 24})
    model = dataclasses.replace(tiny_config, fusion=FusionConfig(layers=1, width=16, heads=2, dropout=0.0))
    cfg = PretrainVLConfig(
        views=str(views), model=model, objectives=Objectives(**wanted), steps=6, batch_size=16, warmup_steps=2,
        eval_every=3, checkpoint_every=2, precision="float32",
    )  # fmt: skip
    losses = {}
    for device in ("cpu", "cuda"):
        result = pretrain(dataclasses.replace(cfg, out=str(tmp_path / device), device=device))
        losses[device] = [row["loss"] for row in read_metrics(tmp_path / device) if "loss" in row]
    assert losses["cuda"][:3] == pytest.approx(losses["cpu"][:3], **CLOSE)
    assert result["device_memory_gb"] > 0
    chunk = 8 if wanted.keys() <= {"itc", "itc_loss"} else 0
    half = dataclasses.replace(
        cfg, out=str(tmp_path / "half"), device="cuda", precision="bfloat16", gradient_cache=chunk
    )
    pretrain(half)
    told = [row["loss"] for row in read_metrics(half.out) if "loss" in row]
    assert all(map(math.isfinite, told)) and told[0] == pytest.approx(losses["cpu"][0], rel=0.05)


def test_fine_tuning_learns_and_its_model_is_evaluated(tiny_config, tmp_path):
    write_nlvr1(tmp_path / "data", {"train": 8, "val": 4})
    fusing_model(tiny_config).save_pretrained(tmp_path / "model")
    cfg = FinetuneVLConfig(
        out=str(tmp_path / "run"), device="cuda", task="nlvr1", data=str(tmp_path / "data"),
        model=str(tmp_path / "model"), steps=30, batch_size=16, eval_every=10, lr=3e-3,
    )  # fmt: skip
    assert finetune(cfg)["val_accuracy"] > 0.9
    assert VLModel.from_pretrained(tmp_path / "run" / "model").config.answers == ["false", "true"]
    measured = EvaluateVLConfig(
        out=str(tmp_path / "measured"), device="cuda", task="nlvr1", data=str(tmp_path / "data"), split="val",
        model=str(tmp_path / "run" / "model"),
    )  # fmt: skip
    assert evaluate(measured)["accuracy"] > 0.9
