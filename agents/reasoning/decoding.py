"""Tokens one at a time from the text decoder of an image-text model, behind a prompt that was read once.

Keys and values live in tensors with room for the whole answer and are written in place: transformers' `DynamicCache`
copies all of them at every token. The prompt is read once for all its answers; rows that have ended can be left out.
"""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


def positions_after(position_ids: Int64[Tensor, "*axes B L"], steps: int) -> Int64[Tensor, "*axes B steps"]:
    """Positions of the tokens after prompts, words as they all are.

    With the three axes of M-RoPE (Qwen2-VL, arXiv:2409.12191, section 2.1) words go on from the largest of the three,
    alike on each; a fourth row before them counts plain tokens and goes on by itself.
    """
    last = position_ids.amax(-1, keepdim=True)
    if position_ids.ndim == 3:
        spatial = last[-3:].amax(0, keepdim=True).expand(3, -1, -1)
        last = torch.cat([last[:-3], spatial])
    return last + torch.arange(1, steps + 1, device=last.device)


def text_decoder(model: Any) -> Any:
    """The text decoder within an image-text model (embeddings, layers, final norm), within an adapter or not."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.get_decoder()


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

    def __init__(
        self,
        model: Any,
        head: Any,
        cache: Any,
        attention_mask: Int64[Tensor, "P L"],
        position_ids: Int64[Tensor, "*axes P L"],
        times: int,
        room: int,
    ) -> None:
        """
        Args:
            head: from states to logits.
            cache: of transformers, filled by the prompts.
            times: answers to each prompt.
            room: tokens that an answer may have.
        """
        self.decoder, self.head = text_decoder(model), head
        self.layers = [RoomyLayer(layer.keys, layer.values, times, room) for layer in cache.layers]
        self.cache = Cache(layers=self.layers)
        ones = attention_mask.new_ones(len(attention_mask), room)
        self.mask = torch.cat([attention_mask, ones], 1).repeat_interleave(times, 0)
        self.positions = positions_after(position_ids, room).repeat_interleave(times, -2)
        self.before, self.step = attention_mask.shape[1], 0

    def logits(self, tokens: Int64[Tensor, " B"]) -> Float[Tensor, "B V"]:
        """What comes after `tokens`, the next ones of each row."""
        here = self.step
        self.step += 1
        states = self.decoder(
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
