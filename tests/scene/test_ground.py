"""The ground job: a ranking, a picture, and errors a person can act on."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from core.errors import InputError, MissingFileError
from core.job import load_config
from scene.conformal import Conformal
from scene.ground import GroundConfig, read_scene, run
from scene.grounder import Grounder
from scene.grounding import GroundingModel
from scene.io import save_scene
from scene.model_config import ModelConfig
from scene.model_folder import newest_model
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
    assert "may be meant" not in shown  # nobody calibrated this model
    written = json.loads((place / "out/ranking.json").read_text())
    assert (
        written == result
        and written["present"] is None
        and sorted(item["id"] for item in written["objects"]) == list(range(6))
    )
    with Image.open(place / "out/ranking.png") as picture:
        assert (
            min(picture.size) > 500 and max(picture.size) < 3000 and len(picture.convert("RGB").getcolors(10**6)) > 20
        )


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


def calibrated(place: Path, name: str, threshold: float) -> Path:
    """The same grounder with a threshold on the logistic function of its scores."""
    grounder = Grounder.from_pretrained(place / "run/model")
    grounder.conformal = Conformal(0.9, threshold, n=100, homes=20, score="score")
    grounder.save_pretrained(place / name)
    return place / name


def test_a_calibrated_model_says_what_may_be_meant_and_when_nothing_is(place: Path, capsys: pytest.CaptureFixture[str]):
    grounder, scene = Grounder.from_pretrained(place / "run/model"), toy_scene(1)
    belief = grounder.score(grounder.objects(scene), ["the red cube"])[0].sigmoid()
    middle = float(belief.sort().values[3])
    some = run(config(place, model=str(calibrated(place, "some", middle)), out=f"{place}/some-out"))
    assert some["present"] == (belief >= middle).nonzero()[:, 0].tolist() and not some["not_there"]
    assert "may be meant: 3 of 6 objects (sets that hold 90% of the targets" in capsys.readouterr().out
    none = run(config(place, model=str(calibrated(place, "none", 1.0)), out=f"{place}/none-out"))
    assert none["present"] == [] and none["not_there"] and none["level"] == 0.9
    assert "not there: no object of the scene fits" in capsys.readouterr().out
    run(config(place, model=str(calibrated(place, "few", 0.0)), out=f"{place}/few-out"))
    assert "may be meant is not told: the 20 homes of val" in (said := capsys.readouterr().out)
    assert "6 of 6 objects" not in said  # that every object may be meant tells nothing


def test_a_room_is_refused_where_the_scene_is_spoken_of_as_a_whole(place: Path):
    with pytest.raises(InputError, match="room=7: scene toy-1 is spoken of as a whole"):
        run(config(place, room=7, out=f"{place}/room"))  # type: ignore[arg-type]


def test_members_decide_where_they_were_calibrated(place: Path):
    grounder = Grounder.from_pretrained(place / "run/model")
    scene = toy_scene(1)
    members = grounder.members(grounder.objects(scene), ["the red cube"])[0]
    grounder.conformal = Conformal(0.9, float(members.max()), n=100, homes=20)
    assert grounder.locate(scene, "the red cube").present == {int(members.argmax())}


def test_scene_and_sentence_need_no_key_and_the_newest_run_is_the_model(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no finished pretrain-grounding run"):
        newest_model()
    for age, name in enumerate(("runs/grounder", "runs/pretrain-grounding/older", "runs/stages/killed")):
        Grounder.from_pretrained(place / "run/model").save_pretrained(tmp_path / name / "model")
        (tmp_path / name / "config.yaml").write_text("# sightline\njob: pretrain-grounding\n")
        if "killed" not in name:
            (tmp_path / name / "result.json").write_text("{}")
            os.utime(tmp_path / name / "result.json", (1e9 - age, 1e9 - age))
    cfg = load_config("ground", GroundConfig, [f"{place}/toy-1", "the red cube", "out=o"])
    assert run(cfg)["model"] == "runs/grounder/model"
    assert "model: runs/grounder/model, of the newest finished run" in capsys.readouterr().out


@pytest.mark.parametrize("count", [1, 500])
def test_one_object_and_five_hundred_are_ranked_and_drawn(place: Path, count: int):
    scene = toy_scene(3, count)
    scene.rooms.clear()  # five hundred things in rooms are spoken of room by room
    save_scene(replace(scene, objects=[replace(item, room=-1) for item in scene.objects]), place)
    result = run(config(place, scene=f"{place}/toy-3", out=f"{place}/count-{count}"))
    assert len(result["objects"]) == count
    assert sum(item["score"] for item in result["objects"]) == pytest.approx(1, abs=1e-4)
    (place / "toy-3.json").unlink(), (place / "toy-3.npz").unlink()


def test_a_sentence_of_a_thousand_words_is_cut_and_an_empty_one_is_an_error(
    place: Path, capsys: pytest.CaptureFixture[str]
):
    result = run(config(place, text="the red cube to the left of " * 200, out=f"{place}/long"))
    assert len(result["objects"]) == 6
    said = capsys.readouterr().out
    assert "did not read" in said and len(said.splitlines()) < 30
    run(config(place, text="the red cube", out=f"{place}/short"))
    assert "did not read" not in capsys.readouterr().out
    with pytest.raises(InputError, match="no known word in ''"):
        run(config(place, text="", out=f"{place}/empty"))
