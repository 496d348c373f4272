"""Small heads on states and pooled vectors: joint space, words, matching, answers, pixels."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import check_choice

HEADS = ("mlp", "linear", "none")


def projection_head(kind: str, width: int, hidden: int, dim: int) -> nn.Module:
    """From a tower's width to the joint space: one matrix, two layers with biases, or nothing where widths agree."""
    check_choice("head", kind, HEADS)
    if kind == "none":
        return nn.Identity()
    if kind == "linear":
        return nn.Linear(width, dim, bias=False)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, dim))


class WordHead(nn.Module):
    """States to logits over the vocabulary: BERT's transform, then a matrix of its own (Devlin et al., 1810.04805)."""

    def __init__(self, width: int, vocab_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.decoder = nn.Linear(width, vocab_size)

    def forward(self, states: Float[Tensor, "M W"]) -> Float[Tensor, "M V"]:
        return self.decoder(self.norm(F.gelu(self.dense(states))))


class AnswerHead(nn.Module):
    """Pooled vectors of one or more pairs to logits over answers: two layers, as in METER (arXiv:2111.02387)."""

    def __init__(self, width: int, answers: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, answers)

    def forward(self, pooled: Float[Tensor, "B P"]) -> Float[Tensor, "B A"]:
        return self.out(F.gelu(self.norm(self.dense(pooled))))


class PixelHead(nn.Module):
    """States of a grid to an image: each cell its own pixels (SimMIM, Xie et al., arXiv:2111.09886)."""

    def __init__(self, width: int, cell: tuple[int, int]) -> None:
        super().__init__()
        self.cell = cell
        self.out = nn.Linear(width, 3 * cell[0] * cell[1])

    def forward(self, grid: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        rows, columns = self.cell
        pixels = self.out(grid.permute(0, 2, 3, 1)).unflatten(-1, (3, rows, columns))
        return torch.einsum("bhwcij->bchiwj", pixels).flatten(2, 3).flatten(3, 4)
