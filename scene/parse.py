"""From a sentence back to what it means: a tolerant parser of referrals, for a baseline that looks things up.

It inverts scene/patterns.py and reads beyond it. A sentence becomes a row of chunks (things, relations, joints); words
that it does not know are skipped, and what it cannot use is left out, at a price. Where a sentence can be read in two
ways ("the lamp next to the bed by the window") it gives both. It knows nothing of the scene but the names of its
classes, and never sees the query a sentence was written from.

The row is read so:

    target first    thing claim*                    "the chair next to the bed and behind the sofa"
    place first     claim+ thing                    "next to the bed there is a chair"
    claim           relation thing (JOIN thing)*    each so related; of between, two
                    with thing+ inverse-relation    "with a mug on it"
                    holding thing                   "supporting a mug"
    thing           name [which claim]              the claim is about this thing; or, second reading, about the target

Different from scene/rewrite_grammar.py, which has the same words: that one accepts only what it fully understands, and
says whether it means a given query; this one guesses a query.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice, product
from typing import Any, Final

from scene.class_names import OTHER_NAMES, class_of
from scene.english import NUMBERS
from scene.query import PREDICATES, SURFACES, Clause, Noun, Query
from scene.rewrite_words import LINK, NEGATIONS, UNKNOWN, WHICH, Part, Vocabulary, words_of

LOOSE: Final[dict[str, str]] = {
    **dict.fromkeys(("closer to", "nearer to", "right by"), "closest"),
    **dict.fromkeys(("far from", "far away from", "away from", "farther from", "further from"), "farthest"),
    **dict.fromkeys(("against", "along", "around", "at", "up against", "alongside", "adjoining"), "near"),
    **dict.fromkeys(("opposite", "opposite to", "across from", "facing"), "front"),
    **dict.fromkeys(("to the left side of", "left side of", "left to"), "left"),
    **dict.fromkeys(("to the right side of", "right side of", "right to"), "right"),
    **dict.fromkeys(("in back of", "at the back of"), "behind"),
    **dict.fromkeys(("hanging above", "hanging over", "mounted above"), "above"),
    **dict.fromkeys(("sitting on", "standing on", "lying on", "resting on"), "on"),
    **dict.fromkeys(("attached to", "hanging from", "leaning on", "leaning against"), "hanging"),
}
"""What people say, and the predicate that comes nearest to it; not exact, so it costs something."""
PLACES: Final = frozenset({"room", "corner", "side", "middle", "center", "centre", "end", "area"})
"""Named like things, but not things of a scene: a relation to one says nothing here."""
ANYTHING: Final = frozenset({"one", "ones", "object", "thing", "item", "objects", "things"})
"""A thing of any class."""
ALL: Final = frozenset({"all", "every", "each", "both", "these", "those", "they", *NUMBERS[2:]})
"""Words that announce several things."""
MOST_READINGS: Final = 12
_FUNCTION_WORDS: Final = frozenset(
    ("of", "in", "on", "at", "a", "an", "the", "to", "from", "with", "as", "and", "it", "its", "other", "your", "you")
)
_STOPS: Final = re.compile(r"[.;:!?]+(?=\s|$)")


@dataclass(frozen=True)
class Reading:
    """One way to understand a sentence."""

    query: Query
    penalty: float  # 0 = every word understood and used
    several: bool = False  # it speaks of more than one thing
    skipped: tuple[str, ...] = ()  # words it could do nothing with


def parse(sentence: str, labels: Iterable[str] = ()) -> list[Query]:
    """What a sentence may mean, most likely first; empty when no thing is named in it.

    Args:
        labels: class names of the scene, beside those of the project's own sources.
    """
    return [reading.query for reading in readings(sentence, labels)]


def readings(sentence: str, labels: Iterable[str] = ()) -> list[Reading]:
    """As `parse`, with how much of the sentence each reading leaves aside; at most MOST_READINGS."""
    known = frozenset(labels)
    chunks, skipped = _chunks(_vocabulary(known).read(_STOPS.sub(" , ", sentence)), known)
    if not any(chunk.what == "thing" for chunk in chunks):
        return []
    best: dict[Query, Reading] = {}
    for near in (True, False):
        said, unused = _Reader(chunks, near).read()
        price = len(skipped) + 2.0 * unused + said.price() + (0.0 if near else 0.25)
        words = tuple(skipped)
        for query, more in islice(_queries(said, known), MOST_READINGS):
            reading = Reading(query, price + more, said.several, words)
            if query not in best or best[query].penalty > reading.penalty:
                best[query] = reading
    return sorted(best.values(), key=lambda reading: reading.penalty)[:MOST_READINGS]  # stable: nearer readings first


@lru_cache(maxsize=64)
def _vocabulary(labels: frozenset[str]) -> Vocabulary:
    """The words of rewrites, what people say besides, and the scene's class names."""
    vocabulary = Vocabulary(labels)
    for name in sorted(frozenset[str]().union(*OTHER_NAMES) - labels):
        if words_of(name) not in vocabulary.phrases:
            vocabulary.name(name)
    for phrase, key in LOOSE.items():
        words = tuple(phrase.split())
        known = vocabulary.phrases.get(words)
        if known is None or (known.what == "relation" and not known.keys):
            vocabulary.phrases[words] = Part("relation", phrase, frozenset({key}))
    return vocabulary


