"""Facts about vl/masking.py."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from core.errors import InputError
from vl.masking import WordMasker, first_pieces, hidden_cells
from vl.tokenizer import train_tokenizer

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
PAD, UNK, CLS, SEP, MASK = range(5)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fast(model, pre_tokenizer) -> PreTrainedTokenizerFast:
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL)


def pieces(*words: str) -> PreTrainedTokenizerFast:
    vocabulary = {token: i for i, token in enumerate((*SPECIAL.values(), *words))}
    return fast(models.WordPiece(vocabulary, unk_token="[UNK]"), pre_tokenizers.WhitespaceSplit())


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([" ".join(f"word{i}" for i in range(200))], 300)


def test_special_tokens_and_padding_stay_and_every_sentence_loses_a_word(tokenizer):
    rows = tokenizer(["word1 unheardof", "word1 word2 word3 word4"], padding=True, return_tensors="pt")
    ids, mask = rows["input_ids"], rows["attention_mask"]
    masker = WordMasker(tokenizer, probability=0.01)
    for seed in range(100):
        hidden_ids, chosen = masker(ids, mask, seeded(seed))
        assert not chosen[ids < 5].any() and (chosen.sum(1) >= 1).all()
        assert (hidden_ids[~chosen] == ids[~chosen]).all()
    nothing, chosen = masker(torch.tensor([[CLS, UNK, SEP, PAD]]), torch.tensor([[1, 1, 1, 0]]), seeded())
    assert nothing.tolist() == [[CLS, UNK, SEP, PAD]] and not chosen.any()


def test_a_share_is_chosen_of_which_80_percent_are_masked_10_random_10_kept(tokenizer):
    ids = torch.randint(5, len(tokenizer), (400, 100), generator=seeded(1))
    hidden, chosen = WordMasker(tokenizer, probability=0.3)(ids, torch.ones_like(ids), seeded(2))
    masked, kept = (hidden == MASK)[chosen], (hidden == ids)[chosen]
    assert chosen.float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert masked.float().mean().item() == pytest.approx(0.8, abs=0.015)
    assert kept.float().mean().item() == pytest.approx(0.1, abs=0.015)
    assert (hidden[chosen][~masked] >= 5).all()  # a random token is never a special one


def test_pieces_of_a_word_are_hidden_together_only_if_asked():
    tokenizer = pieces("play", "##ing", "##s", "chess")
    rows = tokenizer(["playings chess playing"], return_tensors="pt")
    assert rows["input_ids"].tolist() == [[5, 6, 7, 8, 5, 6]]
    ids = rows["input_ids"].repeat(500, 1)
    _, chosen = WordMasker(tokenizer, probability=0.4, whole_word=True)(ids, torch.ones_like(ids), seeded())
    words = torch.stack([chosen[:, 0], chosen[:, 3], chosen[:, 4]], 1)
    assert (chosen == words[:, [0, 0, 0, 1, 2, 2]]).all()
    assert words.any(0).all() and not words.all(0).any()
    _, single = WordMasker(tokenizer, probability=0.4)(ids, torch.ones_like(ids), seeded())
    assert (single[:, 0] != single[:, 1]).any()


@pytest.mark.parametrize(
    ("tokens", "suffix", "text", "first"),
    [
        (["a", "b", ",", "Ġ"], {}, "ab, ba", [0, 0, 2, 3, 3, 3]),  # a b , Ġ b a
        (["a", "b", "b</w>", "a</w>"], {"end_of_word_suffix": "</w>"}, "ab bba a", [0, 0, 2, 2, 2, 5]),
    ],
)
def test_words_are_found_in_pieces_of_byte_level_tokenizers_and_of_clips(tokens, suffix, text, first):
    splitter = pre_tokenizers.WhitespaceSplit() if suffix else pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocabulary = {token: i for i, token in enumerate((*SPECIAL.values(), *tokens))}
    tokenizer = fast(models.BPE(vocabulary, [], **suffix), splitter)
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    assert first_pieces(ids, *WordMasker(tokenizer, whole_word=True).bounds).tolist() == [first]


def test_pieces_without_marks_and_tokenizers_without_a_mask_token_are_refused(tokenizer):
    with pytest.raises(InputError, match="carry no mark"):
        WordMasker(train_tokenizer(["playing chess"], model="bpe"), whole_word=True)
    WordMasker(tokenizer, whole_word=True)  # each token is a word
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(InputError, match="mask token"):
        WordMasker(bare)
    with pytest.raises(InputError, match="between 0 and 1"):
        WordMasker(tokenizer, probability=0.0)


def test_the_same_number_of_cells_is_hidden_in_each_image_never_all_or_none():
    device = torch.device("cpu")
    hidden = hidden_cells(5, (2, 4), 0.5, seeded(), device)
    assert hidden.shape == (5, 2, 4) and hidden.sum((1, 2)).tolist() == [4] * 5
    assert len({tuple(row) for row in hidden.flatten(1).tolist()}) > 1
    assert [int(hidden_cells(1, (1, 3), share, seeded(), device).sum()) for share in (0.01, 0.99)] == [1, 2]
    with pytest.raises(InputError, match="one cell"):
        hidden_cells(1, (1, 1), 0.5, seeded(), device)
