"""The text metrics of ScanQA in the order of its table: BLEU-1 to 4, METEOR, ROUGE-L, CIDEr, on one tokenisation."""

from collections.abc import Sequence

from scene.protocols.bleu import bleu
from scene.protocols.cider import cider
from scene.protocols.meteor import meteor
from scene.protocols.metric import Metric
from scene.protocols.ptb_tokens import words_of
from scene.protocols.rouge import rouge_l


def text_metrics(said: Sequence[str], right: Sequence[Sequence[str]]) -> list[Metric]:
    """The seven metrics of answers against the right ones.

    Args:
        said: the first answer to each example.
        right: all right answers of each, at least one.
    """
    candidates = [words_of(answer) for answer in said]
    references = [[words_of(answer) for answer in true] for true in right]
    return [
        *bleu(candidates, references),
        meteor(candidates, references),
        rouge_l(candidates, references),
        cider(candidates, references),
    ]
