"""Questions of somebody who stands at one thing and faces another.

In the spirit of SQA3D (Ma et al., arXiv:2210.07474). Each brings a place and a heading; its answer is an angle between
the heading and what is asked about, not an edge of the graph, and so does not depend on the graph's viewpoint.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from scene.english import is_plural, with_article
from scene.heldout import reasons
from scene.query import SUPERLATIVE_MIN_GAP_M
from scene.scope import Scope
from scene.support import FLOOR, WALL
from scene.texts import Question

PLACE_MIN_M: Final = 0.35  # long and wide: nobody stands "at" a bottle
STAND_OFF_M: Final = 0.3  # from the side of the thing one stands at
FACING_MIN_M: Final = 1.2  # from what one faces
ASKED_MIN_M: Final = 0.7  # from what is asked about: nearer, its direction is a matter of which part of it
CLEAR_ANGLE_RAD: Final = np.deg2rad(35.0)  # from left, right, ahead or behind; the quarters meet at 45 degrees
SIDE_MIN_RAD: Final = np.deg2rad(25.0)  # from straight ahead or behind, where only the side is asked
SIDES: Final[dict[str, tuple[str, ...]]] = {
    "left": ("left", "to my left", "on my left"),
    "right": ("right", "to my right", "on my right"),
    "in front": ("in front", "in front of me", "ahead"),
    "behind": ("behind", "behind me"),
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


def balanced(candidates: Sequence[Question], n: int, rng: np.random.Generator) -> list[Question]:
    """`n` of them, the answers taking turns in a drawn order."""
    shuffled = [candidates[k] for k in rng.permutation(len(candidates))]
    turns: dict[str, int] = {}
    ranked = []
    for place, question in enumerate(shuffled):
        turns[question.answers[0]] = turns.get(question.answers[0], 0) + 1
        ranked.append((turns[question.answers[0]], place))
    return [shuffled[place] for _, place in sorted(ranked)[:n]]


def situated(scope: Scope, n: int, rng: np.random.Generator) -> Iterator[Question]:
    """Standing at one thing and facing another: where a third one is, or what is there."""
    asked: list[Question] = []
    for _ in range(6 * n):
        stand = stand_somewhere(scope, rng)
        if stand is not None:
            asked += around(scope, stand, rng)
    yield from balanced(asked, n, rng)


def stand_somewhere(scope: Scope, rng: np.random.Generator) -> Stand | None:
    """A free place on the floor at a thing, on the side of another one that is looked at."""
    scene, graph, boxes = scope.scene, scope.graph, scope.boxes
    parent = graph.support_parent
    places = [i for i in scope.names if i >= 0 and (parent[i] == FLOOR or graph.labels[i] == "door")]
    places = [i for i in places if boxes[i, 3:5].max() > PLACE_MIN_M]
    sights = [i for i in scope.names if i >= 0 and parent[i] in (FLOOR, WALL)]
    if not places or not sights:
        return None
    at, facing = places[int(rng.integers(len(places)))], sights[int(rng.integers(len(sights)))]
    if at == facing or scope.home_of[at] != scope.home_of[facing]:
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


def around(scope: Scope, stand: Stand, rng: np.random.Generator) -> Iterator[Question]:
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
                answers: tuple[str, ...]
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
