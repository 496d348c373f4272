"""No training text says what is held out."""

import re

import numpy as np
import pytest

from scene.datasets.procedural import HomeConfig, generate_home
from scene.english import plural
from scene.graph import build_graph
from scene.heldout import (
    HELD_OUT_PATTERNS,
    HELD_OUT_SYNONYMS,
    REASONS,
    is_held_out_color,
    is_held_out_relation,
    overlap,
    reasons,
    said_pairs,
)
from scene.language import TextPlan, write_texts
from scene.palette import HELD_OUT_PAIRS, PALETTE
from scene.query import PREDICATES, Noun, Query
from scene.texts import Caption, Question, Referral, sentence

TELLTALES = r"^show me|\byou can see\b|\bcan you find\b|\btell me how many\b|\bwhich way must i turn\b"
PLAN = TextPlan(referrals=30, multi=5, zero=5, questions=15)


def texts_of(seeds, *, held_out):
    plan = TextPlan(PLAN.referrals, PLAN.multi, PLAN.zero, True, PLAN.questions, held_out)
    found = []
    for seed in seeds:
        # homes of the test split show the held-out colours, so that leaving them unsaid is the generator's doing
        scene = generate_home(seed, HomeConfig(rooms_max=2, split="test"))
        found += write_texts(scene, build_graph(scene), plan, np.random.default_rng(seed))
    return found


@pytest.fixture(scope="module")
def train():
    return texts_of(range(40), held_out=False)


@pytest.fixture(scope="module")
def test():
    return texts_of(range(100, 112), held_out=True)


def test_no_training_text_of_forty_homes_contains_anything_held_out(train):
    assert len(train) > 2000 and {type(text) for text in train} == {Referral, Caption, Question}
    synonyms = re.compile("|".join(rf"\b{words}\b" for words in sorted(HELD_OUT_SYNONYMS)))
    everything = "\n".join(sentence(text) for text in train)
    labels = classes_of(train)
    assert not synonyms.findall(everything)
    assert not re.findall(TELLTALES, everything, flags=re.MULTILINE)
    assert not [text for text in train if text.held_out or text.pattern in HELD_OUT_PATTERNS]
    for color in PALETTE:
        for label in labels:
            if is_held_out_color(color, label):
                longer = "|".join(other[len(label) :] for other in labels if other.startswith(f"{label} ")) or "$^"
                said = rf"\b{color} ({label}|{plural(label)})\b(?!{longer})|\bthis {label} is {color}\b"
                assert not re.findall(said, everything), (color, label)
    for key, predicate in PREDICATES.items():
        words = "|".join(predicate.words)
        for label in labels:
            if not is_held_out_relation(key, label):
                continue
            said = rf"\b{label}( that is| is|; it is)? ({words}) (the|an?)\b"
            if predicate.inverse:  # "with the mug on it", of which the class is the anchor
                said = rf"\bwith [a-z ]*?{label} ({words})\b"
            found = {match.group() for match in re.finditer(said, everything)}
            assert not [text for text in found if not is_of_longer_label(text, everything, label, labels)], (key, label)


def classes_of(texts):
    """Every class that some query names."""
    return {noun.label for text in texts if getattr(text, "query", "") for noun in Query.from_json(text.query).nouns()}


def is_of_longer_label(match, everything, label, labels):
    """Whether each place of a match is the end of a longer class: "coffee table next to"."""
    longer = [other for other in labels if other.endswith(f" {label}")]
    ends = sum(everything.count(f"{other[: -len(label)]}{match}") for other in longer)
    return ends == everything.count(match)


def test_the_meanings_of_training_texts_are_free_of_held_out_pairs(train):
    for text in train:
        if getattr(text, "query", ""):
            query = Query.from_json(text.query)
            assert not any(is_held_out_relation(*pair) for pair in said_pairs(query)), text
            assert not any(is_held_out_color(noun.color, noun.label) for noun in query.nouns()), text
            if isinstance(text, Question) and text.kind == "attribute":
                assert not is_held_out_color(text.answers[0], query.noun.label), text


def test_texts_for_tests_use_all_that_is_held_out_and_say_so(test):
    used = {reason for text in test for reason in text.held_out.split(",") if reason}
    assert used == set(REASONS)
    for text in test:
        said = sentence(text)
        synonym = any(re.search(rf"\b{words}\b", said) for words in HELD_OUT_SYNONYMS)
        assert synonym == ("synonym" in text.held_out.split(",")), text
        assert (text.pattern in HELD_OUT_PATTERNS) == ("pattern" in text.held_out.split(",")), text
    assert 0.2 < np.mean([bool(text.held_out) for text in test]) < 0.7


def test_shares_of_held_out_pairs_are_as_documented():
    labels = [f"thing {k}" for k in range(200)]
    relations = [is_held_out_relation(key, label) for key in PREDICATES for label in labels]
    colors = [is_held_out_color(color, label) for color in PALETTE for label in labels]
    assert abs(np.mean(relations) - 0.2) < 0.02 and abs(np.mean(colors) - 0.1) < 0.02
    assert all(is_held_out_color(*pair) for pair in HELD_OUT_PAIRS) and not is_held_out_color("", "armchair")
    assert len(HELD_OUT_SYNONYMS) == 5


def test_every_relation_keeps_a_wording_for_training():
    for key, predicate in PREDICATES.items():
        assert set(predicate.words) - HELD_OUT_SYNONYMS, key


def test_a_pair_counts_wherever_it_is_said():
    mug, table, bed = Noun("mug"), Noun("table"), Noun("bed")
    chain = Query(mug, "on", (Query(table, "next", (bed,)),))
    assert said_pairs(chain) == {("on", "mug"), ("next", "table")}
    assert said_pairs(Query(table, "carrying", (mug,))) == {("on", "mug")}
    assert reasons(Query(mug), "show") == "pattern" and reasons(Query(mug), "plain", ["over"]) == "synonym"
    assert reasons(Query(mug, "near", (Noun("armchair", "red"),))).endswith("color-class")


def test_overlap_counts_the_test_sentences_that_training_knows():
    one, two = (Caption("s", text, "object") for text in ("a bed.", "a chair."))
    assert overlap([one], [one, two]) == 0.5 and overlap([one], []) == 0.0 and overlap([], [two]) == 0.0


def test_most_sentences_of_new_homes_with_held_out_language_are_new(train, test):
    assert overlap(train, [text for text in test if "synonym" in text.held_out]) == 0.0
    assert overlap(train, test) < 0.3
