"""Sentences as steps."""

import pytest

from agents.subgoals.room_map import RoomMap
from agents.subgoals.sentence_steps import read_sentence
from agents.subgoals.types import Test
from core.errors import InputError
from tests.agents.subgoals.errands import (
    BLUE_MUG,
    CHAIR,
    OTHER_CHAIR,
    RED_MUG,
    SHELF,
    SPOON,
    TABLE,
    WINDOW,
    flat,
)


@pytest.fixture(scope="module")
def rooms():
    return RoomMap(flat())


GO = Test("reach", (TABLE,))
TAKE, PUT = Test("hold", (RED_MUG,), on=(SHELF,)), Test("rest", (RED_MUG,), on=(SHELF,))


@pytest.mark.parametrize(
    ("sentence", "tests"),
    [
        ("Go to the table.", [GO]),
        ("walk over to the white table", [GO]),
        ("the table", [GO]),
        ("find the table, then stop at the shelf", [GO, Test("reach", (SHELF,))]),
        ("go to the table, then to the shelf, and stop at the window", [
            GO, Test("reach", (SHELF,)), Test("reach", (WINDOW,)),
        ]),
        ("put the red mug on the shelf", [TAKE, PUT]),
        ("take the red mug and put it on top of the shelf", [TAKE, PUT]),
        ("pick up the red mug; go to the table; set it on the shelf", [TAKE, GO, PUT]),
        ("pick up the red mug, then put the red mug on the shelf", [TAKE, PUT]),
        ("put the red mug on the shelf, then put it on the table", [
            TAKE, PUT, Test("hold", (RED_MUG,), on=(TABLE,)), Test("rest", (RED_MUG,), on=(TABLE,)),
        ]),
        ("grab the blue mug", [Test("hold", (BLUE_MUG,))]),
        ("fetch the spoon from the cabinet", [Test("hold", (SPOON,))]),
        ("put the red mug from the tray on the shelf", [TAKE, PUT]),
        ("go to the kitchen and then open the door to the study", [Test("enter", room=0), Test("open", (1,))]),
        ("walk into the hall, finally open the door", [Test("enter", room=1), Test("open", (0, 1))]),
        ("go to the green chair", [Test("reach", (CHAIR, OTHER_CHAIR))]),
        ("go to the chair next to the window", [Test("reach", (CHAIR,))]),
        ("go to the point -1.5 m east and 2 m north", [Test("reach", place=(-1.5, 2.0))]),
    ],
)  # fmt: skip
def test_sentences_mean_these_tests(rooms, sentence, tests):
    assert [said.step.test for said in read_sentence(sentence, rooms)] == tests


@pytest.mark.parametrize(
    ("sentence", "error"),
    [
        ("", "without words"),
        ("sing to the table", "cannot read 'sing to the table'"),
        ("go to the table and then sing", "cannot read 'sing'"),
        ("go to the piano", "nothing in scene flat is 'the piano'; it has book, cabinet"),
        ("enter the cellar", "no room 'the cellar'; its rooms: kitchen, hall, study"),
        ("put it on the shelf", "does not say what 'it' is"),
        ("take it", "does not say what 'it' is"),
        ("put the red mug down", "does not say what .* goes on"),
        ("open the window", "cannot open 'the window'"),
        ("put the piano on the shelf", "nothing in scene flat is 'the piano'"),
    ],
)
def test_what_cannot_be_understood_is_an_error_that_says_so(rooms, sentence, error):
    with pytest.raises(InputError, match=error):
        read_sentence(sentence, rooms)


def test_a_room_that_two_could_be_is_asked_back():
    scene = flat()
    scene.rooms[1].kind = "kitchen"
    with pytest.raises(InputError, match="may be any of 2 rooms; say which: kitchen with the table, kitchen with the"):
        read_sentence("enter the kitchen", RoomMap(scene))
    (said,) = read_sentence("enter the kitchen with the table", RoomMap(scene))
    assert said.step.test == Test("enter", room=0)
