"""Questions about a home and their exact answers.

So that a guess from the words alone fails, every "yes" comes with a "no" about the same class in the same form, and the
other answers take turns: numbers, colours and sides are drawn answer first. Situated questions: scene/situated.py.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from scene.english import is_countable, is_plural, number, with_article
from scene.heldout import HELD_OUT_PATTERNS, HELD_OUT_SYNONYMS, REASONS, reasons
from scene.meanings import nothing
from scene.patterns import several as in_plural
from scene.patterns import tail
from scene.query import PREDICATES, SUPERLATIVE_MIN_GAP_M, Noun, Query
from scene.scope import Scope
from scene.situated import balanced, situated
from scene.texts import Question

MAX_COUNT: Final = 8
WHAT_KEYS: Final = ("on", "in", "above", "below", "hanging")

EXISTENCE: Final = {
    "question-is-there": "{is} there {a_np}{tail}?",
    "question-do-you-see": "do you see {a_np}{tail}?",
    "question-see-any": "can you find {a_np}{tail}?",
}
COUNT: Final = {
    "question-how-many": "how many {nps} are {there}{tail}?",
    "question-number": "what is the number of {nps}{tail}?",
    "question-tell-number": "tell me how many {nps} there are{tail}.",
}
COLOR: Final = {
    "question-what-color": "what color {is} the {np}{tail}?",
    "question-which-color": "which color {does} the {np}{tail} have?",
}


def ask(scope: Scope, n: int, rng: np.random.Generator) -> list[Question]:
    """Up to `n` different questions, the five kinds in equal shares where the scope has enough of each."""
    if n <= 0:
        return []
    wanted = -(-n // len(MAKERS))
    pools = {kind: list(make(scope, wanted, rng)) for kind, make in MAKERS.items()}
    order = sorted(
        ((place, turn, question) for turn, pool in enumerate(pools.values()) for place, question in enumerate(pool)),
        key=lambda row: row[:2],
    )
    found: dict[tuple[str, str], Question] = {}
    start = int(rng.integers(len(MAKERS)))
    order.sort(key=lambda row: (row[0], (row[1] + start) % len(MAKERS)))
    for *_, question in order:
        if len(found) >= n:
            break
        found.setdefault((question.situation, question.question), question)
    return list(found.values())


def _pattern(scope: Scope, patterns: dict[str, str], rng: np.random.Generator) -> tuple[str, str]:
    ids = [name for name in patterns if scope.held_out or name not in HELD_OUT_PATTERNS]
    name = ids[int(rng.integers(len(ids)))]
    return name, patterns[name]


def _words(scope: Scope, query: Query, rng: np.random.Generator) -> dict[str, str]:
    words = {}
    for _, clause in query.claims():
        options = [w for w in PREDICATES[clause.predicate].words if scope.held_out or w not in HELD_OUT_SYNONYMS]
        words[clause.predicate] = options[int(rng.integers(len(options)))]
    return words


def _about(
    scope: Scope,
    kind: str,
    query: Query,
    patterns: dict[str, str],
    answers: tuple[str, ...],
    objects: Sequence[int],
    rng: np.random.Generator,
) -> Question:
    """A question that is a pattern filled with a query."""
    name, text = _pattern(scope, patterns, rng)
    words = _words(scope, query, rng)
    said = tail(query, words)
    place = f" {said}" if said else " in this room" if scope.room >= 0 and kind != "attribute" else ""
    plural = is_plural(query.noun.label)
    slots = {
        "is": "are" if plural else "is",
        "does": "do" if plural else "does",
        "np": str(query.noun),
        "a_np": f"any {query.noun}" if plural else with_article(query.noun).replace("some ", "any ", 1),
        "nps": in_plural(query.noun),
        "there": "" if said else "there",
        "tail": place,
    }
    sentence = " ".join(text.format(**slots).split()).replace(" ?", "?")
    held = reasons(query, name, words.values())
    return Question(
        scope.scene.id,
        sentence,
        answers,
        kind,
        objects=tuple(i for i in objects if i >= 0),
        room=scope.room,
        view_dependent=query.view_dependent,
        query=query.to_json(),
        pattern=name,
        held_out=held,
    )


# --- existence, count, colour ---


def existence(scope: Scope, n: int, rng: np.random.Generator) -> Iterator[Question]:
    """A "no" and a "yes" about the same class, in the same form and where possible of the same relation."""
    for false in nothing(scope, rng, n):
        label, key = false.query.noun.label, false.query.predicate
        true: list[tuple[Query, set[int], int]] = []
        if not key:
            own = [noun for noun in scope.of_noun if noun.label == label and noun.color]
            true = [(Query(noun), scope.of_noun[noun], -1) for noun in own]
        else:
            same = scope.of_noun[Noun(label)]
            ways = [k for k in (key, *scope.related) if not PREDICATES[k].inverse and not PREDICATES[k].surface]
            for way in ways:
                for anchor, subjects in scope.related[way].items():
                    if anchor in scope.names and same & subjects and anchor not in same:
                        found = sorted(same & subjects)
                        noun = scope.nouns[found[0]][-1] if false.query.noun.color else Noun(label)
                        true.append((Query(noun, way, (scope.names[anchor][0],)), set(found), anchor))
                if true:
                    break
        if not true:
            continue
        query, found_ids, anchor = true[int(rng.integers(len(true)))]
        no = _about(scope, "existence", false.query, EXISTENCE, ("no",), false.anchors, rng)
        yes = _about(scope, "existence", query, EXISTENCE, ("yes",), (*sorted(found_ids), anchor), rng)
        yield from (no, yes) if rng.random() < 0.5 else (yes, no)


def count(scope: Scope, n: int, rng: np.random.Generator) -> Iterator[Question]:
    """How many of a class, a colour, or in a relation; the numbers take turns."""
    counted: list[tuple[Query, tuple[int, ...], int]] = []
    for noun, fitting in scope.of_noun.items():
        if is_countable(noun.label) and len(fitting) <= MAX_COUNT:
            counted.append((Query(noun), tuple(sorted(fitting)), -1))
    for key, ends in scope.related.items():
        if PREDICATES[key].inverse or PREDICATES[key].surface:
            continue
        for anchor, subjects in ends.items():
            for label in sorted({scope.graph.labels[i] for i in subjects}) if anchor in scope.names else ():
                same = scope.of_noun[Noun(label)]
                known = PREDICATES[key].kind == "support" or all(scope.siblings(i, anchor) for i in same if i != anchor)
                if known and is_countable(label) and anchor not in same:
                    query = Query(Noun(label), key, (scope.names[anchor][0],))
                    counted.append((query, tuple(sorted(same & subjects)), anchor))
    for found in nothing(scope, rng, max(1, n // 3)):
        if is_countable(found.query.noun.label):
            counted.append((found.query, (), -1))
    by_number: dict[int, list[tuple[Query, tuple[int, ...], int]]] = {}
    for row in counted:
        by_number.setdefault(len(row[1]), []).append(row)
    numbers = sorted(by_number)
    for _ in range(n if numbers else 0):
        rows = by_number[numbers[int(rng.integers(len(numbers)))]]
        query, found_ids, anchor = rows[int(rng.integers(len(rows)))]
        answers = (number(len(found_ids)), str(len(found_ids)), *(("none",) if not found_ids else ()))
        yield _about(scope, "count", query, COUNT, answers, (*found_ids, anchor), rng)


def color(scope: Scope, n: int, rng: np.random.Generator) -> Iterator[Question]:
    """The colour of a thing that is told by its class or a relation; the colours take turns."""
    asked: list[Question] = []
    for i in (scope.ids[k] for k in rng.permutation(len(scope.ids))[: 4 * n]):
        noun = scope.nouns[i][-1]
        if not noun.color:
            continue
        answers = (noun.color, "grey") if noun.color == "gray" else (noun.color,)
        same = scope.of_noun[Noun(noun.label)]
        if len(same) == 1:
            asked.append(_about(scope, "attribute", Query(Noun(noun.label)), COLOR, answers, (i,), rng))
            continue
        ways = [
            (key, anchor)
            for key, ends in scope.related.items()
            for anchor, subjects in ends.items()
            if anchor in scope.names and anchor != i and same & subjects == {i} and not PREDICATES[key].surface
        ]
        if ways:
            key, anchor = ways[int(rng.integers(len(ways)))]
            query = Query(Noun(noun.label), key, (scope.names[anchor][0],))
            asked.append(_about(scope, "attribute", query, COLOR, answers, (i, anchor), rng))
    yield from balanced(asked, n, rng)


# --- relations ---


def relation(scope: Scope, n: int, rng: np.random.Generator) -> Iterator[Question]:
    """Which side, what is there, which is closer; the three forms take turns."""
    forms = [_which_side(scope, n, rng), _what_is_there(scope, n, rng), _which_is_closer(scope, n, rng)]
    shuffled = [forms[k] for k in rng.permutation(len(forms))]
    for place in range(n):
        yield from (form[place] for form in shuffled if place < len(form))


SIDE_PAIRS: Final = (("left", "right"), ("front", "behind"))
SIDE_WORDS: Final[dict[str, tuple[str, str]]] = {  # as said, and what comes between the last one and the thing
    "left": ("to the left", " of"),
    "right": ("to the right", " of"),
    "front": ("in front of", ""),
    "behind": ("behind", ""),
}
SIDE_ANSWERS: Final[dict[str, tuple[str, ...]]] = {
    "left": ("left", "to the left"),
    "right": ("right", "to the right"),
    "front": ("in front", "in front of it"),
    "behind": ("behind", "behind it"),
}


def _which_side(scope: Scope, n: int, rng: np.random.Generator) -> list[Question]:
    """ "is the lamp to the left or to the right of the bed?" """
    asked = []
    for pair in SIDE_PAIRS:
        for key in pair:
            rows = [
                (i, anchor)
                for anchor, subjects in scope.related[key].items()
                if anchor in scope.names
                for i in sorted(subjects)
                if i in scope.names and all(scope.may_relate(k, scope.graph.labels[i]) for k in pair)
            ]
            for k in rng.permutation(len(rows))[:n]:
                i, anchor = rows[k]
                thing, end = scope.names[i][0], scope.names[anchor][0]
                first, second = pair if rng.random() < 0.5 else pair[::-1]
                options = f"{SIDE_WORDS[first][0]} or {SIDE_WORDS[second][0]}{SIDE_WORDS[second][1]}"
                both = [Query(thing, way, (end,)) for way in (key, *pair)]  # the text says one as well as the other
                asked.append(
                    Question(
                        scope.scene.id,
                        f"{'are' if is_plural(thing.label) else 'is'} the {thing} {options} the {end}?",
                        SIDE_ANSWERS[key],
                        "relation",
                        objects=(i, anchor),
                        room=scope.room,
                        view_dependent=True,
                        query=both[0].to_json(),
                        pattern="question-which-side",
                        held_out=_all_reasons(both),
                    )
                )
    return balanced(asked, n, rng)


def _all_reasons(queries: Sequence[Query]) -> str:
    found = {reason for query in queries for reason in reasons(query).split(",")}
    return ",".join(reason for reason in REASONS if reason in found)


def _what_is_there(scope: Scope, n: int, rng: np.random.Generator) -> list[Question]:
    graph, allowed, asked = scope.graph, set(scope.ids), []
    for key in WHAT_KEYS:
        for anchor in scope.ids:
            if anchor not in scope.names:
                continue
            relations = PREDICATES[key].relations
            found = sorted({i for r in relations for i in graph.subjects.get((r, (anchor,)), ())} & allowed)
            labels = {graph.labels[i] for i in found}
            if len(labels) != 1 or not scope.may_relate(key, graph.labels[found[0]]):
                continue
            noun = Noun(labels.pop())
            query = Query(noun, key, (scope.names[anchor][0],))
            words = _words(scope, query, rng)
            held = reasons(query, words=words.values())
            text = f"what is {tail(query, words)}?"
            answers = (noun.label, with_article(noun)) if len(found) == 1 else (noun.label, in_plural(noun))
            asked.append(
                Question(
                    scope.scene.id,
                    text,
                    answers,
                    "relation",
                    objects=(*found, anchor),
                    room=scope.room,
                    query=query.to_json(),
                    pattern="question-what-is",
                    held_out=held,
                )
            )
    return balanced(asked, n, rng)


def _which_is_closer(scope: Scope, n: int, rng: np.random.Generator) -> list[Question]:
    named = [i for i in scope.names if i >= 0]
    asked: list[Question] = []
    for _ in range(4 * n if len(named) > 2 else 0):
        a, b, c = (named[k] for k in rng.choice(len(named), 3, replace=False))
        if len({scope.home_of[i] for i in (a, b, c)}) > 1 or len({scope.graph.labels[i] for i in (a, b, c)}) < 2:
            continue
        distance = np.hypot(*(scope.boxes[[b, c], :2] - scope.boxes[a, :2]).T)
        if abs(distance[0] - distance[1]) < SUPERLATIVE_MIN_GAP_M:
            continue
        if not all(scope.may_relate("closest", scope.graph.labels[i]) for i in (b, c)):
            continue
        near = b if distance[0] < distance[1] else c
        nouns = [scope.names[i][0] for i in (a, b, c)]
        verb = "are" if is_plural(nouns[1].label) and is_plural(nouns[2].label) else "is"
        held = _all_reasons([Query(noun, "closest", (nouns[0],)) for noun in nouns[1:]])
        asked.append(
            Question(
                scope.scene.id,
                f"which {verb} closer to the {nouns[0]}, the {nouns[1]} or the {nouns[2]}?",
                (str(scope.names[near][0]), f"the {scope.names[near][0]}"),
                "relation",
                objects=(a, b, c),
                room=scope.room,
                pattern="question-closer",
                held_out=held,
            )
        )
    return asked[:n]


MAKERS: Final[dict[str, Callable[[Scope, int, np.random.Generator], Iterator[Question]]]] = {
    "existence": existence,
    "count": count,
    "attribute": color,
    "relation": relation,
    "situated": situated,
}
