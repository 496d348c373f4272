"""Sentences about a scene: referrals that fit exactly one object, and captions.

SceneVerse (arXiv:2401.09340, section 3.3) describes its template generator but never released it; the pattern families
(plain clause, request, inversion) follow the description, the sentences are this project's own. Different here: every
referral carries its query, is kept only when that query fits its target alone, and says nothing superfluous where its
class has several members: without the colour or the relation it would be ambiguous. An anchor is always named so that
it is one thing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from core.errors import InputError
from scene.graph import SceneGraph, candidates, spoken_room_by_room
from scene.query import PREDICATES, SUPERLATIVE_MIN_GAP_M, Noun, Query, resolve
from scene.relations import Relation
from scene.texts import Referral, Text, load_texts, save_texts
from scene.types import Scene, SceneObject

KIND_SHARES: Final = {
    "relation": 0.35,
    "attribute": 0.2,
    "superlative": 0.15,
    "support": 0.15,
    "between": 0.1,
    "unique": 0.05,
}
"""How many of a home's sentences are of each kind, where it has enough of them."""
EASY_SHARE: Final = 0.2  # of a kind's sentences, how many may name a class that has one member only
LONG_NAME_SHARE: Final = 0.25  # of anchors whose class alone is a name, how many are called by their colour, too
CLEAR_MARGIN_M: Final = 0.1  # a direction is said of a target only when it holds by this much

PLAIN_PATTERNS: Final = ("the {np}", "find the {np}", "it is the {np}")
PATTERNS: Final[dict[str, tuple[str, ...]]] = {
    "relation": (
        "the {np} {rel} the {a}",
        "find the {np} {rel} the {a}",
        "the {np} that is {rel} the {a}",
        "{rel} the {a} is the {np}",
    ),
    "support": ("the {np} {rel} the {a}", "find the {np} {rel} the {a}", "the {np} that is {rel} the {a}"),
    "inverse": ("the {np} with the {a} {rel}", "find the {np} with the {a} {rel}"),
    "between": (
        "the {np} between the {a} and the {b}",
        "find the {np} between the {a} and the {b}",
        "between the {a} and the {b} is the {np}",
    ),
    "superlative": ("the {np} {rel} the {a}", "find the {np} {rel} the {a}", "the {np} that is {rel} the {a}"),
}


@dataclass(frozen=True)
class TextPlan:
    """How many texts of each kind to write for one home, at most; a home with less to say yields fewer."""

    referrals: int = 40  # with one target
    multi: int = 4  # referrals with several targets
    zero: int = 4  # referrals that nothing fits
    captions: bool = True  # of every object, of every room, and of the home
    questions: int = 12
    held_out: bool = False  # may use held-out language (val and test); a training text never does


def write_texts(scene: Scene, graph: SceneGraph, plan: TextPlan, rng: np.random.Generator) -> list[Text]:
    """Everything to say about one home; the same generator state gives the same texts.

    Raises:
        InputError: the plan asks for a negative number, or the graph is of another scene.
    """
    return [*generate_referrals(scene, graph, plan.referrals, rng)]


def wordings(query: Query) -> list[str]:
    """Every sentence the generator has for a query."""
    if not query.predicate:
        return [pattern.format(np=query.noun) for pattern in PLAIN_PATTERNS]
    predicate = PREDICATES[query.predicate]
    patterns = PATTERNS["inverse" if predicate.inverse else predicate.kind]
    a, b = (*query.anchors, None)[:2]
    return [p.format(np=query.noun, rel=rel, a=a, b=b) for rel in predicate.words for p in patterns]


