"""Sizes and choices of a grounding model, and the two settings of GPS that others are compared with.

`gps_paper` follows the paper (arXiv:2401.09340), `gps_code` its released code where the two differ. Beside the sizes
both share post-norm layers, weights from N(0, 0.02), coordinates from the file's origin, 80 slots and no bias in the
joint transformer; their objects, too, come in the viewer's frame (scene/batch.py), a quarter turn from the file's. The
default model keeps what was measured to learn from thousands of sentences instead of millions.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final

from core.errors import InputError, check_choice

CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "object_encoder": ("small", "gps"),
    "norm": ("pre", "post"),
    "bias": ("query", "static", "none"),
    "farthest": ("valid", "padded"),
    "scorer": ("mlp", "dot", "cosine"),
    "scene_pool": ("max", "mean"),
}
ANY_COUNT: Final = ("object_dim", "text_hidden", "roles", "graph_layers", "answers", "slots")  # may be 0
SHARES: Final = ("dropout", "head_dropout")


@dataclass
class ModelConfig:
    """Sizes and choices of a grounding model; "paper" and "code" say where GPS's two descriptions differ."""

    vocab_size: int
    dim: int = 128  # width of every tower
    heads: int = 4
    hidden: int = 256  # width inside feed-forward layers
    text_layers: int = 2
    spatial_layers: int = 2
    fusion_layers: int = 2
    points: int = 256  # points per object
    max_tokens: int = 64  # longest sentence, the tokens that frame it included
    dropout: float = 0.1
    object_encoder: str = "small"  # small | gps (three set abstractions with batch norm)
    object_dim: int = 0  # width of object features; 0 = dim
    text: str = ""  # transformers encoder (hub id or folder) whose first text_layers are taken; empty = a random BERT
    text_hidden: int = 0  # width inside feed-forward layers of that random BERT; 0 = hidden
    special_tokens: tuple[int, ...] = (0, 1, 2, 3, 4)  # ids that stand for no word
    norm: str = "pre"  # pre | post: where layer norms stand; post is GPS's layer, with ReLU in the joint transformer
    bias: str = "query"  # query (weights from the query token: code) | static (one projection: paper) | none
    farthest: str = "valid"  # d_max over objects | padded (code: empty slots stand at the origin and count)
    fusion_bias: bool = True  # spatial bias between objects in the joint transformer too
    centred: bool = True  # locations relative to the mean of the scene's objects; False = to the file's origin
    roles: int = 8  # that a sentence assigns to its words (modular attention and bearings); 0 = none
    scorer: str = (
        "mlp"  # mlp (of joint objects) | dot (cosine with the sentence over a trained tau: paper) | cosine (code)
    )
    head_dropout: float = 0.0  # inside the heads that score objects and answers
    scene_pool: str = "max"  # max over objects of a projection (paper) | mean over all slots, no projection (code)
    graph_layers: int = 0  # of the scene-graph encoder; 0 = none
    answers: int = 0  # of the question head; 0 = no such head
    slots: int = 0  # objects per scene in training, the others empty; 0 = any number
    checkpointing: bool = False  # recompute activations of the layers in the backward pass

    def __post_init__(self) -> None:
        self.special_tokens = tuple(self.special_tokens)  # JSON has lists
        for name, allowed in CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in ANY_COUNT else 1
            if field.type is int and (not isinstance(value, int) or value < least):
                raise InputError(f"{field.name}={value!r}: expected a whole number of at least {least}")
        for name in SHARES:
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: expected a share in [0, 1)")
        if self.dim % self.heads:
            raise InputError(f"dim={self.dim} does not split over heads={self.heads}")
        if self.farthest == "padded" and not self.slots:
            raise InputError("farthest=padded compares with empty slots: give slots, as GPS with slots=80")

    @property
    def object_width(self) -> int:
        """Width of what the object encoder makes."""
        return self.object_dim or self.dim


def gps_paper(vocab_size: int = 30_522, text: str = "") -> ModelConfig:
    """GPS as the paper describes it.

    Args:
        vocab_size: of the tokenizer; BERT's by default.
        text: "bert-base-uncased" for the published initial weights; empty = random weights of its sizes.

    Source: arXiv:2401.09340, section 4 and supplement; sizes of the released configuration.
    """
    return ModelConfig(
        vocab_size=vocab_size,
        dim=768,
        heads=12,
        hidden=2048,
        text_layers=4,
        spatial_layers=4,
        fusion_layers=4,
        points=1024,
        max_tokens=300,
        object_encoder="gps",
        text=text,
        text_hidden=3072,
        norm="post",
        bias="static",
        fusion_bias=False,
        centred=False,
        roles=0,
        scorer="dot",
        head_dropout=0.3,
        slots=80,
    )


def gps_code(vocab_size: int = 30_522, text: str = "") -> ModelConfig:
    """GPS as its released code computes it, but padding wins no score here, and an empty slot, which counts in the mean
    over slots, begins as zeros instead of what the object encoder makes of points that are all ones.

    Arguments: see `gps_paper`.
    """
    config = gps_paper(vocab_size, text)
    config.bias, config.farthest, config.scorer, config.scene_pool = "query", "padded", "cosine", "mean"
    return config


MODELS: Final[dict[str, Callable[..., ModelConfig]]] = {
    "default": ModelConfig,
    "gps-paper": gps_paper,
    "gps-code": gps_code,
}
"""The choices of `pretrain-grounding model=...`; each takes vocab_size."""
