"""The plots on the page of `score-rewards` (agents/score_page.py), each as HTML text with its picture inside."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy import ndarray

from agents.reward_metrics import Rows
from core.page import figure_html

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Table = Mapping[str, Mapping[str, Any]]  # metric -> value, interval, n

CONTROLS: Final = {
    "random weights": "the same towers before any training: what a picture's colours and shapes give away alone",
    "constant": "the same score everywhere",
    "oracle": "a score made from the truth: what the metrics can reach",
}
OURS, OTHER, CONTROL, INK = "#2457a7", "#8fa9d0", "#c3c9d3", "#1d2430"
PATHS: Final = {
    "oracle": ("shortest way to the goal", "#1b7a3d"),
    "expert": ("expert", "#1b7a3d"),
    "random": ("random walk", "#7b8494"),
    "stare": ("staring at a wall, or standing still", "#d9822b"),
    "wrong_thing": ("at the wrong thing", "#b3261e"),
    "circling": ("circling", "#8a4fb0"),
    "policy": ("a trained policy", "#2457a7"),
    "failed": ("failed", "#8c1d40"),
    "recording": ("recording", "#2457a7"),
    "camera": ("sampled camera", INK),
}


def value_of(figures: Table, metric: str) -> float | None:
    """A figure, or None where it is undefined or was not measured."""
    return figures.get(metric, {}).get("value")


def numbers_of(values: Sequence[float | None]) -> ndarray:
    """Numbers of JSON, None as NaN."""
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _figure(width: float, height: float) -> tuple["Figure", "Axes"]:
    """A figure in the page's look; sizes in hundreds of CSS pixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9.5, colors=INK)
    return figure, axes


def against_truth(rows: Rows, headline: str) -> str:
    """How many moments have which score at which progress, with the median and the middle 80 % by tenths."""
    known = ~np.isnan(rows.score) & ~np.isnan(rows.progress)
    score, progress = rows.score[known], rows.progress[known]
    if not len(score):
        return "<p>True progress is not known of any moment.</p>"
    figure, axes = _figure(5.9, 4.6)
    if len(score) > 400:
        from matplotlib.colors import LogNorm

        bins = axes.hexbin(progress, score, gridsize=(34, 22), mincnt=1, cmap="Blues", norm=LogNorm(), linewidths=0.1)
        figure.colorbar(bins, ax=axes, label="moments", pad=0.02)
    else:
        axes.scatter(progress, score, s=14, color=OTHER, linewidths=0)
    edges = np.linspace(0, 1, 11)
    place = np.clip(np.digitize(progress, edges) - 1, 0, 9)
    middle, ends = [], []
    for k in range(10):
        if (place == k).sum() >= 5:
            low, median, high = np.quantile(score[place == k], [0.1, 0.5, 0.9])
            middle.append((edges[k] + 0.05, median))
            ends.append((edges[k] + 0.05, low, high))
    if middle:
        line, band = np.array(middle), np.array(ends)
        axes.fill_between(band[:, 0], band[:, 1], band[:, 2], color="#d9822b", alpha=0.22, linewidth=0)
        axes.plot(line[:, 0], line[:, 1], color="#b65b00", linewidth=2.2, marker="o", markersize=4)
    axes.set(xlabel="true progress (0 = none, 1 = goal reached)", ylabel=f"score of {headline}", xlim=(-0.02, 1.02))
    caption = (
        "Each moment by its true progress and its score; orange: median and middle 80 % of the scores, by tenths of "
        "progress. A good reward climbs and stays narrow."
    )
    return figure_html(figure, "score against true progress", caption)


def distribution(rows: Rows, headline: str) -> str:
    """Scores where stopping succeeds, and elsewhere."""
    won, lost = (rows.score[(rows.success == k) & ~np.isnan(rows.score)] for k in (1, 0))
    if not len(won) or not len(lost):
        return ""
    figure, axes = _figure(5.9, 4.6)
    edges = np.histogram_bin_edges(np.concatenate([won, lost]), 40).tolist()
    for score, color, label in ((lost, "#b3261e", "elsewhere"), (won, "#1b7a3d", "where stopping succeeds")):
        share = np.full(len(score), 1 / len(score))
        axes.hist(score, edges, weights=share, color=color, alpha=0.5, label=f"{label} ({len(score):,} moments)")
    axes.set(xlabel=f"score of {headline}", ylabel="share of the moments")
    axes.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure_html(figure, "scores of success and of the rest", "The less the two overlap, the higher the AUC.")


