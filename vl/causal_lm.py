"""A causal language model of transformers in this process, as a generator (vl/generator.py)."""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.errors import InputError, MissingFileError
from vl.encoders import looks_like_path
from vl.generator import Failure, GeneratorCounts, Pictures, check_request, finished


class TransformersGenerator:
    """A causal LM of transformers: a folder that `save_pretrained` wrote, or a hub id. Reads no pictures.

    Prompts go through the tokenizer's chat template where it has one, and as plain text after `system` otherwise.
    Sampling adds Gumbel noise to the scaled logits and takes the largest, which draws from the same distribution;
    since each prompt has noise of its own, neighbours in a batch do not change its answer.
    """

    def __init__(self, path_or_id: str | Path, device: str = "cpu", batch_size: int = 16) -> None:
        """Raises InputError when nothing loads there, MissingFileError for a path where no folder is."""
        path = Path(path_or_id).expanduser()
        local = path.is_dir()
        if not local and looks_like_path(path_or_id):
            raise MissingFileError(f"language model folder not found: {path} (working folder: {Path.cwd()})")
        name = str(path if local else path_or_id)
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(name, local_files_only=local, padding_side="left")
            self.model: Any = AutoModelForCausalLM.from_pretrained(name, local_files_only=local, dtype="auto")
        except Exception as error:  # safetensors, tokenizers and the hub client each raise their own kinds
            first = (str(error).splitlines() or [type(error).__name__])[0][:200]
            where = "" if local else f"no folder {name!r} here, and as a hub id "
            raise InputError(f"{where}{name!r} does not load as a causal language model: {first}") from error
        self.model.eval().to(device)
        self.batch_size = batch_size
        self.counts = GeneratorCounts()
        self._identity = weights_identity(path) if local else f"hub:{name}"
        self._ends = prepared_ends(self.model, self.tokenizer)
        self._room = int(getattr(self.model.config, "max_position_embeddings", 0) or 0)

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
        if pictures is not None and any(pictures):
            raise InputError(
                "this causal language model reads no pictures; name an image-text model or an endpoint of one"
            )
        texts = [self._worded(prompt, system) for prompt in prompts]
        special = self.tokenizer.chat_template is None  # a template writes the special tokens itself
        lengths = [len(self.tokenizer(text, add_special_tokens=special)["input_ids"]) for text in texts]
        answers: list[str | Failure] = [Failure("empty", "the prompt has no token")] * len(prompts)
        fits = []
        for i, length in enumerate(lengths):
            if self._room and length + max_tokens > self._room:
                detail = f"{length} tokens and up to {max_tokens} of the answer, the model reads {self._room}"
                answers[i] = Failure("prompt too long", detail)
            elif length:
                fits.append(i)
        fits.sort(key=lambda i: lengths[i])  # stable: like lengths together, little padding
        with self.counts.timed():
            for start in range(0, len(fits), self.batch_size):
                rows = fits[start : start + self.batch_size]
                noise = [zlib.crc32(f"{seed}\n{texts[i]}".encode("utf-8", "replace")) for i in rows]
                inputs = self.tokenizer(
                    [texts[i] for i in rows], add_special_tokens=special, padding=True, return_tensors="pt"
                )
                inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
                drawn = continuations(
                    self.model, self.tokenizer, inputs, self._ends, max_tokens, temperature, noise, self.counts
                )
                for i, answer in zip(rows, drawn):
                    answers[i] = answer
        self.counts.calls += len(prompts)
        self.counts.failures.update(answer.cause for answer in answers if isinstance(answer, Failure))
        return answers

    def _worded(self, prompt: str, system: str) -> str:
        if self.tokenizer.chat_template is None:
            return f"{system}\n\n{prompt}" if system else prompt
        from jinja2 import TemplateError

        asked = [{"role": "user", "content": prompt}]
        told = [{"role": "system", "content": system}, *asked] if system else asked
        options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
        try:
            return str(self.tokenizer.apply_chat_template(told, **options))
        except TemplateError:  # templates without a system role
            asked = [{"role": "user", "content": f"{system}\n\n{prompt}" if system else prompt}]
            return str(self.tokenizer.apply_chat_template(asked, **options))


# --- shared with vl/image_text_lm.py ---


def prepared_ends(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer; also sees to it that the tokenizer can pad."""
    ends = model.generation_config.eos_token_id
    ends = tokenizer.eos_token_id if ends is None else ends
    listed: list[int] = [] if ends is None else list(ends) if isinstance(ends, list) else [ends]
    if tokenizer.pad_token_id is None:  # padding is masked out: any token serves
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(listed[0] if listed else 0)
    return listed


@torch.inference_mode()
def continuations(
    model: Any,
    tokenizer: Any,
    inputs: Mapping[str, Tensor],
    ends: list[int],
    max_tokens: int,
    temperature: float,
    noise: list[int],
    counts: GeneratorCounts,
) -> list[str | Failure]:
    """The answers of one forward batch, padded on the left; tokens go to `counts`.

    Args:
        inputs: what the model takes, with input_ids and attention_mask (B, L).
        noise: one seed per row, so that neighbours in a batch do not change what is drawn at `temperature`.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    options = GenerationConfig(
        max_new_tokens=max_tokens,
        do_sample=False,
        repetition_penalty=1.0,
        eos_token_id=ends or None,
        pad_token_id=tokenizer.pad_token_id,
    )
    drawing = LogitsProcessorList([_GumbelNoise(temperature, noise)] if temperature else [])
    placed = {
        name: value.to(model.device, model.dtype if value.is_floating_point() else None)
        for name, value in inputs.items()
    }
    try:
        output = model.generate(**placed, generation_config=options, logits_processor=drawing)
    except torch.OutOfMemoryError as error:
        raise InputError(f"a batch of {len(noise)} prompts does not fit in memory; lower batch_size") from error
    counts.prompt_tokens += int(inputs["attention_mask"].sum())
    answers: list[str | Failure] = []
    for row in output[:, inputs["input_ids"].shape[1] :].tolist():
        end = next((k for k, token in enumerate(row) if token in ends), len(row))
        counts.answer_tokens += end
        if end == len(row):
            answers.append(Failure("truncated", f"no end after {max_tokens} tokens"))
        else:
            answers.append(finished(tokenizer.decode(row[:end], skip_special_tokens=True)))
    return answers


class _GumbelNoise:
    """A logits processor after which the largest logit is a draw at `temperature`; one seed per row."""

    def __init__(self, temperature: float, seeds: list[int]) -> None:
        self.temperature = temperature
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        uniform = torch.stack([torch.rand(scores.shape[1], generator=g) for g in self.generators])
        gumbel = -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))
        return scores.float() / self.temperature + gumbel.to(scores.device)


def weights_identity(folder: Path) -> str:
    """Names a model folder by what is in it: its small files whole, of large ones name, size and both ends."""
    digest = hashlib.sha256()
    for file in sorted(item for item in folder.iterdir() if item.is_file() and not item.name.startswith(".")):
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        with open(file, "rb") as content:
            digest.update(content.read(1 << 20))
            content.seek(max(0, size - (1 << 20)))
            digest.update(content.read())
    return f"folder:{digest.hexdigest()[:16]}"
