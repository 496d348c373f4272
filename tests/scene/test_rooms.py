"""A corpus read into arrays: what belongs to which room, and which part of the sentences."""

from pathlib import Path

import pytest
import torch

from core.errors import InputError
from scene.batch import object_set
from scene.rooms import Ragged, RoomReader, object_names, stack_members, text_bytes, texts_by_scene
from scene.store import SceneStore, write_corpus
from scene.texts import Caption, Question, Referral, Text
from tests.scene.toy import toy_referrals, toy_scene
from vl.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SceneStore:
    pairs = []
    for seed in range(4):
        scene = toy_scene(seed)
        texts: list[Text] = [*toy_referrals(scene)]
        texts.append(Referral(scene.id, "the cubes", (1, 2), (0,), "multi", room=0, view_dependent=True))
        texts.append(Question(scene.id, "is it red?", ("yes", "sure"), "attribute", situation="standing", objects=(3,)))
        texts.append(Caption(scene.id, "a hall of boxes", "room", (0, 1), room=0))
        texts.append(Caption(scene.id, "a box", "object", (0,), room=0))
        pairs.append((scene, texts))
    return write_corpus(tmp_path_factory.mktemp("corpus"), {"train": pairs[:3], "val": pairs[3:]}, "toy")


def reader_of(store: SceneStore, **options: object) -> RoomReader:
    words = [
        row["text"]
        for task in ("multi", "answers")
        for _, rows, _ in texts_by_scene(store, "train", task)
        for row in rows
    ]
    return RoomReader(store, train_tokenizer([*words, "a hall of boxes"]), 16, points=8, seed=0, **options)  # type: ignore[arg-type]


def test_ragged_rows_come_back_as_they_were():
    rows = Ragged.of([[1, 2], [], [3]])
    assert [rows[i].tolist() for i in range(len(rows))] == [[1, 2], [], [3]] and rows.lengths.tolist() == [2, 0, 1]
    assert len(Ragged.of([])) == 0 and rows.nbytes == 3 * 4 + 4 * 8


def test_sentences_of_one_target_land_in_their_room_with_slots_and_words(store: SceneStore):
    reader = reader_of(store, captions=True)
    rooms = list(reader.rooms("train", "referral"))
    scene = toy_scene(0)
    said = toy_referrals(scene)
    room = rooms[0]
    assert len(rooms) == 3 and len(room) == len(said) and reader.left_out == 0
    decoded = [reader.tokenizer.decode(room.tokens[s].tolist(), skip_special_tokens=True) for s in range(len(room))]
    assert decoded == [r.utterance for r in said]
    assert [tuple(int(room.objects.ids[i]) for i in room.members[s]) for s in range(len(room))] == [
        r.targets for r in said
    ]
    assert [tuple(int(room.objects.ids[i]) for i in room.anchors[s]) for s in range(len(room))] == [
        r.anchors for r in said
    ]
    assert reader.tokenizer.decode(room.captions[0].tolist(), skip_special_tokens=True) == "a hall of boxes"
    assert len(room.captions) == 1 and text_bytes(rooms) > 0


def test_other_tasks_take_other_texts(store: SceneStore):
    reader = reader_of(store, answers=lambda answers: [len(answer) for answer in answers])
    several = next(reader.rooms("train", "multi"))
    assert several.members[len(several) - 1].tolist() == [1, 2] and several.viewed.tolist()[-1]
    (question,) = (next(reader.rooms("train", "answers")),)
    assert len(question) == 1 and question.answers[0].tolist() == [3, 4] and question.members[0].tolist() == [3]
    text = reader.tokenizer.decode(question.tokens[0].tolist(), skip_special_tokens=True)
    assert str(text).replace(" ", "") == "standing:isitred?"


def test_points_that_were_let_go_are_drawn_again(store: SceneStore):
    reader = reader_of(store)
    kept, gone = list(reader.rooms("train", "referral", keep_points=6))[:2]
    assert kept.objects.points.shape[1] == 8 and gone.objects.points.shape[1] == 0
    torch.testing.assert_close(reader.points_of(gone), object_set(toy_scene(1), 8, seed=0).points, atol=1e-3, rtol=1e-3)


def test_a_smaller_share_is_a_part_of_a_larger_one(store: SceneStore):
    def part(share: float) -> set[tuple[str, str]]:
        return {
            (scene, row["text"]) for scene, rows, _ in texts_by_scene(store, "train", "multi", share) for row in rows
        }

    quarter, half, whole = part(0.25), part(0.5), part(1.0)
    assert quarter < half < whole and len(half) / len(whole) == pytest.approx(0.5, abs=0.2)


def test_a_graph_gives_edges_between_slots(store: SceneStore):
    room = next(reader_of(store, edges=True).rooms("train", "referral"))
    assert room.objects.edges is not None and room.objects.edges.shape[1] == 3
    assert room.objects.edges[:, :2].max() < len(room.objects)


def test_sentences_about_objects_that_are_not_there_are_refused(tmp_path: Path):
    scene = toy_scene(0)
    store = write_corpus(
        tmp_path, {"train": [(scene, [Referral(scene.id, "the cube", (99,), (), "unique", room=0)])]}, "toy"
    )
    with pytest.raises(InputError, match=r"objects \[99\], expected 0..5"):
        list(RoomReader(store, train_tokenizer(["the cube"]), 16, points=8, seed=0).rooms("train", "referral"))


def test_names_of_objects_come_from_their_table(store: SceneStore):
    item = toy_scene(0).objects[0]
    assert next(object_names(store, "train")) == f"{item.attributes['color']} {item.label}"


def test_members_are_ones_in_a_table():
    rows = Ragged.of([[0, 2], [], [1]])
    assert stack_members([rows[i] for i in range(3)], 3).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
