"""Questions a tiny model learns in seconds: of which of four colours a picture is, and sums in words."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from agents.reasoning.small_vlm import SmallVLMConfig
from agents.reasoning.task_files import SampleSet, open_samples
from agents.reasoning.train_config import TrainReasonerConfig
from agents.reasoning.vlm import VLM

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 220), "white": (240, 240, 240)}
SUMS = {"one": 1, "two": 2, "three": 3}
TINY = SmallVLMConfig(
    width=32, layers=2, heads=2, vision_width=16, vision_layers=1, vision_heads=2, image_size=16, context=96,
    vocabulary=256,
)  # fmt: skip


def write_questions(folder: Path, train: int = 24, val: int = 8) -> Path:
    """A folder with train.jsonl, val.jsonl and their pictures; every third question is a sum without picture."""
    folder.mkdir(parents=True, exist_ok=True)
    for colour, value in COLOURS.items():
        Image.fromarray(np.full((16, 16, 3), value, np.uint8)).save(folder / f"{colour}.png")
    for split, count in (("train", train), ("val", val)):
        lines = [json.dumps(question(number)) for number in range(count)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def question(number: int) -> dict:
    """The question of this number."""
    if number % 3 == 2:
        one, two = list(SUMS)[number // 3 % 3], list(SUMS)[number // 9 % 3]
        total = SUMS[one] + SUMS[two]
        return {
            "prompt": f"how much is {one} plus {two} ?",
            "answer": str(total),
            "reward": "number",
            "kind": "sum",
            "worked": f"<think> {one} plus {two} is {total} . </think> <answer> {total} </answer>",
        }
    colour = list(COLOURS)[(number - number // 3) % 4]
    return {
        "images": [f"{colour}.png"],
        "prompt": "<picture> which colour ?",
        "answer": colour,
        "kind": "colour",
        "worked": f"<think> i see {colour} . </think> <answer> {colour} </answer>",
    }


def fresh_vlm(questions: SampleSet) -> VLM:
    """A tiny model that knows the words of the questions."""
    words = [text for sample in questions.samples for text in (sample.prompt.replace("<picture>", ""), sample.worked)]
    return VLM.create(TINY, words, seed=0)


def config(data: Path, out: Path, **changes) -> TrainReasonerConfig:
    """A run of a few steps."""
    small = {"small": TINY, "steps": 2, "prompts": 4, "samples": 4, "max_new_tokens": 12, "eval_every": 10, "lr": 1e-3}
    return TrainReasonerConfig(data=str(data), out=str(out), **{**small, "val_questions": 4, **changes})


def questions(folder: Path) -> SampleSet:
    """The train split of a fresh folder."""
    return open_samples(write_questions(folder), "train")
