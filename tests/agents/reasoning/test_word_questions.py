"""Sums and orders, answered again by reading their words."""

import re
from itertools import permutations

import numpy as np
import pytest

from agents.reasoning.word_questions import word_questions
from scene.english import NUMBERS
from tests.agents.reasoning.seen import view

LABELS = ["bed", "desk", "door", "floor lamp", "sofa", "stool", "bread"]


@pytest.fixture(scope="module")
def samples():
    return [one.sample for one in word_questions([view()], LABELS, 40, np.random.default_rng(0))]


def test_the_answer_of_a_sum_is_what_its_words_add_up_to(samples):
    sums = [sample for sample in samples if sample.kind == "arithmetic"]
    for sample in sums:
        story = sample.prompt
        start = re.search(r"there (?:is an?|are (\w+)) ", story)
        count = NUMBERS.index(start[1]) if start[1] else 1
        count += NUMBERS.index(re.search(r"(\w+) more (?:is|are) brought in", story)[1])
        gone = re.search(r"then (\w+) (?:is|are) carried away", story)
        count -= NUMBERS.index(gone[1]) if gone else 0
        assert sample.answer == str(count), story
    assert len(sums) > 30 and {sample.answer for sample in sums} == {str(k) for k in range(10)}


def test_the_answer_of_an_order_holds_in_every_row_that_fits_the_sentences(samples):
    for sample in [one for one in samples if one.kind == "deduction"]:
        claims = re.findall(r"the ([\w ]+?) is (left|right) of the ([\w ]+?)\. ", sample.prompt)
        thing, anchor = re.search(r"\. is the ([\w ]+) left or right of the ([\w ]+)\?", sample.prompt).groups()
        names = sorted({name for a, _, b in claims for name in (a, b)})
        rows = [
            row
            for row in permutations(names)
            if all((row.index(a) < row.index(b)) == (side == "left") for a, side, b in claims)
        ]
        assert len(claims) == 3 and len(rows) == 1
        assert sample.answer == ("left" if rows[0].index(thing) < rows[0].index(anchor) else "right")


def test_the_picture_comes_along_but_is_not_needed(samples):
    assert all(sample.pictures == ("home-00.png",) and not sample.needs_picture for sample in samples)
    assert not any("door" in sample.prompt or "bread" in sample.prompt for sample in samples)


def test_a_home_with_three_kinds_of_things_gives_no_questions():
    assert word_questions([view()], ["bed", "desk", "sofa", "bread"], 4, np.random.default_rng(0)) == []
