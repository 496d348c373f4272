"""Whether a reworded sentence still says what a query says: a small grammar that errs on the side of rejecting.

A sentence is read as a row of known phrases: nouns, colours, relations and a closed list of other words. A word outside
is a rejection, which is what keeps out further things, sizes, materials, other languages and chatter. The row must then
be one of two forms; a name is an article, perhaps a colour, and a noun:

    target first    OPENING* name(target) [MIDDLE* claim (JOIN MIDDLE* claim)*] CLOSING*
    place first     LEAD* placed (JOIN placed)* LINK+ name(target) CLOSING*

    claim     placed  |  WITH thing [that is] inverse-relation  |  HOLDING thing
    placed    relation thing  |  relation thing and thing  (between)  |  relation thing (JOIN thing)*  (each so related)
    thing     name [[,] (that | which) MIDDLE* claim]                           (the claim is about this thing)
    JOIN      and  |  ,  |  , and

So a relation stands directly before its anchors, and what it is said of is the target unless "that" or "which" follows
an anchor. "The bed is left of the chair" or "the chair that the bed is left of" never pass for "the chair left of the
bed". Articles may differ; names, colours, number and direction may not.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final

from scene.query import PREDICATES, Noun
from scene.rewrite_words import (
    AND,
    CLOSING,
    JOIN,
    LEAD,
    LETTERS,
    LINK,
    MIDDLE,
    NEGATIONS,
    OPENING,
    WHICH,
    Part,
    Vocabulary,
    words_of,
)

MAX_WORDS: Final = 30
_QUESTION: Final = re.compile(r"(please )?((can|could|would|will) you|where('s| is| can)) ", re.IGNORECASE)
_SENTENCE: Final = re.compile(rf"{LETTERS}(?:,? {LETTERS})*[.!?]?")

CAUSES: Final = (
    "form",  # not one plain sentence: empty, quotes, JSON, several lines or sentences, a question that asks whether
    "too long",  # more than MAX_WORDS words
    "negation",  # not, no, never, without ...
    "unknown word",  # outside the grammar's words
    "plural",  # a thing named in the plural
    "target missing",
    "anchor missing",
    "extra thing",  # names a thing the query does not, or one more often
    "colour changed",  # a colour left out, added or given to another thing
    "relation missing",
    "relation changed",  # another relation than the query's, a flipped direction included
    "extra relation",
    "held-out wording",  # a phrase that is kept from training
    "roles",  # all is there, but not as the grammar wants it: swapped roles, or a form it does not know
)


@dataclass(frozen=True)
class Claim:
    """Something stands in a relation to anchors."""

    predicate: str  # key of PREDICATES
    anchors: "tuple[Noun | Meaning, ...]"  # two for between, else one; a Meaning where more is said of the anchor


@dataclass(frozen=True)
class Meaning:
    """All that a sentence says: which thing, and what holds for it."""

    target: Noun
    claims: tuple[Claim, ...] = ()

    @property
    def nouns(self) -> tuple[Noun, ...]:
        """Every noun it names, the target first."""
        anchors = (anchor for claim in self.claims for anchor in claim.anchors)
        return (self.target, *(noun for anchor in anchors for noun in _meaning(anchor).nouns))

    @property
    def predicates(self) -> tuple[str, ...]:
        """Every relation it states."""
        nested = (_meaning(anchor).predicates for claim in self.claims for anchor in claim.anchors)
        return (*(claim.predicate for claim in self.claims), *(key for keys in nested for key in keys))


def _meaning(anchor: Noun | Meaning) -> Meaning:
    return anchor if isinstance(anchor, Meaning) else Meaning(anchor)


def verdict(
    sentence: str,
    meaning: Meaning,
    vocabulary: Vocabulary,
    *,
    target_first: bool = False,
    held_out: Iterable[str] = (),
) -> str:
    """Why a rewrite is rejected, as one of CAUSES; "" when it says what `meaning` says, no more and no less.

    Args:
        target_first: whether the sentence must name the target before anything else.
        held_out: phrases it may not have.
    """
    sentence = sentence.strip()
    words = words_of(sentence)
    if not _SENTENCE.fullmatch(sentence) or (sentence.endswith("?") and not _QUESTION.match(sentence)):
        return "form"
    if len(words) > MAX_WORDS:
        return "too long"
    if NEGATIONS & set(words) or any(word.endswith("n't") for word in words):
        return "negation"
    parts = vocabulary.with_nouns(meaning.nouns).parts(sentence)
    if parts is None:
        return "unknown word"
    if any(f" {' '.join(words_of(phrase))} " in f" {' '.join(words)} " for phrase in held_out):
        return "held-out wording"
    return _content(parts, meaning) or _form(parts, meaning, target_first)


def _content(parts: Sequence[Part], meaning: Meaning) -> str:
    """Whether the right things, colours and relations are named, each as often as it should be."""
    if any(part.what == "plural" for part in parts):
        return "plural"
    named = Counter(part.text for part in parts if part.what == "noun")
    wanted = Counter(noun.label for noun in meaning.nouns)
    if named - wanted:
        return "extra thing"
    if wanted - named:
        return "target missing" if not named[meaning.target.label] else "anchor missing"
    shown = Counter(part.text for part in parts if part.what == "colour")
    if shown != Counter(noun.color for noun in meaning.nouns if noun.color):
        return "colour changed"
    stated = [part.keys for part in parts if part.what in ("relation", "holding")]
    if any(not keys & set(meaning.predicates) for keys in stated):
        return "relation changed" if meaning.claims else "extra relation"
    if any(all(key not in keys for keys in stated) for key in meaning.predicates):
        return "relation missing"
    return "extra relation" if len(stated) > len(meaning.predicates) else ""


def _form(parts: Sequence[Part], meaning: Meaning, target_first: bool) -> str:
    """Whether the row of phrases is one of the two forms and reads as `meaning`."""
    for read in (_target_first,) if target_first else (_target_first, _place_first):
        found = read(_Row(parts))
        if found is not None and _same(found, meaning):
            return ""
    return "roles"


@dataclass(frozen=True)
class _Thing:
    """A thing as the sentence has it; each claim is the predicates its phrase may say, and the anchors."""

    noun: Noun
    claims: "tuple[tuple[frozenset[str], tuple[_Thing, ...]], ...]" = ()


def _same(found: _Thing, meaning: Meaning) -> bool:
    """Equal up to the order of claims and of the two ends of between."""
    if found.noun != meaning.target or len(found.claims) != len(meaning.claims):
        return False
    return any(
        all(
            claim.predicate in keys and len(things) == len(claim.anchors) and _same_anchors(things, claim.anchors)
            for (keys, things), claim in zip(order, meaning.claims)
        )
        for order in permutations(found.claims)
    )


def _same_anchors(things: tuple[_Thing, ...], anchors: tuple[Noun | Meaning, ...]) -> bool:
    orders = permutations(things)
    return any(all(_same(thing, _meaning(anchor)) for thing, anchor in zip(order, anchors)) for order in orders)


class _Row:
    """Phrases read from the front."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts, self.at = parts, 0

    @property
    def done(self) -> bool:
        return self.at == len(self.parts)

    def take(self, what: str) -> Part | None:
        """The next phrase, if it is of this sort."""
        if self.done or self.parts[self.at].what != what:
            return None
        self.at += 1
        return self.parts[self.at - 1]

    def skip(self, allowed: frozenset[str]) -> int:
        """Passes over words of a list; how many there were."""
        start = self.at
        while not self.done and self.parts[self.at].what == "word" and self.parts[self.at].text in allowed:
            self.at += 1
        return self.at - start

    def noun(self) -> Noun | None:
        """An article, perhaps a colour, and a noun."""
        article = self.take("article")
        color = self.take("colour")
        noun = self.take("noun")
        if article is None or noun is None or (article.text == "some" and not noun.text.endswith("s")):
            return None
        return Noun(noun.text, "" if color is None else color.text)


