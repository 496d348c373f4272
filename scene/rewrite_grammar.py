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

from scene.datasets.procthor_labels import LABELS as PROCTHOR_LABELS
from scene.language import plural
from scene.palette import GOAL_LABELS, PALETTE
from scene.query import PREDICATES, Noun
from scene.relations import SYNONYMS

MAX_WORDS: Final = 30

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


PARAPHRASES: Final[dict[str, tuple[str, ...]]] = {
    "left": (
        *("on the left of", "at the left of", "on the left side of", "to the left side of"),
        *("on the left-hand side of", "to the left-hand side of"),
    ),
    "right": (
        *("on the right of", "at the right of", "on the right side of", "to the right side of"),
        *("on the right-hand side of", "to the right-hand side of"),
    ),
    "next": ("right next to",),
    "beside": ("right beside", "by the side of"),
    "near": ("nearby", "in the vicinity of"),
    "below": ("beneath", "underneath"),
    "on": ("upon", "atop", "on the top of", "supported by"),
    "in": ("within", "inside of", "placed in"),
    "hanging": ("hung on", "that hangs on", "which hangs on"),
    "between": ("in between", "in the middle of"),
    "farthest": ("furthest from", "farthest away from", "furthest away from", "most distant from"),
    "carrying": ("on top of it", "upon it"),
    "containing": ("inside it", "inside of it", "within it"),
}
"""Wordings that are accepted for a predicate besides its own and the synonyms of its one relation."""
HOLDING: Final[dict[str, str]] = {
    **dict.fromkeys(("supporting", "that supports", "which supports"), "carrying"),
    **dict.fromkeys(("containing", "that contains", "which contains"), "containing"),
}
"""Verbs that say an inverse predicate by themselves."""
UNSAID: Final = (
    *("far from", "away from", "opposite", "opposite to", "across from", "across", "around", "against", "along"),
    *("left", "right", "front", "back", "top", "bottom", "higher than", "lower than", "off", "at", "toward", "towards"),
    *("farther from", "further from", "closer to", "nearer to", "past", "beyond", "outside", "outside of"),
)
"""Relations that no predicate has: named so that they are rejected for what they are."""


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


WITH: Final = frozenset({"with", "that has", "which has", "having"})
ARTICLES: Final = frozenset({"the", "a", "an", "some"})  # some: of things that are plural by name, as "keys"
NEGATIONS: Final = _set(
    "not no never none neither nor without except but unlike isn't aren't doesn't don't can't cannot nothing"
)
OPENING: Final = _set(
    "find locate look looking for search searching spot identify pick out select choose point to show me us can could "
    "would will you please kindly see notice it it's is they they're are there there's this here i i'd am i'm want "
    "need like where where's go walk head try let's let now"
)
"""Words before the target; relations and prepositions that could shift the meaning are not among them."""
MIDDLE: Final = _set(
    "is are that that's which located placed positioned situated standing stands sitting sits resting rests lying lies "
    "found seen can be just directly immediately nestled set ,"
)
"""Words between the target and a claim about it."""
LEAD: Final = _set("just directly immediately located placed positioned situated standing sitting resting")
"""Words before a relation that opens the sentence."""
LINK: Final = _set(
    "is are there you will you'll can find see notice sits sit stands stand lies lie rests rest locate look for spot , "
    "please"
)
"""Words between the anchors and the target when the place comes first."""
CLOSING: Final = _set("please for me here , now")
AND: Final = "and"
JOIN: Final = frozenset({AND, ","})
_WHICH: Final = frozenset({"that", "that's", "which"})
_QUESTION: Final = re.compile(r"(please )?((can|could|would|will) you|where('s| is| can)) ", re.IGNORECASE)

_LETTERS: Final = r"[^\W_]+(?:['-][^\W_]+)*"
_SENTENCE: Final = re.compile(rf"{_LETTERS}(?:,? {_LETTERS})*[.!?]?")
_WORD: Final = re.compile(rf"{_LETTERS}|,")


@dataclass(frozen=True)
class _Part:
    """A phrase of the sentence and what it is."""

    what: str  # noun, plural, colour, relation, holding, with, article, word
    text: str  # a noun's label, a colour's name, else the phrase
    keys: frozenset[str] = frozenset()  # predicates it says; empty: a relation that none has


