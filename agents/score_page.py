"""Is the reward any good? The figures of `score-rewards` as one self-contained HTML page.

A verdict in plain words and the rule behind it; rewards and controls by metric with intervals; plots; the frames where
score and truth differ most; every number of the result, folded where it would be in the way.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from agents.reward_metrics import Rows
from agents.score_plots import (
    CONTROLS,
    PATHS,
    Table,
    against_truth,
    along_walks,
    auc_bars,
    distribution,
    epic_map,
    numbers_of,
    value_of,
    value_order,
)
from core.page import image_html, page_html, table_html, text

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
                    against_truth(rows, headline),
                    distribution(rows, headline),
                    auc_bars(rewards, headline),
                    value_order(rewards),
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
            if value_of(figures, row[0])
        ),
        ("", 0.0, 0.0),
    )
    if not name:
        return "bad", "Nothing is known of the truth here: no success, no progress and no expert's order of time."
    found = value_of(figures, name)
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
    blind = value_of(rewards.get("random weights", {}), name)
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
        if (rate := value_of(figures, key)) is not None
    ]
    sentences = ["; ".join(reasons) + "."]
    if caught:
        sentences.append(f"{' and '.join(f'{rate:.0%} {who}' for rate, who in caught)} score like successes.")
        most = max(rate for rate, _ in caught)
        grade = "bad" if most >= 0.5 else "mixed" if most >= 0.2 and grade == "good" else grade
    rising = value_of(figures, "voc_failed")
    if rising is not None and rising >= 0.5:
        sentences.append(f"It also rises with time on walks that fail (value order {rising:.2f}).")
    advice = {
        "good": "Worth training on.",
        "mixed": "Train on it with care, and watch the task's own success beside it.",
        "bad": "Do not train on it as it is.",
    }
    return grade, " ".join([*sentences, advice[grade]])


def _number(entry: Mapping[str, Any]) -> str:
    spread = f", {_interval(entry['interval'], 2)}" if entry.get("interval") else ""
    return f"{entry['value']:.2f}{spread}"


def _interval(ends: Sequence[float], digits: int) -> str:
    return f"{ends[0]:.{digits}f}{' to ' if ends[0] < 0 else '–'}{ends[1]:.{digits}f}"


def _figures(rewards: Mapping[str, Table], headline: str) -> str:
    """A row per reward, a column per metric; under each value its interval and count."""
    measured = {name for table in rewards.values() for name in table if value_of(table, name) is not None}
    if not any(value_of(table, "unanswered") for table in rewards.values()):
        measured.discard("unanswered")  # every reward answered everywhere: the room is worth more
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


def _beside(*columns: str) -> str:
    """Blocks side by side, one below the other on narrow screens."""
    return f'<div class="grid two">{"".join(f"<div>{column}</div>" for column in columns if column)}</div>'


def _along_paths(paths: Mapping[str, Mapping[str, Sequence[float | None]]], headline: str) -> list[str]:
    """Mean score along each kind of walk, of the headline and beside it of the towers with random weights."""
    shown = [name for name in (headline, "random weights") if name in paths]
    figures = [along_walks(paths[name], name) for name in shown]
    count = max(len(values) for values in paths[headline].values())
    header = ["reward", "walk", *(f"{k / max(count - 1, 1):.0%}" for k in range(count))]
    numbers = [
        [name, PATHS.get(path, (path,))[0], *("–" if np.isnan(v) else f"{v:.3f}" for v in numbers_of(values))]
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


def _sweep(sweep: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """The map of EPIC distances, and all metrics as a folded table."""
    metrics = list(dict.fromkeys(m for row in sweep.values() for entry in row.values() for m in entry))
    rows = [
        [prompt, f"{float(alpha):g}", *(_plain(sweep[prompt][alpha].get(metric)) for metric in metrics)]
        for prompt in sweep
        for alpha in sweep[prompt]
    ]
    header = ["prompt", "alpha", *(METRICS.get(metric, (metric,))[0] for metric in metrics)]
    return [epic_map(sweep), _folded("Every prompt and alpha", table_html(header, rows, numbers=range(1, len(header))))]


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
