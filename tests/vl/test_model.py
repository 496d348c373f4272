"""Facts about vl/model.py and the files it is made of."""

import dataclasses
import json

import pytest
import torch
import transformers
from torch.nn import functional as F

from core.errors import InputError
from vl.encoders import load_encoder
from vl.fusion import FusionConfig
from vl.image_towers import ImageTowerConfig
from vl.losses import LOSSES
from vl.model import VLConfig, VLModel
from vl.one_tower import OneTowerConfig
from vl.text_towers import TextTowerConfig

OPTIONS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VIT = OPTIONS | {"patch_size": 8}
SMALL = {
    "dim": 12,
    "max_tokens": 16,
    "image": ImageTowerConfig("vit", options=VIT, image_size=32),
    "text": TextTowerConfig(options=OPTIONS),
}
FUSION = FusionConfig(layers=2, width=24, heads=2)
ONE = OneTowerConfig(layers=2, width=16, heads=2, patch=8)


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


def test_impossible_models_stop_with_the_reason(tiny_model):
    def build(**settings) -> None:
        VLModel.create(VLConfig(**settings), tiny_model.tokenizer, seed=0)

    with pytest.raises(InputError, match="does not split over num_attention_heads=3"):
        build(text=TextTowerConfig(options={"hidden_size": 16, "num_attention_heads": 3}))
    with pytest.raises(InputError, match=r"model_type='bort' is unknown to transformers; did you mean 'bert'\?$"):
        build(text=TextTowerConfig(model_type="bort"))
    with pytest.raises(InputError, match="kind='three-tower' is unknown"):
        build(kind="three-tower")
    with pytest.raises(InputError, match="2 answers need a fusion"):
        build(answers=["yes", "no"])
    with pytest.raises(InputError, match="should differ"):
        build(answers=["yes", "yes"], fusion=FUSION)
    with pytest.raises(InputError, match="the text tower is 96 wide"):
        build(text_head="none", dim=64)
    with pytest.raises(InputError, match="its own layers fuse"):
        build(kind="one-tower", fusion=FUSION)
    with pytest.raises(InputError, match="the image tower has 1"):
        build(fusion=dataclasses.replace(FUSION, bridge="add"))
    with pytest.raises(InputError, match="split into patches of 16"):
        build(kind="one-tower", image=ImageTowerConfig(image_size=40))
    with pytest.raises(InputError, match="logit_scale=200"):
        VLConfig(logit_scale=200.0)


def test_another_transformers_encoder_takes_the_place_of_bert(tiny_config, tiny_model, tmp_path):
    options = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text = TextTowerConfig(model_type="clip_text_model", options=options, pool="cls")
    model = VLModel.create(dataclasses.replace(tiny_config, text=text), tiny_model.tokenizer, seed=0).eval()
    model.save_pretrained(tmp_path)
    again = VLModel.from_pretrained(tmp_path)
    assert torch.equal(again.encode_texts(["a red box"]), model.encode_texts(["a red box"]))


# ---- fusion, heads, one tower


def make(tiny_model, **settings) -> VLModel:
    config = VLConfig(**(SMALL | settings))
    return VLModel.create(config, tiny_model.tokenizer, seed=0).eval()


def test_the_default_model_has_no_heads_that_its_config_does_not_ask_for(tiny_model):
    parts = {name.split(".")[0] for name in VLModel.create(VLConfig(), tiny_model.tokenizer, seed=0).state_dict()}
    assert parts == {"theta", "logit_bias", "image_tower", "text_tower", "image_head", "text_head"}
    fused = {name.split(".")[0] for name in make(tiny_model, fusion=FUSION).state_dict()}
    assert fused - parts == {"fusion", "match_head", "word_head"}
    with pytest.raises(InputError, match="no fusion"):
        tiny_model.match(torch.zeros(1, 32, 32, 3, dtype=torch.uint8), ["a red box"])


