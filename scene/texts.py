"""What is said and asked about homes: referrals, captions, questions, and the one table that holds them all.

Sentences are lower case. Captions and questions end in a stop or a question mark, referrals in nothing: they are put
into other sentences ("go to the red chair"). Object ids are those of the scene; a tuple of ids is never None.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final

import pyarrow as pa

from core.errors import InputError


@dataclass(frozen=True)
class Referral:
    """A sentence and the objects it means: one, none ("zero") or several ("multi")."""

    type: ClassVar[str] = "referral"

    scene_id: str
    utterance: str
    targets: tuple[int, ...]  # object ids; one, except of the kinds multi and zero
    anchors: tuple[int, ...]  # ids of the other objects it names
    kind: str  # unique, attribute, relation, support, between, aligned, superlative, star, chain, multi or zero
    source: str = "template"  # who wrote it
    room: int = -1  # room of the target; the candidates in homes that are spoken of room by room
    view_dependent: bool = False  # says left, right, behind or in front: true for the graph's viewpoint
    n_same_class: int = 1  # things of the target's class in its room, itself included
    query: str = ""  # what it means, as JSON (scene/query.py)
    pattern: str = ""  # which sentence pattern (scene/patterns.py)
    held_out: str = ""  # why no training text says so: some of scene.heldout.REASONS, joined by commas


@dataclass(frozen=True)
class Caption:
    """A description of an object, of a room, or of the home."""

    type: ClassVar[str] = "caption"

    scene_id: str
    text: str
    kind: str  # object, room or scene
    objects: tuple[int, ...] = ()  # ids of the objects it speaks of; the described one first
    room: int = -1  # -1 = the whole home
    source: str = "template"
    pattern: str = ""
    held_out: str = ""


@dataclass(frozen=True)
class Question:
    """A question and every answer that is right."""

    type: ClassVar[str] = "question"

    scene_id: str
    question: str
    answers: tuple[str, ...]  # wordings of the one right answer, the usual one first
    kind: str  # existence, count, attribute, relation or situated
    situation: str = ""  # of situated ones, what comes before the question: "standing at the bed, facing the door"
    position: tuple[float, ...] = ()  # of situated ones, where the asker stands: xyz on the floor, metres
    yaw_rad: float = 0.0  # of situated ones, where the asker looks, about +z from +x
    objects: tuple[int, ...] = ()  # ids of the objects the answer rests on, as far as there are any
    room: int = -1  # what "this room" means; -1 = the whole home
    source: str = "template"
    view_dependent: bool = False  # true for the graph's viewpoint; situated ones bring their own
    query: str = ""  # what it asks about, as JSON (scene/query.py); empty where it is no query
    pattern: str = ""
    held_out: str = ""


Text = Referral | Caption | Question
TYPES: Final[dict[str, type[Referral] | type[Caption] | type[Question]]] = {
    kind.type: kind for kind in (Referral, Caption, Question)
}

_SENTENCE: Final = {"referral": "utterance", "caption": "text", "question": "question"}  # field that is column "text"
_IDS: Final = pa.list_(pa.int32())
TEXT_SCHEMA: Final = pa.schema(
    [
        ("type", pa.string()),  # key of TYPES
        ("scene_id", pa.string()),
        ("text", pa.string()),
        ("kind", pa.string()),
        ("source", pa.string()),
        ("room", pa.int32()),
        ("targets", _IDS),  # referrals
        ("anchors", _IDS),  # referrals
        ("objects", _IDS),  # captions, questions
        ("answers", pa.list_(pa.string())),  # questions
        ("situation", pa.string()),  # questions
        ("position", pa.list_(pa.float64())),  # questions
        ("yaw_rad", pa.float64()),  # questions
        ("view_dependent", pa.bool_()),
        ("n_same_class", pa.int32()),  # referrals
        ("query", pa.string()),
        ("pattern", pa.string()),
        ("held_out", pa.string()),
    ]
)
"""One row per text; a column that a type does not have is null there."""


def sentence(text: Text) -> str:
    """What a reader reads: with a situated question, the situation before it."""
    if isinstance(text, Referral):
        return text.utterance
    if isinstance(text, Caption):
        return text.text
    return asked_in(text.situation, text.question)


def asked_in(situation: str, question: str) -> str:
    """A question with the situation, if there is one, before it."""
    return f"{situation}: {question}" if situation else question


def texts_to_table(texts: Iterable[Text]) -> pa.Table:
    """All texts as one table of TEXT_SCHEMA, in their order."""
    rows = list(texts)
    columns: dict[str, list[Any]] = {name: [] for name in TEXT_SCHEMA.names}
    for item in rows:
        values = vars(item)
        spoken = _SENTENCE[item.type]
        for name, column in columns.items():
            column.append(item.type if name == "type" else values.get(spoken if name == "text" else name))
    return pa.Table.from_pydict(columns, schema=TEXT_SCHEMA)


def texts_from_table(table: pa.Table) -> list[Text]:
    """What `texts_to_table` made, or any rows of it.

    Raises:
        InputError: the table lacks columns or holds a type nobody knows.
    """
    missing = sorted(set(TEXT_SCHEMA.names) - set(table.column_names))
    if missing:
        raise InputError(f"the table of texts lacks the columns {', '.join(missing)}; build it with this version")
    found: list[Text] = []
    for row in table.select(TEXT_SCHEMA.names).to_pylist():
        if row["type"] not in TYPES:
            raise InputError(f"a text is of type {row['type']!r}, expected one of {', '.join(TYPES)}")
        row[_SENTENCE[row["type"]]] = row["text"]
        kind = TYPES[row["type"]]
        values: dict[str, Any] = {f.name: row[f.name] for f in fields(kind)}
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        found.append(kind(**values))
    return found
