"""Facts about vl/answering.py, vl/answer_batches.py and vl/picture_cache.py."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from core.errors import InputError
from tests.vl.conftest import COLORS
from tests.vl.fusing import fusing_model
from vl.answer_batches import AnswerBatches, ask, collate
from vl.answering import answer_loss, answer_scores, check_head, predict, targets, with_answers
from vl.fusion import FusionConfig
from vl.one_tower import OneTowerConfig
from vl.picture_cache import GREY, PictureCache
from vl.pictures import Pictures
from vl.retrieval import match_scores, read_all, see_all
from vl.tasks import TASKS, Example


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    for name, color in COLORS.items():
        Image.new("RGB", (32, 32), color).save(path / f"{name}.png")
    halves = np.zeros((20, 40, 3), dtype=np.uint8)
    halves[:, :20], halves[:, 20:] = COLORS["red"], COLORS["blue"]
    Image.fromarray(halves).save(path / "halves.png")
    (path / "broken.png").write_bytes((path / "red.png").read_bytes()[:40])
    return path


@pytest.fixture
def cache(folder):
    return PictureCache(Pictures(folder), 32, 32)


def example(name, picture, text="a red box", label="true", **rest):
    return Example(name, (picture,) if isinstance(picture, str) else picture, text, label, **rest)


def test_a_batch_holds_each_picture_and_each_text_once(cache, tiny_model):
    asks = [ask(example("1", "red.png")), ask(example("2", "red.png", "a blue box")), ask(example("3", "blue.png"))]
    batch = collate(asks, cache, tiny_model.tokens)
    assert len(batch.images) == len(batch.input_ids) == 2
    assert batch.picture[:, 0].tolist() == [0, 0, 1] and batch.text.tolist() == [0, 1, 0]
    blind = collate(
        [ask(example(str(n), f"{c}.png"), blind=True) for n, c in enumerate(COLORS)], cache, tiny_model.tokens
    )
    assert blind.images.shape == (1, 32, 32, 3) and bool((blind.images == GREY).all())


def test_a_batch_depends_on_seed_and_step_alone_and_an_epoch_holds_everything_once(folder, tiny_model):
    examples = [example(str(n), f"{list(COLORS)[n % 4]}.png") for n in range(12)]

    def batches(seed):
        cache = PictureCache(Pictures(folder), 32, 32)
        return AnswerBatches(examples, cache, tiny_model.tokens, 4, seed=seed, jitter=0.2)

    first, again, other = batches(1), batches(1), batches(2)
    seen = [e.id for step in range(3) for e in first.batch(step)[0]]
    assert sorted(seen) == sorted(e.id for e in examples)
    chosen, batch = again.batch(2)  # asked for out of order
    assert [e.id for e in chosen] == seen[8:] and torch.equal(batch.gain, first.batch(2)[1].gain)
    assert [e.id for e in other.batch(0)[0]] != seen[:4]


def test_unreadable_pictures_are_counted_left_out_of_training_and_stop_it_above_the_share(folder, tiny_model):
    examples = [example(str(n), f"{list(COLORS)[n % 4]}.png") for n in range(7)] + [example("7", "broken.png")]

    def batches(share):
        cache = PictureCache(Pictures(folder), 32, 32)
        return AnswerBatches(examples, cache, tiny_model.tokens, 8, seed=0, max_unreadable=share)

    tolerant = batches(0.5)
    chosen, batch = tolerant.batch(0)
    assert sorted(e.id for e in chosen) == [str(n) for n in range(7)] and len(batch.question) == 7
    assert list(tolerant.cache.unreadable) == ["broken.png"] and sum(tolerant.cache.causes().values()) == 1
    with pytest.raises(InputError, match="1 of 5 pictures cannot be read"):
        batches(0.1).batch(0)


def test_the_cache_keeps_what_fits_and_reads_the_rest_each_time(folder, monkeypatch):
    cache = PictureCache(Pictures(folder), 32, 32, gigabytes=2 * 32 * 32 * 3 / 1e9)
    reads = []
    real = cache.pictures.read
    monkeypatch.setattr(cache.pictures, "read", lambda name, least=None: (reads.append(name), real(name, least))[1])
    for name in ("red.png", "blue.png", "green.png") * 2:
        assert cache.get((name, None))[5, 5].tolist() == list(COLORS[name[:-4]])
    assert reads == ["red.png", "blue.png", "green.png", "green.png"]


def test_a_crop_is_what_lies_inside_its_box_and_a_box_outside_is_named(cache):
    assert (cache.get(("halves.png", (20.0, 0.0, 40.0, 20.0))) == COLORS["blue"]).all()
    assert (cache.get(("halves.png", (-5.0, -5.0, 19.5, 90.0))) == COLORS["red"]).all()
    with pytest.raises(InputError, match="lies outside halves.png"):
        cache.get(("halves.png", (40.0, 0.0, 50.0, 20.0)))


def test_boxes_are_scored_as_crops_and_empty_slots_have_no_share(cache, tiny_config):
    model = with_answers(fusing_model(tiny_config), ["this one"], 1, seed=0).eval()
    left, right = [0.0, 0.0, 20.0, 20.0], [20.0, 0.0, 40.0, 20.0]
    two = example("1", "halves.png", "the red box", "0", boxes=np.array([left, right]))
    three = example("2", "halves.png", "a blue box", "1", boxes=np.array([right, left, right]))
    scores = answer_scores(model, collate([ask(two), ask(three)], cache, model.tokens))
    assert scores.shape == (2, 3) and scores[0, 2] == -math.inf
    for row, (one, boxes) in enumerate([(two, (left, right)), (three, (right, left, right))]):
        for slot, box in enumerate(boxes):
            crop = torch.from_numpy(cache.get(("halves.png", tuple(box))))[None]
            image = model.image_states(model.pixels(crop))
            alone = model.answer_logits(model.fuse(image, model.text_states(*model.tokens([one.text]))))
            assert torch.allclose(scores[row, slot], alone[0, 0], atol=1e-5)
    target = targets(TASKS["refcoco"], ["this one"], [two, three])
    loss = answer_loss(scores, target)
    by_hand = -(scores[0, :2].log_softmax(0)[0] + scores[1].log_softmax(0)[1]) / 2
    assert torch.allclose(loss, by_hand)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    answers = predict(model, TASKS["refcoco"], [two, three], cache)
    assert answers.said == [str(int(row.argmax())) for row in scores]
    assert answers.probability[0] == pytest.approx(scores[0, :2].softmax(0).max().item(), abs=1e-5)


def test_two_pictures_are_read_side_by_side_in_their_order(cache, tiny_config):
    model = with_answers(fusing_model(tiny_config), ["false", "true"], 2, seed=0).eval()
    pairs = [example("1", ("red.png", "blue.png")), example("2", ("blue.png", "red.png"))]
    scores = answer_scores(model, collate([ask(pair) for pair in pairs], cache, model.tokens))
    assert not torch.allclose(scores[0], scores[1])
    red = torch.from_numpy(cache.get(("red.png", None)))
    blue = torch.from_numpy(cache.get(("blue.png", None)))
    said = model.answer(torch.stack([torch.stack([red, blue]), torch.stack([blue, red])]), ["a red box"] * 2)
    assert [answer.text for answer in said] == predict(model, TASKS["nlvr2"], pairs, cache).said


def test_soft_answers_are_summed_over_answers_and_averaged_over_questions():
    soft = [
        example("1", "red.png", label="red", targets={"red": 1.0, "rare": 0.3}),
        example("2", "blue.png", label="x"),
    ]
    target = targets(TASKS["vqa"], ["red", "blue"], soft)
    assert target.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    scores = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    # log 2 for each of three logits of 0, log(1 + 3) for the wrong answer at log 3
    assert answer_loss(scores, target).item() == pytest.approx((3 * math.log(2) + math.log(4)) / 2)


def test_labels_out_of_range_and_kept_back_are_named():
    nlvr = TASKS["nlvr1"]
    with pytest.raises(InputError, match="label 'perhaps', which is out of range"):
        targets(nlvr, ["false", "true"], [example("1", "red.png", label="perhaps")])
    with pytest.raises(InputError, match="has no label"):
        targets(nlvr, ["false", "true"], [example("1", "red.png", label=None)])
    with pytest.raises(InputError, match=r"means box '2' of 2; expected 0\.\.1"):
        targets(TASKS["refcoco"], ["this one"], [example("1", "red.png", label="2", boxes=np.zeros((2, 4)))])


def test_a_new_head_leaves_the_rest_as_it_was_and_freezing_is_what_is_asked(tiny_config):
    start = fusing_model(tiny_config)
    model = with_answers(start, ["false", "true"], 1, seed=5, freeze_image=True)
    own, new = start.state_dict(), model.state_dict()
    assert all(torch.equal(own[name], new[name]) for name in own)
    frozen = {name.split(".")[0] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"image_tower"}
    again = with_answers(model, ["false", "true"], 1, seed=9)
    assert all(torch.equal(again.state_dict()[name], new[name]) for name in new)  # the same answers keep their head
    assert all(p.requires_grad for p in again.parameters())


def test_towers_without_fusion_cannot_answer_and_a_missing_head_names_the_command(tiny_model, tiny_config):
    with pytest.raises(InputError, match="never see each other"):
        with_answers(tiny_model, ["false", "true"], 1, seed=0)
    with pytest.raises(InputError, match="no answer head.*finetune-vl task=nlvr1"):
        check_head(fusing_model(tiny_config), TASKS["nlvr1"], "runs/m")
    vqa = with_answers(fusing_model(tiny_config), ["red", "blue"], 1, seed=0)
    check_head(vqa, TASKS["vqa"], "runs/m")
    with pytest.raises(InputError, match=r"answers 2 labels \(red, blue\)"):
        check_head(vqa, TASKS["nlvr1"], "runs/m")


def test_one_tower_answers_and_matches_in_batches_as_it_does_alone(cache, tiny_config):
    stack = OneTowerConfig(layers=2, width=16, heads=2, patch=8)
    start = fusing_model(tiny_config, kind="one-tower", fusion=FusionConfig(), one=stack)
    model = with_answers(start, ["false", "true"], 1, seed=0, freeze_image=True, freeze_text=True).eval()
    assert not any(p.requires_grad for p in model.one.parameters()) and model.answer_head.out.weight.requires_grad
    with pytest.raises(InputError, match="go together"):
        with_answers(start, ["false", "true"], 1, seed=0, freeze_image=True)
    examples = [example("1", "red.png"), example("2", "blue.png", "there is a blue box on the left")]
    answers = predict(model, TASKS["nlvr1"], examples, cache)
    images = torch.from_numpy(cache.stack([("red.png", None), ("blue.png", None)]))
    alone = [model.answer(images[row : row + 1], [examples[row].text])[0] for row in range(2)]
    assert answers.said == [answer.text for answer in alone]
    assert answers.probability == pytest.approx([answer.probability for answer in alone], abs=1e-5)

    texts = [one.text for one in examples]
    grid = np.indices((2, 2)).reshape(2, -1)
    odds = match_scores(model, read_all(model, texts), see_all(model, images.numpy()), *grid)
    pairs = model.match(images[grid[1]], [texts[row] for row in grid[0]])
    assert 1 / (1 + np.exp(-odds)) == pytest.approx(pairs.numpy(), abs=1e-5)
