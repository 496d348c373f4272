"""How well a picture fits a subgoal's words, against what unlabelled pictures of the homes score: for judge=reward."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from core.errors import InputError
from scene.render import Frame
from vl.embedder import Embedder


class TextScores:
    """Cosine of picture and words, less a quantile of that over unlabelled frames: above 0 is a better fit than those.

    Words are scored as they are; each text's quantile is found once.

    Args:
        frames: unlabelled ones, of the homes that are judged.
        quantile: share of them that a picture has to beat.

    Raises:
        InputError: no frame, or a quantile outside (0, 1).
    """

    def __init__(self, embedder: Embedder, frames: UInt8[Tensor, "M H W 3"], quantile: float) -> None:
        if not len(frames) or not 0 < quantile < 1:
            raise InputError(f"{len(frames)} frames and quantile={quantile}: give at least one, and a share in (0, 1)")
        self.embedder, self.quantile = embedder, quantile
        self.known = _unit(embedder.encode_images(frames))  # (M, D)
        self._texts: dict[str, tuple[Float[Tensor, " D"], Float[Tensor, ""]]] = {}

    @torch.no_grad()
    def __call__(self, frame: Frame, texts: Sequence[str]) -> Float[Tensor, " K"]:
        """Scores of K pictures, each for its own text."""
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if new:
            for text, vector in zip(new, _unit(self.embedder.encode_texts(new))):
                self._texts[text] = (vector, torch.quantile(self.known @ vector, self.quantile))
        vectors, least = (torch.stack(column) for column in zip(*(self._texts[text] for text in texts)))
        return (_unit(self.embedder.encode_images(frame.rgb)) * vectors).sum(-1) - least


def _unit(vectors: Float[Tensor, "K D"]) -> Float[Tensor, "K D"]:
    return torch.nn.functional.normalize(vectors.float(), dim=-1)