def auc_bars(rewards: Mapping[str, Table], headline: str) -> str:
    """AUC of success of all rewards."""
    names = [name for name in rewards if value_of(rewards[name], "auc") is not None]
    if names:
        figure, axes = _figure(5.9, 1.1 + 0.36 * len(names))
        for place, name in enumerate(names):
            entry = rewards[name]["auc"]
            color = OURS if name == headline else CONTROL if name in CONTROLS else OTHER
            axes.barh(place, entry["value"] - 0.5, left=0.5, color=color, height=0.62)
            low, high = entry.get("interval") or (entry["value"],) * 2
            axes.plot([low, high], [place, place], color=INK, linewidth=1.4)
            axes.annotate(f"{entry['value']:.2f}", (max(high, entry["value"], 0.5), place), xytext=(5, 0),
                          textcoords="offset points", va="center", fontsize=9, color=INK)  # fmt: skip
        axes.axvline(0.5, color=INK, linewidth=1)
        left = min(
            0.45, *(min(rewards[name]["auc"].get("interval") or [rewards[name]["auc"]["value"]]) for name in names)
        )
        axes.set(xlim=(left, 1.06), xlabel="AUC of success (0.5 = blind, 1 = perfect)")
        axes.set_yticks(range(len(names)), [textwrap.fill(name, 26) for name in names])
        axes.invert_yaxis()
        return figure_html(figure, "AUC of success by reward", "Lines: 95 % intervals.")
    return ""


def value_order(rewards: Mapping[str, Table]) -> str:
    """Value order on experts' walks beside that on failures, of all rewards."""
    pair = (("voc_expert", "#1b7a3d", "walks that succeed"), ("voc_failed", "#b3261e", "walks that fail"))
    names = [name for name in rewards if any(value_of(rewards[name], key) is not None for key, _, _ in pair)]
    if names:
        figure, axes = _figure(5.9, 1.3 + 0.36 * len(names))
        for shift, (key, color, label) in zip((-0.13, 0.13), pair):
            for place, name in enumerate(names):
                entry = rewards[name].get(key, {"value": None})
                if entry["value"] is not None:
                    axes.plot(
                        entry.get("interval") or [entry["value"]] * 2, [place + shift] * 2, color=color, linewidth=1.6
                    )
                    axes.plot([entry["value"]], [place + shift], marker="o", color=color, markersize=6)
            axes.plot([], [], marker="o", color=color, label=label)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set(xlim=(-1.05, 1.05), xlabel="value order: rank correlation of score and time")
        axes.set_yticks(range(len(names)), [textwrap.fill(name, 26) for name in names])
        axes.invert_yaxis()
        axes.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        caption = "Green should lie far right; red on the right means that the score rises with time itself."
        return figure_html(figure, "value order on walks that succeed and that fail", caption)
    return ""


def along_walks(walks: Mapping[str, Sequence[float | None]], name: str) -> str:
    """Mean score of one reward along each kind of walk."""
    figure, axis = _figure(5.9, 4.2)
    for path, values in walks.items():
        label, color = PATHS.get(path, (path, INK))
        own, line = path in ("oracle", "expert"), numbers_of(values)
        axis.plot(np.linspace(0, 1, len(line)), line, color=color, linewidth=2.8 if own else 1.8, label=label,
                  marker="o" if own else None, markersize=4)  # fmt: skip
    axis.set(ylabel=f"mean score of {name}")
    axis.set_xlabel("share of the walk's steps (0 = start, 1 = end)")
    axis.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure_html(figure, f"mean score of {name} along walks")


def epic_map(sweep: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """EPIC distance by prompt and alpha as a heat map; nothing where none is defined."""
    prompts = list(sweep)
    alphas = sorted({alpha for row in sweep.values() for alpha in row}, key=float)
    found = np.array([[_swept(sweep[p].get(a, {}).get("epic")) for a in alphas] for p in prompts])
    if np.isnan(found).all():
        return ""
    labels = [textwrap.fill(prompt, 34) for prompt in prompts]
    lines = sum(label.count("\n") + 1 for label in labels)
    figure, axes = _figure(min(10.5, 4.4 + 0.72 * len(alphas)), 1.3 + 0.22 * len(prompts) + 0.19 * lines)
    image = axes.imshow(found, cmap="viridis_r", aspect="auto")
    figure.colorbar(image, ax=axes, label="EPIC distance", pad=0.02)
    best = np.unravel_index(np.nanargmin(found), found.shape)
    middle = (np.nanmin(found) + np.nanmax(found)) / 2
    for (row, column), value in np.ndenumerate(found):
        bold = "bold" if (row, column) == best else "normal"
        axes.text(column, row, f"{value:.3f}", ha="center", va="center", fontsize=9, fontweight=bold,
                  color="white" if value > middle else INK)  # fmt: skip
    axes.set_xticks(range(len(alphas)), [f"{float(alpha):g}" for alpha in alphas])
    axes.set_yticks(range(len(prompts)), labels)
    axes.set(xlabel="alpha (0 = similarity to the goal, 1 = direction from baseline to goal only)")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    caption = (
        f"EPIC distance by prompt and alpha; lower is better, bold the lowest: “{prompts[best[0]]}” with alpha "
        f"{float(alphas[best[1]]):g}. Chosen on the data it is shown for, so expect a little worse elsewhere."
    )
    return figure_html(figure, "EPIC distance by prompt and alpha", caption)


def _swept(value: Any) -> float:
    if isinstance(value, Mapping):
        value = value.get("value")
    return np.nan if value is None else float(value)
