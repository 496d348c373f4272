"""Facts about vl/data.py."""

import numpy as np
import pytest

from core.errors import InputError
from tests.vl.views_on_disk import write_views
from vl.data import CaptionedViews, ViewBatches, mirrored
from vl.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def views(tmp_path_factory) -> CaptionedViews:
    return CaptionedViews.open(write_views(tmp_path_factory.mktemp("views"), {"train": 40}), "train")


@pytest.fixture(scope="module")
def tokenizer(views):
    return train_tokenizer([*views.texts, *map(mirrored, views.texts)])


def texts_of(batch, tokenizer) -> list[str]:
    rows = tokenizer.batch_decode(batch.input_ids, skip_special_tokens=True)
    return [rows[i] for i in batch.text.tolist()]


def test_left_and_right_change_places_as_whole_words():
    assert mirrored("left of the bed, right there, a leftover") == "right of the bed, left there, a leftover"
    assert mirrored("Left, RIGHT, left") == "Right, LEFT, right"


def test_an_epoch_shows_each_view_once_and_the_next_one_in_another_order(views, tokenizer):
    batches = ViewBatches(views, tokenizer, 8, seed=0, flip=False, jitter=0.0)
    assert batches.steps_per_epoch == 5

    def shown(epoch):
        images = np.concatenate([batches.batch(5 * epoch + i).images.numpy() for i in range(5)])
        return [image.tobytes() for image in images]

    first, second = shown(0), shown(1)
    assert sorted(first) == sorted(image.tobytes() for image in views.images) == sorted(second)
    assert first != second


def test_a_batch_depends_on_seed_and_step_alone(views, tokenizer):
    one, two = (ViewBatches(views, tokenizer, 8, seed=4) for _ in range(2))
    for step in (7, 3, 12):
        a, b = one.batch(step), two.batch(step)
        assert (a.images == b.images).all() and (a.gain == b.gain).all() and (a.text == b.text).all()
    other = ViewBatches(views, tokenizer, 8, seed=5).batch(3)
    assert not (other.images == one.batch(3).images).all()


def test_a_batch_can_leave_its_images_out_and_names_its_views(views, tokenizer):
    batches = ViewBatches(views, tokenizer, 8, seed=4, jitter=0.1)
    assert len(batches) == 40
    for step in (0, 6):
        whole, bare, part = (batches.batch(step, pictures=p) for p in (True, False, range(3, 5)))
        assert bare.images.shape == (8, 0, 0, 3)
        assert (part.images[3:5] == whole.images[3:5]).all() and not part.images[:3].any() and not part.images[5:].any()
        for other in (bare, part):
            assert (other.text == whole.text).all() and (other.input_ids == whole.input_ids).all()
            assert (other.gain == whole.gain).all() and (other.positive == whole.positive).all()
        stored = batches.images(batches.items(step))
        for image, seen in zip(stored, whole.images.numpy()):
            assert (seen == image).all() or (seen == image[:, ::-1]).all()


def test_every_caption_is_true_for_its_possibly_mirrored_image(views, tokenizer):
    batches = ViewBatches(views, tokenizer, 8, seed=1, jitter=0.0)
    sides_seen = set()
    for step in range(5):
        batch = batches.batch(step)
        for image, text in zip(batch.images.numpy(), texts_of(batch, tokenizer)):
            rows, columns = np.nonzero((image != 120).any(-1))
            middle = columns.mean() / 32
            for side, (low, high) in {"left": (0, 0.34), "middle": (0.32, 0.67), "right": (0.66, 1)}.items():
                if side in text:
                    assert low <= middle <= high, text
                    sides_seen.add(side)
    assert sides_seen == {"left", "middle", "right"}


def test_positive_marks_every_view_a_caption_holds_for(views, tokenizer):
    batch = ViewBatches(views, tokenizer, 20, seed=2, object_share=1.0, flip=False).batch(0)
    texts = texts_of(batch, tokenizer)
    rows = {image.tobytes(): v for v, image in enumerate(views.images)}
    for i, image in enumerate(batch.images.numpy()):
        view = rows[image.tobytes()]
        own = {views.texts[t] for t in (*views.full[view], *views.objects[view])}
        assert batch.positive[i].tolist() == [text in own for text in texts]
    assert batch.positive.sum() > 20


def test_captions_mix_kinds_in_the_asked_share(views, tokenizer):
    for share, marks in ((0.0, {True}), (1.0, {False}), (0.5, {True, False})):
        batch = ViewBatches(views, tokenizer, 40, seed=3, object_share=share).batch(0)
        assert {"row" in text for text in texts_of(batch, tokenizer)} == marks


def test_jitter_stays_within_its_bound(views, tokenizer):
    gain = ViewBatches(views, tokenizer, 40, seed=3, jitter=0.1).batch(0).gain
    assert gain.min() >= 0.9 * 0.975 and gain.max() <= 1.1 * 1.025 and gain.std() > 0


def test_distinct_views_have_distinct_captions_and_spread_over_homes(views):
    chosen, captions = views.distinct(10, seed=0)
    assert len(set(chosen.tolist())) == len(set(captions)) == 10
    assert len({views.scene_id[v] for v in chosen}) == 10
    again, _ = views.distinct(10, seed=0)
    assert (again == chosen).all()
    with pytest.raises(InputError, match="views with distinct captions among 40, 41 asked for"):
        views.distinct(41, seed=0)
    assert len(views.distinct(41, seed=0, at_most=True)[0]) <= 40


def test_broken_folders_and_rows_are_named(tmp_path, views, tokenizer):
    with pytest.raises(InputError, match="no views of split 'train'"):
        CaptionedViews.open(tmp_path, "train")
    folder = write_views(tmp_path / "v", {"train": 4})
    images = folder / "train" / "images.npy"
    whole = images.read_bytes()
    images.write_bytes(whole[:3000])
    with pytest.raises(InputError, match="cut short"):
        CaptionedViews.open(folder, "train")
    images.write_bytes(whole)
    (folder / "train" / "captions.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(InputError, match="caption table"):
        CaptionedViews.open(folder, "train")
    one = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="row 0 .*kinds are full, object"):
        CaptionedViews.from_rows(one, [0], ["a"], ["whole"], ["h"])
    with pytest.raises(InputError, match="view 0 has no caption of kind full"):
        CaptionedViews.from_rows(one, [0], ["a"], ["object"], ["h"])
    with pytest.raises(InputError, match="batch_size=41 is larger than the 40"):
        ViewBatches(views, tokenizer, 41, seed=0)
    with pytest.raises(InputError, match="raise max_tokens"):
        ViewBatches(views, tokenizer, 4, seed=0, max_tokens=4)
