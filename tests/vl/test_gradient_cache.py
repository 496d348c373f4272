"""Facts about vl/gradient_cache.py."""

import pytest
import torch

from core.errors import InputError
from tests.vl.stand_in import SENTENCES, StandIn, make_batch, real_models
from vl.gradient_cache import contrastive_step
from vl.losses import LOSSES
from vl.objectives import Objectives, contrast, objective_terms

CAPTIONS = [SENTENCES[i % 5] for i in range(13)]


def gradients(model: StandIn) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(4)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("chunk", [1, 4, 13, 100])
def test_gradients_are_those_of_the_whole_batch(loss, chunk):
    model = StandIn.create()
    batch, objectives = make_batch(model, CAPTIONS), Objectives(itc=0.7, itc_loss=loss)
    whole = objective_terms(model, batch, objectives, seeded())["itc"]
    (0.7 * whole).backward()
    expected = gradients(model)
    term = contrastive_step(model, batch, objectives, seeded(), chunk=chunk)["itc"]
    torch.testing.assert_close(term, whole.detach())
    torch.testing.assert_close(gradients(model), expected, atol=1e-5, rtol=0)
    assert {"theta", "logit_bias"} & set(expected) == ({"theta"} if loss == "softmax" else {"theta", "logit_bias"})


@pytest.mark.parametrize("kind", ["transformer", "one-tower"])
def test_with_dropout_and_dropped_patches_they_are_those_of_the_same_draws(kind):
    model, objectives = real_models(dropout=0.3)[kind], Objectives()
    batch = make_batch(model, CAPTIONS)
    torch.manual_seed(9)
    generator = seeded()
    chunks = [slice(0, 5), slice(5, 10), slice(10, 13)]
    images = [model.see(model.pixels(batch.images[c]), drop=0.5, generator=generator).embedding for c in chunks]
    texts = model.read(batch.input_ids, batch.attention_mask).embedding[batch.text]
    contrast(model, torch.cat(images), texts, batch.positive, objectives).backward()
    expected, drawn = gradients(model), (torch.rand(3).tolist(), torch.rand(3, generator=generator).tolist())

    torch.manual_seed(9)
    generator = seeded()
    contrastive_step(model, batch, objectives, generator, chunk=5, drop=0.5)
    found = gradients(model)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert drawn == (torch.rand(3).tolist(), torch.rand(3, generator=generator).tolist())  # goes on as if drawn once
    contrastive_step(model, batch, objectives, generator, chunk=5, drop=0.5)
    assert (gradients(model)["text_head.weight"] - found["text_head.weight"]).abs().max() > 1e-3  # other draws matter


def test_under_autocast_the_weights_still_learn():
    model, objectives = StandIn.create(), Objectives()
    batch = make_batch(model, CAPTIONS)
    contrastive_step(model, batch, objectives, seeded(), chunk=4)
    expected = gradients(model)
    with torch.autocast("cpu", torch.bfloat16):
        contrastive_step(model, batch, objectives, seeded(), chunk=4)
    for name, gradient in gradients(model).items():
        assert (gradient - expected[name]).norm() < 0.1 * expected[name].norm(), name


def test_a_frozen_tower_passes():
    model = StandIn.create()
    for part in (model.patches, model.mix["image"], model.heads["image"]):
        part.requires_grad_(False)
    contrastive_step(model, make_batch(model, CAPTIONS), Objectives(), seeded(), chunk=2)
    found = gradients(model)
    assert found["heads.text.weight"].abs().sum() > 0 and "heads.image.weight" not in found


class Held:
    """A tensor kept for the backward pass, and how many numbers are kept at once."""

    now = most = 0

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor, self.size = tensor, tensor.numel() if tensor.ndim == 3 else 0  # activations, not the loss's tables
        Held.now += self.size
        Held.most = max(Held.most, Held.now)

    def __del__(self) -> None:
        Held.now -= self.size


def test_twice_the_chunks_hold_no_more_activations():
    model, most = StandIn.create(), []
    for count in (8, 16):
        batch = make_batch(model, CAPTIONS[:1] * count)
        Held.now = Held.most = 0
        with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
            contrastive_step(model, batch, Objectives(), seeded(), chunk=2)
        most.append(Held.most)
    assert most[0] == most[1] > 0


def test_other_objectives_and_empty_chunks_are_refused():
    model = StandIn.create()
    batch = make_batch(model, CAPTIONS)
    with pytest.raises(InputError, match="itc alone, itm, mlm"):
        contrastive_step(model, batch, Objectives(itm=1.0, mlm=1.0), seeded(), chunk=2)
    with pytest.raises(InputError, match="gradient_cache=0"):
        contrastive_step(model, batch, Objectives(), seeded(), chunk=0)
