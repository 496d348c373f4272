"""The table of an evaluation: ours, baselines and published rows, with intervals; for the terminal and as JSON."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from scene.answering import Alternatives
from scene.protocols.metric import Metric
from scene.protocols.published import EVIDENCE, OVERALL, published
from scene.protocols.records import Example, Prediction

Column = tuple[str, str]  # group, metric
OURS, BASELINE, PUBLISHED = "ours", "baseline", "published"
MOST_PUBLISHED: Final = 14  # methods printed on the terminal; the page has them all


@dataclass(frozen=True)
class Cell:
    """One number of the table, in percent where the metric is one."""

    value: float
    interval: tuple[float, float] | None = None  # 95 %, over scenes
    count: int = 0  # examples that it is of; 0 = unknown, of a published row


@dataclass(frozen=True)
class Row:
    """One model, ours or not."""

    name: str
    kind: str  # OURS, BASELINE or PUBLISHED
    cells: Mapping[Column, Cell]
    source: str = ""  # of a published row: where it was read, and the evidence for it
    note: str = ""


@dataclass(frozen=True)
class Evaluation:
    """The examples and how they are grouped and measured."""

    examples: Sequence[Example]
    groups: tuple[str, ...]  # beside OVERALL
    measure: Callable[[Sequence[Example], Mapping[str, Prediction]], list[Metric]]
    seed: int
    resamples: int

    @property
    def members(self) -> dict[str, np.ndarray]:
        """Which examples count in each group; all of them in OVERALL, which comes first."""
        table = {OVERALL: np.ones(len(self.examples), bool)}
        for group in self.groups:
            table[group] = np.array([group in example.groups for example in self.examples])
        return table

    def row(self, name: str, kind: str, predictions: Mapping[str, Alternatives], intervals: bool = True) -> Row:
        """A row of measured predictions.

        Args:
            predictions: example id -> predictions that are equally likely; their metrics are averaged.
            intervals: of every group; else of OVERALL alone.
        """
        metrics = self._metrics(predictions)
        scenes = np.array([example.scene_id for example in self.examples])
        cells: dict[Column, Cell] = {}
        for group, members in self.members.items():
            for metric in metrics:
                value = metric.value(members)
                if not np.isfinite(value):
                    continue  # nothing counts in this group
                spread = None
                if intervals or group == OVERALL:
                    low, high = metric.interval(scenes, members, seed=self.seed, resamples=self.resamples)
                    spread = (low, high) if np.isfinite([low, high]).all() else None
                # an example that does not count in a metric adds nothing to it, not even to how many there are
                counted = int((metric.statistics[members] != 0).any(axis=1).sum())
                cells[group, metric.name] = Cell(value, spread, counted)
        return Row(name, kind, cells)

    def _metrics(self, predictions: Mapping[str, Alternatives]) -> list[Metric]:
        """Statistics of each example, averaged over its alternatives."""
        if all(len(options) == 1 for options in predictions.values()):
            return self.measure(self.examples, {name: options[0] for name, options in predictions.items()})
        many = [
            (place, replace(example, id=f"{example.id}#{k}"), option)
            for place, example in enumerate(self.examples)
            for k, option in enumerate(predictions[example.id])
        ]
        copies = [example for _, example, _ in many]
        metrics = self.measure(copies, {e.id: replace(option, id=e.id) for _, e, option in many})
        place = np.array([place for place, _, _ in many])
        count = np.bincount(place, minlength=len(self.examples))[:, None]
        averaged = []
        for metric in metrics:
            sums = np.zeros((len(self.examples), metric.statistics.shape[1]))
            np.add.at(sums, place, metric.statistics)
            averaged.append(replace(metric, statistics=sums / count))
        return averaged


def published_rows(protocol: str) -> list[Row]:
    """What others reported, in the order of their tables."""
    return [
        Row(
            item.method,
            PUBLISHED,
            {column: Cell(value) for column, value in item.values.items()},
            source=item.source if item.evidence == "P" else f"{item.source} ({EVIDENCE[item.evidence]})",
            note=", ".join(filter(None, ["zero-shot" if item.zero_shot else "", item.note])),
        )
        for item in published(protocol)
    ]


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """Every column some row has, in the order of the rows."""
    return list(dict.fromkeys(column for row in rows for column in row.cells))


def table_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows in plain types: cells by group, then by metric."""
    return [
        {
            "name": row.name,
            "kind": row.kind,
            **({"source": row.source, "note": row.note} if row.kind == PUBLISHED else {}),
            "groups": _nested(row),
        }
        for row in rows
    ]


