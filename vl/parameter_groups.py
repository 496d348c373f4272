"""Learning rates and weight decay by part of a model, for an optimiser; and the fingerprint of a tower."""

import dataclasses
import hashlib
import json
from typing import Any

import torch
from torch import nn

HEADS = ("answer_head", "image_head", "match_head", "pixel_head", "text_head", "text_word_head", "word_head")
"""Parts of a model that learn at `head_factor` of the rate."""

NOT_DECAYED = (
    "position",
    "class_token",
    "cls_token",
    "distillation_token",
    "class_embedding",
    "register_tokens",
    "probe",
)
"""Parts of names of learned vectors that are no matrices, whatever their shape."""


def parameter_groups(
    model: nn.Module, lr: float, fusion_factor: float = 1.0, head_factor: float = 1.0, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Trainable parameters by learning rate and decay: towers at `lr`, fusion and heads at their share of it.

    Weight decay acts on matrices and kernels, not on biases, norms, embedding tables and position maps.

    Returns:
        Groups with params, lr, weight_decay and `factor` (lr over the towers' lr, for schedules); none is empty.
    """
    tables = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part = name.split(".", 1)[0]
        factor = fusion_factor if part == "fusion" else head_factor if part in HEADS else 1.0
        matrix = parameter.ndim >= 2 and id(parameter) not in tables and not any(word in name for word in NOT_DECAYED)
        groups.setdefault((factor, matrix), []).append(parameter)
    return [
        {"params": found, "lr": lr * factor, "weight_decay": weight_decay if matrix else 0.0, "factor": factor}
        for (factor, matrix), found in groups.items()
    ]


def tower_fingerprint(tower: nn.Module, layers: int) -> str:
    """Fingerprint of a tower's weights, settings and preprocessing, and of how many layers it hands on.

    Settings include those of a transformers encoder: with the same weights, other numbers of heads give other states.
    """
    digest = hashlib.blake2b(digest_size=16)
    encoder: Any = getattr(tower, "encoder", None)
    settings = {
        "config": dataclasses.asdict(tower.config),  # type: ignore[call-overload]
        "statistics": [getattr(tower, name, None) for name in ("mean", "std", "filter")],
        "encoder": None if encoder is None else encoder.config.to_dict(),
        "layers": layers,
    }
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, value in tower.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
