"""The grounding model and the Grounder around it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.errors import InputError, MissingFileError
from scene.batch import SceneBatch, collate, object_set
from scene.grounder import Grounder, predict, tokenize
from scene.grounding import GroundingModel
from scene.model_config import ModelConfig
from scene.types import Scene
from tests.scene.test_batch import rooms_of
from tests.scene.toy import toy_referrals, toy_scene
from vl.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def grounder() -> Grounder:
    tokenizer = train_tokenizer([r.utterance for seed in range(4) for r in toy_referrals(toy_scene(seed))])
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=len(tokenizer), dim=16, heads=2, hidden=32, points=24, dropout=0.0)
    return Grounder(GroundingModel(config), tokenizer)


def batch_of(counts: list[int], dim: int = 16) -> SceneBatch:
    generator = torch.Generator().manual_seed(1)
    return collate(
        [torch.randn(n, dim, generator=generator) for n in counts],
        [torch.rand(n, 6, generator=generator) * 4 for n in counts],
    )


def words_for(grounder: Grounder, *sentences: str) -> tuple[torch.Tensor, torch.Tensor]:
    return tokenize(grounder.tokenizer, sentences, 48)


@torch.no_grad()
def test_permuting_objects_permutes_scores(grounder: Grounder):
    scenes, order = batch_of([5]), torch.tensor([3, 0, 4, 1, 2])
    text = (*words_for(grounder, "the red cube"), torch.zeros(1, dtype=torch.int64))
    shuffled = SceneBatch(scenes.features[:, order], scenes.locations[:, order], scenes.valid[:, order])
    torch.testing.assert_close(grounder.model(shuffled, *text), grounder.model(scenes, *text)[:, order])


@torch.no_grad()
def test_padding_of_objects_and_words_changes_nothing_and_never_wins(grounder: Grounder):
    scenes, text = batch_of([3, 7]), words_for(grounder, "the red cube", "the cube to the left of the blue pole")
    together = grounder.model(scenes, *text, torch.tensor([0, 1]))
    alone = SceneBatch(scenes.features[:1, :3], scenes.locations[:1, :3], scenes.valid[:1, :3])
    single = grounder.model(alone, *words_for(grounder, "the red cube"), torch.tensor([0]))
    torch.testing.assert_close(together[0, :3], single[0], atol=1e-5, rtol=1e-5)
    assert torch.isinf(together[0, 3:]).all() and torch.isfinite(together[1]).all()


@torch.no_grad()
def test_where_the_whole_scene_stands_does_not_matter(grounder: Grounder):
    scenes, text = batch_of([4]), (*words_for(grounder, "the cube"), torch.tensor([0]))
    moved = SceneBatch(scenes.features, scenes.locations + torch.tensor([5.0, -3, 0, 0, 0, 0]), scenes.valid)
    torch.testing.assert_close(grounder.model(moved, *text), grounder.model(scenes, *text), atol=1e-4, rtol=1e-4)


def test_every_parameter_of_the_sentence_path_gets_a_gradient(grounder: Grounder):
    model = grounder.model
    model.zero_grad()
    scores = model(batch_of([4]), *words_for(grounder, "the red cube"), torch.tensor([0]))
    torch.nn.functional.cross_entropy(scores, torch.tensor([2])).backward()
    unused = ("object_encoder", "scene_projection", "word_head", "member_head", "scene_log_scale", "referral_log_scale")
    silent = [n for n, p in model.named_parameters() if p.grad is None and not any(part in n for part in unused)]
    assert silent == []
    model.zero_grad()


def test_locate_ranks_every_object_once_with_scores_that_sum_to_one(grounder: Grounder):
    scene = toy_scene(5)
    ranking = grounder.locate(scene, "find the red cube, zorgly")
    assert sorted(item.id for item in ranking.objects) == list(range(6))
    scores = [item.score for item in ranking.objects]
    assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1.0, abs=1e-5)
    assert ranking.best.label == scene.objects[ranking.best.id].label
    assert "zorgly" in ranking.unknown_words
    assert grounder.locate(scene, "find the red cube, zorgly") == ranking or scores == [
        item.score for item in grounder.locate(scene, "find the red cube, zorgly").objects
    ]


def test_one_object_is_certain_and_a_long_sentence_is_cut(grounder: Grounder):
    ranking = grounder.locate(toy_scene(0, count=1), "the cube " * 200)
    assert [item.score for item in ranking.objects] == [1.0]


@pytest.mark.parametrize("sentence", ["the zorgly blarg", "", "the", "?!"])
def test_a_sentence_without_a_known_word_is_refused(grounder: Grounder, sentence: str):
    with pytest.raises(InputError, match="no known word"):
        grounder.locate(toy_scene(0), sentence)


def test_a_scene_without_objects_is_refused(grounder: Grounder):
    with pytest.raises(InputError, match="no objects"):
        grounder.locate(Scene("empty", "toy", []), "the red cube")


def test_a_saved_grounder_scores_the_same(grounder: Grounder, tmp_path: Path):
    grounder.save_pretrained(tmp_path / "model")
    again = Grounder.from_pretrained(tmp_path / "model")
    objects = object_set(toy_scene(7), 24, seed=0)
    sentences = ["the red cube", "the plate to the left of the blue pole"]
    assert torch.equal(again.score(objects, sentences), grounder.score(objects, sentences))


def test_rooms_are_predicted_as_one_by_one(grounder: Grounder):
    rooms = rooms_of(range(3))
    for room in rooms:
        room.features = torch.randn(1, len(room.objects), 16, generator=torch.Generator().manual_seed(0))
        room.tokens = grounder.tokenizer(room.sentences)["input_ids"]
    together = predict(grounder.model, rooms, 0)
    assert [p.tolist() for p in together] == [predict(grounder.model, [room], 0)[0].tolist() for room in rooms]
    assert [len(p) for p in together] == [len(room.sentences) for room in rooms]


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
    (folder / "config.json").write_text(json.dumps({**config, "format": "other/1"}))
    with pytest.raises(InputError, match="other/1"):
        Grounder.from_pretrained(folder)
