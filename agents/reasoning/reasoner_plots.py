"""The plots on the page of `evaluate-reasoner` (agents/reasoning/reasoner_page.py), each as HTML text."""

import textwrap
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from agents.reasoning.answer_figures import ALL, CHANCE, CONTROLS, MAJORITY, SEEN, TOLD
from agents.reasoning.curves import Curve
from core.page import figure_html

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Table = Mapping[str, Mapping[str, Mapping[str, Any]]]  # row -> subset -> value, interval, n

INK, SOFT = "#1d2430", "#7b8494"
COLORS: Final = ("#2457a7", "#c2571a", "#1b7a3d", "#8a4fb0", "#b3261e", "#0f7f8b", "#8c6d1f", "#5b6575")
SUBSETS: Final = {ALL: INK, SEEN: "#2457a7", TOLD: "#d9822b"}
SEEING: Final = {
    "cold": ("its own picture", "#2457a7"),
    "exchanged": ("another's picture", "#8a4fb0"),
    "blind": ("grey picture", "#7b8494"),
}
PANELS_WIDE: Final = 3  # curves beside each other
IN, OUT = "val, in distribution", "{}, out of distribution"
FAR: Final = (("--", "s"), (":", "^"), ("-.", "D"))  # line and marker of sets out of distribution, in turn
SHARES: Final = ("accuracy", "pass@")  # how the titles of panels begin whose height is a share of right answers


def plain(axes: "Axes") -> "Axes":
    """The page's look."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#c3c9d3")
    axes.tick_params(labelsize=9, colors=INK, color="#c3c9d3")
    axes.grid(axis="both", color="#eceff3", linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def accuracy_plot(table: Table, names: Mapping[str, str]) -> str:
    """Every row of the accuracy table, with its intervals.

    Args:
        names: what the plot calls each row that it shows, in order.
    """
    from matplotlib.figure import Figure

    shown = [row for row in names if row in table]
    parts = [part for part in SUBSETS if part in table[shown[0]]]
    figure = Figure(figsize=(9.4, 1.1 + (0.24 + 0.16 * len(parts)) * len(shown)), layout="constrained")
    axes = plain(figure.subplots())
    for place, row in enumerate(shown):
        for number, part in enumerate(parts):
            height = place + (number - (len(parts) - 1) / 2) * 0.24
            if row in (MAJORITY, CHANCE):  # what is known exactly has no interval
                axes.plot(
                    [table[row][part]["value"]], [height], "|", color=SUBSETS[part], markersize=11, markeredgewidth=2
                )
            else:
                interval_line(axes, table[row][part], height, SUBSETS[part], hollow=row in CONTROLS)
    for part in parts:
        axes.plot([], [], "o-", color=SUBSETS[part], markersize=5.5, label=part)
    axes.set(xlim=(-0.02, 1.02), xlabel="share of the questions answered right")
    axes.set_yticks(range(len(shown)), [names[row] for row in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    if len(parts) > 1:
        axes.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(parts))
    return figure_html(figure, "accuracy by way of asking", "Lines: 95 % intervals over groups. Hollow: controls.")


def interval_line(axes: "Axes", found: Mapping[str, Any], height: float, color: str, hollow: bool = False) -> None:
    """A value and its interval as a point on a line at a height."""
    low, high = found["interval"]
    axes.plot([low, high], [height, height], color=color, linewidth=1.6, solid_capstyle="round")
    axes.plot(
        [found["value"]], [height], "o", color=color, markersize=5.5, markerfacecolor="white" if hollow else color
    )


def kinds_plot(table: Table, kinds: Sequence[str]) -> str:
    """Accuracy by kind of question with the own picture, another's, and none."""
    from matplotlib.figure import Figure

    ways = [way for way in SEEING if way in table]
    figure = Figure(figsize=(9.4, 1.2 + (0.2 + 0.16 * len(ways)) * len(kinds)), layout="constrained")
    axes = plain(figure.subplots())
    for place, kind in enumerate(kinds):
        for number, way in enumerate(ways):
            height = place + (number - (len(ways) - 1) / 2) * 0.22
            interval_line(axes, table[way][kind], height, SEEING[way][1], hollow=way != "cold")
        for row, style in ((MAJORITY, "-"), (CHANCE, ":")):
            axes.plot(
                [table[row][kind]["value"]] * 2, [place - 0.4, place + 0.4], style, color="#b3261e", linewidth=1.5
            )
    for way in ways:
        axes.plot([], [], "o-", color=SEEING[way][1], markersize=5.5, label=SEEING[way][0])
    axes.plot([], [], "-", color="#b3261e", label="most frequent answer")
    axes.plot([], [], ":", color="#b3261e", label="chance")
    axes.set(xlim=(-0.02, 1.02), xlabel="share answered right, T = 0.01")
    axes.set_yticks(range(len(kinds)), [textwrap.fill(f"{kind} ({table['cold'][kind]['n']})", 28) for kind in kinds])
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=5)
    return figure_html(
        figure,
        "accuracy by kind of question",
        "A kind whose answers come from looking loses them with another picture; one whose blue point stands where "
        "the grey one does is answered without looking. In brackets the questions; lines are 95 % intervals.",
    )


