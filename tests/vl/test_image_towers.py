"""Facts about vl/image_towers.py."""

import pytest
import torch
import transformers

from core.errors import InputError
from vl.image_towers import EncoderTower, ImageTower, ImageTowerConfig, build_image_tower

VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "patch_size": 8,
}
DINO = {name: value for name, value in VIT.items() if name != "intermediate_size"}
CNN = {"hidden_sizes": [8, 16], "depths": [1, 1]}
OPTIONS = {
    "vit": VIT,
    "deit": VIT,
    "clip_vision_model": VIT,
    "siglip_vision_model": VIT,
    "dinov2": DINO,
    "swin": {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "patch_size": 4},
    "resnet": CNN | {"embedding_size": 8, "layer_type": "basic"},
    "convnext": CNN | {"num_stages": 2, "patch_size": 4},
}
CLASS_TOKENS = {"vit": 1, "deit": 2, "clip_vision_model": 1, "dinov2": 1}
PATCHWISE = ("vit", "deit", "clip_vision_model", "siglip_vision_model", "dinov2")


def tower(model_type: str, image_size: int = 32, **settings) -> ImageTower:
    options = {} if model_type == "conv" or "pretrained" in settings else {"options": OPTIONS.get(model_type, {})}
    torch.manual_seed(0)
    return build_image_tower(ImageTowerConfig(model_type, image_size=image_size, **(options | settings))).eval()


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("model_type", ["conv", *OPTIONS])
def test_any_encoder_gives_a_state_per_patch_or_cell_after_its_class_tokens(model_type, pictures):
    one = tower(model_type)
    encoded = one(one.pixels(pictures))
    classes = CLASS_TOKENS.get(model_type, 0)
    assert (one.grid, one.class_tokens) == ((4, 4), classes)
    assert encoded.states.shape == (3, 16 + classes, one.width) and encoded.mask is None and encoded.pooled is None
    assert one.as_map(encoded.states).shape == (3, one.width, 4, 4)
    torch.testing.assert_close(one.as_map(encoded.states).mean((2, 3)), one.mean_states(encoded.states))


@pytest.mark.parametrize("model_type", ["conv", "vit", "resnet"])
def test_the_map_has_row_0_at_the_top(model_type, pictures):
    one = tower(model_type, image_width=64, image_size=32)
    pictures = torch.full((1, 32, 64, 3), 128, dtype=torch.uint8)
    lower = pictures.clone()
    lower[:, 24:, :8] = 255
    if model_type == "vit":  # patches before attention mixes them
        patches = [one.encoder.embeddings(one.pixels(x)) for x in (pictures, lower)]
        change = one.as_map(patches[1] - patches[0]).abs().sum(1)[0]
    else:
        change = one.as_map(one(one.pixels(lower)).states - one(one.pixels(pictures)).states).abs().sum(1)[0]
    assert change.shape == (4, 8)
    assert divmod(int(change.argmax()), 8) == (3, 0)


def test_a_picture_wider_than_high_is_read_patch_by_patch():
    one = tower("vit", 50, image_width=200, options=VIT | {"patch_size": 10})
    pixels = one.pixels(torch.zeros(2, 70, 100, 3, dtype=torch.uint8))
    assert pixels.shape == (2, 3, 50, 200) and one.grid == (5, 20)
    assert one(pixels).states.shape == (2, 101, 16)
    with pytest.raises(InputError, match="dinov2 learns positions of a square"):
        tower("dinov2", 32, image_width=64)


@pytest.mark.parametrize("model_type", PATCHWISE)
def test_patch_dropout_leaves_patches_out_and_no_class_token(model_type, pictures):
    one = tower(model_type)
    pixels = one.pixels(pictures)
    seen = []
    one.encoder.embeddings.register_forward_hook(lambda _, __, output: seen.append(output))
    one(pixels)
    draws = [one(pixels, drop=0.75, generator=torch.Generator().manual_seed(5)).states for _ in range(2)]
    assert torch.equal(*draws) and draws[0].shape[1] == one.class_tokens + 4
    whole, dropped = seen[0], seen[1]
    assert torch.equal(dropped[:, : one.class_tokens], whole[:, : one.class_tokens])
    patches, all_patches = dropped[:, one.class_tokens :], whole[:, one.class_tokens :]
    kept = (patches[:, :, None] == all_patches[:, None]).all(-1)  # (B, K, N)
    positions = kept.int().argmax(-1)
    assert (kept.sum(-1) == 1).all() and (positions.diff(dim=1) > 0).all()
    assert len({tuple(row) for row in positions.tolist()}) > 1  # each image its own patches
    assert one(pixels).states.shape[1] == one.class_tokens + 16  # the next call sees all again


@pytest.mark.parametrize("model_type", ["conv", "swin", "resnet"])
def test_a_tower_that_reads_a_whole_grid_refuses_patch_dropout(model_type, pictures):
    one = tower(model_type)
    with pytest.raises(InputError, match="patch dropout needs"):
        one(one.pixels(pictures), drop=0.5)


def test_lower_layers_come_first_and_after_the_final_norm(pictures):
    for model_type, norm in (("vit", "layernorm"), ("siglip_vision_model", "post_layernorm")):
        one = tower(model_type)
        pixels = one.pixels(pictures)
        found = one(pixels, 2).layers
        output = one.encoder(pixel_values=pixels, output_hidden_states=True)
        torch.testing.assert_close(found[0], getattr(one.encoder, norm)(output.hidden_states[1]))
        torch.testing.assert_close(found[1], output.last_hidden_state)
    one = tower("clip_vision_model", pool="pooler")
    encoded = one(one.pixels(pictures), 2)
    output = one.encoder(pixel_values=one.pixels(pictures), output_hidden_states=True)
    torch.testing.assert_close(encoded.layers[0], one.encoder.post_layernorm(output.hidden_states[1]))
    torch.testing.assert_close(encoded.states, one.encoder.post_layernorm(output.last_hidden_state))
    torch.testing.assert_close(encoded.pooled, output.pooler_output)
    torch.testing.assert_close(encoded.pooled, encoded.states[:, 0])


