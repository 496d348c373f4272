"""Facts about vl/pairs.py."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from core.errors import InputError, MissingFileError
from tests.vl.picture_files import bomb, encoded
from vl.loader import Prefetch
from vl.pairs import PairBatches, open_pairs
from vl.tokenizer import train_tokenizer

COLORS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 210)}
SIZE = 8


def tint(number: int) -> tuple[int, int, int]:
    """A colour of its own for every row, so that a batch's pictures tell which rows they are."""
    return (number % 16 * 16, number // 16 % 16 * 16, 77)


def number_of(picture: np.ndarray) -> int:
    red, green, _ = np.rint(picture.reshape(-1, 3).mean(0) / 16).astype(int)
    return int(red + 16 * green)


def write_rows(folder, rows, name="pairs.jsonl"):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder / name


def corpus(folder, count=40, name="pairs.jsonl"):
    rows = []
    for i in range(count):
        (folder / f"{i}.png").write_bytes(encoded(Image.new("RGB", (4, 4), tint(i))))
        rows.append({"image": f"{i}.png", "caption": f"picture number {i}"})
    return write_rows(folder, rows, name)


@pytest.fixture(scope="module")
def tokenizer():
    words = [f"picture number {i} left right the lamp is a of" for i in range(200)]
    return train_tokenizer([*words, "a b c d e f g h"])


@pytest.fixture
def batches(tmp_path, tokenizer):
    return lambda count=40, size=8, **options: PairBatches(
        open_pairs(corpus(tmp_path, count)), tokenizer, size, **{"seed": 0, "image_size": SIZE} | options
    )


def texts_of(batch, tokenizer) -> list[str]:
    rows = tokenizer.batch_decode(batch.input_ids, skip_special_tokens=True)
    return [rows[i] for i in batch.text.tolist()]


def same(a, b) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in vars(a))


def test_a_batch_holds_each_picture_with_its_own_text(batches, tokenizer):
    one = batches(jitter=0.1, image_width=12)
    batch = one.batch(3)
    assert batch.images.shape == (8, SIZE, 12, 3) and batch.gain.shape == (8, 3, 1, 1)
    numbers = [number_of(picture) for picture in batch.images.numpy()]
    assert texts_of(batch, tokenizer) == [f"picture number {n}" for n in numbers]
    assert one.items(3).tolist() == numbers and len(one) == 40
    assert batch.positive.tolist() == np.eye(8, dtype=bool).tolist()
    assert (batch.attention_mask.sum(1) == 5).all() and (batch.gain - 1).abs().max() <= 0.128


def test_every_row_comes_once_per_epoch_in_another_order(batches):
    one = batches(44)
    assert one.steps_per_epoch == 5
    epochs = [[int(n) for step in range(5 * e, 5 * e + 5) for n in one.items(step)] for e in range(3)]
    assert all(len(set(epoch)) == 40 and set(epoch) <= set(range(44)) for epoch in epochs)
    assert epochs[0] != epochs[1] and len({frozenset(epoch) for epoch in epochs}) > 1  # the rest is another each time


def test_a_batch_depends_on_seed_and_step_alone(batches):
    one, two = batches(flip=True, jitter=0.1), batches(flip=True, jitter=0.1)
    for step in (9, 2, 23, 2):
        assert same(one.batch(step), two.batch(step))
    assert not same(one.batch(2), batches(seed=1).batch(2))


def test_pictures_can_be_left_unread(batches):
    one = batches(jitter=0.1)
    whole, bare = one.batch(2), one.batch(2, pictures=False)
    assert bare.images.shape == (8, 0, 0, 3)
    bare.images = whole.images
    assert same(whole, bare)
    part = one.batch(2, pictures=range(2, 5))
    assert (part.images[2:5] == whole.images[2:5]).all() and not part.images[:2].any() and not part.images[5:].any()
    read = one.bytes_read
    one.items(2), one.batch(2, pictures=False)
    assert one.bytes_read == read > 0
    assert [number_of(p) for p in one.images(np.array([5, 3]))] == [5, 3]
    later = batches(jitter=0.1)
    later.readable[:] = True  # as a run that kept it with the features of all pictures
    assert later.items(2).tolist() == one.items(2).tolist() and later.bytes_read == 0


