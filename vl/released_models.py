"""ViLT and BridgeTower of transformers as models of this package, weights carried over.

Not carried over: ViLT's third token type (a second image), and BridgeTower's scaled add and shared bridges, which no
released checkpoint uses. Both functions of a head return plain state dicts, so that heads elsewhere can take them.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    BridgeTowerForImageAndTextRetrieval,
    BridgeTowerForMaskedLM,
    BridgeTowerModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    RobertaConfig,
    RobertaModel,
    ViltForImageAndTextRetrieval,
    ViltForMaskedLM,
    ViltModel,
)

from core.errors import InputError
from vl.fusion import Fusion, FusionConfig
from vl.one_tower import OneTower, OneTowerConfig
from vl.stack_weights import block_weights, layer_prefixes, word_positions

FUSION_EPS = 1e-5
"""Of BridgeTower's layer norms, and the default of ours."""


@torch.no_grad()
def one_tower_from_vilt(vilt: ViltModel) -> OneTower:
    """A one tower that computes what `vilt` does of square images at its own size, with all patches kept.

    Pooled like ViLT's, by the first word alone. In eval mode.
    """
    shape: Any = vilt.config
    weights = vilt.state_dict()
    config = OneTowerConfig(
        layers=shape.num_hidden_layers,
        width=shape.hidden_size,
        heads=shape.num_attention_heads,
        mlp=shape.intermediate_size / shape.hidden_size,
        dropout=shape.hidden_dropout_prob,
        norm="pre",
        activation=shape.hidden_act,
        eps=shape.layer_norm_eps,
        patch=shape.patch_size,
        pooler="single",
    )
    tower = OneTower(
        config,
        vocab_size=shape.vocab_size,
        max_tokens=shape.max_position_embeddings,
        image_height=shape.image_size,
        image_width=shape.image_size,
    )
    for block, prefix in zip(tower.blocks, layer_prefixes(weights)):
        block.load_state_dict(block_weights(weights, prefix))
    words = "embeddings.text_embeddings."
    tower.load_state_dict(
        {
            "words.weight": weights[f"{words}word_embeddings.weight"],
            "word_position.weight": word_positions(weights, words, shape),
            "word_norm.weight": weights[f"{words}LayerNorm.weight"],
            "word_norm.bias": weights[f"{words}LayerNorm.bias"],
            "patches.weight": weights["embeddings.patch_embeddings.projection.weight"],
            "patches.bias": weights["embeddings.patch_embeddings.projection.bias"],
            "class_token": weights["embeddings.cls_token"],
            "patch_position": weights["embeddings.position_embeddings"],
            "types.weight": weights["embeddings.token_type_embeddings.weight"][:2],
            "norm.weight": weights["layernorm.weight"],
            "norm.bias": weights["layernorm.bias"],
            "text_pooler.weight": weights["pooler.dense.weight"],
            "text_pooler.bias": weights["pooler.dense.bias"],
        }
        | {f"blocks.{key}": value for key, value in tower.blocks.state_dict().items()},
    )
    return tower.eval()


@torch.no_grad()
def fusion_from_bridgetower(model: BridgeTowerModel) -> Fusion:
    """The fusion layers of `model`, for towers that hand on their last layers. In eval mode.

    The image tower's layers have to be normalised by its last norm, each of them.

    Raises:
        InputError: bridges shared between layers, projections that are not shared, scaled add, or another eps.
    """
    shape: Any = model.config
    layer, weights = shape.text_config, model.state_dict()
    if shape.link_tower_type not in ("add", "interpolate") or shape.share_link_tower_layers:
        raise InputError(
            f"BridgeTower with link_tower_type={shape.link_tower_type} and "
            f"share_link_tower_layers={shape.share_link_tower_layers}: only add and interpolate, not shared, carry over"
        )
    if not shape.share_cross_modal_transformer_layers or {shape.layer_norm_eps, layer.layer_norm_eps} != {FUSION_EPS}:
        raise InputError(
            "BridgeTower carries over with one projection for all layers "
            f"(share_cross_modal_transformer_layers={shape.share_cross_modal_transformer_layers}) and layer norms of "
            f"eps={FUSION_EPS} (came: {shape.layer_norm_eps}, {layer.layer_norm_eps})"
        )
    config = FusionConfig(
        layers=shape.num_hidden_layers,
        width=shape.hidden_size,
        heads=layer.num_attention_heads,
        mlp=layer.intermediate_size / shape.hidden_size,
        dropout=layer.hidden_dropout_prob,
        bridge=shape.link_tower_type,
    )
    fusion = Fusion(config, shape.vision_config.hidden_size, layer.hidden_size, eps=FUSION_EPS)
    found: dict[str, Tensor] = {"types.weight": weights["token_type_embeddings.weight"]}
    for side in ("text", "image"):
        for name in ("weight", "bias"):
            found[f"{side}_in.{name}"] = weights[f"cross_modal_{side}_transform.{name}"]
            found[f"{side}_norm.{name}"] = weights[f"cross_modal_{side}_layernorm.{name}"]
            found[f"{side}_pooler.{name}"] = weights[f"cross_modal_{side}_pooler.dense.{name}"]
        for index in range(config.layers):
            block = block_weights(weights, f"cross_modal_{side}_layers.{index}.")
            found |= {f"{side}_blocks.{index}.{key}": value for key, value in block.items()}
        for index in range(config.layers - 1):
            link = f"cross_modal_{side}_link_tower.{index}."
            for ours, theirs in (
                ("norm.weight", "LayerNorm.weight"),
                ("norm.bias", "LayerNorm.bias"),
                ("beta", "beta"),
            ):
                if link + theirs in weights:
                    found[f"{side}_bridges.{index}.{ours}"] = weights[link + theirs]
    fusion.load_state_dict(found)
    return fusion.eval()