# --- chunks ---


@dataclass(frozen=True)
class _Chunk:
    """A piece of the sentence: thing, relation, holding, with, which, join, link."""

    what: str
    noun: Noun = Noun("")
    keys: frozenset[str] = frozenset()
    several: bool = False
    price: float = 0.0


def _chunks(parts: Sequence[Part], labels: frozenset[str]) -> tuple[list[_Chunk], list[str]]:
    """The row as chunks, and the words that were skipped."""
    chunks: list[_Chunk] = []
    skipped: list[str] = []
    unknown: list[str] = []  # since the last article or chunk
    color, article, several = "", False, False

    def end_name() -> None:
        """A name without a known noun: "the gizmo", "the red one"."""
        nonlocal color, article, several
        word = unknown[-1] if unknown else ""
        if article and word and word not in _FUNCTION_WORDS:
            price = 0.0 if word in ANYTHING else 1.0
            label = "" if word in ANYTHING else word
            chunks.append(_Chunk("thing", Noun(label, color), several=several, price=price))
            unknown.pop()
        elif color and (last := _named_last(chunks)) is not None:  # "the chair is red"
            chunks[last:] = [replace(chunks[last], noun=Noun(chunks[last].noun.label, color))]
        elif color:
            skipped.append(color)
        skipped.extend(word for word in unknown if word not in _FUNCTION_WORDS)
        unknown.clear()
        color, article, several = "", False, False

    for index, part in enumerate(parts):
        what, text = part.what, part.text
        if what == "colour" and text in labels and not _noun_follows(parts, index):
            what = "noun"  # "the orange"
        if what == UNKNOWN and text in ALL:
            several = article = True
        elif what == UNKNOWN:
            unknown.append(text)
        elif what == "article":
            end_name()
            article = True
        elif what == "colour":
            color = color or text
        elif what in ("noun", "plural"):
            before = chunks[-1] if chunks else None
            compound = before is not None and before.what == "thing" and not (article or color or unknown)
            if compound and before is not None and index and parts[index - 1].what in ("noun", "plural"):
                skipped.append(before.noun.label)  # "computer desk": the last is the head
                chunks[-1] = replace(before, noun=Noun(text, before.noun.color))
            else:
                several = several or what == "plural"
                chunks.append(_Chunk("thing", Noun(text, color), several=several))
            skipped.extend(word for word in unknown if word not in _FUNCTION_WORDS)
            unknown.clear()
            color, article, several = "", False, False
        else:
            if what == "word" and text not in WHICH and text not in LINK and text not in ("and", ","):
                if text == "they're":
                    several = True
                continue
            kept = several and what == "word"
            end_name()
            several = kept
            if what == "relation" and part.keys:
                chunks.append(_Chunk(what, keys=part.keys, price=0.5 * any(LOOSE.get(text) == k for k in part.keys)))
            elif what == "relation":
                skipped.append(text)
            elif what == "holding":
                chunks.append(_Chunk(what, keys=part.keys))
            elif what == "with":
                chunks.append(_Chunk(what))
            elif text in NEGATIONS:
                skipped.append(text)
            elif text in WHICH:
                chunks.append(_Chunk("which"))
            elif text in ("and", ","):
                chunks.append(_Chunk("join"))
            elif text in LINK:
                chunks.append(_Chunk("link"))
    end_name()
    return chunks, skipped


