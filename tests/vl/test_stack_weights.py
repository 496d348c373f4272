"""Encoders of transformers and their layers here compute the same; a one tower says what it took from them."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    DeiTConfig,
    DeiTModel,
    Dinov2Config,
    Dinov2Model,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    RobertaConfig,
    RobertaModel,
    ViTConfig,
    ViTModel,
)

from core.errors import InputError
from tests.vl.shaken import shaken
from vl.layers import Block
from vl.one_tower import OneTower, OneTowerConfig
from vl.stack_weights import block_weights, layer_prefixes, stack_shape, start_from

LAYERS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
WORDS = {"vocab_size": 20, "max_position_embeddings": 12, "pad_token_id": 1}
PATCHES = {"image_size": 16, "patch_size": 8}


def encoder(kind: str) -> nn.Module:
    if kind == "bert":
        return shaken(BertModel(BertConfig(**LAYERS, **WORDS), add_pooling_layer=False))
    if kind == "electra":
        return shaken(ElectraModel(ElectraConfig(**LAYERS, **WORDS, embedding_size=8)))
    if kind == "roberta":
        config = RobertaConfig(**LAYERS, **WORDS, layer_norm_eps=1e-5, hidden_act="relu")
        return shaken(RobertaModel(config, add_pooling_layer=False))
    if kind == "distilbert":
        shape = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}
        return shaken(DistilBertModel(DistilBertConfig(**shape, **WORDS)))
    if kind == "vit":
        return shaken(ViTModel(ViTConfig(**LAYERS, **PATCHES), add_pooling_layer=False))
    if kind == "deit":
        return shaken(DeiTModel(DeiTConfig(**LAYERS, **PATCHES, qkv_bias=False), add_pooling_layer=False))
    return shaken(Dinov2Model(Dinov2Config(**LAYERS, **PATCHES, mlp_ratio=2)))


def tower_like(source: nn.Module, init: str, **changes) -> OneTower:
    torch.manual_seed(0)
    config = replace(OneTowerConfig(patch=8), init=init, pretrained="here", **(stack_shape(source) | changes))
    return OneTower(config, vocab_size=20, max_tokens=7, image_height=16, image_width=16).eval()


@pytest.mark.parametrize("kind", ["bert", "electra", "roberta", "distilbert"])
def test_a_one_tower_from_a_text_encoder_reads_text_as_it_does(kind):
    source = encoder(kind)
    tower = tower_like(source, "text", embedding=8 if kind == "electra" else 0)
    report = start_from(tower, source)
    tower.types.weight.data.zero_()  # the one part of the text's way that no text encoder has
    ids = torch.randint(2, 20, (2, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, 6, dtype=torch.int64)
    ids[1, 4:], mask[1, 4:] = 1, 0
    theirs = source(input_ids=ids, attention_mask=mask).last_hidden_state
    ours = tower.alone(tower.embed_text(ids, mask)).states
    torch.testing.assert_close(ours[mask.bool()], theirs[mask.bool()], rtol=1e-5, atol=1e-5)
    assert {"2 of 2 layers", "words", "7 word positions"} <= set(report.taken)
    assert set(report.fresh) == {"patches", "poolers, token types"}


@pytest.mark.parametrize("kind", ["vit", "dinov2"])
def test_a_one_tower_from_a_vision_encoder_sees_images_as_it_does(kind):
    source = encoder(kind)
    tower = tower_like(source, "vision")
    report = start_from(tower, source)
    tower.types.weight.data.zero_()
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    theirs = source(pixel_values=pixels).last_hidden_state
    ours = tower.alone(tower.embed_image(pixels)).states
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert {"2 of 2 layers", "patches weight", "class token", "patch positions"} <= set(report.taken)
    assert set(report.fresh) == {"words", "poolers, token types"}


def test_from_deit_all_but_the_distillation_token_is_taken():
    source = encoder("deit")
    tower = tower_like(source, "vision")
    start_from(tower, source)
    tower.types.weight.data.zero_()
    pixels = torch.randn(1, 3, 16, 16)
    embedded = source.embeddings(pixels)
    kept = embedded[:, [0, 2, 3, 4, 5]]
    torch.testing.assert_close(tower.embed_image(pixels).states, kept)
    theirs, ours = embedded, embedded
    for layer, block in zip(source.layers, tower.blocks):
        theirs, ours = layer(theirs), block(ours)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_layers_of_clip_carry_over_too():
    source = shaken(CLIPVisionModel(CLIPVisionConfig(**LAYERS, **PATCHES)))
    weights, shape = source.state_dict(), stack_shape(source)
    block = Block(16, 2, 24, norm=shape["norm"], activation=shape["activation"], eps=shape["eps"])
    block.load_state_dict(block_weights(weights, layer_prefixes(weights)[1]))
    x = torch.randn(2, 3, 16)
    torch.testing.assert_close(block(x), source.encoder.layers[1](x, attention_mask=None), rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_stays_as_it_was_and_is_named():
    source = encoder("bert")
    config = replace(OneTowerConfig(patch=8), init="text", pretrained="here", **stack_shape(source) | {"layers": 3})
    tower = OneTower(config, vocab_size=21, max_tokens=14, image_height=16, image_width=16)
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    report = start_from(tower, source)
    assert report.taken == ["2 of 3 layers", "12 word positions", "word norm weight", "word norm bias"]
    assert report.fresh["the last layers"] == "the encoder has 2"
    assert report.fresh["words"] == "the encoder's are (20, 16), this tower's (21, 16)"
    assert report.fresh["later word positions"] == "the encoder has 12"
    same = {name for name, value in tower.state_dict().items() if torch.equal(value, before[name])}
    assert {name for name in same if name.startswith("blocks.")} == {n for n in before if n.startswith("blocks.2.")}
    assert {"words.weight", "patches.weight", "text_pooler.weight", "types.weight"} <= same
    assert "at random" in str(report).lower()

    shallow = tower_like(source, "text", layers=1)
    assert start_from(shallow, source).taken[0] == "1 of 1 layers"


def test_an_encoder_of_another_shape_is_refused_with_the_settings_that_fit():
    with pytest.raises(InputError, match="width=32, norm=pre cannot start from this bert: .*width=16.*norm=post"):
        start_from(tower_like(encoder("bert"), "text", width=32, norm="pre"), encoder("bert"))
    with pytest.raises(InputError, match="init=vision starts from deit, dinov2, vit; the encoder given is a bert"):
        start_from(tower_like(encoder("vit"), "vision"), encoder("bert"))
    with pytest.raises(InputError, match="one stack of transformer layers, got 0"):
        layer_prefixes({"embeddings.weight": torch.zeros(1)})
    with pytest.raises(InputError, match="has no weights for .*grow"):
        swiglu = Dinov2Model(Dinov2Config(**LAYERS, **PATCHES, use_swiglu_ffn=True))
        stack_shape(swiglu)