@torch.no_grad()
def towers_from_bridgetower(model: BridgeTowerModel) -> tuple[CLIPVisionModel, RobertaModel]:
    """BridgeTower's image and text towers as transformers' own classes, in eval mode.

    Its image layers keep queries, keys and values in one matrix (`nn.MultiheadAttention`); CLIP's keep three.
    """
    shape: Any = model.config
    vision, text, weights = shape.vision_config, shape.text_config, model.state_dict()
    visual = "vision_model.visual."
    image_tower = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=vision.hidden_size,
            intermediate_size=4 * vision.hidden_size,
            num_hidden_layers=len(layer_prefixes({k: v for k, v in weights.items() if k.startswith(visual)})),
            num_attention_heads=vision.hidden_size // 64,
            image_size=vision.image_size,
            patch_size=vision.patch_size,
            hidden_act="quick_gelu",
            layer_norm_eps=vision.layer_norm_eps,
        )
    )
    found: dict[str, Tensor] = {}
    names = {
        "embeddings.": "embeddings.",
        "ln_pre.": "pre_layrnorm.",  # transformers spells it so
        "ln_post.": "post_layernorm.",
        "transformer.resblocks.": "encoder.layers.",
    }
    inner = {
        "attn.out_proj": "self_attn.out_proj",
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    for key, value in weights.items():
        if not key.startswith(visual):
            continue
        rest = key.removeprefix(visual)
        theirs, ours = next(pair for pair in names.items() if rest.startswith(pair[0]))
        name = ours + rest.removeprefix(theirs)
        if ".attn.in_proj_" in name:
            for letter, part in zip("qkv", value.chunk(3)):
                found[name.replace("attn.in_proj_", f"self_attn.{letter}_proj.")] = part
            continue
        for before, after in inner.items():
            name = name.replace(f".{before}.", f".{after}.")
        found[name] = value
    image_tower.load_state_dict(found)

    fields = text.to_dict()
    fields.pop("model_type", None)
    text_tower = RobertaModel(RobertaConfig(**fields), add_pooling_layer=False)
    own = {key.removeprefix("text_model."): value for key, value in weights.items() if key.startswith("text_model.")}
    text_tower.load_state_dict({key: value for key, value in own.items() if not key.startswith("pooler.")})
    return image_tower.eval(), text_tower.eval()


def word_head_weights(model: ViltForMaskedLM | BridgeTowerForMaskedLM) -> dict[str, Tensor]:
    """Head for masked words: dense, activation, norm, decoder.

    Keys: dense.weight (W, W), dense.bias, norm.weight, norm.bias, decoder.weight (vocabulary, W), decoder.bias. The
    activation and the norm's eps are those of model.config.
    """
    weights = model.mlm_score.state_dict()
    names = {"dense": "transform.dense", "norm": "transform.LayerNorm"}
    found = {f"{o}.{kind}": weights[f"{t}.{kind}"] for o, t in names.items() for kind in ("weight", "bias")}
    bias = weights.get("decoder.bias")
    return found | {
        "decoder.weight": weights["decoder.weight"],
        "decoder.bias": weights["bias"] if bias is None else bias,
    }


def match_head_weights(model: ViltForImageAndTextRetrieval | BridgeTowerForImageAndTextRetrieval) -> dict[str, Tensor]:
    """Linear head of two logits, column 1 = they fit: weight (2, P), bias (2,).

    ViLT's one logit r becomes (0, r), whose softmax is the sigmoid of r.
    """
    head: Any = model.rank_output if isinstance(model, ViltForImageAndTextRetrieval) else model.itm_score.fc
    weight, bias = head.weight.detach(), head.bias.detach()
    if len(weight) == 1:
        weight, bias = nn.functional.pad(weight, (0, 0, 1, 0)), nn.functional.pad(bias, (1, 0))
    return {"weight": weight, "bias": bias}
