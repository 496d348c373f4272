import gzip
import os
from pathlib import Path

import pytest

from core.errors import InputError, MissingFileError
from tests.vl.tasks.files import write_lines, write_pictures, zip_pictures
from vl.tasks import TASKS

NLVR1 = TASKS["nlvr1"]


def record(identifier, label="true", sentence="There is a tower", scene=None):
    scene = scene or [[{"x_loc": 1, "y_loc": 2, "type": "square", "color": "Black", "size": 20}], [], []]
    return {
        "identifier": identifier,
        "label": label,
        "sentence": sentence,
        "directory": "3",
        "structured_rep": scene,
    }


def names(records, split="test"):
    return [f"{split}-{r['identifier']}-{order}.png" for r in records for order in range(6)]


def release(folder, records, split="test"):
    write_lines(folder / f"{split}.json", records)
    zip_pictures(folder / f"{split}_images.zip", names(records, split))
    return folder


def test_each_of_the_six_pictures_of_a_line_is_an_example_of_its_sentence(tmp_path):
    data = NLVR1.load(release(tmp_path, [record("7-0"), record("7-2", "False"), record("12-1")]), "test")
    assert [e.id for e in data.examples[:2]] == ["test-7-0-0", "test-7-0-1"]
    assert data.examples[5].pictures == ("test-7-0-5.png",)
    assert [e.group for e in data.examples] == ["7"] * 12 + ["12"] * 6
    assert [e.label for e in data.examples] == ["true"] * 6 + ["false"] * 6 + ["true"] * 6
    assert data.examples[0].text == "There is a tower"
    assert data.pictures.read(data.examples[0].pictures[0]).shape == (3, 4, 3)


def test_packed_sentences_and_the_folders_of_the_repository_read_alike(tmp_path):
    records = [record("7-0"), record("8-1", "false")]
    write_lines(tmp_path / "dev" / "dev.json.gz", records)
    write_pictures(tmp_path / "dev" / "images" / "3", names(records, "dev"))
    data = NLVR1.load(tmp_path, "dev")
    assert len(data.examples) == 12
    assert data.examples[0].pictures == ("3/dev-7-0-0.png",)
    assert data.pictures.read("3/dev-7-0-0.png").shape == (3, 4, 3)


def test_an_archive_may_hold_its_pictures_in_a_folder_of_its_own_name(tmp_path):
    write_lines(tmp_path / "test.json", [record("7-0")])
    zip_pictures(tmp_path / "test_images.zip", [f"test_images/{name}" for name in names([record("7-0")])])
    data = NLVR1.load(tmp_path, "test")
    assert data.examples[0].pictures == ("test_images/test-7-0-0.png",)
    assert data.pictures.read("test_images/test-7-0-0.png").shape == (3, 4, 3)


def test_pictures_made_in_its_style_may_show_fewer_orders(tmp_path):
    records = [record("7-0"), record("8-0")]
    write_lines(tmp_path / "val.json", records)
    zip_pictures(tmp_path / "val_images.zip", [name for name in names(records, "val") if name.endswith("-0.png")])
    assert [e.id for e in NLVR1.load(tmp_path, "val").examples] == ["val-7-0-0", "val-8-0-0"]


def test_accuracy_counts_pictures_and_consistency_sentences(tmp_path):
    data = NLVR1.load(release(tmp_path, [record("7-0"), record("7-1", "false"), record("9-0"), record("10-0")]), "test")
    said = [str(e.label) for e in data.examples]
    said[0] = "FALSE"  # wrong, in capitals: sentence 7 is lost though 11 of its 12 pictures are right
    said[12] = "True"  # right, in other letters
    scores = NLVR1.score(data.examples, said)
    assert scores["accuracy"] == 23 / 24
    assert scores["consistency"] == 2 / 3
    assert scores["majority"] == 18 / 24
    low, high = scores["accuracy_interval"]
    assert 11 / 12 <= low < 23 / 24 < high <= 1  # sentence 7 drawn three times, or never


def test_predictions_must_fit_the_examples(tmp_path):
    examples = NLVR1.load(release(tmp_path, [record("7-0")]), "test").examples
    with pytest.raises(InputError, match="5 predictions for 6 examples"):
        NLVR1.score(examples, ["true"] * 5)
    with pytest.raises(InputError, match="'yes' is none of the task's labels"):
        NLVR1.score(examples, ["yes"] * 6)


