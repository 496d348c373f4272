"""Tokens one at a time from the text decoder of an image-text model, behind a prompt that was read once.

Keys and values live in tensors with room for the whole answer and are written in place: transformers' `DynamicCache`
copies all of them at every token. The prompt is read once for all its answers; rows that have ended can be left out.
`LlamaDecoder` walks through layers of Llama's shape itself, since for one token a row most of the time of transformers'
own walk is Python's; its modules and thus adapters within them are those of the model.
"""

from dataclasses import dataclass
from typing import Any, Final

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
        self.language: Any = vlm.family.language_model(vlm.model)
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

    def keep(self, rows: Int64[Tensor, " K"]) -> None:
        """Leaves out all other rows."""
        self.mask = self.mask.index_select(0, rows)
        self.positions = self.positions.index_select(-2, rows)
        for layer in self.kept:
            layer.keep(rows)


LLAMA_SHAPED: Final = ("LlamaDecoderLayer", "Qwen2DecoderLayer", "Qwen2VLDecoderLayer", "Qwen2_5_VLDecoderLayer")
"""Layers of transformers: RMS norm, rotated heads, SwiGLU, every token seen by all later ones."""


class LlamaDecoder(Decoder):
    """The same from layers of Llama's shape (arXiv:2302.13971, section 2.2), one walk through their modules a token."""

    def __init__(self, vlm: VLM, read: PromptsRead, times: int, room: int) -> None:
        super().__init__(vlm, read, times, room)
        # words have one position on all axes, so M-RoPE is plain rotation here; (B, T, D)
        cosine, sine = self.language.rotary_emb(read.states, self.positions)
        sine = torch.cat([-sine[..., : sine.shape[-1] // 2], sine[..., sine.shape[-1] // 2 :]], -1)
        self.cosine, self.sine = (part.transpose(0, 1)[:, :, None].contiguous() for part in (cosine, sine))
        self.bias: Tensor | None = None  # without padding everything is seen
        if not bool(read.attention_mask.all()):
            bias = torch.zeros(self.mask.shape, dtype=read.cache.layers[0].keys.dtype, device=self.mask.device)
            self.bias = bias.masked_fill(self.mask == 0, -torch.inf)[:, None, None]

    @classmethod
    def reads(cls, vlm: VLM) -> bool:
        """Whether it can stand in for the model's own walk."""
        language: Any = vlm.family.language_model(vlm.model)
        plain = all(type(layer).__name__ in LLAMA_SHAPED for layer in language.layers)
        kinds = set(getattr(language.config, "layer_types", None) or ["full_attention"])
        return plain and kinds == {"full_attention"}

    def logits(self, tokens: Int64[Tensor, " B"]) -> Float[Tensor, "B V"]:
        cosine, sine = self.cosine[self.step], self.sine[self.step]
        self.step += 1
        end = self.before + self.step
        bias = None if self.bias is None else self.bias[..., :end]
        states = self.language.embed_tokens(tokens)
        for layer, kept in zip(self.language.layers, self.kept):
            attention, mlp = layer.self_attn, layer.mlp
            width = attention.head_dim
            read = _normed(states, layer.input_layernorm)
            query = _rotated(attention.q_proj(read).unflatten(-1, (-1, width)), cosine, sine)
            key = _rotated(attention.k_proj(read).unflatten(-1, (-1, width)), cosine, sine)
            value = attention.v_proj(read).unflatten(-1, (-1, width))
            keys, values = kept.append(key[:, :, None], value[:, :, None])
            # query heads that share keys stand where tokens would: (B, H, heads per key, D)
            query = query.unflatten(1, (keys.shape[1], -1)).to(keys.dtype)
            seen = functional.scaled_dot_product_attention(query, keys, values, bias, scale=attention.scaling)
            states = states + attention.o_proj(seen.flatten(1))
            read = _normed(states, layer.post_attention_layernorm)
            states = states + mlp.down_proj(mlp.act_fn(mlp.gate_proj(read)) * mlp.up_proj(read))
        return self.head(_normed(states, self.language.norm))

    def keep(self, rows: Int64[Tensor, " K"]) -> None:
        super().keep(rows)
        self.cosine, self.sine = self.cosine.index_select(1, rows), self.sine.index_select(1, rows)
        if self.bias is not None:
            self.bias = self.bias.index_select(0, rows)


def _normed(states: Float[Tensor, "B D"], norm: Any) -> Float[Tensor, "B D"]:
    return functional.rms_norm(states, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _rotated(
    heads: Float[Tensor, "B H D"], cosine: Float[Tensor, "B 1 D"], sine: Float[Tensor, "B 1 D"]
) -> Float[Tensor, "B H D"]:
    """RoPE (arXiv:2104.09864, equation 34, halves in transformers' order); the sines' first half comes negated."""
    return torch.addcmul(heads * cosine, heads.roll(heads.shape[-1] // 2, -1), sine)


def decoder_for(vlm: VLM, read: PromptsRead, times: int, room: int) -> Decoder:
    """The quickest decoder that can read the model."""
    return (LlamaDecoder if LlamaDecoder.reads(vlm) else Decoder)(vlm, read, times, room)
