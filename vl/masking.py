"""Which words of a sentence, and which cells of an image, are hidden for a model to tell."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from core.errors import InputError

MASKED, REPLACED = 0.8, 0.1
"""Of the chosen tokens: how many become the mask token, how many a random one; the rest stays (arXiv:1810.04805)."""


def uniform(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Float[Tensor, "..."]:
    """Numbers in [0, 1) drawn where the generator lives and moved to `device`: the same on every kind of device."""
    return torch.rand(shape, generator=generator, device=generator.device).to(device)


class WordMasker:
    """Hides words of tokenised sentences; special tokens stay, and every sentence loses at least one word."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, probability: float = 0.15, whole_word: bool = False):
        """
        Args:
            probability: share of the words that are hidden.
            whole_word: all pieces of a word are hidden together; without it, each piece is on its own.

        Raises:
            InputError: the tokenizer has no mask token, or no ordinary tokens, or does not mark where words begin.
        """
        if tokenizer.mask_token_id is None:
            raise InputError(
                "masked words need a tokenizer with a mask token, this one has none; set its mask_token, or leave out "
                "the objectives mlm and text_mlm"
            )
        if not 0 < probability < 1:
            raise InputError(f"mlm_probability={probability} should be between 0 and 1")
        self.probability, self.mask_id = probability, int(tokenizer.mask_token_id)
        count = len(tokenizer)
        self.special = torch.zeros(count, dtype=torch.bool)
        self.special[torch.tensor(sorted(set(tokenizer.all_special_ids)))] = True
        self.ordinary = (~self.special).nonzero()[:, 0]
        if not len(self.ordinary):
            raise InputError("the tokenizer knows special tokens only; train it on sentences")
        self.bounds = word_bounds(tokenizer, self.special) if whole_word else None

    def __call__(
        self, ids: Int64[Tensor, "U L"], attention_mask: Int64[Tensor, "U L"], generator: torch.Generator
    ) -> tuple[Int64[Tensor, "U L"], Bool[Tensor, "U L"]]:
        """The sentences with words hidden, and where. A sentence of special tokens alone stays whole.

        Of the chosen tokens 80 % become the mask token, 10 % a random ordinary token, 10 % stay.

        Source: Devlin et al., BERT, arXiv:1810.04805, section 3.1; whole words: its release of May 2019.
        """
        device = ids.device
        maskable = attention_mask.bool() & ~self.special.to(device)[ids]
        draw, fate = uniform(tuple(ids.shape), generator, device), uniform(tuple(ids.shape), generator, device)
        place = uniform(tuple(ids.shape), generator, device)
        if self.bounds is not None:
            draw = draw.gather(1, first_pieces(ids, *self.bounds))
        least = draw.masked_fill(~maskable, 2.0).amin(1, keepdim=True)
        chosen = maskable & ((draw < self.probability) | (draw == least))
        ordinary = self.ordinary.to(device)
        random = ordinary[(place * len(ordinary)).long().clamp_(max=len(ordinary) - 1)]
        hidden = torch.where(fate < MASKED, self.mask_id, torch.where(fate < MASKED + REPLACED, random, ids))
        return torch.where(chosen, hidden, ids), chosen


def first_pieces(
    ids: Int64[Tensor, "U L"], begins: Bool[Tensor, " V"], ends: Bool[Tensor, " V"]
) -> Int64[Tensor, "U L"]:
    """Position of the first piece of the word that each position belongs to; bounds from `word_bounds`."""
    first = begins.to(ids.device)[ids]
    first[:, 0] = True
    first[:, 1:] |= ends.to(ids.device)[ids[:, :-1]]
    position = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    return position.where(first, 0).cummax(1).values


def word_bounds(
    tokenizer: PreTrainedTokenizerFast, special: Bool[Tensor, " V"]
) -> tuple[Bool[Tensor, " V"], Bool[Tensor, " V"]]:
    """Which tokens begin a word, and which end one, by how the tokenizer marks its pieces.

    WordPiece marks pieces that go on (##ing), byte-level and SentencePiece tokenizers those that begin a word (Ġdog,
    ▁dog), CLIP those that end one (dog</w>); punctuation without a mark is a word of its own.

    Raises:
        InputError: pieces carry no mark.
    """
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    model = tokenizer.backend_tokenizer.model
    kind = type(model).__name__
    goes_on = getattr(model, "continuing_subword_prefix", None)
    last = getattr(model, "end_of_word_suffix", None)
    ends = [False] * len(tokens)
    if kind == "WordLevel":
        begins = [True] * len(tokens)
    elif goes_on:
        begins = [not token.startswith(goes_on) for token in tokens]
    elif last:
        begins, ends = [False] * len(tokens), [token.endswith(last) for token in tokens]
    elif any(token.startswith(("Ġ", "▁")) for token in tokens):
        begins = [token.startswith(("Ġ", "▁")) or not any(map(str.isalnum, token)) for token in tokens]
    else:
        raise InputError(
            f"whole_word=true needs a tokenizer that marks which pieces go on with a word (##, Ġ, ▁, </w>); the pieces "
            f"of this one ({kind}) carry no mark; use whole_word=false"
        )
    return torch.tensor(begins) | special, torch.tensor(ends) | special


def hidden_cells(
    count: int, grid: tuple[int, int], share: float, generator: torch.Generator, device: torch.device
) -> Bool[Tensor, "B h w"]:
    """Cells of a grid, at random, that hide a share of each of `count` images: the same number in each.

    At least one cell is hidden and at least one is left.

    Raises:
        InputError: the grid is a single cell.

    Source: Xie et al., SimMIM, arXiv:2111.09886, section 3.2.
    """
    rows, columns = grid
    if rows * columns < 2:
        raise InputError("the image tower makes one cell of an image, none would be left to see; use larger images")
    hidden = min(max(1, round(share * rows * columns)), rows * columns - 1)
    order = uniform((count, rows * columns), generator, device).argsort(1).argsort(1)
    return (order < hidden).view(count, rows, columns)
