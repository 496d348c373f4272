"""The questions of a corpus as a benchmark."""

from pathlib import Path

import pytest

from core.errors import InputError
from scene.protocols import corpus_questions
from scene.protocols.corpus_questions import question_examples
from scene.protocols.records import Prediction
from scene.questions import MAKERS
from scene.store import write_corpus
from scene.texts import Caption, Question
from tests.scene.toy import toy_scene

SITUATED = Question(
    "home",
    "what is on your left?",
    ("bed", "a bed"),
    "situated",
    situation="standing at the door, facing the window",
    position=(1.0, 2.0, 0.0),
    yaw_rad=0.5,
    objects=(3,),
    room=1,
    view_dependent=True,
)
EXISTENCE = Question("home", "is there a lamp?", ("yes",), "existence", held_out="pattern,synonym")


def test_questions_of_a_corpus_become_examples():
    caption = Caption("home", "a room.", "room")
    first, second = question_examples([caption, SITUATED, EXISTENCE])
    assert (first.id, second.id) == ("home|question|0", "home|question|1")
    assert first.text == "standing at the door, facing the window: what is on your left?"
    assert (first.answers, first.targets, first.room) == (("bed", "a bed"), (3,), 1)
    assert first.pose == (1.0, 2.0, 0.0, 0.5)
    assert first.groups == ("kind situated", "view-dependent", "nothing held out")
    assert second.groups == ("kind existence", "view-independent", "held out: pattern", "held out: synonym")
    assert second.pose == ()
    assert set(first.groups + second.groups) <= set(corpus_questions.GROUPS)


def test_every_kind_of_question_is_a_group():
    assert set(corpus_questions.KINDS) == set(MAKERS)


def test_a_split_is_loaded_and_measured(tmp_path: Path):
    scene = toy_scene(0)
    questions = [
        Question(scene.id, "how many cubes are there?", ("two", "2"), "count"),
        Question(scene.id, "is there a cube?", ("yes",), "existence", objects=(0,)),
    ]
    write_corpus(tmp_path, {"train": [(scene, questions)], "val": [(toy_scene(1), [])]}, "toy")
    examples = corpus_questions.load(tmp_path, {scene.id: scene.objects}, split="train")
    assert [example.id for example in examples] == [f"{scene.id}|question|0", f"{scene.id}|question|1"]
    said = {example.id: Prediction(example.id, answers=("no", "2", "yes")) for example in examples}
    assert [(m.name, m.value()) for m in corpus_questions.measure(examples, said)] == [("EM@1", 0.0), ("EM@10", 100.0)]
    with pytest.raises(InputError, match="nothing is left to evaluate on"):
        corpus_questions.load(tmp_path, split="val")
    with pytest.raises(InputError, match="is not among the 0 loaded scenes"):
        corpus_questions.load(tmp_path, {}, split="train")
