"""A grounder's threshold from the val homes of the corpora it was trained on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from scene.calibration import calibrated
from scene.grounder import Grounder
from scene.grounding import GroundingModel
from scene.model_config import ModelConfig
from scene.store import SceneStore, write_corpus
from tests.scene.toy import toy_folder, toy_referrals, toy_scene
from vl.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def grounder() -> Grounder:
    tokenizer = train_tokenizer(["the red blue green cube pole plate to left of"])
    torch.manual_seed(0)
    model = GroundingModel(ModelConfig(vocab_size=len(tokenizer), dim=16, heads=2, hidden=32, points=24))
    return Grounder(model, tokenizer)


@pytest.mark.parametrize("score", ["score", "member"])
def test_the_threshold_is_the_smallest_belief_in_a_target_that_has_to_be_covered(
    grounder: Grounder, tmp_path: Path, score: str
):
    store = SceneStore(toy_folder(tmp_path, train=1, val=9, test=1))
    found = calibrated(grounder, [store], score=score, level=0.9)
    # nine homes for 90 %: every sentence of them has to be covered
    beliefs, homes = [], set()
    for referral in store.referrals("val"):
        objects = grounder.objects(store.load(referral.scene_id))
        rows = getattr(grounder, {"score": "score", "member": "members"}[score])(objects, [referral.utterance])
        beliefs.append(float((rows.sigmoid() if score == "score" else rows)[0, referral.targets[0]]))
        homes.add(referral.scene_id)
    assert found is not None and found.threshold == pytest.approx(min(beliefs), abs=1e-6)
    assert (found.n, found.homes, found.score, found.level) == (len(beliefs), len(homes), score, 0.9)


def test_homes_of_several_corpora_count_together(grounder: Grounder, tmp_path: Path):
    stores = [SceneStore(toy_folder(tmp_path / name, train=1, val=2, test=1)) for name in ("a", "b")]
    alone, both = (calibrated(grounder, some, score="score", level=0.5) for some in (stores[:1], stores))
    assert alone is not None and both is not None and both.n == 2 * alone.n
    assert 0 < both.threshold < 1 and np.isfinite(both.threshold)


def test_without_val_sentences_there_is_no_threshold(grounder: Grounder, tmp_path: Path):
    write_corpus(tmp_path, {"train": [(toy_scene(0), toy_referrals(toy_scene(0)))], "val": []}, "toy")
    assert calibrated(grounder, [SceneStore(tmp_path)], score="score") is None
