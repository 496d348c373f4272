"""Texts about a home for pictures and pages: which words of a sentence mean which objects."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from scene.english import plural
from scene.graph import SceneGraph
from scene.language import TextPlan, write_texts
from scene.store import SceneStore
from scene.types import Scene

TARGET, ANCHOR, PLAIN = "target", "anchor", ""  # what a piece of a sentence means
GENERATED: Final = 40  # referrals written for a home that brings none


@dataclass(frozen=True)
class Said:
    """One text as a reader sees it."""

    type: str  # referral, caption or question
    kind: str
    sentence: str
    targets: tuple[int, ...] = ()  # ids of the objects it means, or speaks of
    anchors: tuple[int, ...] = ()  # ids of the others it names
    answer: str = ""  # of a question


def said(text: Any) -> Said:
    """A referral, caption or question (any object with their fields) as `Said`."""
    if hasattr(text, "utterance"):
        return Said("referral", text.kind, text.utterance, tuple(text.targets), tuple(text.anchors))
    if hasattr(text, "question"):
        situation = f"{text.situation}: " if text.situation else ""
        return Said("question", text.kind, situation + text.question, tuple(text.objects), (), text.answers[0])
    spoken = tuple(text.objects)  # an object's caption has that object first; of a room or a home it speaks of all
    first = 1 if text.kind == "object" else len(spoken)
    return Said("caption", text.kind, text.text, spoken[:first], spoken[first:])


def written(store: SceneStore, scene_id: str) -> list[Said]:
    """The texts of a home in a corpus; none where its folder holds single scenes.

    Raises:
        InputError: the shard of the home is damaged.
    """
    return [said(text) for text in store.texts_of(scene_id)]


def generated(scene: Scene, graph: SceneGraph, seed: int) -> list[Said]:
    """Texts of a home that brings none: referrals, captions, questions."""
    plan = TextPlan(referrals=GENERATED, held_out=True)
    return [said(text) for text in write_texts(scene, graph, plan, np.random.default_rng(seed))]


def pieces(text: Said, scene: Scene) -> list[tuple[str, str, tuple[int, ...]]]:
    """The sentence cut where its meaning changes: (words, TARGET, ANCHOR or PLAIN, ids of the objects they mean).

    Objects are found by their label, with their colour where it stands there, in singular or plural; longer names
    first. Where one name could mean several, targets come before anchors. What is called otherwise stays plain.
    """
    names: dict[str, list[tuple[str, int]]] = {}
    for role, ids in ((TARGET, text.targets), (ANCHOR, text.anchors)):
        for k in ids:
            item = scene.objects[k]
            color = item.attributes.get("color", "")
            for label in (item.label, plural(item.label)):
                for name in filter(None, (f"{color} {label}" if color else "", label)):
                    names.setdefault(name, []).append((role, k))
    marks: list[tuple[int, int, str, tuple[int, ...]]] = []
    done: set[int] = set()
    for name in sorted(names, key=lambda name: (-len(name), name)):
        for match in re.finditer(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text.sentence, re.IGNORECASE):
            start, end = match.span()
            meant = [(role, k) for role, k in names[name] if k not in done]
            if not meant or any(start < b and a < end for a, b, _, _ in marks):
                continue
            role = meant[0][0]
            together = [k for other, k in meant if other == role] if role == TARGET else [meant[0][1]]
            done.update(together)
            marks.append((start, end, role, tuple(together)))
    cut: list[tuple[str, str, tuple[int, ...]]] = []
    place = 0
    for start, end, role, meaning in sorted(marks):
        cut += [(text.sentence[place:start], PLAIN, ()), (text.sentence[start:end], role, meaning)]
        place = end
    cut.append((text.sentence[place:], PLAIN, ()))
    return [piece for piece in cut if piece[0]]


def spread(texts: Sequence[Said], count: int) -> list[Said]:
    """At most `count` of them, the kinds in turn, so that a short list shows every kind; in their given order."""
    turn: dict[tuple[str, str], int] = {}
    order = []
    for place, text in enumerate(texts):
        key = (text.type, text.kind)
        turn[key] = turn.get(key, 0) + 1
        order.append((turn[key], place))
    return [texts[place] for place in sorted(place for _, place in sorted(order)[:count])]
