"""Held-out language: what no training text says, so that a test on it is about sentences of a new kind.

Four things are kept back, the same ones in every run: some sentence patterns and five synonyms (listed here), a fifth
of all (relation, class) pairs, and some (colour, class) pairs: those of scene/palette.py that no training home shows,
and by hash a tenth of all others. A pair is held out wherever it is said: "the chair next to the bed" says (next,
chair), "the table with the mug on it" says (on, mug), and an anchor's own colour or clause counts as well. Every part
of a held-out pair occurs in training in other pairs. Texts of val and test may use all of the language and say in
`held_out` which of the four they use; `overlap` tells how many of them training knows word for word.
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from scene.palette import HELD_OUT_PAIRS
from scene.query import PREDICATES, Noun, Query
from scene.texts import Text, sentence

REASONS: Final = ("pattern", "synonym", "relation-class", "color-class")
HELD_OUT_PATTERNS: Final = frozenset(
    {"show", "tail-see", "show-all", "question-see-any", "question-tell-number", "situated-turn"}
)
"""Ids of patterns (scene/patterns.py, scene/questions.py)."""
HELD_OUT_SYNONYMS: Final = frozenset({"over", "touching", "at the side of", "in line with", "nearest to"})
RELATION_CLASS_SHARE: Final = 0.2
SAME_WORDS: Final = {
    **dict.fromkeys(("standing", "carrying"), "on"),
    **dict.fromkeys(("set", "embedded", "containing"), "in"),
    "hung": "hanging",
    "affixed": "mounted",
}
"""Predicates that are put in the words of another one, and so are held out with it."""
COLOR_CLASS_SHARE: Final = 0.1


@lru_cache(maxsize=1 << 16)
def _drawn(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest()) / 2**48


def is_held_out_relation(predicate: str, label: str) -> bool:
    """Whether no training text says this relation (key of scene.query.PREDICATES) of this class."""
    return _drawn(f"relation {SAME_WORDS.get(predicate, predicate)} of {label}") < RELATION_CLASS_SHARE


def is_held_out_color(color: str, label: str) -> bool:
    """Whether no training text calls a thing of this class so."""
    if not color:
        return False
    return (color, label) in HELD_OUT_PAIRS or _drawn(f"color {color} of {label}") < COLOR_CLASS_SHARE


def said_pairs(query: Query) -> set[tuple[str, str]]:
    """(predicate, class) of every relation a query says; "with a mug on it" says "on" of the mug."""
    pairs = set()
    for noun, clause in query.claims():
        if PREDICATES[clause.predicate].inverse:
            anchor = clause.anchors[0]
            said_of = anchor.noun if isinstance(anchor, Query) else anchor
            pairs.add((SAME_WORDS[clause.predicate], said_of.label))
        else:
            pairs.add((clause.predicate, noun.label))
    return pairs


def reasons(
    query: Query | None = None, pattern: str = "", words: Iterable[str] = (), nouns: Iterable[Noun] = ()
) -> str:
    """Which of REASONS apply, joined by commas; empty = a training text may say so.

    Args:
        query: what is said.
        pattern: id of the sentence pattern.
        words: the wordings of relations that are used.
        nouns: further things that are named.
    """
    named = [*nouns, *(query.nouns() if query else ())]
    found = (
        pattern in HELD_OUT_PATTERNS,
        any(word in HELD_OUT_SYNONYMS for word in words),
        query is not None and any(is_held_out_relation(*pair) for pair in said_pairs(query)),
        any(is_held_out_color(noun.color, noun.label) for noun in named),
    )
    return ",".join(reason for reason, holds in zip(REASONS, found) if holds)


def overlap(train: Iterable[Text], test: Iterable[Text]) -> float:
    """Share of the test texts that occur word for word in training, 0..1; 0 when there are none."""
    known = {sentence(text) for text in train}
    asked = [sentence(text) in known for text in test]
    return sum(asked) / len(asked) if asked else 0.0
