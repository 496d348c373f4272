"""Facts about vl/text_towers.py."""

import pytest
import torch

from core.errors import InputError
from vl.layers import masked_mean
from vl.text_towers import TextTower, TextTowerConfig, build_text_tower, tokenize
from vl.tokenizer import train_tokenizer

OPTIONS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SENTENCES = ["a red box", "a white box on the left and an empty room"]


@pytest.fixture(scope="module")
def words():
    return train_tokenizer([*SENTENCES, "green blue"])


def tower(words, model_type: str = "bert", **settings) -> TextTower:
    config = TextTowerConfig(model_type=model_type, **({"options": OPTIONS} | settings))
    torch.manual_seed(0)
    return build_text_tower(config, words, 16).eval()


@pytest.mark.parametrize(
    "model_type", ["bert", "electra", "roberta", "modernbert", "albert", "mpnet", "siglip_text_model", "distilbert"]
)
def test_a_causal_reading_of_any_encoder_lets_no_word_see_a_later_one(words, model_type):
    options = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32} if model_type == "distilbert" else OPTIONS
    one = tower(words, model_type, options=options)
    ids, mask = tokenize(words, SENTENCES, 16)
    changed = ids.clone()
    changed[1, 5] = words.convert_tokens_to_ids("green")
    before, after = (one(x, mask, causal=True).states[1] for x in (ids, changed))
    torch.testing.assert_close(before[:5], after[:5])
    assert not torch.allclose(before[5:], after[5:], atol=1e-4)
    both_ways = [one(x, mask).states[1] for x in (ids, changed)]
    assert not torch.allclose(both_ways[0][:5], both_ways[1][:5], atol=1e-5)


def test_an_encoder_that_takes_no_causal_mask_says_so(words):
    with pytest.raises(InputError, match="deberta-v2 with pool=mean cannot read causally"):
        tower(words, "deberta-v2")(*tokenize(words, SENTENCES, 16), causal=True)
    with pytest.raises(InputError, match="siglip_text_model with pool=pooler cannot read causally"):
        tower(words, "siglip_text_model", pool="pooler", options=OPTIONS | {"projection_size": 16})(
            *tokenize(words, SENTENCES, 16), causal=True
        )


@pytest.mark.parametrize("causal", [False, True])
def test_padding_is_never_attended(words, causal):
    one = tower(words)
    ids, mask = tokenize(words, SENTENCES, 16)
    filled = ids.masked_fill(mask == 0, 7)
    read = [one(x, mask, causal=causal).states[0, :5] for x in (ids, filled)]
    assert torch.equal(*read)
    alone = one(*tokenize(words, SENTENCES[:1], 16), causal=causal).states[0]
    torch.testing.assert_close(read[0], alone)


def test_rows_read_in_groups_of_like_length_are_those_read_one_by_one(words):
    one = tower(words, pool="eos")
    texts = [" ".join(["red"] * count) for count in (3, 9, 1, 4, 8, 2, 6, 5, 7)]
    ids, mask = tokenize(words, texts, 16)
    together = one(ids, mask, 2)
    for row, text in enumerate(texts):
        alone = one(*tokenize(words, [text], 16), 2)
        length = alone.states.shape[1]
        assert len(alone.layers) == len(together.layers) == 2
        for layer, own in zip(together.layers, alone.layers):
            torch.testing.assert_close(layer[row, :length], own[0])
        torch.testing.assert_close(together.pooled[row], alone.pooled[0])
        assert together.mask[row].sum() == length


def test_pooling_takes_the_position_it_says(words):
    ids, mask = tokenize(words, SENTENCES, 16)
    ends = mask.sum(1) - 1
    for pool, position in (("cls", torch.zeros_like(ends)), ("eos", ends)):
        encoded = tower(words, pool=pool)(ids, mask)
        assert torch.equal(encoded.pooled, encoded.states[torch.arange(2), position])
    assert tower(words)(ids, mask).pooled is None
    pooler = tower(words, pool="pooler")
    encoded = pooler(ids, mask)
    dense = pooler.encoder.pooler.dense
    torch.testing.assert_close(encoded.pooled, torch.tanh(dense(encoded.states[:, 0])))
    with pytest.raises(InputError, match="electra makes no pooled vector"):
        tower(words, "electra", pool="pooler")


def test_lower_layers_come_first_and_after_the_final_norm(words):
    ids, mask = tokenize(words, SENTENCES, 16)
    for model_type, norm in (("bert", torch.nn.Identity()), ("clip_text_model", None)):
        one = tower(words, model_type)
        found = one(ids, mask, 2).layers
        states = one.encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        norm = norm or one.encoder.final_layer_norm
        torch.testing.assert_close(found[0], norm(states.hidden_states[1]))
        torch.testing.assert_close(found[1], states.last_hidden_state)


def test_no_parameters_for_a_pooled_vector_that_nobody_reads(words):
    assert not any("pooler" in name or "head" in name for name, _ in tower(words).named_parameters())
    assert not any("head" in name for name, _ in tower(words, "siglip_text_model").named_parameters())


def test_a_frozen_tower_does_not_learn_and_stays_in_eval_mode(words):
    frozen = tower(words, freeze=True, options=OPTIONS | {"hidden_dropout_prob": 0.5})
    frozen.train()
    assert not any(part.training for part in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    ids, mask = tokenize(words, SENTENCES, 16)
    assert torch.equal(frozen(ids, mask).states, frozen(ids, mask).states)


def test_adapters_alone_learn_and_change_nothing_at_first(words):
    pytest.importorskip("peft")
    plain, adapted = tower(words), tower(words, lora=2)
    ids, mask = tokenize(words, SENTENCES, 16)
    torch.testing.assert_close(plain(ids, mask).states, adapted(ids, mask).states)
    learning = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    # two layers of query, key, value, output (16 x 16), up and down (16 x 32), each two matrices of rank 2
    assert len(learning) == 2 * 6 * 2 and all("lora_" in name for name in learning)
    count = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    assert count == 2 * (4 * 2 * (16 + 16) + 2 * 2 * (16 + 32))


def test_impossible_text_towers_stop_with_the_reason(words):
    with pytest.raises(InputError, match="text pool='first' is unknown; known: cls, eos, mean, pooler"):
        TextTowerConfig(pool="first")
    with pytest.raises(InputError, match="vit reads no words"):
        tower(words, model_type="vit")
    with pytest.raises(InputError, match="freeze=true with lora=4"):
        TextTowerConfig(freeze=True, lora=4)
    with pytest.raises(
        InputError, match="'hiden_size' is no option of text model_type=bert; did you mean 'hidden_size'"
    ):
        tower(words, options={"hiden_size": 3})
    with pytest.raises(InputError, match="max_tokens=16 is more than the 8 tokens"):
        tower(words, options=OPTIONS | {"max_position_embeddings": 8})
    with pytest.raises(InputError, match=r"tokenizer has \d+ tokens, the text encoder \(bert\) knows 6"):
        tower(words, options=OPTIONS | {"vocab_size": 6})


def test_padding_does_not_enter_the_mean():
    values = torch.tensor([[[1.0], [3.0], [100.0]], [[5.0], [5.0], [5.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(values, mask).tolist() == [[2.0], [0.0]]
