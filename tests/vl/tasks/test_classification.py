import pytest

from core.errors import InputError, MissingFileError
from tests.vl.tasks.files import write_pictures
from vl.tasks import TASKS

CLASSIFICATION = TASKS["classification"]


@pytest.fixture
def folder(tmp_path):
    write_pictures(tmp_path / "test", ["dog/1.png", "dog/2.png", "dog/3.png", "house_cat/1.png"])
    (tmp_path / "test" / "dog" / "notes.txt").write_text("by hand")
    return tmp_path


def test_folders_are_classes_and_other_files_are_counted(folder):
    data = CLASSIFICATION.load(folder, "test")
    assert [(e.pictures[0], e.label) for e in data.examples][2:] == [
        ("dog/3.png", "dog"),
        ("house_cat/1.png", "house_cat"),
    ]
    assert data.dropped == {"no picture by its ending": 1}
    assert CLASSIFICATION.label_set(data.examples) == ("dog", "house_cat")


def test_the_classes_may_lie_in_the_data_folder_itself_and_fall_into_parts(folder):
    whole = CLASSIFICATION.load(folder / "test", ".").examples
    train = CLASSIFICATION.load(folder / "test", ".:train").examples
    val = CLASSIFICATION.load(folder / "test", ".:val").examples
    assert len(whole) == 4 and len(val) == 1 and sorted(e.id for e in train + val) == sorted(e.id for e in whole)


def test_the_mean_over_classes_counts_a_rare_class_as_much_as_a_frequent_one(folder):
    examples = CLASSIFICATION.load(folder, "test").examples
    scores = CLASSIFICATION.score(examples, ["dog", "dog", "house_cat", "dog"])
    assert scores["accuracy"] == 2 / 4 and scores["class_mean"] == (2 / 3 + 0) / 2 and scores["majority"] == 3 / 4


def test_classes_that_differ_in_the_case_of_letters_are_two(tmp_path):
    write_pictures(tmp_path / "test", ["Polish/1.png", "polish/1.png"])
    examples = CLASSIFICATION.load(tmp_path, "test").examples
    assert CLASSIFICATION.score(examples, ["polish", "polish"])["accuracy"] == 1 / 2


def test_what_is_wrong_is_named(folder):
    with pytest.raises(InputError, match="no split 'train'; folders there: test"):
        CLASSIFICATION.load(folder, "train")
    (folder / "test" / "horse").mkdir()
    with pytest.raises(MissingFileError, match="horse holds no pictures"):
        CLASSIFICATION.load(folder, "test")
