"""Rows of unlike lengths in one tensor: prompts are padded on the left, responses on the right.

What a row says of itself does not depend on its padding; padding costs time, so that rows of like length go together.
"""

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn.functional import pad

from agents.reasoning.log_probs import distinct_prompts
from agents.reasoning.types import Prompts, Responses


def join_prompts(one: Prompts, other: Prompts, pad_id: int) -> Prompts:
    """Rows of both, padded on the left to the longer."""
    length = max(one.input_ids.shape[1], other.input_ids.shape[1])

    def both(a: Tensor, b: Tensor, filler: int = 0) -> Tensor:
        return torch.cat([pad(part, (length - part.shape[1], 0), value=filler) for part in (a, b)])

    return Prompts(
        both(one.input_ids, other.input_ids, pad_id),
        both(one.attention_mask, other.attention_mask),
        both(one.on_picture, other.on_picture),
        one.pictures + other.pictures,
    )


def join_responses(one: Responses, other: Responses, pad_id: int) -> Responses:
    """Rows of both, padded on the right to the longer."""
    length = max(one.ids.shape[1], other.ids.shape[1])

    def both(a: Tensor, b: Tensor, filler: int = 0) -> Tensor:
        return torch.cat([pad(part, (0, length - part.shape[1]), value=filler) for part in (a, b)])

    return Responses(
        both(one.ids, other.ids, pad_id),
        both(one.mask, other.mask),
        torch.cat([one.ended, other.ended]),
        one.texts + other.texts,
    )


def microbatches(group: Int64[Tensor, " B"], length: Int64[Tensor, " B"], rows: int) -> list[Int64[Tensor, " b"]]:
    """Row numbers in parts of at most `rows`, those with the longest answers first, so that memory is known at once.

    Rows of one group stand together: they share the pass of their prompt where they are in the same part, as they all
    are where `rows` is a multiple of the group's size.
    """
    if not len(group):
        return []
    number = torch.unique(group, return_inverse=True)[1]
    most = torch.zeros(int(number.max()) + 1, dtype=length.dtype, device=length.device)
    most = most.scatter_reduce_(0, number, length, "amax")
    by_group = torch.argsort(number, stable=True)
    return list(by_group[torch.argsort(most[number[by_group]], descending=True, stable=True)].split(rows))


def tokens_read(prompts: Prompts, responses: Responses) -> int:
    """Tokens that one pass over these rows reads; equal prompts are read once."""
    if not len(prompts):
        return 0
    first, _ = distinct_prompts(prompts)
    return int(prompts.attention_mask[first].sum() + responses.mask.sum())
