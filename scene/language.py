"""Everything to say about a home: referrals, captions and questions, each true by the scene graph.

A referral carries its query (scene/query.py) and is written only when the query fits exactly its targets. Which
queries there are: scene/meanings.py; how they are put: scene/patterns.py; what is kept from training:
scene/heldout.py. All draws come from one generator, so a home's texts depend on its scene, graph and seed alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from core.errors import InputError
from scene.descriptions import captions
from scene.graph import SceneGraph
from scene.heldout import HELD_OUT_PATTERNS, HELD_OUT_SYNONYMS, reasons
from scene.meanings import Found, chains, nothing, several, singles, stars
from scene.patterns import Wording, patterns_of, predicates_of, say, wordings
from scene.query import PREDICATES, Query, resolve, resolve_among
from scene.questions import ask
from scene.scope import Scope, scopes
from scene.texts import Referral, Text
from scene.types import Scene

KIND_SHARES: Final = {
    "relation": 0.35,
    "attribute": 0.2,
    "superlative": 0.15,
    "support": 0.15,
    "between": 0.1,
    "unique": 0.05,
}
"""How many of a home's short sentences, with one relation at most, are of each kind where it has enough of them."""
ALL_KIND_SHARES: Final = {
    "relation": 0.28,
    "attribute": 0.12,
    "superlative": 0.11,
    "support": 0.14,
    "between": 0.08,
    "aligned": 0.03,
    "star": 0.11,
    "chain": 0.09,
    "unique": 0.04,
}
EASY_SHARE: Final = 0.2  # of a kind's sentences, how many may name a class that has one member only


@dataclass(frozen=True)
class TextPlan:
    """How many texts of each kind to write for one home, at most; a home with less to say yields fewer."""

    referrals: int = 40  # with one target
    multi: int = 4  # referrals with several targets
    zero: int = 4  # referrals that nothing fits
    captions: bool = True  # of every object, of every room, and of the home
    questions: int = 12
    held_out: bool = False  # may use held-out language (val and test); a training text never does

    def __post_init__(self) -> None:
        low = [f"{name}={getattr(self, name)}" for name in ("referrals", "multi", "zero", "questions")]
        low = [text for text in low if text.split("=")[1].startswith("-")]
        if low:
            raise InputError(f"cannot write {', '.join(low)} texts; give 0 or more")


def write_texts(scene: Scene, graph: SceneGraph, plan: TextPlan, rng: np.random.Generator) -> list[Text]:
    """Everything to say about one home, no text twice; the same generator state gives the same texts.

    Large homes are spoken of room by room (scene.graph.spoken_room_by_room), the counts of the plan split over the
    rooms by their objects.

    Raises:
        InputError: the graph is of another scene.
    """
    _check(scene, graph)
    texts: list[Text] = []
    parts = scopes(scene, graph, held_out=plan.held_out)
    for scope, share in _shares(parts, plan.referrals):
        texts += _write(scope, share, ALL_KIND_SHARES, rng, filled=("support",))
    for scope, share in _shares(parts, plan.multi):
        texts += _write_found(scope, _spread(list(several(scope)), rng), share, "multi", rng)
    for scope, share in _shares(parts, plan.zero):
        texts += _write_found(scope, nothing(scope, rng, share), share, "zero", rng)
    if plan.captions and parts:
        texts += captions(parts, rng)
    for scope, share in _shares(parts, plan.questions):
        texts += ask(scope, share, rng)
    return texts


def generate_referrals(scene: Scene, graph: SceneGraph, n: int, rng: np.random.Generator) -> list[Referral]:
    """Up to `n` different short referrals, each fitting exactly its target; fewer where the scene has no more to say.

    Kinds are mixed by KIND_SHARES and targets drawn evenly. Classes with several members come first; at most
    EASY_SHARE of a kind names a class with a single one while others are left. The same generator state gives the same
    sentences. Large homes are spoken of room by room (scene.graph.spoken_room_by_room), `n` split over the rooms by
    their objects; anchors stand in the target's room. Held-out language is used and marked.

    Raises:
        InputError: `n` is negative, or the graph is of another scene.
    """
    if n < 0:
        raise InputError(f"cannot write {n} referrals; give 0 or more")
    _check(scene, graph)
    written: list[Referral] = []
    parts = scopes(scene, graph)
    left = sum(len(scope.ids) for scope in parts)
    for scope in parts:
        share = round((n - len(written)) * len(scope.ids) / left)  # what a poor room cannot use goes to the next ones
        written += _write(scope, share, KIND_SHARES, rng)
        left -= len(scope.ids)
    return written


def verify_referral(referral: Referral, scene: Scene, graph: SceneGraph) -> bool:
    """Whether the sentence is a wording of its query, and the query fits exactly its targets.

    Sentences of other sources than "template" are held to the second half only.

    Raises:
        InputError: the referral carries no readable query, or belongs to another scene.
    """
    if referral.scene_id != scene.id:
        raise InputError(f"the referral is about scene {referral.scene_id!r}, the scene is {scene.id!r}")
    query = Query.from_json(referral.query)
    count = len(referral.targets) if referral.kind == "multi" else 1
    worded = referral.source != "template" or referral.utterance in wordings(query, count)
    return worded and resolve(query, scene, graph, referral.room) == set(referral.targets)