def passes_plot(sets: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> str:
    """pass@j over j, a line a set of questions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.6), layout="constrained")
    axes = plain(figure.subplots())
    for (name, found), color in zip(sets.items(), COLORS):
        places = sorted(found)
        low, high = np.array([found[j]["interval"] for j in places]).T
        axes.fill_between(places, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(places, [found[j]["value"] for j in places], "o-", color=color, label=name, markersize=5)
    axes.set_xscale("log", base=2)
    ticks = sorted({j for found in sets.values() for j in found})
    axes.set_xticks(ticks, [str(j) for j in ticks])
    axes.minorticks_off()
    axes.set(xlabel="answers drawn at T = 1", ylabel="one of them is right", ylim=(-0.02, 1.02))
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure_html(figure, "pass@k", "Where the line climbs, the model can answer and does not do so reliably.")


def lengths_plot(length: Int64[ndarray, " N"], correct: ndarray, limit: int) -> str:
    """Tokens of right and of wrong answers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.6), layout="constrained")
    axes = plain(figure.subplots())
    top = max(int(length.max()), 2)
    edges = np.linspace(0.5, top + 0.5, min(top, 32) + 1).tolist()
    for chosen, color, name in ((~correct, "#b3261e", "wrong"), (correct, "#1b7a3d", "right")):
        if chosen.any():
            share = np.full(int(chosen.sum()), 1 / len(length))
            axes.hist(length[chosen], edges, weights=share, color=color, alpha=0.5, label=f"{name} ({chosen.sum():,})")
    axes.set(xlabel=f"tokens of an answer (limit {limit})", ylabel="share of all answers")
    axes.legend(frameon=False, fontsize=9)
    return figure_html(figure, "length of answers", "Answers drawn at T = 1, the end token counted.")


def curves_plot(
    panels: Mapping[str, Mapping[str, Curve]], x: str, beside: Mapping[str, Mapping[str, Mapping[str, Curve]]]
) -> str:
    """Learning curves; see `curves_figure`."""
    return figure_html(curves_figure(panels, x, beside), "learning curves", dpi=130)


def curves_figure(
    panels: Mapping[str, Mapping[str, Curve]],
    x: str,
    beside: Mapping[str, Mapping[str, Mapping[str, Curve]]] = MappingProxyType({}),
) -> "Figure":
    """A panel a quantity, a line an arm: mean over seeds, one standard deviation to each side, each seed thinly.

    Args:
        panels: title -> arm -> curve; every arm keeps its colour.
        x: name of the common axis.
        beside: title -> set -> arm -> curve: lines of other kinds in the same panel, out of distribution. One arm alone
            has a colour for each set instead.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    arms = list(dict.fromkeys(arm for curves in panels.values() for arm in curves))
    columns = min(PANELS_WIDE, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(max(3.35 * columns, 5.0), 2.75 * rows + 0.3))
    figure.set_layout_engine("constrained", w_pad=0.08)  # inches: a panel's label stands clear of the panel beside it
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    sets = list(dict.fromkeys(name for found in beside.values() for name in found))

    def look(arm: str, name: str = "") -> dict[str, Any]:
        line, marker = FAR[sets.index(name) % len(FAR)] if name else ("-", "o")
        number = arms.index(arm) if len(arms) > 1 or not name else 1 + sets.index(name)
        return {"color": COLORS[number % len(COLORS)], "linestyle": line, "marker": marker}

    for axes, (title, curves) in zip(grid, panels.items()):
        plain(axes)
        for arm, found in curves.items():
            curve_line(axes, found, look(arm))
        for name, others in beside.get(title, {}).items():
            for arm, found in others.items():
                curve_line(axes, found, look(arm, name))
        axes.set_title(title, fontsize=10, loc="left", color=INK)
        axes.set_xlabel(x, fontsize=9, color=SOFT)
        if title.startswith(SHARES):
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, -0.02), min(high, 1.02))  # bands may reach where no share can be
            axes.set_ylabel("share right", fontsize=9, color=SOFT)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    looks = {textwrap.shorten(arm, 60): look(arm) | {"marker": ""} for arm in arms} if len(arms) > 1 else {}
    if sets:
        ink = {"color": INK} if looks else {}
        looks |= {IN: look(arms[0]) | ink} | {OUT.format(name): look(arms[0], name) | ink for name in sets}
    if looks:
        lines = [grid[0].plot([], [], linewidth=2, markersize=4, **style)[0] for style in looks.values()]
        figure.legend(
            lines, list(looks), frameon=False, fontsize=9, handlelength=3, loc="outside upper left",
            ncols=min(3, len(looks)),
        )  # fmt: skip
    return figure


def curve_line(axes: "Axes", found: Curve, style: Mapping[str, Any]) -> None:
    """A curve with its band and its seeds; with a marker at each place where these are few."""
    low, high = found.band
    axes.fill_between(found.x, low, high, color=style["color"], alpha=0.16, linewidth=0)
    if len(found.values) > 1:
        thin = {"color": style["color"], "linestyle": style["linestyle"]}
        axes.plot(found.x, found.values.T, alpha=0.35, linewidth=0.7, **thin)
    marker = style["marker"] if len(found.x) <= 20 else ""
    axes.plot(found.x, found.mean, linewidth=2, markersize=3.5, **{**style, "marker": marker})
