"""Self-made pictures and sentences: truth by hand, texts that say nothing alone, files as the corpus has them."""

import gzip
import io
import json
import math
import os
import zipfile
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from benchmarks import nlvr_style
from benchmarks.nlvr_phrases import Amount, Touch
from benchmarks.nlvr_pictures import COLOURS, ORDERS, SIDE, Item, Picture, changed, draw_picture, png, tower
from benchmarks.nlvr_sentences import draw, read
from core.errors import InputError

TOWERS = Picture("tower", (tower(["blue", "black", "black"]), tower(["yellow"]), tower(["blue", "yellow", "blue"])))
SCATTER = Picture(
    "scatter",
    (
        (Item("circle", "yellow", 10, 0, 40), Item("square", "black", 30, 50, 50)),
        (
            Item("triangle", "blue", 20, 80, 80),
            Item("triangle", "blue", 20, 58, 79),
            Item("circle", "black", 10, 30, 0),
        ),
        (Item("square", "yellow", 20, 40, 40),),
    ),
)
SHARED = Path(os.environ.get("SIGHTLINE_DATA", "/nowhere")) / "nlvr1" / "test.json.gz"


@pytest.mark.parametrize(
    ("picture", "sentence", "truth"),
    [
        (TOWERS, "There is a tower with exactly three blocks having a black block at the top.", True),
        (TOWERS, "there are two towers with a blue block at the base", True),
        (TOWERS, "There is exactly one tower with three blocks", False),
        (TOWERS, "there is a yellow tower.", True),
        (TOWERS, "there is a blue tower.", False),
        (TOWERS, "there is a black block on a blue block.", True),
        (TOWERS, "there is no blue block on a yellow block", False),
        (TOWERS, "There is a yellow block between two blue blocks.", True),
        (TOWERS, "there is 1 tower with 2 black blocks stacked together", True),
        (TOWERS, "there is 1 tower with 2 blue blocks stacked together", False),
        (TOWERS, "the top of the three towers are not the same", True),
        (TOWERS, "the second block of a tower from the top is yellow", True),
        (TOWERS, "each tower has at least 1 yellow block", False),
        (SCATTER, "t least one yellow circle is touching the edge", True),
        (SCATTER, "there are exactly two items touching the edge", False),  # a circle, a triangle, the circle above
        (SCATTER, "there is a blue triangle touching the corner.", True),
        (SCATTER, "none of the black squares are touching any edge", True),
        (SCATTER, "there is a box with 2 items", True),
        (SCATTER, "there is a box with only yellow items.", True),
        (SCATTER, "there are yellow items in each box", False),
        (SCATTER, "there is a box with 2 blue items touching each other.", True),
        (SCATTER, "there is a box with items of all 3 different colors", False),
        (SCATTER, "there is a box with 3 items of which two are blue and one is black", True),
        (SCATTER, "there are more triangles than circles", False),
        (SCATTER, "there is a small black circle touching the top", True),
    ],
)  # fmt: skip
def test_sentences_are_true_of_what_they_describe(picture, sentence, truth):
    statement = read(sentence)
    assert statement is not None and statement.true_of(picture) == truth


def test_a_sentence_outside_the_constructions_is_not_read():
    assert read("the blue thing looks rather lonely") is None


def test_amounts_say_how_many():
    said = [("at least two", 2, math.inf), ("at most 3", 0, 3), ("more than one", 2, math.inf), ("no", 0, 0)]
    said += [("exactly 1", 1, 1), ("a", 1, math.inf), ("two", 2, math.inf)]
    assert [(Amount.read(text).low, Amount.read(text).high) for text, *_ in said] == [
        (low, high) for _, low, high in said
    ]
    assert Amount.read("two").exactly().high == 2 and Amount.read("at least two").exactly().high == math.inf


def test_a_corner_is_two_sides_at_once_and_near_is_not_touching():
    nearly = Item("circle", "blue", 10, 3, 88)
    assert Touch.read("close to a corner").holds(nearly) and not Touch.read("touching a corner").holds(nearly)
    assert Touch.read("not touching the edge").holds(nearly)


@pytest.mark.parametrize("kind", ["scatter", "tower"])
def test_every_construction_that_is_drawn_is_read_back_with_the_same_truth(kind):
    rng = Random(0)
    pictures = [draw_picture(rng, kind) for _ in range(6)]
    for construction in nlvr_style.OF_KIND[kind]:
        for _ in range(3):
            said = draw(construction, kind, rng)
            heard = read(said.text)
            assert heard is not None, said.text
            assert [heard.true_of(p) for p in pictures] == [said.true_of(p) for p in pictures], said.text


