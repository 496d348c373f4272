"""States of a frozen image tower, computed once for all pictures of a task and kept in memory."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from core.progress import track
from vl.encoded import Encoded
from vl.model import VLModel
from vl.picture_cache import Crop, PictureCache
from vl.retrieval import concatenated

CHUNK = 32
"""Pictures encoded at once."""


@dataclass
class KeptStates:
    """What the tower makes of each picture."""

    row: dict[Crop, int]
    states: Encoded

    def of(self, crops: Sequence[Crop]) -> Encoded:
        """The states of these pictures, in their order."""
        rows = torch.tensor([self.row[crop] for crop in crops])
        return self.states.rows(rows.to(self.states.states.device))


@torch.no_grad()
def keep_states(model: VLModel, crops: Iterable[Crop], cache: PictureCache, gigabytes: float) -> KeptStates | None:
    """The states of all `crops` (unreadable ones as grey pictures), or None where they take more than `gigabytes`.

    The image tower has to be frozen: its states then depend neither on the step nor on dropout.
    """
    todo = list(dict.fromkeys(crops))
    parts: list[Encoded] = []
    with track(len(todo), "frozen image tower") as progress:
        for start in range(0, len(todo), CHUNK):
            images = torch.from_numpy(cache.stack(todo[start : start + CHUNK]))
            parts.append(model.image_states(model.pixels(images)))
            if start == 0 and _bytes(parts[0]) / len(images) * len(todo) > gigabytes * 1e9:
                return None
            progress.advance(len(images))
    return KeptStates({crop: row for row, crop in enumerate(todo)}, concatenated(parts))


def _bytes(encoded: Encoded) -> int:
    tensors = [*encoded.layers, encoded.mask, encoded.pooled]
    return sum(math.prod(tensor.shape) * tensor.element_size() for tensor in tensors if tensor is not None)