def test_all_texts_of_a_picture_are_positives_of_it(tmp_path, tokenizer):
    corpus(tmp_path, 4)
    rows = [
        {"image": "0.png", "caption": ["a b", "c d"]},
        {"image": "1.png", "caption": "a b"},
        {"image": "2.png", "caption": "e f"},
        {"image": "2.png", "caption": "g h"},
    ]
    one = PairBatches(open_pairs(write_rows(tmp_path, rows)), tokenizer, 4, seed=0, image_size=SIZE)
    true_of = {0: {"a b", "c d"}, 1: {"a b"}, 2: {"e f", "g h"}, 3: {"e f", "g h"}}
    chosen = set()
    for step in range(8):
        batch, items = one.batch(step), one.items(step).tolist()
        texts = texts_of(batch, tokenizer)
        assert batch.positive.tolist() == [[text in true_of[i] for text in texts] for i in items]
        assert len(batch.input_ids) == len(set(texts))
        chosen.add(texts[items.index(0)])
    assert chosen == {"a b", "c d"}


def test_mirroring_spares_texts_that_name_a_side_unless_words_may_change(tmp_path, tokenizer):
    half = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    half[:, : SIZE // 2] = 240  # bright on the left
    (tmp_path / "half.png").write_bytes(encoded(half))
    texts = ["the lamp is left", "Left of the lamp", "a lamp", "the leftmost lamp"]
    path = write_rows(tmp_path, [{"image": "half.png", "caption": text} for text in texts])
    for exchange, mirrored_rows in ((False, {2}), (True, {0, 1, 2})):
        one = PairBatches(open_pairs(path), tokenizer, 4, seed=0, image_size=SIZE, flip=True, exchange_sides=exchange)
        seen = set()
        for step in range(10):
            batch = one.batch(step)
            for row, picture, text in zip(one.items(step), batch.images.numpy(), texts_of(batch, tokenizer)):
                flipped = picture[0, 0, 0] == 0
                seen |= {int(row)} if flipped else set()
                if row < 2:
                    assert ("right" in text) == flipped and ("left" in text) != flipped
        assert seen == mirrored_rows
    with pytest.raises(InputError, match="set flip=true"):
        PairBatches(open_pairs(path), tokenizer, 4, seed=0, image_size=SIZE, exchange_sides=True)


def hostile(folder, count=60):
    """Rows of which five cannot be used, each for a reason of its own."""
    path = corpus(folder, count)
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:50])
    (folder / "11.png").write_bytes(bomb(30_000, 30_000))
    (folder / "17.png").unlink()
    lines = path.read_text().splitlines()
    lines[29] = json.dumps({"image": "29.png", "caption": "  "})
    lines[41] = json.dumps({"image": "41.png", "caption": "a " * 10_000})
    path.write_text("\n".join(lines) + "\n")
    return path, {3: "truncated", 11: "too many pixels", 17: "missing", 29: "empty text"} | {
        41: "text longer than max_tokens"
    }


def test_unreadable_rows_are_counted_by_cause_and_replaced_alike_wherever_a_run_resumes(tmp_path, tokenizer):
    path, causes = hostile(tmp_path)

    def make():
        return PairBatches(open_pairs(path), tokenizer, 10, seed=3, image_size=SIZE, max_unreadable=0.2)

    one = make()
    whole = [one.batch(step) for step in range(12)]
    assert one.unreadable.causes == causes
    assert one.unreadable.counts() == dict.fromkeys(causes.values(), 1) and len(one.unreadable.examples) == 3
    for step in range(12):
        items = one.items(step).tolist()
        assert items == [number_of(picture) for picture in whole[step].images.numpy()]
        assert len(set(items)) == 10 and not set(items) & set(causes)
    for start in (11, 7, 1):
        resumed = make()
        assert resumed.items(start).tolist() == one.items(start).tolist()
        assert same(resumed.batch(start), whole[start])
    epoch = [int(n) for step in range(6) for n in one.items(step)]
    assert set(epoch) == set(range(60)) - set(causes)  # every row that can be read, and five of them twice
    assert (one.images(np.array([3])) == 128).all()


