"""Matrix operations of the grounding model at GPS's setting, counted by part, and what the machine can do of them.

A matrix product of (m, k) by (k, n) counts 2 m k n. Only products are counted; what lies between them (norms, softmax,
activations, the optimiser) moves memory and takes time of its own, which is why no model reaches the matrix peak. A
test holds the counts against torch.utils.flop_counter, for our model and for the reference.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch

from scene.model_config import ModelConfig
from scene.objects import GpsEncoder

PAIRS: Final = 5
LOCATION: Final = 6


@dataclass(frozen=True)
class Work:
    """What one training step reads. Lists of real lengths, or of padded ones: then padding is counted as work."""

    words: tuple[int, ...]  # tokens of each sentence
    objects: tuple[int, ...]  # of each scene
    scene: tuple[int, ...]  # which scene each sentence speaks of
    decoded: int  # places whose word is guessed
    encoded: int = 0  # objects that go through the frozen encoder in this step

    def padded(self, words: int = 0, objects: int = 0) -> "Work":
        """Everything as long as the longest, or as the numbers given."""
        words, objects = words or max(self.words), objects or max(self.objects)
        return replace(self, words=(words,) * len(self.words), objects=(objects,) * len(self.objects))

    def copied(self) -> "Work":
        """A scene of its own for every sentence."""
        objects = tuple(self.objects[scene] for scene in self.scene)
        return replace(self, objects=objects, scene=tuple(range(len(self.scene))))


@dataclass(frozen=True)
class Cost:
    """Products in the forward and in the backward pass."""

    forward: int = 0
    backward: int = 0

    @property
    def both(self) -> int:
        return self.forward + self.backward

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.forward + other.forward, self.backward + other.backward)


def linear(rows: int, inputs: int, outputs: int, *, learns_input: bool = True) -> Cost:
    """A linear map: backward there is one product for the weights and, where wanted, one for the input."""
    forward = 2 * rows * inputs * outputs
    return Cost(forward, (1 + learns_input) * forward)


def layer(tokens: int, dim: int, hidden: int) -> Cost:
    """A transformer layer over one sequence: projections, attention, feed-forward."""
    attention = 4 * tokens * tokens * dim  # q k and a v
    rows = linear(tokens, dim, 4 * dim) + linear(tokens, dim, hidden) + linear(tokens, hidden, dim)
    return rows + Cost(attention, 2 * attention)


def spatial_bias(objects: int, dim: int, heads: int) -> Cost:
    """Weights from the query's token, and their product with the pair features, which learn nothing."""
    product = 2 * objects * heads * PAIRS * objects
    return linear(objects, dim, heads * (PAIRS + 1)) + Cost(product, product)


def encoder_forward(points: int, dim: int) -> int:
    """The object encoder on one object, every slot of every ball computed."""
    total, features, rows = 0, 3, points
    for widths, centres, _, samples in GpsEncoder.STAGES:
        rows = centres * samples or rows
        sizes = (features + 3, *widths)
        total += sum(2 * rows * a * b for a, b in zip(sizes[:-1], sizes[1:]))
        features, rows = widths[-1], centres
    return total + 2 * features * dim


def training_step(config: ModelConfig, work: Work) -> dict[str, Cost]:
    """Products of a step on the referral and the masked-word loss, by part.

    Args:
        config: GPS's setting (post-norm, bias from the query, none in the joint transformer, no roles).
    """
    dim, heads, hidden = config.dim, config.heads, config.hidden
    text_hidden = config.text_hidden or hidden
    nothing, location = Cost(), 2  # two location embeddings
    text = sum((layer(words, dim, text_hidden) for words in work.words), nothing)
    spatial = sum((layer(count, dim, hidden) + spatial_bias(count, dim, heads) for count in work.objects), nothing)
    joint = sum((layer(w + work.objects[s], dim, hidden) for w, s in zip(work.words, work.scene)), nothing)
    slots = sum(work.objects)
    places = linear(location * slots, LOCATION, dim, learns_input=False)
    head = linear(work.decoded, dim, dim) + linear(work.decoded, dim, config.vocab_size)
    return {
        "text": _times(text, config.text_layers),
        "spatial": _times(spatial, config.spatial_layers) + places,
        "joint": _times(joint, config.fusion_layers),
        "words": head,
        "encoder": Cost(work.encoded * encoder_forward(config.points, config.object_width)),
    }


def total(parts: dict[str, Cost]) -> int:
    """Products of all parts, forward and backward."""
    return sum(cost.both for cost in parts.values())


def _times(cost: Cost, layers: int) -> Cost:
    return Cost(layers * cost.forward, layers * cost.backward)


def matrix_peak(
    dtype: torch.dtype, device: torch.device, sizes: Sequence[int] = (512, 1024, 2048), seconds: float = 0.5
) -> tuple[float, float]:
    """Most products per second (wall, processor) that large square matrices reach here; processor 0 on a GPU."""
    best = (0.0, 0.0)
    for size in sizes:
        if best[0] and 2 * size**3 / best[0] > seconds:
            break  # slow enough to be known already
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        left @ right
        _wait(device)
        started, used, end = time.perf_counter(), time.process_time(), 0.0
        done = 0
        while end < seconds:
            left @ right
            _wait(device)
            done += 2 * size**3
            end = time.perf_counter() - started
        used = time.process_time() - used
        best = (max(best[0], done / end), max(best[1], done / used) if device.type == "cpu" else 0.0)
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
