"""An image-text model as a policy: prompts with pictures in, tokens out, and what training needs of its inside.

`VLM` holds a model of transformers with its processor. It turns samples into `Prompts`, prompts and responses into the
model's inputs (right under padding, shuffling and repetition, whatever the family), and ids into text. Generation,
scoring and updates are functions elsewhere that are handed one.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from agents.reasoning.families import FAMILIES, Family
from agents.reasoning.small_vlm import SmallVLMConfig, make_model, make_processor, make_tokenizer
from agents.reasoning.types import PICTURE, Picture, Prompts, Responses
from agents.reasoning.vision_start import take_vision
from core.errors import InputError, MissingFileError
from core.files import atomic_folder
from vl.encoders import looks_like_path, quiet
from vl.processors import load_processor

CONFIG: Final = "config.json"  # of every model of transformers
MODEL: Final = "model"  # where a run of train-reasoner leaves its own


class VLM:
    """A model of one of the FAMILIES with its processor; `create` makes one, `from_pretrained` loads one.

    Attributes:
        model: of transformers; in eval mode until the caller says `model.train()`.
        eos_ids: tokens that end a response.
        vision_ids: tokens that no response may hold: placeholders of pictures, whose features it would not have, other
            special tokens than the ends, and ids that stand for nothing. They are suppressed before the softmax.
        context: the most tokens of prompt and response together.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        """Raises InputError when the model is of no known family or its tokenizer has no end token."""
        kind = model.config.model_type
        if kind not in FAMILIES:
            raise InputError(f"a {kind} model is no image-text policy; expected one of {', '.join(FAMILIES)}")
        self.model = model
        self.processor = processor
        self.family: Family = FAMILIES[kind]
        self.tokenizer: Any = processor.tokenizer
        self.picture_id: int = model.config.image_token_id
        text = model.config.get_text_config()
        self.context: int = int(text.max_position_embeddings)
        ends = model.generation_config.eos_token_id
        listed = {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        if not listed:
            raise InputError(f"the {kind} model and its tokenizer name no end token (eos_token_id): answers never end")
        self.eos_ids: tuple[int, ...] = tuple(sorted(listed))
        pad = self.tokenizer.pad_token_id
        self.pad_id: int = self.eos_ids[0] if pad is None else pad
        rows = model.get_output_embeddings().weight.shape[0]
        known = self.tokenizer.get_vocab()
        around = [known[token] for token in (*self.family.special, *self.family.tiles) if token in known]
        never = {self.picture_id, *around, *self.tokenizer.all_special_ids, *range(len(self.tokenizer), rows)} - listed
        self.vision_ids: tuple[int, ...] = tuple(sorted(i for i in never if i < rows))

    @classmethod
    def create(
        cls,
        config: SmallVLMConfig,
        texts: Iterable[str] | PreTrainedTokenizerFast,
        *,
        seed: int,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "VLM":
        """A model with random weights, or with those of a trained tower where it sees (`config.vision`).

        Args:
            texts: what the word tokenizer is made from, prompts and answers; or a tokenizer made before.
            device: "meta" makes shapes without weights.
        """
        tokenizer = texts if isinstance(texts, PreTrainedTokenizerFast) else make_tokenizer(config, texts)
        processor = make_processor(config, tokenizer)
        made = cls(make_model(config, tokenizer, seed=seed, device=device, dtype=dtype), processor)
        if config.vision:
            take_vision(made.model, processor.image_processor, config.vision)
        made._rest_idle()
        return made

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        lora: int = 0,
        freeze_vision: bool = False,
        gradient_checkpointing: bool = False,
    ) -> "VLM":
        """The model in a folder that `save_pretrained` wrote (here or of transformers), or under a hub id.

        Args:
            lora: rank of adapters on the language model, which alone are then trained; 0 trains the weights.
            freeze_vision: only the language model learns, not what makes features of pictures.
            gradient_checkpointing: a layer's activations are computed again in the backward pass.

        Raises:
            MissingFileError: a path where no folder is. InputError: nothing loads there, or it is another kind of
                model. MissingLibraryError: `lora` without peft.
        """
        from transformers import AutoConfig, AutoModelForImageTextToText

        path = Path(path_or_id).expanduser()
        local = path.is_dir()
        if not local and looks_like_path(path_or_id):
            raise MissingFileError(f"image-text model folder not found: {path} (working folder: {Path.cwd()})")
        if local and not (path / CONFIG).is_file():
            inner = f"; a model is in {path / MODEL}" if (path / MODEL / CONFIG).is_file() else ""
            raise MissingFileError(f"{path} holds no image-text model (no {CONFIG}){inner}")
        name = str(path if local else path_or_id)
        try:
            with quiet():
                kind = AutoConfig.from_pretrained(name, local_files_only=local).model_type
                if kind not in FAMILIES:
                    known = ", ".join(FAMILIES)
                    raise InputError(f"it is a {kind} model, which is no image-text policy; expected one of {known}")
                processor = load_processor(name, local)
                auto: Any = AutoModelForImageTextToText
                model, report = auto.from_pretrained(
                    name, local_files_only=local, dtype=dtype, output_loading_info=True
                )
        except Exception as error:  # safetensors, tokenizers, PIL and the hub client each raise their own kinds
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            where = "" if local else f"no folder {name!r} here, and as a hub id "
            raise InputError(f"{where}{name!r} does not load as an image-text model: {first}") from error
        if report["missing_keys"]:
            missing = sorted(report["missing_keys"])
            raise InputError(f"{name!r} lacks {len(missing)} of the model's weights, {missing[0]} among them")
        loaded = cls(model.eval().to(device), processor)
        loaded._rest_idle()
        if freeze_vision:
            loaded.freeze_vision()
        if lora:
            loaded.add_lora(lora)
        if gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return loaded

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes model, tokenizer and processor as transformers has them, whole or not at all; adapters are merged in.

        Raises:
            InputError: the folder exists and is not empty.
        """
        with atomic_folder(folder) as made, quiet():
            self.model.save_pretrained(made, state_dict=self._merged_weights())
            self.processor.save_pretrained(made)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    # --- words and pictures in, words out ---

    def encode(self, prompts: Sequence[str], pictures: Sequence[Sequence[Picture]], *, reserve: int = 1) -> Prompts:
        """Prompts as inputs, through the model's chat template where it has one, padded on the left.

        Args:
            prompts: each with PICTURE where one of its pictures belongs.
            pictures: of each prompt, in order.
            reserve: tokens kept free for the response.

        Raises:
            InputError: naming the row, when placeholders and pictures differ in number, the prompt holds the model's
                own placeholder, the processor does not take a picture, or prompt and `reserve` exceed `context`.
        """
        if len(prompts) != len(pictures):
            raise InputError(f"{len(prompts)} prompts came with pictures for {len(pictures)}; give [] to one without")
        rows = [self._row(number, prompt, shown) for number, (prompt, shown) in enumerate(zip(prompts, pictures))]
        for number, (ids, _) in enumerate(rows):
            if len(ids) + reserve > self.context:
                raise InputError(
                    f"prompt {number} takes {len(ids)} tokens with its {len(pictures[number])} pictures, which leaves "
                    f"no room for {reserve} of the response: the model reads {self.context} in all. Shorten it, show "
                    f"fewer pictures or allow a shorter response: {prompts[number][:80]!r}"
                )
        length = max((len(ids) for ids, _ in rows), default=0)
        ids = torch.full((len(rows), length), self.pad_id, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for number, (row, _) in enumerate(rows):
            ids[number, length - len(row) :] = row
            mask[number, length - len(row) :] = 1
        on_picture = (ids == self.picture_id) & mask.bool()
        shown_tensors = tuple({name: value.to(self.device) for name, value in row.items()} for _, row in rows)
        return Prompts(ids.to(self.device), mask.to(self.device), on_picture.to(self.device), shown_tensors)

    def encode_answers(self, texts: Sequence[str]) -> Responses:
        """Given answers as responses that end: what supervised training imitates."""
        rows = [self.tokenizer(text, add_special_tokens=False)["input_ids"] + [self._end] for text in texts]
        length = max(map(len, rows), default=0)
        ids = torch.full((len(rows), length), self.pad_id, dtype=torch.int64)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = True
        ended = torch.ones(len(rows), dtype=torch.bool, device=self.device)
        ids, mask = ids.to(self.device), mask.to(self.device)
        return Responses(ids, mask, ended, self.decode(ids, mask))

    def decode(self, ids: Int64[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> tuple[str, ...]:
        """Text of responses, without special tokens and outer spaces."""
        kept = [row[counts].tolist() for row, counts in zip(ids.cpu(), mask.cpu())]
        return tuple(
            self.tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
            for row in kept
        )

    # --- inputs and parts of the model ---

    def forward_inputs(self, prompts: Prompts, responses: Responses | None = None) -> dict[str, Tensor]:
        """What `model(**inputs)` takes for prompts, followed by responses where given.

        Positions count from the first token that is no padding, so rows do not depend on their neighbours. The next
        token after a row has the position `next_position(inputs["position_ids"])`.
        """
        ids, mask = prompts.input_ids, prompts.attention_mask
        pictures = self.family.together(prompts.pictures)
        floats = {name: value.to(self.model.dtype) for name, value in pictures.items() if value.is_floating_point()}
        positions = self.family.positions(self.model, ids, mask, pictures)
        answers = 0
        if responses is not None:
            answers = responses.ids.shape[1]
            steps = torch.arange(answers, device=ids.device)
            following = next_position(positions)[:, None] + steps
            positions = torch.cat([positions, following.expand(*positions.shape[:-1], answers)], dim=-1)
            ids = torch.cat([ids, responses.ids], dim=1)
            mask = torch.cat([mask, responses.mask.long()], dim=1)
        kinds = self.family.token_kinds(prompts.on_picture.long(), answers)
        return {"input_ids": ids, "attention_mask": mask, "position_ids": positions, **kinds, **pictures, **floats}

    def final_norm(self) -> nn.Module:
        """The norm behind the last layer of the language model: its output is the last hidden state."""
        language: Any = self.family.language_model(self.model)
        return language.norm

    def lm_head(self) -> nn.Module:
        """From last hidden states to logits."""
        head = self.model.get_output_embeddings()
        cap = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)
        return head if cap is None else nn.Sequential(head, _SoftCap(cap))

    # --- what learns ---

    def freeze_vision(self) -> None:
        """Only the language model and its head go on learning."""
        language = {id(p) for p in self.family.language_model(self.model).parameters()}
        language |= {id(p) for p in self.model.get_output_embeddings().parameters()}
        for parameter in self.model.parameters():
            if id(parameter) not in language:
                parameter.requires_grad_(False)

    def add_lora(self, rank: int) -> None:
        """Low-rank adapters (arXiv:2106.09685) on every linear layer of the language model; all else stops learning.

        They begin as zero, so the model is at first what it was.

        Raises:
            MissingLibraryError: peft is not installed.
        """
        from vl.encoders import add_lora

        self.model.requires_grad_(False)
        add_lora(self.family.language_model(self.model), rank)

    @contextmanager
    def without_lora(self) -> Iterator[None]:
        """While it lasts, the model is what it was before `add_lora`: the reference policy at no memory."""
        layers = self._lora_layers()
        for layer in layers.values():
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in layers.values():
                layer.enable_adapters(True)

    # --- inside ---

    @cached_property
    def _end(self) -> int:
        """The token that ends a given answer."""
        own = self.tokenizer.eos_token_id
        return self.eos_ids[0] if own is None else own

    def _row(self, number: int, prompt: str, shown: Sequence[Picture]) -> tuple[Int64[Tensor, " L"], dict[str, Tensor]]:
        """Ids and picture tensors of one prompt, neither padded nor batched."""
        token = self.tokenizer.convert_ids_to_tokens(self.picture_id)
        parts = prompt.split(PICTURE)
        if len(parts) - 1 != len(shown):
            raise InputError(
                f"prompt {number} has {len(parts) - 1} {PICTURE} for {len(shown)} pictures, expected one for each: "
                f"{prompt[:80]!r}"
            )
        if token in prompt:
            raise InputError(
                f"prompt {number} holds {token!r}, which stands for a picture in this model; write {PICTURE}"
            )
        bos = self.tokenizer.bos_token
        text = self._worded(parts, token) if shown else self.family.words_alone(self._worded(parts, token), bos)
        written = bool(bos and text.startswith(bos))  # by the chat template
        for picture in shown:
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
                raise InputError(
                    f"prompt {number} came with a picture of shape {picture.shape} and type {picture.dtype}, expected "
                    "(H, W, 3) of uint8; read files with vl.pictures"
                )
        if not shown:  # some processors insist on a picture
            ids = self.tokenizer(text, add_special_tokens=not written)["input_ids"]
            return torch.tensor(ids, dtype=torch.int64), {}
        images = [Image.fromarray(picture) for picture in shown]  # an array of height 3 could be taken for channels
        try:
            processed = self.processor(
                images=[images], text=[text], add_special_tokens=not written, return_tensors="pt"
            )
        except (ValueError, TypeError) as error:  # TypeError: a processor that lacks its settings
            said = (str(error).splitlines() or [""])[0][:200]
            sizes = [picture.shape for picture in shown]
            raise InputError(f"prompt {number}: the processor does not take pictures of {sizes}: {said}") from error
        return processed["input_ids"][0], self.family.row_pictures(processed)

    def _worded(self, parts: list[str], token: str) -> str:
        """The prompt as the model reads it; `parts` are the texts between pictures."""
        template = getattr(self.processor, "chat_template", None) or self.tokenizer.chat_template
        if not template:
            return token.join(parts)
        content: list[dict[str, str]] = []
        for number, part in enumerate(parts):
            content += [{"type": "image"}] if number else []
            content += [{"type": "text", "text": part}] if part else []
        asked = [{"role": "user", "content": content}]
        return str(self.processor.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))

    def _rest_idle(self) -> None:
        for module in self.family.idle(self.model):
            module.requires_grad_(False)

    def _lora_layers(self) -> dict[str, Any]:
        return {name: module for name, module in self.model.named_modules() if hasattr(module, "lora_A")}

    def _merged_weights(self) -> dict[str, Tensor]:
        """Weights under the names they have without adapters, adapters added."""
        weights = {name: value for name, value in self.model.state_dict().items() if ".lora_" not in name}
        for name, layer in self._lora_layers().items():
            base = weights[f"{name}.base_layer.weight"]
            weights[f"{name}.base_layer.weight"] = base + layer.get_delta_weight("default").to(base.dtype)
        return {name.replace(".base_layer.", "."): value for name, value in weights.items()}


def next_position(position_ids: Tensor) -> Int64[Tensor, " B"]:
    """The position of the token that follows, from positions (B, L) or (3, B, L)."""
    last = position_ids.amax(-1) + 1
    return last if last.ndim == 1 else last.amax(0)


def without_pictures(pictures: Sequence[Sequence[Picture]]) -> list[list[Picture]]:
    """Grey pictures of the same sizes: what a blind model is shown."""
    return [[np.full_like(picture, 127) for picture in shown] for shown in pictures]


class _SoftCap(nn.Module):
    """Logits bent into (-cap, cap), as Gemma 2 does it (arXiv:2408.00118, section 2)."""

    def __init__(self, cap: float) -> None:
        super().__init__()
        self.cap = cap

    def forward(self, logits: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return self.cap * torch.tanh(logits / self.cap)
