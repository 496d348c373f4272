"""Which questions the page shows, and where the model looked."""

import numpy as np

from agents.reasoning.asking import ask
from agents.reasoning.shown_answers import choose, focus_of
from agents.reasoning.types import Sample
from agents.reasoning.ways import WAYS
from tests.agents.reasoning.questions_on_hand import some_questions
from tests.agents.reasoning.tiny_vlm import tiny_vlm


def test_outcomes_take_turns_and_kinds_are_spread():
    before = np.array([0, 0, 0, 1, 1, 0, 0, 1], dtype=bool)
    after = np.array([1, 1, 1, 1, 1, 0, 0, 0], dtype=bool)
    samples = [Sample(f"q{k}", "?", (), "1", kind=("a", "a", "b", "b", "a", "a", "b", "a")[k]) for k in range(8)]
    chosen = choose(samples, before, after, 6, seed=0)
    assert [(before[k], after[k]) for k in chosen] == [(0, 1), (1, 1), (0, 0), (1, 0), (0, 1), (1, 1)]
    assert sorted(samples[k].kind for k in chosen[:2]) == ["a", "b"]
    assert len(set(choose(samples, before, after, 20, seed=1))) == 8  # all, each once


def test_focus_is_told_of_every_token_of_answers_to_questions_with_a_picture():
    vlm, questions = tiny_vlm(), some_questions()
    answered = ask(vlm, questions, WAYS["cold"], k=1, max_new_tokens=6, batch_size=8, seed=0)
    found = focus_of(vlm, questions, answered, [5, 2, 0])
    assert sorted(found) == [0, 2]  # the words of question 5 have no picture
    for index, tokens in found.items():
        values = [value for _, value in tokens]
        assert len(tokens) == answered.length[index, 0] and (min(values), max(values)) == (0, 1)
    assert focus_of(vlm, questions, answered, [4]) == {}
    alone = focus_of(vlm, questions, answered, [0])[0]
    assert [word for word, _ in alone] == [word for word, _ in found[0]]
    np.testing.assert_allclose([value for _, value in alone], [value for _, value in found[0]], atol=1e-4)
