"""Image-text models made from a configuration, with random weights and a word tokenizer of their own.

They have the shapes of released families and are written and read as these are, so that what holds for a model of a few
million parameters holds for the released one. Nothing is downloaded.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from agents.reasoning.families import FAMILIES
from agents.reasoning.word_tokenizer import ASSISTANT, END, PAD, USER, build_word_tokenizer
from core.errors import InputError, check_choice


@dataclass
class SmallVLMConfig:
    """Sizes of a model made here; the defaults are a LLaVA of about 1.5 million parameters."""

    family: str = "llava"  # or idefics3, qwen2_5_vl, paligemma
    width: int = 128  # of the language model
    layers: int = 4  # of the language model
    heads: int = 4  # of its attention
    kv_heads: int = 0  # heads that keys and values have; 0: as many as queries
    mlp: int = 0  # 0: three times the width
    vision_width: int = 96  # of the vision tower
    vision_layers: int = 3  # of the vision tower
    vision_heads: int = 4  # of its attention
    vision_mlp: int = 0  # 0: three times the width
    vision: str = ""  # folder of a trained tower of these sizes (towers/image of pretrain-vl); empty: random weights
    patch: int = 8  # pixels
    image_size: int = 64  # pixels; pictures are resized to this square, by Qwen2.5-VL to about as many pixels
    context: int = 256  # tokens of prompt, pictures and answer together
    vocabulary: int = 2048  # the largest number of token ids; PaliGemma adds 1,152 for places and shapes
    pad_vocabulary: bool = False  # all these ids exist, words or not: the cost of a released vocabulary

    def __post_init__(self) -> None:
        check_choice("family", self.family, BUILDERS)
        for width, heads, what in ((self.width, self.heads, ""), (self.vision_width, self.vision_heads, "vision_")):
            if width % (2 * heads):
                raise InputError(f"{what}width={width} does not split into {what}heads={heads} of an even width")
        if self.kv_heads and self.heads % self.kv_heads:
            raise InputError(f"heads={self.heads} do not share kv_heads={self.kv_heads} evenly")
        cell = self.patch * (2 if self.family in ("idefics3", "qwen2_5_vl") else 1)
        if self.image_size % cell:
            raise InputError(f"image_size={self.image_size} is no multiple of {cell}, with patch={self.patch}")
        if self.context <= self.picture_tokens:
            raise InputError(f"context={self.context} holds no picture of {self.picture_tokens} tokens and a word")

    @property
    def picture_tokens(self) -> int:
        """Placeholders of a square picture."""
        merged = 2 if self.family in ("idefics3", "qwen2_5_vl") else 1
        return (self.image_size // self.patch // merged) ** 2


PRESETS: Final[dict[str, dict[str, Any]]] = {
    "tiny": {"width": 32, "layers": 2, "heads": 2, "vision_width": 32, "vision_layers": 2, "vision_heads": 2}
    | {"patch": 8, "image_size": 32, "context": 128, "vocabulary": 512},
    "small": {},
    "medium": {"width": 256, "layers": 6, "heads": 8, "vision_width": 192, "vision_layers": 4, "context": 512},
    # the sizes of Qwen2.5-VL-3B-Instruct, config.json
    "qwen2.5-vl-3b": {"family": "qwen2_5_vl", "width": 2048, "layers": 36, "heads": 16, "kv_heads": 2, "mlp": 11008}
    | {"vision_width": 1280, "vision_layers": 32, "vision_heads": 16, "vision_mlp": 3420, "patch": 14}
    | {"image_size": 448, "context": 32768, "vocabulary": 151936, "pad_vocabulary": True},
}
"""Arguments of SmallVLMConfig by name: for tests; the default; over 5 million parameters; a released model's."""


