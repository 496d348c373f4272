"""Questions in files, and what is said when they are broken."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from agents.reasoning.task_files import SampleSet, joined, nlvr1, open_samples, write_samples
from agents.reasoning.types import Sample
from core.errors import InputError, MissingFileError
from tests.vl.nlvr_on_disk import write_nlvr1

GOOD = {"images": ["a.png"], "prompt": "<picture> what is it?", "answer": "red"}


@pytest.fixture
def folder(tmp_path):
    for name, level in (("a", 10), ("b", 200)):
        Image.fromarray(np.full((6, 8, 3), level, np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


def written(folder, *records):
    file = folder / "mine.jsonl"
    file.write_text("\n".join(json.dumps(record) for record in records) + "\n", encoding="utf-8")
    return file


def test_a_users_line_needs_images_prompt_and_answer_alone(folder):
    two = {
        "images": ["b.png", "a.png"],
        "prompt": "is <picture> darker than <picture>?",
        "answer": 3,
        "reward": "number",
    }
    questions = open_samples(written(folder, GOOD, two))
    assert questions.samples[0] == Sample("mine-1", GOOD["prompt"], ("a.png",), "red")
    assert (questions.samples[1].answer, questions.samples[1].reward) == ("3", "number")
    assert [picture[0, 0, 0] for picture in questions.pictures_of(1)] == [200, 10]  # in the prompt's order


def test_what_is_written_reads_back_the_same(folder):
    samples = [
        Sample(
            "x", "<picture> q?", ("a.png",), "b", "choice", ("a", "b"), "kind", True, "home", "<answer> b </answer>"
        ),
        Sample("y", "no picture?", (), "yes", "yes-no", needs_picture=False),
        Sample("z", "<picture> 1 + 1?", ("b.png",), "2", "number", kind="sum", needs_picture=False),
    ]
    write_samples(folder / "train.jsonl", samples)
    assert open_samples(folder, "train").samples == samples


def test_sets_with_pictures_of_the_same_name_are_one_set(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(other / "a.png")
    both = joined([open_samples(written(folder, GOOD)), open_samples(written(other, {**GOOD, "answer": "grey"}))])
    assert [sample.answer for sample in both.samples] == ["red", "grey"] and len(both) == 2
    assert [both.pictures_of(number)[0][0, 0, 0] for number in (0, 1)] == [10, 90]


def test_a_draw_has_every_kind_and_answer_of_a_set_that_goes_through_them_in_turn():
    rows = [(kind, answer) for kind in ("there", "sum", "side") for _ in range(50) for answer in ("yes", "no")]
    kept = SampleSet([Sample(str(k), "?", (), answer, kind=kind) for k, (kind, answer) in enumerate(rows)], {})
    few = kept.drawn(150)
    counts = Counter((sample.kind, sample.answer) for sample in few.samples)
    assert len(few) == len(set(few.samples)) == 150 and len(counts) == 6 and min(counts.values()) > 15
    assert few.samples == kept.drawn(150).samples == sorted(few.samples, key=lambda sample: int(sample.id))
    assert kept.drawn(300) is kept


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": None}, "line 1: the answer is None"),
        ({"answer": "  "}, "line 1: the answer is '  '"),
        ({"prompt": "what is it?"}, "the prompt has <picture> 0 times for 1 images"),
        ({"prompt": "<picture> <picture>?"}, "the prompt has <picture> 2 times for 1 images"),
        ({"images": "a.png"}, "'images' should be a list of texts"),
        ({"prompt": 3}, "'prompt' should be text, got 3"),
        ({"anwser": "red"}, "unknown field 'anwser'; did you mean 'answer'"),
        ({"needs_picture": "no"}, "needs_picture='no'"),
        ({"reward": 1}, "'reward' should be text"),
        ({"images": ["c.png"]}, "1 of 1 pictures are not in .*c.png"),
    ],
)
def test_a_broken_line_is_named(folder, change, message):
    with pytest.raises(InputError, match=message):
        open_samples(written(folder, GOOD | change)).pictures_of(0)


def test_a_picture_outside_of_the_folder_is_not_read(folder):
    (folder / "inner").mkdir()
    questions = open_samples(written(folder / "inner", GOOD | {"images": ["../a.png"]}))
    with pytest.raises(InputError, match="would lie outside"):
        questions.pictures_of(0)


def test_an_unreadable_picture_names_its_sample(folder):
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:40])
    questions = open_samples(written(folder, GOOD))
    with pytest.raises(InputError, match=r"sample 'mine-1': picture 'a\.png' .* is no whole picture"):
        questions.pictures_of(0)


def test_ids_are_different_and_a_file_is_not_empty(folder):
    with pytest.raises(InputError, match="line 2: id 'x' came before, at .*line 1"):
        open_samples(written(folder, GOOD | {"id": "x"}, GOOD | {"id": "x"}))
    (folder / "none.jsonl").write_text("\n\n")
    with pytest.raises(InputError, match="holds no questions"):
        open_samples(folder / "none.jsonl")


def test_the_placeholder_of_other_projects_is_named(folder):
    with pytest.raises(InputError, match="write it once where each image belongs, in place of <image>"):
        open_samples(written(folder, GOOD | {"prompt": "<image> what is it?"}))


def test_a_folder_of_scenes_is_told_from_one_of_questions(folder):
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="is a folder of scenes; make questions: sightline build-questions"):
        open_samples(folder, "train")


def test_a_missing_split_lists_those_there(folder):
    written(folder, GOOD)
    (folder / "metrics.jsonl").write_text("{}")  # the log of the run that made the questions
    with pytest.raises(MissingFileError, match=r"no split 'test' .*there: mine$"):
        open_samples(folder, "test")
    with pytest.raises(MissingFileError, match="neither a folder nor a .jsonl file"):
        open_samples(folder / "elsewhere")


def test_sentences_of_nlvr1_become_yes_or_no_questions_of_their_sentence(tmp_path):
    write_nlvr1(tmp_path, {"test": 4})
    questions = open_samples(tmp_path, "test")
    assert len(questions) == 24 and questions.samples == nlvr1(tmp_path, "test").samples
    first, seventh = questions.samples[0], questions.samples[6]
    assert first.prompt == "<picture> is this true of the picture? there is a red box"
    assert (first.answer, seventh.answer, first.reward) == ("yes", "no", "yes-no")
    assert first.group != seventh.group and questions.pictures_of(6)[0].shape == (32, 32, 3)
    with pytest.raises(InputError, match="no split 'val'"):
        open_samples(tmp_path, "val")
