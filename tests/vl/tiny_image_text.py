"""Image-text models of random weights in a folder, shared by tests."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

SPECIAL = ("<pad>", "</s>", "<unk>", "<image>")
WORDS = ("system", "user", ":", "Picture", "0", "1", "2", "40%", "90%", "the", "red", "chair", "bed", "done", "task")
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} : {% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}done {% endif %}"
)
SIDE, PATCH = 28, 14  # 4 tokens of the language model per picture


def word_tokenizer(special=SPECIAL, words=WORDS):
    vocabulary = {word: k for k, word in enumerate([*special, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(":", "isolated")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=[*special[3:]],
        padding_side="right",
    )


def save_llava(folder: Path, template: str | None = TEMPLATE, seed: int = 0, room: int = 128, spread: float = 0.5):
    """A tiny LLaVA with its processor; returns both as made."""
    tokenizer = word_tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    options = {"initializer_range": spread, **sizes}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=SIDE, patch_size=PATCH, **options),
        text_config=LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=room, **options, **ids),
        image_token_index=SPECIAL.index("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=(SIDE // PATCH) ** 2,
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config).eval()
    model.lm_head.weight.data[SPECIAL.index("<image>")] = 0.0  # never said, or nearly so
    size = {"height": SIDE, "width": SIDE}
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size=size, crop_size=size),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor
