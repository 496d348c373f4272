"""ViLT and BridgeTower: outputs, scores and losses equal transformers' own classes with the same weights."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    BridgeTowerConfig,
    BridgeTowerForImageAndTextRetrieval,
    BridgeTowerForMaskedLM,
    BridgeTowerModel,
    ViltConfig,
    ViltForImageAndTextRetrieval,
    ViltForMaskedLM,
)

from core.errors import InputError
from tests.vl.shaken import shaken
from vl.encoded import Encoded, Fused
from vl.fusion import Fusion
from vl.released_models import (
    fusion_from_bridgetower,
    match_head_weights,
    one_tower_from_vilt,
    towers_from_bridgetower,
    word_head_weights,
)

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def inputs() -> dict[str, torch.Tensor]:
    """Three pairs; rows 1 and 2 end in padding (token 1)."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(2, 20, (3, 6), generator=draw)
    mask = torch.ones(3, 6, dtype=torch.int64)
    for row, length in ((1, 3), (2, 5)):
        ids[row, length:], mask[row, length:] = 1, 0
    pixels = torch.randn(3, 3, 16, 16, generator=draw)
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": pixels}


def masked_word_loss(states: torch.Tensor, head: dict[str, torch.Tensor], labels: torch.Tensor, eps: float):
    """Cross entropy over the labelled positions, by the head's definition."""
    x = F.gelu(F.linear(states, head["dense.weight"], head["dense.bias"]))
    x = F.layer_norm(x, x.shape[-1:], head["norm.weight"], head["norm.bias"], eps)
    chosen = labels != -100
    return F.cross_entropy(F.linear(x, head["decoder.weight"], head["decoder.bias"])[chosen], labels[chosen])


def labels() -> torch.Tensor:
    found = torch.full((3, 6), -100)
    found[0, 2], found[1, 1], found[2, 4] = 7, 3, 19
    return found


def vilt_config() -> ViltConfig:
    return ViltConfig(
        vocab_size=20,
        max_position_embeddings=8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=16,
        patch_size=4,
        max_image_length=-1,
    )


def vilt_fused(vilt, given) -> Fused:
    tower = one_tower_from_vilt(vilt)
    text = tower.embed_text(given["input_ids"], given["attention_mask"])
    return tower.fuse(tower.embed_image(given["pixel_values"]), text)