def test_pooling_follows_its_rule_or_is_refused(pictures):
    one = tower("deit", pool="cls")
    encoded = one(one.pixels(pictures))
    assert torch.equal(encoded.pooled, encoded.states[:, 0])
    one = tower("resnet", pool="pooler")
    encoded = one(one.pixels(pictures))
    torch.testing.assert_close(encoded.pooled, encoded.states.mean(1))
    with pytest.raises(InputError, match="siglip_vision_model has no class token"):
        tower("siglip_vision_model", pool="cls")


@pytest.mark.parametrize("model_type", OPTIONS)
def test_every_parameter_of_a_mean_pooled_tower_learns(model_type, pictures):
    one = tower(model_type).train()
    one.mean_states(one(one.pixels(pictures)).states).square().sum().backward()
    assert [name for name, parameter in one.named_parameters() if parameter.grad is None] == []


def test_pixels_are_normalised_as_the_encoder_was_trained(pictures):
    shape = transformers.ViTConfig(**VIT, image_size=32)
    settings = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.1, 0.2, 0.3], "resample": 3}
    one = EncoderTower(ImageTowerConfig("vit", image_size=32), transformers.ViTModel(shape), settings)
    expected = (pictures.float() / 255 - torch.tensor([0.4, 0.5, 0.6])) / torch.tensor([0.1, 0.2, 0.3])
    torch.testing.assert_close(one.pixels(pictures), expected.permute(0, 3, 1, 2), atol=1e-5, rtol=1e-5)
    brighter = one.pixels(pictures, torch.full((3, 3, 1, 1), 1.5))
    clipped = (pictures.float() * 1.5).clamp(max=255) / 255
    expected = (clipped - torch.tensor([0.4, 0.5, 0.6])) / torch.tensor([0.1, 0.2, 0.3])
    torch.testing.assert_close(brighter, expected.permute(0, 3, 1, 2), atol=1e-4, rtol=1e-4)
    assert one.filter == "bicubic"


@pytest.mark.parametrize("model_type", ["vit", "clip_vision_model", "dinov2"])
def test_a_pretrained_tower_at_another_size_interpolates_its_positions(model_type, tmp_path):
    made = tower(model_type)
    made.encoder.save_pretrained(tmp_path)
    own = tower(model_type, 0, pretrained=str(tmp_path))
    assert own.config.size == (32, 32)
    larger = tower(model_type, 48, image_width=64, pretrained=str(tmp_path))
    assert larger.grid == (6, 8)
    pixels = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(own(pixels).states, made(pixels).states)


def test_weights_stored_in_half_precision_are_trained_in_single(tmp_path, pictures):
    made = tower("vit")
    made.encoder.half().save_pretrained(tmp_path)
    one = tower("vit", pretrained=str(tmp_path))
    assert {parameter.dtype for parameter in one.parameters()} == {torch.float32}
    assert one(one.pixels(pictures)).states.dtype == torch.float32


def test_a_folder_without_the_weights_of_the_pooled_vector_is_refused(tmp_path):
    tower("vit").encoder.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="lacks weights: pooler.dense.bias"):
        tower("vit", pretrained=str(tmp_path), pool="pooler")


def test_a_frozen_tower_does_not_learn_and_stays_in_eval_mode():
    for model_type in ("conv", "resnet", "vit"):
        frozen = tower(model_type, freeze=True).train()
        assert not any(part.training for part in frozen.modules())
        assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_adapters_alone_learn_and_a_tower_without_matrices_takes_none():
    pytest.importorskip("peft")
    for model_type in ("vit", "siglip_vision_model"):
        adapted = tower(model_type, lora=2, pool="pooler")
        learning = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
        assert learning and all("lora_" in name for name in learning)
    with pytest.raises(InputError, match="lora=2: resnet has no linear layers"):
        tower("resnet", lora=2)


def test_impossible_image_towers_stop_with_the_reason():
    with pytest.raises(InputError, match="multiple of 8"):
        ImageTowerConfig(image_size=60)
    with pytest.raises(InputError, match="multiple of 8"):
        ImageTowerConfig(image_size=64, image_width=60)
    with pytest.raises(InputError, match="GroupNorm"):
        ImageTowerConfig(width=20)
    with pytest.raises(InputError, match="it pools by mean"):
        ImageTowerConfig(pool="cls")
    with pytest.raises(InputError, match="freeze=true with lora=4"):
        ImageTowerConfig("vit", freeze=True, lora=4)
    with pytest.raises(InputError, match="36 x 36 does not divide into patches of 8 x 8"):
        tower("vit", 36)
    with pytest.raises(InputError, match="hidden_size=16 does not split over num_attention_heads=3"):
        tower("vit", options=VIT | {"num_attention_heads": 3})
    with pytest.raises(InputError, match="model_type='vti' is unknown"):
        tower("vti", options={})
    with pytest.raises(InputError, match="bert does not read images of 32 x 32"):
        tower("bert", options={"hidden_size": 16, "num_attention_heads": 2})
    with pytest.raises(InputError, match="give image_size"):
        tower("vit", options=VIT | {"image_size": 32})
    with pytest.raises(InputError, match="shape a random start"):
        ImageTowerConfig("vit", pretrained="folder", options=VIT)
