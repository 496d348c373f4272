"""Weights of transformers' encoders as weights of `vl.layers.Block` and of the one tower.

One table of names covers BERT, ELECTRA, RoBERTa and DistilBERT (post-norm), ViT, DeiT, DINOv2 and CLIP's image tower
(pre-norm), and the layers of ViLT and BridgeTower (`vl.released_models`). Whoever starts from an encoder is told what
was taken and what was not.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import InputError
from vl.one_tower import OneTower, OneTowerConfig

TEXT_ENCODERS = ("bert", "distilbert", "electra", "roberta")
"""Model types whose layers a one tower with init=text can start from."""

VISION_ENCODERS = ("deit", "dinov2", "vit")
"""Model types whose layers a one tower with init=vision can start from."""

LAYER = re.compile(r"^((?:\w+\.)*?(?:layers?|resblocks))\.(\d+)\.")

NAMES = {
    "attention.q": (
        "attention.self.query",
        "attention.attention.query",
        "attention.q_proj",
        "attention.q_lin",
        "self_attn.q_proj",
    ),
    "attention.k": (
        "attention.self.key",
        "attention.attention.key",
        "attention.k_proj",
        "attention.k_lin",
        "self_attn.k_proj",
    ),
    "attention.v": (
        "attention.self.value",
        "attention.attention.value",
        "attention.v_proj",
        "attention.v_lin",
        "self_attn.v_proj",
    ),
    "attention.out": ("attention.output.dense", "attention.o_proj", "attention.out_lin", "self_attn.out_proj"),
    "attention_norm": ("attention.output.LayerNorm", "sa_layer_norm", "layernorm_before", "norm1", "layer_norm1"),
    "cross.q": ("crossattention.self.query",),
    "cross.k": ("crossattention.self.key",),
    "cross.v": ("crossattention.self.value",),
    "cross.out": ("crossattention.output.dense",),
    "cross_norm": ("crossattention.output.LayerNorm",),
    "grow": ("intermediate.dense", "mlp.fc1", "ffn.lin1"),
    "shrink": ("output.dense", "mlp.fc2", "ffn.lin2"),
    "feed_norm": ("output.LayerNorm", "output_layer_norm", "layernorm_after", "norm2", "layer_norm2"),
}
"""Part of a Block -> what transformers calls it; the first name that is there."""

PRE_NORM = ("layernorm_before", "norm1", "layer_norm1")
"""Names of the first norm in layers that normalise before each sublayer."""


def block_weights(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """State dict of a `vl.layers.Block` for the layer whose names in `weights` start with `prefix`.

    Queries, keys and values are stacked into one matrix; absent biases are zeros; DINOv2's scale of a sublayer is
    multiplied into that sublayer's last matrix, which is the same function.

    Raises:
        InputError: the layer is of a kind that the table of names does not cover.
    """
    found: dict[str, Tensor] = {}
    for part, names in NAMES.items():
        for name in names:
            weight = weights.get(f"{prefix}{name}.weight")
            if weight is not None:
                found[f"{part}.weight"] = weight
                found[f"{part}.bias"] = weights.get(f"{prefix}{name}.bias", weight.new_zeros(len(weight)))
                break
    for scale, part in (("layer_scale1.lambda1", "attention.out"), ("layer_scale2.lambda1", "shrink")):
        if (factor := weights.get(prefix + scale)) is not None and f"{part}.weight" in found:
            found[f"{part}.weight"] = factor[:, None] * found[f"{part}.weight"]
            found[f"{part}.bias"] = factor * found[f"{part}.bias"]
    for attention in ("attention", "cross"):
        if f"{attention}.q.weight" in found:
            for kind in ("weight", "bias"):
                parts = [found.pop(f"{attention}.{letter}.{kind}") for letter in "qkv"]
                found[f"{attention}.qkv.{kind}"] = torch.cat(parts)
    missing = [p for p in ("attention.qkv", "attention.out", "grow", "shrink") if f"{p}.weight" not in found]
    if missing:
        known = sorted(key.removeprefix(prefix) for key in weights if key.startswith(prefix))
        raise InputError(f"layer {prefix!r} has no weights for {', '.join(missing)}; it holds {', '.join(known)[:300]}")
    return found


def layer_prefixes(weights: Mapping[str, Tensor]) -> list[str]:
    """Prefixes of an encoder's layers, first layer first.

    Raises:
        InputError: there are none.
    """
    found = {(match[1], int(match[2])) for key in weights if (match := LAYER.match(key))}
    if not found or len({stack for stack, _ in found}) > 1:
        stacks = sorted({stack for stack, _ in found})
        raise InputError(f"expected one stack of transformer layers, got {len(stacks)} ({', '.join(stacks)})")
    return [f"{stack}.{index}." for stack, index in sorted(found, key=lambda pair: pair[1])]


def stack_shape(encoder: nn.Module) -> dict[str, Any]:
    """Fields of `OneTowerConfig` that the encoder fixes: width, heads, mlp, norm, activation, eps; and its layers.

    Raises:
        InputError: no stack of known layers.
    """
    config: Any = encoder.config
    weights = encoder.state_dict()
    prefixes = layer_prefixes(weights)
    block = block_weights(weights, prefixes[0])
    hidden, width = block["grow.weight"].shape
    return {
        "layers": len(prefixes),
        "width": width,
        "heads": int(config.num_attention_heads),
        "mlp": hidden / width,
        "norm": "pre" if any(f"{prefixes[0]}{name}.weight" in weights for name in PRE_NORM) else "post",
        "activation": getattr(config, "hidden_act", None) or config.activation,  # DistilBERT's name for it
        "eps": float(getattr(config, "layer_norm_eps", 1e-12)),  # DistilBERT's is fixed
    }


@dataclass
class Taken:
    """What a one tower took from an encoder."""

    source: str
    """Model type of the encoder."""
    taken: list[str] = field(default_factory=list)
    """Parts that now hold its weights."""
    fresh: dict[str, str] = field(default_factory=dict)
    """Parts left at random, with the reason."""

    def __str__(self) -> str:
        fresh = "; ".join(f"{part} ({reason})" for part, reason in self.fresh.items())
        return f"from {self.source}: {', '.join(self.taken)}. At random: {fresh}"


@torch.no_grad()
def start_from(tower: OneTower, encoder: nn.Module) -> Taken:
    """Copies an encoder's layers, and the embeddings of its modality where shapes fit, into a one tower.

    The tower's config.init says which modality. Fewer layers than the encoder has: the first ones are taken; more: the
    last ones stay random. Poolers stay random.

    Args:
        encoder: a transformers BERT, ELECTRA, RoBERTa or DistilBERT for init=text; ViT, DeiT or DINOv2 for init=vision.

    Raises:
        InputError: another kind of encoder, or one whose layers have another shape; says which settings would fit.
    """
    init, kind = tower.config.init, str(encoder.config.model_type)  # type: ignore[union-attr]
    known = {"text": TEXT_ENCODERS, "vision": VISION_ENCODERS, "random": ()}[init]
    if kind not in known:
        fits = ", ".join(known) or "no encoder"
        raise InputError(f"one-tower init={init} starts from {fits}; the encoder given is a {kind}")
    check_shape(tower.config, stack_shape(encoder), kind)

    weights = encoder.state_dict()
    report = Taken(kind)
    prefixes = layer_prefixes(weights)[: len(tower.blocks)]
    for block, prefix in zip(tower.blocks, prefixes, strict=False):
        block.load_state_dict(block_weights(weights, prefix))
    report.taken.append(f"{len(prefixes)} of {len(tower.blocks)} layers")
    if len(prefixes) < len(tower.blocks):
        report.fresh["the last layers"] = f"the encoder has {len(prefixes)}"
    if init == "text":
        _take_words(tower, weights, encoder, report)
        report.fresh["patches"] = "from a text encoder"
    else:
        _take_patches(tower, weights, report)
        report.fresh["words"] = "from a vision encoder"
    report.fresh["poolers, token types"] = "always"
    return report


def check_shape(config: OneTowerConfig, shape: dict[str, Any], kind: str) -> None:
    """Refuses a one tower whose layers cannot hold those of an encoder of `stack_shape`.

    Raises:
        InputError: the settings that differ, and those that fit.
    """
    given = {name: getattr(config, name) for name in shape} | {"mlp": round(config.width * config.mlp) / config.width}
    differ = [name for name, value in shape.items() if name != "layers" and given[name] != value]
    if differ:
        wrong = ", ".join(f"{name}={given[name]}" for name in differ)
        fits = ", ".join(f"{name}={value}" for name, value in shape.items())
        raise InputError(f"one-tower {wrong} cannot start from this {kind}: its layers are {fits}; set these")


def _copy(target: Tensor, source: Tensor | None, part: str, report: Taken) -> None:
    """Copies a whole tensor where the shapes agree and says so, or says why not."""
    if source is None:
        report.fresh[part] = "the encoder has none"
    elif target.shape != source.shape:
        report.fresh[part] = f"the encoder's are {tuple(source.shape)}, this tower's {tuple(target.shape)}"
    else:
        target.copy_(source)
        report.taken.append(part)


def _take_words(tower: OneTower, weights: Mapping[str, Tensor], encoder: nn.Module, report: Taken) -> None:
    """Words, their positions (with BERT's segment 0 added, which every token has) and their norm."""
    _copy(tower.words.weight, weights["embeddings.word_embeddings.weight"], "words", report)
    position = word_positions(weights, "embeddings.", encoder.config)
    rows = min(len(position), len(tower.word_position.weight))
    _copy(tower.word_position.weight[:rows], position[:rows], f"{rows} word positions", report)
    if rows < len(tower.word_position.weight):
        report.fresh["later word positions"] = f"the encoder has {rows}"
    for name in ("weight", "bias"):
        _copy(getattr(tower.word_norm, name), weights[f"embeddings.LayerNorm.{name}"], f"word norm {name}", report)
    if isinstance(tower.text_in, nn.Linear):
        for name in ("weight", "bias"):
            source = weights.get(f"embeddings_project.{name}")
            _copy(getattr(tower.text_in, name), source, f"word projection {name}", report)


def word_positions(weights: Mapping[str, Tensor], prefix: str, config: Any) -> Tensor:
    """Position embeddings by place in the text, first token first, plus segment 0 where there are segments.

    RoBERTa counts from pad_token_id + 1; the others from 0.
    """
    position = weights[f"{prefix}position_embeddings.weight"]
    if config.model_type == "roberta":
        position = position[config.pad_token_id + 1 :]
    segment = weights.get(f"{prefix}token_type_embeddings.weight")
    return position if segment is None else position + segment[0]


def _take_patches(tower: OneTower, weights: Mapping[str, Tensor], report: Taken) -> None:
    """Patches, class token, their positions (DeiT's distillation token is left out) and the final norm."""
    for name in ("weight", "bias"):
        source = weights[f"embeddings.patch_embeddings.projection.{name}"]
        _copy(getattr(tower.patches, name), source, f"patches {name}", report)  # type: ignore[arg-type]
    _copy(tower.class_token, weights["embeddings.cls_token"], "class token", report)
    position = weights["embeddings.position_embeddings"]
    if "embeddings.distillation_token" in weights:
        position = torch.cat([position[:, :1], position[:, 2:]], dim=1)
    _copy(tower.patch_position, position, "patch positions", report)
    for name in ("weight", "bias"):
        _copy(getattr(tower.norm, name), weights[f"layernorm.{name}"], f"final norm {name}", report)