def test_one_encoding_serves_embedding_matching_and_words(tiny_model, frames):
    for settings in ({"fusion": dataclasses.replace(FUSION, bridge="add")}, {"kind": "one-tower", "one": ONE}):
        model = make(tiny_model, **settings)
        texts = ["a red box", "a white box on the left", "a green box", "an empty room", "a blue box"]
        ids, mask = model.tokens(texts)
        image, text = model.see(model.pixels(frames)), model.read(ids, mask)
        torch.testing.assert_close(image.embedding, model.encode_images(frames))
        torch.testing.assert_close(text.embedding, model.encode_texts(texts))
        fused = model.fuse(image, text)
        probability = model.match_logits(fused).softmax(-1)[:, 1]
        torch.testing.assert_close(probability, model.match(frames, texts, batch_size=2))
        assert model.word_logits(fused.text[:, 1]).shape == (5, len(model.tokenizer))
        swapped = model.fuse(image.rows(torch.tensor([1, 0])), text.rows(torch.tensor([1, 0])))
        torch.testing.assert_close(model.match_logits(swapped), model.match_logits(fused)[[1, 0]])
        assert not torch.allclose(model.match_logits(fused)[0], model.match_logits(fused)[1])


@pytest.mark.parametrize("kind", ["two-tower", "one-tower"])
def test_captioning_shows_no_word_a_later_one_and_every_word_the_image(tiny_model, frames, kind):
    model = make(tiny_model, kind=kind, one=ONE, **({"fusion": FUSION} if kind == "two-tower" else {}))
    ids, mask = model.tokens(["a white box on the left"])
    changed = ids.clone()
    changed[0, 4:] = 7
    image = model.image_states(model.pixels(frames[:1]))
    other = model.image_states(model.pixels(frames[1:2]))
    before, after = (model.fuse(image, model.text_states(x, mask, causal=True), causal=True) for x in (ids, changed))
    torch.testing.assert_close(before.text[:, :4], after.text[:, :4])
    torch.testing.assert_close(before.image, after.image)
    assert not torch.allclose(before.text[:, 4:], after.text[:, 4:], atol=1e-4)
    elsewhere = model.fuse(other, model.text_states(ids, mask, causal=True), causal=True)
    assert (elsewhere.text - before.text).abs().amax(-1).min() > 1e-5


def test_padding_changes_no_match(tiny_model, frames):
    for settings in ({"fusion": FUSION}, {"kind": "one-tower", "one": ONE}):
        model = make(tiny_model, **settings)
        alone = model.match(frames[:1], ["a red box"])
        together = model.match(frames[:2], ["a red box", "a white box on the left and an empty room"])
        torch.testing.assert_close(together[:1], alone)


def test_answers_are_those_of_the_config_about_one_image_or_two(tiny_model, frames):
    model = make(tiny_model, fusion=FUSION, answers=["yes", "no", "maybe"])
    found = model.answer(frames, ["a red box"] * 5)
    logits = model.answer_logits(
        model.fuse(model.image_states(model.pixels(frames)), model.text_states(*model.tokens(["a red box"] * 5)))
    ).softmax(-1)
    assert [answer.text for answer in found] == [model.config.answers[row] for row in logits.argmax(-1)]
    assert [answer.probability for answer in found] == pytest.approx(logits.max(-1).values.tolist(), abs=1e-5)
    pair = make(tiny_model, fusion=FUSION, answers=["true", "false"], answer_images=2)
    two = torch.stack([frames[:2], frames[2:4]], 1)
    (answer,) = pair.answer(two[:1], ["a red box"])
    assert answer.text in ("true", "false") and 0.5 <= answer.probability <= 1
    assert pair.answer(two[:1].flip(1), ["a red box"])[0].probability != pytest.approx(answer.probability, abs=1e-6)
    with pytest.raises(InputError, match="1 images per question, this model answers about 2"):
        pair.answer(frames, ["a red box"] * 5)
    with pytest.raises(InputError, match="5 images with 1 texts"):
        model.answer(frames, ["a red box"])
    with pytest.raises(InputError, match="no answer head"):
        make(tiny_model, fusion=FUSION).answer(frames, ["a red box"] * 5)


def test_an_image_pooled_by_mean_is_the_mean_of_its_map_and_others_have_none(tiny_model, frames):
    model = make(tiny_model)
    torch.testing.assert_close(model.encode_image_map(frames).mean((1, 2)), model.encode_images(frames))
    pooled = make(tiny_model, image=dataclasses.replace(SMALL["image"], pool="cls"))
    with pytest.raises(InputError, match="needs a two-tower model with image.pool=mean"):
        pooled.encode_image_map(frames)


