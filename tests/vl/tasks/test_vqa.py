import pytest

from core.errors import InputError, MissingFileError
from tests.vl.tasks.files import write_json, write_pictures, zip_pictures
from vl.tasks import TASKS

VQA = TASKS["vqa"]
NAME = "COCO_val2014_{:012d}.jpg"


def question(number, image):
    return {"question_id": number, "image_id": image, "question": "How many dogs?"}


def annotation(number, answers, kind="number"):
    listed = [{"answer": answer, "answer_confidence": "yes", "answer_id": n} for n, answer in enumerate(answers, 1)]
    top = {"multiple_choice_answer": answers[0], "answer_type": kind, "question_type": "how many"}
    return {"question_id": number, "answers": listed, **top}


def release(folder, questions, annotations):
    write_json(folder / "v2_OpenEnded_mscoco_val2014_questions.json", {"questions": questions})
    write_json(folder / "v2_mscoco_val2014_annotations.json", {"annotations": annotations})
    return folder


@pytest.fixture
def folder(tmp_path):
    questions = [question(10, 1), question(11, 1), question(20, 2)]
    annotations = [
        annotation(20, ["yes"] * 10, "yes/no"),  # not in the order of the questions
        annotation(10, ["two"] * 3 + ["3"] * 7),
        annotation(11, ["The red one"] * 8 + ["blue"] * 2, "other"),
    ]
    write_pictures(tmp_path / "val2014", [NAME.format(1), NAME.format(2)])
    return release(tmp_path, questions, annotations)


def test_a_question_has_the_picture_and_the_worth_of_each_answer(folder):
    data = VQA.load(folder, "val")
    assert [e.id for e in data.examples] == ["10", "11", "20"]
    assert data.examples[0].pictures == ("COCO_val2014_000000000001.jpg",)
    assert data.examples[0].targets == {"2": pytest.approx(0.9), "3": 1.0}
    assert data.examples[1].label == "red 1"  # "one" becomes a digit here as everywhere
    assert [(e.kind, e.group) for e in data.examples] == [("number", "1"), ("other", "1"), ("yes/no", "2")]


def test_accuracy_is_the_mean_worth_overall_and_by_type(folder):
    examples = VQA.load(folder, "val").examples
    scores = VQA.score(examples, ["Two.", "green", "yes"])
    assert scores["accuracy"] == pytest.approx(1.9 / 3)
    assert scores["accuracy_number"] == pytest.approx(0.9)
    assert (scores["accuracy_other"], scores["accuracy_yes/no"]) == (0, 1)
    assert scores["majority"] == pytest.approx(1 / 3)  # "3", "red 1" or "yes" to everything
    assert scores["accuracy_interval"] == pytest.approx([0.45, 1])  # picture 1 alone, picture 2 alone


def test_the_vocabulary_comes_from_training_questions(folder):
    examples = VQA.load(folder, "val").examples
    assert VQA.label_set(examples, least=1) == ("2", "red 1", "yes")
    with pytest.raises(InputError, match="none of 3 questions has an answer that is the most common of 9"):
        VQA.label_set(examples)


def test_answers_of_the_tests_are_kept_back_and_cannot_be_scored(folder):
    write_json(folder / "v2_OpenEnded_mscoco_test-dev2015_questions.json", {"questions": [question(10, 7)]})
    zip_pictures(folder / "test2015.zip", ["test2015/COCO_test2015_000000000007.jpg"])
    examples = VQA.load(folder, "test-dev").examples
    assert examples[0].pictures == ("test2015/COCO_test2015_000000000007.jpg",)
    assert examples[0].label is None and examples[0].targets == {}
    with pytest.raises(InputError, match="1 of 1 examples have no label"):
        VQA.score(examples, ["yes"])


def test_parts_keep_the_questions_about_an_image_together(folder):
    train, val = VQA.load(folder, "val:train").examples, VQA.load(folder, "val:val").examples
    assert {frozenset(e.id for e in part) for part in (train, val)} == {frozenset({"10", "11"}), frozenset({"20"})}


def test_what_is_wrong_is_named(folder):
    with pytest.raises(InputError, match="no split 'train'; there: val"):
        VQA.load(folder, "train")
    release(folder, [question(10, 1)], [annotation(10, ["yes"] * 9)])
    with pytest.raises(InputError, match="annotation 0: expected 10 answers with a text each, got 9"):
        VQA.load(folder, "val")
    release(folder, [question(10, 1)], [annotation(10, ["yes"] * 10, "colour")])
    with pytest.raises(InputError, match="answer_type 'colour' is none of yes/no, number, other"):
        VQA.load(folder, "val")
    release(folder, [question(10, 1), question(12, 1)], [annotation(10, ["yes"] * 10)])
    with pytest.raises(InputError, match="question 1: question_id 12 has no answers"):
        VQA.load(folder, "val")
    release(folder, [question(10, 5)], [annotation(10, ["yes"] * 10)])
    with pytest.raises(MissingFileError, match="COCO_val2014_000000000005.jpg"):
        VQA.load(folder, "val")
    file = folder / "v2_mscoco_val2014_annotations.json"
    file.write_text('{"annotations": [\n{"question_id": 10,\n"answers": [')
    with pytest.raises(InputError, match="line 3"):
        VQA.load(folder, "val")
    file.unlink()
    with pytest.raises(MissingFileError, match="v2_mscoco_val2014_annotations.json"):
        VQA.load(folder, "val")
