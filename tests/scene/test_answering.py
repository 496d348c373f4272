"""What a grounder says in one room."""

import pytest

from core.errors import InputError
from scene.answering import Turn, ask_questions
from scene.grounder import Grounder
from scene.grounding import GroundingModel
from scene.model_config import ModelConfig
from scene.protocols.records import Example
from tests.scene.toy import toy_scene
from vl.tokenizer import train_tokenizer


def test_a_question_head_without_names_of_its_answers_is_refused():
    tokenizer = train_tokenizer(["how many cubes are there"])
    config = ModelConfig(vocab_size=len(tokenizer), dim=16, heads=2, hidden=32, points=24, answers=3)
    turn = Turn(toy_scene(0), -1, (Example("q", "toy-0", "how many cubes are there", answers=("two",)),))
    with pytest.raises(InputError, match="answers.json"):
        ask_questions(Grounder(GroundingModel(config), tokenizer), turn, 0)
    named = Grounder(GroundingModel(config), tokenizer, answers=("red", "blue", "two"))
    assert set(ask_questions(named, turn, 0).own[0].answers) == {"red", "blue", "two"}