def _check(scene: Scene, graph: SceneGraph) -> None:
    if graph.scene_id != scene.id or len(graph.labels) != len(scene.objects):
        raise InputError(f"the graph of scene {graph.scene_id!r} does not belong to scene {scene.id!r}")


def _shares(parts: list[Scope], n: int) -> Iterator[tuple[Scope, int]]:
    """Scopes and their part of `n`, by objects; the parts add up to it."""
    left = sum(len(scope.ids) for scope in parts)
    for scope in parts:
        share = round(n * len(scope.ids) / left) if left else 0
        yield scope, share
        n, left = n - share, left - len(scope.ids)


def _write(
    scope: Scope, n: int, shares: Mapping[str, float], rng: np.random.Generator, *, filled: Sequence[str] = ()
) -> list[Referral]:
    """Sentences with one target, kinds mixed by `shares`.

    Args:
        filled: kinds whose share is filled up with easy ones, where another kind would take their place otherwise.
    """
    makers: list[Callable[[Scope, np.random.Generator], Iterator[Found]]] = [singles]
    makers += [stars] if "star" in shares else []
    makers += [chains] if "chain" in shares else []
    pools: dict[str, list[Found]] = {kind: [] for kind in shares}
    for make in makers:
        for found in make(scope, rng):
            if found.query.kind in pools:
                pools[found.query.kind].append(found)
    chosen: list[Found] = []
    spare: list[Found] = []
    for kind, share in shares.items():
        hard = _spread([f for f in pools[kind] if not f.easy], rng)
        easy = _spread([f for f in pools[kind] if f.easy], rng)
        quota = round(n * share)
        few = quota if kind == "unique" else round(quota * EASY_SHARE)
        few = max(few, quota - len(hard)) if kind in filled else few
        few = min(few, len(easy))
        many = min(quota - few, len(hard))
        chosen += hard[:many] + easy[:few]
        spare += hard[many:] + ([] if kind == "unique" else easy[few:])
    spare.sort(key=lambda f: f.easy)  # stable: hard ones of every kind first
    return _write_found(scope, [*chosen, *spare], n, "", rng)


def _write_found(scope: Scope, found: list[Found], n: int, kind: str, rng: np.random.Generator) -> list[Referral]:
    written: dict[str, Referral] = {}
    for item in found:
        if len(written) >= n:
            break
        wording = _worded(scope, item, rng)
        if wording is not None and wording.text not in written:
            written[wording.text] = _referral(scope, item, wording, kind or item.query.kind)
    return list(written.values())


def _worded(scope: Scope, found: Found, rng: np.random.Generator) -> Wording | None:
    """One way to say it, drawn from those that the scope's language has."""
    query, count = found.query, len(found.targets) or 1
    patterns = [p for p in patterns_of(query, count) if scope.held_out or p.id not in HELD_OUT_PATTERNS]
    if not patterns:
        return None
    pattern = patterns[int(rng.integers(len(patterns)))]
    words = {}
    for key in predicates_of(query):
        options = [w for w in PREDICATES[key].words if scope.held_out or w not in HELD_OUT_SYNONYMS]
        words[key] = options[int(rng.integers(len(options)))]
    return Wording(say(query, pattern, words, count), pattern.id, tuple(words.values()))


def _referral(scope: Scope, found: Found, wording: Wording, kind: str) -> Referral:
    fits = resolve_among(found.query, scope.ids, scope.scene, scope.graph)
    told = f"{wording.text!r} of {scope.scene.id}"
    assert fits == set(found.targets), f"{told} fits {sorted(fits)}, not exactly {sorted(found.targets)}"
    homes = {scope.home_of[i] for i in found.targets or found.anchors}
    return Referral(
        scene_id=scope.scene.id,
        utterance=wording.text,
        targets=found.targets,
        anchors=found.anchors,
        kind=kind,
        room=scope.room if scope.room >= 0 or len(homes) != 1 else homes.pop(),
        view_dependent=found.query.view_dependent,
        n_same_class=found.rivals,
        query=found.query.to_json(),
        pattern=wording.pattern,
        held_out=reasons(found.query, wording.pattern, wording.words),
    )


def _spread(found: list[Found], rng: np.random.Generator) -> list[Found]:
    """Shuffled so that every target comes once before any comes twice, and relations take turns within a round."""
    shuffled = [found[i] for i in rng.permutation(len(found))]
    targets: dict[tuple[int, ...], int] = {}
    relations: dict[tuple[int, str], int] = {}
    order = []
    for k, item in enumerate(shuffled):
        turn = targets[item.targets] = targets.get(item.targets, 0) + 1
        key = (turn, item.query.predicate)
        relations[key] = relations.get(key, 0) + 1
        order.append((turn, relations[key], k))
    return [shuffled[k] for *_, k in sorted(order)]
