"""Where a model looked while it answered: its answers with every token shaded by its visual focus.

As a PNG of several answers, each beside its pictures, and as HTML spans for a page. The shade is relative: white is
the token of an answer whose state is least like its picture's states, blue the one most like them
(agents/reasoning/vgpo.py).
"""

import functools
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from agents.reasoning.types import PICTURE, Picture
from core.page import text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT, LINE, PAPER = "#1d2430", "#5b6575", "#dfe3ea", "#ffffff"
BLUE: Final = (36, 87, 167)  # of a token with focus 1
TURNS: Final = 0.75  # focus from which on white letters stand out more than dark ones

# the PNG, in points
WIDTH, MARGIN, BETWEEN = 720.0, 18.0, 20.0
THUMB, THUMB_GAP = 92.0, 6.0
LETTERS, SMALL = 10.5, 9.0  # font sizes
ROW, BOX, PAD, GAP = 20.0, 16.0, 3.0, 2.5  # of a line of tokens, and of one token
MOST_PROMPT: Final = 4  # lines of a prompt
MOST_LINES: Final = 14  # of an answer; the tokens of the rest are counted
DPI: Final = 160


@dataclass(frozen=True, eq=False)
class FocusedAnswer:
    """An answer to draw."""

    prompt: str
    tokens: Sequence[str]  # as they read; white space around them is not drawn
    focus: Float[ndarray, " T"]  # 0 to 1
    pictures: Sequence[Picture] = ()
    note: str = ""  # printed behind the prompt: reward, right or wrong, ...

    def __post_init__(self) -> None:
        _check(self.tokens, self.focus)


def focus_spans(tokens: Sequence[str], focus: Float[ndarray, " T"]) -> str:
    """The tokens as HTML, each a shaded span that shows its number on hover.

    Raises:
        ValueError: another number of values than tokens, or a value outside 0 to 1.
    """
    _check(tokens, focus)
    spans = []
    for token, value in zip(tokens, focus):
        style = "display:inline-block;margin:1px 0;padding:0 3px;border-radius:3px;"
        style += f"background:{_shade(value)};color:{_ink(value)}"
        spans.append(f'<span title="{value:.2f}" style="{style}">{text(_shown(token))}</span>')
        spans[-1] += "<br>" * token.count("\n")
    return " ".join(spans)


