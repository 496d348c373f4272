"""Text towers made of any transformers encoder; the encoders are tiny and stay on this machine."""

from pathlib import Path

import pytest
import torch
import transformers as hf
from torch import nn

from core.errors import InputError
from scene.model_config import ModelConfig
from scene.text_tower import TextTower, first_layers, pretrained_tokenizer
from vl.tokenizer import save_tokenizer, train_tokenizer

SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
TOKENS = torch.tensor([[5, 9, 14, 7], [5, 9, 2, 3]])
WORDS = torch.tensor([[True, True, True, True], [True, True, False, False]])


def bert(positions: int = 64) -> hf.PreTrainedModel:
    return hf.BertModel(hf.BertConfig(**SIZES, max_position_embeddings=positions))


def clip() -> hf.PreTrainedModel:
    vision = {**SIZES, "image_size": 32, "patch_size": 16}
    text = {**SIZES, "max_position_embeddings": 64, "eos_token_id": 49}
    return hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))


ENCODERS = {
    "bert": bert,
    "roberta": lambda: hf.RobertaModel(hf.RobertaConfig(**SIZES, max_position_embeddings=66)),
    "distilbert": lambda: hf.DistilBertModel(
        hf.DistilBertConfig(vocab_size=50, dim=16, n_layers=3, n_heads=2, hidden_dim=32)
    ),
    "clip": clip,
    "modernbert": lambda: hf.ModernBertModel(
        hf.ModernBertConfig(**SIZES, pad_token_id=0, bos_token_id=1, cls_token_id=1, sep_token_id=2, eos_token_id=2)
    ),
}


def config(folder: Path, **changes) -> ModelConfig:
    return ModelConfig(**{"vocab_size": 50, "dim": 16, "heads": 2, "text": str(folder), **changes})


@torch.no_grad()
@pytest.mark.parametrize("name", ENCODERS)
def test_the_first_layers_of_an_encoder_serve_and_come_back_from_their_config(name: str, tmp_path: Path):
    torch.manual_seed(0)
    ENCODERS[name]().save_pretrained(tmp_path)
    tower = TextTower(config(tmp_path)).eval()
    assert tower.encoder.config.num_hidden_layers == 2
    features = tower(TOKENS, WORDS)
    other = TOKENS.clone()
    other[1, 2:] = 30  # padding
    torch.testing.assert_close(tower(other, WORDS)[1, :2], features[1, :2])
    assert not torch.allclose(tower(other, torch.ones_like(WORDS))[1, :2], features[1, :2]) or name == "clip"
    tower.encoder.config.save_pretrained(str(tmp_path / "saved"))
    again = TextTower(config(tmp_path), hf.AutoConfig.from_pretrained(str(tmp_path / "saved"))).eval()
    again.load_state_dict(tower.state_dict())
    torch.testing.assert_close(again(TOKENS, WORDS), features)


@torch.no_grad()
def test_two_layers_compute_what_the_whole_encoder_has_after_two(tmp_path: Path):
    torch.manual_seed(0)
    whole = bert().eval()
    whole.save_pretrained(tmp_path)
    after_two = whole(TOKENS, WORDS.long(), output_hidden_states=True).hidden_states[2]
    features = TextTower(config(tmp_path)).eval()(TOKENS, WORDS)
    torch.testing.assert_close(features[WORDS], after_two[WORDS])


@torch.no_grad()
def test_a_text_is_its_first_token_or_its_last_where_words_see_only_the_past(tmp_path: Path):
    bert().save_pretrained(tmp_path / "bert")
    clip().save_pretrained(tmp_path / "clip")
    features = torch.arange(8.0).view(2, 4, 1)
    first, last = TextTower(config(tmp_path / "bert")), TextTower(config(tmp_path / "clip"))
    assert first.sentence(features, WORDS).flatten().tolist() == [0, 4]
    assert last.sentence(features, WORDS).flatten().tolist() == [3, 5]


def test_another_width_is_mapped_and_single_words_keep_theirs(tmp_path: Path):
    bert().save_pretrained(tmp_path)
    tower = TextTower(config(tmp_path, dim=24))
    assert tower(TOKENS, WORDS).shape == (2, 4, 24) and tower.embed(TOKENS).shape == (2, 4, tower.embedding_dim)


def test_recomputing_activations_changes_no_gradient(tmp_path: Path):
    torch.manual_seed(0)
    hf.BertModel(hf.BertConfig(**SIZES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)).save_pretrained(
        tmp_path
    )
    gradients = []
    for checkpointing in (False, True):
        tower = TextTower(config(tmp_path, checkpointing=checkpointing)).train()
        tower(TOKENS, WORDS)[WORDS].square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in tower.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_what_is_no_stack_of_encoder_layers_is_refused(tmp_path: Path):
    t5 = hf.T5Model(hf.T5Config(vocab_size=50, d_model=16, num_layers=3, num_heads=2, d_kv=8, d_ff=32))
    with pytest.raises(InputError, match="T5Model is an encoder with a decoder"):
        first_layers(t5, 2)
    with pytest.raises(InputError, match="AlbertModel has no list of 3 layers"):
        first_layers(hf.AlbertModel(hf.AlbertConfig(**SIZES, embedding_size=8)), 2)
    with pytest.raises(InputError, match="text_layers=4, but BertModel has 3 layers"):
        first_layers(bert(), 4)
    with pytest.raises(InputError, match=r"nowhere does not load.*hub id that can be reached, or a folder"):
        TextTower(config(tmp_path / "nowhere"))


def test_sentences_and_vocabularies_longer_than_the_encoder_has_are_refused(tmp_path: Path):
    bert(positions=32).save_pretrained(tmp_path / "bert")
    with pytest.raises(InputError, match="max_tokens=64, but .* reads at most 32"):
        TextTower(config(tmp_path / "bert"))
    hf.RobertaModel(hf.RobertaConfig(**SIZES, max_position_embeddings=66)).save_pretrained(tmp_path / "roberta")
    with pytest.raises(InputError, match="max_tokens=65, but .* reads at most 64"):  # two positions are not words'
        TextTower(config(tmp_path / "roberta", max_tokens=65))
    with pytest.raises(InputError, match="vocab_size=51, but .* has 50 tokens"):
        TextTower(config(tmp_path / "roberta", vocab_size=51))


def test_random_weights_need_no_encoder_and_know_their_sizes():
    tower = TextTower(ModelConfig(vocab_size=30, dim=16, heads=2, text_layers=1, text_hidden=40, max_tokens=12))
    assert tower.owned and not tower.causal and isinstance(tower.into, nn.Identity)
    shapes = [tuple(p.shape) for p in tower.parameters()]
    assert {(30, 16), (12, 16), (40, 16)} <= set(shapes)


def test_the_tokenizer_goes_with_the_encoder(tmp_path: Path):
    tokenizer = train_tokenizer(["the red chair"])
    save_tokenizer(tokenizer, tmp_path)
    bert().save_pretrained(tmp_path)
    assert pretrained_tokenizer(str(tmp_path))("red chair")["input_ids"] == tokenizer("red chair")["input_ids"]
    with pytest.raises(InputError, match="has no tokenizer that loads"):
        pretrained_tokenizer(str(tmp_path / "nowhere"))
