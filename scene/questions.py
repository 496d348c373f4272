"""Questions about a home and their exact answers.

So that a guess from the words alone fails, every "yes" comes with a "no" about the same class in the same form, and the
other answers take turns: numbers, colours and directions are drawn answer first. Situated questions bring a place and
a heading of their own, in the spirit of SQA3D (Ma et al., arXiv:2210.07474); their answers are angles, not edges.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from scene.english import is_countable, is_plural, number, with_article
from scene.heldout import HELD_OUT_PATTERNS, HELD_OUT_SYNONYMS, reasons
from scene.meanings import nothing
from scene.patterns import several as in_plural
from scene.patterns import tail
from scene.query import PREDICATES, SUPERLATIVE_MIN_GAP_M, Noun, Query
from scene.scope import Scope
from scene.texts import Question

MAX_COUNT: Final = 8
STAND_OFF_M: Final = 0.3  # from the side of the thing one stands at
FACING_MIN_M: Final = 1.2  # from what one faces
ASKED_MIN_M: Final = 0.7  # from what is asked about: nearer, its direction is a matter of which part of it
CLEAR_ANGLE_RAD: Final = np.deg2rad(35.0)  # from left, right, ahead or behind; the quarters meet at 45 degrees
SIDE_MIN_RAD: Final = np.deg2rad(25.0)  # from straight ahead or behind, where only the side is asked
WHAT_KEYS: Final = ("on", "in", "above", "below", "hanging")
SIDES: Final[dict[str, tuple[str, ...]]] = {
    "left": ("left", "to my left", "on my left"),
    "right": ("right", "to my right", "on my right"),
    "in front": ("in front", "in front of me", "ahead"),
    "behind": ("behind", "behind me"),
}

EXISTENCE: Final = {
    "question-is-there": "{is} there {a_np}{tail}?",
    "question-do-you-see": "do you see {a_np}{tail}?",
    "question-see-any": "can you find {a_np}{tail}?",
}
COUNT: Final = {
    "question-how-many": "how many {nps} are {there}{tail}?",
    "question-number": "what is the number of {nps}{tail}?",
    "question-tell-number": "tell me how many {nps} there are{tail}?",
}
COLOR: Final = {
    "question-what-color": "what color {is} the {np}{tail}?",
    "question-which-color": "which color {does} the {np}{tail} have?",
}
TURN: Final = "situated-turn"


@dataclass(frozen=True)
class Stand:
    """Where somebody stands and looks."""

    at: int  # object ids
    facing: int
    position: tuple[float, float, float]
    yaw_rad: float
    text: str


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


def _balanced(candidates: list[Question], n: int, rng: np.random.Generator) -> list[Question]:
    """`n` of them, the answers taking turns in a drawn order."""
    shuffled = [candidates[k] for k in rng.permutation(len(candidates))]
    turns: dict[str, int] = {}
    ranked = []
    for place, question in enumerate(shuffled):
        turns[question.answers[0]] = turns.get(question.answers[0], 0) + 1
        ranked.append((turns[question.answers[0]], place))
    return [shuffled[place] for _, place in sorted(ranked)[:n]]


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
                    fitting = same & subjects
                    counted.append((Query(Noun(label), key, (scope.names[anchor][0],)), tuple(sorted(fitting)), anchor))
    for found in nothing(scope, rng, max(1, n // 3)):
        if is_countable(found.query.noun.label):
            counted.append((found.query, (), -1))
    by_number: dict[int, list[tuple[Query, tuple[int, ...], int]]] = {}
    for row in counted:
        by_number.setdefault(len(row[1]), []).append(row)
    numbers = sorted(by_number)
    for _ in range(n):
        rows = by_number[numbers[int(rng.integers(len(numbers)))]]
        query, fitting, anchor = rows[int(rng.integers(len(rows)))]
        answers = (number(len(fitting)), str(len(fitting)), *(("none",) if not fitting else ()))
        yield _about(scope, "count", query, COUNT, answers, (*fitting, anchor), rng)


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
    yield from _balanced(asked, n, rng)


# --- relations ---


def relation(scope: Scope, n: int, rng: np.random.Generator) -> Iterator[Question]:
    """Which side, what is there, which is closer; the three forms take turns."""
    forms = [_which_side(scope, n, rng), _what_is_there(scope, n, rng), _which_is_closer(scope, n, rng)]
    shuffled = [forms[k] for k in rng.permutation(len(forms))]
    for place in range(n):
        yield from (form[place] for form in shuffled if place < len(form))


def _which_side(scope: Scope, n: int, rng: np.random.Generator) -> list[Question]:
    options = (("left", "right"), ("front", "behind"))
    spoken = {"left": "to the left", "right": "to the right of", "front": "in front of", "behind": "behind"}
    answers = {
        "left": ("left", "to the left"),
        "right": ("right", "to the right"),
        "front": ("in front", "in front of it"),
        "behind": ("behind", "behind it"),
    }
    asked = []
    for pair in options:
        for key in pair:
            rows = [
                (i, anchor)
                for anchor, subjects in scope.related[key].items()
                if anchor in scope.names
                for i in subjects
                if i in scope.names and all(scope.may_relate(k, scope.graph.labels[i]) for k in pair)
            ]
            for k in rng.permutation(len(rows))[:n]:
                i, anchor = rows[k]
                thing, end = scope.names[i][0], scope.names[anchor][0]
                if pair[0] == "left":
                    sides = ["to the left", "to the right"]
                    text = f"{{0}} or {{1}} of the {end}?" if rng.random() < 0.5 else f"{{1}} or {{0}} of the {end}?"
                else:
                    sides = [spoken["front"], spoken["behind"]]
                    text = f"{{0}} or {{1}} the {end}?" if rng.random() < 0.5 else f"{{1}} or {{0}} the {end}?"
                be = "are" if is_plural(thing.label) else "is"
                query = Query(thing, key, (end,))
                held = reasons(query) or reasons(Query(thing, pair[1 - pair.index(key)], (end,)))
                asked.append(
                    Question(
                        scope.scene.id,
                        f"{be} the {thing} {text.format(*sides)}",
                        answers[key],
                        "relation",
                        objects=(i, anchor),
                        room=scope.room,
                        view_dependent=True,
                        query=query.to_json(),
                        pattern="question-which-side",
                        held_out=held,
                    )
                )
    return _balanced(asked, n, rng)


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
    return _balanced(asked, n, rng)


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
        held = reasons(Query(nouns[1], "closest", (nouns[0],)), nouns=nouns) or reasons(
            Query(nouns[2], "closest", (nouns[0],))
        )
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


# --- situated ---


def situated(scope: Scope, n: int, rng: np.random.Generator) -> Iterator[Question]:
    """Standing at one thing and facing another: where a third one is, or what is there."""
    asked: list[Question] = []
    for _ in range(6 * n):
        stand = _stand(scope, rng)
        if stand is not None:
            asked += _around(scope, stand, rng)
    yield from _balanced(asked, n, rng)


def _stand(scope: Scope, rng: np.random.Generator) -> Stand | None:
    """A free place on the floor at a thing, on the side of another one that is looked at."""
    scene, graph, boxes = scope.scene, scope.graph, scope.boxes
    named = [i for i in scope.names if i >= 0 and graph.level[i] == 0]
    if len(named) < 2:
        return None
    at, facing = (named[k] for k in rng.choice(len(named), 2, replace=False))
    if scope.home_of[at] != scope.home_of[facing]:
        return None
    way = boxes[facing, :2] - boxes[at, :2]
    far = float(np.hypot(*way))
    yaw = float(np.arctan2(way[1], way[0]))
    turned = yaw - boxes[at, 6]
    along = np.abs([np.cos(turned), np.sin(turned)])
    out = float((0.5 * boxes[at, 3:5] / np.maximum(along, 1e-9)).min()) + STAND_OFF_M
    if far - out < FACING_MIN_M:
        return None
    position = boxes[at, :2] + way / far * out
    if _is_taken(scope, position):
        return None
    room = scope.home_of[at]
    floor = scene.rooms[room].floor_z if room >= 0 else float((boxes[:, 2] - boxes[:, 5] / 2).min())
    x, y = np.round(position, 3).tolist()
    text = f"standing at the {scope.names[at][0]}, facing the {scope.names[facing][0]}"
    return Stand(at, facing, (x, y, round(floor, 3)), round(yaw, 4), text)


def _is_taken(scope: Scope, position: Float64[ndarray, "2"]) -> bool:
    """Whether a thing lower than a head stands there."""
    boxes = scope.boxes[scope.ids]
    offset = position - boxes[:, :2]
    cos, sin = np.cos(boxes[:, 6]), np.sin(boxes[:, 6])
    local = np.stack([cos * offset[:, 0] + sin * offset[:, 1], cos * offset[:, 1] - sin * offset[:, 0]], axis=1)
    low = boxes[:, 2] - boxes[:, 5] / 2 < 1.5
    return bool((low & (np.abs(local) < boxes[:, 3:5] / 2).all(axis=1)).any())


def _around(scope: Scope, stand: Stand, rng: np.random.Generator) -> Iterator[Question]:
    room = scope.home_of[stand.at]
    others = [i for i in scope.ids if scope.home_of[i] == room and i not in (stand.at, stand.facing)]
    if not others:
        return
    offset = scope.boxes[others, :2] - np.array(stand.position[:2])
    distance = np.hypot(offset[:, 0], offset[:, 1])
    bearing = np.arctan2(offset[:, 1], offset[:, 0]) - stand.yaw_rad
    bearing = (bearing + np.pi) % (2 * np.pi) - np.pi  # positive = to the left
    named = [k for k, i in enumerate(others) if i in scope.names and distance[k] > ASKED_MIN_M]
    base = Question(
        scope.scene.id,
        "",
        (),
        "situated",
        situation=stand.text,
        position=stand.position,
        yaw_rad=stand.yaw_rad,
        room=scope.room if scope.room >= 0 else room,
    )
    for k in (named[j] for j in rng.permutation(len(named))[:4]):
        i, noun, angle = others[k], scope.names[others[k]][0], float(bearing[k])
        be = "are" if is_plural(noun.label) else "is"
        nouns = [scope.names[j][0] for j in (stand.at, stand.facing)]
        side = _side(angle)
        form = rng.random()
        held = reasons(nouns=(noun, *nouns))
        objects = (i, stand.at, stand.facing)
        if form < 0.5 and side:
            yield replace(
                base,
                question=f"where {be} the {noun}?",
                answers=SIDES[side],
                objects=objects,
                pattern="situated-where",
                held_out=held,
            )
        elif SIDE_MIN_RAD < abs(angle) < np.pi - SIDE_MIN_RAD:
            answer = "left" if angle > 0 else "right"
            first, second = ("left", "right") if rng.random() < 0.5 else ("right", "left")
            if form > 0.85 and scope.held_out:
                text, name, answers = f"which way must i turn to face the {noun}?", TURN, (answer, f"to the {answer}")
            else:
                text, name, answers = (
                    f"{be} the {noun} on my {first} or on my {second}?",
                    "situated-side",
                    SIDES[answer],
                )
            held = reasons(pattern=name, nouns=(noun, *nouns))
            yield replace(base, question=text, answers=answers, objects=objects, pattern=name, held_out=held)
    side = ("left", "right", "behind")[int(rng.integers(3))]
    there = [k for k in range(len(others)) if _side(float(bearing[k]), np.pi / 4) == side]
    there.sort(key=lambda k: distance[k])
    clear = there and _side(float(bearing[there[0]])) == side
    if clear and (len(there) == 1 or distance[there[1]] - distance[there[0]] > SUPERLATIVE_MIN_GAP_M):
        i = others[there[0]]
        label = scope.graph.labels[i]
        where = "behind me" if side == "behind" else f"on my {side}"
        yield replace(
            base,
            question=f"what is the closest thing {where}?",
            answers=(label, with_article(label)),
            objects=(i, stand.at, stand.facing),
            pattern="situated-what",
            held_out=reasons(nouns=[scope.names[j][0] for j in (stand.at, stand.facing)]),
        )


def _side(angle: float, reach: float = CLEAR_ANGLE_RAD) -> str:
    """left, right, in front or behind, where the bearing is within `reach` of it; else empty."""
    for name, axis in (("in front", 0.0), ("left", np.pi / 2), ("right", -np.pi / 2), ("behind", np.pi)):
        if abs((angle - axis + np.pi) % (2 * np.pi) - np.pi) < reach:
            return name
    return ""


MAKERS: Final[dict[str, Callable[[Scope, int, np.random.Generator], Iterator[Question]]]] = {
    "existence": existence,
    "count": count,
    "attribute": color,
    "relation": relation,
    "situated": situated,
}
