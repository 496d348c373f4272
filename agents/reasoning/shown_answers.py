"""Which questions a reasoning model's page shows, and where the model looked while it answered them."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool
from numpy import ndarray

from agents.reasoning.asking import Answered
from agents.reasoning.focus_picture import focus_html
from agents.reasoning.log_probs import score
from agents.reasoning.task_files import SampleSet
from agents.reasoning.types import Responses, Sample
from agents.reasoning.vgpo import focus
from agents.reasoning.vlm import VLM

OUTCOMES = ((False, True), (True, True), (False, False), (True, False))
"""(right before, right after) in the order questions are taken: learnt, kept, never right, lost."""


def choose(
    samples: Sequence[Sample], before: Bool[ndarray, " Q"], after: Bool[ndarray, " Q"], count: int, seed: int
) -> list[int]:
    """Questions to show: outcomes in turn, within an outcome the kind shown least so far, otherwise drawn blindly.

    Args:
        before: right before training; `after` again where that is not known.
    """
    waiting: dict[tuple[bool, bool], list[int]] = defaultdict(list)
    for index in np.random.default_rng(seed).permutation(len(samples)).tolist():
        waiting[bool(before[index]), bool(after[index])].append(index)
    chosen: list[int] = []
    kinds: Counter[str] = Counter()
    while len(chosen) < count and any(waiting.values()):
        for outcome in OUTCOMES:
            if waiting[outcome] and len(chosen) < count:
                index = min(waiting[outcome], key=lambda i: kinds[samples[i].kind])
                waiting[outcome].remove(index)
                kinds[samples[index].kind] += 1
                chosen.append(index)
    return chosen
