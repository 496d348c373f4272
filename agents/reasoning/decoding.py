"""Tokens one at a time from the text decoder of an image-text model, behind a prompt that was read once.

Keys and values live in tensors with room for the whole answer and are written in place: transformers' `DynamicCache`
copies all of them at every token. The prompt is read once for all its answers; rows that have ended can be left out.
`LlamaDecoder` walks through layers of Llama's shape itself, so that the prompt's keys and values are also held and read
once for all its answers; their modules, and thus adapters within them, are called as they are.
"""

from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional
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
        self.length = keys.shape[2]
        self._show()

    def _show(self) -> tuple[Tensor, Tensor]:
        keys, values = (held[:, :, : self.length] for held in self.held)
        self.keys, self.values = keys, values
        return keys, values

    def append(self, keys: Float[Tensor, "B H 1 D"], values: Float[Tensor, "B H 1 D"]) -> tuple[Tensor, Tensor]:
        """Writes new tokens behind the old ones, in place; returns all so far."""
        start, self.length = self.length, self.length + keys.shape[2]
        for held, new in zip(self.held, (keys, values)):
            held[:, :, start : self.length] = new
        return self._show()

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return self.append(key_states, value_states)

    def keep(self, rows: Int64[Tensor, " K"]) -> None:
        """Leaves out all other rows."""
        self.held = [part.index_select(0, rows) for part in self.held]
        self._show()


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
        self.language = cast(Any, vlm.family.language_model(vlm.model))
        self.head = vlm.lm_head()
        self.kept = [RoomyLayer(layer.keys, layer.values, times, room) for layer in read.cache.layers]
        self.cache = Cache(layers=list(self.kept))
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

    def keep(self, rows: Int64[Tensor, " K"], times: int) -> None:
        """Leaves out all other rows; of those kept, `times` next to each other answer one prompt."""
        self.mask = self.mask.index_select(0, rows)
        self.positions = self.positions.index_select(-2, rows)
        for layer in self.kept:
            layer.keep(rows)


LLAMA_SHAPED: Final = ("LlamaDecoderLayer", "Qwen2DecoderLayer", "Qwen2VLDecoderLayer", "Qwen2_5_VLDecoderLayer")
"""Layers of transformers: RMS norm, rotated heads, SwiGLU, every token seen by all later ones."""