def focus_picture(answers: Sequence[FocusedAnswer]) -> bytes:
    """PNG of the answers, one below the other.

    Raises:
        ValueError: no answers.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not answers:
        raise ValueError("focus_picture() needs at least one answer")
    left = 2 * MARGIN + THUMB if any(answer.pictures for answer in answers) else MARGIN
    blocks = [_Block(answer, WIDTH - MARGIN - left) for answer in answers]
    height = MARGIN + ROW + sum(block.height + BETWEEN for block in blocks) + MARGIN - BETWEEN / 2

    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    _legend(axes)
    top = MARGIN + ROW
    for block in blocks:
        axes.plot([MARGIN, WIDTH - MARGIN], [top, top], color=LINE, linewidth=0.8)
        block.draw(axes, left, top + BETWEEN / 2)
        top += block.height + BETWEEN
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


class _Block:
    """One answer laid out in lines; sizes in points."""

    def __init__(self, answer: FocusedAnswer, width: float) -> None:
        self.answer = answer
        self.prompt = _wrapped(answer.prompt.replace(PICTURE, " ").split(), width)
        self.lines = _lines(answer, width)
        self.cut = sum(map(len, self.lines[MOST_LINES:]))
        self.lines = self.lines[:MOST_LINES]
        words = (len(self.prompt) + bool(answer.note)) * 14.0 + 4 + len(self.lines) * ROW + (14.0 if self.cut else 0)
        pictures = sum(_fitted(picture)[1] + THUMB_GAP for picture in answer.pictures)
        self.height = max(words, pictures - THUMB_GAP)

    def draw(self, axes: "Axes", left: float, top: float) -> None:
        from matplotlib.patches import FancyBboxPatch

        y = top
        for picture in self.answer.pictures:
            wide, tall = _fitted(picture)
            axes.imshow(picture, extent=(MARGIN, MARGIN + wide, y + tall, y), aspect="auto",
                        interpolation="nearest" if max(picture.shape) < 2 * THUMB else "antialiased")  # fmt: skip
            y += tall + THUMB_GAP
        y = top
        for words in self.prompt:
            axes.text(left, y + 10, words, fontsize=LETTERS, color=INK, fontweight="bold", parse_math=False)
            y += 14
        if self.answer.note:
            axes.text(left, y + 9, self.answer.note, fontsize=SMALL, color=FAINT, parse_math=False)
            y += 14
        y += 4
        for line in self.lines:
            for x, width, token, value in line:
                axes.add_patch(FancyBboxPatch((left + x + 1.5, y + 1.5), width - 3, BOX - 3, linewidth=0.5,
                    boxstyle="round,pad=1.5", facecolor=_shade(value), edgecolor=LINE))  # fmt: skip
                axes.text(left + x + PAD, y + 11.8, token, fontsize=LETTERS, color=_ink(value), parse_math=False)
            y += ROW
        if self.cut:
            axes.text(left, y + 9, f"… and {self.cut:,} more tokens", fontsize=SMALL, color=FAINT)


def _lines(answer: FocusedAnswer, width: float) -> list[list[tuple[float, float, str, float]]]:
    """The tokens in lines, as (left, width, letters, focus); a token that ends its line breaks it."""
    lines: list[list[tuple[float, float, str, float]]] = [[]]
    x = 0.0
    for token, value in zip(answer.tokens, answer.focus):
        shown = textwrap.shorten(_shown(token), 60, placeholder="…")
        wide = _width(shown) + 2 * PAD
        if x and x + wide > width:
            lines.append([])
            x = 0.0
        lines[-1].append((x, wide, shown, float(value)))
        x += wide + GAP
        if "\n" in token:
            lines.append([])
            x = 0.0
    return [line for line in lines if line]


def _wrapped(words: Sequence[str], width: float) -> list[str]:
    """A prompt in bold lines, at most MOST_PROMPT of them."""
    lines = [""]
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _width(longer, "bold") > width:
            lines.append(word)
        else:
            lines[-1] = longer
    if len(lines) > MOST_PROMPT:
        lines = [*lines[: MOST_PROMPT - 1], lines[MOST_PROMPT - 1] + " …"]
    return lines


@functools.lru_cache(4096)
def _width(letters: str, weight: str = "normal") -> float:
    """How wide a text is drawn, in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=LETTERS, weight=weight)
    return text_to_path.get_text_width_height_descent(letters, font, ismath=False)[0]


def _fitted(picture: Picture) -> tuple[float, float]:
    """Width and height of a picture whose longer side is THUMB points."""
    tall, wide = picture.shape[:2]
    return wide * THUMB / max(tall, wide), tall * THUMB / max(tall, wide)


def _legend(axes: "Axes") -> None:
    """The scale of shades."""
    y, wide = MARGIN - 6, 120.0
    ramp = np.array([[[*_mixed(value)] for value in np.linspace(0, 1, 64)]]) / 255
    axes.text(MARGIN, y + 9, "visual focus of each token, within its answer", fontsize=SMALL, color=FAINT)
    right = WIDTH - MARGIN - 30
    axes.text(right - wide - 5, y + 9, "least", fontsize=SMALL, color=FAINT, ha="right")
    axes.imshow(ramp, extent=(right - wide, right, y + 11, y + 1), aspect="auto")
    axes.text(right + 5, y + 9, "most", fontsize=SMALL, color=FAINT)


def _shown(token: str) -> str:
    """A token's letters; a sign for one that is white space alone."""
    return token.strip() or ("⏎" if "\n" in token else "␣")


def _mixed(value: float) -> tuple[int, int, int]:
    red, green, blue = (round(255 + (full - 255) * float(value)) for full in BLUE)
    return red, green, blue


def _shade(value: float) -> str:
    return "#{:02x}{:02x}{:02x}".format(*_mixed(value))


def _ink(value: float) -> str:
    return PAPER if value > TURNS else INK


def _check(tokens: Sequence[str], focus: Float[ndarray, " T"]) -> None:
    if len(tokens) != len(focus):
        raise ValueError(f"{len(tokens)} tokens came with {len(focus)} values of focus; expected one each")
    if len(focus) and not (np.min(focus) >= 0 and np.max(focus) <= 1):  # NaN fails this too
        raise ValueError(f"focus runs from {np.min(focus):.3g} to {np.max(focus):.3g}; expected 0 to 1")
