"""An image-text model of transformers in this process, as a generator (vl/generator.py) that reads pictures.

LLaVA, Idefics, Qwen-VL, Gemma and whatever else `AutoModelForImageTextToText` loads: one path, no list of models.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from core.errors import InputError, MissingFileError
from vl.causal_lm import continuations, prepared_ends, weights_identity
from vl.encoders import looks_like_path
from vl.generator import Failure, GeneratorCounts, Picture, Pictures, check_request, picture_label
from vl.processors import load_processor


class ImageTextGenerator:
    """A model that reads pictures and words: a folder that `save_pretrained` wrote, or a hub id.

    Requests go through the chat template of the processor; one without a template gets the model's image token for
    each picture and then the words. Answers are drawn as in vl/causal_lm.py: neighbours in a batch do not change them.
    """

    def __init__(self, path_or_id: str | Path, device: str = "cpu", batch_size: int = 4) -> None:
        """`batch_size`: prompts per forward pass, each with all its pictures.

        Raises InputError when nothing loads there, MissingFileError for a path where no folder is.
        """
        path = Path(path_or_id).expanduser()
        local = path.is_dir()
        if not local and looks_like_path(path_or_id):
            raise MissingFileError(f"image-text model folder not found: {path} (working folder: {Path.cwd()})")
        name = str(path if local else path_or_id)
        from transformers import AutoModelForImageTextToText

        try:
            self.processor: Any = load_processor(name, local)
            self.model: Any = AutoModelForImageTextToText.from_pretrained(name, local_files_only=local, dtype="auto")
        except Exception as error:  # safetensors, tokenizers, PIL and the hub client each raise their own kinds
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            where = "" if local else f"no folder {name!r} here, and as a hub id "
            raise InputError(f"{where}{name!r} does not load as an image-text model: {first}") from error
        self.model.eval().to(device)
        self.batch_size = batch_size
        self.counts = GeneratorCounts()
        self._identity = weights_identity(path) if local else f"hub:{name}"
        self.tokenizer: Any = self.processor.tokenizer
        self.tokenizer.padding_side = "left"
        self._ends = prepared_ends(self.model, self.tokenizer)
        text_config = self.model.config.get_text_config()
        self._room = int(getattr(text_config, "max_position_embeddings", 0) or 0)

    @property
    def identity(self) -> str:
        return self._identity

    def generate(
        self,
        prompts: Sequence[str],
        *,
        system: str = "",
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        pictures: Pictures | None = None,
    ) -> list[str | Failure]:
        check_request(prompts, max_tokens, temperature, pictures)
        shown: Pictures = pictures if pictures is not None else [()] * len(prompts)
        token = str(getattr(self.processor, "image_token", "") or "")
        refused = Failure("refused", f"the prompt holds {token!r}, which stands for a picture in this model")
        answers: list[str | Failure] = [refused] * len(prompts)
        rows = [i for i in range(len(prompts)) if not token or token not in prompts[i] + system]
        # processors pad pictures only within a prompt: a batch holds prompts of one count of pictures
        rows.sort(key=lambda i: (len(shown[i]), len(prompts[i])))
        with self.counts.timed():
            start = 0
            while start < len(rows):
                count = len(shown[rows[start]])
                batch = [i for i in rows[start : start + self.batch_size] if len(shown[i]) == count]
                start += len(batch)
                texts = [self._worded(prompts[i], system, count) for i in batch]
                groups = [shown[i] for i in batch]
                for i, answer in zip(batch, self._answers(texts, groups, max_tokens, temperature, seed)):
                    answers[i] = answer
        self.counts.calls += len(prompts)
        self.counts.pictures += sum(map(len, shown))
        self.counts.picture_bytes += sum(picture.nbytes for group in shown for picture in group)
        self.counts.failures.update(answer.cause for answer in answers if isinstance(answer, Failure))
        return answers

    def _worded(self, prompt: str, system: str, count: int) -> str:
        """The request as text, with the model's token for each picture."""
        labels = [picture_label(number) if count > 1 else "" for number in range(count)]
        if not self.processor.chat_template:
            token = getattr(self.processor, "image_token", "")
            pictures = "".join(f"{label} {token}\n".lstrip() for label in labels)
            return (f"{system}\n\n" if system else "") + pictures + prompt
        from jinja2 import TemplateError

        content: list[dict[str, str]] = []
        for label in labels:
            content += [{"type": "text", "text": label}] if label else []
            content += [{"type": "image"}]
        asked = [{"role": "user", "content": [*content, {"type": "text", "text": prompt}]}]
        told = [{"role": "system", "content": [{"type": "text", "text": system}]}, *asked] if system else asked
        options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True}
        if "enable_thinking" in str(self.processor.chat_template):
            options["enable_thinking"] = False
        try:
            return str(self.processor.apply_chat_template(told, **options))
        except TemplateError:  # templates without a system role
            content = [{"type": "text", "text": f"{system}\n\n"}, *content, {"type": "text", "text": prompt}]
            return str(self.processor.apply_chat_template([{"role": "user", "content": content}], **options))

    def _answers(
        self, texts: list[str], groups: list[Sequence[Picture]], max_tokens: int, temperature: float, seed: int
    ) -> list[str | Failure]:
        """One forward batch of prompts with equally many pictures; those that are too long are not asked."""
        inputs = self._inputs(texts, groups)
        lengths = inputs["attention_mask"].sum(1).tolist()
        fits = [i for i, length in enumerate(lengths) if not self._room or length + max_tokens <= self._room]
        answers: list[str | Failure] = [
            Failure("prompt too long", f"{n} tokens and up to {max_tokens} of the answer, the model reads {self._room}")
            for n in lengths
        ]
        if len(fits) < len(texts):
            texts, groups = [texts[i] for i in fits], [groups[i] for i in fits]
            inputs = self._inputs(texts, groups) if fits else {}
        if fits:
            noise = []
            for text, group in zip(texts, groups):
                digest = zlib.crc32(f"{seed}\n{text}".encode("utf-8", "replace"))
                for picture in group:
                    digest = zlib.crc32(picture.tobytes(), digest)
                noise.append(digest)
            drawn = continuations(
                self.model, self.tokenizer, inputs, self._ends, max_tokens, temperature, noise, self.counts
            )
            for i, answer in zip(fits, drawn):
                answers[i] = answer
        return answers

    def _inputs(self, texts: list[str], groups: list[Sequence[Picture]]) -> dict[str, Tensor]:
        bos = self.tokenizer.bos_token
        written = bool(self.processor.chat_template and bos and texts[0].startswith(bos))  # by the template itself
        options = {"padding": True, "return_tensors": "pt", "add_special_tokens": not written}
        pictures = [list(group) for group in groups] if groups[0] else None
        try:
            return dict(self.processor(images=pictures, text=texts, **options))
        except ValueError as error:  # sides that differ too much, too few pixels, no words for pictures in the template
            said = (str(error).splitlines() or [""])[0][:200]
            sizes = sorted({picture.shape[:2] for group in groups for picture in group})[:4]
            raise InputError(f"the model's processor does not take pictures of {sizes}: {said}") from error


def is_image_text_model(path_or_id: str | Path) -> bool:
    """Whether the configuration there is that of an image-text model; False also where none loads."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    path = Path(path_or_id).expanduser()
    if not path.is_dir() and looks_like_path(path_or_id):
        return False
    try:
        config = AutoConfig.from_pretrained(str(path if path.is_dir() else path_or_id), local_files_only=path.is_dir())
    except Exception:  # what is wrong there is said by the generator that then tries to load it
        return False
    return type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