class LlamaDecoder:
    """The same from layers of Llama's shape (arXiv:2302.13971, section 2.2), one walk through their modules a token.

    Answers to a prompt look at one copy of its keys and values, so that these are read once a token for all of them.
    """

    def __init__(self, vlm: VLM, read: PromptsRead, times: int, room: int) -> None:
        """Arguments as of `Decoder`."""
        self.language = cast(Any, vlm.family.language_model(vlm.model))
        self.head = vlm.lm_head()
        self.times, self.step = times, 0
        self.prompt = [(layer.keys, layer.values) for layer in read.cache.layers]  # each (P, H, L, D)
        first = self.prompt[0][0]
        shape = (*first.shape[:2], times, room, first.shape[-1])
        self.own = [(first.new_empty(shape), first.new_empty(shape)) for _ in self.prompt]  # (P, H, times, room, D)
        # words have one position on all axes, so M-RoPE is plain rotation here
        cosine, sine = self.language.rotary_emb(read.states, read.positions(room))
        sine = torch.cat([-sine[..., : sine.shape[-1] // 2], sine[..., sine.shape[-1] // 2 :]], -1)
        self.cosine, self.sine = (part.repeat_interleave(times, 0)[:, :, None] for part in (cosine, sine))
        self.padding = (read.attention_mask == 0)[:, None, None, None]
        self.padded = bool(self.padding.any())

    @classmethod
    def reads(cls, vlm: VLM) -> bool:
        """Whether it can stand in for the model's own walk."""
        language: Any = vlm.family.language_model(vlm.model)
        plain = all(type(layer).__name__ in LLAMA_SHAPED for layer in language.layers)
        kinds = set(getattr(language.config, "layer_types", None) or ["full_attention"])
        return plain and kinds == {"full_attention"}

    def logits(self, tokens: Int64[Tensor, " B"]) -> Float[Tensor, "B V"]:
        """What comes after `tokens`, the next ones of each row."""
        cosine, sine = self.cosine[:, self.step], self.sine[:, self.step]
        states = self.language.embed_tokens(tokens)
        for number, layer in enumerate(self.language.layers):
            attention, mlp = layer.self_attn, layer.mlp
            width = attention.head_dim
            read = _normed(states, layer.input_layernorm)
            query = _rotated(attention.q_proj(read).unflatten(-1, (-1, width)), cosine, sine) * attention.scaling
            key = _rotated(attention.k_proj(read).unflatten(-1, (-1, width)), cosine, sine)
            value = attention.v_proj(read).unflatten(-1, (-1, width))
            states = states + attention.o_proj(self._seen(number, query, key, value))
            read = _normed(states, layer.post_attention_layernorm)
            states = states + mlp.down_proj(mlp.act_fn(mlp.gate_proj(read)) * mlp.up_proj(read))
        self.step += 1
        return self.head(_normed(states, self.language.norm))

    def _seen(
        self, number: int, query: Float[Tensor, "B Q D"], key: Float[Tensor, "B H D"], value: Float[Tensor, "B H D"]
    ) -> Float[Tensor, "B QD"]:
        """Attention of one new token a row to its prompt, to its answer so far and to itself."""
        (keys, values), (own_keys, own_values) = self.prompt[number], self.own[number]
        count, heads, length, width = keys.shape
        own_keys[:, :, :, self.step] = key.view(count, self.times, heads, width).transpose(1, 2)
        own_values[:, :, :, self.step] = value.view(count, self.times, heads, width).transpose(1, 2)
        own_keys, own_values = own_keys[:, :, :, : self.step + 1], own_values[:, :, :, : self.step + 1]
        # (P, H, times, query heads to a key, D)
        asked = query.to(keys.dtype).view(count, self.times, heads, -1, width).transpose(1, 2)
        to_prompt = (asked.flatten(2, 3) @ keys.transpose(2, 3)).unflatten(2, asked.shape[2:4])
        if self.padded:
            to_prompt = to_prompt.masked_fill(self.padding, -torch.inf)
        scores = torch.cat([to_prompt, asked @ own_keys.transpose(3, 4)], -1)
        weight = torch.softmax(scores, -1, dtype=torch.float32).to(values.dtype)
        seen = (weight[..., :length].flatten(2, 3) @ values).unflatten(2, asked.shape[2:4])
        seen = seen + weight[..., length:] @ own_values
        return seen.transpose(1, 2).reshape(len(query), -1)

    def keep(self, rows: Int64[Tensor, " K"], times: int) -> None:
        """Leaves out all other rows."""
        places = rows // self.times
        prompts, within = places[::times], (rows % self.times).view(-1, times)
        self.prompt = [(keys[prompts], values[prompts]) for keys, values in self.prompt]
        self.own = [
            (
                keys[prompts[:, None], :, within].transpose(1, 2).contiguous(),
                values[prompts[:, None], :, within].transpose(1, 2).contiguous(),
            )
            for keys, values in self.own
        ]
        self.cosine, self.sine = self.cosine[rows], self.sine[rows]
        self.padding, self.times = self.padding[prompts], times


def _normed(states: Float[Tensor, "B D"], norm: Any) -> Float[Tensor, "B D"]:
    return functional.rms_norm(states, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _rotated(
    heads: Float[Tensor, "B H D"], cosine: Float[Tensor, "B 1 D"], sine: Float[Tensor, "B 1 D"]
) -> Float[Tensor, "B H D"]:
    """RoPE (arXiv:2104.09864, equation 34, halves in transformers' order); the sines' first half comes negated."""
    return torch.addcmul(heads * cosine, heads.roll(heads.shape[-1] // 2, -1), sine)


def decoder_for(vlm: VLM, read: PromptsRead, times: int, room: int) -> Decoder | LlamaDecoder:
    """The quickest decoder that can read the model."""
    return LlamaDecoder(vlm, read, times, room) if LlamaDecoder.reads(vlm) else Decoder(vlm, read, times, room)
