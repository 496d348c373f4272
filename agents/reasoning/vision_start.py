"""A small model that starts with a vision tower that can already see, as released models do.

A few thousand questions teach words long before they teach seeing. `pretrain-vl` teaches seeing faster, by contrast of
views and captions; what its `export_towers=true` leaves in towers/image can stand in a model made here.
"""

from pathlib import Path
from typing import Any

from core.errors import InputError, MissingFileError
from core.files import read_json
from vl.encoders import quiet


def take_vision(model: Any, image_processor: Any, folder: str) -> None:
    """Gives the vision tower of a model the weights of a folder, and its processor their normalisation.

    Args:
        model: an image-text model of transformers with a tower of its own (llava, paligemma).
        folder: config.json and model.safetensors of an image encoder of transformers, with preprocessor_config.json
            where it normalises otherwise than the model's family.

    Raises:
        MissingFileError: no encoder is in the folder.
        InputError: it is of another kind or other sizes.
    """
    from transformers import AutoModel

    path, tower = Path(folder).expanduser(), getattr(model.model, "vision_tower", None)
    if tower is None:
        raise InputError(f"vision={folder}: a {model.config.model_type} has no tower that another could stand in for")
    if not (path / "config.json").is_file():
        raise MissingFileError(f"no vision tower in {path}: expected towers/image of pretrain-vl export_towers=true")
    with quiet():
        there = AutoModel.from_pretrained(path, local_files_only=True)
    there = getattr(there, "vision_model", there)
    here = getattr(tower, "vision_model", tower)
    wanted, given = here.state_dict(), there.state_dict()
    other = [name for name in wanted if name not in given or given[name].shape != wanted[name].shape]
    if other or there.config.model_type != here.config.model_type:
        raise InputError(
            f"{path} holds a {there.config.model_type}, the model has a {here.config.model_type}"
            + (f", and {len(other)} of its weights do not fit ({other[0]} first)" if other else "")
            + "; give both one kind (llava: clip_vision_model, paligemma: siglip_vision_model), width, layers, patch "
            "and image size"
        )
    here.load_state_dict({name: given[name] for name in wanted})
    if (path / "preprocessor_config.json").is_file():
        said = read_json(path / "preprocessor_config.json", "preprocessor")
        for name in ("image_mean", "image_std"):
            if name in said:
                setattr(image_processor, name, said[name])
