"""Files are whole or absent."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError, MissingFileError
from core.files import atomic_file, atomic_folder, atomic_write, fingerprint, folder_fingerprint, plain, read_json


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def test_a_write_replaces_the_old_content_and_makes_parents(tmp_path: Path):
    path = tmp_path / "a" / "b.txt"
    atomic_write(path, "old")
    atomic_write(path, b"new")
    assert path.read_text() == "new" and names(path.parent) == ["b.txt"]


def test_a_full_disk_is_told_with_the_file_that_did_not_fit(tmp_path: Path):
    full = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space") as caught, atomic_file(tmp_path / "recording.parquet"):
        raise full
    assert caught.value.filename == str(tmp_path / "recording.parquet") and names(tmp_path) == []


@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_a_fault_while_writing_keeps_the_old_content(tmp_path: Path, monkeypatch, operation: str):
    path = tmp_path / "x.txt"
    atomic_write(path, "old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, operation, fail)
    with pytest.raises(OSError, match="No space"):
        atomic_write(path, "new")
    assert path.read_text() == "old" and names(tmp_path) == ["x.txt"]


def test_an_exception_inside_the_block_leaves_nothing(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "x") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_a_folder_appears_whole(tmp_path: Path):
    with atomic_folder(tmp_path / "scenes") as folder:
        (folder / "one").write_text("1")
        assert not (tmp_path / "scenes").exists()
    assert names(tmp_path) == ["scenes"] and (tmp_path / "scenes" / "one").read_text() == "1"


def test_a_folder_whose_making_fails_leaves_nothing(tmp_path: Path):
    with pytest.raises(ValueError), atomic_folder(tmp_path / "scenes") as folder:
        (folder / "one").write_text("1")
        raise ValueError("no")
    assert names(tmp_path) == []


def test_a_folder_with_content_is_not_overwritten(tmp_path: Path):
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "mine").write_text("1")
    with pytest.raises(InputError, match="exists already"), atomic_folder(tmp_path / "scenes"):
        pass
    assert names(tmp_path) == ["scenes"] and names(tmp_path / "scenes") == ["mine"]


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [(None, MissingFileError, "not found"), ("", InputError, "empty"), ('{"a": 1, "b', InputError, "damaged")],
)
def test_json_that_is_missing_empty_or_truncated_is_named(tmp_path: Path, content, error, words):
    path = tmp_path / "m.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(error, match=words) as caught:
        read_json(path, "scene manifest")
    assert "scene manifest" in str(caught.value) and str(path) in str(caught.value)


@dataclass
class Part:
    path: Path
    size: tuple[int, int]


def test_a_fingerprint_depends_on_content_and_not_on_order_or_container():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": (1, 2), "a": 1})
    assert fingerprint(Part(Path("x"), (1, 2))) == fingerprint({"path": "x", "size": [1, 2]})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_plain_refuses_what_has_no_plain_form():
    assert plain({"a": np.float32(0.5), "b": np.arange(2), "c": {3, 1}}) == {"a": 0.5, "b": [0, 1], "c": [1, 3]}
    with pytest.raises(TypeError, match="object"):
        plain(object())


def test_a_folder_fingerprint_sees_names_and_contents_but_not_hidden_files(tmp_path: Path):
    (tmp_path / "a").write_text("1")
    first = folder_fingerprint(tmp_path)
    (tmp_path / ".lock").write_text("x")
    assert folder_fingerprint(tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    renamed = folder_fingerprint(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({first, renamed, folder_fingerprint(tmp_path)}) == 3
    with pytest.raises(InputError, match="no file or folder"):
        folder_fingerprint(tmp_path / "absent")
