"""Tests of scene/said.py: which words of a sentence mean which objects."""

import numpy as np

from scene.graph import build_graph
from scene.language import Referral
from scene.said import Said, generated, pieces, said, spread, written
from scene.store import write_corpus
from scene.types import Scene, SceneObject
from tests.scene.toy import toy_scene


def room() -> Scene:
    things = [("chair", "red"), ("chair", "blue"), ("table", "white"), ("floor lamp", ""), ("chair", "red")]
    objects = [
        SceneObject(k, label, np.array([k, 0, 0.5, 0.4, 0.4, 1, 0.0]), attributes={"color": color} if color else {})
        for k, (label, color) in enumerate(things)
    ]
    return Scene("room", "test", objects)


def marked(sentence: str, targets: tuple[int, ...], anchors: tuple[int, ...] = ()) -> list[tuple[str, str, tuple]]:
    text = Said("referral", "x", sentence, targets, anchors)
    found = pieces(text, room())
    assert "".join(words for words, _, _ in found) == sentence
    return [piece for piece in found if piece[1]]


def test_targets_and_anchors_are_found_by_their_names():
    assert marked("the chair next to the floor lamp", (1,), (3,)) == [
        ("chair", "target", (1,)), ("floor lamp", "anchor", (3,))
    ]  # fmt: skip
    assert marked("Left of the table is the Blue Chair", (1,), (2,)) == [
        ("table", "anchor", (2,)), ("Blue Chair", "target", (1,))
    ]  # fmt: skip


def test_a_longer_name_wins_where_both_are_of_one_class():
    assert marked("the chair near the blue chair", (0,), (1,)) == [
        ("chair", "target", (0,)), ("blue chair", "anchor", (1,))
    ]  # fmt: skip


def test_several_targets_share_one_plural():
    assert marked("the red chairs", (0, 4)) == [("red chairs", "target", (0, 4))]


def test_other_words_stay_plain():
    assert marked("the armchair of the tablecloth", (1,), (2,)) == []
    assert marked("the couch", (1,)) == []


def test_a_home_without_a_corpus_gets_referrals_and_captions():
    scene = toy_scene(1)
    texts = generated(scene, build_graph(scene), seed=0)
    kinds = {(text.type, text.kind) for text in texts}
    assert {("caption", "room"), ("caption", "object")} <= kinds and any(text.type == "referral" for text in texts)
    assert len([text for text in texts if text.kind == "object"]) == len(scene.objects)


def test_the_corpus_of_a_folder_gives_the_texts_of_the_home_that_is_asked_for(tmp_path):
    homes = [(toy_scene(k), [Referral(f"toy-{k}", f"the cube {k}", (0,), (1,), "relation")]) for k in (1, 2)]
    store = write_corpus(tmp_path, {"train": homes}, "toy")
    assert written(store, "toy-2") == [Said("referral", "relation", "the cube 2", (0,), (1,))]
    assert written(store, "toy-3") == []


def test_questions_keep_their_situation_and_their_usual_answer():
    class Question:
        question, situation, answers, kind, objects = (
            "what is behind you?",
            "at the bed",
            ("a chair", "chair"),
            "x",
            (1,),
        )

    assert said(Question()) == Said("question", "x", "at the bed: what is behind you?", (1,), (), "a chair")


def test_an_object_is_the_target_of_its_caption_and_a_room_caption_speaks_of_all():
    class Caption:
        text, kind, objects = "a chair near a table", "object", (1, 2)

    assert said(Caption()) == Said("caption", "object", "a chair near a table", (1,), (2,))
    Caption.kind = "room"
    assert said(Caption()) == Said("caption", "room", "a chair near a table", (1, 2), ())


def test_a_short_list_shows_every_kind():
    texts = [Said("referral", "relation", f"{k}") for k in range(8)] + [Said("caption", "scene", "home")]
    assert [text.sentence for text in spread(texts, 3)] == ["0", "1", "home"]
    assert len(spread(texts, 100)) == 9
