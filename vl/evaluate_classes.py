"""Pictures sorted into classes, without training (zero-shot) and by a linear classifier on frozen features.

Zero-shot, each class is the mean of the embeddings of its name in every template, made a unit vector again, and a
picture belongs to the nearest class (Radford et al., arXiv:2103.00020, section 3.1.4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from core.errors import InputError
from vl.embed_folder import picture_size
from vl.embedder import Embedder
from vl.linear_probe import choose_probe
from vl.picture_cache import PictureCache
from vl.tasks import TASKS, Example, TaskData

TEMPLATES = ("a photo of a {}.", "a picture of a {}.", "{}")
"""Ways to say that a picture shows a class; {} is its name. Give your own where the pictures are no photographs."""

CHUNK = 32
"""Pictures in memory at once."""


@dataclass
class Featured:
    """The readable pictures of a split."""

    features: Float[Tensor, "M D"]
    examples: list[Example]
    unreadable: dict[str, int]  # by cause

    def labels(self, classes: Sequence[str]) -> Int64[Tensor, " M"]:
        """Numbers of their classes.

        Raises:
            InputError: an example of a class that is none of `classes`.
        """
        number = {name: n for n, name in enumerate(classes)}
        foreign = sorted({str(example.label) for example in self.examples} - number.keys())
        if foreign:
            shown = ", ".join(classes[:8])
            raise InputError(f"class {foreign[0]!r} is out of range: the training split has {shown}")
        return torch.tensor([number[str(example.label)] for example in self.examples])


@torch.no_grad()
def featured(model: Embedder, data: TaskData) -> Featured:
    """Embeddings of the pictures of a split; unreadable ones are left out and counted.

    Raises:
        InputError: none can be read.
    """
    height, width = picture_size(model)
    cache = PictureCache(data.pictures, height, width, gigabytes=0.0)
    features: list[Tensor] = []
    kept: list[Example] = []
    for start in range(0, len(data.examples), CHUNK):
        part = data.examples[start : start + CHUNK]
        found = [(example, cache.get((example.pictures[0], None))) for example in part]
        pictures = [picture for _, picture in found if picture is not None]
        kept += [example for example, picture in found if picture is not None]
        if pictures:
            features.append(model.encode_images(torch.from_numpy(np.stack(pictures))).float().cpu())
    if not kept:
        raise InputError(f"none of the {len(data.examples)} pictures can be read: {cache.causes()}")
    return Featured(torch.cat(features), kept, cache.causes())


def class_vectors(model: Embedder, classes: Sequence[str], templates: Sequence[str]) -> Float[Tensor, "K D"]:
    """Unit vectors of the classes, averaged over the templates; underscores of a name are said as spaces.

    Raises:
        InputError: no template, or one without {}.
    """
    for template in templates:
        if template.count("{}") != 1:
            raise InputError(f"template {template!r} should hold {{}} once, where the name of the class goes")
    if not templates:
        raise InputError("templates is empty; give at least one, such as 'a photo of a {}.'")
    names = [name.replace("_", " ") for name in classes]
    vectors = [model.encode_texts([template.replace("{}", name) for name in names]) for template in templates]
    return F.normalize(torch.stack(vectors).mean(0), dim=-1).float().cpu()


def class_metrics(scores: Float[Tensor, "M K"], found: Featured, classes: Sequence[str]) -> dict[str, Any]:
    """The task's metrics of the best class of each picture, and the share whose class is among the best five."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    result: dict[str, Any] = {"classes": len(classes)}
    result |= TASKS["classification"].score(found.examples, [classes[row] for row in order[:, 0].tolist()])
    if len(classes) > 5:
        label = found.labels(classes)
        result["accuracy@5"] = float((order[:, :5] == label[:, None]).any(1).double().mean())
    return result


def zero_shot(model: Embedder, data: TaskData, templates: Sequence[str]) -> dict[str, Any]:
    """Metrics of a split's pictures sorted by the nearest class vector."""
    classes = sorted({str(example.label) for example in data.examples})
    vectors = class_vectors(model, classes, templates)
    found = featured(model, data)
    return {**class_metrics(found.features @ vectors.T, found, classes), "unreadable": found.unreadable}


def linear_probe(model: Embedder, train: TaskData, val: TaskData, test: TaskData) -> dict[str, Any]:
    """Metrics of the test split's pictures sorted by a probe of train and val, its penalty chosen on val."""
    classes = sorted({str(example.label) for example in train.examples})
    sets = {name: featured(model, data) for name, data in (("train", train), ("val", val), ("test", test))}
    label = {name: found.labels(classes) for name, found in sets.items()}
    probe, accuracy = choose_probe(
        (sets["train"].features, label["train"]), (sets["val"].features, label["val"]), len(classes)
    )
    return {
        **class_metrics(probe.logits(sets["test"].features), sets["test"], classes),
        "l2": probe.l2,
        "val_accuracy": {f"{l2:g}": value for l2, value in accuracy.items()},
        "unreadable": {name: found.unreadable for name, found in sets.items()},
    }
