"""The closed list of words that a rewrite may use, and what each phrase says (scene/rewrite_grammar.py reads the row).

What is listed here decides what is kept: a wording that models like and that cannot mislead may be added to
PARAPHRASES or to the lists of plain words; a word that also stands for a thing, a place or a direction may not.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from scene.datasets.procthor_labels import LABELS as PROCTHOR_LABELS
from scene.english import plural
from scene.palette import GOAL_LABELS, PALETTE
from scene.query import PREDICATES, Noun
from scene.relations import SYNONYMS

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
    "is are there you will you'll can find see notice sits stands lies rests locate look for spot , please"
)
"""Words between the anchors and the target when the place comes first."""
CLOSING: Final = _set("please for me here , now")
AND: Final = "and"
JOIN: Final = frozenset({AND, ","})
WHICH: Final = frozenset({"that", "that's", "which"})
UNKNOWN: Final = "unknown"

LETTERS: Final = r"[^\W_]+(?:['-][^\W_]+)*"
_WORD: Final = re.compile(rf"{LETTERS}|,")


@dataclass(frozen=True)
class Part:
    """A phrase of the sentence and what it is."""

    what: str  # noun, plural, colour, relation, holding, with, article, word; UNKNOWN
    text: str  # a noun's label, a colour's name, else the phrase
    keys: frozenset[str] = frozenset()  # predicates it says; empty: a relation that none has


class Vocabulary:
    """The phrases of the grammar with the names of things."""

    def __init__(self, labels: Iterable[str] = ()) -> None:
        """`labels`: classes besides those the project's own sources have."""
        self.phrases: dict[tuple[str, ...], Part] = {}
        for word in OPENING | MIDDLE | LEAD | LINK | CLOSING | {AND}:
            self._add(word, Part("word", word))
        for word in ARTICLES:
            self._add(word, Part("article", word))
        for phrase in WITH:
            self._add(phrase, Part("with", phrase))
        for phrase, key in HOLDING.items():
            self._add(phrase, Part("holding", phrase, frozenset({key})))
        for phrase, keys in _relation_phrases().items():
            self._add(phrase, Part("relation", phrase, keys))
        for label in sorted({*GOAL_LABELS, *PROCTHOR_LABELS.values(), *_HOUSEHOLD, *labels}):
            self.name(label)
        # after the labels: "orange" is a colour unless a query is about the fruit
        for color in (*PALETTE, "grey", "beige", "silver", "gold", "golden", "cyan", "turquoise", "violet", "tan"):
            self._add(color, Part("colour", "gray" if color == "grey" else color))

    def name(self, label: str) -> None:
        """Adds a class of things; its name goes before any other reading of the same words."""
        words = words_of(label)
        if words:
            self.phrases.setdefault(words_of(plural(" ".join(words))), Part("plural", label))
            self.phrases[words] = Part("noun", label)

    def with_nouns(self, nouns: Iterable[Noun]) -> "Vocabulary":
        """This vocabulary, with the names of a query; itself where it knows them all."""
        wanted = {noun for noun in nouns if self.phrases.get(words_of(noun.label)) != Part("noun", noun.label)}
        colors = {noun.color for noun in nouns if noun.color and words_of(noun.color) not in self.phrases}
        if not wanted and not colors:
            return self
        wider = Vocabulary.__new__(Vocabulary)
        wider.phrases = dict(self.phrases)
        for color in sorted(colors):
            wider._add(color, Part("colour", color))
        for noun in sorted(wanted):
            wider.name(noun.label)
        return wider

    def _add(self, phrase: str, part: Part) -> None:
        self.phrases[words_of(phrase)] = part

    def parts(self, sentence: str) -> list[Part] | None:
        """The sentence as phrases, the longest first at each place; None when a word is in none of them."""
        found = self.read(sentence)
        return None if any(part.what == UNKNOWN for part in found) else found

    def read(self, sentence: str) -> list[Part]:
        """As `parts`; a word in no phrase is a part of its own, UNKNOWN."""
        words = words_of(sentence)
        longest = max(len(phrase) for phrase in self.phrases)
        found: list[Part] = []
        at = 0
        while at < len(words):
            for length in range(min(longest, len(words) - at), 0, -1):
                part = self.phrases.get(words[at : at + length])
                if part is not None:
                    found.append(part)
                    at += length
                    break
            else:
                found.append(Part(UNKNOWN, words[at]))
                at += 1
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
        alone = len(predicate.relations) == 1 and not predicate.inverse
        # nor does a word that says another predicate stand for this one: "in" says less than "set into"
        others = {word for other, said in PREDICATES.items() if other != key for word in said.words}
        synonyms = set(SYNONYMS[predicate.relations[0]]) - others if alone else set()
        for phrase in (*predicate.words, *synonyms, *PARAPHRASES.get(key, ())):
            says.setdefault(phrase, set()).add(key)
    return {phrase: frozenset(keys) for phrase, keys in says.items()}


def words_of(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.lower()))
