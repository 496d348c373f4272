"""The grounding network in all its settings: what must not matter does not, and what is trained moves."""

from dataclasses import replace

import pytest
import torch

from core.errors import InputError
from scene.batch import SceneBatch, collate
from scene.grounding import GroundingModel, initialise
from scene.losses import info_nce, referral_loss, scale_of
from scene.model_config import ModelConfig, gps_code, gps_paper

WIDTH, VOCABULARY = 16, 40
DEFAULT = ModelConfig(vocab_size=VOCABULARY, dim=WIDTH, heads=2, hidden=32, points=16, max_tokens=16, dropout=0.0)
SMALL = {
    "dim": WIDTH,
    "heads": 2,
    "hidden": 32,
    "text_hidden": 32,
    "text_layers": 2,
    "spatial_layers": 2,
    "fusion_layers": 2,
    "points": 16,
    "max_tokens": 16,
    "dropout": 0.0,
    "slots": 9,
    "object_encoder": "small",
}
CONFIGS = {
    "default": DEFAULT,
    "gps-paper": replace(gps_paper(VOCABULARY), **SMALL),
    "gps-code": replace(gps_code(VOCABULARY), **SMALL),
    "static": replace(DEFAULT, bias="static"),
    "no bias": replace(DEFAULT, bias="none"),
    "graph": replace(DEFAULT, graph_layers=1),
    "post with roles": replace(DEFAULT, norm="post", object_dim=12),
}


@pytest.fixture(scope="module", params=CONFIGS)
def model(request) -> GroundingModel:
    return make(CONFIGS[request.param])


def make(config: ModelConfig) -> GroundingModel:
    torch.manual_seed(0)
    model = GroundingModel(replace(config, answers=5)).eval()
    if config.graph_layers:
        torch.nn.init.normal_(model.graph_out.weight)  # it starts at zero
    return model


def batch_of(model: GroundingModel, counts: list[int]) -> SceneBatch:
    generator = torch.Generator().manual_seed(1)
    width, edges = model.config.object_width, None
    if model.config.graph_layers:
        edges = [torch.tensor([[0, n - 1, 3], [n - 1, 0, 4]]) for n in counts]
    return collate(
        [torch.randn(n, width, generator=generator) for n in counts],
        [torch.rand(n, 6, generator=generator) * 4 for n in counts],
        edges,
    )