def _target_first(row: _Row) -> _Thing | None:
    row.skip(OPENING)
    target = row.noun()
    if target is None:
        return None
    claims: list[Any] = []
    while not row.done:
        start = row.at
        joined = not claims or row.skip(JOIN) > 0
        row.skip(MIDDLE)
        more = _claims(row) if joined else []
        if not more:
            row.at = start
            break
        claims += more
    row.skip(CLOSING)
    return _Thing(target, tuple(claims)) if row.done else None


def _place_first(row: _Row) -> _Thing | None:
    row.skip(LEAD)
    claims = _placed(row)
    while claims:
        start = row.at
        more = _placed(row) if row.skip(JOIN) else []
        if not more:
            row.at = start
            break
        claims += more
    if not claims or not row.skip(LINK):
        return None
    target = row.noun()
    row.skip(CLOSING)
    return _Thing(target, tuple(claims)) if target is not None and row.done else None


def _claims(row: _Row) -> list[Any]:
    """What is said at this place; none when it is no claim."""
    if row.take("with") is not None:
        anchor = _thing(row)
        row.skip(MIDDLE)
        keys = _keys(row.take("relation"), inverse=True)
        return [(keys, (anchor,))] if anchor is not None and keys else []
    holding = row.take("holding")
    if holding is not None:
        anchor = _thing(row)
        return [(holding.keys, (anchor,))] if anchor is not None else []
    return _placed(row)


def _placed(row: _Row) -> list[Any]:
    """A relation and its anchors; one claim for each of several."""
    keys = _keys(row.take("relation"), inverse=False)
    anchor = _thing(row) if keys else None
    if anchor is None:
        return []
    if "between" in keys:
        other = _thing(row) if row.skip(frozenset({AND})) == 1 else None
        return [(keys, (anchor, other))] if other is not None else []
    claims: list[Any] = [(keys, (anchor,))]
    while True:  # "next to the bed and the door"
        start = row.at
        more = _thing(row) if row.skip(JOIN) else None
        if more is None:
            row.at = start
            return claims
        claims.append((keys, (more,)))


def _thing(row: _Row) -> _Thing | None:
    """A name and what "that" or "which" says of it."""
    noun = row.noun()
    if noun is None:
        return None
    start = row.at
    row.skip(frozenset({","}))
    if row.skip(WHICH):
        row.skip(MIDDLE)
        claims = _claims(row)
        if claims:
            return _Thing(noun, tuple(claims))
    row.at = start
    return _Thing(noun)


def _keys(part: Part | None, *, inverse: bool) -> frozenset[str]:
    """The predicates a phrase may say after "with ..." (inverse) or before its anchor."""
    keys = frozenset() if part is None else part.keys
    return frozenset(key for key in keys if PREDICATES[key].inverse == inverse)