def generate_referrals(scene: Scene, graph: SceneGraph, n: int, rng: np.random.Generator) -> list[Referral]:
    """Up to `n` different referrals, each fitting exactly its target; fewer where the scene has no more to say.

    Kinds are mixed by KIND_SHARES and targets drawn evenly. Classes with several members come first; at most
    EASY_SHARE of a kind names a class with a single one while others are left. The same generator state gives the same
    sentences. Large homes are spoken of room by room (scene.graph.spoken_room_by_room), `n` split over the rooms by
    their objects; anchors stand in the target's room.

    Raises:
        InputError: `n` is negative, or the graph is of another scene.
    """
    if n < 0:
        raise InputError(f"cannot write {n} referrals; give 0 or more")
    if graph.scene_id != scene.id or len(graph.labels) != len(scene.objects):
        raise InputError(f"the graph of scene {graph.scene_id!r} does not belong to scene {scene.id!r}")
    if not spoken_room_by_room(scene):
        return _write(_Scope(scene, graph, -1), n, rng)
    rooms, sizes = np.unique(graph.room[graph.room >= 0], return_counts=True)
    written: list[Referral] = []
    left = int(sizes.sum())
    for room, size in zip(rooms.tolist(), sizes.tolist()):
        share = round((n - len(written)) * size / left)  # what a poor room cannot use goes to the next ones
        written += _write(_Scope(scene, graph, room), share, rng)
        left -= size
    return written


class _Scope:
    """The objects a sentence may mean, and the names that fit one of them only."""

    def __init__(self, scene: Scene, graph: SceneGraph, room: int) -> None:
        self.scene, self.graph, self.room = scene, graph, room
        self.ids = candidates(scene, room)
        self.of_noun: dict[Noun, set[int]] = {}
        for i in self.ids:
            for noun in self.nouns_of(i):
                self.of_noun.setdefault(noun, set()).add(i)
        unique = {i: [noun for noun in self.nouns_of(i) if len(self.of_noun[noun]) == 1] for i in self.ids}
        self.names = {i: nouns for i, nouns in unique.items() if nouns}  # the shortest first

    def nouns_of(self, i: int) -> tuple[Noun, ...]:
        item = self.scene.objects[i]
        color = item.attributes.get("color", "")
        return (Noun(item.label), Noun(item.label, color)) if color else (Noun(item.label),)

    def rivals(self, i: int) -> int:
        """Things of its class in its room, itself included."""
        same = self.of_noun[Noun(self.scene.objects[i].label)]
        return sum(int(self.graph.room[j]) == int(self.graph.room[i]) for j in same)


@dataclass(frozen=True)
class _Found:
    """A query that fits one object."""

    query: Query
    target: int
    anchors: tuple[int, ...]
    rivals: int


def _write(scope: _Scope, n: int, rng: np.random.Generator) -> list[Referral]:
    pools: dict[str, list[_Found]] = {kind: [] for kind in KIND_SHARES}
    for found in _queries(scope, rng):
        pools[found.query.kind].append(found)
    chosen: list[_Found] = []
    spare: list[_Found] = []
    for kind, share in KIND_SHARES.items():
        hard = _spread([f for f in pools[kind] if f.rivals > 1], rng)
        easy = _spread([f for f in pools[kind] if f.rivals == 1], rng)
        quota = round(n * share)
        few = quota if kind == "unique" else round(quota * EASY_SHARE)
        few = min(few, len(easy))
        many = min(quota - few, len(hard))
        chosen += hard[:many] + easy[:few]
        spare += hard[many:] + ([] if kind == "unique" else easy[few:])
    spare.sort(key=lambda f: f.rivals == 1)  # stable: hard ones of every kind first
    written: dict[str, Referral] = {}
    for found in (*chosen, *spare):
        if len(written) >= n:
            break
        sentences = wordings(found.query)
        sentence = sentences[int(rng.integers(len(sentences)))]
        if sentence not in written:
            written[sentence] = _referral(scope, found, sentence)
    return list(written.values())


def _referral(scope: _Scope, found: _Found, sentence: str) -> Referral:
    fits = resolve(found.query, scope.scene, scope.graph, scope.room)
    assert fits == {found.target}, f"{sentence!r} of {scope.scene.id} fits {sorted(fits)}, not {found.target} alone"
    return Referral(
        scene_id=scope.scene.id,
        utterance=sentence,
        targets=(found.target,),
        anchors=found.anchors,
        kind=found.query.kind,
        room=int(scope.graph.room[found.target]),
        view_dependent=found.query.view_dependent,
        n_same_class=found.rivals,
        query=found.query.to_json(),
    )


