"""Which rewrites say the same as their query."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scene.language import wordings
from scene.query import PREDICATES, Noun, Query
from scene.rephrase import REPHRASED_KINDS
from scene.rewrite_grammar import CAUSES, Claim, Meaning, verdict
from scene.rewrite_words import Vocabulary

CHAIR, BED, DOOR = Noun("chair", "red"), Noun("bed"), Noun("door")
WORDS = Vocabulary(["lamp", "table", "window", "glass", "glasses", "orange"])
LEFT = Meaning(CHAIR, (Claim("left", (BED,)),))


def meaning(target, predicate="", *anchors):
    return Meaning(target, (Claim(predicate, anchors),) if predicate else ())


def judge(sentence, of=LEFT, **options):
    found = verdict(sentence, of, WORDS, **options)
    assert found == "" or found in CAUSES
    return found


@pytest.mark.parametrize("predicate", ["", *(key for key in PREDICATES if PREDICATES[key].kind in REPHRASED_KINDS)])
@pytest.mark.parametrize("target", [CHAIR, Noun("floor lamp"), Noun("cube of a kind nobody knows", "mauve")])
def test_every_template_says_what_its_query_says(predicate, target):
    anchors = (BED, DOOR) if predicate == "between" else (BED,) if predicate else ()
    for sentence in wordings(Query(target, predicate, anchors)):
        assert judge(sentence, meaning(target, predicate, *anchors)) == "", sentence


@pytest.mark.parametrize(
    "sentence",
    [
        "Find the red chair that sits just to the left of the bed.",
        "Could you point to the red chair on the left side of the bed?",
        "Where is the red chair to the left of the bed?",
        "To the left of the bed, you will find the red chair.",
        "Left of the bed stands a red chair.",
        "There is a red chair located left of the bed",
        "I am looking for the red chair, which is on the left-hand side of the bed.",
        "Please show me the red chair positioned to the left of the bed",
    ],
)
def test_free_wordings_of_one_meaning_are_kept(sentence):
    assert judge(sentence) == ""


@pytest.mark.parametrize(
    ("sentence", "predicate"),
    [
        ("the red chair that is nearest to the bed", "closest"),
        ("look for the red chair furthest away from the bed", "farthest"),
        ("underneath the bed lies the red chair", "below"),
        ("the red chair resting on the bed", "on"),
        ("the red chair with a bed resting on top of it", "carrying"),
        ("find the red chair supporting the bed", "carrying"),
        ("the red chair that contains the bed", "containing"),
        ("the red chair which has the bed inside", "containing"),
        ("the red chair inside the bed", "in"),
    ],
)
def test_listed_paraphrases_of_relations_are_kept(sentence, predicate):
    assert judge(sentence, meaning(CHAIR, predicate, BED)) == ""


@pytest.mark.parametrize(
    ("sentence", "cause"),
    [
        ("the bed left of the red chair", "roles"),
        ("the bed is left of the red chair", "roles"),
        ("left of the red chair is the bed", "roles"),
        ("find the red chair that the bed is left of", "roles"),
        ("the red bed left of the chair", "roles"),
        ("the chair left of the red bed", "roles"),
        ("the red chair right of the bed", "relation changed"),
        ("to the right of the bed is the red chair", "relation changed"),
        ("the red chair near the bed", "relation changed"),
        ("the red chair across from the bed", "relation changed"),
        ("the red chair and the bed", "relation missing"),
        ("the red chair left of the bed by the wall", "extra thing"),
        ("the red chair left of the bed and left of the bed", "extra thing"),
        ("the red chair left of the bed in the room", "extra thing"),
        ("the red chair left behind the bed", "relation changed"),
        ("the red chair left of the bed and right", "relation changed"),
        ("the red chair left of, to the left of the bed", "extra relation"),
        ("the red chair nearest the bed", "unknown word"),
        ("the red armchair left of the bed", "extra thing"),
        ("the red thing left of the bed", "unknown word"),
        ("the red lamp left of the bed", "extra thing"),
        ("the red chair left of something", "unknown word"),
        ("the red chair to the left", "anchor missing"),
        ("find the one left of the bed", "unknown word"),
        ("left of the bed", "target missing"),
        ("the chair left of the bed", "colour changed"),
        ("the blue chair left of the bed", "colour changed"),
        ("the red chair left of the white bed", "colour changed"),
        ("the red chairs left of the bed", "plural"),
        ("the red chair left of the beds", "plural"),
        ("the red chair left of the bedspread", "unknown word"),
        ("the red chair-bed left of the bed", "unknown word"),
        ("the large red chair left of the bed", "unknown word"),
        ("the two red chair left of the bed", "unknown word"),
        ("the red chair with the bed to its left", "unknown word"),
        ("the red chair that is not left of the bed", "negation"),
        ("the red chair isn't left of the bed", "negation"),
        ("every red chair but the one left of the bed", "negation"),
        ("la silla roja a la izquierda de la cama", "unknown word"),
        ("der rote Stuhl links vom Bett", "unknown word"),
        ("床左边的红色椅子", "unknown word"),
        ("I'm sorry, as an AI I have to decline.", "unknown word"),
        ("Sorry, I cannot help with that.", "negation"),
        ('"the red chair left of the bed"', "form"),
        ("'the red chair left of the bed'", "form"),
        ("**the red chair** left of the bed", "form"),
        ("the _red_ chair left of the bed", "form"),
        ('{"sentence": "the red chair left of the bed"}', "form"),
        ("Sentence: the red chair left of the bed", "form"),
        ("Find the chair. It is red and left of the bed.", "form"),
        ("the red chair left of the bed\nthe red chair left of the bed", "form"),
        ("is the red chair left of the bed?", "form"),
        ("", "form"),
        ("...", "form"),
        ("please " * 40 + "find the red chair left of the bed", "too long"),
    ],
)
def test_hostile_rewrites_are_rejected_and_say_why(sentence, cause):
    assert judge(sentence) == cause


def test_a_longer_name_is_not_its_last_word_and_a_longer_word_is_no_name():
    table = meaning(Noun("table"), "near", Noun("lamp"))
    assert judge("the table near the lamp", table) == ""
    assert judge("the side table near the lamp", table) == "extra thing"
    assert judge("the table lamp near the lamp", table) == "extra thing"
    assert judge("the tablecloth near the lamp", table) == "unknown word"
    assert judge("the table near the lampshade", table) == "unknown word"
    assert judge("find the glasses", meaning(Noun("glasses"))) == ""
    assert judge("find the glass", meaning(Noun("glasses"))) == "extra thing"
    assert judge("find the glasses", meaning(Noun("glass"))) == "extra thing"


def test_orange_is_a_colour_unless_the_sentence_is_about_the_fruit():
    assert judge("please find the orange chair", meaning(Noun("chair", "orange"))) == ""
    assert judge("please find the orange", meaning(Noun("orange"))) == ""
    assert judge("please find the orange", meaning(Noun("chair", "orange"))) == "target missing"


def test_words_of_the_template_language_give_way_to_names():
    stand = meaning(Noun("stand"), "left", Noun("point"))
    assert judge("the stand left of the point", stand) == ""
    assert judge("point to the stand left of the point", stand) == "extra thing"


def test_narrower_synonyms_do_not_pass_for_a_wider_relation():
    near = meaning(CHAIR, "near", BED)
    assert judge("the red chair close to the bed", near) == ""
    assert judge("the red chair next to the bed", near) == "relation changed"
    assert judge("the red chair touching the bed", meaning(CHAIR, "next", BED)) == "relation changed"


def test_the_ends_of_between_may_change_places_and_the_middle_may_not():
    middle = meaning(CHAIR, "between", BED, DOOR)
    assert judge("between the door and the bed there is a red chair", middle) == ""
    assert judge("the bed between the red chair and the door", middle) == "roles"
    assert judge("the red chair between the bed, the door", middle) == "roles"


def test_an_inversion_is_rejected_where_the_target_should_come_first():
    sentence = "left of the bed is the red chair"
    assert judge(sentence) == "" and judge(sentence, target_first=True) == "roles"
    assert judge("the red chair is left of the bed", target_first=True) == ""


def test_several_claims_must_all_be_there_and_all_be_the_target_s():
    star = Meaning(CHAIR, (Claim("left", (BED,)), Claim("near", (DOOR,)), Claim("behind", (Noun("table"),))))
    assert judge("the red chair left of the bed, near the door and behind the table", star) == ""
    assert judge("the red chair that is behind the table, left of the bed, and close to the door", star) == ""
    assert judge("left of the bed, behind the table and near the door there is a red chair", star) == ""
    assert judge("the red chair left of the door, near the bed and behind the table", star) == "roles"
    assert judge("left of the door, behind the table and near the bed there is a red chair", star) == "roles"
    assert judge("the red chair left of the bed near the door behind the table", star) == "roles"  # whose door?
    assert judge("the red chair left of the bed and near the door", star) == "anchor missing"
    assert judge("the red chair left of the bed, left of the door and behind the table", star) == "relation missing"


def test_claims_of_one_relation_may_share_its_word():
    star = Meaning(CHAIR, (Claim("left", (BED,)), Claim("left", (DOOR,)), Claim("near", (Noun("table"),))))
    assert judge("the red chair left of the bed and the door, and near the table", star) == ""
    assert judge("the red chair left of the bed, left of the door and near the table", star) == ""
    assert judge("left of the bed and the door is a red chair", Meaning(CHAIR, star.claims[:2])) == ""
    assert judge("the red chair near the bed and the door and left of the table", star) == "roles"


def test_a_claim_about_an_anchor_stays_with_the_anchor():
    table = Meaning(Noun("table"), (Claim("near", (DOOR,)),))
    chain = Meaning(CHAIR, (Claim("left", (table,)),))
    star = Meaning(CHAIR, (Claim("left", (Noun("table"),)), Claim("near", (DOOR,))))
    of_anchor = "find the red chair left of the table that is near the door"
    of_target = "find the red chair left of the table and near the door"
    inverted = "left of the table which stands near the door is the red chair"
    assert (judge(of_anchor, chain), judge(of_target, chain), judge(inverted, chain)) == ("", "roles", "")
    assert (judge(of_anchor, star), judge(of_target, star), judge(inverted, star)) == ("roles", "", "roles")
    assert judge("the red chair near the door that is left of the table", chain) == "roles"
    assert judge("the red chair left of the door that is near the table", chain) == "roles"
    assert judge("the red chair left of the table near the door", chain) == "roles"  # which of them is?


def test_phrases_kept_from_training_are_kept_from_rewrites():
    assert judge("the red chair nearest to the bed", meaning(CHAIR, "closest", BED)) == ""
    refused = judge("The red chair nearest to the bed.", meaning(CHAIR, "closest", BED), held_out=["nearest to"])
    assert refused == "held-out wording"
    assert judge("the red chair left of the bed", held_out=["show me", "eft of"]) == ""
    assert judge("Show me the red chair left of the bed", held_out=["show me", "eft of"]) == "held-out wording"


def test_things_that_are_plural_by_name_take_plural_words():
    keys = meaning(Noun("keys"), "on", Noun("table"))
    for sentence in ("there are some keys on the table", "on the table are the keys", "the keys that are on the table"):
        assert judge(sentence, keys) == ""
    assert judge("there are some table on the keys", meaning(Noun("table"), "on", Noun("keys"))) == "roles"


OF_THINGS = [key for key, predicate in PREDICATES.items() if not predicate.surface and key != "between"]


@settings(max_examples=150, deadline=None)
@given(
    predicate=st.sampled_from(OF_THINGS),
    other=st.sampled_from(OF_THINGS),
    data=st.data(),
)
def test_no_sentence_of_another_query_passes(predicate, other, data):
    target, anchor = Noun("lamp", "blue"), Noun("table", "brown")
    swapped = (Query(anchor, predicate, (target,)), Query(Noun("lamp", "brown"), predicate, (Noun("table", "blue"),)))
    wrong = [*swapped, Query(target, predicate, (Noun("window"),)), Query(target), Query(Noun("lamp"))]
    if not set(PREDICATES[other].words) & set(PREDICATES[predicate].words):
        wrong.append(Query(target, other, (anchor,)))
    for query in wrong:
        sentence = data.draw(st.sampled_from(wordings(query)))
        assert judge(sentence, meaning(target, predicate, anchor)) != "", sentence


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_judged_and_none_of_it_passes(text):
    assert judge(text) != ""
