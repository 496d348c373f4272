"""Grounded pretraining on CUDA: the losses of the processor, and one model on both."""

from dataclasses import replace

import pytest
import torch

from core.run import read_metrics
from scene.grounder import Grounder
from scene.pretrain import PretrainGroundingConfig, run
from tests.scene.toy import toy_folder, toy_scene

pytestmark = pytest.mark.gpu
SIZES = {"dim": 16, "heads": 2, "hidden": 32, "text_layers": 1, "spatial_layers": 1, "fusion_layers": 1, "points": 24}


def test_pretraining_descends_by_the_losses_of_the_processor(tmp_path):
    cfg = PretrainGroundingConfig(
        scenes=str(toy_folder(tmp_path / "scenes")), object_steps=6, steps=8, object_batch=12, batch_scenes=4,
        batch_sentences=2, window=3, samplings=2, eval_every=4, checkpoint_every=3, word_loss=0.1, scene_loss=0.1,
        architecture=SIZES, precision="float32",
    )  # fmt: skip
    losses, scores = {}, []
    for device in ("cpu", "cuda"):
        run(replace(cfg, out=str(tmp_path / device), device=device))
        losses[device] = [row["loss"] for row in read_metrics(tmp_path / device) if "loss" in row]
    assert losses["cuda"][:4] == pytest.approx(losses["cpu"][:4], rel=3e-2)
    for device in ("cpu", "cuda"):
        grounder = Grounder.from_pretrained(tmp_path / "cuda" / "model")
        grounder.model.to(device)
        ranking = grounder.locate(toy_scene(5), "the red cube")
        scores.append(torch.tensor([item.score for item in sorted(ranking.objects, key=lambda item: item.id)]))
    torch.testing.assert_close(scores[1], scores[0], atol=1e-3, rtol=0)
