"""Sentence patterns of referrals: from a query to words.

A pattern has slots for the noun phrase and for the tail, which is all that is said of the thing: "next to the bed and
behind the sofa". Number and article agree with the class ("some keys", "they are the keys"). Patterns of one-word names
are BARE; those of relations TAIL; a tail that begins with "with" cannot come first (WITH); of the closest there is only
one, so nothing indefinite is said of it (SUPERLATIVE); SEVERAL speak of more than one thing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final

from scene.english import is_countable, is_plural, listed, number, plural, with_article
from scene.query import PREDICATES, Clause, Noun, Query


@dataclass(frozen=True)
class Pattern:
    """One way to put a meaning."""

    id: str
    text: str


def _patterns(**texts: str) -> tuple[Pattern, ...]:
    return tuple(Pattern(name.replace("_", "-"), text) for name, text in texts.items())


BARE: Final = _patterns(
    plain="the {np}",
    request="find the {np}",
    it="{it_is} the {np}",
    look="look for the {np}",
    where="where {is} the {np}",
    show="show me the {np}",
)
TAIL: Final = _patterns(
    plain="the {np} {tail}",
    request="find the {np} {tail}",
    that="the {np} that {is} {tail}",
    it="{it_is} the {np} {tail}",
    it_a="{it_is} {a_np} {tail}",
    there="there {is} {a_np} {tail}",
    tail="{tail} {is} the {np}",
    tail_there="{tail} there {is} {a_np}",
    look="look for the {np} that {is} {tail}",
    where="where {is} the {np} {tail}",
    show="show me the {np} {tail}",
    tail_see="{tail} you can see {a_np}",
)
CHAIN: Final = tuple(
    pattern for pattern in TAIL if pattern.id not in ("that", "tail", "look")
)  # one "that is" is enough
WITH: Final = tuple(
    pattern for pattern in TAIL if pattern.id not in ("that", "tail", "tail-there", "tail-see", "look")
) + (Pattern("look", "look for the {np} {tail}"),)
SUPERLATIVE: Final = tuple(p for p in TAIL if p.id not in ("it-a", "there", "tail-there", "tail-see"))
SEVERAL: Final = _patterns(
    all="all the {nps}{tail}",
    request_all="find all the {nps}{tail}",
    number="the {n} {nps}{tail}",
    request_number="find the {n} {nps}{tail}",
    every="every {np}{tail}",
    they="they are the {n} {nps}{tail}",
    there_are="there are {n} {nps}{tail}",
    show_all="show me all the {nps}{tail}",
)


@dataclass(frozen=True)
class Wording:
    """A sentence, and which pattern and words for relations it uses."""

    text: str
    pattern: str
    words: tuple[str, ...]


def patterns_of(query: Query, count: int = 1) -> tuple[Pattern, ...]:
    """The patterns that suit a query about `count` things; none where the class cannot be counted."""
    if count != 1:
        return SEVERAL if is_countable(query.noun.label) else ()
    if not query.predicate:
        return BARE
    kind = query.kind
    if kind == "chain":
        return CHAIN if not PREDICATES[query.predicate].inverse else WITH
    if kind == "superlative":
        return SUPERLATIVE
    return WITH if PREDICATES[query.predicate].inverse else TAIL


def predicates_of(query: Query) -> tuple[str, ...]:
    """Keys of the relations it says, each once, in order."""
    return tuple(dict.fromkeys(clause.predicate for _, clause in query.claims()))


def say(query: Query, pattern: Pattern, words: Mapping[str, str], count: int = 1) -> str:
    """The sentence.

    Args:
        words: for each of `predicates_of(query)` the wording to use.
    """
    noun = query.noun
    said = tail(query, words)
    if count != 1:
        slots = {"np": str(noun), "nps": several(noun), "n": number(count), "tail": f" {said}" if said else ""}
        return pattern.text.format(**slots)
    be = "are" if is_plural(noun.label) else "is"
    return pattern.text.format(
        np=noun, a_np=with_article(noun), tail=said, it_is="they are" if be == "are" else "it is", **{"is": be}
    )


def tail(query: Query, words: Mapping[str, str]) -> str:
    """All that is said of the thing besides its noun; clauses of one relation share its word."""
    groups: dict[str, list[Clause]] = {}
    for clause in query.clauses:
        groups.setdefault(clause.predicate, []).append(clause)
    return listed([_said(key, clauses, query.noun, words) for key, clauses in groups.items()]) if groups else ""


def _said(key: str, clauses: list[Clause], noun: Noun, words: Mapping[str, str]) -> str:
    word = words[key]
    if key == "between":
        (a, b) = clauses[0].anchors
        if a == b:
            return f"{word} the two {several(a)}" if isinstance(a, Noun) else f"{word} {called(a, words)}"
        return f"{word} {called(a, words)} and {called(b, words)}"
    if key == "aligned":
        anchor = clauses[0].anchors[0]
        assert isinstance(anchor, Noun), "rows are of one class"
        return f"{word} the other {several(anchor)}"
    anchors = listed([called(clause.anchors[0], words) for clause in clauses])
    return f"with {anchors} {word}" if PREDICATES[key].inverse else f"{word} {anchors}"


def called(anchor: Noun | Query, words: Mapping[str, str]) -> str:
    """ "the bed"; "the table that is next to the bed"."""
    if isinstance(anchor, Noun):
        return f"the {anchor}"
    be = "" if PREDICATES[anchor.predicate].inverse else "that are " if is_plural(anchor.noun.label) else "that is "
    return f"the {anchor.noun} {be}{tail(anchor, words)}"


def several(noun: Noun) -> str:
    """ "red chairs"."""
    return f"{noun.color} {plural(noun.label)}" if noun.color else plural(noun.label)


def phrasings(query: Query, count: int = 1) -> Iterator[Wording]:
    """Every sentence there is for a query."""
    keys = predicates_of(query)
    for chosen in product(*(PREDICATES[key].words for key in keys)):
        words = dict(zip(keys, chosen))
        for pattern in patterns_of(query, count):
            yield Wording(say(query, pattern, words, count), pattern.id, chosen)


def wordings(query: Query, count: int = 1) -> list[str]:
    """The texts of every sentence there is for a query about `count` things."""
    return [wording.text for wording in phrasings(query, count)]
