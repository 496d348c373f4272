from itertools import islice

import numpy as np
import pytest

from scene.chunks import vocabulary
from scene.class_names import class_of
from scene.datasets.procedural import generate_home
from scene.graph import build_graph
from scene.language import TextPlan, write_texts
from scene.parse import MOST_READINGS, parse, readings
from scene.patterns import phrasings
from scene.query import PREDICATES, Clause, Noun, Query
from scene.texts import Referral

BED, SOFA, TABLE, CHAIR, MUG = (Noun(name) for name in ("bed", "sofa", "table", "chair", "mug"))


def meaning(query: Query) -> tuple:
    """A query up to the order of its clauses and of the two ends of between, and to words that say two predicates."""

    def anchor(end):
        return meaning(end) if isinstance(end, Query) else end

    clauses = [(PREDICATES[c.predicate].words, sorted(map(str, map(anchor, c.anchors)))) for c in query.clauses]
    return query.noun, sorted(map(str, clauses))


@pytest.mark.parametrize(
    ("query", "count"),
    [
        (Query(CHAIR), 1),
        (Query(Noun("chair", "red")), 1),
        (Query(Noun("keys")), 1),
        (Query(CHAIR, "left", (Noun("bed", "blue"),)), 1),
        (Query(CHAIR, "closest", (BED,)), 1),
        (Query(CHAIR, "farthest", (BED,)), 1),
        (Query(CHAIR, "between", (BED, SOFA)), 1),
        (Query(CHAIR, "between", (Noun("window"), Noun("window"))), 1),
        (Query(Noun("chair", "red"), "aligned", (CHAIR,)), 1),
        (Query(TABLE, "carrying", (MUG,)), 1),
        (Query(TABLE, "containing", (MUG,)), 1),
        (Query(MUG, "on", (Query(TABLE, "next", (BED,)),)), 1),
        (Query(MUG, "on", (Query(TABLE, "carrying", (Noun("vase"),)),)), 1),
        (Query(CHAIR, "next", (BED,), (Clause("next", (SOFA,)), Clause("behind", (TABLE,)))), 1),
        (Query(CHAIR, "left", (BED,)), 3),
        (Query(Noun("chair", "red")), 2),
    ],
    ids=str,
)
def test_every_wording_of_a_query_is_read_back(query, count):
    for wording in phrasings(query, count):
        first = readings(wording.text, {"chair", "bed", "sofa", "table", "mug", "vase", "window", "keys"})[0]
        assert meaning(first.query) == meaning(query), wording.text
        assert (first.penalty, first.several) == (0.0, count > 1), wording.text


@pytest.mark.parametrize("key", [key for key in PREDICATES if PREDICATES[key].kind in ("relation", "support")])
def test_every_predicate_is_read_back_in_all_its_words(key):
    label = min(PREDICATES[key].only_of, default="chair")
    query = Query(Noun(label), key, (Noun("wall") if PREDICATES[key].surface else TABLE,))
    for wording in phrasings(query):
        said = [reading.query for reading in readings(wording.text, {label, "table"}) if reading.penalty == 0]
        assert query in said, wording.text


def test_generated_sentences_are_read_without_a_word_to_spare():
    scene = generate_home(7)
    texts = write_texts(scene, build_graph(scene), TextPlan(held_out=True), np.random.default_rng(0))
    referrals = [text for text in texts if isinstance(text, Referral)]
    assert len(referrals) > 40
    for referral in referrals:
        found = readings(referral.utterance, scene.labels)
        exact = [meaning(reading.query) for reading in found if reading.penalty == 0]
        assert meaning(Query.from_json(referral.query)) in exact, referral.utterance


