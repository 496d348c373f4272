"""One tower: padding, causal reading, patches left out, and what is refused."""

import pytest
import torch

from core.errors import InputError
from vl.encoded import Encoded
from vl.one_tower import OneTower, OneTowerConfig


def tiny(**changes) -> OneTower:
    torch.manual_seed(0)
    config = OneTowerConfig(**({"layers": 2, "width": 16, "heads": 2, "patch": 8} | changes))
    tower = OneTower(config, vocab_size=30, max_tokens=6, image_height=16, image_width=24)
    for parameter in tower.parameters():  # zero biases would hide mistakes
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return tower.eval()


def inputs(tower: OneTower) -> tuple[Encoded, torch.Tensor, torch.Tensor]:
    """Three images, token ids and their mask; rows 1 and 2 end in padding."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 30, (3, 6), generator=draw)
    mask = torch.ones(3, 6, dtype=torch.int64)
    mask[1, 3:] = mask[2, 5:] = 0
    return tower.embed_image(torch.randn(3, 3, 16, 24, generator=draw)), ids, mask


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("causal", [False, True])
def test_a_batch_equals_its_rows_alone_without_their_padding(norm, causal):
    tower = tiny(norm=norm)
    image, ids, mask = inputs(tower)
    text = tower.embed_text(ids, mask)
    together, read = tower.fuse(image, text, causal=causal), tower.alone(text, causal=causal)
    for row, length in enumerate((6, 3, 5)):
        index = torch.tensor([row])
        short = tower.embed_text(ids[index, :length], mask[index, :length])
        fused, alone = tower.fuse(image.rows(index), short, causal=causal), tower.alone(short, causal=causal)
        for one, other in (
            (together.text[row, :length], fused.text[0]),
            (together.image[row], fused.image[0]),
            (together.pooled[row], fused.pooled[0]),
            (read.states[row, :length], alone.states[0]),
            (read.pooled[row], alone.pooled[0]),
        ):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_the_words_under_padding_do_not_matter():
    tower = tiny()
    image, ids, mask = inputs(tower)
    changed = torch.where(mask.bool(), ids, 7)
    one, other = (tower.fuse(image, tower.embed_text(words, mask)) for words in (ids, changed))
    torch.testing.assert_close(one.pooled, other.pooled)
    torch.testing.assert_close(one.image, other.image)


def test_causal_text_sees_the_image_and_its_past_and_the_image_is_as_without_text():
    tower = tiny()
    image, ids, mask = inputs(tower)
    later = ids.clone()
    later[:, 2] = (later[:, 2] + 1) % 30
    one, other = (tower.fuse(image, tower.embed_text(words, mask), causal=True) for words in (ids, later))
    torch.testing.assert_close(one.text[:, :2], other.text[:, :2])
    assert not torch.allclose(one.text[:, 2], other.text[:, 2])
    torch.testing.assert_close(one.image, tower.alone(image).states, rtol=1e-5, atol=1e-5)
    swapped = tower.fuse(image.rows(torch.tensor([1, 0, 2])), tower.embed_text(ids, mask), causal=True)
    assert not torch.allclose(one.text[0, 0], swapped.text[0, 0])


def test_each_modality_sees_the_other_and_pooling_reads_both_first_positions():
    tower = tiny()
    image, ids, mask = inputs(tower)
    fused = tower.fuse(image, tower.embed_text(ids, mask))
    assert not torch.allclose(fused.image, tower.alone(image).states, atol=1e-3)
    expected = [tower.text_pooler(fused.text[:, 0]).tanh(), tower.image_pooler(fused.image[:, 0]).tanh()]
    torch.testing.assert_close(fused.pooled, torch.cat(expected, dim=1))
    single = tiny(pooler="single")
    assert tower.pooled_width == 32
    assert single.fuse(image, single.embed_text(ids, mask)).pooled.shape[1] == single.pooled_width == 16


def test_narrow_embeddings_are_projected_once():
    tower = tiny(embedding=12)
    image, ids, mask = inputs(tower)
    text = tower.embed_text(ids, mask)
    words = tower.word_norm(tower.words(ids) + tower.word_position.weight)
    torch.testing.assert_close(text.states, tower.text_in(words) + tower.types.weight[0])
    assert tower.fuse(image, text).text.shape == (3, 6, 16)


def test_dropped_patches_leave_the_class_token_and_whole_patches_in_order():
    tower = tiny()
    pixels = torch.randn(2, 3, 16, 24)
    full = tower.embed_image(pixels).states
    kept, again = (
        tower.embed_image(pixels, drop=0.5, generator=torch.Generator().manual_seed(4)).states for _ in range(2)
    )
    assert kept.shape == (2, 1 + 3, 16)
    assert torch.equal(kept, again)
    for row in range(2):
        places = [int((full[row] - patch).abs().sum(1).argmin()) for patch in kept[row]]
        assert places[0] == 0
        assert places == sorted(set(places))
        torch.testing.assert_close(kept[row], full[row, places])


def test_a_frozen_tower_has_no_gradient_and_no_dropout_also_in_training():
    tower = tiny(freeze=True).train()
    image, ids, mask = inputs(tower)
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    one, other = (tower.fuse(image, tower.embed_text(ids, mask)).pooled for _ in range(2))
    assert torch.equal(one, other)
    free = tiny().train()
    assert not torch.equal(free.embed_text(ids, mask).states, free.embed_text(ids, mask).states)


def test_what_does_not_fit_is_refused_with_the_reason():
    with pytest.raises(InputError, match="16 x 20 pixels do not split into patches of 8"):
        OneTower(OneTowerConfig(patch=8), vocab_size=9, max_tokens=4, image_height=16, image_width=20)
    with pytest.raises(InputError, match="width=250 does not split over heads=4"):
        OneTowerConfig(width=250)
    with pytest.raises(InputError, match="names the encoder in pretrained"):
        OneTowerConfig(init="text")
    with pytest.raises(InputError, match="names none"):
        OneTowerConfig(pretrained="encoder")
    tower = tiny()
    with pytest.raises(InputError, match="this tower reads 16 x 24"):
        tower.embed_image(torch.zeros(1, 3, 24, 16))
    with pytest.raises(InputError, match="texts of 7 tokens"):
        tower.embed_text(torch.ones(1, 7, dtype=torch.int64), torch.ones(1, 7, dtype=torch.int64))