def by_place(states: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """ViLT's states sorted like ours: it draws its patches in random order, so each is matched to the nearest."""
    nearest = torch.cdist(whole, states).argmin(2)
    assert all(len(set(row.tolist())) == states.shape[1] for row in nearest)
    return states.gather(1, nearest[..., None].expand_as(states))


def test_vilt_states_and_pooled():
    model = shaken(ViltForMaskedLM(vilt_config()))
    given = inputs()
    theirs, ours = model.vilt(**given), vilt_fused(model.vilt, given)
    real = given["attention_mask"].bool()
    torch.testing.assert_close(ours.text[real], theirs.last_hidden_state[:, :6][real], **CLOSE)
    torch.testing.assert_close(ours.image, by_place(theirs.last_hidden_state[:, 6:], ours.image), **CLOSE)
    torch.testing.assert_close(ours.pooled, theirs.pooler_output, **CLOSE)


def test_vilt_loss_of_masked_words():
    model = shaken(ViltForMaskedLM(vilt_config()))
    given = inputs()
    theirs = model(**given, labels=labels()).loss
    fused = vilt_fused(model.vilt, given)
    ours = masked_word_loss(fused.text, word_head_weights(model), labels(), model.config.layer_norm_eps)
    torch.testing.assert_close(ours, theirs, **CLOSE)


def test_vilt_score_of_retrieval():
    model = shaken(ViltForImageAndTextRetrieval(vilt_config()))
    given = inputs()
    theirs = model(**given).logits
    head = match_head_weights(model)
    ours = F.linear(vilt_fused(model.vilt, given).pooled, head["weight"], head["bias"])
    torch.testing.assert_close(ours[:, 1:], theirs, **CLOSE)
    torch.testing.assert_close(ours.softmax(1)[:, 1:], theirs.sigmoid(), **CLOSE)


def bridgetower_config(bridge: str = "add", layers: int = 3, **changes) -> BridgeTowerConfig:
    text = {
        "vocab_size": 20,
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "max_position_embeddings": 12,
    }
    vision = {"hidden_size": 64, "num_hidden_layers": 4, "image_size": 16, "patch_size": 8}
    return BridgeTowerConfig(
        hidden_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=96,
        link_tower_type=bridge,
        text_config=text,
        vision_config=vision,
        **changes,
    )


def bridgetower_fused(model: BridgeTowerModel, given) -> Fused:
    image_tower, text_tower = towers_from_bridgetower(model)
    fusion = fusion_from_bridgetower(model)
    seen = image_tower(given["pixel_values"], output_hidden_states=True).hidden_states[1:]
    words = text_tower(given["input_ids"], given["attention_mask"], output_hidden_states=True).hidden_states[1:]
    image = Encoded([image_tower.post_layernorm(layer) for layer in seen])
    return fusion(image, Encoded(list(words), given["attention_mask"].bool()))


@pytest.mark.parametrize(("bridge", "layers"), [("add", 3), ("interpolate", 3), ("add", 1)])
def test_bridgetower_states_and_pooled(bridge, layers):
    model = shaken(BridgeTowerModel(bridgetower_config(bridge, layers)))
    given = inputs()
    theirs, ours = model(**given), bridgetower_fused(model, given)
    real = given["attention_mask"].bool()
    torch.testing.assert_close(ours.text[real], theirs.text_features[real], **CLOSE)
    torch.testing.assert_close(ours.image, theirs.image_features, **CLOSE)
    torch.testing.assert_close(ours.pooled, theirs.pooler_output, **CLOSE)


def test_bridgetower_heads_for_matching_and_masked_words():
    given = inputs()
    matching = shaken(BridgeTowerForImageAndTextRetrieval(bridgetower_config()))
    head = nn.Linear(128, 2)
    head.load_state_dict(match_head_weights(matching))
    fits = torch.tensor([1, 0, 1])
    theirs = matching(**given, labels=fits)
    logits = head(bridgetower_fused(matching.bridgetower, given).pooled)
    torch.testing.assert_close(logits, theirs.logits, **CLOSE)
    torch.testing.assert_close(F.cross_entropy(logits, fits), theirs.loss, **CLOSE)

    words = shaken(BridgeTowerForMaskedLM(bridgetower_config()))
    fused = bridgetower_fused(words.bridgetower, given)
    ours = masked_word_loss(fused.text, word_head_weights(words), labels(), words.config.layer_norm_eps)
    torch.testing.assert_close(ours, words(**given, labels=labels()).loss, **CLOSE)


def test_without_bridges_the_layers_are_meters_co_attention():
    """METER's layers are BridgeTower's; each side sees what the other was before the layer."""
    model = shaken(BridgeTowerModel(bridgetower_config(layers=3)))
    bridged = fusion_from_bridgetower(model)
    fusion = Fusion(replace(bridged.config, bridge="none"), 64, 64).eval()
    fusion.load_state_dict({k: v for k, v in bridged.state_dict().items() if "bridges" not in k})
    image, text, mask = torch.randn(2, 5, 64), torch.randn(2, 4, 64), torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()

    t = model.cross_modal_text_layernorm(model.cross_modal_text_transform(text) + model.token_type_embeddings.weight[0])
    v = model.cross_modal_image_transform(image) + model.token_type_embeddings.weight[1]
    v = model.cross_modal_image_layernorm(v)
    hidden = torch.zeros(2, 1, 1, 4).masked_fill(~mask[:, None, None], torch.finfo(torch.float32).min)
    for words, patches in zip(model.cross_modal_text_layers, model.cross_modal_image_layers):
        t, v = words(t, v, attention_mask=hidden)[0], patches(v, t, encoder_attention_mask=hidden)[0]

    fused = fusion(Encoded([image]), Encoded([text], mask))
    torch.testing.assert_close(fused.text[mask], t[mask], **CLOSE)
    torch.testing.assert_close(fused.image, v, **CLOSE)
    torch.testing.assert_close(fused.pooled, model.get_cls_features(t, v), **CLOSE)


def test_settings_of_bridgetower_that_nothing_here_computes_are_refused():
    with pytest.raises(InputError, match="link_tower_type=scaled_add"):
        fusion_from_bridgetower(BridgeTowerModel(bridgetower_config("scaled_add")))
    with pytest.raises(InputError, match="share_cross_modal_transformer_layers=False"):
        fusion_from_bridgetower(BridgeTowerModel(bridgetower_config(share_cross_modal_transformer_layers=False)))
