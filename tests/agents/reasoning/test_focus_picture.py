import io
import re

import matplotlib.image
import numpy as np
import pytest

from agents.reasoning.focus_picture import MOST_LINES, FocusedAnswer, focus_picture, focus_spans

GREEN = np.zeros((8, 12, 3), np.uint8) + np.array([10, 200, 30], np.uint8)


def drawn(*answers: FocusedAnswer) -> np.ndarray:
    """The picture as (H, W, 3) of uint8."""
    return np.round(matplotlib.image.imread(io.BytesIO(focus_picture(answers)))[..., :3] * 255).astype(np.uint8)


def covers(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    """Pixels of one colour below the legend."""
    return int((picture[80:] == color).all(-1).sum())


def test_the_bluest_token_is_the_one_with_the_highest_focus():
    spans = focus_spans(["the", "red", "bed"], np.array([0.0, 0.5, 1.0]))
    assert re.findall(r"background:(\S+);color:(\S+?)\"", spans) == [
        ("#ffffff", "#1d2430"),
        ("#92abd3", "#1d2430"),  # half way from 255, 255, 255 to 36, 87, 167
        ("#2457a7", "#ffffff"),
    ]
    assert re.findall(r'title="(\S+)"', spans) == ["0.00", "0.50", "1.00"]


def test_tokens_cannot_break_the_page_and_line_ends_stay_visible():
    spans = focus_spans(["<b>", ".\n", "\n", " "], np.zeros(4))
    assert re.findall(r">([^<>]+)</span>(<br>)?", spans) == [("&lt;b&gt;", ""), (".", "<br>"), ("⏎", "<br>"), ("␣", "")]


def test_the_picture_shows_shades_and_what_was_looked_at():
    plain = FocusedAnswer("<picture> how many ?", ["two"], np.array([0.0]), [GREEN], "right")
    looked = FocusedAnswer("<picture> how many ?", ["two"], np.array([1.0]), [GREEN], "right")
    without, shaded = drawn(plain), drawn(looked)
    assert without.shape == shaded.shape
    assert covers(shaded, (36, 87, 167)) > 500 and covers(without, (36, 87, 167)) == 0
    side = 92 / 72 * 160  # points at 160 dots per inch; 8 x 12 pixels keep their proportions
    assert covers(shaded, (10, 200, 30)) == pytest.approx(side * side * 8 / 12, rel=0.03)


def test_long_answers_are_cut_and_hostile_letters_drawn():
    long, longer = (drawn(FocusedAnswer("why ?", ["$x_1$ \\frac <b>" * 5] * n, np.zeros(n))) for n in (40, 60))
    assert long.shape == longer.shape and long.shape[0] < 160 / 72 * 20 * (MOST_LINES + 6)


def test_answers_stand_below_each_other():
    one = FocusedAnswer("a ?", ["b"], np.zeros(1))
    alone, both = drawn(one), drawn(one, one)
    assert both.shape[1] == alone.shape[1] and both.shape[0] > alone.shape[0] + 50


def test_tokens_without_their_focus_are_refused():
    with pytest.raises(ValueError, match="2 tokens came with 1 values"):
        FocusedAnswer("a ?", ["b", "c"], np.zeros(1))
    with pytest.raises(ValueError, match="focus runs from -1 to 0"):
        focus_spans(["b", "c"], np.array([-1.0, 0.0]))
    with pytest.raises(ValueError, match="expected 0 to 1"):
        focus_spans(["b"], np.array([np.nan]))
    with pytest.raises(ValueError, match="at least one answer"):
        focus_picture([])
