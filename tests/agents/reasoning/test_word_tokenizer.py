"""Facts about agents/reasoning/word_tokenizer.py."""

import pytest
from transformers import AutoTokenizer

from agents.reasoning.word_tokenizer import build_word_tokenizer
from core.errors import InputError

TEXTS = ["how many red chairs are there ?", "<think> i see 2 red chairs . </think> <answer> 2 </answer>", "red bed"]


@pytest.fixture(scope="module")
def tokenizer():
    return build_word_tokenizer(TEXTS, 400, ("<image>",))


def pieces(tokenizer, text):
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


@pytest.mark.parametrize(
    "text",
    [
        "<think> i see 12 red chairs, really. </think>\n<answer> [12, 3.5, -4] </answer>",
        "the fridge's (x_1) is 3/4 of 50%",
        r"\boxed{12}",
        '{"box": [1, 2, 30, 40]}',
        "</answer><answer>a</think>b<answer",
    ],
)
def test_decoding_gives_the_text_back_up_to_case_and_spacing(tokenizer, text):
    said = tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)
    assert said.replace(" ", "") == text.lower().replace(" ", "")
    inner = [part.split() for part in text.split(">")]
    assert [part.split() for part in said.split(">")][0] == inner[0]


def test_spaces_between_words_and_digits_of_a_number_stay_as_they_were(tokenizer):
    text = "i see 12 3 4.5 red-bed chairs"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_word_of_the_corpus_a_tag_and_a_digit_are_one_token_each(tokenizer):
    assert pieces(tokenizer, "Red chairs 12<answer>") == ["▁red", "▁chairs", "▁1", "2", "<answer>"]


def test_an_unknown_word_falls_apart_into_known_pieces(tokenizer):
    assert pieces(tokenizer, "redo") == ["▁red", "o"]
    assert "<unk>" in pieces(tokenizer, "漢")


def test_special_tokens_are_dropped_by_decoding_and_tags_are_not(tokenizer):
    ids = tokenizer("<user>red<image><assistant><answer>bed</answer></s>")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "red<answer> bed</answer>"


def test_the_same_texts_in_another_order_give_the_same_ids():
    one, other = (build_word_tokenizer(texts, 160) for texts in (TEXTS, TEXTS[::-1]))
    assert one.get_vocab() == other.get_vocab()
    assert "▁red" in one.get_vocab()  # the most frequent word


def test_a_vocabulary_without_room_for_words_is_refused():
    with pytest.raises(InputError, match="vocabulary of 50 leaves no room"):
        build_word_tokenizer(TEXTS, 50)


def test_it_loads_as_any_tokenizer(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "<think> i see 2 odd chairs .</think>"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.decode(again(text)["input_ids"]) == tokenizer.decode(tokenizer(text)["input_ids"])
    assert again.padding_side == "left"
