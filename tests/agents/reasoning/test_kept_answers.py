"""What an evaluation keeps of its answers until it is finished."""

import numpy as np
import pytest

from agents.reasoning.kept_answers import KeptAnswers
from agents.reasoning.ways import Answered
from core.errors import InputError

ANSWERED = Answered(
    (("<answer> 2 \u2192 </answer>", ""), ("a", "b")), (((5, 6), ()), ((7,), (8, 9))), np.array([[1, 0], [1, 1]], bool)
)


def test_answers_come_back_as_they_were_and_what_was_not_asked_is_not_there(tmp_path):
    KeptAnswers(tmp_path / "kept", {"model": "a"}).keep(0, "before training", ANSWERED, 1.5)
    kept = KeptAnswers(tmp_path / "kept", {"model": "a"})
    found = kept.take(0, "before training")
    assert (found.texts, found.tokens) == (ANSWERED.texts, ANSWERED.tokens)
    assert found.ended.dtype == bool and np.array_equal(found.ended, ANSWERED.ended)
    assert kept.take(1, "before training") is None and kept.take(0, "cold") is None
    assert kept.seconds == 1.5
    kept.remove()
    assert not (tmp_path / "kept").exists()


def test_answers_to_other_questions_or_of_another_model_are_refused_by_name(tmp_path):
    KeptAnswers(tmp_path / "kept", {"model": "a", "questions of test": "b"})
    with pytest.raises(InputError, match=r"other content of questions of test: .* choose another out="):
        KeptAnswers(tmp_path / "kept", {"model": "a", "questions of test": "c"})
