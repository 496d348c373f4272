"""The statistics of a corpus as one self-contained HTML page with plots."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from core.page import figure_html, page_html, table_html
from scene.relations import FAMILIES
from scene.statistics import MARGIN_BIN, MARGIN_BINS, MAX_OBJECTS, Statistics, overlaps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS: Final = ("#2457a7", "#d9822b", "#3a8f5c", "#8a4fa3", "#6b7280")  # one per split or type of text in turn
FAMILY_COLORS: Final = dict(zip(FAMILIES, COLORS))
STYLE: Final = "figure img { max-height: none; } table { font-size: 14px; } th, td { padding-right: 10px; }"
CLASSES = 40  # bars in the plot of classes
LONGEST = 40  # words of a text that are drawn apart
GROWTH = np.linspace(0.02, 1.0, 50)  # shares of the corpus at which the vocabulary is drawn


def statistics_page(
    by_split: Mapping[str, Statistics], title: str, overlap: Mapping[str, Mapping[str, float]] | None = None
) -> str:
    """The page as HTML text.

    Args:
        overlap: per split and type of text, the share of its sentences that occur in training; left out: from the
            splits' own counts, estimated where these are large.
    """
    shown = {split: part for split, part in by_split.items() if part.ids}
    scenes = sum(len(part.ids) for part in shown.values())
    objects = sum(part.total_objects for part in shown.values())
    texts = sum(sum(part.texts.values()) for part in shown.values())
    lead = f"{scenes:,} scenes, {objects:,} objects, {texts:,} texts."
    sections: list[tuple[str, Sequence[str]]] = [("Overview", [_overview(by_split)])]
    if shown:
        rows = overlaps(shown) if overlap is None else overlap
        sections += [
            ("Scenes", [_objects(shown), _rooms(shown)]),
            ("Classes", [_classes(shown)]),
            ("Relations", [_relations(shown), _margins(shown)]),
            ("Texts", [_kinds(shown), _lengths(shown), _rivals(shown)]),
            ("Words", [_growth(shown), _frequent(shown)]),
        ]
        if rows:
            sections.append(("Test and training", [_overlap(rows)]))
    if any(part.reasons for part in by_split.values()):
        sections.append(("Left out", [_skipped(by_split)]))
    return page_html(title, lead, sections, STYLE)


def _axes(width: float, height: float) -> tuple["Figure", "Axes"]:
    """A figure of one plot in the page's look; inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    _plain(axes)
    return figure, axes


def _plain(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#e4e7ec", linewidth=0.8)


def _thousands(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _overview(by_split: Mapping[str, Statistics]) -> str:
    header = ["split", "scenes", "objects", "per scene", "classes", "relations", "referrals", "captions", "questions",
              "words", "different texts", "left out"]  # fmt: skip
    rows = []
    for split, part in by_split.items():
        texts, distinct = part.texts, sum(len(sketch) for sketch in part.distinct.values())
        share = min(1.0, distinct / max(sum(texts.values()), 1))
        numbers = [len(part.ids), part.total_objects]
        more = [
            len(part.labels),
            part.relations.total(),
            *(texts.get(n, 0) for n in ("referral", "caption", "question")),
        ]
        per_scene = f"{part.total_objects / max(len(part.ids), 1):.1f}"
        ends = [f"{len(part.vocabulary):,}", f"{share:.1%}" if texts else "–", f"{part.reasons.total():,}"]
        rows.append([split, *(f"{n:,}" for n in numbers), per_scene, *(f"{n:,}" for n in more), *ends])
    note = "<p>How many texts are different is exact for small corpora and otherwise estimated to about 1.6 %.</p>"
    return table_html(header, rows, numbers=range(1, len(header))) + note


def _objects(shown: Mapping[str, Statistics]) -> str:
    figure, axes = _axes(9.6, 3.0)
    top = max(max(part.objects) for part in shown.values())
    step = max(1, int(np.ceil((top + 1) / 40)))
    edges = np.arange(0, top + step + 1, step)
    for color, (split, part) in zip(COLORS, shown.items()):
        counts = np.histogram(list(part.objects), bins=edges, weights=list(part.objects.values()))[0]
        axes.stairs(100 * counts / counts.sum(), edges, color=color, linewidth=1.6, label=split)
        axes.stairs(100 * counts / counts.sum(), edges, color=color, fill=True, alpha=0.12)
    bin_words = f"bins of {step}" + (f"; the last holds all above {MAX_OBJECTS}" if top >= MAX_OBJECTS else "")
    axes.set_xlabel(f"objects per scene ({bin_words})")
    axes.set_ylabel("scenes of the split (%)")
    axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize=9)
    return figure_html(figure, "histogram of objects per scene")


def _rooms(shown: Mapping[str, Statistics]) -> str:
    total: Counter[str] = sum((part.rooms for part in shown.values()), Counter())
    held: Counter[str] = sum((part.room_objects for part in shown.values()), Counter())
    if not total:
        return "<p>These scenes have no rooms.</p>"
    rows = [[kind, f"{many:,}", f"{held[kind]:,}", f"{held[kind] / many:.1f}"] for kind, many in total.most_common()]
    return table_html(["kind of room", "rooms", "objects", "objects per room"], rows, numbers=(1, 2, 3))


def _classes(shown: Mapping[str, Statistics]) -> str:
    total: Counter[str] = sum((part.labels for part in shown.values()), Counter())
    names = [name for name, _ in total.most_common(CLASSES)]
    figure, axes = _axes(9.6, 0.6 + 0.2 * max(len(names), 4))
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color="#e4e7ec", linewidth=0.8)
    left = np.zeros(len(names))
    for color, (split, part) in zip(COLORS, shown.items()):
        many = np.array([part.labels[name] for name in names], float)
        axes.barh(range(len(names)), many, left=left, color=color, height=0.76, label=split)
        left += many
    axes.set_yticks(range(len(names)), names, fontsize=8.5)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlabel("objects")
    _thousands(axes.xaxis)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    rest = len(total) - len(names)
    return figure_html(figure, "objects of each class", f"The most frequent classes; {rest} more are not drawn.")