@pytest.mark.parametrize("pool,head", [("mean", "mlp"), ("mean", "linear"), ("cls", "mlp")])
def test_what_a_cache_keeps_gives_the_same_embedding(tiny_model, frames, pool, head):
    model = make(tiny_model, image=dataclasses.replace(SMALL["image"], pool=pool), image_head=head)
    image = model.only_pooled(model.image_states(model.pixels(frames)), "image")
    assert bool(image.layers) == (pool == "mean" and head == "mlp")
    torch.testing.assert_close(model.with_embedding(image, "image").embedding, model.encode_images(frames))
    text = model.only_pooled(model.text_states(*model.tokens(["a red box"])), "text")
    assert not text.layers
    torch.testing.assert_close(model.with_embedding(text, "text").embedding, model.encode_texts(["a red box"]))


def test_the_pixel_head_puts_each_cell_s_pixels_where_the_cell_is(tiny_model):
    model = make(tiny_model, mim_head=True, text_mlm_head=True)
    with torch.no_grad():
        model.pixel_head.out.weight.zero_()
        model.pixel_head.out.weight[64 + 9, 0] = 1.0  # channel 1, row 1, column 1 of a cell of 8 x 8
        model.pixel_head.out.bias.zero_()
    states = torch.zeros(1, 17, 16)
    states[0, 1 + 6, 0] = 2.0  # cell in row 1, column 2 of the 4 x 4, after the class token
    image = model.pixels_of(states)
    assert image.shape == (1, 3, 32, 32) and image[0, 1, 9, 17] == 2.0 and image.abs().sum() == 2.0
    assert model.word_logits_text(torch.zeros(3, 16)).shape == (3, len(model.tokenizer))


# ---- weights


def test_masked_image_modelling_needs_pixels_that_divide_into_cells(tiny_model):
    options = {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "layer_type": "basic"}
    image = ImageTowerConfig("resnet", options=options, image_size=33)  # cells of 8 pixels and a bit
    with pytest.raises(InputError, match="33 x 33 pixels do not divide into the image tower's 5 x 5 cells"):
        make(tiny_model, image=image, mim_head=True, fusion=FusionConfig())


@pytest.mark.parametrize("kind", ["conv", "bridges", "one-tower"])
def test_every_kind_of_model_comes_back_from_its_folder(tiny_model, frames, tmp_path, kind):
    settings = {
        "conv": {"image": ImageTowerConfig(image_size=32, image_width=64, stem_width=8, width=16), "fusion": FUSION},
        "bridges": {"fusion": dataclasses.replace(FUSION, bridge="interpolate"), "answers": ["yes", "no"]},
        "one-tower": {"kind": "one-tower", "one": ONE},
    }[kind]
    model = make(tiny_model, **settings)
    model.save_pretrained(tmp_path)
    again = VLModel.from_pretrained(tmp_path, expected=model.config)
    assert torch.equal(again.encode_images(frames), model.encode_images(frames))
    assert torch.equal(again.match(frames[:1], ["a red box"]), model.match(frames[:1], ["a red box"]))
    with pytest.raises(InputError, match=r"has dim=12, this configuration dim=13"):
        VLModel.from_pretrained(tmp_path, expected=dataclasses.replace(model.config, dim=13))
    other = dataclasses.replace(model.config, text=TextTowerConfig(options={**OPTIONS, "hidden_size": 32}))
    with pytest.raises(InputError, match="has text.options.hidden_size=16, this configuration .*=32"):
        VLModel.from_pretrained(tmp_path, expected=other)


def test_a_folder_from_before_fusion_is_refused_with_the_reason(tmp_path):
    (tmp_path / "config.json").write_text('{"format": "sightline-two-tower/1"}')
    with pytest.raises(InputError, match="from before models had fusion"):
        VLModel.from_pretrained(tmp_path)


