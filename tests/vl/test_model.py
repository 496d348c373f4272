"""Facts about vl/two_tower.py and vl/towers.py."""

import dataclasses

import pytest
import torch

from core.errors import InputError
from vl.image_towers import ImageTowerConfig
from vl.model import VLConfig, VLModel
from vl.text_towers import TextTowerConfig, masked_mean


def test_embeddings_are_unit_vectors_and_the_map_averages_to_the_image_embedding(tiny_model, frames):
    images, cells = tiny_model.encode_images(frames), tiny_model.encode_image_map(frames)
    texts = tiny_model.encode_texts(["a red box", "a white box on the left"])
    assert (images.shape, cells.shape, texts.shape) == ((5, 12), (5, 4, 4, 12), (2, 12))
    torch.testing.assert_close(images.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(cells.mean((1, 2)), images, atol=1e-5, rtol=1e-5)


def test_an_image_does_not_depend_on_its_batch_and_a_text_not_on_padding(tiny_model, frames):
    torch.testing.assert_close(tiny_model.encode_images(frames, batch_size=2), tiny_model.encode_images(frames))
    short, long = "a red box", "a white box on the left and an empty room"
    torch.testing.assert_close(tiny_model.encode_texts([short, long])[:1], tiny_model.encode_texts([short]))


def test_a_change_in_one_corner_stays_out_of_the_far_map_cells_of_the_stem(tiny_model, frames):
    changed = frames.clone()
    changed[:, :4, :4] = 0
    difference = (
        (
            tiny_model.image_tower.patches(frames.permute(0, 3, 1, 2).float())
            - tiny_model.image_tower.patches(changed.permute(0, 3, 1, 2).float())
        )
        .abs()
        .sum(1)
    )
    assert (difference[:, 0, 0] > 0).all() and difference[:, 1:].sum() == 0 and difference[:, :, 1:].sum() == 0


def test_embeddings_carry_no_gradient_and_numpy_frames_of_another_size_are_read(tiny_model, frames):
    assert not tiny_model.encode_images(frames).requires_grad
    larger = torch.randint(0, 256, (2, 48, 80, 3), dtype=torch.uint8).numpy()
    assert tiny_model.encode_images(larger).shape == (2, 12)
    assert tiny_model.encode_images(frames[:0]).shape == (0, 12)


def test_the_seed_alone_decides_the_weights(tiny_config, tiny_model):
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    again = VLModel.create(tiny_config, tiny_model.tokenizer, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), tiny_model.state_dict().values()))


def test_saving_and_loading_gives_the_same_embeddings(tiny_model, frames, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    again = VLModel.from_pretrained(tmp_path)
    assert torch.equal(again.encode_images(frames), tiny_model.encode_images(frames))
    assert torch.equal(again.encode_texts(["a red box"]), tiny_model.encode_texts(["a red box"]))
    assert again.config == tiny_model.config and not again.training


def test_broken_model_folders_are_named(tiny_model, tiny_config, tmp_path):
    with pytest.raises(InputError, match="no model in"):
        VLModel.from_pretrained(tmp_path)
    tiny_model.save_pretrained(tmp_path / "a")
    weights = tmp_path / "a" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cut short"):
        VLModel.from_pretrained(tmp_path / "a")
    wide = dataclasses.replace(tiny_config, dim=20)
    VLModel.create(wide, tiny_model.tokenizer, seed=0).save_pretrained(tmp_path / "b")
    weights.write_bytes((tmp_path / "b" / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match=r"do not fit this model: .* is \(20,.*expected \(12,"):
        VLModel.from_pretrained(tmp_path / "a")
    weights.unlink()
    with pytest.raises(InputError, match="weights not found"):
        VLModel.from_pretrained(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text('{"format": "something"}')
    with pytest.raises(InputError, match="format 'something'"):
        VLModel.from_pretrained(tmp_path / "a")


def test_bad_images_and_texts_are_named(tiny_model, frames):
    with pytest.raises(InputError, match=r"float32 of shape .*expected uint8"):
        tiny_model.encode_images(frames.float())
    with pytest.raises(InputError, match=r"images\[None\]"):
        tiny_model.encode_images(frames[0])
    with pytest.raises(InputError, match="empty text"):
        tiny_model.encode_texts(["a red box", " "])
    with pytest.raises(InputError, match="no word of 'xyz, quux'"):
        tiny_model.encode_texts(["xyz, quux"])
    with pytest.raises(InputError, match="22 tokens, the model reads at most 16"):
        tiny_model.encode_texts(["red " * 20])
    with pytest.raises(InputError, match="pass \\[text\\]"):
        tiny_model.encode_texts("a red box")


def test_impossible_shapes_stop_before_training(tiny_model):
    with pytest.raises(InputError, match="multiple of 8"):
        ImageTowerConfig(image_size=60)
    with pytest.raises(InputError, match="GroupNorm"):
        ImageTowerConfig(width=20)
    with pytest.raises(InputError, match="does not split over num_attention_heads=3"):
        text = TextTowerConfig(options={"hidden_size": 16, "num_attention_heads": 3})
        VLModel.create(VLConfig(text=text), tiny_model.tokenizer, seed=0)
    with pytest.raises(InputError, match=r"model_type='bort' is unknown to transformers; did you mean 'bert'\?$"):
        VLModel.create(VLConfig(text=TextTowerConfig(model_type="bort")), tiny_model.tokenizer, seed=0)


def test_another_transformers_encoder_takes_the_place_of_bert(tiny_config, tiny_model, tmp_path):
    options = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text = TextTowerConfig(model_type="clip_text_model", options=options, pool="cls")
    model = VLModel.create(dataclasses.replace(tiny_config, text=text), tiny_model.tokenizer, seed=0).eval()
    model.save_pretrained(tmp_path)
    again = VLModel.from_pretrained(tmp_path)
    assert torch.equal(again.encode_texts(["a red box"]), model.encode_texts(["a red box"]))


def test_padding_does_not_enter_the_mean():
    values = torch.tensor([[[1.0], [3.0], [100.0]], [[5.0], [5.0], [5.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(values, mask).tolist() == [[2.0], [0.0]]
