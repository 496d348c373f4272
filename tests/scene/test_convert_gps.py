"""Released GPS checkpoints: files of their structure, every tensor accounted for, and the same attention as theirs."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from core.errors import InputError, MissingFileError
from scene.convert_gps import ConvertGrounderConfig, convert, read_checkpoint, run
from scene.grounder import Grounder
from scene.spatial import key_mask, pair_features
from tests.scene.toy import toy_scene
from vl.tokenizer import train_tokenizer

DIM, HEADS, HIDDEN, WORDS, POSITIONS = 48, 4, 80, 12, 40
STAGES = ((6, 64, 64, 128), (131, 128, 128, 256), (259, 256, 512, 768))


def linear(name: str, out: int, inputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from ((f"{name}.weight", (out, inputs)), (f"{name}.bias", (out,)))


def norm(name: str, width: int = DIM) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from ((f"{name}.weight", (width,)), (f"{name}.bias", (width,)))


def released(answers: int = 0, head: bool = False) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the released model at a small size, of two layers each."""
    shapes: dict[str, tuple[int, ...]] = {}
    text = "lang_encoder.model"
    shapes[f"{text}.embeddings.word_embeddings.weight"] = (WORDS, DIM)
    shapes[f"{text}.embeddings.position_embeddings.weight"] = (POSITIONS, DIM)
    shapes[f"{text}.embeddings.token_type_embeddings.weight"] = (2, DIM)
    shapes[f"{text}.embeddings.position_ids"] = (1, POSITIONS)
    shapes |= dict(norm(f"{text}.embeddings.LayerNorm"))
    shapes |= dict(linear(f"{text}.pooler.dense", DIM, DIM))
    points = "point_encoder.point_feature_extractor"
    for s, widths in enumerate(STAGES):
        for k, (before, after) in enumerate(zip(widths[:-1], widths[1:])):
            part = f"{points}.encoder.{s}.mlps.0.layer{k}"
            shapes[f"{part}.conv.weight"] = (after, before, 1, 1)
            shapes |= {f"{part}.bn.bn.{n}": (after,) for n in ("weight", "bias", "running_mean", "running_var")}
            shapes[f"{part}.bn.bn.num_batches_tracked"] = ()
    shapes |= dict(linear(f"{points}.fc", DIM, 768))
    shapes["point_encoder.text_features"] = (607, DIM)
    shapes |= dict(linear("point_encoder.sem_cls_embed_layer.0", DIM, DIM))
    shapes["point_encoder.sem_mask_embeddings.weight"] = (1, DIM)
    for place in ("point_encoder", "unified_encoder"):
        shapes |= dict(linear(f"{place}.loc_layers.0.0", DIM, 6)) | dict(norm(f"{place}.loc_layers.0.1"))
    shapes["unified_encoder.token_type_embeddings.weight"] = (2, DIM)
    for k in range(2):
        layer = f"{text}.encoder.layer.{k}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= dict(linear(f"{layer}.{name}", DIM, DIM))
        shapes |= dict(norm(f"{layer}.attention.output.LayerNorm")) | dict(norm(f"{layer}.output.LayerNorm"))
        shapes |= dict(linear(f"{layer}.intermediate.dense", 96, DIM)) | dict(linear(f"{layer}.output.dense", DIM, 96))
        spatial = f"point_encoder.spatial_encoder.{k}"
        for name in ("w_qs", "w_ks", "w_vs", "fc"):
            shapes |= dict(linear(f"{spatial}.self_attn.{name}", DIM, DIM))
        shapes |= dict(linear(f"{spatial}.self_attn.lang_cond_fc", 6 * HEADS, DIM))
        joint = f"unified_encoder.unified_encoder.{k}"
        shapes |= {f"{joint}.self_attn.in_proj_weight": (3 * DIM, DIM), f"{joint}.self_attn.in_proj_bias": (3 * DIM,)}
        shapes |= dict(linear(f"{joint}.self_attn.out_proj", DIM, DIM))
        for place in (spatial, joint):
            shapes |= dict(linear(f"{place}.linear1", HIDDEN, DIM)) | dict(linear(f"{place}.linear2", DIM, HIDDEN))
            shapes |= dict(norm(f"{place}.norm1")) | dict(norm(f"{place}.norm2"))
    for part, out in (("lm_pred_head", WORDS), ("obj_pred_head", 607)):
        shapes |= dict(linear(f"pretrain_head.{part}.transform.dense", DIM, DIM))
        shapes |= dict(norm(f"pretrain_head.{part}.transform.LayerNorm"))
        shapes |= {f"pretrain_head.{part}.decoder.weight": (out, DIM), f"pretrain_head.{part}.bias": (out,)}
    if head:
        for part, out in (("og3d_head", 1), ("txt_clf_head", 607)):
            shapes |= dict(linear(f"ground_head.{part}.0", DIM // 2, DIM)) | dict(
                norm(f"ground_head.{part}.2", DIM // 2)
            )
            shapes |= dict(linear(f"ground_head.{part}.4", out, DIM // 2))
    if answers:
        for part in ("attflat_visual", "attflat_lang"):
            shapes |= dict(linear(f"qa_head.{part}.mlp.fc.linear", DIM // 3, DIM))
            shapes |= dict(linear(f"qa_head.{part}.mlp.linear", 1, DIM // 3))
            shapes |= dict(linear(f"qa_head.{part}.linear_merge", 2 * DIM // 3, DIM))
        shapes |= dict(norm("qa_head.fusion_norm", 2 * DIM // 3))
        shapes |= dict(linear("qa_head.answer_cls.0", DIM, 2 * DIM // 3)) | dict(
            linear("qa_head.answer_cls.3", answers, DIM)
        )
    return shapes


def weights(answers: int = 0, head: bool = False) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in released(answers, head).items():
        whole = name.endswith(("num_batches_tracked", "position_ids"))
        value = torch.zeros(shape, dtype=torch.int64) if whole else 0.2 * torch.randn(shape, generator=generator)
        state[name] = value.abs() + 0.5 if name.endswith("running_var") else value
    return state


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    train_tokenizer(["the red blue cube pole of left"], WORDS).save_pretrained(str(folder))
    return folder


def config(tokenizer: Path, checkpoint: Path, **changes: str) -> ConvertGrounderConfig:
    given = {"checkpoint": str(checkpoint), "tokenizer": str(tokenizer), "out": str(checkpoint.parent / "converted")}
    return ConvertGrounderConfig(**{**given, **changes})


def test_a_converted_checkpoint_grounds_and_tells_what_it_left_out(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    torch.save({f"module.{name}": value for name, value in weights(head=True).items()}, tmp_path / "pytorch_model.bin")
    result = run(config(tokenizer, tmp_path / "pytorch_model.bin"))
    assert "point_encoder.text_features" in result["unused"] and "ground_head.txt_clf_head.4.bias" in result["unused"]
    assert {name.split(".")[0] for name in result["initial"]} == {
        "member_head", "object_projection", "object_log_scale", "scene_log_scale", "referral_log_scale",
    }  # fmt: skip
    assert "of ours keep their initial values" in capsys.readouterr().out
    grounder = Grounder.from_pretrained(result["model"])
    assert grounder.provenance is None and grounder.conformal is None
    scene = toy_scene(1)
    scores = grounder.score(grounder.objects(scene), ["the red cube", "the pole left of the blue cube"])
    assert scores.shape == (2, 6) and torch.isfinite(scores).all() and scores.std() > 0
    assert grounder.locate(scene, "the red cube").objects[0].score > 0


def test_the_layouts_of_accelerate_hold_the_same_tensors(tmp_path: Path):
    state = weights()
    names = sorted(state)
    (tmp_path / "one").mkdir(), (tmp_path / "many").mkdir()
    save_file(state, str(tmp_path / "one/model.safetensors"))
    parts = {f"model-0000{k + 1}-of-00002.safetensors": names[k::2] for k in range(2)}
    for file, inside in parts.items():
        save_file({name: state[name] for name in inside}, str(tmp_path / "many" / file))
    index = {"weight_map": {name: file for file, inside in parts.items() for name in inside}}
    (tmp_path / "many/model.safetensors.index.json").write_text(json.dumps(index))
    torch.save({"model": state}, tmp_path / "wrapped.pth")
    for place in ("one", "many", "wrapped.pth"):
        found = read_checkpoint(tmp_path / place)
        assert sorted(found) == names and all(torch.equal(found[name], state[name]) for name in names)
    (tmp_path / "none").mkdir()
    with pytest.raises(MissingFileError, match=r"model\.safetensors"):
        read_checkpoint(tmp_path / "none")


def test_the_spatial_layer_computes_what_the_released_one_does():
    state = weights()
    layer = convert(state, [0]).model.eval().spatial[0]
    rng = np.random.default_rng(0)
    x, centres = rng.normal(size=(5, DIM)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    valid = torch.ones(1, 5, dtype=torch.bool)
    pairs = pair_features(torch.from_numpy(centres)[None], valid, farthest="padded", slots=5)
    with torch.no_grad():
        ours = layer(torch.from_numpy(x)[None], key_mask(valid, torch.float32), pairs)[0].numpy()

    w = {name.split("spatial_encoder.0.")[-1]: value.numpy() for name, value in state.items()}

    def apply(name: str, value: np.ndarray) -> np.ndarray:
        return value @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def normed(name: str, value: np.ndarray) -> np.ndarray:
        centred = value - value.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    q, k, v = (apply(f"self_attn.{name}", x).reshape(5, HEADS, -1) for name in ("w_qs", "w_ks", "w_vs"))
    bias = apply("self_attn.lang_cond_fc", x).reshape(5, HEADS, 6)  # the bias first, then five weights
    mixed = np.zeros((5, HEADS, DIM // HEADS), np.float32)
    for i in range(5):
        for h in range(HEADS):
            looked = pairs[0, i].numpy() @ bias[i, h, 1:] + bias[i, h, 0]
            logits = k[:, h] @ q[i, h] / np.sqrt(DIM // HEADS) + np.log(np.maximum(1 / (1 + np.exp(-looked)), 1e-6))
            share = np.exp(logits - logits.max())
            mixed[i, h] = share @ v[:, h] / share.sum()
    y = normed("norm1", x + apply("self_attn.fc", mixed.reshape(5, DIM)))
    hidden = apply("linear1", y)
    gelu = 0.5 * hidden * (1 + torch.erf(torch.from_numpy(hidden) / 2**0.5).numpy())
    np.testing.assert_allclose(ours, normed("norm2", y + apply("linear2", gelu)), atol=2e-5)


def test_every_tensor_without_a_place_and_every_missing_one_is_named():
    state = weights()
    with pytest.raises(InputError, match=r"2 tensors .* none of GPS's: lora\.weight, point_encoder\.new"):
        convert(state | {"lora.weight": torch.zeros(2), "point_encoder.new": torch.zeros(1)}, [0])
    lacking = {
        name: value
        for name, value in state.items()
        if "spatial_encoder.1.self_attn.w_ks.bias" not in name and "unified_encoder.unified_encoder.1.norm2" not in name
    }
    with pytest.raises(
        InputError, match=r"spatial\.1\.attention\.qkv\.bias, fusion\.1\.norm_feed\.weight, fusion\.1\.nor"
    ):
        convert(lacking, [0])
    with pytest.raises(InputError, match=r"nothing for .*place\.0\.weight"):
        convert({name: value for name, value in state.items() if "loc_layers" not in name}, [0])


def test_a_question_head_needs_its_answers_and_then_answers(tokenizer: Path, tmp_path: Path):
    save_file(weights(answers=3), str(tmp_path / "model.safetensors"))
    with pytest.raises(InputError, match="answers=FILE"):
        run(config(tokenizer, tmp_path / "model.safetensors"))
    (tmp_path / "answers.json").write_text(json.dumps([{"a": 0, "b": 1, "c": 2}, {"0": "a", "1": "b", "2": "c"}]))
    result = run(config(tokenizer, tmp_path / "model.safetensors", answers=str(tmp_path / "answers.json")))
    grounder = Grounder.from_pretrained(result["model"])
    assert grounder.answers == ("a", "b", "c")
    assert torch.isfinite(grounder.answer(grounder.objects(toy_scene(1)), ["of the red cube"])).all()


def test_another_tokenizer_and_a_damaged_file_are_refused(tokenizer: Path, tmp_path: Path):
    other = tmp_path / "other"
    train_tokenizer(["two words"]).save_pretrained(str(other))
    torch.save(weights(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="has 7 tokens, the checkpoint 12"):
        run(config(other, tmp_path / "pytorch_model.bin"))
    (tmp_path / "torn.bin").write_bytes((tmp_path / "pytorch_model.bin").read_bytes()[:5000])
    with pytest.raises(InputError, match="truncated, damaged"):
        run(config(tokenizer, tmp_path / "torn.bin"))
    assert not (tmp_path / "converted").exists()