def test_training_stops_above_the_stated_share_and_says_why(tmp_path, tokenizer):
    path, _ = hostile(tmp_path)
    one = PairBatches(open_pairs(path), tokenizer, 10, seed=0, image_size=SIZE, max_unreadable=0.05)
    with pytest.raises(InputError, match=r"4 of the first 60 rows cannot be used, more than max_unreadable=0.05") as e:
        for step in range(6):
            one.batch(step)
    assert all(f"1 {cause}" in str(e.value) for cause in one.unreadable.counts())
    assert str(e.value).count(f"of {path}") == 3
    for i in range(60):
        (tmp_path / f"{i}.png").unlink(missing_ok=True)
    with pytest.raises(InputError, match="a batch is not filled: none of 2[01] rows"):
        PairBatches(open_pairs(path), tokenizer, 10, seed=0, image_size=SIZE, max_unreadable=1.0).batch(0)


def test_long_texts_are_cut_where_asked(tmp_path, tokenizer):
    path, causes = hostile(tmp_path)
    one = PairBatches(
        open_pairs(path), tokenizer, 60, seed=0, image_size=SIZE, max_tokens=16, truncate_text=True, max_unreadable=0.2
    )
    batch = one.batch(0)
    row = one.items(0).tolist().index(41)
    assert batch.attention_mask[batch.text[row]].sum() == 16
    assert batch.input_ids[batch.text[row], -1] == tokenizer.sep_token_id
    assert set(one.unreadable.causes) == set(causes) - {41}


def test_pictures_may_lie_in_an_archive(tmp_path, tokenizer):
    path = corpus(tmp_path, 8)
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for i in range(8):
            archive.write(tmp_path / f"{i}.png", f"{i}.png")
            (tmp_path / f"{i}.png").unlink()
    one = PairBatches(open_pairs(path, tmp_path / "pictures.zip"), tokenizer, 8, seed=0, image_size=SIZE)
    assert [number_of(picture) for picture in one.batch(0).images.numpy()] == one.items(0).tolist()


def test_threads_read_the_same_batches_and_count_the_same_rows(tmp_path, tokenizer):
    path, causes = hostile(tmp_path)

    def make():
        return PairBatches(
            open_pairs(path), tokenizer, 10, seed=3, image_size=SIZE, max_unreadable=0.2, flip=True, jitter=0.1
        )

    alone, shared = make(), make()
    with Prefetch(shared, 0, 12, workers=4, ahead=6) as ahead:
        assert all(same(batch, alone.batch(step)) for step, batch in enumerate(ahead))
    assert shared.unreadable.causes == alone.unreadable.causes == causes
    assert shared.unreadable.tried == alone.unreadable.tried


def test_options_out_of_range_are_named(batches, tmp_path):
    for options, message in (
        ({"size": 41}, "batch_size=41 should be between 1 and the 40 rows"),
        ({"jitter": 1.0}, "jitter=1.0"),
        ({"max_unreadable": 1.5}, "max_unreadable=1.5"),
        ({"image_size": 0}, "image_size=0"),
    ):
        with pytest.raises(InputError, match=message):
            batches(**options)
    with pytest.raises(MissingFileError, match="no file matches"):
        open_pairs(tmp_path / "none-*.jsonl")
    with pytest.raises(MissingFileError, match="pictures not found"):
        open_pairs(corpus(tmp_path), tmp_path / "nowhere")
