"""Choosing questions evenly, and measuring what their words give away."""

from collections import Counter

import numpy as np
import pytest

from agents.reasoning.question_balance import Asked, balanced, blind_guess, words_only
from agents.reasoning.types import Sample


def asked(key, answer, number, turn=""):
    return Asked(Sample(f"{key}-{answer}-{number}", f"about {key}?", ("a.png",), answer), key, turn)


def many(key, **answers):
    return [asked(key, answer, k) for answer, count in answers.items() for k in range(count)]


def test_yes_and_no_come_equally_often_for_every_key():
    chosen = balanced(many("bed", yes=9, no=4) + many("tv", yes=2, no=50), 100, 2, np.random.default_rng(0))
    assert Counter((s.prompt, s.answer) for s in chosen) == {
        ("about bed?", "yes"): 4, ("about bed?", "no"): 4, ("about tv?", "yes"): 2, ("about tv?", "no"): 2,
    }  # fmt: skip


def test_a_key_with_too_few_answers_is_left_out_and_keys_take_turns():
    rows = many("bed", a=9, b=9, c=9) + many("tv", a=9, b=9) + many("desk", a=9, b=9, c=9)
    chosen = balanced(rows, 7, 3, np.random.default_rng(0))
    assert Counter(s.prompt for s in chosen) == {"about bed?": 3, "about desk?": 3}  # a third round would be nine


def test_a_turn_is_balanced_instead_of_the_answer_where_it_is_given():
    rows = [asked("bed", str(k), k, "left" if k < 5 else "right") for k in range(7)]
    chosen = balanced(rows, 100, 2, np.random.default_rng(0))
    assert sorted(int(s.answer) < 5 for s in chosen) == [False, False, True, True]


def test_the_blind_guess_is_the_most_common_answer_or_one_of_the_choices():
    samples = [Sample(str(k), "?", (), answer) for k, answer in enumerate(["a", "a", "a", "b"])]
    assert blind_guess(samples) == 0.75
    named = [Sample(str(k), "?", (), f"noun {k}", choices=(f"noun {k}", "other")) for k in range(4)]
    assert blind_guess(named) == 0.5
    boxes = [
        Sample(str(k), "?", (), box, "box")
        for k, box in enumerate(["[0, 0, 9, 9]", "[0, 0, 9, 9]", "[50, 50, 60, 60]"])
    ]
    assert blind_guess(boxes) == pytest.approx(2 / 3) and blind_guess([]) == 0.0


def test_words_that_came_in_training_are_answered_as_there():
    train = [
        asked("bed", "yes", 0),
        asked("bed", "no", 1),
        asked("bed", "no", 2),
        asked("tv", "yes", 3),
        asked("tv", "yes", 4),
    ]
    test = [asked("bed", "no", 5), asked("tv", "no", 6), asked("sofa", "yes", 7)]
    assert words_only([one.sample for one in train], [one.sample for one in test]) == pytest.approx(2 / 3)
