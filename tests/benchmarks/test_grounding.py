"""The reference of benchmarks/grounding.py computes what our model computes, and products are counted right."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import flops, grounding, grounding_steps, referrals
from benchmarks.gps_reference import ReferenceGPS, take_weights
from scene.grounding import GroundingModel
from scene.losses import masked_word_loss, referral_loss
from scene.sampling import Drawing

TINY, SIZES = grounding_steps.tiny()


@pytest.fixture(scope="module")
def models() -> tuple[GroundingModel, ReferenceGPS]:
    torch.manual_seed(0)
    ours, theirs = GroundingModel(TINY), ReferenceGPS(SIZES)
    with torch.no_grad():
        for name, value in ours.named_parameters():  # weights that every part of the result depends on
            value.copy_(torch.randn_like(value) * 0.2 + (1.0 if "norm" in name.lower() else 0.0))
        for name, buffer in ours.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn_like(buffer) * 0.2)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    take_weights(theirs, ours)
    return ours.eval(), theirs.eval()


@pytest.fixture(scope="module")
def given() -> referrals.Referrals:
    found = referrals.rooms(3, SIZES.points, SIZES.vocab, seed=1)
    drawn = referrals.typical(found, Drawing(2, 3, window=1), 2, seed=0)
    return referrals.referrals(found, drawn, SIZES.vocab, SIZES.dim, seed=3)


def losses(model: GroundingModel, given: referrals.Referrals) -> tuple[torch.Tensor, torch.Tensor]:
    batch = given.batch
    fused = model.fuse(model.encode_scene(batch.scenes), given.tokens, batch.words, batch.scene)
    return referral_loss(fused.scores, batch.target), masked_word_loss(model.word_logits(fused), given.hidden)


def test_losses_are_those_of_the_reference_with_the_same_weights(models, given):
    ours, theirs = models
    expected = theirs(referrals.as_reference(given, SIZES, cached=True))
    referral, word = losses(ours, given)
    assert referral.item() == pytest.approx(expected["referral"].item(), abs=1e-5)
    assert word.item() == pytest.approx(expected["word"].item(), abs=1e-5)


def test_gradients_are_those_of_the_reference(models, given):
    ours, theirs = models
    for model in models:
        model.zero_grad()
    sum(theirs(referrals.as_reference(given, SIZES, cached=True)).values()).backward()
    sum(losses(ours, given)).backward()
    pairs = [
        (ours.fusion[0].attention.qkv, theirs.joint[0].attention.qkv),
        (ours.spatial[0].feed[0], theirs.spatial[0].first),
        (ours.text.encoder.encoder.layer[0].intermediate.dense, theirs.text.encoder.layer[0].intermediate.dense),
        (ours.place[0], theirs.location[0]),
    ]
    for own, other in pairs:
        torch.testing.assert_close(own.weight.grad, other.weight.grad, rtol=1e-3, atol=1e-6)


def test_object_features_are_those_of_the_reference(models, given):
    ours, theirs = models
    batch = referrals.as_reference(given, SIZES, cached=False)
    assert batch.points is not None
    for cloud, scene in zip(given.points, (0, 3)):  # three sentences per scene
        with torch.no_grad():
            expected = theirs.encoder(batch.points[scene, : len(cloud)])
        torch.testing.assert_close(ours.object_encoder.encode(cloud), expected, rtol=1e-3, atol=1e-3)


def counted(run) -> int:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def test_products_of_our_step_are_counted_to_one_percent(models, given):
    model = models[0]
    work = given.work().padded()
    spare = sum(work.objects[s] for s in work.scene)  # the head of several targets computes and learns nothing
    head = 2 * spare * (24 * 12 + 12)
    found = counted(lambda: sum(losses(model, given)).backward())
    decoded = replace(work, decoded=len(work.words) * work.words[0])
    assert found - head == pytest.approx(flops.total(flops.training_step(TINY, decoded)), rel=0.01)


def test_products_of_the_reference_are_counted_to_one_percent(models, given):
    model, work = models[1], given.work().copied().padded(SIZES.max_tokens, SIZES.slots)
    work = replace(work, decoded=len(work.words) * SIZES.max_tokens)
    batch = referrals.as_reference(given, SIZES, cached=True)
    found = counted(lambda: sum(model(batch).values()).backward())
    assert found == pytest.approx(flops.total(flops.training_step(TINY, work)), rel=0.01)


def test_products_of_the_object_encoder_are_counted_to_one_percent(models, given):
    model, points = models[1].encoder, given.points[0][:1]
    found = counted(lambda: model(points))
    assert found == pytest.approx(flops.encoder_forward(points.shape[1], SIZES.dim), rel=0.01)


def test_a_batch_of_the_reference_holds_each_sentence_with_its_own_scene(given):
    batch = referrals.as_reference(given, SIZES, cached=True)
    assert batch.locations.shape == (6, SIZES.slots, 6) and batch.words.shape == (6, SIZES.max_tokens)
    assert torch.equal(batch.locations[0], batch.locations[2]) and not torch.equal(
        batch.locations[0], batch.locations[3]
    )
    assert batch.objects.sum(1).tolist() == [len(given.points[i // 3]) for i in range(6)]


def test_work_without_padding_is_less_than_with_it():
    work = flops.Work(words=(3, 5), objects=(2,), scene=(0, 0), decoded=1)
    assert work.padded().words == (5, 5) and work.copied().objects == (2, 2)
    config = TINY
    assert flops.total(flops.training_step(config, work)) < flops.total(flops.training_step(config, work.padded()))


def test_the_benchmark_measures_every_measure_with_equal_losses():
    config, sizes = grounding_steps.tiny()
    outcome = grounding.run(grounding_steps.TINY, torch.device("cpu"), config, sizes)
    page = "\n".join(outcome.lines)
    used = grounding_steps.all_measures(torch.device("cpu"))
    assert all((f"| {text} |" in page) == getattr(used, name) for name, text in grounding_steps.NAMES.items())
    assert [target.name for target in outcome.targets] == [
        "training_step_over_reference_wall", "training_step_over_reference_processor", "loss_difference",
    ]  # fmt: skip
    assert outcome.targets[-1].fine
    assert grounding.samples_per_second(grounding_steps.TINY, torch.device("cpu"), config, sizes) > 0