@pytest.mark.parametrize(
    ("sentence", "query"),
    [
        ("Please find the small wooden chair that stands next to the bed.", Query(CHAIR, "next", (BED,))),
        ("this is a brown chair. it is to the left of the table.", Query(Noun("chair", "brown"), "left", (TABLE,))),
        ("the chair is red", Query(Noun("chair", "red"))),
        ("chair by bed", Query(CHAIR, "next", (BED,))),
        ("the one under the table", Query(Noun(""), "below", (TABLE,))),
        ("the gizmo on the table", Query(Noun("gizmo"), "on", (TABLE,))),
        ("the mug in the corner of the room", Query(MUG)),
        ("the picture hanging on the wall in this room", Query(Noun("picture"), "hung", (Noun("wall"),))),
        ("the couch far from the bed", Query(SOFA, "farthest", (BED,))),
        ("the computer chair", Query(CHAIR)),
        ("near the bed, a chair", Query(CHAIR, "near", (BED,))),
        ("the orange on the table", Query(Noun("orange"), "on", (TABLE,))),
        ("the orange chair", Query(Noun("chair", "orange"))),
    ],
)
def test_free_speech_is_read_as_far_as_it_goes(sentence, query):
    assert parse(sentence, {"chair", "bed", "sofa", "table", "mug", "orange"})[0] == query


def test_words_that_are_skipped_cost_something_and_are_named():
    plain, fancy = (readings(text)[0] for text in ("the chair by the bed", "the shiny chair by the bed"))
    assert plain.query == fancy.query
    assert (plain.skipped, fancy.skipped) == ((), ("shiny",))
    assert fancy.penalty > plain.penalty == 0


def test_what_follows_an_anchor_may_be_said_of_either():
    near, far = parse("the mug on the table by the bed")
    assert near == Query(MUG, "on", (Query(TABLE, "next", (BED,)),))
    assert far == Query(MUG, "on", (TABLE,), (Clause("next", (BED,)),))


@pytest.mark.parametrize("sentence", ["", "   ", "?!", "der Stuhl neben dem Bett", "左边的椅子", "next to", "and, and"])
def test_a_sentence_without_a_known_thing_has_no_reading(sentence):
    assert parse(sentence, {"chair", "bed"}) == []


def test_what_is_denied_is_no_clause():
    first = readings("the chair that is not next to the bed but behind the sofa")[0]
    assert first.query == Query(CHAIR, "behind", (SOFA,))
    assert first.penalty > 0
    assert parse("not next to the bed") == [Query(BED)]


def test_no_row_of_known_words_is_too_odd_to_be_read():
    words = [" ".join(phrase) for phrase in vocabulary(frozenset({"chair"})).phrases]
    words += ["not", "gizmo", "all", "two", ".", "the", "and", "chair", "next to", "between", "with", "on it"] * 20
    rng = np.random.default_rng(0)
    for _ in range(1500):
        sentence = " ".join(rng.choice(words, size=rng.integers(1, 10)))
        for reading in readings(sentence, {"chair"}):
            assert Query.from_json(reading.query.to_json()) == reading.query, sentence


def test_an_endless_sentence_has_few_readings():
    sentence = "the picture " + " and ".join(["fixed to the wall in the bookcase"] * 40)
    assert 0 < len(readings(sentence, {"shelf", "bookshelf", "shelves"})) <= MOST_READINGS


def test_a_superlative_beside_other_clauses_stands_alone_at_a_price():
    first = readings("the chair closest to the bed and behind the sofa")[0]
    assert first.query == Query(CHAIR, "closest", (BED,))
    assert first.penalty > 0


def test_a_name_stands_for_the_classes_that_people_call_so():
    labels = frozenset({"sofa", "office chair", "desk chair", "table"})
    assert class_of("couch", labels) == ("sofa",)
    assert class_of("chair", labels) == ("desk chair", "office chair")
    assert class_of("coffee table", labels) == ("table",)
    assert class_of("sofa", labels) == ("sofa",)
    assert class_of("gizmo", labels) == ("gizmo",)


def test_the_same_sentence_gives_the_same_readings():
    told = "the picture fixed to the wall by the lamp"
    assert [list(islice(readings(told), 9)) for _ in range(2)][0] == readings(told)
