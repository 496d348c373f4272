"""Error types and the hints they carry."""

from pathlib import Path

import pytest

from core.errors import InputError, MissingFileError, MissingLibraryError, check_choice, existing_file, nearest


def test_a_close_word_is_offered_and_else_the_list():
    assert nearest("trian", ["train", "val"]) == "did you mean 'train'?"
    assert nearest("zzz", ["val", "train"]) == "known: train, val"


def test_a_choice_that_is_not_offered_is_refused():
    check_choice("split", "val", ("train", "val"))
    with pytest.raises(InputError, match="split='vall' is unknown; did you mean 'val'"):
        check_choice("split", "vall", ("train", "val"))


def test_error_types_are_what_python_users_expect_and_print_their_message():
    for error, base in ((MissingFileError, FileNotFoundError), (MissingLibraryError, ImportError)):
        raised = error("x is not here")
        assert isinstance(raised, InputError) and isinstance(raised, base) and str(raised) == "x is not here"


def test_existing_file_tells_absent_from_folder_from_empty(tmp_path: Path):
    (tmp_path / "empty").touch()
    for path, error, words in (
        (tmp_path / "absent", MissingFileError, "map not found"),
        (tmp_path, InputError, "is a folder"),
        (tmp_path / "empty", InputError, "map is empty"),
    ):
        with pytest.raises(error, match=words):
            existing_file(path, "map")
