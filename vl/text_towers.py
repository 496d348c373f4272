"""Text towers: any text encoder of transformers, from a directory or from random weights, with one way to call them.

Padding is never attended and never pooled. (SigLIP was trained with padding in sight: with pool=pooler its text is
padded to full length and read without a mask, as it was made.)
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from core.errors import InputError, check_choice
from vl.encoded import Encoded
from vl.encoders import add_lora, drop_pooler, encoder_config, final_norm, load_encoder, new_encoder
from vl.layers import causal_mask

TEXT_ENCODERS = (
    "albert", "bert", "clip_text_model", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta",
    "siglip_text_model",
)  # fmt: skip
"""Some model types to suggest; transformers knows more."""

TEXT_GROUPS = 4
"""Groups of similar length that a batch of texts is read in: captions differ by a factor of five in length."""

POSITIONS_AFTER_PADDING = ("camembert", "longformer", "mpnet", "roberta", "xlm-roberta", "xmod")
"""Encoders whose first word has position pad_token_id + 1."""

ALWAYS_CAUSAL = ("clip_text_model",)
"""Encoders in which a word never sees later ones."""


@dataclass
class TextTowerConfig:
    """Which text encoder: weights from `pretrained`, or a random start of `model_type` with `options`."""

    pretrained: str = ""  # transformers hub id or directory, wins over model_type; empty = random start
    model_type: str = "bert"  # any text encoder of transformers
    options: dict[str, Any] = field(default_factory=dict)  # fields of that transformers config (random start only)
    pool: str = "mean"  # mean over words, cls = first, eos = last, pooler = the encoder's own pooled vector
    freeze: bool = False  # no gradient, eval mode also in training
    lora: int = 0  # rank of adapters on every linear layer (extra `peft`); 0 = none

    def __post_init__(self) -> None:
        check_choice("text pool", self.pool, ("mean", "cls", "eos", "pooler"))
        if self.lora < 0:
            raise InputError(f"text lora={self.lora} should not be negative")
        if self.freeze and self.lora:
            raise InputError(f"text freeze=true with lora={self.lora}: adapters keep the weights; leave freeze out")
        if self.pretrained and self.options:
            raise InputError(f"text options={self.options} shape a random start; {self.pretrained} has its own shape")


class TextTower(nn.Module):
    """Tokens to states and, where the rule is not the mean, one pooled vector."""

    def __init__(self, config: TextTowerConfig, encoder: Any) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.kind = str(encoder.config.model_type)
        self.frozen = config.freeze
        self.pads_to_full = self.kind == "siglip_text_model" and config.pool == "pooler"
        self._is_causal = self.kind in ALWAYS_CAUSAL
        if config.pool != "pooler":
            drop_pooler(encoder)
        elif self.kind not in ("clip_text_model", "siglip_text_model") and getattr(encoder, "pooler", None) is None:
            raise InputError(f"text pool=pooler: {self.kind} makes no pooled vector; take mean, cls or eos")
        if config.freeze:
            encoder.requires_grad_(False)
        if config.lora:
            add_lora(encoder, config.lora)

    @property
    def width(self) -> int:
        """Of states."""
        return int(self.encoder.config.hidden_size)

    @property
    def depth(self) -> int:
        """Layers it can hand on."""
        return int(self.encoder.config.num_hidden_layers)

    @property
    def vocab_size(self) -> int:
        return int(self.encoder.config.vocab_size)

    def train(self, mode: bool = True) -> "TextTower":
        """A frozen tower stays in eval mode."""
        return super().train(mode and not self.frozen)

    def forward(
        self,
        input_ids: Int64[Tensor, "B L"],
        attention_mask: Int64[Tensor, "B L"],
        keep: int = 1,
        *,
        causal: bool = False,
    ) -> Encoded:
        """States without embedding. Rows are read in groups of similar length, each without its padding.

        Args:
            attention_mask: 1 at real tokens, which come first in each row.
            keep: layers to hand on, after the encoder's final norm where it has one.
            causal: a word sees no later ones (captioning). CLIP's text encoder is always so.

        Raises:
            InputError: causal with an encoder that cannot be (DeBERTa, SigLIP's own pooled vector).
        """
        mask, length = attention_mask.bool(), input_ids.shape[1]
        if causal and not self._is_causal:
            self._check_causal(input_ids.device)
        if self.pads_to_full:
            return self._read_full(input_ids, mask, keep)
        lengths = mask.sum(1)
        if len(mask) < 2 * TEXT_GROUPS or int(lengths.min()) == length:
            return self._read(input_ids, mask, keep, causal)
        order = lengths.argsort(stable=True)
        parts = []
        for group in order.tensor_split(TEXT_GROUPS):
            longest = max(1, int(lengths[group[-1]]))
            part = self._read(input_ids[group, :longest], mask[group, :longest], keep, causal)
            part.layers = [F.pad(layer, (0, 0, 0, length - longest)) for layer in part.layers]
            parts.append(part)
        back = order.argsort()
        layers = [torch.cat(same)[back] for same in zip(*(part.layers for part in parts))]
        pooled = None if parts[0].pooled is None else torch.cat([p.pooled for p in parts if p.pooled is not None])[back]
        return Encoded(layers, mask, pooled)

    def _read(self, ids: Int64[Tensor, "B L"], mask: Bool[Tensor, "B L"], keep: int, causal: bool) -> Encoded:
        attention: Tensor = mask.long()
        if causal and self.kind not in ALWAYS_CAUSAL:
            attention = self._causal(mask)
        output = self.encoder(input_ids=ids, attention_mask=attention, output_hidden_states=keep > 1)
        last, norm = output.last_hidden_state, final_norm(self.encoder)
        below = list(output.hidden_states[-keep:-1]) if keep > 1 else []
        pooled = None
        if self.config.pool == "cls":
            pooled = last[:, 0]
        elif self.config.pool == "eos":
            pooled = last[torch.arange(len(last), device=last.device), mask.sum(1).clamp(min=1) - 1]
        elif self.config.pool == "pooler":
            pooled = output.pooler_output
        return Encoded([*(layer if norm is None else norm(layer) for layer in below), last], mask, pooled)

    def _read_full(self, ids: Int64[Tensor, "B L"], mask: Bool[Tensor, "B L"], keep: int) -> Encoded:
        """SigLIP's own way: padded to its full length, padding in sight, the last position pooled."""
        shape, length = self.encoder.config, ids.shape[1]
        pad = shape.pad_token_id if shape.pad_token_id is not None else 1
        full = F.pad(ids.masked_fill(~mask, pad), (0, shape.max_position_embeddings - length), value=pad)
        output = self.encoder(input_ids=full, output_hidden_states=keep > 1)
        norm = final_norm(self.encoder)
        below = [norm(layer) for layer in output.hidden_states[-keep:-1]] if keep > 1 and norm is not None else []
        layers = [layer[:, :length] for layer in (*below, output.last_hidden_state)]
        return Encoded(layers, mask, output.pooler_output)

    @torch.no_grad()
    def _check_causal(self, device: torch.device) -> None:
        """Reads two texts that differ in their last word: the states before it must not."""
        was, self._is_causal = self.encoder.training, True
        words = torch.tensor([[0, 1, 2], [0, 1, 3]], device=device) + max(0, min(5, self.vocab_size - 4))
        self.encoder.eval()
        try:
            states = self._read(words, torch.ones_like(words).bool(), 1, True).states
            leaks = self.pads_to_full or not torch.allclose(states[0, :2], states[1, :2], atol=1e-4)
        except RuntimeError:  # a mask of this shape is more than the encoder takes
            leaks = True
        self.encoder.train(was)
        if leaks:
            self._is_causal = False
            raise InputError(
                f"{self.kind} with pool={self.config.pool} cannot read causally, as captioning asks; take text "
                "model_type=bert, roberta, electra, distilbert, modernbert or clip_text_model"
            )

    def _causal(self, mask: Bool[Tensor, "B L"]) -> Tensor:
        """(B, 1, L, L): a row sees real columns up to itself; transformers hands a prepared mask on as it is."""
        seen = causal_mask(mask)
        if self.encoder.config._attn_implementation == "sdpa":
            return seen
        dtype = next(self.encoder.parameters()).dtype
        return torch.zeros(seen.shape, dtype=dtype, device=mask.device).masked_fill_(~seen, torch.finfo(dtype).min)


def random_encoder(config: TextTowerConfig, tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> Any:
    """The transformers config of a random start: ours for what is not in `options` (2 layers, 96 wide, no dropout).

    Raises:
        InputError: transformers does not know the model type, or its width does not split over its heads.
    """
    pad = int(tokenizer.pad_token_id)
    first = pad + 1 if config.model_type in POSITIONS_AFTER_PADDING else 0
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    defaults: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 192,
        "hidden_act": "relu",  # a fifth cheaper than GELU on a processor
        "max_position_embeddings": max_tokens + first,
        "pad_token_id": pad,
        "bos_token_id": tokenizer.bos_token_id if start is None else start,
        "eos_token_id": tokenizer.eos_token_id if end is None else end,
        "cls_token_id": start,
        "sep_token_id": end,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return encoder_config(config.model_type, config.options, defaults, what="text", suggested=TEXT_ENCODERS)


def build_text_tower(
    config: TextTowerConfig, tokenizer: PreTrainedTokenizerFast, max_tokens: int, saved: Any = None
) -> TextTower:
    """The tower of a config.

    Args:
        saved: the transformers config a saved model keeps: random weights in that shape, to be overwritten;
            `config.pretrained` is not looked up.

    Raises:
        InputError: the encoder does not load, or reads fewer tokens or words than asked.
    """
    if saved is not None:
        encoder = new_encoder(saved)
    elif config.pretrained:
        encoder = load_encoder(config.pretrained, "text encoder", pooled=config.pool == "pooler")
        encoder = getattr(encoder, "text_model", encoder)  # the text side of CLIP, SigLIP, ...
    else:
        encoder = new_encoder(random_encoder(config, tokenizer, max_tokens))
    shape = encoder.config
    if not hasattr(shape, "vocab_size"):
        raise InputError(f"{shape.model_type} reads no words; take model_type=bert or another text encoder")
    first = (shape.pad_token_id or 0) + 1 if shape.model_type in POSITIONS_AFTER_PADDING else 0
    positions = getattr(shape, "max_position_embeddings", None)
    if isinstance(positions, int) and positions - first < max_tokens:
        raise InputError(
            f"max_tokens={max_tokens} is more than the {positions - first} tokens that the text encoder "
            f"({shape.model_type}) reads; lower max_tokens"
        )
    if len(tokenizer) > shape.vocab_size:
        raise InputError(
            f"the tokenizer has {len(tokenizer)} tokens, the text encoder ({shape.model_type}) knows "
            f"{shape.vocab_size}; use the encoder's own tokenizer"
        )
    return TextTower(config, encoder)


def tokenize(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], max_tokens: int
) -> tuple[Int64[Tensor, "B L"], Int64[Tensor, "B L"]]:
    """Ids padded to the longest text, and the attention mask.

    Raises:
        InputError: a text has more than `max_tokens` tokens.
    """
    rows = tokenizer(texts, padding=True, truncation=False, return_tensors="pt", verbose=False)
    ids, mask = rows["input_ids"], rows["attention_mask"]
    if ids.shape[1] > max_tokens:
        longest = int(mask.sum(1).argmax())
        raise InputError(
            f"a text has {int(mask[longest].sum())} tokens, the model reads at most {max_tokens}: "
            f"{texts[longest][:80]!r}; shorten it"
        )
    return ids, mask