def test_towers_travel_as_transformers_folders_with_adapters_merged(tiny_model, frames, tmp_path):
    pytest.importorskip("peft")
    image, text = (dataclasses.replace(SMALL[name], lora=2) for name in ("image", "text"))
    model = make(tiny_model, image=image, text=text)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05
    model.export_towers(tmp_path)
    taken = make(
        tiny_model,
        image=ImageTowerConfig(pretrained=str(tmp_path / "image"), image_size=0),
        text=TextTowerConfig(pretrained=str(tmp_path / "text")),
    )
    assert taken.config.image.size == (32, 32)
    for ours, theirs in ((model.image_states, taken.image_states),):
        torch.testing.assert_close(
            ours(model.pixels(frames)).states, theirs(taken.pixels(frames)).states, atol=1e-5, rtol=1e-5
        )
    tokens = model.tokens(["a red box"])
    torch.testing.assert_close(
        model.text_states(*tokens).states, taken.text_states(*tokens).states, atol=1e-5, rtol=1e-5
    )
    fresh = taken.untrained(seed=1)
    assert not torch.allclose(fresh.encode_images(frames), taken.encode_images(frames), atol=1e-3)


@pytest.mark.parametrize("init", ["text", "vision"])
def test_a_one_tower_starts_from_the_layers_of_an_encoder(tiny_model, tmp_path, init):
    make(tiny_model).export_towers(tmp_path)
    if init == "text":
        where, shape = tmp_path / "text", {"norm": "post", "activation": "relu"}
    else:
        where, shape = tmp_path / "image", {"norm": "pre", "activation": "gelu"}
    one = dataclasses.replace(ONE, init=init, pretrained=str(where), mlp=2.0, **shape)
    started, other = (make(tiny_model, kind="one-tower", one=one), make(tiny_model, kind="one-tower", one=ONE))
    weights = load_encoder(str(where), "encoder").state_dict()
    found = [name for name, value in weights.items() if value.shape == (32, 16)]  # hidden layers of the networks
    own = [value for value in started.one.blocks.state_dict().values() if value.shape == (32, 16)]
    assert len(found) == 2 and all(torch.equal(weights[name], value) for name, value in zip(found, own))
    started.save_pretrained(tmp_path / "model")
    for file in where.iterdir():
        file.unlink()
    again = VLModel.from_pretrained(tmp_path / "model")
    assert torch.equal(again.one.blocks[0].state_dict()[next(iter(own_names(again)))], own_first(started))
    assert other.one.config.init == "random"


def own_names(model: VLModel) -> list[str]:
    return [name for name, value in model.one.blocks[0].state_dict().items() if value.shape == (32, 16)]


def own_first(model: VLModel) -> torch.Tensor:
    return model.one.blocks[0].state_dict()[own_names(model)[0]]


# ---- training


