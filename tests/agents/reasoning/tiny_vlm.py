"""Tiny models of every family for tests of generation and scoring, with prompts of several lengths."""

import numpy as np
import torch

from agents.reasoning.small_vlm import PRESETS, SmallVLMConfig
from agents.reasoning.types import PICTURE, Prompts
from agents.reasoning.vlm import VLM

TEXTS = ["what is on the left of the red chair ?", "how many lamps are there ? 1 2 3 4", "no yes blue green near far"]


def tiny_vlm(family: str = "llava") -> VLM:
    """Weights times ten: as they are drawn, logits hardly depend on anything."""
    vlm = VLM.create(SmallVLMConfig(family=family, **PRESETS["tiny"]), TEXTS, seed=0)
    with torch.no_grad():
        for parameter in vlm.model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(10)
    return vlm


def tiny_prompts(vlm: VLM) -> Prompts:
    """With one picture, with two, with none."""
    rng = np.random.default_rng(0)
    one, *two = (rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(3))
    asked = [f"{PICTURE} how many lamps ?", f"{PICTURE} {PICTURE} is the left one near the chair ?", "yes or no"]
    return vlm.encode(asked, [[one], two, []])
