"""Chosen relations of a home as arrows with words on its map."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from core.errors import InputError, nearest
from scene.geometry import footprint
from scene.labels import Labels, contains
from scene.relations import FAMILIES, SYNONYMS, Relation
from scene.types import Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scene.graph import SceneGraph

R = Relation
GROUPS: Final[dict[str, tuple[Relation, ...]]] = {
    "contact": FAMILIES["contact"],
    "near": (R.ADJACENT_TO, R.BESIDES, R.NEXT_TO, R.CLOSE_TO),
    "direction": (R.LEFT_OF, R.RIGHT_OF, R.BEHIND, R.IN_FRONT_OF),
    "vertical": FAMILIES["vertical"],
    "multi-object": FAMILIES["multi-object"],
}
COLORS: Final = dict(zip(GROUPS, ("#22252b", "#1f6feb", "#c2410c", "#7c3aed", "#0f8a5f")))
WORDS_MAX = 30  # arrows on one map that still carry words; more have the legend only
OF_ONE_MAX = 10  # arrows of one object: the nearest things
BACKGROUND: Final = frozenset({"door", "doorway", "window", "curtain rod", "rug"})
"""Classes that take part only where one object's relations are asked for."""


@dataclass(frozen=True)
class Arrow:
    """From a thing to the one it stands in relation to."""

    subject: int
    other: int
    words: str  # "left of", "on"
    group: str  # key of GROUPS


def relations_named(text: str) -> frozenset[Relation]:
    """The relations that a comma-separated list names: "left_of,on", a group ("near", "direction") or "all".

    Raises:
        InputError: a name that is no relation, wording of one, or group.
    """
    known: dict[str, set[Relation]] = {name: set(members) for name, members in (*FAMILIES.items(), *GROUPS.items())}
    for relation in Relation:
        for name in {relation.value, *SYNONYMS[relation]} - GROUPS.keys():
            known.setdefault(name.replace(" ", "_"), set()).add(relation)
    known["all"] = set(Relation)
    chosen: set[Relation] = set()
    for name in filter(None, (part.strip().replace(" ", "_") for part in text.split(","))):
        if name not in known:
            raise InputError(f"relations={text}: no relation is called {name!r}; {nearest(name, sorted(known))}")
        chosen |= known[name]
    return frozenset(chosen)


def choose_arrows(
    scene: Scene, graph: "SceneGraph", relations: Collection[Relation], object_id: int | None = None
) -> list[Arrow]:
    """The arrows to draw.

    Args:
        relations: only these; empty = all that hold between two things, which only one object's map can hold.
        object_id: only relations that start at this object, to its OF_ONE_MAX nearest partners. Left out: every
            object's, but of each relation only the one to the nearest thing, and without doors, windows and rugs.

    Raises:
        InputError: there is no such object.
    """
    if object_id is not None and not 0 <= object_id < len(scene.objects):
        raise InputError(f"object={object_id}: scene {scene.id} has objects 0..{len(scene.objects) - 1}")
    wanted = frozenset(relations) or frozenset(Relation) - frozenset(GROUPS["multi-object"])
    group_of = {relation: name for name, members in GROUPS.items() for relation in members}
    order = {name: number for number, name in enumerate(GROUPS)}  # the most telling first
    place = scene.boxes[:, :3]
    found: dict[tuple[int, int], list[Relation]] = {}
    for subject in range(len(scene.objects)) if object_id is None else [object_id]:
        if object_id is None and graph.labels[subject] in BACKGROUND:
            continue
        closest: dict[Relation, tuple[float, tuple[int, ...]]] = {}
        for edge in graph.edges_of(subject):
            others = tuple(other for other in edge.objects if other >= 0)
            if not others or edge.relation not in wanted:
                continue
            if object_id is None and not BACKGROUND.isdisjoint(graph.labels[other] for other in others):
                continue
            away = float(max(np.linalg.norm(place[other] - place[subject]) for other in others))
            if object_id is not None:
                for other in others:
                    found.setdefault((subject, other), []).append(edge.relation)
            elif away < closest.get(edge.relation, (np.inf, ()))[0]:
                closest[edge.relation] = away, others
        for relation, (_, others) in closest.items():
            for other in others:
                found.setdefault((subject, other), []).append(relation)
    pairs = sorted(found, key=lambda pair: (float(np.linalg.norm(place[pair[0]] - place[pair[1]])), pair))
    if object_id is not None:
        pairs = pairs[:OF_ONE_MAX]
    arrows = []
    for subject, other in pairs:
        said = sorted(dict.fromkeys(found[subject, other]), key=lambda relation: order[group_of[relation]])
        words = ", ".join(SYNONYMS[relation][0] for relation in said)
        arrows.append(Arrow(subject, other, words, group_of[said[0]]))
    return arrows


def draw_arrows(ax: "Axes", scene: Scene, arrows: Iterable[Arrow], labels: Labels) -> None:
    """Draws arrows from thing to thing with their words on them; many carry a legend of colours."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import FancyArrowPatch, Polygon

    arrows = list(arrows)
    bend = 0.14
    corners = footprint(scene.boxes)
    for arrow in arrows:
        a, b = scene.boxes[arrow.subject, :2], scene.boxes[arrow.other, :2]
        color = COLORS[arrow.group]
        start = None  # the middle; the edge where the other thing lies outside
        if not contains(corners[arrow.subject], b[None])[0]:
            start = ax.add_patch(Polygon(corners[arrow.subject], fill=False, edgecolor="none"))
        for width, ink, order in ((3.4, "#ffffff", 7.0), (1.5, color, 7.1)):
            ax.add_patch(
                FancyArrowPatch(
                    tuple(a), tuple(b), arrowstyle="-|>", mutation_scale=11, connectionstyle=f"arc3,rad={bend}",
                    patchA=start, shrinkA=1, shrinkB=5, linewidth=width, color=ink, zorder=order, alpha=0.85,
                )
            )  # fmt: skip
        if start is None:
            ax.plot(*a, "o", markersize=4, color=color, zorder=7.2)
    if len(arrows) <= WORDS_MAX:
        for arrow in arrows:
            a, b = scene.boxes[arrow.subject, :2], scene.boxes[arrow.other, :2]
            control = 0.5 * (a + b) + bend * np.array([b[1] - a[1], a[0] - b[0]])  # of the quadratic curve arc3 draws
            spots = [(1 - t) ** 2 * a + 2 * t * (1 - t) * control + t**2 * b
                     for t in (0.65, 0.75, 0.55, 0.85, 0.45, 0.95)]  # fmt: skip
            step = labels.line_height(7.0)
            spots += [spot + np.array([0, shift]) for shift in (step, -step, 2 * step, -2 * step) for spot in spots[:5]]
            plate = {"boxstyle": "round,pad=0.12", "facecolor": "#ffffff", "edgecolor": COLORS[arrow.group],
                     "linewidth": 0.6, "alpha": 0.94}  # fmt: skip
            labels.put(arrow.words, spots, must=True, fontsize=7.0, color=COLORS[arrow.group], bbox=plate, zorder=9)
    groups = [name for name in GROUPS if any(arrow.group == name for arrow in arrows)]
    if groups and len(arrows) > WORDS_MAX:
        lines = [Line2D([], [], color=COLORS[name], linewidth=1.5, label=name) for name in groups]
        ax.legend(handles=lines, frameon=False, fontsize=8, ncols=len(lines), loc="lower right",
                  bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)  # fmt: skip
