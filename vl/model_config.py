"""The shape of a vision-language model, and what cannot be."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from core.errors import InputError, check_choice
from vl.fusion import FusionConfig
from vl.heads import HEADS
from vl.image_towers import ImageTowerConfig
from vl.one_tower import OneTowerConfig
from vl.text_towers import TextTowerConfig

MAX_LOGIT_SCALE = 100.0
"""Upper clamp of exp(theta), as in CLIP (Radford et al., arXiv:2103.00020, section 2.5)."""


@dataclass
class VLConfig:
    """Shape of a vision-language model."""

    kind: str = "two-tower"  # or one-tower: `one` in the place of both towers and the fusion
    dim: int = 96  # width of the joint space
    max_tokens: int = 64  # longest text, special tokens included
    image: ImageTowerConfig = field(default_factory=ImageTowerConfig)  # of a one-tower model: only the image's size
    text: TextTowerConfig = field(default_factory=TextTowerConfig)  # unused by a one-tower model
    image_head: str = "mlp"  # to the joint space: mlp, linear, or none (dim is the tower's width)
    text_head: str = "linear"  # likewise
    head_width: int = 192  # hidden width of an mlp head
    fusion: FusionConfig = field(default_factory=FusionConfig)  # layers=0: none, and no matching or words
    one: OneTowerConfig = field(default_factory=OneTowerConfig)  # the one tower
    logit_scale: float = 10.0  # start of exp(theta)
    max_logit_scale: float = MAX_LOGIT_SCALE  # upper clamp of exp(theta)
    logit_bias: float = 0.0  # start of the sigmoid loss's bias; unused by the softmax loss
    answers: list[str] = field(default_factory=list)  # labels of the answer head; empty = no such head
    answer_images: int = 1  # images that a question is about (NLVR2: 2)
    text_mlm_head: bool = False  # vocabulary head on the text tower: masked words without images
    mim_head: bool = False  # pixel head on the image tower: masked image modelling

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, ("two-tower", "one-tower"))
        check_choice("image_head", self.image_head, HEADS)
        check_choice("text_head", self.text_head, HEADS)
        if self.dim < 1 or self.head_width < 1 or self.max_tokens < 3:
            raise InputError(
                f"dim={self.dim} and head_width={self.head_width} should be positive and "
                f"max_tokens={self.max_tokens} at least 3"
            )
        if not 0 < self.logit_scale <= self.max_logit_scale:
            raise InputError(f"logit_scale={self.logit_scale} should be in (0, {self.max_logit_scale}]")
        one = self.kind == "one-tower"
        if one and self.fusion.layers:
            raise InputError(f"fusion.layers={self.fusion.layers} with kind=one-tower: its own layers fuse; leave it 0")
        if one and (self.text_mlm_head or self.mim_head):
            raise InputError(
                "text_mlm_head and mim_head train single towers; a one-tower model starts from such towers"
            )
        if self.answers and not (one or self.fusion.layers):
            raise InputError(f"{len(self.answers)} answers need a fusion: give fusion.layers or kind=one-tower")
        if len(set(self.answers)) != len(self.answers) or self.answer_images < 1:
            raise InputError(f"answers={self.answers} should differ and answer_images={self.answer_images} be positive")


def check_same_shape(found: VLConfig, expected: VLConfig, where: str) -> None:
    """Refuses a model of another shape than the one wanted.

    Args:
        where: the model's folder.

    Raises:
        InputError: names the first entry that differs.
    """

    def first(a: Any, b: Any, path: str) -> tuple[str, Any, Any] | None:
        if isinstance(a, dict) and isinstance(b, dict):
            for name in [*a, *(name for name in b if name not in a)]:
                differs = first(a.get(name), b.get(name), f"{path}.{name}" if path else name)
                if differs is not None:
                    return differs
            return None
        return None if a == b else (path, a, b)

    differs = first(dataclasses.asdict(found), dataclasses.asdict(expected), "")
    if differs is not None:
        name, there, here = differs
        raise InputError(
            f"the model in {where} has {name}={there!r}, this configuration {name}={here!r}; use one of both"
        )
