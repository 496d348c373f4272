"""Tests of scene/sheet.py: one picture holds plan, views and coloured sentences."""

import io

import numpy as np
from PIL import Image

from scene.said import Said
from scene.sheet import INK, WIDTH, _lines, sentences, sheet
from tests.scene.test_said import room


def png(width: int, height: int, color: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), color).save(file, format="png")
    return file.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def shares(picture: np.ndarray, *colors: tuple[int, int, int]) -> list[float]:
    return [float((picture == color).all(axis=-1).mean()) for color in colors]


def test_views_stand_beside_a_square_plan_and_below_a_wide_one():
    red, blue = (200, 0, 0), (0, 0, 200)
    for size, beside in (((400, 400), True), ((400, 200), False)):
        picture = pixels(sheet(png(*size, red), [png(80, 60, blue)] * 2, [], room()))
        assert picture.shape[1] == WIDTH and min(shares(picture, red, blue)) > 0.1
        rows = [set(np.flatnonzero((picture == color).all(axis=-1).any(axis=1)).tolist()) for color in (red, blue)]
        assert bool(rows[0] & rows[1]) is beside
    assert shares(pixels(sheet(png(400, 400, red), [], [], room())), blue) == [0.0]


def test_targets_and_anchors_have_their_colours():
    said = [Said("referral", "x", "the chair next to the floor lamp", (1,), (3,))] * 3
    picture = pixels(sentences(said, room()))
    ink = [tuple(int(INK[role][k : k + 2], 16) for k in (1, 3, 5)) for role in ("", "target", "anchor")]
    assert min(shares(picture, *ink)) > 0.0


def test_long_sentences_break_without_losing_a_word():
    words = " ".join(f"word{k}" for k in range(60)) + " chair"
    lines = _lines(Said("question", "x", words, (1,), answer="yes"), room(), inches=4.0, size_pt=9.5)
    assert len(lines) > 5 and max(sum(len(part) for part, _ in line) for line in lines) <= 56
    assert " ".join("".join(part for part, _ in line).strip() for line in lines).split() == [*words.split(), "yes"]
    assert lines[-1][-1][1] == "target"
