"""What is read off the joint transformer: a score per object, a word per place, an answer per question.

Sizes are those of GPS's released heads (SceneVerse, arXiv:2401.09340), written as shares of the width; at 768 they are
its numbers. The head that says whether an object is meant has the shape of the one that scores objects.
"""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from scene.spatial import BLOCKED

EPSILON = 1e-12  # of the heads' layer norms, as in BERT


def object_head(dim: int, dropout: float) -> nn.Sequential:
    """A number per object: (..., D) -> (..., 1)."""
    half = dim // 2
    return nn.Sequential(
        nn.Linear(dim, half), nn.ReLU(), nn.LayerNorm(half, eps=EPSILON), nn.Dropout(dropout), nn.Linear(half, 1)
    )


def word_head(dim: int, vocab_size: int) -> nn.Sequential:
    """Logits of the word that stood in a place: (..., D) -> (..., V). BERT's (arXiv:1810.04805), weights not tied."""
    return nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim, eps=EPSILON), nn.Linear(dim, vocab_size))


class AttentionFlatten(nn.Module):
    """A set of tokens to one vector: sum_n a_n x_n, a = softmax over the tokens of an MLP's score, then a linear map.

    Source: MCAN (Yu et al., arXiv:1906.10770), "attentional reduction", equations 11 and 12, with one glimpse.
    """

    def __init__(self, dim: int, middle: int, out: int, dropout: float) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(dim, middle), nn.GELU(), nn.Dropout(dropout), nn.Linear(middle, 1))
        self.out = nn.Linear(dim, out)

    def forward(self, x: Float[Tensor, "S T D"], valid: Bool[Tensor, "S T"]) -> Float[Tensor, "S O"]:
        share = self.score(x).masked_fill(~valid[..., None], BLOCKED).softmax(1)
        return self.out((share * x).sum(1))


class AnswerHead(nn.Module):
    """Logits of the answers to a question, from objects and words flattened apart and added."""

    def __init__(self, dim: int, answers: int, dropout: float, head_dropout: float) -> None:
        super().__init__()
        middle, out = max(1, dim // 3), max(1, 2 * dim // 3)  # 256 and 512 at 768
        self.objects = AttentionFlatten(dim, middle, out, dropout)
        self.words = AttentionFlatten(dim, middle, out, dropout)
        self.norm = nn.LayerNorm(out)
        self.answer = nn.Sequential(nn.Linear(out, dim), nn.GELU(), nn.Dropout(head_dropout), nn.Linear(dim, answers))

    def forward(
        self,
        objects: Float[Tensor, "S N D"],
        valid: Bool[Tensor, "S N"],
        words: Float[Tensor, "S L D"],
        read: Bool[Tensor, "S L"],
    ) -> Float[Tensor, "S A"]:
        return self.answer(self.norm(self.objects(objects, valid) + self.words(words, read)))