def make_tokenizer(config: SmallVLMConfig, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A word tokenizer with the special tokens of the family."""
    special = FAMILIES[config.family].special
    return build_word_tokenizer(texts, config.vocabulary, special, config.context)


def make_model(
    config: SmallVLMConfig,
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Any:
    """The model with weights drawn from `seed`, in eval mode; on device "meta" it has shapes only.

    Args:
        tokenizer: as `make_processor` leaves it, which for PaliGemma adds tokens.
    """
    transformers_config, kind = BUILDERS[config.family](config, tokenizer)
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=_cuda(device)):
        torch.manual_seed(seed)
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device):
                model: nn.Module = kind(transformers_config)
        finally:
            torch.set_default_dtype(before)
    return model.eval()


def make_processor(config: SmallVLMConfig, tokenizer: PreTrainedTokenizerFast) -> Any:
    """The processor that goes with such a model, as its family has it, with a chat template of two turns.

    That of PaliGemma adds its 1,152 tokens for places and shapes to the tokenizer.

    Raises:
        InputError: the tokenizer lacks the family's tokens, or has more ids than the configuration allows.
    """
    import transformers

    known = tokenizer.get_vocab()
    missing = [token for token in (*FAMILIES[config.family].special, PAD, END) if token not in known]
    if missing:
        raise InputError(f"the tokenizer lacks {', '.join(missing)}, which {config.family} models need")
    if len(tokenizer) > config.vocabulary:
        raise InputError(f"the tokenizer has {len(tokenizer)} ids, the model takes vocabulary={config.vocabulary}")
    size = {"height": config.image_size, "width": config.image_size}
    half: dict[str, Any] = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    picture = FAMILIES[config.family].special[0]
    if config.family == "llava":
        return transformers.LlavaProcessor(
            image_processor=transformers.CLIPImageProcessorPil(size=size, do_center_crop=False),
            tokenizer=tokenizer,
            patch_size=config.patch,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,  # the class token, which the strategy takes off again
            chat_template=_template(picture),
        )
    if config.family == "idefics3":
        images: Any = transformers.Idefics3ImageProcessorPil(
            do_resize=False, do_image_splitting=False, max_image_size={"longest_edge": config.image_size}, **half
        )
        return transformers.Idefics3Processor(
            image_processor=images,
            tokenizer=tokenizer,
            image_seq_len=config.picture_tokens,
            chat_template=_template(picture),
        )
    if config.family == "paligemma":
        images = transformers.SiglipImageProcessorPil(size=size, **half)
        images.image_seq_length = config.picture_tokens
        # it lays out prompts by itself: pictures, the first token, words, a line break
        return transformers.PaliGemmaProcessor(image_processor=images, tokenizer=tokenizer)
    from vl.processors import without_video

    pixels = config.image_size**2
    side = {"shortest_edge": (2 * config.patch) ** 2, "longest_edge": pixels}
    return without_video(transformers.Qwen2_5_VLProcessor)(
        image_processor=transformers.Qwen2VLImageProcessorPil(patch_size=config.patch, size=side),
        tokenizer=tokenizer,
        chat_template=_template(f"<|vision_start|>{picture}<|vision_end|>"),
    )


def _template(picture: str) -> str:
    """A chat template (jinja) that writes `picture` for each picture, and marks who speaks."""
    return (
        "{% for message in messages %}"
        f"{{{{ '{USER}' if message['role'] == 'user' else '{ASSISTANT}' }}}}"
        "{% for part in message['content'] %}"
        f"{{% if part['type'] == 'image' %}}{picture}{{% else %}}{{{{ part['text'] }}}}{{% endif %}}"
        "{% endfor %}{% endfor %}"
        f"{{% if add_generation_prompt %}}{ASSISTANT}{{% endif %}}"
    )


def _cuda(device: str | torch.device) -> list[torch.device]:
    return [torch.device(device)] if torch.device(device).type == "cuda" else []


def _id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    return tokenizer.get_vocab()[token]


def _text_options(config: SmallVLMConfig, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": config.vocabulary if config.pad_vocabulary else len(tokenizer),
        "hidden_size": config.width,
        "intermediate_size": config.mlp or 3 * config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads or config.heads,
        "head_dim": config.width // config.heads,
        "max_position_embeddings": config.context,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }


def _vision_options(config: SmallVLMConfig) -> dict[str, Any]:
    return {
        "hidden_size": config.vision_width,
        "intermediate_size": config.vision_mlp or 3 * config.vision_width,
        "num_hidden_layers": config.vision_layers,
        "num_attention_heads": config.vision_heads,
        "patch_size": config.patch,
        "image_size": config.image_size,
    }


def _llava(config: SmallVLMConfig, tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    made = LlavaConfig(
        vision_config=CLIPVisionConfig(**_vision_options(config)),
        text_config=LlamaConfig(**_text_options(config, tokenizer)),
        image_token_index=_id(tokenizer, "<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=config.picture_tokens,
    )
    return made, LlavaForConditionalGeneration


def _idefics3(config: SmallVLMConfig, tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, LlamaConfig

    made = Idefics3Config(
        vision_config=_vision_options(config),
        text_config=LlamaConfig(**_text_options(config, tokenizer)),
        image_token_id=_id(tokenizer, "<image>"),
        scale_factor=2,
    )
    return made, Idefics3ForConditionalGeneration


def _qwen2_5_vl(config: SmallVLMConfig, tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = _text_options(config, tokenizer)
    half = text.pop("head_dim") // 2  # rotated pairs of a head: for time, rows, columns as 16, 24, 24 of 64
    rows = half * 3 // 8
    vision = _vision_options(config)
    depth, size = vision.pop("num_hidden_layers"), vision.pop("image_size")
    made = Qwen2_5_VLConfig(
        text_config=text
        | {
            "rope_parameters": {"rope_type": "default", "mrope_section": [half - 2 * rows, rows, rows]}
            | {"rope_theta": 1e6}
        },
        vision_config=vision
        | {"depth": depth, "num_heads": vision.pop("num_attention_heads"), "out_hidden_size": config.width}
        # every fourth layer sees the whole picture, the others windows of 8 patches, as in the released model
        | {"window_size": min(8 * config.patch, size), "fullatt_block_indexes": list(range(depth - 1, -1, -4))[::-1]},
        tie_word_embeddings=True,
        image_token_id=_id(tokenizer, "<|image_pad|>"),
        video_token_id=_id(tokenizer, "<|video_pad|>"),
        vision_start_token_id=_id(tokenizer, "<|vision_start|>"),
        vision_end_token_id=_id(tokenizer, "<|vision_end|>"),
    )
    return made, Qwen2_5_VLForConditionalGeneration


def _paligemma(config: SmallVLMConfig, tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    from transformers import GemmaConfig, PaliGemmaConfig, PaliGemmaForConditionalGeneration, SiglipVisionConfig

    made = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**_vision_options(config), vision_use_head=False),
        text_config=GemmaConfig(**_text_options(config, tokenizer)),
        image_token_index=_id(tokenizer, "<image>"),
        vocab_size=len(tokenizer),
        projection_dim=config.width,
        hidden_size=config.width,
    )
    return made, PaliGemmaForConditionalGeneration


BUILDERS: Final[dict[str, Any]] = {
    "llava": _llava,
    "idefics3": _idefics3,
    "qwen2_5_vl": _qwen2_5_vl,
    "paligemma": _paligemma,
}
"""The configuration and class of transformers for a configuration here and a tokenizer."""
