"""Tiny image-text models and questions with pictures, shared by tests."""

import numpy as np
import torch

from agents.reasoning.small_vlm import PRESETS, SmallVLMConfig
from agents.reasoning.types import PICTURE
from agents.reasoning.vlm import VLM

FAMILY_NAMES = ("llava", "idefics3", "qwen2_5_vl", "paligemma")
TEXTS = ("how many red chairs are there ?", "what is left of the bed", "<think> i see 2 .</think> <answer> 2 </answer>")
PROMPTS = (
    "<picture> how many red chairs are there ?",
    "<picture> <picture> what is left of the red bed ?",
    "<picture> bed ?",
    "how many are 2 and 3 ?",
)
ANSWERS = ("<think> i see 2 red .</think> <answer> 2 </answer>", "<answer> bed </answer>", "2", "a chair")
SIZES = ([(32, 32)], [(40, 64), (32, 32)], [(24, 48)], [])


def tiny_vlm(family="llava", seed=0, spread=10.0, **sizes):
    """A model whose weight matrices are `spread` times as large as drawn, so that pictures and places matter."""
    vlm = VLM.create(SmallVLMConfig(**{**PRESETS["tiny"], "family": family, **sizes}), TEXTS, seed=seed)
    with torch.no_grad():
        for parameter in vlm.model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(spread)
    return vlm


def some_pictures(sizes=SIZES, seed=0):
    """Noise of the given sizes (H, W), a list for each prompt."""
    rng = np.random.default_rng(seed)
    return [[rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in row] for row in sizes]


def tiny_prompts(vlm):
    """Encoded prompts with one picture, with two, with none."""
    one, *two = some_pictures([[(32, 32)] * 3])[0]
    asked = [f"{PICTURE} how many lamps ?", f"{PICTURE} {PICTURE} is the left one near the chair ?", "yes or no"]
    return vlm.encode(asked, [[one], two, []])
