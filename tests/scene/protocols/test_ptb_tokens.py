"""Words as the caption metrics count them; the expected tokens are those of Stanford's PTBTokenizer."""

import pytest

from scene.protocols.ptb_tokens import ngram_counts, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's on the Table.", "it 's on the table"),
        ("They don't, I cannot!", "they do n't i can not"),
        ("l-shaped desk", "l-shaped desk"),
        ("3 o'clock; 2.5 m", "3 o'clock 2.5 m"),
        ("on the porch / balcony", "on the porch / balcony"),
        ("the man’s 'red' chair -- left", "the man 's red chair left"),
        ("1,000 (or so)?", "1,000 or so"),
    ],
)
def test_clitics_are_split_and_punctuation_goes(text: str, words: str):
    assert words_of(text) == tuple(words.split())


def test_a_text_without_words_has_none():
    assert words_of("") == words_of(" ... ?!") == ()


def test_ngrams_are_counted_as_often_as_they_occur():
    counts = ngram_counts(("a", "b", "a", "b"), 2)
    assert counts == {("a",): 2, ("b",): 2, ("a", "b"): 2, ("b", "a"): 1}
