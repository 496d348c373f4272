"""CLIP and SigLIP of transformers as a `VLModel`: the same weights, the same embeddings and losses.

CLIP: Radford et al., arXiv:2103.00020. SigLIP: Zhai et al., arXiv:2303.15343.
"""

from typing import Any

import torch
from transformers import CLIPModel, PreTrainedTokenizerFast, SiglipModel

from core.errors import InputError
from vl.image_towers import ImageTowerConfig
from vl.model import VLModel
from vl.model_config import VLConfig
from vl.pixels import CLIP_MEAN, CLIP_STD, NEUTRAL
from vl.text_towers import TextTowerConfig

BICUBIC = 3
"""Number of the filter in preprocessor_config.json."""

UNCLAMPED = 1e9
"""Upper clamp of SigLIP's logit scale: it has none."""


def convert(model: Any, tokenizer: PreTrainedTokenizerFast, preprocessing: dict[str, Any] | None = None) -> VLModel:
    """A CLIPModel or SiglipModel as a two-tower model without fusion, in eval mode; the weights are copied.

    Args:
        preprocessing: the content of preprocessor_config.json; None = the published models' own.

    Raises:
        InputError: another kind of model.
    """
    clip = isinstance(model, CLIPModel)
    if not clip and not isinstance(model, SiglipModel):
        raise InputError(f"from_transformers() takes a CLIPModel or a SiglipModel, got a {type(model).__name__}")
    image, text = model.vision_model.config, model.text_model.config
    dim = model.config.projection_dim if clip else image.hidden_size
    if not clip and text.projection_size != dim:
        raise InputError(
            f"SigLIP's image side is {dim} wide and its text side {text.projection_size}; they should agree"
        )
    if preprocessing is None:
        mean, std = (CLIP_MEAN, CLIP_STD) if clip else (NEUTRAL, NEUTRAL)
        preprocessing = {"image_mean": list(mean), "image_std": list(std), "resample": BICUBIC}
    scale = float(model.logit_scale.detach().exp())
    head = "linear" if clip else "none"
    config = VLConfig(
        dim=int(dim),
        max_tokens=int(text.max_position_embeddings),
        image=ImageTowerConfig(model_type=image.model_type, image_size=image.image_size, pool="pooler"),
        text=TextTowerConfig(model_type=text.model_type, pool="pooler"),
        image_head=head,
        text_head=head,
        logit_scale=min(scale, 100.0) if clip else scale,
        max_logit_scale=100.0 if clip else UNCLAMPED,
        logit_bias=0.0 if clip else float(model.logit_bias.detach()),
    )
    with torch.random.fork_rng(devices=[]):
        ours = VLModel(config, tokenizer, {"text": text, "image": {"config": image, "preprocessing": preprocessing}})
    ours.image_tower.encoder.load_state_dict(model.vision_model.state_dict())
    ours.text_tower.encoder.load_state_dict(model.text_model.state_dict())
    with torch.no_grad():
        ours.theta.copy_(model.logit_scale.reshape(()))
        if clip:
            ours.image_head.weight.copy_(model.visual_projection.weight)  # type: ignore[union-attr, operator]
            ours.text_head.weight.copy_(model.text_projection.weight)  # type: ignore[union-attr, operator]
        else:
            ours.logit_bias.copy_(model.logit_bias.reshape(()))
    return ours.eval()
