"""Log-probabilities of given answers under a model, and the hidden states that VGPO looks at, from one forward pass.

The head is applied to the answers' tokens only, a chunk at a time, each computed again in the backward pass: nothing of
the size tokens x vocabulary is ever held whole. Answers to one prompt share the forward pass of the prompt and its
pictures; gradients add up through its keys and values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from agents.reasoning.decoding import final_states, read_prompts
from agents.reasoning.types import Prompts, Responses, Scored
from agents.reasoning.vlm import VLM
from core.errors import InputError


def score(
    vlm: VLM,
    prompts: Prompts,
    responses: Responses,
    *,
    temperature: float = 1.0,
    chunk: int = 256,
    rows: int = 0,
    entropy: bool = False,
    hidden: bool = False,
    grad: bool = False,
) -> Scored:
    """What the model says about the answer in each row to the prompt of that row.

    The distribution is the one `generate` draws from: ids that stand for pictures have probability 0, and logits are
    divided by the temperature (top_p is left out of account, as usual).

    Args:
        chunk: tokens of which logits are held at once.
        rows: in one forward pass; 0 = all. Rows of one prompt are cheapest in the same pass.
        entropy: also that of every distribution, in nats.
        hidden: also the states after the final norm where each token is the input, and their mean over the prompt's
            picture tokens, both without gradient (VGPO, arXiv:2604.09349).
        grad: keep the graph, for an update.

    Raises:
        InputError: prompts and responses differ in number, or the temperature is not positive.
    """
    count = len(prompts)
    if len(responses.ids) != count:
        raise InputError(f"{count} prompts and {len(responses.ids)} answers: repeat the prompts (Prompts.repeat)")
    if temperature <= 0 or chunk < 1:
        raise InputError(f"temperature={temperature} must be above 0 and chunk={chunk} at least 1")
    with torch.set_grad_enabled(grad):
        parts = []
        for start in range(0, count, rows or count):
            here = torch.arange(start, min(count, start + (rows or count)))
            parts.append(
                _score_rows(vlm, prompts.rows(here), responses.rows(here), temperature, chunk, entropy, hidden)
            )
    return parts[0] if len(parts) == 1 else _joined(parts)


def _score_rows(
    vlm: VLM, prompts: Prompts, responses: Responses, temperature: float, chunk: int, entropy: bool, hidden: bool
) -> Scored:
    states = answer_states(vlm, prompts, responses, as_inputs=hidden)
    where = responses.mask[:, : states.predicting.shape[1]].flatten().nonzero().squeeze(1)
    chosen = states.predicting.flatten(0, 1).index_select(0, where)
    tokens = responses.ids[:, : states.predicting.shape[1]].flatten().index_select(0, where)
    found = token_log_probs(
        vlm.lm_head(), chosen, tokens, never=vlm.vision_ids, temperature=temperature, chunk=chunk, entropy=entropy
    )

    def back(values: Tensor) -> Tensor:
        flat = values.new_zeros(states.predicting.shape[:2]).flatten().index_copy(0, where, values)
        return _widened(flat.view(states.predicting.shape[:2]), responses.ids.shape[1])

    return Scored(
        log_prob=back(found[0]),
        entropy=back(found[1]) if entropy else None,
        hidden=None if states.as_inputs is None else _widened(states.as_inputs, responses.ids.shape[1]),
        prototype=states.prototype,
        sees=prompts.on_picture.any(1) if hidden else None,
    )


def token_log_probs(
    head: Any,
    states: Float[Tensor, "N D"],
    tokens: Int64[Tensor, " N"],
    *,
    never: Sequence[int] = (),
    temperature: float = 1.0,
    chunk: int = 256,
    entropy: bool = False,
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Log-probability of each token where the head reads `states`, and the entropy (empty unless asked for).

    Args:
        never: ids of probability 0.
        chunk: states of which logits are held at once; with gradients, computed again in the backward pass.
    """
    banned = torch.tensor(sorted(never), dtype=torch.int64, device=states.device)

    def read(part: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        logits = (head(part).float() / temperature).index_fill(1, banned, -torch.inf)
        log_p = torch.log_softmax(logits, -1)
        said = log_p.gather(1, wanted[:, None]).squeeze(1)
        if not entropy:
            return said, said.new_empty(0)
        return said, -(log_p.exp() * log_p.index_fill(1, banned, 0.0)).sum(-1)  # 0 log 0 = 0

    found = []
    for part, wanted in zip(states.split(chunk), tokens.split(chunk)):
        if torch.is_grad_enabled():
            found.append(checkpoint(read, part, wanted, use_reentrant=False, preserve_rng_state=False))
        else:
            found.append(read(part, wanted))
    if not found:
        return states.new_zeros(0), states.new_zeros(0)
    return torch.cat([each[0] for each in found]), torch.cat([each[1] for each in found])


# --- the forward pass ---


@dataclass(frozen=True)
class AnswerStates:
    """States after the final norm; T is the longest answer, all-padding columns cut off."""

    predicting: Float[Tensor, "B T D"]  # where token t is what comes next
    as_inputs: Float[Tensor, "B T D"] | None  # where token t is what is read; no gradient
    prototype: Float[Tensor, "B D"] | None  # mean over the prompt's picture tokens; 0 without any; no gradient


def answer_states(vlm: VLM, prompts: Prompts, responses: Responses, *, as_inputs: bool) -> AnswerStates:
    """One forward pass of prompts and answers, equal prompts once.

    With gradient checkpointing transformers keeps no keys and values, so every row then reads its own prompt.
    """
    prompts = without_empty_columns(prompts)
    length = max(1, int(responses.mask.sum(1).max()))
    ids, mask = responses.ids[:, :length], responses.mask[:, :length]
    first, owner = distinct_prompts(prompts)
    checkpointing = bool(getattr(vlm.model, "is_activation_checkpointing", False)) and vlm.model.training
    if len(first) < len(prompts) and not checkpointing:
        return _shared(vlm, prompts.rows(first), owner.to(ids.device), ids, mask, as_inputs)
    start = prompts.input_ids.shape[1]
    cut = Responses(ids, mask, responses.ended, responses.texts)
    states = final_states(vlm, vlm.forward_inputs(prompts, cut))
    read = states[:, start:].detach() if as_inputs else None
    prototype = _prototype(states[:, :start], prompts.on_picture) if as_inputs else None
    return AnswerStates(states[:, start - 1 : -1], read, prototype)


def _shared(
    vlm: VLM, prompts: Prompts, owner: Int64[Tensor, " B"], ids: Tensor, mask: Bool[Tensor, "B T"], as_inputs: bool
) -> AnswerStates:
    """Each prompt once; its keys and values serve all its answers."""
    before = read_prompts(vlm, prompts)
    prototype = _prototype(before.states, prompts.on_picture).index_select(0, owner) if as_inputs else None
    predicting = before.states[:, -1:].index_select(0, owner)
    read = ids if as_inputs else ids[:, :-1]
    if not read.shape[1]:
        return AnswerStates(predicting, None, prototype)
    for layer in before.cache.layers:
        layer.keys, layer.values = layer.keys.index_select(0, owner), layer.values.index_select(0, owner)
    own = mask[:, : read.shape[1]].to(before.attention_mask.dtype)
    language: Any = vlm.family.language_model(vlm.model)
    after = language(
        input_ids=read,
        attention_mask=torch.cat([before.attention_mask.index_select(0, owner), own], 1),
        position_ids=before.positions(read.shape[1]).index_select(-2, owner),
        past_key_values=before.cache,
        use_cache=True,
    ).last_hidden_state
    predicting = torch.cat([predicting, after[:, : ids.shape[1] - 1]], 1)
    return AnswerStates(predicting, after.detach() if as_inputs else None, prototype)


def distinct_prompts(prompts: Prompts) -> tuple[list[int], Int64[Tensor, " B"]]:
    """First row of each different prompt, and for every row the place of its prompt among these.

    Prompts are the same when tokens, padding and the very tensors of their pictures are.
    """
    ids, padding = prompts.input_ids.cpu().numpy(), prompts.attention_mask.cpu().numpy()
    places: dict[Any, int] = {}
    first: list[int] = []
    owner = []
    for row, pictures in enumerate(prompts.pictures):
        shown = tuple(value.data_ptr() for value in pictures.values())
        place = places.setdefault((shown, ids[row].tobytes(), padding[row].tobytes()), len(first))
        if place == len(first):
            first.append(row)
        owner.append(place)
    return first, torch.tensor(owner)


def without_empty_columns(prompts: Prompts) -> Prompts:
    """The prompts without the columns on the left that are padding in every row."""
    used = prompts.attention_mask.any(0).nonzero()
    start = int(used[0]) if len(used) else 0
    if start == 0:
        return prompts
    return Prompts(
        prompts.input_ids[:, start:],
        prompts.attention_mask[:, start:],
        prompts.on_picture[:, start:],
        prompts.pictures,
    )


def _prototype(states: Float[Tensor, "B L D"], on_picture: Bool[Tensor, "B L"]) -> Float[Tensor, "B D"]:
    shown = on_picture[..., None].to(states.dtype)
    return ((states * shown).sum(1) / shown.sum(1).clamp(min=1)).detach()


def _widened(values: Tensor, length: int) -> Tensor:
    """(B, t, ...) with zeros behind, up to `length`."""
    missing = length - values.shape[1]
    if not missing:
        return values
    return torch.cat([values, values.new_zeros(len(values), missing, *values.shape[2:])], 1)


def _joined(parts: list[Scored]) -> Scored:
    def together(name: str) -> Tensor | None:
        found = [getattr(part, name) for part in parts]
        return None if found[0] is None else torch.cat(found)

    log_prob = together("log_prob")
    assert log_prob is not None
    return Scored(log_prob, together("entropy"), together("hidden"), together("prototype"), together("sees"))