def _relations(shown: Mapping[str, Statistics]) -> str:
    total: Counter[str] = sum((part.relations for part in shown.values()), Counter())
    bars = [(r.value, family) for family, members in FAMILIES.items() for r in members if total[r.value]]
    if not bars:
        return "<p>The graphs hold no relations.</p>"
    figure, axes = _axes(9.6, 3.6)
    drawn: set[str] = set()
    for place, (name, family) in enumerate(bars):
        axes.bar(place, total[name], color=FAMILY_COLORS[family], width=0.76,
                 label=None if family in drawn else family)  # fmt: skip
        drawn.add(family)
    axes.set_xticks(range(len(bars)), [name for name, _ in bars], rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yscale("log")
    axes.set_ylabel("edges (logarithmic)")
    axes.margins(x=0.01)
    axes.set_ylim(bottom=0.7)
    _thousands(axes.yaxis)
    axes.legend(frameon=False, fontsize=9, ncols=len(drawn), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure_html(figure, "edges of each relation")


def _margins(shown: Mapping[str, Statistics]) -> str:
    figure, axes = _axes(9.6, 2.6)
    edges = MARGIN_BIN * np.arange(MARGIN_BINS + 1)
    for family, color in FAMILY_COLORS.items():
        bins = np.sum([part.margins.get(family, [0] * MARGIN_BINS) for part in shown.values()], axis=0)
        if bins.sum():
            axes.stairs(100 * bins / bins.sum(), edges, color=color, linewidth=1.5, label=family)
    axes.set_xlabel(
        f"margin: clearance to the nearest threshold (m, for between rad; the last bin holds all above "
        f"{edges[-2]:g})"
    )  # fmt: skip
    axes.set_ylabel("edges of the family (%)")
    axes.set_xlim(0, edges[-1])
    axes.legend(frameon=False, fontsize=9)
    return figure_html(figure, "margins of the relations", "How clearly the relations hold, family by family.")


def _kinds(shown: Mapping[str, Statistics]) -> str:
    total: dict[str, Counter[str]] = {}
    for part in shown.values():
        for name, counts in part.kinds.items():
            total.setdefault(name, Counter()).update(counts)
    if not total:
        return "<p>There are no texts.</p>"
    bars = [(name, kind, many) for name, counts in sorted(total.items(), reverse=True)
            for kind, many in counts.most_common()]  # fmt: skip
    figure, axes = _axes(9.6, 0.7 + 0.24 * max(len(bars), 3))
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color="#e4e7ec", linewidth=0.8)
    colors = dict(zip(sorted(total, reverse=True), COLORS))
    drawn: set[str] = set()
    for place, (name, _, many) in enumerate(bars):
        axes.barh(place, many, color=colors[name], height=0.74, label=None if name in drawn else f"{name}s")
        axes.annotate(f" {many:,}", (many, place), va="center", fontsize=8, color="#5b6575")
        drawn.add(name)
    axes.set_yticks(range(len(bars)), [kind for _, kind, _ in bars])
    axes.invert_yaxis()
    axes.set_xlabel("texts")
    _thousands(axes.xaxis)
    axes.margins(x=0.08, y=0.02)
    axes.legend(frameon=False, fontsize=9, ncols=len(drawn), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure_html(figure, "texts of each kind")


def _lengths(shown: Mapping[str, Statistics]) -> str:
    total: dict[str, Counter[int]] = {}
    for part in shown.values():
        for name, counts in part.lengths.items():
            total.setdefault(name, Counter()).update(counts)
    if not total:
        return ""
    figure, axes = _axes(9.6, 2.6)
    top = min(LONGEST, max(max(counts) for counts in total.values()))
    edges = 0.5 + np.arange(top + 1)
    for color, name in zip(COLORS, sorted(total, reverse=True)):
        bins = np.zeros(top)
        for length, many in total[name].items():
            bins[np.clip(length, 1, top) - 1] += many
        axes.stairs(100 * bins / max(bins.sum(), 1), edges, color=color, linewidth=1.6, label=f"{name}s")
    axes.set_xlabel("words per text" + (f" (the last bin holds all from {LONGEST} on)" if top == LONGEST else ""))
    axes.set_ylabel("texts of the type (%)")
    axes.set_xlim(left=0.5)
    axes.legend(frameon=False, fontsize=9)
    return figure_html(figure, "words per text")


def _rivals(shown: Mapping[str, Statistics]) -> str:
    total: Counter[int] = sum((part.rivals for part in shown.values()), Counter())
    if not total:
        return ""
    figure, axes = _axes(9.6, 2.2)
    tens = Counter({min(key, 10): 0 for key in total})
    for key, many in total.items():
        tens[min(key, 10)] += many
    places = range(min(tens), max(tens) + 1)
    axes.bar(places, [100 * tens[k] / total.total() for k in places], color=COLORS[0], width=0.7)
    axes.set_xticks(list(places), [f"{k}" if k < 10 else "10 or more" for k in places])
    axes.set_xlabel("things of the target's class in its room, itself included")
    axes.set_ylabel("referrals (%)")
    return figure_html(figure, "rivals of the targets")


def expected_vocabulary(vocabulary: Counter[str], shares: np.ndarray) -> np.ndarray:
    """How many different words a random part of a corpus is expected to hold, for each share of its words.

    Each occurrence falls into the part by itself: a word that occurs c times is missing with (1 - share) ** c.
    """
    counts = np.array(list(vocabulary.values()), float)
    return (1.0 - (1.0 - shares[:, None]) ** counts[None]).sum(axis=1)


def _growth(shown: Mapping[str, Statistics]) -> str:
    figure, axes = _axes(9.6, 2.8)
    for color, (split, part) in zip(COLORS, shown.items()):
        total = part.vocabulary.total()
        if total:
            axes.plot(total * GROWTH, expected_vocabulary(part.vocabulary, GROWTH), color=color, label=split)
            axes.plot(total, len(part.vocabulary), "o", color=color, markersize=4)
    axes.set_xlabel("words read, in random order (logarithmic)")
    axes.set_ylabel("different words met")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    _thousands(axes.xaxis)
    _thousands(axes.yaxis)
    if axes.lines:
        axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure_html(figure, "vocabulary growth", "A curve that is flat at its end has met its whole vocabulary.")


def _frequent(shown: Mapping[str, Statistics]) -> str:
    rows = [
        [split, ", ".join(w for w, _ in part.vocabulary.most_common(12)),
         f"{sum(many == 1 for many in part.vocabulary.values()):,}"]
        for split, part in shown.items()
    ]  # fmt: skip
    return table_html(["split", "most frequent words", "words that occur once"], rows, numbers=(2,))


def _overlap(rows: Mapping[str, Mapping[str, float]]) -> str:
    types = sorted({name for row in rows.values() for name in row}, reverse=True)
    cells = [[split, *(f"{row[name]:.1%}" if name in row else "–" for name in types)] for split, row in rows.items()]
    said = "<p>Different sentences of a split that occur word for word in training, too.</p>"
    return said + table_html(["split", *(f"{name}s" for name in types)], cells, numbers=range(1, len(types) + 1))


def _skipped(by_split: Mapping[str, Statistics]) -> str:
    rows = [[split, reason, f"{many:,}"] for split, part in by_split.items()
            for reason, many in part.reasons.most_common(20)]  # fmt: skip
    return table_html(["split", "reason", "scenes"], rows, numbers=(2,))
