"""A word tokenizer trained on a corpus: every word of the corpus that fits in the vocabulary is one token.

Sentences here come from a small closed language, so words make better tokens than pieces: an unknown word is seen as
[UNK] instead of hiding behind letters, and callers can tell the user which word was not understood.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from core.errors import InputError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Their ids are 0..4 in this order."""

MODELS = ("word", "bpe")


def train_tokenizer(
    texts: Iterable[str], vocab_size: int = 4096, *, model: str = "word", max_length: int = 64
) -> PreTrainedTokenizerFast:
    """Trains a tokenizer that frames each text as [CLS] ... [SEP].

    Text is lower-cased, accents are stripped, and it is split at spaces and punctuation. The same texts give the same
    ids, whatever their order: words are ranked by count, then alphabetically.

    Args:
        texts: the corpus; duplicates count.
        vocab_size: largest number of ids, the five special tokens included.
        model: "word" (one token per word, rarest words become [UNK]) or "bpe" (byte-pair pieces of words).
        max_length: the longest sequence `tokenizer(..., truncation=True)` returns, special tokens included.

    Raises:
        InputError: no text, an unknown model, or a vocabulary too small for the special tokens.
    """
    if model not in MODELS:
        raise InputError(f"tokenizer model is {model!r}, expected one of {', '.join(MODELS)}")
    if vocab_size <= len(SPECIAL_TOKENS):
        raise InputError(
            f"vocab_size={vocab_size} leaves no room for words beside {len(SPECIAL_TOKENS)} special tokens"
        )
    counts = Counter(texts)
    if not any(text.strip() for text in counts):
        raise InputError("a tokenizer needs at least one non-empty text to train on")

    normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])
    splitter = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    if model == "word":
        words: Counter[str] = Counter()
        for text, count in counts.items():
            for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)):
                words[word] += count
        ranked = sorted(words, key=lambda word: (-words[word], word))
        kept = ranked[: vocab_size - len(SPECIAL_TOKENS)]
        vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *kept))}
        backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        backend.normalizer, backend.pre_tokenizer = normalizer, splitter
    else:
        backend = Tokenizer(models.BPE(unk_token="[UNK]"))
        backend.normalizer, backend.pre_tokenizer = normalizer, splitter
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False, min_frequency=1
        )
        backend.train_from_iterator(sorted(counts.elements()), trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", SPECIAL_TOKENS.index("[CLS]")), ("[SEP]", SPECIAL_TOKENS.index("[SEP]"))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json, the layout every transformers tokenizer has."""
    tokenizer.save_pretrained(str(folder))


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerFast:
    """Reads a tokenizer from a folder that `save_tokenizer` or `save_pretrained` wrote; never looks on the network.

    Raises:
        InputError: tokenizer.json is missing or broken there.
    """
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"no tokenizer.json in {folder}; expected a model folder written by save_pretrained")
    try:
        json.loads(path.read_text(encoding="utf-8"))
        return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception for a malformed file
        raise InputError(f"tokenizer in {folder} does not load ({error}); write it again or copy it whole") from error


def unknown_words(tokenizer: PreTrainedTokenizerFast, text: str) -> list[str]:
    """The pieces of `text` that the tokenizer can only read as [UNK], as they stand in the text."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    unknown = tokenizer.unk_token_id
    pairs = zip(encoded["input_ids"], encoded["offset_mapping"])
    return [text[start:end] for token, (start, end) in pairs if token == unknown]


def knows_a_word(tokenizer: PreTrainedTokenizerFast, text: str) -> bool:
    """Whether at least one word (not mere punctuation) of `text` is in the vocabulary."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    unknown = tokenizer.unk_token_id
    return any(
        token != unknown and re.search(r"\w", text[start:end])
        for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"])
    )
