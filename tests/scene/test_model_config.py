"""Sizes and choices of a grounding model."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from core.errors import InputError
from scene.grounding import GroundingModel
from scene.model_config import MODELS, ModelConfig, gps_code, gps_paper


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 30}, "dim=30 does not split over heads=4"),
        ({"bias": "querry"}, "bias='querry' is unknown; did you mean 'query'"),
        ({"dropout": 1.0}, r"dropout=1.0: expected a share in \[0, 1\)"),
        ({"heads": 0}, "heads=0: expected a whole number of at least 1"),
        ({"roles": -1}, "roles=-1: expected a whole number of at least 0"),
        ({"points": 1.5}, "points=1.5: expected a whole number"),
        ({"farthest": "padded"}, "give slots"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_name(change: dict, message: str):
    with pytest.raises(InputError, match=message):
        ModelConfig(vocab_size=10, **change)


@pytest.mark.parametrize("name", MODELS)
def test_every_named_model_survives_json(name: str):
    config = MODELS[name](vocab_size=100)
    assert ModelConfig(**json.loads(json.dumps(asdict(config)))) == config
    assert config.vocab_size == 100


def test_paper_and_code_differ_where_the_two_descriptions_of_gps_do():
    paper, code = asdict(gps_paper()), asdict(gps_code())
    different = {name: (paper[name], code[name]) for name in paper if paper[name] != code[name]}
    assert different == {
        "bias": ("static", "query"),
        "farthest": ("valid", "padded"),
        "scorer": ("dot", "cosine"),
        "scene_pool": ("max", "mean"),
    }


def test_gps_has_the_parameter_shapes_of_the_released_model():
    with torch.device("meta"):
        model = GroundingModel(replace(gps_code(), scorer="mlp", answers=8864))
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    assert [len(model.spatial), len(model.fusion), model.text.encoder.config.num_hidden_layers] == [4, 4, 4]
    for layer in ("spatial.3", "fusion.3"):
        assert shapes[f"{layer}.attention.qkv.weight"] == (3 * 768, 768)
        assert shapes[f"{layer}.feed.0.weight"] == (2048, 768) and shapes[f"{layer}.feed.3.weight"] == (768, 2048)
    assert shapes["spatial.0.weights.weight"] == (12 * 6, 768)
    assert not any("weights" in name for name in shapes if name.startswith("fusion"))
    assert shapes["place.0.weight"] == shapes["joint_place.0.weight"] == (768, 6)
    assert shapes["kind.weight"] == (2, 768)
    assert shapes["text.encoder.embeddings.word_embeddings.weight"] == (30_522, 768)
    assert shapes["text.encoder.encoder.layer.3.intermediate.dense.weight"] == (3072, 768)
    assert shapes["head.0.weight"] == (384, 768) and shapes["head.4.weight"] == (1, 384)
    assert shapes["word_head.0.weight"] == (768, 768) and shapes["word_head.3.weight"] == (30_522, 768)
    assert shapes["answer_head.objects.score.0.weight"] == (256, 768)
    assert shapes["answer_head.objects.out.weight"] == (512, 768)
    assert shapes["answer_head.answer.0.weight"] == (768, 512)
    assert shapes["answer_head.answer.3.weight"] == (8864, 768)
    assert "scene_projection.weight" not in shapes and "role.weight" not in shapes


def test_the_paper_has_one_projection_for_the_bias_and_one_for_scenes():
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in GroundingModel(gps_paper()).named_parameters()}
    assert shapes["spatial.0.weights.weight"] == (12, 5) and shapes["spatial.0.weights.bias"] == (12,)
    assert shapes["scene_projection.weight"] == (768, 768)