class Vocabulary:
    """The phrases of the grammar with the names of things."""

    def __init__(self, labels: Iterable[str] = ()) -> None:
        """`labels`: classes besides those the project's own sources have."""
        self.phrases: dict[tuple[str, ...], _Part] = {}
        for word in OPENING | MIDDLE | LEAD | LINK | CLOSING | {AND}:
            self._add(word, _Part("word", word))
        for word in ARTICLES:
            self._add(word, _Part("article", word))
        for phrase in WITH:
            self._add(phrase, _Part("with", phrase))
        for phrase, key in HOLDING.items():
            self._add(phrase, _Part("holding", phrase, frozenset({key})))
        for phrase, keys in _relation_phrases().items():
            self._add(phrase, _Part("relation", phrase, keys))
        for label in sorted({*GOAL_LABELS, *PROCTHOR_LABELS.values(), *_HOUSEHOLD, *labels}):
            self.name(label)
        # after the labels: "orange" is a colour unless a query is about the fruit
        for color in (*PALETTE, "grey", "beige", "silver", "gold", "golden", "cyan", "turquoise", "violet", "tan"):
            self._add(color, _Part("colour", "gray" if color == "grey" else color))

    def name(self, label: str) -> None:
        """Adds a class of things; its name goes before any other reading of the same words."""
        words = _words(label)
        if words:
            self.phrases.setdefault(_words(plural(" ".join(words))), _Part("plural", label))
            self.phrases[words] = _Part("noun", label)

    def with_nouns(self, nouns: Iterable[Noun]) -> "Vocabulary":
        """This vocabulary, with the names of a query; itself where it knows them all."""
        wanted = {noun for noun in nouns if self.phrases.get(_words(noun.label)) != _Part("noun", noun.label)}
        colors = {noun.color for noun in nouns if noun.color and _words(noun.color) not in self.phrases}
        if not wanted and not colors:
            return self
        wider = Vocabulary.__new__(Vocabulary)
        wider.phrases = dict(self.phrases)
        for color in sorted(colors):
            wider._add(color, _Part("colour", color))
        for noun in sorted(wanted):
            wider.name(noun.label)
        return wider

    def _add(self, phrase: str, part: _Part) -> None:
        self.phrases[_words(phrase)] = part

    def parts(self, sentence: str) -> list[_Part] | None:
        """The sentence as phrases, the longest first at each place; None when a word is in none of them."""
        words = _words(sentence)
        longest = max(len(phrase) for phrase in self.phrases)
        found: list[_Part] = []
        at = 0
        while at < len(words):
            for length in range(min(longest, len(words) - at), 0, -1):
                part = self.phrases.get(words[at : at + length])
                if part is not None:
                    found.append(part)
                    at += length
                    break
            else:
                return None
        return found


_HOUSEHOLD: Final = _set(
    "apple ball basket bench book bottle bowl box cabinet curtain cushion desk door dresser lamp mirror mug nightstand "
    "pillow plant rug sink shelf stove toilet bathtub shower towel vase wall window floor ceiling room person cat dog "
    "television computer laptop keyboard monitor couch carpet fireplace radiator stairs"
)
"""Further common things, so that a rewrite that names one is rejected as naming a thing."""


def _relation_phrases() -> dict[str, frozenset[str]]:
    """Every relation a sentence may state, and the predicates it says."""
    says: dict[str, set[str]] = {phrase: set() for phrase in UNSAID}
    for words in SYNONYMS.values():
        for phrase in words:
            says.setdefault(phrase, set())
    for key, predicate in PREDICATES.items():
        # of several relations each may be narrower than the predicate: "touching" says more than "next to"
        synonyms = SYNONYMS[predicate.relations[0]] if len(predicate.relations) == 1 and not predicate.inverse else ()
        for phrase in (*predicate.words, *synonyms, *PARAPHRASES.get(key, ())):
            says.setdefault(phrase, set()).add(key)
    return {phrase: frozenset(keys) for phrase, keys in says.items()}


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.lower()))


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
    words = _words(sentence)
    if not _SENTENCE.fullmatch(sentence) or (sentence.endswith("?") and not _QUESTION.match(sentence)):
        return "form"
    if len(words) > MAX_WORDS:
        return "too long"
    if NEGATIONS & set(words) or any(word.endswith("n't") for word in words):
        return "negation"
    parts = vocabulary.with_nouns(meaning.nouns).parts(sentence)
    if parts is None:
        return "unknown word"
    if any(f" {' '.join(_words(phrase))} " in f" {' '.join(words)} " for phrase in held_out):
        return "held-out wording"
    return _content(parts, meaning) or _form(parts, meaning, target_first)


def _content(parts: Sequence[_Part], meaning: Meaning) -> str:
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


def _form(parts: Sequence[_Part], meaning: Meaning, target_first: bool) -> str:
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

    def __init__(self, parts: Sequence[_Part]) -> None:
        self.parts, self.at = parts, 0

    @property
    def done(self) -> bool:
        return self.at == len(self.parts)

    def take(self, what: str) -> _Part | None:
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
    if row.skip(_WHICH):
        row.skip(MIDDLE)
        claims = _claims(row)
        if claims:
            return _Thing(noun, tuple(claims))
    row.at = start
    return _Thing(noun)


def _keys(part: _Part | None, *, inverse: bool) -> frozenset[str]:
    """The predicates a phrase may say after "with ..." (inverse) or before its anchor."""
    keys = frozenset() if part is None else part.keys
    return frozenset(key for key in keys if PREDICATES[key].inverse == inverse)
