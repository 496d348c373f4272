"""A vision-language model as a folder: config.json, model.safetensors, the tokenizer. Nothing in it can run code."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AutoConfig

from core.checkpoint import load_weights
from core.errors import InputError, MissingFileError
from core.files import read_json
from vl.encoders import quiet
from vl.fusion import FusionConfig
from vl.image_towers import EncoderTower, ImageTowerConfig
from vl.model_config import VLConfig, check_same_shape
from vl.one_tower import OneTowerConfig
from vl.text_towers import TextTowerConfig
from vl.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from vl.model import VLModel

FORMAT = "sightline-vl/1"
"""Value of `format` in config.json: how `load_embedder` tells this model's directories from others."""

OLDER = ("sightline-two-tower/1",)
"""Formats of models before fusion; their weights have other names and shapes."""


def encoder_shapes(model: "VLModel") -> dict[str, Any]:
    """What `VLModel(config, tokenizer, encoders)` needs to build the same encoders without looking them up."""
    shapes: dict[str, Any] = {}
    if model.one is None:
        shapes["text"] = model.text_tower.encoder.config
        if isinstance(model.image_tower, EncoderTower):
            shapes["image"] = {
                "config": model.image_tower.encoder.config,
                "preprocessing": model.image_tower.preprocessing,
            }
    return shapes


def save_model(model: "VLModel", folder: str | Path) -> None:
    """Writes config.json, model.safetensors and the tokenizer into `folder` (made if missing)."""
    from safetensors.torch import save_file

    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, str(path / "model.safetensors"), metadata={"format": "pt"})
    model.tokenizer.save_pretrained(str(path))
    shapes = encoder_shapes(model)
    encoders: dict[str, Any] = {}
    if "text" in shapes:
        encoders["text"] = shapes["text"].to_dict()
    if "image" in shapes:
        encoders["image"] = {**shapes["image"], "config": shapes["image"]["config"].to_dict()}
    content = {"format": FORMAT, "model": dataclasses.asdict(model.config), "encoders": encoders}
    (path / "config.json").write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def load_model(folder: str | Path, expected: VLConfig | None = None) -> "VLModel":
    """Reads what `save_model` wrote, on CPU, in eval mode; never looks on the network.

    Raises:
        InputError: files are missing or cut short, of an older format, the weights have other shapes than config.json
            says, or that is not the `expected` config.
    """
    from vl.model import VLModel

    path = Path(folder).expanduser()
    content = read_model_config(path)
    config = config_from_dict(content.get("model"), path)
    if expected is not None:
        check_same_shape(config, expected, str(path))
    encoders: dict[str, Any] = {}
    try:
        for name, shape in content.get("encoders", {}).items():
            if name == "image":
                encoders[name] = {"config": _shape(shape["config"]), "preprocessing": dict(shape["preprocessing"])}
            else:
                encoders[name] = _shape(shape)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise InputError(
            f"encoders in {path / 'config.json'} do not describe transformers encoders: {error}"
        ) from error
    with torch.random.fork_rng(devices=[]):
        model = VLModel(config, load_tokenizer(path), encoders)
    load_weights(model, read_weights(path / "model.safetensors"), str(path))
    return model.eval()


def export_towers(model: "VLModel", folder: str | Path) -> None:
    """Writes folder/text and, of a transformers image tower, folder/image: transformers directories, adapters merged.

    Raises:
        InputError: a one-tower model.
    """
    if model.one is not None:
        raise InputError("a one-tower model has no towers to export; save it with save_pretrained")
    path = Path(folder)
    with quiet():
        merged(model.text_tower.encoder).save_pretrained(str(path / "text"))
    model.tokenizer.save_pretrained(str(path / "text"))
    if isinstance(model.image_tower, EncoderTower):
        with quiet():
            merged(model.image_tower.encoder).save_pretrained(str(path / "image"))
        height, width = model.image_tower.config.size
        preprocessing = {
            "image_mean": list(model.image_tower.mean),
            "image_std": list(model.image_tower.std),
            "resample": 3 if model.image_tower.filter == "bicubic" else 2,
            "size": {"height": height, "width": width},
        } | model.image_tower.preprocessing
        content = json.dumps(preprocessing, indent=2) + "\n"
        (path / "image" / "preprocessor_config.json").write_text(content, encoding="utf-8")


def merged(encoder: Any) -> Any:
    """The encoder with its low-rank adapters added to its weights; itself where it has none."""
    if not any(hasattr(part, "base_layer") for part in encoder.modules()):
        return encoder
    from peft.tuners.lora import LoraLayer

    whole = copy.deepcopy(encoder)
    for name, part in list(whole.named_modules()):
        if isinstance(part, LoraLayer):
            part.merge()  # type: ignore[operator]
            parent, _, own = name.rpartition(".")
            setattr(whole.get_submodule(parent), own, part.base_layer)
    if hasattr(whole, "peft_config"):
        del whole.peft_config
    whole._hf_peft_config_loaded = False
    return whole


def _shape(values: dict[str, Any]) -> Any:
    values = dict(values)
    return AutoConfig.for_model(values.pop("model_type"), **values)


def read_model_config(path: Path) -> dict[str, Any]:
    """config.json of a model folder, checked to be this module's format."""
    file = path / "config.json"
    if not path.is_dir() or not file.is_file():
        raise MissingFileError(f"no model in {path}: expected a folder with config.json and model.safetensors")
    content = read_json(file, "model config")
    found = content.get("format") if isinstance(content, dict) else None
    if found in OLDER:
        raise InputError(
            f"{file} has format {found!r}, from before models had fusion; this version reads {FORMAT!r}: train it "
            "again with `sightline pretrain-vl`"
        )
    if found != FORMAT:
        raise InputError(
            f"{file} has format {found!r}, expected {FORMAT!r}: give a model that `sightline pretrain-vl` or "
            "finetune-vl left; an encoder of transformers starts one as model.image.pretrained=, model.text.pretrained="
        )
    return content


def config_from_dict(values: Any, path: Path) -> VLConfig:
    """The typed config of a saved model.

    Raises:
        InputError: entries are missing, unknown or impossible.
    """
    try:
        parts = dict(values)
        return VLConfig(
            image=ImageTowerConfig(**parts.pop("image")),
            text=TextTowerConfig(**parts.pop("text")),
            fusion=FusionConfig(**parts.pop("fusion")),
            one=OneTowerConfig(**parts.pop("one")),
            **parts,
        )
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"config.json in {path} does not describe a vision-language model: {error}") from error


def read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises:
        InputError: missing, cut short, or of another format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        raise MissingFileError(f"model weights not found: {file}")
    try:
        return load_file(str(file))
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{file} is cut short or not a safetensors file ({error}); copy or train it again") from error
