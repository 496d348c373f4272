"""METEOR on exact and stem matches: the formula by hand, alignments by trying all of them, values of METEOR 1.5."""

from itertools import permutations

import numpy as np
import pytest

from scene.protocols.meteor import STEM_WEIGHT, align, meteor
from scene.protocols.ptb_tokens import words_of
from scene.protocols.stemmer import stem


def _value(said: str, *right: str) -> float:
    return meteor([tuple(said.split())], [[tuple(text.split()) for text in right]]).value() / 100


def test_words_without_synonyms_have_the_value_of_meteor_1_5():
    # the jar of pycocoevalcap 1.2 on words that are neither function words nor have synonyms in common
    assert _value("brown chair", "wooden brown chair") == pytest.approx(0.33520678036654417)
    assert _value("2 chairs", "2") == pytest.approx(0.3478260869565218)


def test_a_sum_holds_no_piece_against_answers_that_are_aligned_as_a_whole():
    # METEOR 1.5 on the counts of both: 3 matches of 3 and 4 words in one chunk
    said, right = [("brown", "chair"), ("brown",)], [[("wooden", "brown", "chair")], [("brown",)]]
    assert meteor(said, right).value() == pytest.approx(40.39130360601519)


def test_the_formula_by_hand():
    # "b a" and "a b": 2 matches in 2 chunks, P = R = F = 1, penalty 0.6 * (2 / 2) ** 0.2
    assert _value("b a", "a b") == pytest.approx(0.4)
    # "a x b" and "a b": P 2/3, R 1, F = (2/3) / (0.85 * 2/3 + 0.15), penalty 0.6
    assert _value("a x b", "a b") == pytest.approx(0.4 * (2 / 3) / (0.85 * 2 / 3 + 0.15))


def test_a_stem_counts_less_than_the_word():
    assert _value("chairs", "chair") == pytest.approx(STEM_WEIGHT)
    assert _value("chair", "chair") == pytest.approx(1.0)
    assert _value("chair", "table") == 0.0


def test_the_best_right_answer_counts():
    assert _value("red chair", "blue table", "red chair") == pytest.approx(1.0)


def test_nothing_said_is_nothing_right():
    assert meteor([()], [[("a",)]]).value() == 0.0


def _tried(said: tuple[str, ...], right: tuple[str, ...]) -> tuple[float, int, int]:
    """Every way to put words of `said` on places of `right`; -1 = on none."""
    best = (0, 0, 0, 0.0)
    places = [*range(len(right)), *[-1] * len(said)]
    for chosen in set(permutations(places, len(said))):
        pairs = [(i, j) for i, j in enumerate(chosen) if j >= 0]
        if any(stem(said[i]) != stem(right[j]) for i, j in pairs):
            continue
        chunks = sum((i - 1, j - 1) not in pairs for i, j in pairs)
        distance = sum(abs(i - j) for i, j in pairs)
        weight = sum(1.0 if said[i] == right[j] else STEM_WEIGHT for i, j in pairs)
        best = max(best, (len(pairs), -chunks, -distance, weight))
    return best[3], -best[1], best[0]


def test_the_alignment_is_the_best_of_all():
    rng = np.random.default_rng(2)
    words = ["chair", "chairs", "red", "left"]
    for _ in range(40):
        said, right = (tuple(rng.choice(words, rng.integers(1, 5)).tolist()) for _ in range(2))
        assert align(said, right) == pytest.approx(_tried(said, right)), (said, right)


def test_an_answer_of_many_words_is_aligned_with_itself_in_one_piece():
    said = words_of("the chair at the table by the door of the room") * 6
    weight, chunks, matches = align(said, said)
    assert (weight, chunks, matches) == (len(said), 1, len(said))
