"""The words a rewrite may use, and how a sentence falls into phrases."""

import pytest

from scene.query import PREDICATES, Noun
from scene.rewrite_words import ARTICLES, CLOSING, HOLDING, LEAD, LINK, MIDDLE, OPENING, Vocabulary, words_of

WORDS = Vocabulary(["lamp", "reading lamp", "PC"])


def read(sentence, words=WORDS):
    parts = words.parts(sentence)
    return None if parts is None else [(part.what, part.text) for part in parts]


def test_the_longest_phrase_is_taken_at_each_place():
    assert read("the reading lamp on top of the lamp") == [
        ("article", "the"),
        ("noun", "reading lamp"),
        ("relation", "on top of"),
        ("article", "the"),
        ("noun", "lamp"),
    ]
    assert read("Grey lamps") == [("colour", "gray"), ("plural", "lamp")]
    assert read("the pc") == [("article", "the"), ("noun", "PC")]


def test_a_word_of_no_list_leaves_nothing_read():
    assert read("the lamp glows") is None and read("") == []


def test_words_keep_their_hyphens_and_apostrophes_and_lose_all_other_signs():
    assert words_of("It's the T-shirt, isn't it?") == ("it's", "the", "t-shirt", ",", "isn't", "it")


def test_a_query_brings_its_names_and_colours_and_leaves_the_vocabulary_as_it_was():
    wider = WORDS.with_nouns([Noun("gizmo", "mauve"), Noun("lamp")])
    assert read("the mauve gizmo", wider) == [("article", "the"), ("colour", "mauve"), ("noun", "gizmo")]
    assert read("gizmos", wider) == [("plural", "gizmo")]
    assert read("the mauve gizmo") is None
    assert WORDS.with_nouns([Noun("lamp", "red")]) is WORDS


@pytest.mark.parametrize("name", list(PREDICATES))
def test_every_wording_of_a_predicate_says_it(name):
    for phrase in PREDICATES[name].words:
        (part,) = WORDS.parts(phrase)
        assert part.what == "relation" and name in part.keys


def test_left_and_right_share_no_phrase():
    keys = [part.keys for part in WORDS.phrases.values()]
    for pair in ({"left", "right"}, {"above", "below"}, {"behind", "front"}, {"closest", "farthest"}):
        assert not any(pair <= said for said in keys)


def test_plain_words_state_no_relation_and_name_no_thing():
    plain = OPENING | MIDDLE | LEAD | LINK | CLOSING | ARTICLES
    for word in plain:
        (part,) = WORDS.parts(word)
        assert part.what in ("word", "article") and not part.keys
    assert not plain & set(HOLDING)
