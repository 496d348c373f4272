"""What there is to say about a home: queries that fit one thing, several, or nothing.

SceneVerse (arXiv:2401.09340, section 3.3) describes the kinds of its sentences but never released their generator.
Different here: where its class has several members a query says nothing superfluous, without the colour or the relation
it would be ambiguous; each clause of a star leaves several things over and only all of them together leave one; an
anchor is named so that it is one thing, and a chain describes an anchor that has no name of its own.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from scene.english import is_countable
from scene.query import PREDICATES, SUPERLATIVE_MIN_GAP_M, Clause, Noun, Query, resolve_among
from scene.scope import Scope

LONG_NAME_SHARE: Final = 0.25  # of anchors whose class alone is a name, how many are called by their colour, too
STARS_PER_TARGET: Final = 3
CHAINS_PER_ANCHOR: Final = 12
MULTI_MAX_TARGETS: Final = 6
PORTABLE_MAX_M, SMALLER = (
    0.6,
    0.6,
)  # a false "on" or "in" is of a thing this small, and this much smaller than the other
CLEARLY_ELSEWHERE_M: Final = 0.3  # a false "left of" is of a thing that is this far on the other side
NEARNESS_KEYS: Final = ("adjacent", "beside", "next", "near")
HEIGHT_KEYS: Final = ("above", "higher", "below", "lower")
DIRECTION_KEYS: Final = ("left", "right", "behind", "front")


@dataclass(frozen=True)
class Found:
    """A query, and what it fits."""

    query: Query
    targets: tuple[int, ...]
    anchors: tuple[int, ...]  # ids; floor, walls and ceiling left out
    rivals: int  # things of the target's class in its room
    easy: bool  # its class alone would do, or its anchor's name alone


def singles(scope: Scope, rng: np.random.Generator) -> Iterator[Found]:
    """Queries that fit one object and say nothing superfluous."""
    for noun, fitting in scope.of_noun.items():
        if len(fitting) == 1 and (not noun.color or len(scope.of_noun[Noun(noun.label)]) > 1):
            (first,) = fitting
            yield _found(scope, Query(noun), first, ())
    for key, ends in scope.related.items():
        for anchor, subjects in ends.items():
            if anchor not in scope.names:
                continue
            names = scope.names[anchor]
            for noun, target in only(scope, subjects - {anchor}):
                if key == "standing" and scope.is_obvious_on_floor(target) and scope.rivals(target) == 1:
                    continue
                name = names[-1] if rng.random() < LONG_NAME_SHARE else names[0]
                yield _found(scope, Query(noun, key, (name,)), target, (anchor,))
    yield from _between(scope)
    yield from _aligned(scope)
    yield from _superlatives(scope)


def only(scope: Scope, subjects: set[int]) -> Iterator[tuple[Noun, int]]:
    """(noun, id) where the noun fits one of `subjects`, and neither the noun nor a shorter one does without them."""
    for noun in {noun: None for i in sorted(subjects) for noun in scope.nouns[i]}:
        fitting = scope.of_noun[noun] & subjects
        if len(fitting) != 1:
            continue
        if noun.color and (len(scope.of_noun[Noun(noun.label)] & subjects) == 1 or len(scope.of_noun[noun]) == 1):
            continue  # the colour, or the relation, would be superfluous
        yield noun, next(iter(fitting))


def _found(scope: Scope, query: Query, target: int, anchors: Iterable[int], *, easy: bool = False) -> Found:
    rivals = scope.rivals(target)
    return Found(query, (target,), tuple(a for a in anchors if a >= 0), rivals, easy or rivals == 1)


def _between(scope: Scope) -> Iterator[Found]:
    labels = scope.graph.labels
    for ends, subjects in scope.between.items():
        if all(end in scope.names for end in ends):
            nouns = tuple(scope.names[end][0] for end in ends)
        elif scope.of_noun[Noun(labels[ends[0]])] == set(ends) and is_countable(labels[ends[0]]):
            nouns = (Noun(labels[ends[0]]),) * 2  # "between the two windows"
        else:
            continue
        for noun, target in only(scope, subjects):
            if noun.label != nouns[0].label or nouns[0] != nouns[1]:
                yield _found(scope, Query(noun, "between", nouns), target, ends)


def _aligned(scope: Scope) -> Iterator[Found]:
    """ "the red chair in line with the other chairs": a row has three members or more, so a colour tells which."""
    labels = scope.graph.labels
    in_rows: dict[str, set[int]] = {}
    for row in scope.rows:
        in_rows.setdefault(labels[row[0]], set()).update(row)
    for row in sorted(scope.rows):
        label = labels[row[0]]
        if not is_countable(label):
            continue
        for target in row:
            noun = scope.nouns[target][-1]
            if noun.color and scope.of_noun[noun] & in_rows[label] == {target}:
                others = tuple(i for i in row if i != target)
                yield _found(scope, Query(noun, "aligned", (Noun(label),)), target, others)


def _superlatives(scope: Scope) -> Iterator[Found]:
    boxes, room = scope.boxes, scope.graph.room
    said: set[tuple[str, str, int, int]] = set()  # without a colour; of_noun has a class before its colours
    for noun, fitting in scope.of_noun.items():
        if len(fitting) < 2:
            continue
        ids = np.array(sorted(fitting))
        in_one_room = len({scope.home_of[i] for i in fitting}) == 1  # distances through walls say little
        anchors = [a for a in scope.names if a >= 0]
        if not anchors:
            continue
        offset = boxes[ids, None, :2] - boxes[None, anchors, :2]
        distances = np.hypot(offset[..., 0], offset[..., 1])  # (ids, anchors)
        for column, anchor in enumerate(anchors):
            keep = ids != anchor
            rest, distance = ids[keep], distances[keep, column]
            if len(rest) < 2:
                continue
            order = distance.argsort(kind="stable")
            for key, best, second in (("closest", order[0], order[1]), ("farthest", order[-1], order[-2])):
                target = int(rest[best])
                mark = (noun.label, key, anchor, target)
                if abs(distance[best] - distance[second]) < SUPERLATIVE_MIN_GAP_M or mark in said:
                    continue
                said.add(mark)
                if in_one_room and room[anchor] == room[target] and scope.may_relate(key, noun.label):
                    yield _found(scope, Query(noun, key, (scope.names[anchor][0],)), target, (anchor,))


# --- stars and chains ---


def stars(scope: Scope, rng: np.random.Generator) -> Iterator[Found]:
    """Queries of two or three clauses; of a class with rivals, only all of them together leave one thing over."""
    said: dict[int, list[tuple[str, int, set[int]]]] = {i: [] for i in scope.ids}
    for key, ends in scope.related.items():
        if PREDICATES[key].inverse or PREDICATES[key].surface:
            continue
        for anchor, subjects in ends.items():
            if anchor in scope.names:
                for i in subjects:
                    said[i].append((key, anchor, subjects))
    for target in scope.ids:
        noun = Noun(scope.graph.labels[target])
        same = scope.of_noun[noun]
        rivalled = len(same) > 1
        clauses = [(key, anchor, same & subjects) for key, anchor, subjects in said[target]]
        if rivalled:
            clauses = [clause for clause in clauses if len(clause[2]) > 1]
        chosen = [clauses[k] for k in rng.permutation(len(clauses))[:9]]
        left = STARS_PER_TARGET
        for size in (3, 2) if rng.random() < 0.4 else (2, 3):
            for group in combinations(chosen, size):
                near = {key for key, _, _ in group} & {*NEARNESS_KEYS}
                apart = len({anchor for _, anchor, _ in group}) == size and len(near) < 2
                if apart and set.intersection(*(fitting for _, _, fitting in group)) == {target}:
                    first, *more = (Clause(key, (scope.names[anchor][0],)) for key, anchor, _ in group)
                    query = Query(noun, first.predicate, first.anchors, tuple(more))
                    yield _found(scope, query, target, [anchor for _, anchor, _ in group])
                    left -= 1
                if left <= size - 2:  # keep one for the other size
                    break


def chains(scope: Scope, rng: np.random.Generator) -> Iterator[Found]:
    """ "the mug on the table that is next to the bed"."""
    labels = scope.graph.labels
    described: dict[int, list[tuple[Query, int]]] = {}
    for key, ends in scope.related.items():
        for end, subjects in ends.items():
            if end not in scope.names or end < 0:
                continue
            for middle in subjects:
                noun = Noun(labels[middle])
                if scope.of_noun[noun] & subjects == {middle}:
                    described.setdefault(middle, []).append((Query(noun, key, (scope.names[end][0],)), end))
    outer = [
        key
        for key, predicate in PREDICATES.items()
        if not predicate.inverse and predicate.kind in ("relation", "support")
    ]
    for middle, ways in described.items():
        named = middle in scope.names
        ways = [ways[k] for k in rng.permutation(len(ways))[: 2 if named else 4]]
        made = 0
        for key in (outer[k] for k in rng.permutation(len(outer))):
            subjects = scope.related[key].get(middle, set())
            if not subjects or made >= (2 if named else CHAINS_PER_ANCHOR):
                continue
            for noun, target in only(scope, subjects):
                query, end = ways[made % len(ways)]
                made += 1
                if target != end and noun.label != query.noun.label:
                    yield _found(scope, Query(noun, key, (query,)), target, (middle, end), easy=named)


# --- several things, and none ---


def several(scope: Scope) -> Iterator[Found]:
    """Queries that fit two things or more, and no relation among them that fits all of the class anyway."""
    for noun, fitting in scope.of_noun.items():
        if not is_countable(noun.label):
            continue
        whole = scope.of_noun[Noun(noun.label)]
        if 2 <= len(fitting) <= MULTI_MAX_TARGETS and (not noun.color or len(fitting) < len(whole)):
            yield _several(scope, Query(noun), fitting, ())
    for key, ends in scope.related.items():
        for anchor, subjects in ends.items():
            if anchor not in scope.names or PREDICATES[key].inverse:
                continue
            for noun in {noun: None for i in sorted(subjects) for noun in scope.nouns[i]}:
                fitting = scope.of_noun[noun] & subjects
                whole = scope.of_noun[Noun(noun.label)] - {anchor}
                bare = whole & subjects
                superfluous = fitting == scope.of_noun[noun] or (noun.color and fitting == bare)
                known = anchor < 0 or PREDICATES[key].kind == "support" or all(scope.siblings(i, anchor) for i in whole)
                suits = known and 2 <= len(fitting) <= MULTI_MAX_TARGETS and is_countable(noun.label)
                if suits and not superfluous:
                    yield _several(scope, Query(noun, key, (scope.names[anchor][0],)), fitting, (anchor,))


def _several(scope: Scope, query: Query, fitting: set[int], anchors: tuple[int, ...]) -> Found:
    targets = tuple(sorted(fitting))
    return Found(query, targets, tuple(a for a in anchors if a >= 0), scope.rivals(targets[0]), False)


def nothing(scope: Scope, rng: np.random.Generator, count: int) -> list[Found]:
    """Up to `count` queries that fit nothing although each word of them fits something here.

    A colour that the class does not have, or a relation that clearly does not hold of any of the class: a false
    direction is of things well on the other side, a false height of things that are as clearly higher or lower, a false
    nearness of things that are not even near.
    """
    labels = sorted({noun.label for noun in scope.of_noun})
    colors = sorted({noun.color for noun in scope.of_noun if noun.color})
    keys = [key for key in scope.related if any(scope.related[key].values()) and not PREDICATES[key].inverse]
    keys = [key for key in keys if not PREDICATES[key].surface]
    found: dict[Query, Found] = {}
    for _ in range(20 * count):
        if len(found) >= count or not labels:
            break
        label = labels[int(rng.integers(len(labels)))]
        members = sorted(scope.of_noun[Noun(label)])
        if rng.random() < 0.4 and colors:
            color = colors[int(rng.integers(len(colors)))]
            noun, key, anchor = Noun(label, color), "", -1
            if noun in scope.of_noun or not scope.may_color(color, label) or not scope.nouns[members[0]][-1].color:
                continue
            query = Query(noun)
        elif keys:
            key = keys[int(rng.integers(len(keys)))]
            named = [a for a, subjects in scope.related[key].items() if a in scope.names and subjects]
            if not named:
                continue
            anchor = named[int(rng.integers(len(named)))]
            if anchor in members or not scope.may_relate(key, label) or not _clearly_false(scope, key, members, anchor):
                continue
            noun = scope.nouns[members[0]][-1] if rng.random() < 0.4 else Noun(label)
            query = Query(noun, key, (scope.names[anchor][0],))
        else:
            continue
        if not resolve_among(query, scope.ids, scope.scene, scope.graph):
            anchors = (anchor,) if anchor >= 0 else ()
            found.setdefault(query, Found(query, (), anchors, len(members), False))
    return list(found.values())


def _clearly_false(scope: Scope, key: str, members: list[int], anchor: int) -> bool:
    if PREDICATES[key].kind == "support":  # of what is small enough to lie there; what it lies on is known
        size = scope.boxes[:, 3:6].max(axis=1)
        return key != "hanging" and all(size[i] < min(PORTABLE_MAX_M, SMALLER * size[anchor]) for i in members)
    if not all(scope.siblings(i, anchor) for i in members):
        return False
    offset = scope.boxes[members, :2] - scope.boxes[anchor, :2]
    yaw = scope.graph.viewpoint.yaw_rad
    if key in DIRECTION_KEYS:
        rightward = offset @ np.array([np.sin(yaw), -np.cos(yaw)])
        forward = offset @ np.array([np.cos(yaw), np.sin(yaw)])
        towards = {"left": -rightward, "right": rightward, "behind": forward, "front": -forward}[key]
        return bool((towards < -CLEARLY_ELSEWHERE_M).all())
    if key in HEIGHT_KEYS:
        low, high = scope.boxes[:, 2] - scope.boxes[:, 5] / 2, scope.boxes[:, 2] + scope.boxes[:, 5] / 2
        over = low[members] >= high[anchor]
        under = high[members] <= low[anchor]
        return bool((under if key in ("above", "higher") else over).all())
    if key in NEARNESS_KEYS:
        reach = np.hypot(*scope.boxes[[*members, anchor], 3:5].T) / 2
        gap = np.hypot(offset[:, 0], offset[:, 1]) - reach[:-1] - reach[-1]
        return bool((gap > 1.0).all())
    return True
