"""The Grounder around the network: sentences in, ranked objects out, and a folder that holds all of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from core.errors import InputError, MissingFileError
from scene.batch import object_set
from scene.conformal import Conformal
from scene.geometry import rotate_scene
from scene.grounder import Grounder, tokenize
from scene.grounding import GroundingModel
from scene.model_config import ModelConfig, gps_code
from scene.provenance import Provenance, unseen
from scene.relations import Viewpoint
from scene.types import Scene
from tests.scene.toy import toy_referrals, toy_scene
from vl.tokenizer import train_tokenizer

SENTENCES = ["the red cube", "the plate to the left of the blue pole"]
TOKENIZER = train_tokenizer([r.utterance for seed in range(4) for r in toy_referrals(toy_scene(seed))])
CONFIG = ModelConfig(vocab_size=len(TOKENIZER), dim=16, heads=2, hidden=32, points=24, dropout=0.0)


@pytest.fixture(scope="module")
def grounder() -> Grounder:
    torch.manual_seed(0)
    return Grounder(GroundingModel(CONFIG), TOKENIZER)


def test_locate_ranks_every_object_once_with_scores_that_sum_to_one(grounder: Grounder):
    scene = toy_scene(5)
    ranking = grounder.locate(scene, "find the red cube, zorgly")
    assert sorted(item.id for item in ranking.objects) == list(range(6))
    scores = [item.score for item in ranking.objects]
    assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1.0, abs=1e-5)
    assert ranking.best.label == scene.objects[ranking.best.id].label
    assert ranking.unknown_words == ("find", "zorgly")
    assert grounder.locate(scene, "the zorgly [zorgly] cube = !").unknown_words == ("zorgly",)  # once, no punctuation
    again = grounder.locate(scene, "find the red cube, zorgly")
    assert [item.score for item in again.objects] == scores


def test_turning_the_scene_and_its_viewer_together_keeps_the_scores(grounder: Grounder):
    scene, yaw = toy_scene(1), 0.7
    turned = object_set(rotate_scene(scene, yaw), 24, seed=3, viewpoint=Viewpoint(Viewpoint().yaw_rad + yaw))
    before = grounder.score(object_set(scene, 24, seed=3), SENTENCES)
    torch.testing.assert_close(grounder.score(turned, SENTENCES), before, atol=1e-3, rtol=1e-3)


def test_one_object_is_certain_and_a_long_sentence_is_cut(grounder: Grounder):
    ranking = grounder.locate(toy_scene(0, count=1), "the cube " * 200)
    assert [item.score for item in ranking.objects] == [1.0]
    tokens, words = tokenize(TOKENIZER, ["the cube " * 200, "the"], 48)
    assert tokens.shape == (2, 48) and words.sum(1).tolist() == [48, 3]


@pytest.mark.parametrize("sentence", ["the zorgly blarg", "", "the", "?!"])
def test_a_sentence_without_a_known_word_is_refused(grounder: Grounder, sentence: str):
    with pytest.raises(InputError, match="no known word"):
        grounder.locate(toy_scene(0), sentence)
    assert torch.isfinite(grounder.score(object_set(toy_scene(0), 24, seed=0), [sentence])).all()


def test_a_scene_without_objects_is_refused(grounder: Grounder):
    with pytest.raises(InputError, match="no objects"):
        grounder.locate(Scene("empty", "toy", []), "the red cube")


def test_objects_of_one_point_have_scores(grounder: Grounder):
    objects = object_set(toy_scene(0), 1, seed=0)
    assert objects.points.shape[1] == 1
    assert torch.isfinite(grounder.score(objects, SENTENCES)).all()


def test_members_are_probabilities_each_for_itself(grounder: Grounder):
    objects = object_set(toy_scene(2), 24, seed=0)
    members = grounder.members(objects, SENTENCES)
    assert members.shape == (2, 6) and ((members > 0) & (members < 1)).all()
    assert not torch.allclose(members.sum(1), torch.ones(2))
    one_by_one = torch.cat([grounder.members(objects, [sentence]) for sentence in SENTENCES])
    torch.testing.assert_close(members, one_by_one, atol=1e-5, rtol=1e-5)
    assert grounder.members(objects, []).shape == (0, 6)


def test_a_saved_grounder_scores_the_same(grounder: Grounder, tmp_path: Path):
    grounder.save_pretrained(tmp_path / "model")
    again = Grounder.from_pretrained(tmp_path / "model")
    objects = object_set(toy_scene(7), 24, seed=0)
    assert torch.equal(again.score(objects, SENTENCES), grounder.score(objects, SENTENCES))
    assert (again.answers, again.conformal, again.provenance) == ((), None, None)
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert not names & {"text", "answers.json", "training.json"}  # nothing that the grounder does not have


def test_a_grounder_keeps_its_threshold_and_what_it_was_trained_on(tmp_path: Path):
    conformal = Conformal(level=0.9, threshold=0.25, n=40, homes=8)
    provenance = Provenance.collect([], [("toy-1", "the red cube"), ("toy-2", "the pole")])
    grounder = Grounder(GroundingModel(CONFIG), TOKENIZER, conformal=conformal, provenance=provenance)
    grounder.save_pretrained(tmp_path / "model")
    again = Grounder.from_pretrained(tmp_path / "model")
    assert again.conformal == conformal
    assert again.provenance is not None and again.provenance.sentences.tolist() == provenance.sentences.tolist()
    assert unseen(again.provenance, "toy", [("toy-1", "the red cube")]).sentences_seen == 1
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["conformal"]["colour"] = "red"
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="'conformal' entry"):
        Grounder.from_pretrained(tmp_path / "model")


def test_a_grounder_reads_questions_and_keeps_its_answers(tmp_path: Path):
    model = GroundingModel(replace(CONFIG, answers=3))
    with pytest.raises(InputError, match="2 answers for a question head of 3"):
        Grounder(model, TOKENIZER, ["red", "blue"])
    grounder = Grounder(model, TOKENIZER, ["red", "blue", "two"])
    objects = object_set(toy_scene(2), 24, seed=0)
    said = grounder.answer(objects, ["the cube", "the pole"])
    assert said.shape == (2, 3) and ((said > 0) & (said < 1)).all()
    grounder.save_pretrained(tmp_path / "model")
    again = Grounder.from_pretrained(tmp_path / "model")
    assert again.answers == ("red", "blue", "two")
    assert torch.equal(again.answer(objects, ["the cube", "the pole"]), said)
    (tmp_path / "model" / "answers.json").write_text('["red"]')
    with pytest.raises(InputError, match="should list 3 answers"):
        Grounder.from_pretrained(tmp_path / "model")


def test_a_grounder_with_a_foreign_text_tower_comes_back_without_the_place_it_came_from(tmp_path: Path):
    sizes = {"hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
    encoder = hf.BertModel(hf.BertConfig(vocab_size=len(TOKENIZER), **sizes))
    encoder.save_pretrained(tmp_path / "encoder")
    grounder = Grounder(GroundingModel(replace(CONFIG, text=str(tmp_path / "encoder"))), TOKENIZER)
    (tmp_path / "encoder").rename(tmp_path / "moved")
    grounder.save_pretrained(tmp_path / "model")
    again = Grounder.from_pretrained(tmp_path / "model")
    objects = object_set(toy_scene(7), 24, seed=0)
    assert torch.equal(again.score(objects, SENTENCES), grounder.score(objects, SENTENCES))
    again.save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / "text" / "config.json").exists()
    (tmp_path / "model" / "text" / "config.json").unlink()
    with pytest.raises(MissingFileError, match="text tower"):
        Grounder.from_pretrained(tmp_path / "model")


def test_a_grounder_of_gps_comes_back(tmp_path: Path):
    small = {"dim": 12, "heads": 2, "hidden": 16, "text_layers": 1, "spatial_layers": 1, "fusion_layers": 1}
    config = replace(gps_code(len(TOKENIZER)), **small, text_hidden=16, points=32, max_tokens=20)
    grounder = Grounder(GroundingModel(config), TOKENIZER)
    grounder.save_pretrained(tmp_path / "model")
    objects = object_set(toy_scene(7), 32, seed=0)
    again = Grounder.from_pretrained(tmp_path / "model")
    assert again.model.config == config
    assert torch.equal(again.score(objects, SENTENCES), grounder.score(objects, SENTENCES))


def test_a_grounder_with_a_scene_graph_reads_the_graph_of_the_scene():
    torch.manual_seed(0)
    grounder = Grounder(GroundingModel(replace(CONFIG, graph_layers=1)), TOKENIZER)
    torch.nn.init.normal_(grounder.model.graph_out.weight)
    scene = toy_scene(3)
    objects = grounder.objects(scene)
    assert objects.edges is not None and objects.edges.shape[1] == 3 and len(objects.edges)
    heard = grounder.score(objects, SENTENCES)
    objects.edges = objects.edges[:0]
    assert not torch.allclose(grounder.score(objects, SENTENCES), heard)
    assert len(grounder.locate(scene, SENTENCES[0]).objects) == 6


def test_a_checkpoint_of_another_shape_names_the_tensor_and_both_shapes(grounder: Grounder, tmp_path: Path):
    folder = tmp_path / "model"
    grounder.save_pretrained(folder)
    state = load_file(str(folder / "model.safetensors"))
    state["norm.weight"] = torch.zeros(99)
    save_file(state, str(folder / "model.safetensors"))
    with pytest.raises(InputError, match=r"norm\.weight.*\(99,\).*\(16,\)"):
        Grounder.from_pretrained(folder)


def test_missing_torn_and_foreign_folders_are_told_apart(grounder: Grounder, tmp_path: Path):
    with pytest.raises(MissingFileError, match="config"):
        Grounder.from_pretrained(tmp_path / "nowhere")
    folder = tmp_path / "model"
    grounder.save_pretrained(folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(InputError, match="does not load"):
        Grounder.from_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    for change, message in (
        ({"format": "sightline-grounder/1"}, "sightline-grounder/1.*expected 'sightline-grounder/2': train"),
        ({"model": {**config["model"], "colour": 3}}, "keys among"),
        ({"model": {**config["model"], "dim": "wide"}}, "dim='wide': expected a whole number"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(InputError, match=message):
            Grounder.from_pretrained(folder)