def _spread(found: list[_Found], rng: np.random.Generator) -> list[_Found]:
    """Shuffled so that every target comes once before any comes twice."""
    shuffled = [found[i] for i in rng.permutation(len(found))]
    turn: dict[int, int] = {}
    order = []
    for k, item in enumerate(shuffled):
        turn[item.target] = turn.get(item.target, 0) + 1
        order.append((turn[item.target], k))
    return [shuffled[k] for _, k in sorted(order)]


def _queries(scope: _Scope, rng: np.random.Generator) -> Iterator[_Found]:
    """Every query of the generator that fits one object and says nothing superfluous."""
    for noun, fitting in scope.of_noun.items():
        (first, *others) = fitting
        if not others and (not noun.color or len(scope.of_noun[Noun(noun.label)]) > 1):
            yield _Found(Query(noun), first, (), scope.rivals(first))
    for predicate, name, anchor, subjects in _related_to_named(scope):
        for noun, target in _only(scope, subjects - {anchor}):
            longer = rng.random() < LONG_NAME_SHARE
            called = scope.names[anchor][-1] if longer else name
            yield _Found(Query(noun, predicate, (called,)), target, (anchor,), scope.rivals(target))
    for (relation, ends), between in scope.graph.subjects.items():
        if relation is Relation.BETWEEN and all(end in scope.names for end in ends):
            nouns = tuple(scope.names[end][0] for end in ends)
            for noun, target in _only(scope, set(between) & set(scope.ids)):
                yield _Found(Query(noun, "between", nouns), target, ends, scope.rivals(target))
    yield from _superlatives(scope)


def _related_to_named(scope: _Scope) -> Iterator[tuple[str, Noun, int, set[int]]]:
    """(predicate, name of the anchor, anchor, things so related) for every anchor with a name of its own."""
    graph, allowed = scope.graph, set(scope.ids)
    unclear = {
        (edge.relation, edge.objects[0], edge.subject)
        for edge in graph.edges
        if edge.reach and edge.margin < CLEAR_MARGIN_M
    }
    for anchor, names in scope.names.items():
        for key, predicate in PREDICATES.items():
            if predicate.kind not in ("relation", "support"):
                continue
            subjects: set[int]
            if predicate.inverse:
                subjects = {e.objects[0] for e in graph.edges_of(anchor) if e.relation in predicate.relations}
            else:
                subjects = {i for r in predicate.relations for i in graph.subjects.get((r, (anchor,)), ())}
            subjects &= allowed
            blurred = {i for i in subjects if any((r, anchor, i) in unclear for r in predicate.relations)}
            if subjects and not blurred:
                yield key, names[0], anchor, subjects


def _only(scope: _Scope, subjects: set[int]) -> Iterator[tuple[Noun, int]]:
    """(noun, id) where the noun fits one of `subjects`, and neither the noun nor a shorter one does without them."""
    for noun in {noun: None for i in sorted(subjects) for noun in scope.nouns_of(i)}:
        fitting = scope.of_noun[noun] & subjects
        if len(fitting) != 1:
            continue
        if noun.color and (len(scope.of_noun[Noun(noun.label)] & subjects) == 1 or len(scope.of_noun[noun]) == 1):
            continue  # the colour, or the relation, would be superfluous
        yield noun, next(iter(fitting))


def _superlatives(scope: _Scope) -> Iterator[_Found]:
    boxes, room = scope.scene.boxes, scope.graph.room
    said: set[tuple[str, str, int, int]] = set()  # without a colour; of_noun has a class before its colours
    for noun, fitting in scope.of_noun.items():
        if len(fitting) < 2:
            continue
        ids = np.array(sorted(fitting))
        in_one_room = len(set(room[ids].tolist())) == 1  # distances through walls say little
        for anchor, names in scope.names.items():
            rest = ids[ids != anchor]
            if len(rest) < 2:
                continue
            distance = np.hypot(*(boxes[rest, :2] - boxes[anchor, :2]).T)
            order = distance.argsort(kind="stable")
            ends = (("closest", order[0], order[1]), ("farthest", order[-1], order[-2]))
            for predicate, best, second in ends:
                target = int(rest[best])
                key = (noun.label, predicate, anchor, target)
                if abs(distance[best] - distance[second]) < SUPERLATIVE_MIN_GAP_M or key in said:
                    continue
                said.add(key)
                if in_one_room and room[anchor] == room[target]:
                    yield _Found(Query(noun, predicate, (names[0],)), target, (anchor,), scope.rivals(target))