def _named_last(chunks: Sequence[_Chunk]) -> int | None:
    """Where the thing without a colour stands that "is" or "which is" would speak of at the end of a row."""
    for index in reversed(range(len(chunks))):
        if chunks[index].what not in ("link", "which"):
            return index if chunks[index].what == "thing" and not chunks[index].noun.color else None
    return None


def _noun_follows(parts: Sequence[Part], index: int) -> bool:
    """Whether a name goes on after a colour."""
    for part in parts[index + 1 :]:
        if part.what != UNKNOWN:
            return part.what in ("noun", "plural", "colour")
    return False


# --- claims ---


@dataclass
class _Said:
    """A thing and what is said of it."""

    noun: Noun
    several: bool = False
    cost: float = 0.0
    claims: "list[tuple[frozenset[str], tuple[_Said, ...], float]]" = field(default_factory=list)

    def price(self) -> float:
        """What its loose words and unknown names cost in all."""
        nested = sum(thing.price() for _, things, _ in self.claims for thing in things)
        return self.cost + nested + sum(price for *_, price in self.claims)


class _Reader:
    """Chunks read from the front.

    Args:
        near: what follows an anchor is said of the anchor; otherwise of the target.
    """

    def __init__(self, chunks: Sequence[_Chunk], near: bool) -> None:
        self.chunks, self.near, self.at = chunks, near, 0
        self.unused = 0

    def next(self, *what: str) -> bool:
        return self.at < len(self.chunks) and self.chunks[self.at].what in what

    def take(self) -> _Chunk:
        self.at += 1
        return self.chunks[self.at - 1]

    def skip(self, *what: str) -> None:
        while self.next(*what):
            self.at += 1

    def read(self) -> tuple[_Said, int]:
        """The target with all its claims, and how many chunks were of no use."""
        self.skip("link", "join", "which")
        target: _Said | None = None
        claims: list[tuple[frozenset[str], tuple[_Said, ...], float]] = []
        if self.next("thing"):
            target = self.name()
        while self.at < len(self.chunks):
            linked = self.next("link")
            self.skip("link", "join", "which")
            if self.at == len(self.chunks):
                break
            if self.next("thing") and target is None and (linked or not claims):
                target = self.name()
                continue
            found = self.claim(inverted=target is None)
            if found:
                claims += found
            else:
                self.unused += self.take().what in ("thing", "relation", "holding", "with")
        if target is None:
            keys, things, price = claims[-1]
            target = things[-1]  # "near the bed, a lamp"
            claims = claims[:-1] if len(things) == 1 else [*claims[:-1], (keys - {"between"}, things[:-1], price)]
        target.claims = claims + target.claims
        return target, self.unused

    def name(self) -> _Said:
        chunk = self.take()
        return _Said(chunk.noun, chunk.several, chunk.price)

    def claim(self, *, inverted: bool = False, inner: bool = False) -> list[Any]:
        """What is said at this place; nothing, and no chunk taken, when it is no claim."""
        start = self.at
        if self.next("with"):
            self.take()
            things = self.things(inner=True)
            self.skip("link", "which")
            keys = frozenset[str]()
            if self.next("relation"):
                keys = frozenset(key for key in self.chunks[self.at].keys if PREDICATES[key].inverse)
                self.at += bool(keys)
            price = 0.0 if keys else 1.0
            if things:
                return [(keys or frozenset({"carrying", "containing"}), (thing,), price) for thing in things]
        elif self.next("holding"):
            keys = self.take().keys
            if things := self.things(inner=True):
                return [(keys, (thing,), 0.0) for thing in things]
        elif self.next("relation"):
            chunk = self.take()
            keys = frozenset(key for key in chunk.keys if not PREDICATES[key].inverse)
            things = self.things(inner=inner, only_two="between" in keys, inverted=inverted) if keys else []
            if things and "between" in keys:
                if len(things) == 1 and things[0].several:
                    things = [things[0], things[0]]
                if len(things) == 2:
                    return [(frozenset({"between"}), tuple(things), chunk.price)]
                return [(frozenset({"near"}), (things[0],), chunk.price + 1.0)]
            if things:
                return [(keys, (thing,), chunk.price) for thing in things]
        self.at = start
        return []

    def things(self, *, inner: bool, only_two: bool = False, inverted: bool = False) -> list[_Said]:
        """The anchors at this place; joined ones too, unless they are said of another relation."""
        found: list[_Said] = []
        while self.next("thing"):
            found.append(self.thing(inner))
            if only_two and len(found) == 2:
                break
            start = self.at
            self.skip("join")
            joined = self.at > start
            if not (joined and self.next("thing")):
                self.at = start
                break
        return found

    def thing(self, inner: bool) -> _Said:
        """An anchor and, once, what is said of it."""
        said = self.name()
        if inner:
            return said
        start = self.at
        which = self.next("which")
        self.skip("which")
        self.skip("link")
        nested = self.next("with", "holding") or self.next("relation") and (which or self.at == start)
        claims = self.claim(inner=True) if nested and self.near else []
        if claims:
            said.claims += claims
        else:
            self.at = start
        return said


