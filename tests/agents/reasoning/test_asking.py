"""Asking a model: with its own pictures, with grey ones, with those of other questions."""

from collections import Counter

import numpy as np
import pytest

from agents.reasoning.asking import ask, exchanged
from agents.reasoning.task_files import SampleSet
from agents.reasoning.types import Sample
from agents.reasoning.ways import WAYS
from tests.agents.reasoning.questions_on_hand import some_questions
from tests.agents.reasoning.tiny_vlm import tiny_vlm


def asked_about(home: str, kind: str = "count", pictures: int = 1) -> Sample:
    return Sample(f"{home}-{kind}", "how many ?", ("p.png",) * pictures, "1", kind=kind, group=home)


def test_exchanged_pictures_come_from_other_homes_and_from_questions_of_the_same_kind():
    samples = [asked_about(f"home {k // 4}", ("count", "colour")[k % 2], 1 + k // 12) for k in range(24)]
    for seed in range(5):
        source = exchanged(samples, seed)
        assert sorted(source) == list(range(24))  # each picture is used once
        for sample, other in zip(samples, (samples[index] for index in source)):
            assert sample.group != other.group
            assert (sample.kind, len(sample.pictures)) == (other.kind, len(other.pictures))
    assert exchanged(samples, 0) == exchanged(samples, 0) != exchanged(samples, 1)


def test_with_most_questions_about_one_home_as_many_as_can_be_leave_it_and_none_keeps_its_own():
    samples = [asked_about("large")] * 5 + [asked_about("small")]
    source = exchanged(samples, 0)
    assert all(index != other for index, other in enumerate(source))
    crossing = Counter(samples[other].group != sample.group for sample, other in zip(samples, source))
    assert crossing == {True: 2, False: 4}


def test_a_question_without_pictures_and_the_only_one_of_its_kind_keep_what_they_have():
    samples = [asked_about("a", "sum", 0), asked_about("b", "sum", 0), asked_about("a", "count")]
    assert exchanged(samples, 0) == [0, 1, 2]


@pytest.fixture(scope="module")
def vlm():
    return tiny_vlm()


def test_answers_are_those_of_one_large_batch_and_lie_beside_their_question(vlm):
    questions = some_questions()
    few, many = (
        ask(vlm, questions, WAYS["sampled"], k=3, max_new_tokens=5, batch_size=size, seed=7) for size in (1, 64)
    )
    assert few.texts == many.texts and few.tokens == many.tokens
    assert few.ended.shape == few.length.shape == (len(questions), 3)
    assert [len(row) for row in few.texts] == [3] * len(questions)
    assert few.length.max() <= 5 and (few.length[~few.ended] == 5).all()
    once = ask(vlm, questions, WAYS["cold"], k=3, max_new_tokens=5, batch_size=64, seed=7)
    assert once.ended.shape == (len(questions), 1)


def test_grey_pictures_make_questions_with_the_same_words_alike(vlm):
    shown = some_questions()
    same = SampleSet([shown.samples[0], shown.samples[1]], shown.pictures)
    same.samples[1] = Sample("other", same.samples[0].prompt, same.samples[1].pictures, "2", kind="count")
    answers = {
        way: ask(vlm, same, WAYS[way], k=1, max_new_tokens=6, batch_size=8, seed=0).texts
        for way in ("cold", "blind", "exchanged")
    }
    assert answers["cold"][0] != answers["cold"][1]  # the pictures differ, and the model sees them
    assert answers["blind"][0] == answers["blind"][1]
    assert answers["exchanged"] == answers["cold"][::-1]
    assert np.array_equal(shown.pictures_of(0)[0], some_questions().pictures_of(0)[0])