def sentences(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random sentences of these lengths."""
    generator = torch.Generator().manual_seed(2)
    words = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return torch.randint(5, VOCABULARY, words.shape, generator=generator) * words, words


def wider(scenes: SceneBatch, by: int) -> SceneBatch:
    """With `by` more padded slots, which hold rubbish."""
    features, locations = (
        torch.cat([x, torch.full((len(x), by, x.shape[-1]), 7.0)], 1) for x in (scenes.features, scenes.locations)
    )
    return SceneBatch(features, locations, torch.nn.functional.pad(scenes.valid, (0, by)), scenes.edges)


@torch.no_grad()
def test_permuting_objects_permutes_scores(model: GroundingModel):
    scenes, order = batch_of(model, [5]), torch.tensor([3, 0, 4, 1, 2])
    text = (*sentences(6), torch.tensor([0]))
    edges = scenes.edges
    if edges is not None:
        edges = edges.clone()
        edges[:, 1:3] = order.argsort()[edges[:, 1:3]]
    shuffled = SceneBatch(scenes.features[:, order], scenes.locations[:, order], scenes.valid[:, order], edges)
    before, after = (model.fuse(model.encode_scene(s), *text) for s in (scenes, shuffled))
    torch.testing.assert_close(after.scores, before.scores[:, order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(after.members, before.members[:, order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.answer_logits(after), model.answer_logits(before), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_padding_of_objects_and_words_changes_nothing_and_never_wins(model: GroundingModel):
    tokens, words = sentences(4, 9)
    scenes = batch_of(model, [3, 7])
    alone = SceneBatch(
        scenes.features[:1, :3],
        scenes.locations[:1, :3],
        scenes.valid[:1, :3],
        None if scenes.edges is None else scenes.edges[scenes.edges[:, 0] == 0],
    )
    encoded, single = model.encode_scene(wider(scenes, 4)), model.encode_scene(alone)
    together = model.fuse(encoded, tokens, words, torch.tensor([0, 1]))
    first = model.fuse(single, tokens[:1, :4], words[:1, :4], torch.tensor([0]))
    near = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(together.scores[0, :3], first.scores[0], **near)
    torch.testing.assert_close(together.members[0, :3], first.members[0], **near)
    torch.testing.assert_close(together.words[0, :4], first.words[0], **near)
    torch.testing.assert_close(model.answer_logits(together)[0], model.answer_logits(first)[0], **near)
    torch.testing.assert_close(model.scene_features(encoded)[0], model.scene_features(single)[0], **near)
    assert torch.isinf(together.scores[0, 3:]).all() and torch.isinf(together.members[0, 3:]).all()
    assert torch.isfinite(together.scores[1, :7]).all() and torch.isinf(together.scores[1, 7:]).all()


@torch.no_grad()
def test_many_sentences_about_one_scene_score_as_one_by_one(model: GroundingModel):
    encoded = model.encode_scene(batch_of(model, [4, 6]))
    tokens, words = sentences(5, 7, 3, 6)
    for scene in (torch.tensor([0, 0, 1, 1]), torch.tensor([1, 0, 1, 1])):
        together = model.fuse(encoded, tokens, words, scene).scores
        for s in range(4):
            single = model.fuse(encoded, tokens[s : s + 1], words[s : s + 1], scene[s : s + 1]).scores
            torch.testing.assert_close(together[s : s + 1], single, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 500])
def test_any_number_of_objects_has_scores(count: int):
    for config in (DEFAULT, CONFIGS["gps-code"]):
        model = make(config)
        scores = model(batch_of(model, [count]), *sentences(5), torch.tensor([0]))
        assert scores.shape == (1, count) and torch.isfinite(scores).all()


def test_scenes_without_objects_and_features_of_another_width_are_refused():
    model = make(DEFAULT)
    nothing = SceneBatch(torch.zeros(1, 0, WIDTH), torch.zeros(1, 0, 6), torch.zeros(1, 0, dtype=torch.bool))
    with pytest.raises(InputError, match="no objects"):
        model.encode_scene(nothing)
    with pytest.raises(InputError, match=r"scenes \[1\] of the batch have no objects"):
        collate([torch.zeros(2, WIDTH), torch.zeros(0, WIDTH)], [torch.zeros(2, 6), torch.zeros(0, 6)])
    scenes = batch_of(model, [2])
    with pytest.raises(InputError, match="features are 15 wide, the model reads 16"):
        model.encode_scene(SceneBatch(scenes.features[..., :15], scenes.locations, scenes.valid))


def test_a_model_with_a_scene_graph_wants_its_edges_and_hears_them():
    model = make(CONFIGS["graph"])
    scenes, text = batch_of(model, [5]), (*sentences(4), torch.tensor([0]))
    with pytest.raises(InputError, match="no edges"):
        model.encode_scene(SceneBatch(scenes.features, scenes.locations, scenes.valid))
    without = SceneBatch(scenes.features, scenes.locations, scenes.valid, scenes.edges[:0])
    assert not torch.allclose(model(scenes, *text), model(without, *text))
    fresh = GroundingModel(CONFIGS["graph"]).eval()  # begins as a model without a graph
    torch.testing.assert_close(fresh(scenes, *text), fresh(without, *text))


@torch.no_grad()
def test_where_the_whole_scene_stands_matters_only_to_models_that_read_file_coordinates():
    for name, moves in (("default", False), ("static", False), ("gps-paper", True)):
        model = make(CONFIGS[name])
        scenes, text = batch_of(model, [4]), (*sentences(5), torch.tensor([0]))
        moved = SceneBatch(scenes.features, scenes.locations + torch.tensor([5.0, -3, 0, 0, 0, 0]), scenes.valid)
        assert torch.allclose(model(moved, *text), model(scenes, *text), atol=1e-4) != moves


@torch.no_grad()
def test_a_text_of_no_known_word_has_finite_scores(model: GroundingModel):
    tokens = torch.tensor([[2, 3], [2, 1]])  # [CLS] [SEP]; [CLS] [UNK]
    fused = model.fuse(model.encode_scene(batch_of(model, [3])), tokens, tokens > 0, torch.tensor([0, 0]))
    assert torch.isfinite(fused.scores).all() and torch.isfinite(fused.members).all()


def test_every_parameter_of_the_sentence_path_gets_a_gradient(model: GroundingModel):
    model.zero_grad()
    encoded = model.encode_scene(batch_of(model, [4]))
    fused = model.fuse(encoded, *sentences(5), torch.tensor([0]))
    loss = referral_loss(fused.scores, torch.tensor([2])) + fused.members.sum() + model.answer_logits(fused).sum()
    loss = loss + model.word_logits(fused).sum() + model.scene_features(encoded).sum()
    loss.backward()
    other = {"object_encoder", "scene_log_scale", "object_projection", "object_log_scale", "referral_log_scale"}
    if model.config.roles:
        other -= {"object_projection", "object_log_scale"}
    if model.config.scorer == "dot":
        other -= {"referral_log_scale"}
    silent = [n for n, p in model.named_parameters() if p.grad is None and n.split(".")[0] not in other]
    assert silent == []
    model.zero_grad()


@pytest.mark.parametrize("name", ["object_log_scale", "scene_log_scale", "referral_log_scale"])
def test_an_optimiser_step_moves_each_contrastive_scale(name: str):
    model = make(CONFIGS["gps-paper"])
    assert name in dict(model.named_parameters())
    scale = getattr(model, name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    before = scale_of(scale).item()
    assert before == pytest.approx(1 / 0.07, rel=1e-5)
    if name == "referral_log_scale":
        scores = model(batch_of(model, [4]), *sentences(5), torch.tensor([0]))
        referral_loss(scores, torch.tensor([2])).backward()
    else:
        left, right = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))
        info_nce(left, right, scale_of(scale)).backward()
    optimizer.step()
    assert abs(scale_of(scale).item() - before) > 0.5


def test_scorers_are_cosines_and_only_the_papers_has_a_temperature():
    paper, code = make(CONFIGS["gps-paper"]), make(replace(CONFIGS["gps-paper"], scorer="cosine"))
    scenes, text = batch_of(paper, [4]), (*sentences(5), torch.tensor([0]))
    fused = code.fuse(code.encode_scene(scenes), *text)
    expected = torch.nn.functional.cosine_similarity(fused.objects[0], fused.words[0, :1], dim=-1)
    torch.testing.assert_close(fused.scores[0], expected)
    torch.testing.assert_close(paper(scenes, *text), fused.scores / 0.07, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["default", "gps-code"])
def test_recomputing_activations_changes_no_gradient(name: str):
    gradients = []
    for checkpointing in (False, True):
        again = make(replace(CONFIGS[name], checkpointing=checkpointing)).train()
        again.text.eval()  # transformers' own dropout would draw in another order
        scores = again(batch_of(again, [4]), *sentences(5), torch.tensor([0]))
        referral_loss(scores, torch.tensor([2])).backward()
        gradients.append({n: p.grad for n, p in again.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for parameter, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][parameter], gradient, atol=1e-6, rtol=1e-4)


def test_under_autocast_scores_are_single_precision_and_near(model: GroundingModel):
    scenes, text = batch_of(model, [4, 6]), (*sentences(5, 7), torch.tensor([0, 1]))
    exact = model.fuse(model.encode_scene(scenes), *text)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.fuse(model.encode_scene(scenes), *text)
        assert rough.scores.dtype == rough.members.dtype == rough.fit.dtype == torch.float32
        loss = referral_loss(rough.scores, torch.tensor([1, 2]))
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    spread = exact.scores[exact.valid].abs().max()
    assert (rough.scores - exact.scores)[exact.valid].abs().max() < 0.1 * spread + 0.05
    model.zero_grad()


def test_gps_starts_from_narrow_normal_weights():
    model = make(CONFIGS["gps-code"])
    weight = torch.cat([layer.feed[0].weight.flatten() for layer in model.spatial])
    assert 0.018 < weight.std() < 0.022 and model.spatial[0].feed[0].bias.abs().max() == 0
    default = make(DEFAULT)
    assert default.spatial[0].feed[0].weight.std() > 0.1  # torch's own
    layer = torch.nn.LayerNorm(4)
    initialise(layer)
    assert layer.weight.tolist() == [1] * 4


@torch.no_grad()
def test_captions_and_sentences_are_told_by_their_own_features():
    tokens, words = sentences(4, 6)
    gps = make(CONFIGS["gps-code"])
    torch.testing.assert_close(gps.caption_features(tokens, words), gps.encode_words(tokens, words)[:, 0])
    fused = gps.fuse(gps.encode_scene(batch_of(gps, [3])), tokens, words, torch.tensor([0, 0]))
    torch.testing.assert_close(fused.sentence, gps.text_features(tokens, words))
    default = make(DEFAULT)
    mean = default.word_vectors(tokens[:1, :4]).mean(1)
    torch.testing.assert_close(default.caption_features(tokens, words)[:1], mean)
    framed = torch.cat([torch.full((1, 1), 2), tokens[:1, :4], torch.full((1, 1), 3)], 1)
    torch.testing.assert_close(default.caption_features(framed, framed > 0), mean)  # special tokens are no words


@torch.no_grad()
def test_words_are_guessed_in_all_places_or_in_those_asked_for():
    model = make(DEFAULT)
    fused = model.fuse(model.encode_scene(batch_of(model, [3])), *sentences(4, 6), torch.tensor([0, 0]))
    everywhere = model.word_logits(fused)
    assert everywhere.shape == (2, 6, VOCABULARY)
    torch.testing.assert_close(model.word_logits(fused, torch.tensor([1, 8])), everywhere[[0, 1], [1, 2]])


def test_only_a_model_with_a_question_head_answers():
    model = GroundingModel(DEFAULT)
    fused = model.fuse(model.encode_scene(batch_of(model, [3])), *sentences(4), torch.tensor([0]))
    with pytest.raises(InputError, match="answers no questions"):
        model.answer_logits(fused)
