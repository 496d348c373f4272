import numpy as np
import pytest

from core.errors import InputError, MissingFileError
from tests.vl.tasks.files import write_json, write_pictures
from vl.tasks import TASKS
from vl.tasks.captions import caption_ranks, gallery, recalls

RETRIEVAL = TASKS["retrieval"]


def image(name, split, captions, **more):
    said = [{"raw": text, "sentid": 10 * int(name[0]) + n} for n, text in enumerate(captions)]
    return {"filename": name, "split": split, "sentences": said, **more}


@pytest.fixture
def folder(tmp_path):
    images = [
        image("1.jpg", "test", ["a dog", "a brown dog"]),
        image("2.jpg", "train", ["a cat"]),
        image("3.jpg", "test", ["a bus", "a red bus", "a bus stop"]),
        image("4.jpg", "restval", ["a tree"]),
    ]
    write_json(tmp_path / "dataset_flickr30k.json", {"dataset": "flickr30k", "images": images})
    write_pictures(tmp_path / "images", ["1.jpg", "2.jpg", "3.jpg", "4.jpg"])
    return tmp_path


def test_each_caption_is_an_example_and_the_gallery_has_each_photograph_once(folder):
    examples = RETRIEVAL.load(folder, "test").examples
    assert [(e.id, e.text) for e in examples][:3] == [("10", "a dog"), ("11", "a brown dog"), ("30", "a bus")]
    names, own = gallery(examples)
    assert names == ["1.jpg", "3.jpg"] and own.tolist() == [0, 0, 1, 1, 1]


def test_splits_are_joined_by_plus(folder):
    assert [e.text for e in RETRIEVAL.load(folder, "train+restval").examples] == ["a cat", "a tree"]
    with pytest.raises(InputError, match="no split 'dev'; there: restval, test, train"):
        RETRIEVAL.load(folder, "train+dev")


def test_recall_both_ways_with_several_right_captions(folder):
    examples = RETRIEVAL.load(folder, "test").examples
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.95, 0.3], [0.1, 0.2], [0.0, 0.85]])
    found = RETRIEVAL.score(examples, scores)
    # captions: 1st, 4th and 5th find their photograph first; photographs: 1.jpg's best own caption (0.9) stands behind
    # a caption of the bus (0.95); 3.jpg's (0.85) stands first
    assert found["text_to_image_R@1"] == 3 / 5 and found["text_to_image_R@5"] == 1
    assert found["image_to_text_R@1"] == 1 / 2 and found["image_to_text_R@5"] == 1
    assert found["mean_recall"] == pytest.approx((3 / 5 + 1 / 2 + 4) / 6)
    assert found["image_to_text_R@1_interval"] == [0, 1]


def test_each_way_may_have_scores_of_its_own(folder):
    examples = RETRIEVAL.load(folder, "test").examples
    own = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1]])
    found = recalls(examples, own, 1 - own)
    assert found["text_to_image_R@1"] == 1 and found["image_to_text_R@1"] == 0
    with pytest.raises(InputError, match="NaN or infinite"):
        recalls(examples, own, np.full((5, 2), np.nan))


def test_equal_scores_rank_last(folder):
    found = RETRIEVAL.score(RETRIEVAL.load(folder, "test").examples, np.zeros((5, 2)))
    assert found["text_to_image_R@1"] == 0 and found["image_to_text_R@1"] == 0


def test_ranks_of_photographs_agree_with_sorting():
    rng = np.random.default_rng(0)
    scores, own = rng.normal(size=(40, 9)), np.repeat(np.arange(9), [4, 5, 4, 5, 4, 5, 4, 5, 4])
    slow = []
    for picture in range(9):
        order = np.argsort(-scores[:, picture])
        slow.append(1 + next(place for place, caption in enumerate(order) if own[caption] == picture))
    assert caption_ranks(scores, own).tolist() == slow


def test_coco_names_the_folder_of_each_picture(tmp_path):
    images = [
        image("1.jpg", "test", ["a dog"], filepath="val2014"),
        image("2.jpg", "test", ["x"], filepath="train2014"),
    ]
    write_json(tmp_path / "dataset_coco.json", {"images": images})
    write_pictures(tmp_path, ["val2014/1.jpg", "train2014/2.jpg"])
    assert [e.pictures for e in RETRIEVAL.load(tmp_path, "test").examples] == [("val2014/1.jpg",), ("train2014/2.jpg",)]


def test_what_is_wrong_is_named(folder):
    examples = RETRIEVAL.load(folder, "test").examples
    with pytest.raises(InputError, match=r"shape \(5, 3\); expected 5 captions x 2 photographs"):
        RETRIEVAL.score(examples, np.zeros((5, 3)))
    (folder / "images" / "3.jpg").unlink()
    with pytest.raises(MissingFileError, match="1 of 2 pictures are not in .*3.jpg"):
        RETRIEVAL.load(folder, "test")
    write_json(folder / "dataset_flickr30k.json", {"images": [image("1.jpg", "test", [])]})
    with pytest.raises(InputError, match="image 0: field 'sentences' should be a list of captions"):
        RETRIEVAL.load(folder, "test")
    write_json(folder / "dataset_flickr30k.json", {"images": [image("1.jpg", "test", ["a"])] * 2})
    with pytest.raises(InputError, match="image 1: 1.jpg comes a second time"):
        RETRIEVAL.load(folder, "test")
    write_json(folder / "dataset_coco.json", {})
    with pytest.raises(InputError, match="holds several files"):
        RETRIEVAL.load(folder, "test")
