"""How well does a reasoning model answer, and does it look? `evaluate-reasoner` as one self-contained HTML page.

Laid out as MAYE asks (Ma et al., arXiv:2504.02587, section 3): accuracy in several ways of asking, in and out of
distribution, length and reflection, curves over seeds; beside them what a blind model, another picture, the most
frequent answer and chance reach, and answers before and after training.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from agents.reasoning.answer_figures import (
    ALL,
    BEFORE,
    CHANCE,
    CONTROLS,
    MAJORITY,
    ORACLE,
    SEEN,
    TOLD,
    pass_name,
    powers,
)
from agents.reasoning.curves import SEEDS, Curve
from agents.reasoning.focus_picture import focus_spans
from agents.reasoning.reasoner_plots import accuracy_plot, curves_plot, kinds_plot, lengths_plot, passes_plot
from agents.reasoning.types import PICTURE, Picture, Sample
from agents.reasoning.ways import WAYS
from core.page import image_html, page_html, table_html, text

GRADES: Final = {"good": "#1b7a3d", "mixed": "#b26a00", "bad": "#b3261e"}
SIDE: Final = 168  # CSS pixels of a question's picture
REFLECTION: Final = {
    "ratio": "answers with a reflection word",
    "in_correct": "of right answers, those that reflect",
    "in_incorrect": "of wrong answers, those that reflect",
    "correct_in_reflection": "of answers that reflect, those that are right",
    "correct_in_no_reflection": "of answers that do not, those that are right",
}
STYLE: Final = """
main { max-width: 1120px; } p { max-width: 100ch; }
.verdict { border-left: 5px solid; padding: 8px 16px; background: var(--ground); font-size: 18px; max-width: none; }
.rule { color: var(--soft); font-size: 14px; }
td small { display: block; color: var(--soft); font-size: 11.5px; line-height: 1.35; }
tr.control td { color: var(--soft); } tr.lead td { font-weight: 600; background: #eef3fb; }
tr.lead td small { font-weight: 400; }
.beside, figure { margin-bottom: 16px; }
.beside { display: grid; grid-template-columns: 1fr 1fr; gap: 18px; align-items: start; }
figure img { max-height: none; }
h3 { font-size: 16px; margin: 18px 0 6px; }
.answers { display: grid; gap: 14px; }
.card { display: grid; grid-template-columns: 168px 1fr; gap: 18px; border: 1px solid var(--line); border-radius: 8px;
        padding: 14px; align-items: start; }
.card.wordy { grid-template-columns: 1fr; }
.card figure img { width: 168px; image-rendering: pixelated; border-radius: 4px; margin-bottom: 4px; }
.card .asked { font-weight: 600; margin-bottom: 4px; } .card .truth { color: var(--soft); font-size: 14px; }
.card dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 12px; margin: 0; font-size: 15px; }
.card dt { color: var(--soft); white-space: nowrap; } .card dd { margin: 0; overflow-wrap: anywhere; }
.tag { color: #9aa3b2; font-size: 13px; } .said { font-weight: 600; } .cut { color: var(--soft); font-style: italic; }
details { margin: 6px 0 12px; } summary { cursor: pointer; color: var(--accent); font-size: 15px; }
@media (max-width: 800px) { .beside { grid-template-columns: 1fr; } }
@media (max-width: 520px) { main { padding: 24px 10px 60px; } section { padding: 16px 12px; } h1 { font-size: 25px; }
  .card { grid-template-columns: 1fr; } .card dl { grid-template-columns: 1fr; } }
"""


@dataclass(frozen=True)
class Said:
    """One answer and whether it is right."""

    text: str
    correct: bool
    ended: bool = True
    focus: Sequence[tuple[str, float]] = ()  # tokens and their visual focus in 0 to 1; none where nothing was seen


@dataclass(frozen=True)
class Shown:
    """A question on the page."""

    sample: Sample
    pictures: Sequence[Picture]
    after: Said
    before: Said | None = None  # of the model before training, if that is known


def reasoner_page(
    title: str,
    result: Mapping[str, Any],
    sampled: tuple[Int64[ndarray, " N"], ndarray],
    panels: Mapping[str, Mapping[str, Curve]],
    shown: Sequence[Shown],
    beside: Mapping[str, Mapping[str, Mapping[str, Curve]]] = MappingProxyType({}),
) -> str:
    """The page as HTML text.

    Args:
        title: which model, in a few words.
        result: what result.json holds; its first set of questions leads.
        sampled: tokens of each answer drawn at T = 1 on that set, and whether it is right.
        panels: learning curves, panel -> arm -> curve; empty where no training run is known.
        shown: questions with their answers.
        beside: panel -> set -> arm -> curve: what is drawn with it out of distribution.
    """
    sets, k = result["sets"], result["k"]
    first = next(iter(sets))
    grade, words = verdict(sets[first], first)
    lead = f"{sets[first]['questions']:,} questions of {first}, {sets[first]['groups']:,} homes or sentences"
    others = [name for name in sets if name != first]
    if others:
        lead += f"; beside it {', '.join(others)}"
    sections: list[tuple[str, Sequence[str]]] = [
        (
            "In short",
            [
                f'<p class="verdict" style="border-color:{GRADES[grade]}">{text(words)}</p>',
                accuracy_plot(sets[first]["accuracy"], row_names(k)),
            ],
        ),
        ("Accuracy", [block for name in sets for block in _accuracy(sets[name], name, k, len(sets) > 1)] + [LEGEND]),
        ("Does it look?", _seeing(sets)),
        ("How it answers", _manner(sets, sampled, k, result["max_new_tokens"])),
    ]
    if panels:
        sections.append(("Learning curves", _curves(result["curves"], panels, beside)))
    if shown:
        sections.append(("Sample answers", _samples(shown)))
    sections.append(("How it was measured", _measured(result)))
    return page_html(f"Reasoning model: {title}", f"{lead}.", sections, STYLE)


def row_names(k: int) -> dict[str, str]:
    """What the plot and the terminal's table call the rows of accuracy that they show, in order."""
    return {
        "cold": "once, T = 0.01",
        "warm": "once, T = 0.6",
        pass_name(1): "once, T = 1",
        **({pass_name(k): f"one of {k}, T = 1"} if k > 1 else {}),
        BEFORE: "before training, T = 0.01",
        **{name: name for name in (MAJORITY, CHANCE)},
        "exchanged": "other pictures, T = 0.01",
        "blind": "grey pictures, T = 0.01",
    }


def verdict(figures: Mapping[str, Any], name: str) -> tuple[str, str]:
    """A grade (good, mixed, bad) and the reasons in a few sentences.

    Good: better than the most frequent answer, and better with the picture than with a grey one, both beyond the
    intervals. Bad: not better with the picture. Where no question has need of a picture only the first counts.
    """
    accuracy, gains = figures["accuracy"], figures["gains"]
    part = SEEN if SEEN in accuracy["cold"] else ALL
    found, guess = accuracy["cold"][ALL], accuracy[MAJORITY][ALL]
    beats = found["interval"][0] > guess["value"]
    said = [
        f"Right on {percent(found)} of the questions of {name}; the most frequent answers are right on "
        f"{guess['value']:.0%}, chance on {accuracy[CHANCE][ALL]['value']:.0%}."
    ]
    if BEFORE in gains:
        said.append(f"Training changed that by {points(gains[BEFORE][ALL])}.")
    if not figures["need_pictures"]:
        said.append("No question needs a picture, so whether it looks is not known.")
        return ("good" if beats else "mixed"), " ".join(said)
    gain, blind = gains["blind"][part], accuracy["blind"][part]
    which = "of those that need the picture" if part == SEEN else "of them"
    looks = gain["interval"][0] > 0
    said.append(
        f"With grey pictures it is right on {blind['value']:.0%} {which}: seeing "
        + (f"adds {points(gain)}." if looks else f"adds nothing that shows: {points(gain)}.")
    )
    if not looks:
        return "bad", " ".join(said)
    return ("good" if beats else "mixed"), " ".join(said)


def percent(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['value']:.0%} ({100 * low:.0f} to {100 * high:.0f})"


def points(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    said = f"{100 * found['value']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
    return said.replace("-", "\u2212")


LEGEND: Final = (
    '<p class="rule">Below each value its 95 % interval, whole homes or sentences drawn again. pass@k: one of k '
    f"answers is right. Most frequent answer: {text(CONTROLS[MAJORITY])}; it knows the set. "
    f"Chance: {text(CONTROLS[CHANCE])}. The exact answers: {text(CONTROLS[ORACLE])}; less than 1 is "
    "a fault of the questions, not of the model.</p>"
)


def _accuracy(figures: Mapping[str, Any], name: str, k: int, titled: bool) -> Iterator[str]:
    """The table of one set: rows by way of asking, columns by what the questions need."""
    accuracy = figures["accuracy"]
    parts = [part for part in (ALL, SEEN, TOLD) if part in accuracy["cold"]]
    names = row_names(k)
    order = ["cold", "warm", *(pass_name(j) for j in powers(k)), BEFORE, "exchanged", "blind", MAJORITY, CHANCE, ORACLE]
    labels = {pass_name(j): f"pass@{j}, T = 1" for j in powers(k)} | {"cold": names["cold"], "warm": names["warm"]}
    if titled:
        yield f"<h3>{text(name)}</h3>"
    head = "".join(f'<th class="number">{text(part)} ({accuracy["cold"][part]["n"]:,})</th>' for part in parts)
    lines = [f"<tr><th></th>{head}</tr>"]
    for row in (row for row in order if row in accuracy):
        kind = "lead" if row == "cold" else "control" if row in CONTROLS else ""
        cells = "".join(f'<td class="number">{_cell(accuracy[row][part], row)}</td>' for part in parts)
        lines.append(f'<tr class="{kind}"><td>{text(labels.get(row, names.get(row, row)))}</td>{cells}</tr>')
    yield f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def _cell(found: Mapping[str, Any], row: str = "") -> str:
    low, high = found["interval"]
    if row in (MAJORITY, CHANCE, ORACLE):
        return f"{found['value']:.3f}"
    return f"{found['value']:.3f}<small>{low:.3f} to {high:.3f}</small>"


def _seeing(sets: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the right picture adds, and accuracy by kind."""
    rows: list[Sequence[str] | str] = []
    for name, figures in sets.items():
        if len(sets) > 1:
            rows.append(name)
        for part in (ALL, SEEN, TOLD):
            if part in figures["gains"]["blind"]:
                rows.append([part, *(points(figures["gains"][control][part]) for control in ("blind", "exchanged"))])
    said = (
        "<p>The same questions, asked at T = 0.01 with their own picture, with a grey one of the same size, and with "
        "the picture of another question of the same kind. Differences are taken question by question; a model that "
        "answers from words alone shows none.</p>"
    )
    blocks = [said, table_html(["questions", "own minus grey", "own minus another's"], rows, numbers=(1, 2))]
    for name, figures in sets.items():
        if kinds := figures["kinds"]:
            blocks += [f"<h3>{text(name)}, by kind of question</h3>", kinds_plot(figures["accuracy"], kinds)]
    return blocks


def _manner(
    sets: Mapping[str, Mapping[str, Any]], sampled: tuple[Int64[ndarray, " N"], ndarray], k: int, limit: int
) -> list[str]:
    """pass@k, length and reflection."""
    passes = {name: {j: figures["accuracy"][pass_name(j)][ALL] for j in powers(k)} for name, figures in sets.items()}
    rows: list[Sequence[str] | str] = []
    for name, figures in sets.items():
        if len(sets) > 1:
            rows.append(name)
        for way, found in figures["manner"].items():
            rows.append(
                [
                    way_name(way),
                    f"{found['length']['value']:.1f}",
                    _number(found["length_correct"]),
                    _number(found["length_incorrect"]),
                    f"{found['ended']['value']:.1%}",
                    f"{found['answer_given']['value']:.1%}",
                ]
            )
    head = ["way of asking", "tokens", "of right answers", "of wrong ones", "ended in time", "answer in its place"]
    counted = [(name, way) for name in sets for way in sets[name]["reflection"]]
    reflections = [
        [said, *(f"{sets[name]['reflection'][way][key]:.3f}" for name, way in counted)]
        for key, said in REFLECTION.items()
    ]
    plots = [lengths_plot(*sampled, limit), *([passes_plot(passes)] if k > 1 else [])]
    return [
        f'<div class="beside">{"".join(f"<div>{plot}</div>" for plot in plots)}</div>',
        table_html(head, rows, numbers=range(1, len(head))),
        "<p>Reflection words (wait, verify, check again, ...) in answers drawn at T = 1, as whole words and as MAYE "
        "counts, inside other words too:</p>",
        table_html(["share", *(f"{name}, {way}" for name, way in counted)], reflections, numbers=range(1, 9)),
    ]


def way_name(way: str) -> str:
    """A way of asking in words."""
    if way not in WAYS:
        return way
    return WAYS[way].title if WAYS[way].pictures != "own" else f"own pictures, {WAYS[way].title}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _curves(
    figures: Mapping[str, Any],
    panels: Mapping[str, Mapping[str, Curve]],
    beside: Mapping[str, Mapping[str, Mapping[str, Curve]]],
) -> list[str]:
    """Curves with bands, and their mean and best."""
    arms = figures["arms"]
    least = min(len(arm["seeds"]) for arm in arms.values())
    said = "Mean over seeds; the band is one standard deviation to each side, thin lines are single seeds."
    if least == 1:
        said = "Of one seed: no band."
    elif least < SEEDS:
        said += f" Bands say little below {SEEDS} seeds; here are {least}."
    columns = {"last": "last", "mean": "mean over the course", "max": "best"}
    if beside:
        columns["chosen"] = "where val is best"
        said += (
            f" Out of distribution: {text(', '.join(figures['ood']))}, a report and nothing to choose by. The best of "
            "a curve is chosen on itself and flatters; the last column is the value where accuracy on val is highest."
        )
    rows: list[Sequence[str] | str] = []
    for title, found in figures["over"].items():
        rows.append(title)
        for arm, entry in found.items():
            rows.append(
                [arm, str(entry["seeds"]), *(_spread(entry[name]) if name in entry else "–" for name in columns)]
            )
    blocks = [f"<p>{said}</p>", curves_plot(panels, figures["x"], beside)]
    if rows:
        blocks.append(table_html(["arm", "seeds", *columns.values()], rows, numbers=range(1, 2 + len(columns))))
    return blocks


def _spread(found: Mapping[str, Any]) -> str:
    around = "" if found["interval"] is None else " ({:.3f} to {:.3f})".format(*found["interval"])
    return f"{found['value']:.3f}{around}"


def _samples(shown: Sequence[Shown]) -> list[str]:
    changed = any(item.before for item in shown)
    said = "Before and after training, asked at T = 0.01." if changed else "Asked at T = 0.01."
    if any(item.after.focus for item in shown):
        said += (
            " The bluer a token, the nearer the model's state there is to its states on the picture (visual focus, "
            "VGPO)."
        )
    return [f"<p>{said}</p>", f'<div class="answers">{"".join(_card(item) for item in shown)}</div>']


def _card(item: Shown) -> str:
    pictures = "".join(image_html(png(picture), "the picture asked about", width=SIDE) for picture in item.pictures)
    asked = " ".join(item.sample.prompt.replace(PICTURE, " ").split())
    answers = [("before", item.before), ("after" if item.before else "answer", item.after)]
    lines = "".join(f"<dt>{name}</dt><dd>{_said(said)}</dd>" for name, said in answers if said is not None)
    if item.after.focus:
        tokens, values = zip(*item.after.focus)
        lines += f"<dt>focus</dt><dd>{focus_spans(tokens, np.array(values))}</dd>"
    kind = f"{item.sample.kind} · " if item.sample.kind else ""
    body = (
        f'<div><p class="asked">{text(asked)}</p><p class="truth">{text(kind)}right is: {text(item.sample.answer)}</p>'
        f"<dl>{lines}</dl></div>"
    )
    return (
        f'<div class="card"><div>{pictures}</div>{body}</div>' if pictures else f'<div class="card wordy">{body}</div>'
    )


TAGS: Final = re.compile(r"&lt;/?(?:think|answer)&gt;")


def _said(said: Said) -> str:
    """An answer with its tags in grey, marked right or wrong."""
    mark = '<span class="hit">✓</span>' if said.correct else '<span class="miss">✗</span>'
    words = TAGS.sub(lambda tag: f'<span class="tag">{tag.group()}</span>', text(said.text))
    cut = "" if said.ended else ' <span class="cut">cut off at the limit</span>'
    return f"{mark} {words or '<span class=cut>nothing</span>'}{cut}"


def png(picture: Picture) -> bytes:
    """A picture as the bytes of a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png")
    return buffer.getvalue()


def _measured(result: Mapping[str, Any]) -> list[str]:
    """What was asked of what."""
    ways = "; ".join(f"{way.title} (temperature {way.temperature:g}, top_p {way.top_p:g})" for way in WAYS.values())
    rows = [
        ["model", str(result["model"])],
        ["questions", "; ".join(f"{name}: {figures['data']}" for name, figures in result["sets"].items())],
        ["ways of asking", ways],
        ["answers to a question at T = 1", str(result["k"])],
        ["tokens of an answer at most", str(result["max_new_tokens"])],
        ["seed", str(result["seed"])],
    ]
    if result.get("curves"):
        for name, arm in result["curves"]["arms"].items():
            rows.append([f"runs of {name}", ", ".join(arm["runs"])])
    return [table_html(["", ""], rows)]