def _nested(row: Row) -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    for (group, metric), cell in row.cells.items():
        said: dict[str, Any] = {"value": round(cell.value, 4)} | ({"count": cell.count} if cell.count else {})
        if cell.interval:
            said["interval"] = [round(end, 4) for end in cell.interval]
        table.setdefault(group, {})[metric] = said
    return table


def counts_of(evaluation: Evaluation) -> dict[str, int]:
    """Examples per group."""
    return {group: int(members.sum()) for group, members in evaluation.members.items()}


def size_of(sentences: int, scenes: int) -> str:
    """How much was measured, in words."""
    return f"{sentences:,} sentence{'s' * (sentences != 1)} in {scenes:,} scene{'s' * (scenes != 1)}"


def by_metric(rows: Sequence[Row]) -> dict[str, list[str]]:
    """For each metric the groups that some row has it for."""
    table: dict[str, list[str]] = {}
    for group, metric in columns_of(rows):
        table.setdefault(metric, []).append(group)
    return table


def show(rows: Sequence[Row], title: str) -> None:
    """Prints the table: a line per group and metric, a column per model; below it the published rows."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    measured = [row for row in rows if row.kind != PUBLISHED]
    view = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    view.add_column("group", no_wrap=True)
    view.add_column("count", justify="right")
    for row in measured:
        view.add_column(row.name, justify="right", max_width=10, overflow="fold")
        if row.kind == OURS:
            view.add_column("95 %", justify="right", no_wrap=True)
    metrics = by_metric(measured)
    for metric, groups in metrics.items():
        if len(metrics) > 1:
            view.add_row(f"[bold]{metric}[/bold]")
        for group in groups:
            found = [row.cells.get((group, metric)) for row in measured]
            cells = [group, f"{max(cell.count for cell in found if cell):,}"]
            for row, cell in zip(measured, found):
                cells.append(f"{cell.value:.1f}" if cell else "")
                if row.kind == OURS:
                    cells.append("{:.1f}-{:.1f}".format(*cell.interval) if cell and cell.interval else "")
            view.add_row(*cells)
        view.add_section()
    console = Console()
    console.width = max(console.width, 128)  # a log file has no width of its own
    console.print(view)
    others = [row for row in rows if row.kind == PUBLISHED]
    if others:
        _show_published(console, [*(row for row in rows if row.kind == OURS), *others])


def _show_published(console: Any, rows: Sequence[Row]) -> None:
    from rich import box
    from rich.table import Table

    columns = [column for column in columns_of(rows) if column[0] == OVERALL]
    view = Table(title="overall, beside what was published", box=box.SIMPLE_HEAD, title_justify="left")
    view.add_column("method")
    for _, metric in columns:
        view.add_column(metric, justify="right")
    view.add_column("source and note")
    shown = [row for row in rows if any(column in row.cells for column in columns)][: MOST_PUBLISHED + 1]
    for row in shown:
        cells = [f"{row.cells[column].value:.1f}" if column in row.cells else "" for column in columns]
        view.add_row(row.name, *cells, "; ".join(filter(None, [row.source, row.note])))
    console.print(view)
    if len(rows) > len(shown):
        console.print(f"{len(rows) - len(shown)} more published rows are in result.json and on the page")
