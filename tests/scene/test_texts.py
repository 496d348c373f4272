"""Texts and their table."""

import pyarrow as pa
import pyarrow.compute
import pytest

from core.errors import InputError
from scene.texts import (
    TEXT_SCHEMA,
    Caption,
    Question,
    Referral,
    sentence,
    texts_from_table,
    texts_to_table,
)

TEXTS = [
    Referral("s", "the red chair", (3,), (), "attribute", room=1, query="{}", pattern="plain", held_out="pattern"),
    Referral("s", "all the mugs", (1, 2), (), "multi"),
    Referral("s", "the blue sofa", (), (4,), "zero", view_dependent=True, n_same_class=2),
    Caption("s", "a bedroom with a bed.", "room", (0, 1), 0, "llm"),
    Question("s", "is there a bed?", ("yes",), "existence", objects=(0,), query="{}", pattern="question-is-there"),
    Question(
        "s", "where is the bed?", ("left", "to my left"), "situated", "standing at the door", (1.0, 2.5, 0.0), -0.5
    ),
]


def test_every_type_survives_the_table_in_order():
    table = texts_to_table(TEXTS)
    assert table.schema == TEXT_SCHEMA and table.num_rows == len(TEXTS)
    assert texts_from_table(table) == TEXTS
    said = [
        "the red chair",
        "all the mugs",
        "the blue sofa",
        "a bedroom with a bed.",
        "is there a bed?",
        "where is the bed?",
    ]
    assert table["text"].to_pylist() == said
    assert table["answers"].to_pylist()[0] is None and table["targets"].to_pylist()[:3] == [[3], [1, 2], []]
    assert texts_from_table(texts_to_table([])) == []


def test_rows_can_be_chosen_by_type_before_they_are_read():
    table = texts_to_table(TEXTS)
    assert texts_from_table(table.filter(pa.compute.equal(table["type"], "caption"))) == [TEXTS[3]]


def test_a_situation_is_read_before_its_question():
    assert sentence(TEXTS[5]) == "standing at the door: where is the bed?"
    assert [sentence(text) for text in TEXTS[:1] + TEXTS[3:5]] == [
        "the red chair",
        "a bedroom with a bed.",
        "is there a bed?",
    ]


def test_a_strange_table_is_refused():
    table = texts_to_table(TEXTS)
    with pytest.raises(InputError, match="lacks the columns answers, kind"):
        texts_from_table(table.drop_columns(["kind", "answers"]))
    odd = table.slice(0, 1).set_column(0, "type", pa.array(["poem"]))
    with pytest.raises(InputError, match="'poem', expected one of referral"):
        texts_from_table(odd)