def test_groups_give_towers_fusion_and_heads_their_rates_and_decay_matrices_alone(tiny_model):
    model = make(tiny_model, fusion=FUSION, text=dataclasses.replace(SMALL["text"], freeze=True))
    groups = model.parameter_groups(1e-3, 5.0, 10.0, 0.1)
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    rate = {name_of[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert set(rate) == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith("text_tower") for name in rate)
    assert rate["theta"] == (1e-3, 0.0)
    assert rate["image_tower.encoder.embeddings.position_embeddings"] == (1e-3, 0.0)
    assert rate["image_tower.encoder.embeddings.patch_embeddings.projection.weight"] == (1e-3, 0.1)
    assert rate["fusion.text_in.weight"] == (pytest.approx(5e-3), 0.1)
    assert rate["fusion.types.weight"] == (pytest.approx(5e-3), 0.0)
    assert rate["match_head.weight"] == (pytest.approx(1e-2), 0.1)
    assert rate["word_head.norm.weight"] == (pytest.approx(1e-2), 0.0)
    assert model.trainable_parameters() == sum(p.numel() for group in groups for p in group["params"])


def test_a_logit_scale_that_ran_into_its_clamp_can_come_down_again(tiny_model):
    model = make(tiny_model)
    with torch.no_grad():
        model.theta.fill_(9.0)
    model.clamp_theta()
    assert model.logit_scale.item() == pytest.approx(100.0, rel=1e-6)
    model.logit_scale.backward()
    assert model.theta.grad.item() == pytest.approx(100.0, rel=1e-6)  # d exp(theta) / d theta


def test_freezing_holds_through_train(tiny_model):
    frozen = {
        "image": dataclasses.replace(SMALL["image"], freeze=True),
        "text": dataclasses.replace(SMALL["text"], freeze=True),
        "fusion": dataclasses.replace(FUSION, freeze=True),
    }
    model = make(tiny_model, **frozen).train()
    assert model.training and model.match_head.training
    for part in (model.image_tower, model.text_tower, model.fusion):
        assert not any(inner.training for inner in part.modules())
        assert not any(parameter.requires_grad for parameter in part.parameters())


def test_the_key_of_a_cache_changes_with_weights_and_settings_and_learning_towers_have_none(tiny_model):
    frozen = dataclasses.replace(SMALL["image"], freeze=True)
    model, same = make(tiny_model, image=frozen), make(tiny_model, image=frozen)
    key = model.cache_key("image")
    assert key == same.cache_key("image")
    bridges = make(tiny_model, image=frozen, fusion=dataclasses.replace(FUSION, bridge="add"))
    assert bridges.cache_key("image") != key
    same.image_tower.encoder.layernorm.bias.data[0] += 1
    assert same.cache_key("image") != key
    with pytest.raises(InputError, match="the text tower learns"):
        model.cache_key("text")


def test_the_key_of_a_cache_sees_the_encoder_s_own_settings_in_a_folder_of_the_same_name(tiny_model, tmp_path):
    make(tiny_model).export_towers(tmp_path)
    image = ImageTowerConfig(pretrained=str(tmp_path / "image"), image_size=32, freeze=True)
    key = make(tiny_model, image=image).cache_key("image")
    assert key == make(tiny_model, image=image).cache_key("image")
    file = tmp_path / "image" / "config.json"
    settings = json.loads(file.read_text())
    heads = settings["num_attention_heads"]
    file.write_text(json.dumps({**settings, "num_attention_heads": 2 * heads}))  # the same weights, cut otherwise
    assert make(tiny_model, image=image).cache_key("image") != key


# ---- parity with transformers


def clip(tokenizer) -> transformers.CLIPModel:
    text = OPTIONS | {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": 3}
    torch.manual_seed(0)
    return transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=VIT | {"image_size": 32}, projection_dim=12)
    ).eval()


def siglip(tokenizer) -> transformers.SiglipModel:
    text = OPTIONS | {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "projection_size": 16}
    text |= {"pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    return transformers.SiglipModel(
        transformers.SiglipConfig(text_config=text, vision_config=VIT | {"image_size": 32})
    ).eval()


@pytest.mark.parametrize("build,loss", [(clip, "softmax"), (siglip, "sigmoid")])
def test_clip_and_siglip_have_the_outputs_and_losses_of_transformers(tiny_model, frames, tmp_path, build, loss):
    original = build(tiny_model.tokenizer)
    original.logit_scale.data.fill_(5.0 if build is siglip else 3.0)  # SigLIP's scale is above CLIP's clamp
    model = VLModel.from_transformers(original, tiny_model.tokenizer)
    texts = ["a red box", "a white box on the left", "a green box", "an empty room", "a blue box on the right"]
    ids, mask = model.tokens(texts)
    pixels = model.pixels(frames)
    theirs = {"input_ids": ids, "attention_mask": mask}
    if build is siglip:
        theirs = {"input_ids": F.pad(ids, (0, 16 - ids.shape[1]), value=model.tokenizer.pad_token_id)}
    output = original(pixel_values=pixels, return_loss=True, **theirs)
    image, text = model.image_features(pixels), model.text_features(ids, mask)
    torch.testing.assert_close(image, output.image_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(text, output.text_embeds, atol=1e-5, rtol=1e-5)
    found = LOSSES[loss](image, text, model.logit_scale, model.logit_bias)
    torch.testing.assert_close(found, output.loss, atol=1e-5, rtol=1e-5)
    model.save_pretrained(tmp_path)
    again = VLModel.from_pretrained(tmp_path)
    assert torch.equal(again.encode_images(frames), model.encode_images(frames))
    assert torch.equal(again.encode_texts(texts), model.encode_texts(texts))
    with pytest.raises(InputError, match="got a VLModel"):
        VLModel.from_transformers(model, tiny_model.tokenizer)
