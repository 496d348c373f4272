"""From queries to words."""

import pytest

from scene.patterns import patterns_of, phrasings, predicates_of, say, wordings
from scene.query import PREDICATES, Clause, Noun, Query

BED, DOOR, MUG, TABLE, CHAIR = (Noun(label) for label in ("bed", "door", "mug", "table", "chair"))


def query_of(key):
    predicate = PREDICATES[key]
    if predicate.surface:
        return Query(CHAIR, key, (Noun("wall"),))
    return Query(CHAIR, key, (BED, DOOR) if key == "between" else (Noun("chair"),) if key == "aligned" else (BED,))


@pytest.mark.parametrize("key", PREDICATES)
def test_each_relation_has_five_patterns_and_more(key):
    sentences = wordings(query_of(key))
    assert len({wording.pattern for wording in phrasings(query_of(key))}) >= 5
    assert len(set(sentences)) == len(sentences) == len(patterns_of(query_of(key))) * len(PREDICATES[key].words)
    for sentence in sentences:
        assert sentence == sentence.strip() and "  " not in sentence and "None" not in sentence
        assert "the " in sentence and "{" not in sentence


def test_relations_are_put_as_clauses_requests_statements_and_inversions():
    sentences = wordings(Query(Noun("armchair", "orange"), "left", (BED,)))
    for sentence in (
        "the orange armchair to the left of the bed",
        "find the orange armchair left of the bed",
        "it is an orange armchair left of the bed",
        "there is an orange armchair to the left of the bed",
        "to the left of the bed is the orange armchair",
        "left of the bed there is an orange armchair",
        "look for the orange armchair that is left of the bed",
    ):
        assert sentence in sentences, sentence


def test_keys_are_and_bread_is():
    keys = wordings(Query(Noun("keys"), "on", (TABLE,)))
    assert {"they are the keys on the table", "there are some keys on the table", "on the table are the keys"} <= {
        *keys
    }
    assert not [text for text in keys if " is " in text or "it is" in text]
    assert "there is some bread on the table" in wordings(Query(Noun("bread"), "on", (TABLE,)))


def test_clauses_of_a_star_are_listed_and_share_their_word():
    star = Query(CHAIR, "next", (BED,), (Clause("left", (DOOR,)), Clause("next", (TABLE,))))
    assert star.kind == "star" and predicates_of(star) == ("next", "left")
    assert "the chair next to the bed and the table and left of the door" in wordings(star)


def test_a_chain_describes_its_anchor():
    chain = Query(MUG, "on", (Query(TABLE, "next", (BED,)),))
    assert chain.kind == "chain"
    assert "find the mug on the table that is next to the bed" in wordings(chain)
    carried = Query(CHAIR, "near", (Query(TABLE, "carrying", (MUG,)),))
    assert "the chair near the table with the mug on it" in wordings(carried)


def test_ends_of_one_class_and_rows_are_plural():
    assert "the window between the two curtains" in wordings(Query(Noun("window"), "between", (Noun("curtain"),) * 2))
    row = Query(Noun("chair", "red"), "aligned", (CHAIR,))
    assert "the red chair in line with the other chairs" in wordings(row)


def test_several_things_are_counted_and_keys_are_not():
    red = wordings(Query(Noun("bookshelf", "red"), "near", (BED,)), 2)
    assert {"all the red bookshelves near the bed", "the two red bookshelves close to the bed"} <= {*red}
    assert {"every red bookshelf near the bed", "there are two red bookshelves near the bed"} <= {*red}
    assert wordings(Query(Noun("keys")), 2) == []


def test_nothing_indefinite_is_said_of_the_closest():
    assert not [text for text in wordings(Query(CHAIR, "closest", (BED,))) if " a chair" in text]


def test_the_words_that_are_asked_for_are_used():
    query = Query(CHAIR, "above", (BED,))
    (plain, *_) = patterns_of(query)
    assert say(query, plain, {"above": "over"}) == "the chair over the bed"
