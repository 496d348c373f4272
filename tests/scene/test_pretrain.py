"""The pretraining job on toy homes: it learns, repeats, and continues after a kill to the same numbers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.checkpoint import Checkpoints
from core.errors import InputError
from core.files import folder_fingerprint
from scene.grounder import Grounder
from scene.pretrain import PretrainGroundingConfig, learning_rate_factor, mirror_tokens, run, seeded
from tests.scene.toy import toy_folder, toy_scene
from vl.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> PretrainGroundingConfig:
    scenes = toy_folder(tmp_path_factory.mktemp("scenes"))
    sizes = {"dim": 16, "heads": 2, "hidden": 32, "text_layers": 1, "spatial_layers": 1, "fusion_layers": 1}
    return PretrainGroundingConfig(
        scenes=str(scenes), object_steps=6, steps=8, object_batch=12, batch_scenes=3, batch_sentences=2, points=24,
        samplings=2, eval_every=4, checkpoint_every=3, word_loss=0.1, scene_loss=0.1, **sizes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(config: PretrainGroundingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    run(replace(config, out=str(out)))
    return out


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", [0, 4, 10])  # before any checkpoint, in the object stage, between two evaluations
def test_a_killed_and_resumed_run_ends_with_the_same_numbers_to_the_last_bit(
    config: PretrainGroundingConfig, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
):
    save = Checkpoints.save

    def failing(self: Checkpoints, step: int, state: dict) -> Path:
        if step > at:
            raise Killed
        return save(self, step, state)

    broken = replace(config, out=str(tmp_path / "run"), resume="auto")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", failing)
        with pytest.raises(Killed):
            run(broken)
    assert not (tmp_path / "run/result.json").exists() and not (tmp_path / "run/model").exists()
    run(broken)
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert folder_fingerprint(tmp_path / "run/model") == folder_fingerprint(whole / "model")


def test_objects_dropped_from_memory_are_drawn_again_for_the_cache(config: PretrainGroundingConfig, tmp_path: Path):
    result = run(replace(config, out=str(tmp_path / "run"), object_pool=8, steps=2))
    assert result["train_rooms"] > 2 and 0 <= result["val_accuracy"] <= 1


def test_the_result_model_loads_and_a_finished_run_returns_its_result(config: PretrainGroundingConfig, whole: Path):
    assert len(Grounder.from_pretrained(whole / "model").locate(toy_scene(3), "the red cube").objects) == 6
    stamp = (whole / "metrics.jsonl").stat().st_mtime_ns
    assert run(replace(config, out=str(whole), resume="auto"))["model"] == str(whole / "model")
    assert (whole / "metrics.jsonl").stat().st_mtime_ns == stamp


def test_the_learning_rate_climbs_then_falls_to_a_tenth():
    assert learning_rate_factor(0.0, 0.1) < 0.05
    assert learning_rate_factor(0.1, 0.1) == pytest.approx(1.0)
    assert learning_rate_factor(1.0, 0.1) == pytest.approx(0.1)


def test_seeded_draws_depend_on_seed_and_step_and_leave_the_global_state_alone():
    before = torch.get_rng_state()
    draws = []
    for seed, step in ((0, 1), (0, 1), (0, 2), (1, 1)):
        with seeded(seed, step, "cpu"):
            draws.append(torch.rand(()).item())
    assert torch.equal(torch.get_rng_state(), before)
    assert draws[0] == draws[1] and len(set(draws)) == 3


def test_mirror_words_change_places_only_where_both_are_known():
    both = train_tokenizer(["left right cube"])
    left, right = both.convert_tokens_to_ids(["left", "right"])
    assert mirror_tokens(both) == {left: right, right: left}
    assert mirror_tokens(train_tokenizer(["left cube"])) == {}


def test_impossible_settings_stop_before_anything_is_read():
    with pytest.raises(InputError, match="dim=10"):
        PretrainGroundingConfig(scenes="x", dim=10)
    with pytest.raises(InputError, match="steps=0"):
        PretrainGroundingConfig(scenes="x", steps=0)