def test_a_pair_is_told_apart_by_its_sentence_however_numbers_are_meant():
    rng = Random(1)
    for _ in range(25):
        pair = nlvr_style.draw_pair(rng)
        assert pair.statement.true_of(pair.fits) and not pair.statement.true_of(pair.fails)
        exact = pair.statement.exactly()
        assert exact.true_of(pair.fits) and not exact.true_of(pair.fails)
        assert nlvr_style.told_apart(pair.statement, pair.fits, pair.fails) is True
        assert nlvr_style.told_apart(pair.statement, pair.fails, pair.fits) is False
        assert nlvr_style.told_apart(pair.statement, pair.fits, pair.fits) is None


def test_pictures_keep_their_items_apart_and_inside():
    rng = Random(2)
    for kind in ("scatter", "tower") * 40:
        picture = changed(draw_picture(rng, kind), rng)
        for box in picture.boxes:
            assert box and all(min(item.wall_gaps().values()) >= 0 for item in box)
            assert all(a.gap(b) > 0 for row, a in enumerate(box) for b in box[:row])


def test_the_file_form_of_a_picture_is_read_back():
    assert Picture.read(TOWERS.structured_rep()) == TOWERS and Picture.read(SCATTER.structured_rep()) == SCATTER
    row = TOWERS.structured_rep()[0][1]
    assert row == {"y_loc": 59, "size": 20, "type": "square", "x_loc": 40, "color": "Black"}


def test_orders_show_the_same_boxes_between_grey_bands():
    seen = [np.array(Image.open(io.BytesIO(png(SCATTER, order))).convert("RGB")) for order in ORDERS]
    boxes = [seen[0][:, left : left + SIDE] for left in (0, 150, 300)]
    for order, image in zip(ORDERS, seen):
        assert image.shape == (100, 400, 3) and (image[:, 100:150] == 128).all() and (image[:, 250:300] == 128).all()
        for left, row in zip((0, 150, 300), order):
            assert (image[:, left : left + SIDE] == boxes[row]).all()
    assert tuple(seen[0][60, 60]) == COLOURS["black"] and tuple(seen[0][5, 5]) == (211, 211, 211)


def test_the_files_are_of_the_official_form_and_the_text_alone_says_nothing(tmp_path):
    nlvr_style.make(tmp_path / "made", 24, seed=0, permutations=2)
    rows = [json.loads(line) for line in (tmp_path / "made" / "train.json").read_text().splitlines()]
    assert len(rows) == 24 and set(rows[0]) >= {
        "sentence",
        "label",
        "identifier",
        "directory",
        "evals",
        "structured_rep",
    }
    labels = defaultdict(Counter)
    for row in rows:
        labels[row["sentence"]][row["label"]] += 1
    assert all(count["true"] == count["false"] for count in labels.values())
    with zipfile.ZipFile(tmp_path / "made" / "train_images.zip") as held:
        names = set(held.namelist())
    assert names == {f"train-{row['identifier']}-{order}.png" for row in rows for order in (0, 1)}
    picture = {row["identifier"]: Picture.read(row["structured_rep"]) for row in rows}
    for line in (tmp_path / "made" / "pairs-train.jsonl").read_text().splitlines():
        pair = json.loads(line)
        _, sentence, position, _ = pair["image"].split("-")
        for text in pair["caption"].rstrip(".").split(". "):
            statement = read(text)
            assert statement is not None and statement.true_of(picture[f"{sentence}-{position}"])
    assert len((tmp_path / "made" / "val.json").read_text().splitlines()) == 2


def test_the_same_seed_makes_the_same_files_and_an_odd_count_is_refused(tmp_path):
    for name in ("a", "b"):
        nlvr_style.make(tmp_path / name, 4, seed=3)
    assert (tmp_path / "a" / "train.json").read_bytes() == (tmp_path / "b" / "train.json").read_bytes()
    with pytest.raises(InputError, match="even"):
        nlvr_style.make(tmp_path / "c", 5, seed=0)
    with pytest.raises(InputError, match="already"):
        nlvr_style.make(tmp_path / "a", 4, seed=0)


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.exists(), reason="SIGHTLINE_DATA names no folder with nlvr1")
def test_meanings_and_drawings_are_those_of_the_corpus():
    rows = [json.loads(line) for line in gzip.decompress(SHARED.read_bytes()).splitlines()]
    answers = []
    for row in rows:
        if statement := read(row["sentence"]):
            answers.append(statement.true_of(Picture.read(row["structured_rep"])) == (row["label"] == "true"))
    assert len(answers) / len(rows) > 0.8 and np.mean(answers) > 0.98
    scattered = next(row for row in rows if Picture.read(row["structured_rep"]).kind == "scatter")
    with zipfile.ZipFile(SHARED.with_name("test_images.zip")) as held:
        for order, boxes in enumerate(ORDERS):
            image = Image.open(io.BytesIO(held.read(f"test-{scattered['identifier']}-{order}.png"))).convert("RGB")
            made = Image.open(io.BytesIO(png(Picture.read(scattered["structured_rep"]), boxes))).convert("RGB")
            assert np.abs(np.asarray(image).astype(int) - np.asarray(made)).mean() < 0.2
