"""Sets of questions beside each other: what they are called, and which cannot be."""

import json
from pathlib import Path

import pytest

from agents.reasoning.question_sets import open_beside, set_file, set_name
from core.errors import InputError


def write(file: Path, *answers: str) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"images": [], "prompt": "how many ?", "answer": answer, "reward": "number"} for answer in answers]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(file)


@pytest.fixture
def data(tmp_path) -> str:
    for split in ("train", "val", "test"):
        write(tmp_path / "data" / f"{split}.jsonl", "1", "2")
    return str(tmp_path / "data")


def test_splits_are_called_by_their_name_and_files_by_their_folder_and_theirs(data, tmp_path):
    far = write(tmp_path / "far" / "test.jsonl", "3")
    found = open_beside(data, ["test", far], "also", {})
    assert {name: len(questions) for name, questions in found.items()} == {"test": 2, "far/test": 1}
    assert set_name("here.jsonl") == "here" and set_name("test:val") == "test:val"


def test_a_set_that_is_taken_twice_or_no_set_is_refused(data, tmp_path):
    mine, empty = write(tmp_path / "mine.jsonl", "1"), write(tmp_path / "empty.jsonl")
    word = write(tmp_path / "word.jsonl", "many")
    again = write(tmp_path / "other" / "data" / "val.jsonl", "4"), f"{data}/val.jsonl"
    taken = {set_file(data, "train"): "learned from"}
    for given, items, said in (
        (data, ["dev"], "has no split 'dev'"),
        (data, [f"{tmp_path}/none.jsonl"], "none.jsonl"),
        (data, ["val", "val"], "key=val names a set that is named before"),
        (data, ["val", f"{data}/../data/val.jsonl"], "names a set that is named before"),
        (data, [f"{data}/train.jsonl"], "names a set that is learned from"),
        (data, [empty], "empty"),
        (data, [word], "many"),
        (data, list(again), "two sets would be called data/val"),
        (mine, ["val"], "is one file and has no splits"),
    ):
        with pytest.raises(InputError, match=said):
            open_beside(given, items, "key", taken)
    with pytest.raises(InputError, match="two sets would be called test"):
        open_beside(data, ["test"], "key", {}, ("test",))
