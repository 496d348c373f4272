"""The tokenizer of a small reasoning model: words of its corpus, one token each, and any other text in pieces.

An answer is parsed and checked as text, so unlike vl/tokenizer.py this one is lossless: decoding what was encoded gives
the text back up to letter case, accents and spacing. "▁" in front of a token stands for the space before it. Words that
the corpus lacks fall apart into shorter words and letters, numbers are digits, one token each, and the tags of the
answer format are tokens.
"""

from collections import Counter
from collections.abc import Iterable
from string import ascii_lowercase, digits, punctuation
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from core.errors import InputError

SPACE: Final = "▁"
TAGS: Final = ("<think>", "</think>", "<answer>", "</answer>", "\n")
"""Text that is one token wherever it stands, and that decoding keeps."""

PAD, END, UNKNOWN, USER, ASSISTANT = "<pad>", "</s>", "<unk>", "<user>", "<assistant>"
SPECIAL: Final = (PAD, END, UNKNOWN, USER, ASSISTANT)
"""Their ids are 0..4; decoding drops them."""

_WORD = rf"{SPACE}?(\p{{L}}+|[^\p{{L}}{SPACE}])|{SPACE}"


def build_word_tokenizer(
    texts: Iterable[str], size: int, special: tuple[str, ...] = (), max_length: int = 256
) -> PreTrainedTokenizerFast:
    """A tokenizer whose words are the most frequent ones of `texts`, ties by the alphabet.

    Args:
        size: the largest number of ids; digits, letters, punctuation and special tokens take about 150 of them.
        special: more special tokens, those that stand for pictures.
        max_length: what the tokenizer says about the model; nothing is cut.

    Raises:
        InputError: `size` leaves no room for a word.
    """
    characters = [space + character for space in (SPACE, "") for character in digits + punctuation + ascii_lowercase]
    fixed = [*SPECIAL, *special, *TAGS, SPACE, *characters]
    if size <= len(fixed):
        raise InputError(f"a vocabulary of {size} leaves no room for words beside {len(fixed)} characters and tags")
    normalizer = normalizers.Sequence(
        [
            normalizers.NFD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
            normalizers.Prepend(SPACE),
            normalizers.Replace(" ", SPACE),
        ]
    )
    splitter = pre_tokenizers.Split(Regex(_WORD), "isolated")
    words: Counter[str] = Counter()
    known = {*fixed}
    for text, count in Counter(texts).items():
        for tag in (*SPECIAL, *special, *TAGS):
            text = text.replace(tag, " ")
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)):
            if word not in known:
                words[word] += count
    ranked = sorted(words, key=lambda word: (-words[word], word))
    vocabulary = {token: number for number, token in enumerate([*fixed, *ranked[: size - len(fixed)]])}
    # longest piece first, with no mark on later pieces: a word that is no token falls apart into those that are
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN, continuing_subword_prefix=""))
    backend.normalizer, backend.pre_tokenizer = normalizer, splitter
    backend.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    backend.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=USER,  # prompts begin with it
        eos_token=END,
        unk_token=UNKNOWN,
        sep_token=ASSISTANT,  # between prompt and response; a processor may replace the additional tokens, not this one
        additional_special_tokens=list(special),
        padding_side="left",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
