"""A tiny model with a fusion, shared by the tests of tasks and reranking."""

import dataclasses

from tests.vl.conftest import COLORS, SIDES
from vl.fusion import FusionConfig
from vl.model import VLConfig, VLModel
from vl.tokenizer import train_tokenizer


def fusing_model(config: VLConfig, seed: int = 3, **changes) -> VLModel:
    """`config` with one layer of fusion, 16 wide; it knows the colours, and the words of a few sentences."""
    texts = [f"there is a {color} box on the {side} , row of the left" for color in COLORS for side in SIDES]
    texts.append("what colour is an empty room lamp ? " + " ".join(map(str, range(32))))
    changes = {"fusion": FusionConfig(layers=1, width=16, heads=2, dropout=0.1), **changes}
    return VLModel.create(dataclasses.replace(config, **changes), train_tokenizer(texts), seed=seed).eval()
