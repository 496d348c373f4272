"""An evaluation as one self-contained HTML page: table, published rows, conformal sets, wrong answers, rules."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from core.page import figure_html, page_html, table_html, text
from scene.conformal import Coverage
from scene.evaluation_table import OURS, PUBLISHED, Cell, Row, by_metric, columns_of, size_of
from scene.protocols.published import OVERALL
from scene.provenance import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS: Final = {OURS: "#2457a7", "baseline": "#9aa7bb", PUBLISHED: "#d9822b"}
BARS: Final = 16  # of the chart
STYLE: Final = """
main { max-width: 1240px; } table { font-size: 14px; } th, td { padding-right: 10px; } p { max-width: 100ch; }
th.number { white-space: normal; vertical-align: bottom; max-width: 90px; } td:first-child { white-space: nowrap; }
td { padding-top: 4px; padding-bottom: 4px; } #published td:last-child { min-width: 280px; padding-left: 14px; }
#published th:last-child { vertical-align: bottom; padding-left: 14px; }
.grid.two { grid-template-columns: 1fr 1fr; align-items: start; } .grid.two figure img { max-height: none; }
@media (max-width: 900px) { .grid.two { grid-template-columns: 1fr; } }
.verdict { border-left: 4px solid var(--accent); padding: 6px 14px; background: var(--ground); max-width: none; }
figure img { max-height: none; }
"""


def evaluation_page(
    title: str,
    result: Mapping[str, Any],
    rows: Sequence[Row],
    verdict: Verdict,
    coverage: Coverage | None,
    failures: Sequence[str],
) -> str:
    """The page as HTML text.

    Args:
        result: what result.json holds.
        rows: ours, baselines, published.
        failures: blocks of HTML.
    """
    lead = f"{size_of(result['examples'], result['scenes'])}."
    if result["proposals"]:
        lead += f" Proposals: {result['proposals']}."
    measured = [row for row in rows if row.kind != PUBLISHED]
    others = [row for row in rows if row.kind == PUBLISHED]
    sections: list[tuple[str, Sequence[str]]] = [
        ("Result", [_verdict(verdict), _chart(rows), _measured(measured), _read_so(measured)])
    ]
    if others:
        sections.append(("Published", [_published([measured[0], *others])]))
    if coverage is not None:
        sections.append(("Not there", [_coverage(coverage)]))
    if failures:
        sections.append(("Wrong answers", [f'<div class="grid two">{"".join(failures)}</div>']))
    sections.append(("How it was measured", [_rules(result)]))
    return page_html(f"Grounding: {title}", lead, sections, STYLE)


def _verdict(verdict: Verdict) -> str:
    said = str(verdict)
    return f'<p class="verdict">{text(said[0].upper() + said[1:])}.</p>'


def _chart(rows: Sequence[Row]) -> str:
    """Overall values of the first metric as bars: ours and baselines with intervals, published rows without."""
    column = next((c for c in rows[0].cells if c[0] == OVERALL), None)
    if column is None:
        return ""
    shown = [row for row in rows if column in row.cells][:BARS]
    figure = _bars(shown, [row.cells[column] for row in shown], column[1])
    more = sum(column in row.cells for row in rows) - len(shown)
    note = "Lines: 95 % intervals over scenes." + (f" {more} more published rows stand below." if more else "")
    return figure_html(figure, f"{column[1]} of all rows", note)


def _bars(rows: Sequence[Row], cells: Sequence[Cell], metric: str) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 0.9 + 0.29 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(rows))
    axes.barh(places, [cell.value for cell in cells], color=[COLORS[row.kind] for row in rows], height=0.66)
    end = 0.0
    for place, cell in zip(places, cells):
        low, high = cell.interval or (cell.value, cell.value)
        if cell.interval:
            axes.plot([low, high], [place, place], color="#1d2430", linewidth=1.3)
        axes.annotate(f"{cell.value:.1f}", (max(high, cell.value), place), xytext=(5, 0), textcoords="offset points",
                      va="center", fontsize=8.5, color="#1d2430")  # fmt: skip
        end = max(end, high, cell.value)
    axes.set_yticks(places, [row.name for row in rows], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * end if end else 1)
    axes.set_xlabel(f"{metric}, overall", fontsize=9)
    axes.tick_params(labelsize=9, length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.02)
    return figure


def _measured(rows: Sequence[Row]) -> str:
    """A line per group, a column per model; several metrics stand one below the other."""
    metrics = by_metric(rows)
    header = ["group", "count", *(row.name for row in rows)]
    lines: list[Sequence[str] | str] = []
    for metric, groups in metrics.items():
        if len(metrics) > 1:
            lines.append(metric)
        for group in groups:
            found = [row.cells.get((group, metric)) for row in rows]
            count = max(cell.count for cell in found if cell)
            cells = [_shown(cell, row.kind == OURS) for row, cell in zip(rows, found)]
            lines.append([group, f"{count:,}", *cells])
    return table_html(header, lines, numbers=range(1, len(header)))


def _shown(cell: Cell | None, with_interval: bool) -> str:
    if cell is None:
        return ""
    spread = f" ({cell.interval[0]:.1f}–{cell.interval[1]:.1f})" if cell.interval and with_interval else ""
    return f"{cell.value:.1f}{spread}"


READ: Final = {
    "chance": "any candidate",
    "label (oracle)": "any of the target's class, which it is told",
    "label + colour (oracle)": "any of the target's class and colour, which it is told",
    "label (parsed)": "any of the class the sentence names first",
    "label + colour (parsed)": "any of the class and colour the sentence names first",
    "symbolic parser": "what the parsed sentence fits on the scene graph; nearly an upper bound on sentences that were "
    "made from such a graph",
    "2D embedder on crops": "the object whose pictures are closest to the sentence",
    "no sentence": "the same model reading an empty sentence",
    "most frequent answer": "the answers that are right most often in training, whatever is asked",
    "answer prior by question type": "those that are right most often for the type of question",
    "nearest questions": "the answers to the training questions that are worded most alike",
}
"""What each baseline chooses."""


def _read_so(rows: Sequence[Row]) -> str:
    said = [f"<b>{text(row.name)}</b>: {text(READ[row.name])}" for row in rows if row.name in READ]
    if not said:
        return ""
    return f"<p>{'; '.join(said)}. Where a baseline has several equally good choices, their mean counts.</p>"


def _published(rows: Sequence[Row]) -> str:
    reported = columns_of(rows[1:])
    columns = [column for column in columns_of(rows) if column in reported]  # in the order of our own table
    header = ["method", *(f"{group} {metric}" for group, metric in columns), "source and note"]
    lines = [
        [
            row.name,
            *(f"{row.cells[c].value:.1f}" if c in row.cells else "" for c in columns),
            "; ".join(filter(None, [row.source, row.note])),
        ]
        for row in rows
    ]
    said = (
        "<p>As reported, not measured here. A row compares with ours only where scenes, proposals and counts are the "
        "same; the notes say what is known to differ.</p>"
    )
    return said + table_html(header, lines, numbers=range(1, 1 + len(columns)))


def _coverage(coverage: Coverage) -> str:
    low, high = coverage.interval
    spread = f" ({low:.1%} to {high:.1%})" if coverage.homes > 1 else ""
    lines = [
        ["stated coverage", f"{coverage.level:.0%}"],
        ["measured: sets that hold every target, mean over homes", f"{coverage.covered:.1%}{spread}"],
        ["objects per set, mean", f"{coverage.size:.2f}"],
        ["sets of one object", f"{coverage.single:.1%}"],
        [f"empty sets of {coverage.sentences:,} sentences that mean something (wrongly “not there”)",
         f"{coverage.empty:.1%}"],
    ]  # fmt: skip
    if coverage.empty_of_none is not None:
        lines.append(
            [f"empty sets of {coverage.sentences_of_none:,} sentences that mean nothing (rightly “not there”)",
             f"{coverage.empty_of_none:.1%}"]
        )  # fmt: skip
    said = (
        "<p>Objects whose probability reaches a threshold form a set; an empty one says that what is meant is not "
        "there. The threshold was calibrated on held-out homes so that sets of new homes of the same kind hold the "
        "target as often as stated. Homes of another kind carry no such promise: what was measured tells.</p>"
    )
    return said + table_html(["conformal sets", ""], lines, numbers=[1])


def _rules(result: Mapping[str, Any]) -> str:
    lines = [
        ["protocol", f"{result['title']} ({result['protocol']})"],
        ["scenes from", result["source"]],
        ["split", result["split"] or "the annotation file"],
        ["model", result["model"] or "predictions of a model that was not run here"],
        *([["proposals", result["proposals"]]] if result["proposals"] else []),
        ["examples", result["left_out"] or f"{result['examples']:,}, none left out"],
        *([f"SHA-256 of the {name}", digest] for name, digest in result["files"].items()),
    ]
    said = (
        "<p>Intervals: 95 % percentile bootstrap over scenes, whose sentences are drawn together. What each group and "
        "metric counts, with sources: docs/evaluation.md.</p>"
    )
    return said + table_html(["", ""], lines)
