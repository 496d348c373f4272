"""The model that pretraining starts from: built as configured, with weights of an earlier model where they fit."""

import dataclasses

from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from core.errors import InputError
from vl.encoders import load_pretrained
from vl.model import VLModel
from vl.objectives import word_masker
from vl.pretrain_config import PretrainVLConfig
from vl.pretrain_data import Source
from vl.tokenizer import train_tokenizer


def build_model(cfg: PretrainVLConfig, source: Source) -> tuple[VLModel, dict[str, list[str]]]:
    """The model of a run, and with init= which of its parts took weights over and which are new.

    Raises:
        InputError: parts do not fit together or do not serve the objectives, nothing of init= fits, or nothing is left
            to train.
    """
    heads = dict.fromkeys(cfg.objectives.heads(), True)
    config = dataclasses.replace(cfg.model, **heads)  # type: ignore[arg-type]  # switches, all bool
    first = VLModel.from_pretrained(cfg.init) if cfg.init else None
    model = VLModel.create(config, make_tokenizer(cfg, source, first), seed=cfg.seed)
    if model.started is not None:
        print(f"one tower {model.started}")
    taken: dict[str, list[str]] = {}
    if first is not None:
        taken = take_over(model, first)
        if SCALARS.issuperset(taken["taken"]):
            raise InputError(
                f"no part of {cfg.init} fits this model ({', '.join(taken['new'])}); give the model.* keys it was "
                "trained with"
            )
        print(
            f"from {cfg.init}: "
            + "; ".join(f"{name}: {', '.join(parts) or 'nothing'}" for name, parts in taken.items())
        )
    _check(cfg, model)
    return model, taken


def _check(cfg: PretrainVLConfig, model: VLModel) -> None:
    """What only a built model shows, before features are computed and updates begin."""
    scale = {id(model.theta), id(model.logit_bias)}  # trained with everything frozen, too
    if not any(p.requires_grad and id(p) not in scale for p in model.parameters()):
        raise InputError(
            "every part of this model is frozen, nothing is left to train: set one of model.image.freeze, "
            "model.text.freeze, model.fusion.freeze, model.one.freeze back, or evaluate the model as it is"
        )
    if cfg.patch_dropout and model.one is None and not getattr(model.image_tower, "drops_patches", False):
        raise InputError(
            f"patch_dropout={cfg.patch_dropout} needs an image tower that takes patches one by one (vit, deit, "
            "clip_vision_model, ...); set it to 0"
        )
    wanted = cfg.objectives
    if wanted.mlm or wanted.text_mlm:
        word_masker(model.tokenizer, wanted.mlm_probability, wanted.whole_word)


def make_tokenizer(cfg: PretrainVLConfig, source: Source, first: VLModel | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer of the encoder that words come from, of the earlier model, or one trained on the captions."""
    one = cfg.model.kind == "one-tower"
    encoder = cfg.model.text.pretrained if not one else cfg.model.one.pretrained if cfg.model.one.init == "text" else ""
    if encoder:
        found = load_pretrained(AutoTokenizer, encoder)
        if not isinstance(found, PreTrainedTokenizerFast):
            raise InputError(f"{encoder} has no fast tokenizer (tokenizer.json); choose another encoder")
        return found
    if first is not None:
        return first.tokenizer
    return train_tokenizer(source.texts(), cfg.vocab_size, max_length=cfg.model.max_tokens)


def take_over(model: VLModel, first: VLModel) -> dict[str, list[str]]:
    """Copies the weights of each part (tower, head, fusion) that has the same shape in both models.

    Returns:
        "taken": parts that hold the earlier weights now; "new": parts left as they were; "left out": parts of the
        earlier model that this one does not have.
    """
    own, given = _parts(model.state_dict()), _parts(first.state_dict())
    words = model.tokenizer.get_vocab() == first.tokenizer.get_vocab()
    report: dict[str, list[str]] = {"taken": [], "new": [], "left out": [name for name in given if name not in own]}
    for name, part in own.items():
        other = given.get(name, {})
        fits = {key: value.shape for key, value in part.items()} == {key: value.shape for key, value in other.items()}
        if fits and (words or name not in WORDS):
            for key, value in part.items():
                value.copy_(other[key])
            report["taken"].append(name)
        else:
            report["new"].append(name)
    return report


WORDS = ("text_tower", "one", "word_head", "text_word_head")
"""Parts whose rows are words: they mean nothing under another vocabulary."""

SCALARS = frozenset({"theta", "logit_bias"})
"""Single numbers of the contrast, which fit any model and bring nothing of one over."""


def _parts(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """A state dict by the first name of its keys."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        parts.setdefault(name.split(".", 1)[0], {})[name] = value
    return parts
