"""A sentence as a row of chunks: things with their colours, relations, joints; what scene/parse.py reads.

Words that are known are those of rewrites (scene/rewrite_words.py), what people say besides (LOOSE), and the names of
the scene's classes. All other words are skipped and kept in a list, so that a reader can say what it left aside; the
last unknown word after an article is taken for the name of a class that nobody knows ("the gizmo").
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from scene.class_names import OTHER_NAMES
from scene.english import NUMBERS
from scene.query import Noun
from scene.rewrite_words import AND, LINK, NEGATIONS, UNKNOWN, WHICH, Part, Vocabulary, words_of

LOOSE: Final[dict[str, str]] = {
    **dict.fromkeys(("closer to", "nearer to", "right by"), "closest"),
    **dict.fromkeys(("far from", "far away from", "away from", "farther from", "further from"), "farthest"),
    **dict.fromkeys(("against", "along", "around", "at", "up against", "alongside", "adjoining"), "near"),
    **dict.fromkeys(("opposite", "opposite to", "across from", "facing"), "front"),
    **dict.fromkeys(("left side of", "left to"), "left"),
    **dict.fromkeys(("right side of", "right to"), "right"),
    **dict.fromkeys(("in back of", "at the back of"), "behind"),
    **dict.fromkeys(("hanging above", "hanging over", "mounted above"), "above"),
    **dict.fromkeys(("sitting on", "standing on", "lying on", "resting on"), "on"),
    **dict.fromkeys(("attached to", "hanging from", "leaning on", "leaning against"), "hanging"),
}
"""What people say, and the predicate that comes nearest to it; not exact, so it costs something."""
LOOSE_PRICE: Final = 0.5
ANYTHING: Final = frozenset({"one", "ones", "object", "thing", "item", "objects", "things"})
"""A thing of any class."""
ALL: Final = frozenset({"all", "every", "each", "both", "these", "those", "they", *NUMBERS[2:]})
"""Words that announce several things."""
_FUNCTION_WORDS: Final = frozenset(
    ("of", "in", "on", "at", "a", "an", "the", "to", "from", "with", "as", "and", "it", "its", "other", "your", "you")
)
_STOPS: Final = re.compile(r"[.;:!?]+(?=\s|$)")


@dataclass(frozen=True)
class Chunk:
    """A piece of a sentence."""

    what: str  # thing, relation, holding, with, which, join, link, not
    noun: Noun = Noun("")  # of a thing; an empty label is any class
    keys: frozenset[str] = frozenset()  # predicates that a relation may say
    several: bool = False  # a thing in the plural
    price: float = 0.0  # of a loose word or an unknown name


def chunks(sentence: str, labels: frozenset[str]) -> tuple[list[Chunk], list[str]]:
    """The row, and the words that were skipped.

    Args:
        labels: class names of the scene; they go before any other meaning of the same words.
    """
    row = _Row()
    parts = vocabulary(labels).read(_STOPS.sub(" , ", sentence))
    for index, part in enumerate(parts):
        if part.what == "colour" and part.text in labels and not _noun_follows(parts, index):
            part = Part("noun", part.text)  # "the orange"
        row.add(part, after_noun=index > 0 and parts[index - 1].what in ("noun", "plural"))
    row.end_name()
    return row.chunks, row.skipped


@lru_cache(maxsize=64)
def vocabulary(labels: frozenset[str]) -> Vocabulary:
    """All known words."""
    known = Vocabulary(labels)
    for name in sorted(frozenset[str]().union(*OTHER_NAMES) - labels):
        if words_of(name) not in known.phrases:
            known.name(name)
    for phrase, key in LOOSE.items():
        words = words_of(phrase)
        part = known.phrases.get(words)
        if part is None or (part.what == "relation" and not part.keys):
            known.phrases[words] = Part("relation", phrase, frozenset({key}))
    return known


class _Row:
    """Chunks as they are found, and the beginning of a name whose noun is still to come."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.skipped: list[str] = []
        self._unknown: list[str] = []  # words since the last article or chunk
        self._color = ""
        self._article = self._several = False

    def add(self, part: Part, *, after_noun: bool) -> None:
        """Takes the next phrase; `after_noun`: it stands directly after a noun."""
        what, text = part.what, part.text
        if what == UNKNOWN and text in ALL:
            self._several = self._article = True
        elif what == UNKNOWN and text in NEGATIONS:
            self._end("join" if text == "but" else "not")
        elif what == UNKNOWN:
            self._unknown.append(text)
        elif what == "article":
            self.end_name()
            self._article = True
        elif what == "colour":
            self._color = self._color or text
        elif what in ("noun", "plural"):
            self._noun(text, what == "plural", after_noun)
        elif what == "word":
            self._word(text)
        elif what == "relation" and part.keys:
            self._end("relation", part.keys, LOOSE_PRICE if LOOSE.get(text) in part.keys else 0.0)
        elif what == "relation":  # one that no predicate has
            self.end_name()
            self.skipped.append(text)
        else:
            self._end(what, part.keys)  # holding, with

    def end_name(self) -> None:
        """No noun follows: an unknown name ("the gizmo", "the red one"), or a colour said of the last thing."""
        word = self._unknown[-1] if self._unknown else ""
        if self._article and word and word not in _FUNCTION_WORDS:
            known = word in ANYTHING
            noun = Noun("" if known else word, self._color)
            self.chunks.append(Chunk("thing", noun, several=self._several, price=0.0 if known else 1.0))
            self._unknown.pop()
        elif self._color and (last := self._bare_thing()) is not None:  # "the chair is red"
            thing = self.chunks[last]
            self.chunks[last:] = [replace(thing, noun=Noun(thing.noun.label, self._color))]
        elif self._color:
            self.skipped.append(self._color)
        self._begin()

    def _begin(self) -> None:
        """Starts afresh; unknown words of the last name are skipped."""
        self.skipped.extend(word for word in self._unknown if word not in _FUNCTION_WORDS)
        self._unknown.clear()
        self._color, self._article, self._several = "", False, False

    def _end(self, what: str, keys: frozenset[str] = frozenset(), price: float = 0.0) -> None:
        self.end_name()
        self.chunks.append(Chunk(what, keys=keys, price=price))

    def _noun(self, label: str, plural: bool, after_noun: bool) -> None:
        if after_noun and self.chunks[-1].what == "thing":  # "computer desk": the last is the head
            before = self.chunks[-1]
            self.skipped.append(before.noun.label)
            self.chunks[-1] = replace(before, noun=Noun(label, before.noun.color), several=plural)
        else:
            self.chunks.append(Chunk("thing", Noun(label, self._color), several=self._several or plural))
        self._begin()

    def _word(self, text: str) -> None:
        """A word of the closed lists; most say nothing. "There are three": the number may come after a link."""
        several = self._several or text == "they're"
        if text in WHICH:
            self._end("which")
        elif text in (AND, ","):
            self._end("join")
        elif text in LINK:
            self._end("link")
        self._several = several

    def _bare_thing(self) -> int | None:
        """Where the thing without a colour stands that "is" or "which is" would speak of at the end of the row."""
        for index in reversed(range(len(self.chunks))):
            if self.chunks[index].what not in ("link", "which"):
                return index if self.chunks[index].what == "thing" and not self.chunks[index].noun.color else None
        return None


def _noun_follows(parts: Sequence[Part], index: int) -> bool:
    """Whether a name goes on after a colour."""
    for part in parts[index + 1 :]:
        if part.what != UNKNOWN:
            return part.what in ("noun", "plural", "colour")
    return False
