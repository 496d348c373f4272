"""Three hand-made homes as a SCENES folder and models of random weights, for tests of the agent jobs."""

from pathlib import Path

import torch

from scene.captions import BASELINE_PROMPTS, goal_prompts
from scene.grounder import Grounder
from scene.grounding import GroundingModel
from scene.io import save_scene
from scene.model_config import ModelConfig
from scene.store import save_manifest
from tests.envs.homes import three_homes
from vl.image_towers import ImageTowerConfig
from vl.model import VLConfig, VLModel
from vl.text_towers import TextTowerConfig
from vl.tokenizer import train_tokenizer

LABELS, COLORS = ("armchair", "sofa", "table"), ("blue", "green", "red")


def make_scenes(folder: Path) -> Path:
    homes = three_homes()
    for home in homes:
        save_scene(home, folder)
    ids = [home.id for home in homes]
    palette = {"red": [205, 32, 38], "blue": [30, 86, 205], "green": [38, 148, 62]}
    save_manifest(
        folder,
        {
            "source": "procedural",
            "splits": {"train": ids[:2], "val": ids[2:], "test": ids},
            "palette": palette,
            "goal_labels": list(LABELS),
            "heldout_pairs": [["red", "armchair"]],
        },
    )
    return folder


def make_towers(folder: Path, seed: int = 0) -> Path:
    texts = [text for label in LABELS for color in COLORS for text in goal_prompts(label, color)]
    tokenizer = train_tokenizer([*texts, *BASELINE_PROMPTS])
    image = ImageTowerConfig(image_size=32, stem_width=8, width=16, stem_blocks=1, blocks=1)
    options = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = VLConfig(dim=12, head_width=16, max_tokens=16, image=image, text=TextTowerConfig(options=options))
    VLModel.create(config, tokenizer, seed=seed).save_pretrained(folder)
    return folder


def make_grounder(folder: Path, seed: int = 0) -> Path:
    tokenizer = train_tokenizer([f"the {color} {label}" for label in LABELS for color in COLORS])
    config = ModelConfig(vocab_size=len(tokenizer), dim=16, heads=2, hidden=16, points=16, dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        Grounder(GroundingModel(config), tokenizer).save_pretrained(folder)
    return folder
