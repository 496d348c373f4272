import pytest

from core.errors import InputError, MissingFileError
from tests.vl.tasks.files import write_lines, write_pictures, zip_pictures
from vl.tasks import TASKS

SNLI_VE = TASKS["snli-ve"]


def record(image, label, pair="r1n"):
    text = {"sentence1": "A man.", "sentence2": "A man sleeps."}
    return {"Flickr30K_ID": image, "pairID": f"{image}.jpg#{pair}", "gold_label": label, **text}


@pytest.fixture
def folder(tmp_path):
    records = [
        record("11", "entailment"),
        record("11", "-", "r2"),
        record("11", "neutral", "r3"),
        record("22", "neutral"),
    ]
    write_lines(tmp_path / "snli_ve_dev.jsonl", records)
    write_pictures(tmp_path / "flickr30k_images", ["11.jpg", "22.jpg"])
    return tmp_path


def test_undecided_sentences_are_left_out_and_counted(folder):
    data = SNLI_VE.load(folder, "dev")
    assert data.dropped == {"annotators did not agree": 1}
    assert [(e.pictures, e.text, e.label) for e in data.examples] == [
        (("11.jpg",), "A man sleeps.", "entailment"),
        (("11.jpg",), "A man sleeps.", "neutral"),
        (("22.jpg",), "A man sleeps.", "neutral"),
    ]
    assert [e.group for e in data.examples] == ["11", "11", "22"]


def test_accuracy_stands_beside_the_most_frequent_label(folder):
    examples = SNLI_VE.load(folder, "dev").examples
    scores = SNLI_VE.score(examples, ["entailment", "contradiction", "contradiction"])
    assert scores["accuracy"] == 1 / 3 and scores["majority"] == 2 / 3
    assert scores["accuracy_interval"] == [0.0, 0.5]  # picture 22 twice, picture 11 twice


def test_an_archive_of_flickr30k_is_read_where_it_lies(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("zipped")
    write_lines(other / "snli_ve_test.jsonl", [record("11", "neutral")])
    zip_pictures(other / "flickr30k-images.zip", ["flickr30k-images/11.jpg"])
    assert SNLI_VE.load(other, "test").examples[0].pictures == ("flickr30k-images/11.jpg",)


def test_what_is_wrong_is_named(folder):
    with pytest.raises(InputError, match="no split 'test'.*there: dev"):
        SNLI_VE.load(folder, "test")
    write_lines(folder / "snli_ve_dev.jsonl", [record("11", "maybe")])
    with pytest.raises(InputError, match="line 1: label 'maybe' is none of entailment, neutral, contradiction"):
        SNLI_VE.load(folder, "dev")
    write_lines(folder / "snli_ve_dev.jsonl", [record("11", "-")])
    with pytest.raises(InputError, match="holds no examples .dropped: {'annotators did not agree': 1}"):
        SNLI_VE.load(folder, "dev")
    write_lines(folder / "snli_ve_dev.jsonl", [record("33", "neutral")])
    with pytest.raises(MissingFileError, match="33.jpg"):
        SNLI_VE.load(folder, "dev")
