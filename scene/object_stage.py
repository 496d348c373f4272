"""The object stage: a feature of an object's points learns to mean the words that name it.

`contrast` is the paper's loss (features against the captions of the batch), `classes` the released code's (a class
among all labels of the corpus, whose text features stand still, with label smoothing). Afterwards the encoder can be
frozen and every object encoded once, for several draws of its points, turned by random angles.

Source: SceneVerse, arXiv:2401.09340, section 4.2 and equation 4. Left out: longer captions written for single objects;
an object is named by colour and label, which the paper does where no caption exists ("the point cloud of <CLASS>").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from core import distributed
from scene.grounder import tokenize
from scene.grounding import GroundingModel
from scene.losses import info_nce, object_class_loss, scale_of
from scene.objects import rotate_points, subsample
from scene.rooms import Room

LOSSES: Final = ("contrast", "classes")


class ObjectPool:
    """The objects whose points are in memory, with their names."""

    def __init__(self, rooms: Sequence[Room]) -> None:
        kept = [room.objects for room in rooms if room.objects.points.shape[1]]
        self.points = [objects.points[i] for objects in kept for i in range(len(objects))]
        self.captions = [caption for objects in kept for caption in objects.captions]
        self.labels = [label for objects in kept for label in objects.labels]

    def draw(self, count: int, points: int, rng: np.random.Generator) -> tuple[Float[Tensor, "M P 6"], list[int]]:
        """Points of random objects, each turned about z by a random angle, and which objects they are."""
        chosen = rng.choice(len(self.points), size=min(count, len(self.points)), replace=False)
        cloud = subsample(torch.stack([self.points[i] for i in chosen]), points, rng)
        yaw = torch.from_numpy(rng.uniform(-np.pi, np.pi, len(chosen)))
        return rotate_points(cloud, yaw.float()), chosen.tolist()


@dataclass
class ObjectStage:
    """Updates of the object encoder; one of the stages that `scene.pretrain` goes through."""

    model: GroundingModel
    tokenizer: PreTrainedTokenizerFast
    pool: ObjectPool
    batch: int  # objects per update, of all processes
    loss_name: str = "contrast"
    frozen_text: bool = False  # the text tower stands still
    seed: int = 0

    name = "object"

    def __post_init__(self) -> None:
        size = min(self.batch, len(self.pool.points))
        self.batch = size - size % distributed.world_size()
        self.own = distributed.share(self.batch, "object_batch")
        self.classes: list[str] = sorted(set(self.pool.labels)) if self.loss_name == "classes" else []
        self.class_text: Tensor | None = None

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """This process's part of the loss of a step; the parts of all processes sum to the whole."""
        model, device = self.model, self.model.object_log_scale.device
        rng = np.random.default_rng([self.seed, step])
        points, chosen = self.pool.draw(self.batch, model.config.points, rng)
        mine = slice(self.own.start, self.own.stop)
        features = model.object_projection(model.object_encoder(points[mine].to(device)))
        if self.classes:
            if self.class_text is None:  # nothing below moves it: the same after a restart
                self.class_text = self._frozen(self.classes)
            target = torch.tensor([self.classes.index(self.pool.labels[i]) for i in chosen], device=device)
            loss = object_class_loss(features.float(), self.class_text, target[mine])
            return loss / distributed.world_size(), {}
        captions = [self.pool.captions[i] for i in chosen]
        unique = sorted(set(captions))
        ids = torch.tensor([unique.index(caption) for caption in captions], device=device)
        names = sorted(set(captions[mine]))
        text = self._frozen(names) if self.frozen_text else self._text(names)
        text = text[[names.index(caption) for caption in captions[mine]]]
        scale = scale_of(model.object_log_scale)
        features, text = distributed.gather_rows(features.float()), distributed.gather_rows(text.float())
        world = distributed.world_size()
        return info_nce(features, text, scale, ids) / world, {"object_scale": scale.detach() / world}

    def _text(self, texts: Sequence[str]) -> Tensor:
        tokens, words = tokenize(self.tokenizer, texts, self.model.config.max_tokens)
        device = self.model.object_log_scale.device
        return self.model.caption_features(tokens.to(device), words.to(device))

    @torch.no_grad()
    def _frozen(self, texts: Sequence[str]) -> Tensor:
        was_training = self.model.training
        self.model.eval()
        text = torch.cat([self._text(texts[i : i + 256]) for i in range(0, len(texts), 256)]).float()
        self.model.train(was_training)
        return text

    def batch_name(self, step: int) -> str:
        """What the batch of a step holds, for an error."""
        _, chosen = self.pool.draw(self.batch, 1, np.random.default_rng([self.seed, step]))
        return f"objects such as {', '.join(self.pool.captions[i] for i in chosen[:3])}"


@torch.no_grad()
def object_accuracy(model: GroundingModel, tokenizer: PreTrainedTokenizerFast, rooms: Sequence[Room]) -> float:
    """Share of objects whose own name is the nearest among all names of these rooms."""
    model.eval()
    device = model.object_log_scale.device
    captions = [caption for room in rooms for caption in room.objects.captions]
    unique = sorted(set(captions))
    tokens, words = tokenize(tokenizer, unique, model.config.max_tokens)
    text = nn.functional.normalize(model.caption_features(tokens.to(device), words.to(device)), dim=-1)
    features = torch.cat([room.features(0.0) for room in rooms])
    nearest = (model.object_projection(features.to(device)) @ text.T).argmax(1).tolist()
    return float(np.mean([unique[i] == caption for i, caption in zip(nearest, captions)]))


def encode_room(model: GroundingModel, cloud: Float[Tensor, "N Q 6"], seed: Sequence[int]) -> Float[Tensor, "N D"]:
    """Features of a room's objects as they stand, of points drawn among the Q that are given."""
    points = subsample(cloud, model.config.points, np.random.default_rng(seed))
    return model.object_encoder.encode(points.to(model.object_log_scale.device)).cpu()
