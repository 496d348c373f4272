"""A ranking as a picture: a map with the best candidates numbered, and their scores as bars beside it."""

import io
import textwrap
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from scene.draw import ACCENT, FAINT, INK, PAPER, draw_map, map_limits, window_around
from scene.geometry import footprint
from scene.types import Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scene.grounder import Scored

MARKED: Final = 5  # candidates numbered on the map
BARS: Final = 12  # candidates with a bar
OTHER: Final = "#1f6feb"  # candidates that come after the first
PALE: Final = "#c3cad6"  # bars of candidates outside the set
CROWDED: Final = 60  # objects from which on only the candidates are named
DPI: Final = 140


def ranking_picture(
    scene: Scene, sentence: str, ranked: Sequence["Scored"], present: Collection[int] | None = None, level: float = 0.0
) -> bytes:
    """PNG of the map and the bars.

    Args:
        ranked: best first.
        present: ids of the objects in the conformal set; None = the model was not calibrated.
        level: stated coverage of that set.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    low, high = _window(scene, [item.id for item in ranked])
    wide, tall = high - low
    map_width = float(np.clip(6.4 * wide / tall, 4.6, 10.5))
    map_height = float(np.clip(map_width * tall / wide, 4.0, 7.4))
    left, names, bars, top, bottom = 0.75, 1.95, 2.9, 0.95, 0.95  # inches
    width, height = left + map_width + names + bars + 0.25, map_height + top + bottom
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    places = [(left, map_width), (left + map_width + names, bars)]
    plan, chart = (figure.add_axes((x / width, bottom / height, w / width, map_height / height)) for x, w in places)
    _map(plan, scene, ranked, (low, high), not_there=present is not None and not present)
    _bars(chart, ranked, present, level)
    title = "\n".join(textwrap.wrap(sentence, int(8.4 * width), max_lines=2, placeholder=" …")) or "(no words)"
    figure.text(0.3 / width, 1 - 0.16 / height, title, fontsize=13, color=INK, va="top", fontweight="bold")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _window(scene: Scene, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The whole scene; of a home that is spoken of room by room, the part with the candidates."""
    return map_limits(scene) if len(ids) == len(scene.objects) else window_around(scene, ids)


def _map(
    ax: "Axes", scene: Scene, ranked: Sequence["Scored"], window: tuple[np.ndarray, np.ndarray], not_there: bool
) -> None:
    marked = list(enumerate(ranked[:MARKED], start=1))[::-1]  # the first is drawn last, on top
    colors = {item.id: ACCENT if rank == 1 and not not_there else OTHER for rank, item in marked}
    draw_map(ax, scene, highlight=colors, labels=len(scene.objects) <= CROWDED, viewer=True, window=window)
    corners = footprint(scene.boxes)
    for rank, item in marked:
        ax.annotate(
            str(rank), (corners[item.id, :, 0].min(), corners[item.id, :, 1].max()), ha="center", va="center",
            xytext=(-4, 4), textcoords="offset points", fontsize=8, fontweight="bold", color=PAPER,
            zorder=13 - 0.1 * rank,
            bbox={"boxstyle": "circle,pad=0.22", "facecolor": colors[item.id], "edgecolor": PAPER, "linewidth": 1.1},
        )  # fmt: skip


def _bars(ax: "Axes", ranked: Sequence["Scored"], present: Collection[int] | None, level: float) -> None:
    shown = ranked[:BARS]
    inside = [present is None or item.id in present for item in shown]
    colors = [(ACCENT if rank == 0 else OTHER) if kept else PALE for rank, kept in enumerate(inside)]
    ax.barh(range(len(shown)), [item.score for item in shown], color=colors, height=0.66)
    for place, item in enumerate(shown):
        ax.annotate(f"{item.score:.3f}", (item.score, place), xytext=(4, 0), textcoords="offset points", va="center",
                    fontsize=9, color=INK)  # fmt: skip
    names = [f"{textwrap.shorten(item.label, 22, placeholder='…')}  #{item.id}" for item in shown]
    ax.set_yticks(range(len(shown)), [f"{name}   {rank}" for rank, name in enumerate(names, start=1)], fontsize=9)
    ax.set_ylim(max(len(shown), BARS // 2) - 0.4, -0.6)
    ax.set_xlim(0, max(1.22 * shown[0].score, 1e-6))
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    ax.spines["left"].set_color(PALE)
    rest = len(ranked) - len(shown)
    if rest:
        ax.set_xlabel(f"and {rest} more objects", fontsize=9, color=FAINT, loc="left")
    if present is None:
        said = "scores (they sum to 1)"
    elif present:
        said = f"in colour: {len(present)} that may be meant\n(sets of {level:.0%} coverage)"
    else:
        said = f"NOT THERE: nothing reaches the threshold\n(sets of {level:.0%} coverage)"
    ax.set_title(said, fontsize=9.5, color=INK if present is None or present else ACCENT, loc="left")
