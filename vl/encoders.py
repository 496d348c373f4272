"""Encoders of transformers, for words or for images: from a directory or hub id, or from random weights with options.

What every tower needs of them: which norm closes the stack, freezing, low-rank adapters.
"""

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.utils import logging as hub_logging
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoConfig, AutoModel
from transformers.utils import logging

from core.errors import InputError, MissingFileError, MissingLibraryError, nearest

FINAL_NORMS = ("layernorm", "post_layernorm", "final_layer_norm", "final_norm")
"""Names under which encoders hold the norm that follows their last layer."""

NORM_OF_POOLED_ONLY = ("clip_vision_model", "convnext", "convnextv2")
"""Encoders whose class applies its final norm to the pooled vector alone; the towers here apply it to every state."""


def load_pretrained(auto_class: Any, name: str, what: str = "text encoder", **options: Any) -> Any:
    """What `auto_class` of transformers (AutoModel, AutoTokenizer) makes of an encoder's directory or hub id.

    Raises:
        MissingFileError: a path where no folder is. InputError: it does not load.
    """
    path = Path(name).expanduser()
    if not path.is_dir() and looks_like_path(name):
        raise MissingFileError(f"{what} folder not found: {path} (working folder: {Path.cwd()})")
    try:
        with quiet():
            return auto_class.from_pretrained(
                str(path if path.is_dir() else name), local_files_only=path.is_dir(), **options
            )
    except Exception as error:  # safetensors, tokenizers and the hub client each raise their own kinds
        message = (str(error).splitlines() or [type(error).__name__])[0][:160].rstrip(" :")
        raise InputError(f"{what} {name!r} does not load: {message}") from error


def load_encoder(name: str, what: str, *, pooled: bool = False) -> Any:
    """The encoder in a directory or under a hub id; of a dual encoder (CLIP, SigLIP) both sides.

    Args:
        pooled: its own pooled vector is wanted, so the weights for that have to be there.

    Raises:
        MissingFileError: a path where no folder is. InputError: it does not load, or lacks weights.
    """
    chosen = _model_class(load_pretrained(AutoConfig, name, what))
    with quiet():
        encoder, report = load_pretrained(chosen, name, what, output_loading_info=True, dtype=torch.float32)
    missing = sorted(key for key in report["missing_keys"] if pooled or not key.startswith(("pooler.", "head.")))
    if missing:
        raise InputError(f"{what} {name!r} lacks weights: {', '.join(missing[:3])}" + " ..." * (len(missing) > 3))
    return encoder


def new_encoder(config: Any) -> Any:
    """An encoder of random weights in the shape of a transformers config, in float32."""
    chosen = _model_class(config)
    return (chosen.from_config(config) if chosen is AutoModel else chosen._from_config(config)).float()


def _model_class(config: Any) -> Any:
    """AutoModel, or the class itself where AutoModel does not know it (SiglipTextModel)."""
    if type(config) in MODEL_MAPPING:
        return AutoModel
    return getattr(transformers, type(config).__name__.removesuffix("Config") + "Model", AutoModel)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """While it lasts, transformers shows no progress bars, no report on poolers that are dropped anyway, no retries."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_verbosity = hub_logging.get_verbosity()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if bars:
            logging.enable_progress_bar()


def looks_like_path(path_or_id: str | Path) -> bool:
    """Whether a name that is no folder was meant as one: a hub id is `name` or `org/name`, with no folder `org`."""
    text = str(path_or_id)
    if isinstance(path_or_id, Path) or text.startswith((".", "/", "~", "runs/")) or text.endswith("/"):
        return True
    parent, slash, _ = text.rpartition("/")
    return bool(slash) and ("/" in parent or Path(parent).is_dir())


def encoder_config(
    model_type: str, options: dict[str, Any], defaults: dict[str, Any], *, what: str, suggested: Iterable[str]
) -> Any:
    """The transformers config of a random start: `options`, else `defaults` where the type has such fields.

    Args:
        what: "text" or "image", for messages.
        suggested: model types to name where this one is unknown.

    Raises:
        InputError: transformers does not know the model type or an option, or the width does not split over the heads.
    """
    if model_type not in CONFIG_MAPPING:
        raise InputError(
            f"{what} model_type={model_type!r} is unknown to transformers; {nearest(model_type, suggested)}"
        )
    blank = CONFIG_MAPPING[model_type]()
    known = {*blank.to_dict(), *getattr(blank, "attribute_map", {})}
    for name in options:
        if name not in known:
            raise InputError(f"{name!r} is no option of {what} model_type={model_type}; {nearest(name, known)}")
    values = {name: value for name, value in defaults.items() if name in known} | dict(options)
    width, heads = values.get("hidden_size"), values.get("num_attention_heads")
    if isinstance(width, int) and isinstance(heads, int) and (heads < 1 or width % heads):
        raise InputError(f"{what} hidden_size={width} does not split over num_attention_heads={heads}")
    try:
        return AutoConfig.for_model(model_type, **values)
    except Exception as error:  # config classes validate in ways of their own
        message = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f"{what} model_type={model_type!r} with {values}: {message}") from error


def final_norm(encoder: nn.Module) -> nn.Module | None:
    """The norm after the last layer; None where layers end in a norm of their own (BERT) or there is none."""
    for name in FINAL_NORMS:
        found = getattr(encoder, name, None)
        if isinstance(found, nn.Module):
            return found
    return None


def drop_pooler(encoder: nn.Module) -> None:
    """Removes the parts that only make `pooler_output`: parameters that would neither be read nor trained."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = nn.Identity() if encoder.config.model_type == "resnet" else None  # type: ignore[union-attr, assignment]
    if isinstance(getattr(encoder, "head", None), nn.Module):  # SigLIP
        if hasattr(encoder, "use_head"):
            encoder.use_head = False  # type: ignore[assignment]
            encoder.config.vision_use_head = False  # type: ignore[union-attr]
            del encoder.head
        else:
            encoder.head = nn.Identity()


def add_lora(encoder: nn.Module, rank: int) -> None:
    """Low-rank adapters (Hu et al., arXiv:2106.09685) on every linear layer; the encoder's own weights stop learning.

    Raises:
        InputError: the encoder has no linear layer. MissingLibraryError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingLibraryError(f"lora={rank} needs peft: pip install sightline[peft] ({error})") from error
    names = [name for name, module in encoder.named_modules() if type(module) is nn.Linear]
    if not names:
        raise InputError(
            f"lora={rank}: {encoder.config.model_type} has no linear layers to adapt; train it whole or freeze it"  # type: ignore[union-attr]
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names), encoder)
