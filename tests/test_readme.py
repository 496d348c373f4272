"""Every Python block of README and of some pages of docs/ runs in a folder that holds what the text names."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
BLOCKS = [
    block
    for page in ("README.md", "docs/vl.md", "docs/reasoning.md", "docs/subgoals.md")
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
]
JOB_LINES = re.findall(r"^ {4}sightline ([a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny_grounder, tiny_towers, tiny_reasoner):
    """A working folder with the small untrained models that the README's paths name."""
    tiny_grounder.save_pretrained(tmp_path / "grounder" / "model")
    tiny_towers.save_pretrained(tmp_path / "towers" / "model")
    tiny_reasoner.save_pretrained(tmp_path / "reasoner" / "model")
    (tmp_path / "pictures").mkdir()
    for name, grey in (("dark.png", 40), ("light.png", 220)):
        Image.new("RGB", (48, 32), (grey, grey, grey)).save(tmp_path / "pictures" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def tiny_grounder():
    from scene.grounder import Grounder
    from scene.grounding import GroundingModel
    from scene.model_config import ModelConfig
    from vl.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["the chair next to the table"])
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=len(tokenizer), dim=16, heads=2, hidden=32, points=24)
    return Grounder(GroundingModel(config), tokenizer)


@pytest.fixture(scope="module")
def tiny_towers():
    from vl.image_towers import ImageTowerConfig
    from vl.model import VLConfig, VLModel
    from vl.text_towers import TextTowerConfig
    from vl.tokenizer import train_tokenizer

    options = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    image = ImageTowerConfig(image_size=32, stem_width=8, width=16, stem_blocks=1, blocks=1)
    config = VLConfig(dim=12, head_width=16, max_tokens=16, image=image, text=TextTowerConfig(options=options))
    return VLModel.create(config, train_tokenizer(["pole and cart, upright on top"]), seed=0).eval()


@pytest.fixture(scope="module")
def tiny_reasoner():
    from agents.reasoning.small_vlm import PRESETS, SmallVLMConfig
    from agents.reasoning.vlm import VLM

    return VLM.create(SmallVLMConfig(**PRESETS["tiny"]), ["how many red chairs are there?"], seed=0)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_python_block_of_the_readme_runs_and_leaves_errors_nowhere(number, folder, capsys):
    exec(compile(BLOCKS[number], f"README block {number}", "exec"), {"__name__": "readme"})
    assert "Error" not in capsys.readouterr().err


def test_there_are_blocks_for_every_promised_use_and_the_job_lines_name_jobs():
    text = "\n".join(BLOCKS)
    for use in (
        "generate_home",
        "Grounder",
        "RelabelCallback",
        "score_folder",
        "Sightline/FindObject-v0",
        "stable_baselines3",
    ):
        assert use in text
    from sightline.cli import JOBS

    assert JOB_LINES and set(JOB_LINES) <= set(JOBS)
