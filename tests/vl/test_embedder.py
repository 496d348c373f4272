"""Facts about vl/embedder.py, with CLIP and SigLIP models of random weights made here."""

import json

import pytest
import torch
from transformers import CLIPConfig, CLIPModel, Siglip2Config, Siglip2Model, SiglipConfig, SiglipModel

from core.errors import InputError, MissingFileError
from vl.embedder import DualEncoder, _load_dual_encoder, image_dtype, load_embedder
from vl.rewards import StepBatch, VLMReward
from vl.tokenizer import save_tokenizer, train_tokenizer

TEXT = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = {**TEXT, "image_size": 32, "patch_size": 8}
TEXTS = ["a red chair", "a blue lamp on the left"]


def save_dual_encoder(kind: str, folder, statistics: dict | None) -> torch.nn.Module:
    tokenizer = train_tokenizer(TEXTS, max_length=12)
    text = {**TEXT, "vocab_size": len(tokenizer), "max_position_embeddings": 12}
    text |= {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    torch.manual_seed(0)
    if kind == "clip":
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=10))
    else:
        model = SiglipModel(SiglipConfig(text_config={**text, "projection_size": 16}, vision_config=VISION))
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    if statistics:
        (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
    return model.eval()


@pytest.mark.parametrize(("kind", "dim"), [("clip", 10), ("siglip", 16)])
def test_clip_and_siglip_directories_are_embedders(kind, dim, tmp_path, frames):
    save_dual_encoder(kind, tmp_path, None)
    embedder = load_embedder(tmp_path)
    images, texts = embedder.encode_images(frames), embedder.encode_texts(TEXTS)
    assert embedder.dim == dim and images.shape == (5, dim) and texts.shape == (2, dim)
    torch.testing.assert_close(images.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(embedder.encode_texts(TEXTS[:1]), texts[:1])  # padding does not leak
    reward = VLMReward(embedder, [[TEXTS[0]]], [TEXTS[1]], alpha=0.5)
    assert reward.score(StepBatch(frame=frames), torch.zeros(5, dtype=torch.long)).shape == (5,)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_scores_of_a_frame_agree_whatever_the_batch(kind, precision, tmp_path):
    save_dual_encoder(kind, tmp_path, None)
    embedder = load_embedder(tmp_path, precision=precision)
    pictures = torch.randint(0, 256, (35, 24, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    reward = VLMReward(embedder, [[TEXTS[0]], [TEXTS[1]]], ["an empty room"], alpha=0.5)
    goals = torch.arange(35) % 2
    together = reward.score(StepBatch(frame=pictures), goals)
    for size in (1, 32):
        parts = zip(pictures.split(size), goals.split(size))
        split = torch.cat([reward.score(StepBatch(frame=frame), goal) for frame, goal in parts])
        assert (split - together).abs().max() < (1e-5 if precision == "float32" else 1e-3)
    assert together.std() > 3e-3  # not the same number for every frame


def test_half_precision_is_the_image_tower_s_alone(tmp_path, frames):
    save_dual_encoder("clip", tmp_path, None)
    full, half = load_embedder(tmp_path), load_embedder(tmp_path, precision="bfloat16")
    assert torch.equal(full.encode_texts(TEXTS), half.encode_texts(TEXTS))
    rough, exact = half.encode_images(frames), full.encode_images(frames)
    assert rough.dtype == torch.float32 and not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, atol=0.02, rtol=0)


def test_auto_is_bfloat16_on_a_gpu_that_has_it_and_float32_on_a_processor(monkeypatch):
    assert image_dtype("auto", "cpu") == torch.float32 and image_dtype("float16", "cpu") == torch.float16
    for able, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda able=able: able)
        assert image_dtype("auto", "cuda:1") == dtype
    with pytest.raises(InputError, match="precision='bfloat' is unknown; did you mean 'bfloat16'"):
        image_dtype("bfloat", "cpu")


def test_pixels_are_normalised_with_the_checkpoint_s_own_statistics(tmp_path, frames):
    model = save_dual_encoder("clip", tmp_path, {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]})
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    pixels = ((frames / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        features = model.get_image_features(pixel_values=pixels).pooler_output
    expected = torch.nn.functional.normalize(features, dim=-1)
    torch.testing.assert_close(load_embedder(tmp_path).encode_images(frames), expected, atol=1e-5, rtol=1e-4)


def test_frames_of_any_shape_are_squashed_to_the_square_of_the_model(tmp_path):
    save_dual_encoder("clip", tmp_path, None)
    embedder = load_embedder(tmp_path)
    stripes = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    stripes[:, :, 16:] = 200
    wide = stripes.repeat_interleave(3, dim=2)  # 32 x 96 of the same content
    similarity = (embedder.encode_images(stripes) * embedder.encode_images(wide)).sum()
    assert similarity > 0.999


def test_the_project_s_own_folder_gives_the_two_tower_model(tiny_model, tmp_path, frames):
    tiny_model.save_pretrained(tmp_path)
    assert torch.equal(load_embedder(tmp_path).encode_images(frames), tiny_model.encode_images(frames))


def test_folders_that_hold_no_dual_encoder_are_named(tmp_path):
    with pytest.raises(InputError, match="model folder not found"):
        load_embedder(tmp_path / "nothing")
    with pytest.raises(InputError, match="has no config.json"):
        load_embedder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(InputError, match="describes 'gpt2'"):
        load_embedder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(InputError, match="does not load as a CLIP or SigLIP"):
        load_embedder(tmp_path)


def test_a_siglip_that_reads_patches_of_any_aspect_is_refused(tmp_path):
    text = {**TEXT, "vocab_size": 12, "max_position_embeddings": 12, "projection_size": 16}
    vision = {**TEXT, "patch_size": 8, "num_patches": 16}
    Siglip2Model(Siglip2Config(text_config=text, vision_config=vision)).save_pretrained(tmp_path)
    save_tokenizer(train_tokenizer(TEXTS, max_length=12), tmp_path)
    with pytest.raises(InputError, match="describes 'siglip2'"):
        load_embedder(tmp_path)
    with pytest.raises(InputError, match="is a siglip2 .* use the variant of one resolution"):  # as from the hub
        _load_dual_encoder(str(tmp_path), local=True, device="cpu", dtype=torch.float32)


@pytest.mark.parametrize("name", ["towers/modl", "runs/modl", "a/b/c", "./modl", "~/modl", "modl/", "/modl"])
def test_a_mistyped_path_is_never_taken_for_a_hub_id(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "towers").mkdir()
    monkeypatch.setattr("vl.embedder._load_dual_encoder", lambda *_, **__: pytest.fail("asked the network"))
    with pytest.raises(MissingFileError, match="model folder not found"):
        load_embedder(name)


def test_a_name_that_is_no_path_is_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr("vl.embedder._load_dual_encoder", lambda name, **_: asked.append(name))
    for name in ("openai/clip-vit-base-patch32", "clip-small"):
        load_embedder(name)
    assert asked == ["openai/clip-vit-base-patch32", "clip-small"]


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_texts_the_encoder_cannot_read_are_named(kind, tmp_path):
    save_dual_encoder(kind, tmp_path, None)
    embedder = load_embedder(tmp_path)
    assert isinstance(embedder, DualEncoder)
    with pytest.raises(InputError, match=r"has 22 tokens, longer than the model's 12 tokens: 'red red"):
        embedder.encode_texts(["a chair", "red " * 20, "unbelievablylongbutjustoneword" * 3])
    with pytest.raises(InputError, match="empty text"):
        embedder.encode_texts([""])
