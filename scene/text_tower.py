"""The words of a sentence in context: the first layers of a transformers encoder, pretrained or random.

Any encoder behind `transformers.AutoModel` that is one stack of layers serves: BERT, RoBERTa, DistilBERT, the text half
of CLIP. Its own attention runs on `scaled_dot_product_attention`, which transformers picks by itself. Nothing is looked
up on the network unless `ModelConfig.text` names a hub id, and never when a saved grounder is loaded.
"""

from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from core.errors import InputError
from scene.model_config import ModelConfig

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


class TextTower(nn.Module):
    """Token ids to features of width `config.dim`.

    Args:
        encoder_config: transformers' config of the encoder; given, `config.text` is not read and weights are random.

    Raises:
        InputError: `config.text` names no encoder that fits (see `first_layers`), or one whose sentences are shorter
            than `config.max_tokens`, or whose vocabulary is smaller than `config.vocab_size`.
    """

    def __init__(self, config: ModelConfig, encoder_config: "PretrainedConfig | None" = None) -> None:
        super().__init__()
        if encoder_config is not None:
            self.encoder = first_layers(AutoModel.from_config(encoder_config), config.text_layers)
        elif config.text:
            self.encoder = first_layers(pretrained_encoder(config.text), config.text_layers)
        else:
            self.encoder = random_bert(config)
        self.owned = encoder_config is None and not config.text  # random BERT, described by ModelConfig alone
        if config.checkpointing:
            recompute_layers(self.encoder)
        embedding = cast(nn.Embedding, self.encoder.get_input_embeddings())
        rows, self.embedding_dim = embedding.num_embeddings, embedding.embedding_dim
        width = self.encoder.config.hidden_size
        longest = longest_sentence(self.encoder)
        if config.max_tokens > longest:
            raise InputError(f"max_tokens={config.max_tokens}, but {config.text} reads at most {longest}: lower it")
        if config.vocab_size > rows:
            raise InputError(
                f"vocab_size={config.vocab_size}, but {config.text} has {rows} tokens; use the tokenizer that goes "
                "with it (scene.text_tower.pretrained_tokenizer)"
            )
        self.into = nn.Linear(width, config.dim) if width != config.dim else nn.Identity()
        self.causal = not self.owned and reads_backwards_only(self.encoder)

    def forward(self, tokens: Int64[Tensor, "S L"], words: Bool[Tensor, "S L"]) -> Float[Tensor, "S L D"]:
        """Features of tokens in context; `words` is False at padding, whose features mean nothing."""
        mask: Tensor = words.long()
        if isinstance(self.encoder, BertModel):
            # handed over whole: from two dimensions transformers would first ask the device whether all are words
            mask = words[:, None, None].expand(-1, -1, words.shape[1], -1)
        return self.into(self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state)

    def embed(self, tokens: Int64[Tensor, "S L"]) -> Float[Tensor, "S L E"]:
        """Vectors of single tokens, whatever stands around them."""
        return self.encoder.get_input_embeddings()(tokens)

    def sentence(self, features: Float[Tensor, "S L D"], words: Bool[Tensor, "S L"]) -> Float[Tensor, "S D"]:
        """The feature that stands for the whole text: of the first token, or of the last where words see only what
        came before them (CLIP)."""
        if not self.causal:
            return features[:, 0]
        return features[torch.arange(len(words), device=words.device), words.sum(1) - 1]


def random_bert(config: ModelConfig) -> BertModel:
    """A BERT of the model's own sizes."""
    sizes = BertConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.dim,
        num_hidden_layers=config.text_layers,
        num_attention_heads=config.heads,
        intermediate_size=config.text_hidden or config.hidden,
        max_position_embeddings=config.max_tokens,
        type_vocab_size=1,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=0.0,
    )
    return BertModel(sizes, add_pooling_layer=False)


