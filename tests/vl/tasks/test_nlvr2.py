import pytest

from core.errors import InputError, MissingFileError
from tests.vl.tasks.files import write_lines, write_pictures, zip_pictures
from vl.tasks import TASKS

NLVR2 = TASKS["nlvr2"]


def record(identifier, label="True", **more):
    return {"identifier": identifier, "label": label, "sentence": "There are two dogs", **more}


RECORDS = [record("dev-5-0-0"), record("dev-5-1-0", "False"), record("dev-5-0-1"), record("dev-8-0-0", "False")]
NAMES = [f"dev-{pair}-img{side}.png" for pair in ("5-0", "5-1", "8-0") for side in (0, 1)]


@pytest.fixture
def folder(tmp_path):
    write_lines(tmp_path / "nlvr2" / "data" / "dev.json", RECORDS)
    write_pictures(tmp_path / "dev", NAMES)
    return tmp_path


def test_an_example_has_its_left_and_its_right_picture(folder):
    data = NLVR2.load(folder, "dev")
    assert data.examples[1].pictures == ("dev-5-1-img0.png", "dev-5-1-img1.png")
    assert [e.label for e in data.examples] == ["true", "false", "true", "false"]
    assert [e.group for e in data.examples] == ["dev-5", "dev-5", "dev-5", "dev-8"]


def test_consistency_asks_for_all_pairs_of_a_sentence(folder):
    examples = NLVR2.load(folder, "dev").examples
    # sentences: 5-*-0 (two pairs), 5-*-1, 8-*-0; one of the two pairs of the first is wrong
    scores = NLVR2.score(examples, ["true", "true", "true", "False"])
    assert scores["accuracy"] == 3 / 4
    assert scores["consistency"] == 2 / 3
    assert scores["majority"] == 1 / 2


def test_training_pictures_lie_in_numbered_folders(tmp_path):
    write_lines(tmp_path / "train.json", [record("train-3-1-0", directory=12)])
    write_pictures(tmp_path / "images" / "train", ["12/train-3-1-img0.png", "12/train-3-1-img1.png"])
    assert NLVR2.load(tmp_path, "train").examples[0].pictures[1] == "12/train-3-1-img1.png"


def test_an_archive_holds_its_pictures_in_the_folder_of_its_split(tmp_path):
    write_lines(tmp_path / "dev.json", RECORDS)
    zip_pictures(tmp_path / "dev_img.zip", [f"dev/{name}" for name in NAMES])
    assert NLVR2.load(tmp_path, "dev").examples[0].pictures[0] == "dev/dev-5-0-img0.png"


def test_what_is_wrong_is_named(folder):
    with pytest.raises(InputError, match="no split 'test1'.*there: dev"):
        NLVR2.load(folder, "test1")
    (folder / "dev" / "dev-8-0-img1.png").unlink()
    with pytest.raises(MissingFileError, match="1 of 6 pictures are not in .*dev-8-0-img1.png"):
        NLVR2.load(folder, "dev")
    lines = folder / "nlvr2" / "data" / "dev.json"
    write_lines(lines, [record("dev-5-0")])
    with pytest.raises(InputError, match="line 1: identifier 'dev-5-0' is not of the form split-set-pair-sentence"):
        NLVR2.load(folder, "dev")
    write_lines(lines, [record("dev-5-0-0"), record("dev-5-0-0")])
    with pytest.raises(InputError, match="line 2: identifier 'dev-5-0-0' comes a second time"):
        NLVR2.load(folder, "dev")
    write_lines(lines, [record("dev-5-0-0", label=2)])
    with pytest.raises(InputError, match="label 2 is none of false, true"):
        NLVR2.load(folder, "dev")