# --- queries ---


def _queries(said: _Said, labels: frozenset[str]) -> Iterable[tuple[Query, float]]:
    """The queries a parsed sentence may stand for, each with what it leaves out."""
    options = [list(_clauses(claim, said.noun, labels)) for claim in said.claims]
    lost = 2.0 * sum(not option for option in options)
    options = [option for option in options if option]
    for label in class_of(said.noun.label, labels):
        noun = Noun(label, said.noun.color)
        for clauses in product(*options):
            extreme = [clause for clause in clauses if PREDICATES[clause.predicate].kind == "superlative"]
            kept = extreme[:1] if extreme else list(dict.fromkeys(clauses))
            more = lost + 2.0 * (len(clauses) - len(kept) if extreme else 0)
            if kept:
                yield Query(noun, kept[0].predicate, kept[0].anchors, tuple(kept[1:])), more
            else:
                yield Query(noun), more


def _clauses(
    claim: tuple[frozenset[str], tuple[_Said, ...], float], subject: Noun, labels: frozenset[str]
) -> Iterable[Clause]:
    """The clauses a claim may stand for; none where its anchor is no thing."""
    keys, things, _ = claim
    if any(thing.noun.label in PLACES - labels for thing in things):
        return
    surface = things[0].noun.label in SURFACES and things[0].noun.label not in labels
    fitting = [key for key in sorted(keys) if PREDICATES[key].surface <= surface]
    contact = [key for key in fitting if PREDICATES[key].surface]
    fitting = contact or fitting if surface else fitting
    said = [key for key in fitting if PREDICATES[key].is_said_of(subject.label)] or fitting
    ends = [list(_anchors(thing, labels)) for thing in things]
    for key in said:
        for anchors in product(*ends):
            yield Clause(key, anchors)


def _anchors(thing: _Said, labels: frozenset[str]) -> Iterable[Noun | Query]:
    if thing.claims:
        yield from (query for query, _ in _queries(thing, labels))
    else:
        yield from (Noun(label, thing.noun.color) for label in class_of(thing.noun.label, labels))
