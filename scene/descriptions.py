"""Captions: of an object, of a room with its counts and some of its relations, and of the home.

A caption says only what the graph knows. Room captions follow the recipe of SceneVerse (arXiv:2401.09340, section 3.3):
kind of room, counts, a random part of the relations, at most 80 words; theirs are put by an LLM, these by patterns.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from scene.english import MASS, counted, is_plural, listed, number, with_article
from scene.graph import Edge, SceneGraph
from scene.heldout import HELD_OUT_SYNONYMS, is_held_out_color, is_held_out_relation, reasons
from scene.query import PREDICATES, Noun, Query
from scene.scope import FURNITURE_MIN_M, Scope
from scene.support import SURFACE_NAMES
from scene.texts import Caption
from scene.types import Scene, SceneObject

MAX_WORDS: Final = 80
MAX_CLASSES: Final = 8  # a room's caption counts this many classes, the most frequent ones
TOLD_RELATIONS: Final = 3  # of a room, at most
CAPTION_ORDER: Final = (
    "in",
    "embedded",
    "on",
    "hanging",
    "above",
    "next",
    "near",
    "below",
    "hung",
    "mounted",
    "affixed",
    "set",
    "standing",
)
"""Ties that describe a thing, the most telling first."""


def describe(item: SceneObject, graph: SceneGraph) -> str:
    """One phrase: "a red armchair next to the window". The closest tie is told; the article of the other thing is
    "the" when its label is the only one of its room."""
    noun = Noun(item.label, item.attributes.get("color", ""))
    tie = _tie(item, graph, held_out=True)
    return (
        with_article(noun) if tie is None else f"{with_article(noun)} {_tied(*tie, graph, PREDICATES[tie[0]].words[0])}"
    )


def _tie(item: SceneObject, graph: SceneGraph, *, held_out: bool) -> tuple[str, Edge] | None:
    """(predicate, edge) of what describes a thing best."""
    edges = graph.edges_of(item.id)
    for key in CAPTION_ORDER:
        predicate = PREDICATES[key]
        if not predicate.is_said_of(item.label) or not (held_out or not is_held_out_relation(key, item.label)):
            continue
        ties = [
            e
            for e in edges
            if e.relation in predicate.relations
            and predicate.surface == (e.objects[0] < 0)
            and (key != "standing" or item.box[3:6].max() <= FURNITURE_MIN_M)
            and (e.objects[0] < 0 or graph.labels[e.objects[0]] != item.label)
        ]
        if ties:
            return key, max(ties, key=lambda e: (e.margin, -e.objects[0]))
    return None


def _tied(key: str, edge: Edge, graph: SceneGraph, word: str) -> str:
    """ "next to the window"."""
    return f"{word} {_other(edge.objects[0], graph)}"


def _other(i: int, graph: SceneGraph) -> str:
    if i < 0:
        return f"the {SURFACE_NAMES[i]}"
    label = graph.labels[i]
    here = np.flatnonzero(graph.room == graph.room[i])
    return f"the {label}" if sum(graph.labels[j] == label for j in here) == 1 else with_article(label)


def describe_scene(scene: Scene, graph: SceneGraph, room: int = -1) -> str:
    """One phrase: "a bedroom with a bed, two chairs and a lamp". `room` = -1 speaks of the whole scene."""
    ids = range(len(scene.objects)) if room < 0 else np.flatnonzero(graph.room == room)
    parts = _counts([graph.labels[i] for i in ids])
    place = _place(scene, room)
    return f"{place} with {listed(parts)}" if parts else f"{place} without furniture"


def _counts(labels: Sequence[str]) -> list[str]:
    counts = Counter(labels)
    return [counted(label, count) for label, count in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))]


def _be(parts: Sequence[str]) -> str:
    """ "is" or "are", by the first of a list."""
    return "is" if parts[0].startswith(("a ", "an ")) or parts[0] in {f"some {label}" for label in MASS} else "are"


def _place(scene: Scene, room: int) -> str:
    if room >= 0:
        return with_article(scene.rooms[room].kind)
    if len(scene.rooms) == 1:
        return with_article(scene.rooms[0].kind)
    return f"a home of {number(len(scene.rooms))} rooms" if scene.rooms else "a place"


# --- captions with a choice of words ---


def captions(parts: Sequence[Scope], rng: np.random.Generator) -> list[Caption]:
    """Of every object, every room with objects, and the home; no text twice."""
    found: dict[str, Caption] = {}
    scene, graph = parts[0].scene, parts[0].graph
    for scope in parts:
        for i in scope.ids:
            caption = _object(scope, i, rng)
            found.setdefault(caption.text, caption)
    scope = parts[0]
    for room in sorted(set(graph.room.tolist()) - {-1}):
        caption = _room(scene, graph, room, scope.held_out, rng)
        found.setdefault(caption.text, caption)
    if len(scene.rooms) != 1:
        caption = _home(scene, graph, rng)
        found.setdefault(caption.text, caption)
    return list(found.values())


def _object(scope: Scope, i: int, rng: np.random.Generator) -> Caption:
    item = scope.scene.objects[i]
    noun = scope.nouns[i][-1]
    tie = _tie(item, scope.graph, held_out=scope.held_out)
    it_is = "they are" if is_plural(noun.label) else "it is"
    if tie is None:
        this_is = "these are " if is_plural(noun.label) else "this is "
        text = f"{'' if rng.random() < 0.5 else this_is}{with_article(noun)}."
        return Caption(scope.scene.id, text, "object", (i,), scope.home_of[i], held_out=reasons(nouns=(noun,)))
    key, edge = tie
    word = _word(key, scope.held_out, rng)
    tail = _tied(key, edge, scope.graph, word)
    forms = (
        f"{with_article(noun)} {tail}.",
        f"{with_article(noun)}; {it_is} {tail}.",
        f"this {noun.label} is {noun.color}; {it_is} {tail}."
        if noun.color and it_is == "it is"
        else f"{with_article(noun)} {tail}.",
    )
    which = int(rng.integers(len(forms)))
    others = tuple(j for j in edge.objects if j >= 0)
    why = reasons(Query(noun, key, (Noun(scope.graph.labels[others[0]] if others else "wall"),)), words=(word,))
    return Caption(
        scope.scene.id, forms[which], "object", (i, *others), scope.home_of[i], pattern=f"object-{which}", held_out=why
    )


def _word(key: str, held_out: bool, rng: np.random.Generator) -> str:
    words = [word for word in PREDICATES[key].words if held_out or word not in HELD_OUT_SYNONYMS]
    return words[int(rng.integers(len(words)))]


def _room(scene: Scene, graph: SceneGraph, room: int, held_out: bool, rng: np.random.Generator) -> Caption:
    ids = np.flatnonzero(graph.room == room).tolist()
    kind = scene.rooms[room].kind
    parts = _counts([graph.labels[i] for i in ids])
    shown, more = parts[:MAX_CLASSES], len(parts) > MAX_CLASSES
    things = listed([*shown, "other things"]) if more else listed(shown)
    forms = (
        f"{with_article(kind)} with {things}.",
        f"this is {with_article(kind)}. there {_be(shown)} {things}.",
        f"in the {kind} you find {things}.",
    )
    which = int(rng.integers(len(forms)))
    sentences, objects, why = [forms[which]], list(ids), set()
    for i in rng.permutation(ids).tolist():
        if len(sentences) > TOLD_RELATIONS:
            break
        item = scene.objects[i]
        tie = _tie(item, graph, held_out=held_out)
        if tie is None:
            continue
        key, edge = tie
        color = item.attributes.get("color", "")
        noun = Noun(item.label, color if held_out or not is_held_out_color(color, item.label) else "")
        word = _word(key, held_out, rng)
        same = graph.labels[i] in [graph.labels[j] for j in ids if j != i]
        subject = with_article(noun) if same else f"the {noun}"
        be = "are" if is_plural(noun.label) else "is"
        line = f"{subject} {be} {_tied(key, edge, graph, word)}."
        if line in sentences or len(" ".join([*sentences, line]).split()) > MAX_WORDS:
            continue
        sentences.append(line)
        other = graph.labels[edge.objects[0]] if edge.objects[0] >= 0 else "wall"
        why.update(reasons(Query(noun, key, (Noun(other),)), words=(word,)).split(","))
    text = " ".join(sentences)
    held = ",".join(sorted(why - {""}))
    return Caption(scene.id, text, "room", tuple(objects), room, pattern=f"room-{which}", held_out=held)


def _home(scene: Scene, graph: SceneGraph, rng: np.random.Generator) -> Caption:
    kinds = Counter(room.kind for room in scene.rooms)
    text = describe_scene(scene, graph)
    if kinds:
        rooms = listed([counted(kind, count) for kind, count in sorted(kinds.items())])
        counts = _counts(graph.labels)
        most = listed(counts[:MAX_CLASSES])
        forms = (
            f"a home with {rooms}. in all there {_be(counts)} {most}.",
            f"this home has {rooms}. among its things {_be(counts)} {most}.",
        )
        text = forms[int(rng.integers(len(forms)))]
    else:
        text += "."
    return Caption(scene.id, text, "scene", tuple(range(len(scene.objects))), -1)
