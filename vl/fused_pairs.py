"""A fused model put to use: does a text fit an image, and what is the answer to a question about images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from core.errors import InputError
from vl.pixels import checked_images

if TYPE_CHECKING:
    from vl.model import VLModel


@dataclass
class Answer:
    """One of the model's known answers."""

    text: str
    probability: float


@torch.no_grad()
def match(
    model: "VLModel",
    images: UInt8[Tensor, "B H W 3"] | UInt8[ndarray, "B H W 3"],
    texts: Sequence[str],
    batch_size: int,
) -> Float[Tensor, " B"]:
    """Probability that image i and text i fit, by the fusion's matching head.

    Raises:
        InputError: counts differ, the model has no fusion, or what `encode_images` and `encode_texts` refuse.
    """
    pictures = checked_images(images)
    check_pairs(len(pictures), texts)
    chunks = []
    for start in range(0, len(texts), batch_size):
        image = model.image_states(model.pixels(pictures[start : start + batch_size]))
        text = model.text_states(*model.tokens(list(texts[start : start + batch_size])))
        chunks.append(model.match_logits(model.fuse(image, text)).float().softmax(-1)[:, 1])
    return torch.cat(chunks) if chunks else torch.zeros(0, device=model.device)


@torch.no_grad()
def answer(
    model: "VLModel",
    images: UInt8[Tensor, "B ..."] | UInt8[ndarray, "B ..."],
    questions: Sequence[str],
    batch_size: int,
) -> list[Answer]:
    """The most probable of the model's answers for each question, by the image or images of its row.

    Args:
        images: uint8 (B, H, W, 3), or (B, config.answer_images, H, W, 3).

    Raises:
        InputError: counts differ, the model has no answer head, or what `encode_images` and `encode_texts` refuse.
    """
    per_question = model.config.answer_images
    many = images if images.ndim == 5 else images[:, None]
    if many.ndim == 5 and many.shape[1] != per_question:
        raise InputError(f"{many.shape[1]} images per question, this model answers about {per_question}")
    check_pairs(len(many), questions)
    found: list[Answer] = []
    for start in range(0, len(questions), batch_size):
        text = model.text_states(*model.tokens(list(questions[start : start + batch_size])))
        part = many[start : start + batch_size]
        seen = [model.image_states(model.pixels(checked_images(part[:, i]))) for i in range(per_question)]
        best = model.answer_logits([model.fuse(image, text) for image in seen]).float().softmax(-1).max(-1)
        for row, probability in zip(best.indices.tolist(), best.values.tolist()):
            found.append(Answer(model.config.answers[row], probability))
    return found


def check_pairs(count: int, texts: Sequence[str]) -> None:
    """Raises InputError unless there is one text for each of `count` images."""
    if isinstance(texts, str):
        raise InputError(f"expected a list of texts, got the single text {texts!r}; pass [text]")
    if count != len(texts):
        raise InputError(f"{count} images with {len(texts)} texts: give one text per image")
