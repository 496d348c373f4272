import pickle

import numpy as np
import pytest

from core.errors import InputError, MissingFileError
from tests.vl.tasks.files import write_json, write_pictures
from vl.tasks import TASKS
from vl.tasks.refcoco import padded_boxes

REFCOCO = TASKS["refcoco"]


def reference(number, image, annotation, sentences, split="val"):
    said = [{"sent_id": 100 * number + n, "sent": text, "tokens": text.split()} for n, text in enumerate(sentences)]
    return {"ref_id": number, "image_id": image, "ann_id": annotation, "split": split, "sentences": said}


def instances(boxes):
    images = [
        {"id": image, "file_name": f"COCO_train2014_{image:012d}.jpg"} for image in sorted({i for i, _, _ in boxes})
    ]
    found = [{"id": key, "image_id": image, "bbox": box, "category_id": 1} for image, key, box in boxes]
    return {"images": images, "annotations": found, "categories": []}


BOXES = [
    (1, 50, [10, 20, 30, 40]),
    (2, 60, [0, 0, 5, 5]),
    (1, 51, [1.5, 2, 3, 4]),
    (1, 52, [0, 0, 9, 9]),
    (2, 61, [1, 1, 2, 2]),
]


@pytest.fixture
def folder(tmp_path):
    references = [
        reference(1, 1, 51, ["left man", "man in red"]),
        reference(2, 2, 60, ["the dog"]),
        reference(3, 2, 61, ["cat"], "testA"),
    ]
    write_json(tmp_path / "refs(unc).json", references)
    write_json(tmp_path / "instances.json", instances(BOXES))
    write_pictures(tmp_path / "train2014", [f"COCO_train2014_{image:012d}.jpg" for image in (1, 2)])
    return tmp_path


def test_each_sentence_chooses_among_all_annotations_of_its_photograph(folder):
    data = REFCOCO.load(folder, "val")
    first = data.examples[0]
    assert [e.id for e in data.examples] == ["1-100", "1-101", "2-200"]
    assert (first.text, first.label, first.group) == ("left man", "1", "1")
    assert first.pictures == ("COCO_train2014_000000000001.jpg",)
    np.testing.assert_allclose(first.boxes, [[10, 20, 40, 60], [1.5, 2, 4.5, 6], [0, 0, 9, 9]])
    boxes, real = padded_boxes(data.examples)
    assert boxes.shape == (3, 3, 4) and real.tolist() == [[True] * 3, [True] * 3, [True, True, False]]


def test_the_meant_box_must_beat_all_others_and_padding_never_does(folder):
    examples = REFCOCO.load(folder, "val").examples
    scores = np.array([[0.1, 0.9, 0.2], [0.1, 0.9, 0.9], [0.6, 0.5, 7.0]])
    found = REFCOCO.score(examples, scores)
    assert found["accuracy"] == pytest.approx(2 / 3)  # the tie of the second row is wrong; 7.0 is padding
    assert found["chance"] == pytest.approx((1 / 3 + 1 / 3 + 1 / 2) / 3)
    scores[2, 2] = np.nan
    assert REFCOCO.score(examples, scores)["accuracy"] == found["accuracy"]
    scores[0, 0] = np.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        REFCOCO.score(examples, scores)
    with pytest.raises(InputError, match="2 scores per phrase, but a photograph has 3 boxes"):
        REFCOCO.score(examples, scores[:, :2])
    with pytest.raises(InputError, match="scored on an array"):
        REFCOCO.score(examples, ["1", "1", "0"])


def test_a_photograph_with_thirty_boxes_keeps_them_all_once(folder):
    boxes = [(1, key, [key, key, 10, 10]) for key in range(30)]
    write_json(folder / "instances.json", instances(boxes))
    write_json(folder / "refs(unc).json", [reference(1, 1, 29, ["last"])])
    example = REFCOCO.load(folder, "val").examples[0]
    assert example.label == "29" and len(np.unique(example.boxes, axis=0)) == 30


def test_a_box_without_area_is_no_candidate_and_counted_unless_it_is_meant(folder):
    write_json(folder / "instances.json", instances([*BOXES, (1, 53, [4, 4, 0, 3])]))
    data = REFCOCO.load(folder, "val")
    assert data.dropped == {"a candidate box without area": 1} and len(data.examples[0].boxes) == 3
    write_json(folder / "refs(unc).json", [reference(1, 1, 53, ["thin"])])
    with pytest.raises(InputError, match="ann_id 53 has a box without area"):
        REFCOCO.load(folder, "val")


def test_a_pickle_is_never_opened(folder):
    (folder / "refs(unc).json").unlink()

    class Trap:
        def __reduce__(self):
            return exec, (f"open({str(folder / 'sprung')!r}, 'w').close()",)

    (folder / "refs(unc).p").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(MissingFileError, match="is a pickle; opening it would run the code in it.*refs.json"):
        REFCOCO.load(folder, "val")
    assert not (folder / "sprung").exists()


def test_what_is_wrong_is_named(folder):
    with pytest.raises(InputError, match="no split 'testB'; there: testA, val"):
        REFCOCO.load(folder, "testB")
    write_json(folder / "refs(unc).json", [reference(1, 1, 60, ["x"])])
    with pytest.raises(InputError, match="reference 1: ann_id 60 is no annotation of image 1"):
        REFCOCO.load(folder, "val")
    write_json(folder / "refs(unc).json", [reference(1, 9, 60, ["x"])])
    with pytest.raises(InputError, match="image_id 9 is not in"):
        REFCOCO.load(folder, "val")
    write_json(folder / "refs(unc).json", [reference(1, 1, 50, ["x"])])
    write_json(folder / "instances.json", instances([(1, 50, [0, 0, -3, 5])]))
    with pytest.raises(InputError, match="annotation 0: bbox .* should be x, y, width, height"):
        REFCOCO.load(folder, "val")
    write_json(folder / "instances.json", {"images": [3], "annotations": []})
    with pytest.raises(InputError, match="should hold an object with a list 'images' of objects"):
        REFCOCO.load(folder, "val")
    write_json(folder / "refs.json", [])
    with pytest.raises(InputError, match="several lists"):
        REFCOCO.load(folder, "val")
