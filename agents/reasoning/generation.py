"""Answers of a vision-language model to prompts with pictures: one function, behind which another engine can stand.

Pictures and prompts go through the model once, however many answers each gets. Every row draws with noise of its own, a
function of seed, row and token, so that neighbours in a batch change an answer only through float sums.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from agents.reasoning.decoding import decoder_for, read_prompts
from agents.reasoning.types import Prompts, Responses
from agents.reasoning.vlm import VLM
from core.errors import InputError

LOOK_EVERY: Final = 4  # tokens between looks at which rows have ended; on CUDA each look waits for the device


class GenerateFn(Protocol):
    """Another engine (vLLM and the like) that answers prompts; arguments and result as of `generate`."""

    def __call__(
        self,
        vlm: VLM,
        prompts: Prompts,
        *,
        samples: int,
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        generator: torch.Generator,
        first_prompt: int | Sequence[int],
    ) -> Responses: ...


def generate(
    vlm: VLM,
    prompts: Prompts,
    *,
    samples: int = 1,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    generator: torch.Generator,
    first_prompt: int | Sequence[int] = 0,
    engine: GenerateFn | None = None,
) -> Responses:
    """Draws answers; rows i * samples to (i + 1) * samples - 1 answer prompt i.

    Ids that stand for pictures are never drawn. The model works in evaluation mode and is given back in its own.

    Args:
        temperature: divides the logits; 0 takes the likeliest token.
        top_p: draw from the fewest likeliest tokens that together have this probability; ties to the lower id.
        generator: one number is drawn from it, the seed of the rows' noise.
        first_prompt: number of the first prompt in a batch that several processes share: with generators of one state
            they draw what one process would. Or the number of each prompt, where they do not stand in a row.
        engine: answers instead of the model here.

    Raises:
        InputError: a prompt with room for the answer is longer than the model reads; a number out of range; an engine
            that gives another number of answers.
    """
    _check(vlm, prompts, samples, max_new_tokens, temperature, top_p)
    asked: dict[str, Any] = {"samples": samples, "max_new_tokens": max_new_tokens, "first_prompt": first_prompt}
    asked |= {"temperature": temperature, "top_p": top_p, "generator": generator}
    if engine is None:
        return _generate(vlm, prompts, **asked)
    answers = engine(vlm, prompts, **asked)
    if len(answers.ids) != len(prompts) * samples:
        raise InputError(
            f"the generation engine gave {len(answers.ids)} answers to {len(prompts)} prompts, expected {samples} to "
            "each; see agents/reasoning/generation.py"
        )
    return answers


def _check(vlm: VLM, prompts: Prompts, samples: int, max_new_tokens: int, temperature: float, top_p: float) -> None:
    if samples < 1 or max_new_tokens < 1:
        raise InputError(f"samples={samples} and max_new_tokens={max_new_tokens} must be at least 1")
    if temperature < 0 or not 0 < top_p <= 1:
        raise InputError(f"temperature={temperature} must be at least 0, top_p={top_p} above 0 and at most 1")
    if not len(prompts):
        raise InputError("there is no prompt to answer")
    longest = int(prompts.attention_mask.sum(1).max())
    if longest + max_new_tokens > vlm.context:
        raise InputError(
            f"a prompt of {longest} tokens and an answer of up to {max_new_tokens} do not fit the model, which reads "
            f"{vlm.context}: shorten the prompt or lower max_new_tokens"
        )


@torch.no_grad()
def _generate(
    vlm: VLM,
    prompts: Prompts,
    *,
    samples: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    generator: torch.Generator,
    first_prompt: int | Sequence[int],
) -> Responses:
    count, device = len(prompts) * samples, prompts.input_ids.device
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    numbers = range(first_prompt, first_prompt + len(prompts)) if isinstance(first_prompt, int) else first_prompt
    keys = [number * samples + sample for number in numbers for sample in range(samples)]
    noise = row_noise(seed, keys, max_new_tokens).to(device)
    never = torch.tensor(sorted(vlm.vision_ids), dtype=torch.int64, device=device)
    ends = torch.tensor(vlm.eos_ids, dtype=torch.int64, device=device)
    ids = torch.full((count, max_new_tokens), vlm.pad_id, dtype=torch.int64, device=device)
    with evaluating(vlm.model):
        read = read_prompts(vlm, prompts)
        logits = vlm.lm_head()(read.states[:, -1]).repeat_interleave(samples, 0)
        decoder = decoder_for(vlm, read, samples, max_new_tokens)
        del read
        rows = torch.arange(count, device=device)  # still asked for tokens
        times = samples  # of these, next to each other, answer one prompt
        alive = torch.ones(count, dtype=torch.bool, device=device)  # of those, not ended
        for step in range(max_new_tokens):
            logits = logits.float().index_fill(1, never, -torch.inf)
            tokens = draw(logits, noise[rows, step], temperature=temperature, top_p=top_p)
            ids[rows, step] = tokens
            alive &= torch.isin(tokens, ends, invert=True)
            if step + 1 == max_new_tokens:
                break
            if (step + 1) % LOOK_EVERY == 0:
                if not bool(alive.any()):
                    break
                left, most = still_asked(alive, times)
                if 2 * len(left) <= len(rows):  # moving the keys costs about as much as a few tokens
                    decoder.keep(left, most)
                    times, rows, tokens, alive = most, rows[left], tokens[left], alive[left]
            logits = decoder.logits(tokens)
    return _responses(vlm, ids, ends)


def still_asked(alive: Bool[Tensor, " B"], times: int) -> tuple[Int64[Tensor, " K"], int]:
    """Rows with which to go on, as many for each prompt that has one alive, in order; and how many that is.

    Args:
        times: rows of a prompt so far, next to each other.
    """
    groups = alive.view(-1, times)
    most = int(groups.sum(1).max())
    # those alive first, and each in its place among the others
    chosen = groups.long().argsort(dim=1, descending=True, stable=True)[:, :most].sort(1).values
    first = torch.arange(len(groups), device=alive.device)[:, None] * times
    return (first + chosen)[groups.any(1)].flatten(), most


def _responses(vlm: VLM, ids: Int64[Tensor, "B T"], ends: Int64[Tensor, " E"]) -> Responses:
    """Cuts each row after its first end token, and all behind the longest."""
    end = torch.isin(ids, ends)
    mask = end.cumsum(1) - end.long() == 0  # no end before
    length = int(mask.sum(1).max())
    ids, mask, end = ids[:, :length], mask[:, :length], end[:, :length]
    ids = ids.masked_fill(~mask, vlm.pad_id)
    return Responses(ids, mask, (end & mask).any(1), tuple(vlm.decode(ids, mask)))


def draw(
    logits: Float[Tensor, "B V"], uniform: Float[Tensor, " B"], *, temperature: float, top_p: float
) -> Int64[Tensor, " B"]:
    """One token a row: where `uniform`, in [0, 1), falls in the cumulated probabilities; one of probability 0 never."""
    if temperature == 0:
        return logits.argmax(-1)
    probability = torch.softmax(logits / temperature, -1)
    if top_p < 1:
        sorted_p, order = probability.sort(dim=-1, descending=True, stable=True)
        sorted_p = sorted_p.masked_fill(sorted_p.cumsum(-1) - sorted_p >= top_p, 0.0)
        probability = torch.zeros_like(probability).scatter(-1, order, sorted_p)
    cumulated = probability.cumsum(-1)
    total = cumulated[:, -1:]
    # rounding may lift the point to the total, which would be behind the last token
    point = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulated, point, right=True).squeeze(1)


def row_noise(seed: int, rows: Sequence[int], steps: int) -> Float[Tensor, "B T"]:
    """Uniform numbers in [0, 1), each a function of seed, row and step (Philox with seed and row as its key)."""
    drawn = np.empty((len(rows), steps), dtype=np.float32)
    for place, row in enumerate(rows):
        np.random.Generator(np.random.Philox(key=[seed, row])).random(out=drawn[place], dtype=np.float32)
    return torch.from_numpy(drawn)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, each module back in its own afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
