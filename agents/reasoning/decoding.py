"""Tokens one at a time from the text decoder of an image-text model, behind a prompt that was read once.

Keys and values live in tensors with room for the whole answer and are written in place: transformers' `DynamicCache`
copies all of them at every token. The prompt is read once for all its answers; rows that have ended can be left out.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from agents.reasoning.types import Prompts
from agents.reasoning.vlm import VLM, next_position


def final_states(vlm: VLM, inputs: dict[str, Any]) -> Float[Tensor, "B S D"]:
    """States after the final norm; transformers applies the head as well, here to one position only."""
    held: list[Tensor] = []
    hook = vlm.final_norm().register_forward_hook(lambda module, given, made: held.append(made))
    try:
        vlm.model(**({"use_cache": False} | inputs), logits_to_keep=1)
    finally:
        hook.remove()
    return held[-1]


@dataclass(frozen=True)
class PromptsRead:
    """Prompts that went through the model, pictures included."""

    states: Float[Tensor, "P L D"]  # after the final norm; with left padding the last column is a token in every row
    attention_mask: Int64[Tensor, "P L"]
    position_ids: Int64[Tensor, "... P L"]
    cache: Any  # of transformers: their keys and values

    def positions(self, steps: int) -> Int64[Tensor, "... P steps"]:
        """Of the tokens that follow; words have the same one on all axes (Qwen2-VL, arXiv:2409.12191, section 2.1)."""
        following = next_position(self.position_ids)[:, None] + torch.arange(steps, device=self.position_ids.device)
        return following.expand(*self.position_ids.shape[:-1], steps)


def read_prompts(vlm: VLM, prompts: Prompts) -> PromptsRead:
    """One forward pass of the prompts, each with its pictures."""
    inputs, cache = vlm.forward_inputs(prompts), DynamicCache()
    states = final_states(vlm, {**inputs, "past_key_values": cache, "use_cache": True})
    return PromptsRead(states, inputs["attention_mask"], inputs["position_ids"], cache)


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer with room behind them: `keys` and `values` are views of what is written so far."""

    def __init__(self, keys: Float[Tensor, "P H L D"], values: Float[Tensor, "P H L D"], times: int, room: int) -> None:
        """Each prompt `times` times in a row, with room for `room` further tokens."""
        super().__init__()
        self.held = [_with_room(part, times, room) for part in (keys, values)]
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._show(keys.shape[2])

    def _show(self, length: int) -> None:
        self.keys, self.values = (held[:, :, :length] for held in self.held)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Writes new tokens behind the old ones, in place; returns all so far."""
        start = self.keys.shape[2]
        end = start + key_states.shape[2]
        for held, new in zip(self.held, (key_states, value_states)):
            held[:, :, start:end] = new
        self._show(end)
        return self.keys, self.values

    def keep(self, rows: Int64[Tensor, " K"]) -> None:
        """Leaves out all other rows."""
        self.held = [part.index_select(0, rows) for part in self.held]
        self._show(self.keys.shape[2])


def _with_room(part: Tensor, times: int, room: int) -> Tensor:
    count, heads, length, width = part.shape
    held = part.new_empty(count * times, heads, length + room, width)
    held.view(count, times, heads, length + room, width)[:, :, :, :length] = part[:, None]
    return held


class Decoder:
    """The answers so far of some rows; any model of transformers with a key-value cache."""

    def __init__(self, vlm: VLM, read: PromptsRead, times: int, room: int) -> None:
        """
        Args:
            times: answers to each prompt, next to each other.
            room: tokens that an answer may have.
        """
        self.language: Any = vlm.family.language_model(vlm.model)
        self.head = vlm.lm_head()
        self.layers = [RoomyLayer(layer.keys, layer.values, times, room) for layer in read.cache.layers]
        self.cache = Cache(layers=list(self.layers))
        ones = read.attention_mask.new_ones(len(read.attention_mask), room)
        self.mask = torch.cat([read.attention_mask, ones], 1).repeat_interleave(times, 0)
        self.positions = read.positions(room).repeat_interleave(times, -2)
        self.before, self.step = read.attention_mask.shape[1], 0

    def logits(self, tokens: Int64[Tensor, " B"]) -> Float[Tensor, "B V"]:
        """What comes after `tokens`, the next ones of each row."""
        here = self.step
        self.step += 1
        states = self.language(
            input_ids=tokens[:, None],
            attention_mask=self.mask[:, : self.before + here + 1],
            position_ids=self.positions[..., here : here + 1],
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        return self.head(states[:, -1])

    def keep(self, rows: Int64[Tensor, " K"]) -> None:
        """Leaves out all other rows."""
        self.mask = self.mask.index_select(0, rows)
        self.positions = self.positions.index_select(-2, rows)
        for layer in self.layers:
            layer.keep(rows)
