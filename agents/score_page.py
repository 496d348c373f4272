"""Is the reward any good? The figures of `score-rewards` as one self-contained HTML page.

A verdict in plain words and the rule behind it; rewards and controls by metric with intervals; plots; the frames where
score and truth differ most; every number of the result, folded where it would be in the way.
"""

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from agents.reward_metrics import Rows
from core.page import figure_html, image_html, page_html, table_html, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Table = Mapping[str, Mapping[str, Any]]  # metric -> value, interval, n

CONTROLS: Final = {
    "random weights": "the same towers before any training: what a picture's colours and shapes give away alone",
    "constant": "the same score everywhere",
    "oracle": "a score made from the truth: what the metrics can reach",
}
METRICS: Final = {
    "epic": (
        "EPIC\u00a0↓",
        "EPIC distance to true progress: 0 the same up to scale and offset, 0.707 unrelated, 1 opposite",
    ),
    "pearson": ("Pearson\u00a0↑", "correlation of score and true progress over all moments"),
    "spearman": ("Spearman\u00a0↑", "the same of their ranks"),
    "pearson_within": ("Pearson, within\u00a0↑", "the correlation within each walk, averaged"),
    "spearman_within": ("Spearman, within\u00a0↑", "the same of ranks"),
    "voc_expert": ("value order, expert\u00a0↑", "rank correlation of score and time on walks that succeed"),
    "voc_failed": ("value order, failed\u00a0↓", "the same on walks that fail: a score that rises here pays for time"),
    "auc": ("AUC of success\u00a0↑", "chance that a moment where stopping succeeds scores above one where it does not"),
    "false_positives": (
        "false positives\u00a0↓",
        "share of failed endings of a policy that score as high as the best 90 % of experts' successes",
    ),
    "false_positives_adversarial": (
        "false positives, adversarial\u00a0↓",
        "the same of walks made to fool it: staring at a wall, at a wrong thing, circling",
    ),
    "unanswered": ("unanswered\u00a0↓", "share of moments without a score"),
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
GRADES: Final = {"good": "#1b7a3d", "mixed": "#b26a00", "bad": "#b3261e"}
SIDE: Final = 320  # pixels a worst frame is stored with at most
STYLE: Final = """
main { max-width: 1280px; } p { max-width: 100ch; }
.verdict { border-left: 5px solid; padding: 8px 16px; background: var(--ground); font-size: 18px; max-width: none; }
.rule { color: var(--soft); font-size: 14px; }
.figures table { font-size: 14px; } .figures th, .figures td { padding: 5px 6px 5px 0; }
.figures th { vertical-align: bottom; white-space: normal; min-width: 70px; font-size: 13px; }
.figures td:first-child, .figures th:first-child { position: sticky; left: 0; background: var(--paper);
  min-width: 92px; }
.figures small { display: block; color: var(--soft); font-size: 11px; line-height: 1.35; }
.figures tr.headline td { font-weight: 600; background: #eef3fb; } .figures tr.headline small { font-weight: 400; }
dl.metrics { display: grid; grid-template-columns: max-content 1fr; gap: 3px 16px; font-size: 14px; margin: 0 0 14px; }
dl.metrics dt { font-weight: 600; } dl.metrics dd { margin: 0; color: var(--soft); }
.grid.two { grid-template-columns: 1fr 1fr; align-items: start; } .grid.two figure img { max-height: none; }
.worst { display: grid; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); gap: 18px; margin: 10px 0 22px; }
.worst figure img { width: 100%; max-height: none; border-radius: 4px; image-rendering: auto; }
.worst figcaption b { color: var(--ink); } h3 { font-size: 16px; margin: 16px 0 4px; }
details { margin: 6px 0 12px; } summary { cursor: pointer; color: var(--accent); font-size: 15px; }
figure img { max-height: none; }
@media (max-width: 900px) { .grid.two { grid-template-columns: 1fr; } }
@media (max-width: 520px) { main { padding: 24px 10px 60px; } section { padding: 16px 12px; } h1 { font-size: 25px; }
  dl.metrics { grid-template-columns: 1fr; } dl.metrics dd { margin-bottom: 6px; }
  .worst { grid-template-columns: 1fr 1fr; gap: 12px; } }
"""


@dataclass(frozen=True)
class WorstFrame:
    """A moment whose score and truth differ, with its picture."""

    frame: UInt8[ndarray, "H W 3"]
    score: float
    progress: float  # true, in [0, 1]
    goal: str  # the sentence
    path: str
    too_high: bool  # scored high while the truth is low; else the other way round


def score_page(
    title: str, result: Mapping[str, Any], headline: str, rows: Rows, worst: Sequence[WorstFrame] = ()
) -> str:
    """The page as HTML text.

    Args:
        title: what was scored on what, in a few words.
        result: what result.json holds: `rewards`, and if measured `paths` and `sweep`; other keys are listed.
        headline: the reward of `result["rewards"]` that the verdict and the plots are about.
        rows: the scored moments of that reward.
        worst: where it is most wrong, the worst first.
    """
    rewards = _ordered(result["rewards"], headline)
    grade, words = verdict(rewards, headline)
    sections: list[tuple[str, Sequence[str]]] = [
        ("Verdict", [f'<p class="verdict" style="border-color:{GRADES[grade]}">{text(words)}</p>', RULE]),
        ("All rewards", [_figures(rewards, headline), _legend(rewards)]),
        (
            "Score and truth",
            [
                _beside(
                    _against_truth(rows, headline),
                    _distribution(rows, headline),
                    _auc_bars(rewards, headline),
                    _value_order(rewards),
                )
            ],
        ),
    ]
    if result.get("paths"):
        sections.append(("Along paths", _along_paths(result["paths"], headline)))
    if result.get("sweep"):
        sections.append(("Prompts and alpha", _sweep(result["sweep"])))
    if worst:
        sections.append(("Worst errors", _worst(worst)))
    sections.append(("How it was measured", _measured(result)))
    return page_html(f"Reward: {title}", f"{headline}, scored on {len(rows):,} moments.", sections, STYLE)


def _ordered(rewards: Mapping[str, Table], headline: str) -> dict[str, Table]:
    """The headline first, controls last."""
    place = {name: (name != headline, name in CONTROLS) for name in rewards}
    return {name: rewards[name] for name in sorted(rewards, key=place.__getitem__)}


RULE: Final = (
    '<p class="rule">Worth training on: AUC of success at least 0.9, and fewer than 20 % of failed endings score like '
    "successes. Not worth it: the AUC's interval reaches 0.5, or towers with random weights do as well, or half of the "
    "failed endings score like successes. Without known successes, Spearman's correlation to true progress (or without "
    "that, value order on experts) takes the AUC's place: at least 0.7, interval reaching 0. These lines are a rule of "
    "thumb: the table below has the figures.</p>"
)


def verdict(rewards: Mapping[str, Table], headline: str) -> tuple[str, str]:
    """A grade (good, mixed, bad) and the reasons in two or three sentences; the rule is RULE's."""
    figures = rewards[headline]
    name, good, none = next(
        (
            row
            for row in (("auc", 0.9, 0.5), ("spearman", 0.7, 0.0), ("voc_expert", 0.7, 0.0))
            if _value(figures, row[0])
        ),
        ("", 0.0, 0.0),
    )
    if not name:
        return "bad", "Nothing is known of the truth here: no success, no progress and no expert's order of time."
    found = _value(figures, name)
    assert found is not None
    value, low = found, (figures[name]["interval"] or (found, found))[0]
    shown = f"{METRICS[name][0][:-2]} {_number(figures[name])}"
    what = {
        "auc": "tells success from the rest",
        "spearman": "rises and falls with true progress",
        "voc_expert": "rises along experts' walks",
    }[name]
    strength = "reliably " if value >= good else "mostly " if value >= (good + none) / 2 else "only weakly "
    reasons, grade = [f"The reward {strength}{what} ({shown})"], "good" if value >= good else "mixed"
    if low <= none:
        reasons, grade = [f"The reward does not show that it {what} ({shown})"], "bad"
    blind = _value(rewards.get("random weights", {}), name)
    if blind is not None and headline != "random weights":
        if low <= blind:
            reasons.append(f"towers with random weights are as good ({blind:.2f})")
            grade = "bad"
        else:
            reasons.append(f"towers with random weights reach {blind:.2f}")
    caught = [
        (rate, who)
        for key, who in (
            ("false_positives", "of failed endings"),
            ("false_positives_adversarial", "of the walks made to fool it"),
        )
        if (rate := _value(figures, key)) is not None
    ]
    sentences = ["; ".join(reasons) + "."]
    if caught:
        sentences.append(f"{' and '.join(f'{rate:.0%} {who}' for rate, who in caught)} score like successes.")
        most = max(rate for rate, _ in caught)
        grade = "bad" if most >= 0.5 else "mixed" if most >= 0.2 and grade == "good" else grade
    rising = _value(figures, "voc_failed")
    if rising is not None and rising >= 0.5:
        sentences.append(f"It also rises with time on walks that fail (value order {rising:.2f}).")
    advice = {
        "good": "Worth training on.",
        "mixed": "Train on it with care, and watch the task's own success beside it.",
        "bad": "Do not train on it as it is.",
    }
    return grade, " ".join([*sentences, advice[grade]])


def _value(figures: Table, metric: str) -> float | None:
    return figures.get(metric, {}).get("value")


def _number(entry: Mapping[str, Any]) -> str:
    spread = f", {_interval(entry['interval'], 2)}" if entry.get("interval") else ""
    return f"{entry['value']:.2f}{spread}"


def _interval(ends: Sequence[float], digits: int) -> str:
    return f"{ends[0]:.{digits}f}{' to ' if ends[0] < 0 else '–'}{ends[1]:.{digits}f}"


def _figures(rewards: Mapping[str, Table], headline: str) -> str:
    """A row per reward, a column per metric; under each value its interval and count."""
    measured = {name for table in rewards.values() for name in table if _value(table, name) is not None}
    metrics = [name for name in METRICS if name in measured] + sorted(measured - set(METRICS))
    head = "".join(f'<th class="number">{text(METRICS.get(name, (name,))[0])}</th>' for name in metrics)
    lines = [f"<tr><th>reward</th>{head}</tr>"]
    for name in rewards:
        cells = "".join(f'<td class="number">{_cell(rewards[name].get(metric))}</td>' for metric in metrics)
        kind = ' class="headline"' if name == headline else ""
        lines.append(f"<tr{kind}><td>{text(name)}</td>{cells}</tr>")
    return f'<div class="scroll figures"><table>{"".join(lines)}</table></div>'


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return ""
    value = "–" if entry["value"] is None else f"{entry['value']:.3f}"
    below = [_interval(entry["interval"], 3)] if entry.get("interval") else []
    below.append(f"n {entry['n']:,}")
    if entry.get("undefined"):
        below.append(f"{entry['undefined']:,} undefined")
    return f"{value}<small>{'<br>'.join(below)}</small>"


def _legend(rewards: Mapping[str, Table]) -> str:
    said = [
        (METRICS[name][0], METRICS[name][1]) for name in METRICS if any(name in table for table in rewards.values())
    ]
    said += [(name, CONTROLS[name]) for name in CONTROLS if name in rewards]
    rows = "".join(f"<dt>{text(name)}</dt><dd>{text(words)}</dd>" for name, words in said)
    return (
        "<p>Below each value: its 95 % interval, whole homes or episodes drawn again, and what it counts: moments, or "
        "walks where a value is a mean over these. Arrows point to better.</p>"
        + _folded("What the columns and controls are", f'<dl class="metrics">{rows}</dl>')
    )


def _figure(width: float, height: float) -> tuple["Figure", "Axes"]:
    """A figure in the page's look; sizes in hundreds of CSS pixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9.5, colors=INK)
    return figure, axes


def _beside(*columns: str) -> str:
    """Blocks side by side, one below the other on narrow screens."""
    return f'<div class="grid two">{"".join(f"<div>{column}</div>" for column in columns if column)}</div>'


def _against_truth(rows: Rows, headline: str) -> str:
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


def _distribution(rows: Rows, headline: str) -> str:
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


def _auc_bars(rewards: Mapping[str, Table], headline: str) -> str:
    """AUC of success of all rewards."""
    names = [name for name in rewards if _value(rewards[name], "auc") is not None]
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


def _value_order(rewards: Mapping[str, Table]) -> str:
    """Value order on experts' walks beside that on failures, of all rewards."""
    pair = (("voc_expert", "#1b7a3d", "walks that succeed"), ("voc_failed", "#b3261e", "walks that fail"))
    names = [name for name in rewards if any(_value(rewards[name], key) is not None for key, _, _ in pair)]
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


def _along_paths(paths: Mapping[str, Mapping[str, Sequence[float | None]]], headline: str) -> list[str]:
    """Mean score along each kind of walk, of the headline and beside it of the towers with random weights."""
    shown = [name for name in (headline, "random weights") if name in paths]
    lines = {name: {path: _line(values) for path, values in paths[name].items()} for name in shown}
    figures = []
    for name in shown:
        figure, axis = _figure(5.9, 4.2)
        for path, line in lines[name].items():
            label, color = PATHS.get(path, (path, INK))
            own = path in ("oracle", "expert")
            axis.plot(np.linspace(0, 1, len(line)), line, color=color, linewidth=2.8 if own else 1.8, label=label,
                      marker="o" if own else None, markersize=4)  # fmt: skip
        axis.set(ylabel=f"mean score of {name}")
        axis.set_xlabel("share of the walk's steps (0 = start, 1 = end)")
        axis.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        figures.append(figure_html(figure, f"mean score of {name} along walks"))
    count = max(len(values) for values in paths[headline].values())
    header = ["reward", "walk", *(f"{k / max(count - 1, 1):.0%}" for k in range(count))]
    numbers = [
        [name, PATHS.get(path, (path,))[0], *("–" if np.isnan(v) else f"{v:.3f}" for v in _line(values))]
        for name, walks in paths.items()
        for path, values in walks.items()
    ]
    said = "A good reward lifts the green line above all others by the end, not only above random walks."
    if len(shown) > 1:
        said += " Each plot has its own scale; where the right one looks like the left, nothing was learnt from words."
    return [
        f"<p>{said}</p>",
        _beside(*figures),
        _folded("All rewards along all walks", table_html(header, numbers, numbers=range(2, len(header)))),
    ]


def _line(values: Sequence[float | None]) -> ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _sweep(sweep: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """EPIC by prompt and alpha as a heat map, all metrics as a folded table."""
    prompts = list(sweep)
    alphas = sorted({alpha for row in sweep.values() for alpha in row}, key=float)
    found = np.array([[_swept(sweep[p].get(a, {}).get("epic")) for a in alphas] for p in prompts])
    blocks = []
    if not np.isnan(found).all():
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
        blocks.append(figure_html(figure, "EPIC distance by prompt and alpha", caption))
    metrics = list(dict.fromkeys(m for row in sweep.values() for entry in row.values() for m in entry))
    rows = [
        [prompt, f"{float(alpha):g}", *(_plain(sweep[prompt][alpha].get(metric)) for metric in metrics)]
        for prompt in prompts
        for alpha in sweep[prompt]
    ]
    header = ["prompt", "alpha", *(METRICS.get(metric, (metric,))[0] for metric in metrics)]
    return [*blocks, _folded("Every prompt and alpha", table_html(header, rows, numbers=range(1, len(header))))]


def _swept(value: Any) -> float:
    if isinstance(value, Mapping):
        value = value.get("value")
    return np.nan if value is None else float(value)


def _worst(worst: Sequence[WorstFrame]) -> list[str]:
    blocks = []
    for too_high, title in ((True, "Scored high, truth low"), (False, "Scored low, truth high")):
        cards = [_card(item) for item in worst if item.too_high == too_high]
        if cards:
            blocks.append(f'<h3>{title}</h3><div class="worst">{"".join(cards)}</div>')
    return [
        "<p>Where the ranks of score and truth differ most, at most one moment of each walk, worst first.</p>",
        *blocks,
    ]


def _card(item: WorstFrame) -> str:
    from PIL import Image

    image = Image.fromarray(item.frame)
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "png")
    path = PATHS.get(item.path, (item.path.replace("_", " "),))[0]
    caption = f"score {item.score:.3f}, truth {item.progress:.2f} · “{item.goal}” · {path}"
    return image_html(buffer.getvalue(), f"a frame of {item.path}", caption)


def _measured(result: Mapping[str, Any]) -> list[str]:
    """Everything else the result holds."""
    rest = {key: value for key, value in result.items() if key not in ("rewards", "paths", "sweep")}
    lines = [[name, _plain(value)] for name, value in _flat(rest)]
    said = (
        "<p>Every moment is scored by every reward; controls see the same moments. Value order follows Ma et al., "
        "arXiv:2411.04549; the EPIC distance Gleave et al., arXiv:2006.13900, in its form for rewards of states.</p>"
    )
    return [said, table_html(["", ""], lines)] if lines else [said]


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key} · ")
        else:
            yield f"{prefix}{key}".replace("_", " "), item


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("value")
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return str(value)


def _folded(title: str, block: str) -> str:
    return f"<details><summary>{text(title)}</summary>{block}</details>"
