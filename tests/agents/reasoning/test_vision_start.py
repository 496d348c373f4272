import json
from dataclasses import replace

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from agents.reasoning.small_vlm import PRESETS, SmallVLMConfig
from agents.reasoning.vlm import VLM
from core.errors import InputError, MissingFileError

TINY = SmallVLMConfig(**PRESETS["tiny"])


@pytest.fixture(scope="module")
def eyes(tmp_path_factory):
    """A folder with a tower of the sizes of TINY."""
    folder = tmp_path_factory.mktemp("eyes")
    torch.manual_seed(5)
    sizes = {"hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    CLIPVisionModel(CLIPVisionConfig(**sizes, patch_size=8, image_size=32)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    return folder


def test_a_model_starts_with_the_tower_and_the_normalisation_of_a_folder(eyes):
    plain = VLM.create(TINY, ["a red chair"], seed=0)
    seeing = VLM.create(replace(TINY, vision=str(eyes)), ["a red chair"], seed=0)
    there = CLIPVisionModel.from_pretrained(eyes).state_dict()
    here = seeing.model.model.vision_tower.state_dict()
    assert here.keys() == there.keys() and all(torch.equal(here[name], there[name]) for name in here)
    assert list(seeing.processor.image_processor.image_std) == [0.25] * 3
    words = seeing.model.model.language_model.state_dict()
    assert all(torch.equal(value, words[name]) for name, value in plain.model.model.language_model.state_dict().items())


def test_what_does_not_fit_is_refused_with_a_reason(eyes, tmp_path):
    with pytest.raises(InputError, match="do not fit"):
        VLM.create(replace(TINY, vision=str(eyes), vision_width=64), ["a"], seed=0)
    with pytest.raises(InputError, match="siglip_vision_model"):
        VLM.create(replace(TINY, vision=str(eyes), family="paligemma", vocabulary=2048), ["a"], seed=0)
    with pytest.raises(InputError, match="no tower that another could stand in for"):
        VLM.create(replace(TINY, vision=str(eyes), family="qwen2_5_vl"), ["a"], seed=0)
    with pytest.raises(MissingFileError, match="no vision tower"):
        VLM.create(replace(TINY, vision=str(tmp_path)), ["a"], seed=0)
