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

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, product
from typing import Any, Final

from scene.chunks import Chunk, chunks
from scene.class_names import class_of
from scene.query import PREDICATES, SURFACES, Clause, Noun, Query

PLACES: Final = frozenset({"room", "corner", "side", "middle", "center", "centre", "end", "area"})
"""Named like things, but not things of a scene: a relation to one says nothing here."""
MOST_READINGS: Final = 12


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
    row, skipped = chunks(sentence, known)
    if not any(chunk.what == "thing" for chunk in row):
        return []
    best: dict[Query, Reading] = {}
    for near in (True, False):
        said, unused = _Reader(row, near).read()
        price = len(skipped) + 2.0 * unused + said.price() + (0.0 if near else 0.25)
        words = tuple(skipped)
        for query, more in islice(_queries(said, known), MOST_READINGS):
            reading = Reading(query, price + more, said.several, words)
            if query not in best or best[query].penalty > reading.penalty:
                best[query] = reading
    return sorted(best.values(), key=lambda reading: reading.penalty)[:MOST_READINGS]  # stable: nearer readings first


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

    def __init__(self, row: Sequence[Chunk], near: bool) -> None:
        self.chunks, self.near, self.at = row, near, 0
        self.unused = 0

    def next(self, *what: str) -> bool:
        return self.at < len(self.chunks) and self.chunks[self.at].what in what

    def take(self) -> Chunk:
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
            if self.next("not"):  # what does not hold is no clause of a query: left out
                self.take()
                self.skip("link", "which")
                self.claim()
                self.unused += 1
                continue
            found = self.claim()
            if found:
                claims += found
            else:
                self.unused += self.take().what in ("thing", "relation", "holding", "with")
        if target is None and claims:
            keys, things, price = claims[-1]
            target = things[-1]  # "near the bed, a lamp"
            claims = claims[:-1] if len(things) == 1 else [*claims[:-1], (keys - {"between"}, things[:-1], price)]
        elif target is None:  # all of it was denied: "not the bed on the left"
            chunk = next(chunk for chunk in self.chunks if chunk.what == "thing")
            target = _Said(chunk.noun, chunk.several, chunk.price)
        target.claims = claims + target.claims
        return target, self.unused

    def name(self) -> _Said:
        chunk = self.take()
        return _Said(chunk.noun, chunk.several, chunk.price)

    def claim(self, *, inner: bool = False) -> list[Any]:
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
            things = self.things(inner=inner, only_two="between" in keys) if keys else []
            if things and "between" in keys:
                if len(things) == 1 and things[0].several:
                    things = [things[0], replace(things[0])]  # "between the two windows"
                if len(things) == 2:
                    return [(frozenset({"between"}), tuple(things), chunk.price)]
                return [(frozenset({"near"}), (things[0],), chunk.price + 1.0)]
            if things:
                return [(keys, (thing,), chunk.price) for thing in things]
        self.at = start
        return []

    def things(self, *, inner: bool, only_two: bool = False) -> list[_Said]:
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
    if thing.claims:  # where none of them says anything, the thing alone
        yield from (query if query.predicate else query.noun for query, _ in _queries(thing, labels))
    else:
        yield from (Noun(label, thing.noun.color) for label in class_of(thing.noun.label, labels))
