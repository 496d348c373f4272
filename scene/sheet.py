"""A home on one picture: the plan, views beside it, and sentences below with the words for objects coloured."""

import io
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from scene.said import ANCHOR, PLAIN, TARGET, Said, pieces
from scene.types import Scene

INK: Final = {PLAIN: "#22252b", TARGET: "#c0136f", ANCHOR: "#1f5fd0"}
WIDTH = 2400  # pixels of a sheet
GAP = 24  # pixels between its parts
VIEWS = 4  # at most
VIEWS_SHARE = 0.27  # of the width, for views beside the plan
WIDE = 1.35  # times as wide as high: views go below
DPI = 150


def sheet(plan: bytes, views: Sequence[bytes], texts: Sequence[Said], scene: Scene) -> bytes:
    """The sheet as PNG, from a plan and views as PNG: up to four views beside the plan, or below one that is wide."""
    from PIL import Image

    top = Image.open(io.BytesIO(plan)).convert("RGB")
    pictures = [Image.open(io.BytesIO(png)).convert("RGB") for png in views[:VIEWS]]
    beside = bool(pictures) and top.width < WIDE * top.height
    if beside:
        column = [_fitted(picture, round(VIEWS_SHARE * WIDTH), WIDTH) for picture in pictures]
        left = WIDTH - column[0].width - 3 * GAP
        tall = sum(picture.height + GAP for picture in column) - GAP
        top = _fitted(top, left, max(tall, round(0.75 * left)))
        rows = [[top]]
    else:
        column = []
        each = (WIDTH - GAP) // max(len(pictures), 2) - GAP
        below = [_fitted(picture, each, WIDTH) for picture in pictures]
        rows = [[_fitted(top, WIDTH - 2 * GAP, round(0.6 * WIDTH))], *([below] if below else [])]
    upper = max(sum(max(p.height for p in row) + GAP for row in rows), sum(p.height + GAP for p in column))
    said = _fitted(Image.open(io.BytesIO(sentences(texts, scene))), WIDTH - 2 * GAP, 10**6) if texts else None
    page = Image.new("RGB", (WIDTH, GAP + upper + (said.height + GAP if said else 0)), "white")
    y = GAP
    for row in rows:
        x = GAP
        for picture in row:
            page.paste(picture, (x, y))
            x += picture.width + GAP
        y += max(picture.height for picture in row) + GAP
    y = GAP
    for picture in column:
        page.paste(picture, (WIDTH - GAP - picture.width, y))
        y += picture.height + GAP
    if said:
        page.paste(said, (GAP, page.height - GAP - said.height))
    file = io.BytesIO()
    page.save(file, format="png")
    return file.getvalue()


def _fitted(picture: Any, width: int, height: int) -> Any:
    """The picture scaled to fit."""
    scale = min(width / picture.width, height / picture.height)
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))


def sentences(texts: Sequence[Said], scene: Scene) -> bytes:
    """A picture of sentences in two columns, targets and anchors coloured and a key above, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    inches, line_pt, size_pt, column_inches = 15.6, 17.0, 9.5, 7.6
    rows = [_lines(text, scene, column_inches, size_pt) for text in texts]
    left = np.cumsum([0, *(len(row) for row in rows)])  # lines of the left column if it ends before each sentence
    half = int(np.argmin(np.maximum(left, left[-1] - left)))
    lines = int(max(left[half], left[-1] - left[half]))
    height = (lines + 2) * line_pt / 72
    figure = Figure(figsize=(inches, height), dpi=DPI, facecolor="white")
    canvas: Any = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()

    def write(x_inch: float, line: int, parts: Sequence[tuple[str, str]]) -> None:
        for words, role in parts:
            y = 1 - (line + 0.8) * line_pt / 72 / height
            weight = "bold" if role else "normal"
            drawn = figure.text(x_inch / inches, y, words, fontsize=size_pt, color=INK[role], fontweight=weight)
            # trailing spaces have no ink: they are measured between two letters
            x_inch += _width(figure, renderer, words, size_pt, weight)
            drawn.set_in_layout(False)

    write(0.05, 0, [("what is meant", TARGET), (", ", PLAIN), ("what it is told by", ANCHOR)])
    for part, x in ((rows[:half], 0.05), (rows[half:], 0.05 + inches / 2)):
        line = 1
        for row in part:
            for parts in row:
                write(x, line, parts)
                line += 1
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def _width(figure: Any, renderer: Any, words: str, size_pt: float, weight: str) -> float:
    """Inches that words take, with the spaces at their ends."""

    def measured(text: str) -> float:
        trial = figure.text(0, 0, text, fontsize=size_pt, fontweight=weight)
        wide = trial.get_window_extent(renderer).width / figure.dpi
        trial.remove()
        return float(wide)

    return measured(f"|{words}|") - measured("||")


def _lines(text: Said, scene: Scene, inches: float, size_pt: float) -> list[list[tuple[str, str]]]:
    """The pieces of a sentence broken into lines that fit, by an average width of letters."""
    room = int(inches * 72 / (0.6 * size_pt))
    parts = [(words, role) for words, role, _ in pieces(text, scene)]
    if text.answer:
        parts.append((f"  {text.answer}", TARGET))
    lines: list[list[tuple[str, str]]] = [[]]
    used = 0
    for words, role in parts:
        for word in _words(words):
            if used and used + len(word.rstrip()) > room:
                lines.append([("    ", PLAIN)])
                used, word = 4, word.lstrip()
            last = lines[-1]
            if last and last[-1][1] == role:
                last[-1] = (last[-1][0] + word, role)
            else:
                last.append((word, role))
            used += len(word)
    return lines


def _words(text: str) -> list[str]:
    """Words with the spaces that follow them; nothing is lost."""
    found: list[str] = []
    for letter in text:
        if found and not (found[-1][-1] == " " and letter != " "):
            found[-1] += letter
        else:
            found.append(letter)
    return found
