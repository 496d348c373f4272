"""The ground job: a ranking, a picture, and errors a person can act on."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from core.errors import InputError, MissingFileError
from scene.ground import GroundConfig, read_scene, run
from scene.grounder import Grounder
from scene.grounding import GroundingModel
from scene.io import save_scene
from scene.model_config import ModelConfig
from tests.scene.toy import toy_scene
from vl.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ground")
    save_scene(toy_scene(1), folder)
    tokenizer = train_tokenizer(["the red blue green cube pole plate to left of"])
    torch.manual_seed(0)
    model = GroundingModel(ModelConfig(vocab_size=len(tokenizer), dim=16, heads=2, hidden=32, points=24))
    Grounder(model, tokenizer).save_pretrained(folder / "run/model")
    return folder


def config(place: Path, **changes: str) -> GroundConfig:
    given = {"scene": f"{place}/toy-1", "text": "the red cube", "model": f"{place}/run", "out": f"{place}/out"}
    return GroundConfig(**{**given, **changes})


def test_a_ranking_is_printed_written_and_drawn(place: Path, capsys: pytest.CaptureFixture[str]):
    result = run(config(place, text="the red cube please"))
    assert "the red cube please" in (shown := capsys.readouterr().out) and "never seen in training: please" in shown
    written = json.loads((place / "out/ranking.json").read_text())
    assert written == result and sorted(item["id"] for item in written["objects"]) == list(range(6))
    with Image.open(place / "out/ranking.png") as picture:
        assert min(picture.size) > 500 and len(picture.convert("RGB").getcolors(10**6)) > 20


def test_a_scene_is_found_by_id_or_by_either_of_its_files(place: Path):
    assert {read_scene(f"{place}/toy-1{end}").id for end in ("", ".json", ".npz")} == {"toy-1"}
    with pytest.raises(MissingFileError, match="toy-9"):
        read_scene(f"{place}/toy-9")
    with pytest.raises(InputError, match="add the scene's id"):
        read_scene(str(place))


def test_a_scan_is_ranked_straight_from_its_file(place: Path):
    cube = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    rows = [(x + 3 * k, y, z, 200, 30, 30, k + 5) for k in range(2) for x, y, z in cube]
    head = "".join(f"property float {axis}\n" for axis in "xyz")
    head += "".join(f"property uchar {color}\n" for color in ("red", "green", "blue"))
    head = f"ply\nformat ascii 1.0\nelement vertex {len(rows)}\n{head}property int instance\nend_header\n"
    (place / "den.ply").write_text(head + "".join(" ".join(map(str, row)) + "\n" for row in rows))
    (place / "den.labels.json").write_text('{"5": "cube", "6": "pole"}')
    result = run(config(place, scene=f"{place}/den.ply", out=f"{place}/den-out"))
    assert {(item["id"], item["label"]) for item in result["objects"]} == {(0, "cube"), (1, "pole")}
    assert (place / "den-out/ranking.png").is_file()


def test_a_sentence_without_a_known_word_leaves_no_run_folder(place: Path):
    with pytest.raises(InputError, match="no known word"):
        run(config(place, text="xyzzy", out=f"{place}/none"))
    assert not (place / "none").exists()