def verify_referral(referral: Referral, scene: Scene, graph: SceneGraph) -> bool:
    """Whether the sentence is a wording of its query, and the query fits exactly its targets.

    Sentences of other sources than "template" are held to the second half only.

    Raises:
        InputError: the referral carries no readable query, or belongs to another scene.
    """
    if referral.scene_id != scene.id:
        raise InputError(f"the referral is about scene {referral.scene_id!r}, the scene is {scene.id!r}")
    query = Query.from_json(referral.query)
    worded = referral.source != "template" or referral.utterance in wordings(query)
    return worded and resolve(query, scene, graph, referral.room) == set(referral.targets)


# --- captions ---


def with_article(noun: object) -> str:
    """ "a chair", "an armchair"."""
    text = str(noun)
    return f"{'an' if text[:1].lower() in 'aeiou' else 'a'} {text}"


def plural(label: str) -> str:
    """ "chairs", "shelves", "boxes" of a label whose last word is a regular noun."""
    if label.endswith(("s", "x", "ch", "sh")):
        return label + "es"
    if label.endswith("shelf"):
        return label[:-1] + "ves"
    if label.endswith("y") and label[-2:-1] not in "aeiou":
        return label[:-1] + "ies"
    return label + "s"


_CAPTION_ORDER: Final = ("in", "on", "above", "next", "near", "below")


def describe(item: SceneObject, graph: SceneGraph) -> str:
    """One phrase: "a red armchair next to the window". The closest tie is told; the article of the other thing is
    "the" when its label is the only one of its room."""
    text = with_article(Noun(item.label, item.attributes.get("color", "")))
    for key in _CAPTION_ORDER:
        predicate = PREDICATES[key]
        ties = [e for e in graph.edges_of(item.id) if e.relation in predicate.relations and e.objects[0] >= 0]
        ties = [e for e in ties if graph.labels[e.objects[0]] != item.label]
        if ties:
            other = max(ties, key=lambda e: (e.margin, -e.objects[0])).objects[0]
            label = graph.labels[other]
            same = sum(graph.labels[i] == label for i in np.flatnonzero(graph.room == graph.room[other]))
            return f"{text} {predicate.words[0]} {f'the {label}' if same == 1 else with_article(label)}"
    return text


def describe_scene(scene: Scene, graph: SceneGraph, room: int = -1) -> str:
    """One sentence: "a bedroom with a bed, two chairs and a lamp". `room` = -1 speaks of the whole scene."""
    ids = range(len(scene.objects)) if room < 0 else np.flatnonzero(graph.room == room)
    counts: dict[str, int] = {}
    for i in ids:
        counts[graph.labels[i]] = counts.get(graph.labels[i], 0) + 1
    parts = [_counted(label, count) for label, count in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))]
    if room >= 0:
        place = with_article(scene.rooms[room].kind)
    elif len(scene.rooms) == 1:
        place = with_article(scene.rooms[0].kind)
    else:
        place = f"a home of {_number(len(scene.rooms))} rooms" if scene.rooms else "a place"
    return f"{place} with {_listed(parts)}" if parts else f"{place} without furniture"


_NUMBERS: Final = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def _counted(label: str, count: int) -> str:
    return with_article(label) if count == 1 else f"{_number(count)} {plural(label)}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


# --- corpora ---


def save_referrals(path: str | Path, referrals: Iterable[Referral]) -> Path:
    """Writes a corpus of referrals as `texts.save_texts` does."""
    return save_texts(path, referrals)


def load_referrals(path: str | Path) -> list[Referral]:
    """The referrals of what `texts.save_texts` wrote; errors as of `texts.load_texts`."""
    return [text for text in load_texts(path) if isinstance(text, Referral)]