def test_parts_cover_the_split_and_share_no_sentence_and_no_scene(tmp_path):
    def boxes(place):
        box = [{"x_loc": place, "y_loc": 2, "type": "square", "color": "Black", "size": 20}]
        return box, [], []

    records = [record(f"{n}-0", sentence=f"sentence {n}", scene=list(boxes(n))) for n in range(20)]
    records += [record(f"{n + 100}-0", sentence=f"Sentence  {n}", scene=list(boxes(n + 100))) for n in range(20)]
    records += [record(f"{n + 200}-0", sentence=f"other {n}", scene=list(reversed(boxes(n)))) for n in range(20)]
    folder = release(tmp_path, records)
    train, val = NLVR1.load(folder, "test:train").examples, NLVR1.load(folder, "test:val").examples
    assert len(val) == 6 * 3 * 3 and len(train) + len(val) == 6 * 60  # 15 % of 20 sets of 3 sentences
    assert {int(e.group) % 100 for e in val}.isdisjoint(int(e.group) % 100 for e in train)
    assert val == NLVR1.load(folder, "test:val").examples


def test_a_part_or_split_that_does_not_exist_is_named_with_those_that_do(tmp_path):
    folder = release(tmp_path, [record("7-0")])
    with pytest.raises(InputError, match="no split 'dev'.*there: test"):
        NLVR1.load(folder, "dev")
    with pytest.raises(InputError, match="'test:dev': a split has the parts train, val"):
        NLVR1.load(folder, "test:dev")
    with pytest.raises(InputError, match="does not fall into parts"):
        NLVR1.load(folder, "test:val")
    with pytest.raises(MissingFileError, match="not a folder"):
        NLVR1.load(tmp_path / "nothing", "test")


def test_missing_pictures_are_named(tmp_path):
    write_lines(tmp_path / "test.json", [record("7-0")])
    with pytest.raises(MissingFileError, match="test_images.zip"):
        NLVR1.load(tmp_path, "test")
    write_lines(tmp_path / "test.json", [record("7-0"), record("8-0")])
    zip_pictures(tmp_path / "test_images.zip", names([record("7-0"), record("8-0")])[:11])
    with pytest.raises(MissingFileError, match="1 of 12 pictures are not in .*test-8-0-5.png"):
        NLVR1.load(tmp_path, "test")
    zip_pictures(tmp_path / "test_images.zip", ["other.png"])
    with pytest.raises(MissingFileError, match="12 of 12 pictures are not in .*test-7-0-0.png"):
        NLVR1.load(tmp_path, "test")
    (tmp_path / "test_images.zip").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(InputError, match="neither a folder nor a whole zip archive"):
        NLVR1.load(tmp_path, "test")


@pytest.mark.parametrize(
    "broken, message",
    [
        (record("7-0", label="maybe"), "line 2: label 'maybe' is none of false, true"),
        (record("7"), "line 2: identifier '7' is not of the form n-m"),
        (record("1-0"), "line 2: identifier '1-0' comes a second time"),
        (record("7-0", sentence=" "), "line 2: field 'sentence' should be text"),
        ({"identifier": "7-0"}, "line 2: field 'sentence' should be text, got None .fields there: identifier"),
    ],
)
def test_a_broken_line_is_named(tmp_path, broken, message):
    folder = release(tmp_path, [record("1-0")])
    write_lines(folder / "test.json", [record("1-0"), broken])
    with pytest.raises(InputError, match=message):
        NLVR1.load(folder, "test")


def test_a_file_cut_short_names_its_line(tmp_path):
    folder = release(tmp_path, [record("1-0"), record("2-0")])
    whole = (folder / "test.json").read_bytes()
    (folder / "test.json").write_bytes(whole[:-20])
    with pytest.raises(InputError, match="line 2 is cut short or not JSON"):
        NLVR1.load(folder, "test")
    (folder / "test.json").unlink()
    (folder / "test.json.gz").write_bytes(gzip.compress(whole)[:-20])
    with pytest.raises(InputError, match="cut short or no gzip file"):
        NLVR1.load(folder, "test")


@pytest.mark.shared_data
def test_the_release_reads_whole():
    folder = Path(os.environ["SIGHTLINE_DATA"]) / "nlvr1"
    test = NLVR1.load(folder, "test")
    assert len(test.examples) == 6 * 990 and len({e.group for e in test.examples}) == 266
    assert test.pictures.read(test.examples[-1].pictures[0]).shape == (100, 400, 3)
    assert len(NLVR1.load(folder, "hidden").examples) == 6 * 985
    scores = NLVR1.score(test.examples, ["true"] * len(test.examples))
    assert scores["accuracy"] == scores["majority"] == 556 / 990