def pretrained_encoder(text: str) -> "PreTrainedModel":
    """The encoder with its weights; of a model with two halves, such as CLIP, the text half.

    Raises:
        InputError: nothing loads from that hub id or folder.
    """
    try:
        config = AutoConfig.from_pretrained(text)
        config = getattr(config, "text_config", None) or config
        return AutoModel.from_pretrained(text, config=config, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise InputError(
            f"text={text} does not load as a transformers encoder ({str(error).splitlines()[0]}); expected a hub id "
            "that can be reached, or a folder written by save_pretrained"
        ) from error


def pretrained_tokenizer(text: str) -> PreTrainedTokenizerFast:
    """The tokenizer that goes with a pretrained encoder.

    Raises:
        InputError: there is none, or only a slow one.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(text)
    except (OSError, ValueError) as error:
        raise InputError(
            f"text={text} has no tokenizer that loads ({str(error).splitlines()[0]}); expected a hub id that can be "
            "reached, or a folder written by save_pretrained"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise InputError(f"the tokenizer of {text} has no tokenizer.json; convert it with its save_pretrained first")
    if tokenizer.pad_token_id is None:
        raise InputError(f"the tokenizer of {text} has no padding token; sentences of a batch cannot be padded")
    return tokenizer


def first_layers(encoder: "PreTrainedModel", layers: int) -> "PreTrainedModel":
    """The encoder cut to its first layers, in place.

    The layers are the module list that is as long as the config says and holds modules of one kind; of several such
    lists the one with the most parameters.

    Raises:
        InputError: an encoder with a decoder, no such list, or fewer layers than asked for.
    """
    config = encoder.config
    name = type(encoder).__name__
    if config.is_encoder_decoder:
        raise InputError(f"{name} is an encoder with a decoder; expected an encoder alone, such as BERT")
    lists = [
        module
        for module in encoder.modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == config.num_hidden_layers
        and len({type(layer) for layer in module}) == 1
    ]
    if not lists:
        raise InputError(
            f"{name} has no list of {config.num_hidden_layers} layers of one kind to take the first from; expected an "
            "encoder such as BERT, RoBERTa, DistilBERT or the text half of CLIP"
        )
    stack = max(lists, key=lambda found: sum(p.numel() for p in found.parameters()))
    if len(stack) < layers:
        raise InputError(f"text_layers={layers}, but {name} has {len(stack)} layers")
    del stack[layers:]
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):  # one kind of attention per layer, as in ModernBERT
        config.layer_types = config.layer_types[:layers]
    if getattr(encoder, "pooler", None) is not None:
        encoder.add_module("pooler", None)  # of the whole encoder; nothing here reads it
    return encoder


def recompute_layers(encoder: "PreTrainedModel") -> None:
    """Makes the layers recompute their activations in the backward pass of training.

    Raises:
        InputError: transformers cannot do this for such an encoder.
    """
    encoder.config.use_cache = False  # of decoders; transformers warns about the two together
    # the older name of transformers 5.17 warns in later versions
    enable = getattr(encoder, "activation_checkpointing_enable", None) or encoder.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise InputError(f"checkpointing=true: {error}; train with checkpointing=false") from error


def longest_sentence(encoder: "PreTrainedModel") -> int:
    """Tokens an encoder has positions for; RoBERTa's family starts counting after its padding index."""
    positions = getattr(encoder.config, "max_position_embeddings", None)
    if positions is None:
        return 2**31
    tables = (m for name, m in encoder.named_modules() if name.endswith("position_embeddings"))
    offset = next((m.padding_idx + 1 for m in tables if getattr(m, "padding_idx", None) is not None), 0)
    return positions - offset


@torch.no_grad()
def reads_backwards_only(encoder: "PreTrainedModel") -> bool:
    """Whether a token's feature depends on no later token: asked by changing the last of three tokens."""
    was_training, _ = encoder.training, encoder.eval()
    first, second = (
        encoder(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, 3, dtype=torch.int64)).last_hidden_state
        for ids in ([5, 6, 7], [5, 6, 8])
    )
    encoder.train(was_training)
    return torch.equal(first[:, 0], second[:, 0])
