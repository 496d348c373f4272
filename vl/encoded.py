"""What a tower, and a fusion of two towers, hands on: hidden states with their mask, and what was pooled from them.

One encoding of an image serves every objective: the contrastive loss reads its embedding, matching and masked words
read rows of its states, and nothing is encoded twice.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass
class Encoded:
    """One modality of a batch after its tower."""

    layers: list[Float[Tensor, "B L C"]]
    """Hidden states, deepest last: one entry, or as many as there are bridges; empty where only `pooled` was kept."""
    mask: Bool[Tensor, "B L"] | None = None
    """Which positions are real; None = all."""
    pooled: Float[Tensor, "B C"] | None = None
    """One vector by the tower's rule (first token, end token, attention pooling); None where the rule is the mean."""
    embedding: Float[Tensor, "B D"] | None = None
    """Unit vector in the joint space; None before the projection head."""

    @property
    def states(self) -> Float[Tensor, "B L C"]:
        """The deepest hidden states."""
        return self.layers[-1]

    @property
    def real(self) -> Bool[Tensor, "B L"]:
        """The mask, also where all positions are real."""
        if self.mask is not None:
            return self.mask
        return self.states.new_ones(self.states.shape[:2], dtype=torch.bool)

    def rows(self, index: Int64[Tensor, " M"]) -> "Encoded":
        """The chosen rows, in that order, repeats allowed: hard negatives cost no second encoding."""
        return Encoded(
            [layer[index] for layer in self.layers],
            None if self.mask is None else self.mask[index],
            None if self.pooled is None else self.pooled[index],
            None if self.embedding is None else self.embedding[index],
        )


@dataclass
class Fused:
    """Text and image after they have seen each other."""

    text: Float[Tensor, "B L W"]
    """States of the text's positions; padding holds arbitrary values."""
    image: Float[Tensor, "B N W"]
    """States of the image's positions."""
    pooled: Float[Tensor, "B P"]
    """What heads for the pair as a whole read (matching, answers)."""
