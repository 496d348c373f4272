"""Facts about vl/tokenizer.py."""

import pytest

from core.errors import InputError
from vl.tokenizer import SPECIAL_TOKENS, knows_a_word, load_tokenizer, save_tokenizer, train_tokenizer, unknown_words

TEXTS = ["the red chair", "the blue chair", "a lamp, left of the bed"]


def test_special_tokens_come_first_then_words_by_count_and_alphabet():
    vocabulary = train_tokenizer(TEXTS).get_vocab()
    by_id = sorted(vocabulary, key=vocabulary.get)
    assert by_id == [*SPECIAL_TOKENS, "the", "chair", ",", "a", "bed", "blue", "lamp", "left", "of", "red"]


def test_text_is_framed_by_cls_and_sep_and_padded_with_zero():
    tokenizer = train_tokenizer(TEXTS)
    rows = tokenizer(["The CHAIR", "the red chair"], padding=True)
    assert rows["input_ids"] == [[2, 5, 6, 3, 0], [2, 5, 14, 6, 3]]
    assert rows["attention_mask"] == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


@pytest.mark.parametrize("model", ["word", "bpe"])
def test_the_order_of_texts_does_not_change_the_ids(model):
    forward, backward = (train_tokenizer(order, model=model).get_vocab() for order in (TEXTS, TEXTS[::-1]))
    assert forward == backward


def test_a_small_vocabulary_keeps_the_most_frequent_words():
    tokenizer = train_tokenizer(TEXTS, vocab_size=7)
    assert len(tokenizer) == 7
    assert unknown_words(tokenizer, "the red chair") == ["red"]


@pytest.mark.parametrize("model", ["word", "bpe"])
def test_saving_and_loading_gives_the_same_ids(tmp_path, model):
    tokenizer = train_tokenizer(TEXTS, model=model, max_length=9)
    save_tokenizer(tokenizer, tmp_path)
    again = load_tokenizer(tmp_path)
    text = "The lamp left of the red Bed"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert (again.model_max_length, again.mask_token, again.pad_token_id) == (9, "[MASK]", 0)


def test_punctuation_alone_is_no_known_word():
    tokenizer = train_tokenizer(TEXTS)
    assert not knows_a_word(tokenizer, "zebra, xylophone")
    assert knows_a_word(tokenizer, "zebra chair")


def test_nothing_to_train_on_is_named():
    with pytest.raises(InputError, match="non-empty text"):
        train_tokenizer(["", "  "])
    with pytest.raises(InputError, match="word, bpe"):
        train_tokenizer(TEXTS, model="letters")
    with pytest.raises(InputError, match="no room"):
        train_tokenizer(TEXTS, vocab_size=5)


def test_a_missing_or_broken_tokenizer_is_named(tmp_path):
    with pytest.raises(InputError, match="no tokenizer.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "trunc')
    with pytest.raises(InputError, match="does not load"):
        load_tokenizer(tmp_path)
