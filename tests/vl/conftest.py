"""A tiny two-tower model and views of coloured rectangles with captions, shared by the tests of vl."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

from vl.image_towers import ImageTowerConfig
from vl.model import VLConfig, VLModel
from vl.text_towers import TextTowerConfig
from vl.tokenizer import train_tokenizer

COLORS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 210), "white": (240, 240, 240)}
SIDES = ("left", "middle", "right")


@pytest.fixture(scope="session")
def tiny_config() -> VLConfig:
    image = ImageTowerConfig(image_size=32, stem_width=8, width=16, stem_blocks=1, blocks=1)
    options = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return VLConfig(dim=12, head_width=16, max_tokens=16, image=image, text=TextTowerConfig(options=options))


@pytest.fixture(scope="session")
def tiny_model(tiny_config) -> VLModel:
    texts = [f"a {color} box on the {side} and an empty room" for color in COLORS for side in SIDES]
    return VLModel.create(tiny_config, train_tokenizer(texts), seed=3).eval()


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
