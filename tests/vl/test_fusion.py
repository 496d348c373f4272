"""Fusion: what meets whom, padding, bridges, causal reading, and what is refused."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from core.errors import InputError
from vl.encoded import Encoded
from vl.fusion import Fusion, FusionConfig, check_bridges, layer_flops

BRIDGES = ["none", "add", "interpolate"]


def tiny(bridge="none", layers=2, **changes) -> Fusion:
    torch.manual_seed(0)
    fusion = Fusion(FusionConfig(layers=layers, width=16, heads=2, bridge=bridge, **changes), 12, 10)
    for parameter in fusion.parameters():  # zero biases would hide mistakes
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return fusion.eval()


def pair(rows=3, tokens=5, patches=4, layers=2, seed=1) -> tuple[Encoded, Encoded]:
    """Image and text with the last tokens of rows 1 and 2 padding."""
    draw = torch.Generator().manual_seed(seed)
    image = Encoded([torch.randn(rows, patches, 12, generator=draw) for _ in range(layers)])
    mask = torch.ones(rows, tokens, dtype=torch.bool)
    mask[1, 3:] = mask[2, 4:] = False
    return image, Encoded([torch.randn(rows, tokens, 10, generator=draw) for _ in range(layers)], mask)


def equal(one, other):
    """Text of rows with the mask aside: states of images and what was pooled."""
    torch.testing.assert_close(one.image, other.image, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one.pooled, other.pooled, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bridge", BRIDGES)
def test_padding_changes_nothing(bridge):
    fusion, (image, text) = tiny(bridge), pair()
    changed = Encoded([torch.where(text.mask[..., None], layer, 7.0) for layer in text.layers], text.mask)
    equal(fusion(image, text), fusion(image, changed))


@pytest.mark.parametrize("bridge", BRIDGES)
@pytest.mark.parametrize("causal", [False, True])
def test_a_batch_equals_its_rows_alone_without_their_padding(bridge, causal):
    fusion, (image, text) = tiny(bridge), pair()
    together = fusion(image, text, causal=causal)
    for row, length in enumerate((5, 3, 4)):
        index = torch.tensor([row])
        short = Encoded([layer[index, :length] for layer in text.layers])
        alone = fusion(image.rows(index), short, causal=causal)
        torch.testing.assert_close(together.text[row, :length], alone.text[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(together.image[row], alone.image[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(together.pooled[row], alone.pooled[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bridge", BRIDGES)
def test_causal_text_sees_the_image_and_its_past_and_the_image_sees_no_text(bridge):
    fusion, (image, text) = tiny(bridge), pair()
    before = fusion(image, text, causal=True)
    later = [layer.clone() for layer in text.layers]
    for layer in later:
        layer[:, 2] += 1.0
    after = fusion(image, Encoded(later, text.mask), causal=True)
    assert torch.equal(before.text[:, :2], after.text[:, :2])
    assert not torch.allclose(before.text[:, 2], after.text[:, 2])
    assert torch.equal(before.image, after.image)
    other = fusion(pair(seed=2)[0], text, causal=True)
    assert not torch.allclose(before.text[:, 0], other.text[:, 0])


def test_each_side_sees_the_other():
    fusion, (image, text) = tiny(), pair()
    swapped = torch.tensor([1, 0, 2])
    before, after = fusion(image, text), fusion(image.rows(swapped), text)
    assert not torch.allclose(before.text[0], after.text[0])
    assert not torch.allclose(before.image[0], after.image[swapped][0])
    assert torch.equal(before.text[2], after.text[2])


def test_bridges_read_the_deepest_layers_and_no_bridge_reads_the_last_alone():
    image, text = pair(layers=4)
    for bridge, read in (("none", {3}), ("add", {2, 3}), ("interpolate", {2, 3})):
        fusion = tiny(bridge)
        plain = fusion(image, text)
        for depth in range(4):
            layers = [layer + (1.0 if i == depth else 0.0) * torch.randn(12) for i, layer in enumerate(image.layers)]
            changed = not torch.allclose(fusion(Encoded(layers), text).pooled, plain.pooled, atol=1e-5)
            assert changed == (depth in read), (bridge, depth)


def test_a_tower_that_hands_on_too_few_layers_is_refused_with_the_reason():
    image, text = pair(layers=1)
    with pytest.raises(InputError, match="reads the last 2 layers of each tower, but the image tower hands on 1"):
        tiny("add")(image, text)
    with pytest.raises(InputError, match="the text tower has 3: take fusion layers=3 or bridge=none"):
        check_bridges(FusionConfig(layers=4, bridge="add"), 6, 3)
    check_bridges(FusionConfig(layers=4), 1, 1)


def test_rows_that_do_not_pair_up_are_refused():
    image, text = pair()
    with pytest.raises(InputError, match="2 images with 3 texts"):
        tiny()(image.rows(torch.tensor([0, 1])), text)


def test_an_image_without_class_token_is_pooled_by_its_mean():
    torch.manual_seed(0)
    fusion = Fusion(FusionConfig(layers=1, width=16, heads=2), 12, 10, image_first=False).eval()
    image, text = pair()
    fused = fusion(image, text)
    torch.testing.assert_close(fused.pooled[:, 16:], fusion.image_pooler(fused.image.mean(1)).tanh())
    assert fused.pooled.shape[1] == fusion.pooled_width


def test_a_frozen_fusion_has_no_gradient_and_no_dropout_also_in_training():
    fusion, (image, text) = tiny(freeze=True).train(), pair()
    assert not any(parameter.requires_grad for parameter in fusion.parameters())
    equal(fusion(image, text), fusion(image, text))
    free = tiny().train()
    assert not torch.equal(free(image, text).pooled, free(image, text).pooled)


def test_flops_of_a_layer_are_those_counted():
    config = FusionConfig(layers=1, width=16, heads=2)
    one, two = (Fusion(FusionConfig(layers=n, width=16, heads=2), 12, 10) for n in (1, 2))
    image, text = pair()
    counts = []
    for fusion in (one, two):
        # the counter does not know the fused kernel of processors
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            fusion(image, text)
        counts.append(counter.get_total_flops())
    assert counts[1] - counts[0] == 3 * layer_flops(config, tokens=5, patches=4)


def test_impossible_shapes_are_refused():
    with pytest.raises(InputError, match="width=250 does not split over heads=4"):
        FusionConfig(layers=2, width=250)
    with pytest.raises(InputError, match="fusion bridge='sum' is unknown"):
        FusionConfig(bridge="sum")
    with pytest.raises(InputError, match="at least 1"):
        Fusion(FusionConfig(), 12, 10)
