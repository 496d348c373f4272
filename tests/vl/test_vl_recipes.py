"""Facts about configs/vl_recipe: every recipe composes and builds at its size, with nothing downloaded."""

import dataclasses
import importlib.resources
from functools import lru_cache

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from core.job import load_config
from vl.model import VLModel
from vl.pretrain_config import PretrainVLConfig
from vl.tokenizer import train_tokenizer

RECIPES = sorted(
    item.name.removesuffix(".yaml") for item in (importlib.resources.files("configs") / "vl_recipe").iterdir()
)

BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
HUB = {
    "facebook/deit-tiny-patch16-224": (
        "deit",
        BASE | {"patch_size": 16, "hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768},
    ),
    "facebook/deit-small-patch16-224": (
        "deit",
        BASE | {"patch_size": 16, "hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536},
    ),
    "google/vit-base-patch16-224": ("vit", BASE | {"patch_size": 16}),
    "openai/clip-vit-base-patch16": ("clip_vision_model", BASE | {"patch_size": 16}),
    "google/electra-small-discriminator": (
        "electra",
        BASE
        | {"hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024, "embedding_size": 128}
        | {"vocab_size": 30522, "max_position_embeddings": 512},
    ),
    "google/electra-base-discriminator": (
        "electra",
        BASE | {"embedding_size": 768, "vocab_size": 30522, "max_position_embeddings": 512},
    ),
    "FacebookAI/roberta-base": ("roberta", BASE | {"vocab_size": 50265, "max_position_embeddings": 514}),
}
"""The shapes behind the hub ids (their config.json), for a random start of the same size."""

MILLIONS = {
    "clip": (151.3, 0.01),  # Radford et al.: CLIP ViT-B/32, 151,277,313
    "siglip": (203.2, 0.01),  # google/siglip-base-patch16-224: 203,155,970
    "vilt": (111.6, 0.02),  # Kim et al.: 87.4 of layers and patches; and BERT's words, 23.4
    "meter": (326.0, 0.02),  # Xu et al., table 1, without the pretraining heads
    "bridgetower": (326.0, 0.02),  # likewise
}
"""Published sizes."""


@lru_cache
def words(count: int) -> PreTrainedTokenizerFast:
    return train_tokenizer([f"word{k}" for k in range(count)], count)


def built(cfg: PretrainVLConfig) -> VLModel:
    """The recipe's model with hub ids replaced by random starts of their shapes, without memory for its weights."""
    model = cfg.model
    parts = {}
    for name in ("image", "text"):
        part = getattr(model, name)
        if part.pretrained:
            kind, options = HUB[part.pretrained]
            parts[name] = dataclasses.replace(part, pretrained="", model_type=kind, options=options)
    if model.one.pretrained:
        parts["one"] = dataclasses.replace(model.one, init="random", pretrained="")
    size = cfg.vocab_size if model.kind == "one-tower" else 100  # the encoders' options say their own
    with torch.device("meta"):
        return VLModel(dataclasses.replace(model, **parts), words(size))


def millions(module: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_composes_and_builds_at_its_size(name):
    cfg = load_config("pretrain-vl", PretrainVLConfig, [f"vl_recipe={name}", "views=FOLDER"])
    model = built(cfg)
    assert cfg.warmup_steps < cfg.steps
    if name in MILLIONS:
        total, tolerance = MILLIONS[name]
        heads = millions(model.word_head) if hasattr(model, "word_head") else 0.0
        assert millions(model) - heads == pytest.approx(total, rel=tolerance)


def test_the_towers_of_renaissance_have_their_published_sizes():
    cfg = load_config("pretrain-vl", PretrainVLConfig, ["vl_recipe=renaissance-exp1-two-tower", "views=FOLDER"])
    model = built(cfg)
    assert millions(model.image_tower) == pytest.approx(5.5, abs=0.2)
    assert millions(model.text_tower) == pytest.approx(13.5, abs=0.2)
    assert model.fusion is not None and model.fusion.config.layers == 6


def test_the_laptop_recipe_is_the_default():
    assert load_config("pretrain-vl", PretrainVLConfig) == PretrainVLConfig()
